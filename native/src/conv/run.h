/*
 * Structs and functions that the files of the convolution share: its plan, and its blocks.
 */
#ifndef DYNQ_CONV_RUN_H
#define DYNQ_CONV_RUN_H

#include "../base/alloc.h"
#include "../gemm/gemm.h"
#include "../gemm/lhs.h"
#include "conv.h"

#include <stdatomic.h>
#include <string.h>

enum {
  DYNQ_CONV_POSITIONS = 128, /* of a block, at most, where outputs are the lanes */
  DYNQ_CONV_STRIP = 128      /* outputs that are transposed at a time */
};

/* The input under a block where positions are the lanes: floats that lie apart, for each of its channels. */
typedef struct dynq_conv_planes {
  bool in_place;         /* in the input itself */
  size_t phases[2];      /* rows and columns lie apart by what is left of them by the stride; of those that are used */
  size_t pitch;          /* from one row of a phase to the next, */
  size_t phase, channel; /* one phase, one channel to the next */
} dynq_conv_planes;

typedef struct dynq_conv_plan {
  const dynq_conv *c;
  size_t k, panels;
  bool depthwise;                    /* by bands of each plane, and without blocks */
  bool positions_are_lanes, copied;  /* copied: rows are written out, where outputs are the lanes */
  size_t block[2], blocks[2];        /* positions of the largest block; blocks */
  size_t block_images, image_blocks; /* several images where they are small */
  size_t group_blocks;               /* several groups in one where positions are the lanes */
  size_t parts, strip;               /* of the outputs */
  size_t bands;
  size_t tasks, workers;
  dynq_conv_planes planes;
  /* Parts of a worker's memory, in this order: the offsets of the taps, the input under a block, rows, outputs,
   * transposed outputs, the left operand. */
  size_t offset_bytes, window_bytes, rows_bytes, y_bytes, tile_bytes, lhs_bytes;
  size_t memory_each, image_bytes;
  char *memory;
  dynq_lhs_source *images; /* per image: its scale and zero-point */
  dynq_lhs_source fixed;   /* those of a fixed range */
  _Atomic size_t next;
  _Atomic bool nonfinite;
} dynq_conv_plan;

/* Positions [begin, begin + n) of each axis, of images [image, image + images) and groups
 * [group, group + groups), times panels [panel, panel_end). */
typedef struct dynq_conv_block {
  size_t image, images, group, groups, begin[2], n[2], panel, panel_end;
  ptrdiff_t place[2]; /* the first place of the input that they see */
  size_t span[2];     /* places from there on */
} dynq_conv_block;

/* Outputs are the lanes; false if a row was not finite. */
bool dynq_conv_rows(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory);
/* Functions of int8. The first says how rows are quantized, all but x. Then the product of a block, (positions,
 * outputs), writing it to the output, and both in one. */
dynq_lhs_source dynq_conv_source(const dynq_conv_plan *r, const dynq_conv_block *b);
dynq_gemm dynq_conv_gemm(const dynq_conv_plan *r, const dynq_conv_block *b, float *y);
void dynq_conv_write(const dynq_conv_plan *r, const dynq_conv_block *b, const float *y, float *tile);
void dynq_conv_multiply_int8(const dynq_conv_plan *r, const dynq_conv_block *b, const dynq_lhs *lhs, float *y,
                             float *tile);

/* Positions are the lanes, in float32. */
void dynq_conv_planes_run(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory);
/* Sizes of the input under a block and of the offsets; what a worker's memory has to hold before its first block; the
 * input under a block, its first place. */
void dynq_conv_planes_plan(dynq_conv_plan *r);
void dynq_conv_planes_begin(const dynq_conv_plan *r, char *memory);
const float *dynq_conv_planes_input(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory);
/* Floats of a block's outputs. */
size_t dynq_conv_planes_outputs(const dynq_conv_plan *r);

/* One channel makes one output. The first returns whether it can be done so. */
bool dynq_conv_is_depthwise(const dynq_conv *c);
void dynq_conv_depthwise_plan(dynq_conv_plan *r, size_t threads);
void dynq_conv_depthwise_begin(const dynq_conv_plan *r, char *memory);
void dynq_conv_depthwise_run(const dynq_conv_plan *r, size_t task, const char *memory);

/* Positions are the lanes, in int8. */
void dynq_conv_int8_plan(dynq_conv_plan *r);
bool dynq_conv_int8_run(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory);

static inline size_t dynq_conv_clamp(size_t x, size_t least, size_t most) {
  return x < least ? least : x > most ? most : x;
}

/* Tells whether dynq_conv_finish has anything to do. Kernels with bias and ReLU have done that already. */
static inline bool dynq_conv_finishes(const dynq_conv *c) {
  return (c->activation != DYNQ_ACTIVATION_NONE && c->activation != DYNQ_ACTIVATION_RELU) || c->min < c->max;
}
/* Activation but ReLU, and clamp, of `n` outputs in place. */
static inline void dynq_conv_finish(const dynq_conv *c, size_t n, float *y) {
  if (c->activation != DYNQ_ACTIVATION_NONE && c->activation != DYNQ_ACTIVATION_RELU) {
    c->kernels->vector.activate(c->activation, c->alpha, c->beta, n, y, y);
  }
  if (c->min < c->max) {
    c->kernels->vector.unary(DYNQ_UNARY_Clip, n, c->min, c->max, y, y);
  }
}

