/*
 * Windows that move over the one or two spatial axes of (N, C, W) or (N, C, H, W): pooling and convolution. One axis is
 * treated as two of which the first has a single row.
 */
#ifndef DYNQ_WINDOW_H
#define DYNQ_WINDOW_H

#include "checks.h"

typedef struct dynq_window {
  size_t spatial; /* axes: 1 or 2 */
  /* Rows and columns. */
  size_t in[2], out[2], kernel[2], stride[2], dilation[2], before[2], after[2];
} dynq_window;

typedef enum dynq_auto_pad {
  DYNQ_PAD_EXPLICIT,
  DYNQ_PAD_VALID,
  DYNQ_PAD_SAME_UPPER,
  DYNQ_PAD_SAME_LOWER
} dynq_auto_pad;
dynq_status dynq_window_auto_pad(const dynq_op_node *node, size_t attribute, dynq_auto_pad *pad);
/* `count` ints of an attribute, each from `least` to `most`; `otherwise` for all where it is left out. */
dynq_status dynq_window_ints(const dynq_op_node *node, size_t attribute, size_t count, int64_t otherwise, int64_t least,
                             int64_t most, int64_t *values);
/* Reads the attributes for input 0. `kernel`: its size in each spatial axis; NULL: attribute kernel_shape says it. */
dynq_status dynq_window_of(const dynq_op_node *node, const size_t *kernel, bool ceil_mode, dynq_window *window);
/* The places of axis `d` that window `index` covers: those of kernel elements [*begin, *end), of which the first is at
 * *first. */
static inline void dynq_window_range(const dynq_window *w, size_t d, size_t index, size_t *begin, size_t *end,
                                     size_t *first) {
  const size_t start = index * w->stride[d], step = w->dilation[d], edge = w->before[d];
  const size_t skipped = start < edge ? (edge - start + step - 1) / step : 0; /* elements before place 0 */
  const size_t limit = edge + w->in[d];                                       /* in padded places */
  const size_t fits = start < limit ? (limit - start + step - 1) / step : 0;
  *begin = skipped < w->kernel[d] ? skipped : w->kernel[d];
  *end = fits < w->kernel[d] ? fits : w->kernel[d];
  *end = *end < *begin ? *begin : *end;
  *first = start + *begin * step - edge;
}

/* A plane of one column, which windows do not widen, becomes a row: the same places in the same order, and rows are what
 * loops are fast on. Only for a run: the output's shape is that of the axes as they were. */
void dynq_window_flatten(dynq_window *window);

/* The windows [*begin, *end) of axis d whose kernel element `element` lies in the input, the first one at *place. */
static inline void dynq_window_places(const dynq_window *w, size_t d, size_t element, size_t *begin, size_t *end,
                                      size_t *place) {
  const size_t offset = element * w->dilation[d], step = w->stride[d], edge = w->before[d], limit = edge + w->in[d];
  *begin = offset < edge ? (edge - offset + step - 1) / step : 0;
  *end = offset < limit ? (limit - offset + step - 1) / step : 0;
  *end = *end < w->out[d] ? *end : w->out[d];
  *begin = *begin < *end ? *begin : *end;
  *place = *begin * step + offset - edge;
}

/* The first kernel element from `element` on that lies in the input in any window of axis d, and those windows as
 * dynq_window_places() gives them; kernel[d] if there is none. Elements that meet pads alone are passed over at once. */
size_t dynq_window_next(const dynq_window *w, size_t d, size_t element, size_t *begin, size_t *end, size_t *place);

#endif
