/*
 * The convolution that Conv, ConvTranspose and their int8 form share.
 *
 * Each output position sees a row of K = taps * channels values of the input: the places of the input that its window
 * covers, row by row, and at each the channels; places outside are 0. Its outputs are the products of that row with the
 * weights. Rows are made for a block of positions at a time, by each thread in memory of its own.
 */
#ifndef DYNQ_CONV_H
#define DYNQ_CONV_H

#include "../base/dispatch.h"
#include "../quant/weight.h"

/* One of the two spatial axes. Position i covers places first + i * stride + t * step, t < taps, of the input, and is
 * place out_first + i * out_stride of the output. */
typedef struct dynq_conv_axis {
  size_t in, positions, stride, taps, step;
  ptrdiff_t first;
  size_t out, out_first, out_stride;
} dynq_conv_axis;

typedef struct dynq_conv {
  const dynq_kernels *kernels;
  size_t images, groups, channels, outputs; /* channels and outputs of a group */
  dynq_conv_axis axis[2];
  const float *x;      /* (images, groups * channels, in, in) */
  const float *weight; /* panels of 16 outputs for each group, (K, 16), the last (K, outputs left), or padded; or ... */
  bool padded;         /* the last panel has rows of 16, too, filled up with zeros */
  const dynq_weight *packed; /* ... int8, N outputs and K; then there is one group */
  dynq_scheme scheme;
  bool per_image; /* one range for each image; else one for each row, or ... */
  bool fixed;     /* ... this one for all */
  float lo, hi;
  const float *bias; /* (groups * outputs) or NULL */
  dynq_activation activation;
  float alpha, beta; /* of the activation */
  float min, max;    /* clamp where min < max */
  float *y;          /* (images, groups * outputs, out, out) */
} dynq_conv;

/* A plane of one column, which windows do not widen, becomes a row, on which the loops are fast. */
void dynq_conv_flatten(dynq_conv *conv);
/* Values of a row; SIZE_MAX on overflow. */
size_t dynq_conv_k(const dynq_conv *conv);
/* Bytes that it works in with up to `count` threads; SIZE_MAX on overflow. It looks at no data. */
size_t dynq_conv_bytes(const dynq_conv *conv, size_t count);
/* `memory`: that many bytes, aligned to 64. DYNQ_NONFINITE: outputs are written, some are NaN (int8 alone). */
dynq_status dynq_conv_run(const dynq_conv *conv, void *memory, const dynq_threads *threads, size_t count);

/* Float weights in a caller's order, as panels: element (group, output, channel, row, column) of the kernel lies at
 * group * strides[0] + output * strides[1] + channel * strides[2] + row * columns + column. Tap t of axis d is kernel
 * element tap_first[d] + t * tap_step[d]. */
typedef struct dynq_conv_weights {
  const float *from;
  size_t strides[3], columns;
  size_t tap_first[2];
  ptrdiff_t tap_step[2];
} dynq_conv_weights;

/* Weights of 8 bits, which lie as the float ones do without padding, and a scale for each of (groups * outputs). */
typedef struct dynq_conv_narrow {
  const int8_t *from;
  const float *scale;
} dynq_conv_narrow;

/* Floats that the panels take; SIZE_MAX on overflow. */
size_t dynq_conv_panels(const dynq_conv *conv);
/* Bytes, a multiple of 64; SIZE_MAX or just below it on overflow. */
size_t dynq_conv_panel_bytes(const dynq_conv *conv);
/* In parallel, by up to `count` threads. */
void dynq_conv_pack(const dynq_conv *conv, const dynq_conv_weights *weights, const dynq_threads *threads, size_t count,
                    float *to);
/* The same of weights of 8 bits: each is float32(from) * scale, rounded once. */
void dynq_conv_widen(const dynq_conv *conv, const dynq_conv_narrow *narrow, const dynq_threads *threads, size_t count,
                     float *to);

#endif