static inline size_t dynq_conv_parts(size_t total, size_t each) { return (total + each - 1) / each; }

static inline size_t dynq_conv_round_up(size_t bytes) { return dynq_size_add(bytes, 63) / 64 * 64; }
/* Bytes of a * b floats, rounded up to 64. */
static inline size_t dynq_conv_floats(size_t a, size_t b) {
  return dynq_conv_round_up(dynq_size_mul(dynq_size_mul(a, b), sizeof(float)));
}

/* Rows or columns of a phase under n positions. */
static inline size_t dynq_conv_places(const dynq_conv_axis *a, size_t n) {
  return a->taps == 0 ? 0 : n + (a->taps - 1) * a->step / a->stride;
}

/* Floats of a group's weights. */
static inline size_t dynq_conv_group_weights(const dynq_conv *c, size_t k) {
  return dynq_size_mul(c->padded ? dynq_conv_parts(c->outputs, DYNQ_PANEL) * DYNQ_PANEL : c->outputs, k);
}
/* Floats from one k to the next in the panel of an output, the first one of the panel. */
static inline size_t dynq_conv_pitch(const dynq_conv *c, size_t output) {
  return c->padded || c->outputs - output > DYNQ_PANEL ? (size_t)DYNQ_PANEL : c->outputs - output;
}

static inline const float *dynq_conv_input(const dynq_conv *c, const dynq_conv_block *b) {
  return c->x + (b->image * c->groups + b->group) * c->channels * (c->axis[0].in * c->axis[1].in);
}
static inline float *dynq_conv_output(const dynq_conv *c, const dynq_conv_block *b) {
  return c->y + (b->image * c->groups + b->group) * c->outputs * (c->axis[0].out * c->axis[1].out);
}

/* The block's positions of a plane of the output are one run. */
static inline bool dynq_conv_is_run(const dynq_conv *c, const dynq_conv_block *b) {
  const dynq_conv_axis *a = c->axis;
  return a[1].out_stride == 1 && (b->n[0] == 1 || (a[0].out_stride == 1 && b->n[1] == a[1].out));
}

static inline float *dynq_conv_first_output(const dynq_conv *c, const dynq_conv_block *b, float *plane) {
  const dynq_conv_axis *a = c->axis;
  return plane + (a[0].out_first + b->begin[0] * a[0].out_stride) * a[1].out + a[1].out_first +
         b->begin[1] * a[1].out_stride;
}

/* Rows are short, and calls of memcpy would take longer than what they do. */
static inline void dynq_conv_copy(size_t n, const float *from, float *to) {
  if (n >= 512) {
    memcpy(to, from, n * sizeof *to);
    return;
  }
  for (; n >= 16; n -= 16, from += 16, to += 16) {
    memcpy(to, from, 16 * sizeof *to);
  }
  if ((n & 8) != 0) {
    memcpy(to, from, 8 * sizeof *to);
    from += 8;
    to += 8;
  }
  if ((n & 4) != 0) {
    memcpy(to, from, 4 * sizeof *to);
    from += 4;
    to += 4;
  }
  for (size_t i = 0; i < (n & 3); i++) {
    to[i] = from[i];
  }
}

static inline void dynq_conv_zero(size_t n, float *to) {
  static const float zeros[16];
  if (n > 16) {
    memset(to, 0, n * sizeof *to);
  } else {
    dynq_conv_copy(n, zeros, to);
  }
}

/* The outputs of one channel, rows of positions `pitch` apart. */
static inline void dynq_conv_put(const dynq_conv *c, const dynq_conv_block *b, const float *from, size_t pitch,
                                 float *plane) {
  const size_t step = c->axis[1].out_stride;
  float *to = dynq_conv_first_output(c, b, plane);
  for (size_t i = 0; i < b->n[0]; i++, from += pitch, to += c->axis[0].out_stride * c->axis[1].out) {
    if (step == 1) {
      dynq_conv_copy(b->n[1], from, to);
    } else {
      for (size_t j = 0; j < b->n[1]; j++) {
        to[j * step] = from[j];
      }
    }
  }
}

/* Counts those of the places [place, place + span) that lie before the input, and those in it. The rest lies behind it.
 */
static inline void dynq_conv_inside(ptrdiff_t place, size_t span, size_t in, size_t *before, size_t *within) {
  *before = place < 0 ? dynq_conv_clamp((size_t)-place, 0, span) : 0;
  const size_t from = place < 0 ? 0 : (size_t)place;
  *within = from < in ? dynq_conv_clamp(in - from, 0, span - *before) : 0;
}

#endif
