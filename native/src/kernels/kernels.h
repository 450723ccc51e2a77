/*
 * What an instruction set provides. Each file in kernels/ fills one dynq_isa_kernels; isa.def names it.
 *
 * Every kernel gives the bits of the one in kernels/scalar.c for every input (docs/numerics.md).
 * Kernels allocate nothing and read and write nothing outside the sizes they are given. Float and int32
 * pointers are aligned to 4 bytes unless said otherwise; sizes may be 0.
 */
#ifndef DYNQ_KERNELS_H
#define DYNQ_KERNELS_H

#include "dynq/dynq.h"

#include <stdbool.h>
#include <stddef.h>

enum {
  DYNQ_PANEL = 16, /* output channels in a panel */
  DYNQ_GROUP = 4,  /* consecutive k in a panel row */
};

/* The integer multiply. Indivisible: the parts belong together and come from one ISA. */
typedef struct dynq_gemm_kernels {
  size_t rows;     /* rows of a full tile, at most DYNQ_MAX_TILE_ROWS; tile() takes 1 to this many */
  size_t panels;   /* panels of a full tile: the width that the rows of a block are run through at a time */
  bool lhs_signed; /* the left operand is int8 (else uint8) */
  /* About how many products a core does in a nanosecond, in practice: how many threads a call is worth follows. */
  size_t macs_per_nanosecond;
  /* Called in each thread before its first tile() and after its last one of a call; NULL where not needed. */
  void (*enter)(void);
  void (*leave)(void);
  /* acc[i][j] = sum over k of lhs[i][k] * rhs[j][k], modulo 2^32, for i < m, j < panels * 16, k < groups * 4.
   *   lhs: m rows, lhs_stride bytes apart, a multiple of 4 and 4-byte aligned, groups * 4 bytes long
   *   rhs: panels in panel layout, panel_stride bytes apart, 64-byte aligned
   *   acc: rows acc_stride elements apart, 64-byte aligned, acc_stride a multiple of 16 */
  void (*tile)(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
               size_t panel_stride, int32_t *acc, size_t acc_stride);
  /* The same, but acc[i][j] += sum; for m of at least rows / 2. NULL: the whole K is multiplied at once. Where it is
   * there, a K of more than block_groups groups is multiplied in blocks, each by many rows, so that the weights of a
   * block stay in the nearest cache. */
  void (*add)(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
              size_t panel_stride, int32_t *acc, size_t acc_stride);
  size_t block_groups; /* a multiple of 16; 0 without add */
  /* For benchmarks: the instructions that multiply and add in tile(), on registers alone, `rounds` times; returns
   * how many products that was. No tile of these instructions is faster. NULL: portable C, which knows no such. */
  uint64_t (*peak)(uint64_t rounds);
} dynq_gemm_kernels;

enum { DYNQ_MAX_TILE_ROWS = 32 };

/* One tile on its way from accumulators to float32. All arrays begin at the tile's first row or column. */
typedef struct dynq_epilogue_tile {
  size_t m, n;          /* m at most DYNQ_MAX_TILE_ROWS */
  const int32_t *acc;   /* (m, n) sums of q * w; NULL: acc_f32 is used */
  const float *acc_f32; /* (m, n) finished sums of (q - zero_point) * (w - zero_point), as float32 */
  size_t acc_stride;
  const float *row_scale;           /* (m); NaN makes the row NaN */
  const int32_t *row_zero_point;    /* (m), -255 to 255, in the left operand's own integers; unused with acc_f32 */
  const int32_t *row_sum;           /* (m) sums of q; used where column_zero_point is not NULL */
  const float *column_scale;        /* (n) */
  const int32_t *column_sum;        /* (n); unused with acc_f32 */
  const int32_t *column_zero_point; /* (n) or NULL; unused with acc_f32 */
  const float *bias;                /* (n) or NULL */
  const float *residual;            /* (m, n) or NULL; may be y itself */
  size_t residual_stride;
  dynq_activation activation;
  float alpha, beta; /* of the activation */
  float min, max;    /* clamp where min < max */
  float *y;
  size_t y_stride;
} dynq_epilogue_tile;

/* q[j][k] = low byte of clamp(rint(b[offset[k] + j] / scale[j]) + zero_point[j], q_min, q_max) for j < n, as quantize()
 * makes it; zero from k on up to a multiple of 4. */
typedef struct dynq_quantize_taps {
  size_t n, k;
  const float *b;            /* finite where it is read */
  const size_t *offset;      /* (k) */
  const float *scale;        /* (n) finite and > 0 */
  const int32_t *zero_point; /* (n) */
  int32_t q_min, q_max;
  uint8_t *q;
  size_t q_stride;
} dynq_quantize_taps;

/* y[i][j] = sum over k of a[k * a_stride + i] * b[offset[k] + j] by fused multiply-adds from 0 on, k going up; then + bias[i],
 * then 0 where that is less. */
typedef struct dynq_taps_tile {
  size_t m, n, k; /* m at most 16 */
  const float *a;
  size_t a_stride; /* at least m */
  const float *b;
  const size_t *offset; /* (k) */
  const float *bias;    /* (m) or NULL */
  bool relu;
  float *y; /* overlaps nothing else */
  size_t y_stride;
} dynq_taps_tile;

/* Rows of the outputs of some channels, each value from the places of one plane of the input that its window covers:
 * y[i][j] = sum over taps, row by row, of w[t][s] * x[first[0] + i * stride[0] + t * step[0]][first[1] + ...] by fused
 * multiply-adds from 0 on, where places outside of the plane are 0; then + bias, then 0 where that is less. */
typedef struct dynq_depthwise {
  size_t planes;        /* of the input and of the output; each has taps and a bias of its own */
  size_t rows, columns; /* of the output */
  size_t in[2], stride[2], taps[2], step[2];
  ptrdiff_t first[2];
  const float *x;     /* in[0] rows of in[1] for each plane */
  const float *zeros; /* in[1] of them */
  const float *w;
  const float *bias; /* or NULL */
  bool relu;
  float *y; /* overlaps nothing else */
  size_t y_plane, y_stride;
} dynq_depthwise;

/* A row of windows of pooling: y[j] = the larger one of y[j] and of the places that its window covers, NaN if one is a
 * NaN; or y[j] + these places, one after another. They lie in `lines` rows, x_stride apart, at first + j * stride +
 * s * step, s < taps, if that is in the row. */
typedef struct dynq_pooling {
  size_t columns, in, stride, taps, step;
  ptrdiff_t first;
  size_t lines;
  const float *x; /* rows of `in` values */
  size_t x_stride;
  bool sum;
  float *y; /* not -0 where it is a sum */
} dynq_pooling;

/* A part of a recurrent layer's step, from integer sums to states. Gates are in ONNX's order, i o f c or z r h; weights
 * have no zero-points. Arrays begin at the tile's first row, and at its first column in the first gate. */
typedef struct dynq_cell_tile {
  size_t m, n;        /* rows, columns of the state: n is a multiple of 16 */
  const int32_t *acc; /* gate g: (m, n) sums of q * w, acc + g * acc_gate */
  size_t acc_stride, acc_gate;
  const float *row_scale;        /* (m); NaN makes the row NaN */
  const int32_t *row_zero_point; /* (m), in the left operand's own integers */
  size_t stride;                 /* from gate to gate of what follows, and from row to row of the states */
  const float *column_scale;
  const int32_t *column_sum;
  const float *bias;      /* or NULL */
  const float *projected; /* rows projected_stride apart */
  size_t projected_stride;
  const float *h; /* a GRU's */
  float *to, *c;  /* the new state, which may be h, and an LSTM's cell, which is replaced */
} dynq_cell_tile;

/* Reductions of a row to one value. */
typedef enum dynq_reduction {
  DYNQ_REDUCTION_SUM,
  DYNQ_REDUCTION_SUM_ABS,
  DYNQ_REDUCTION_SUM_SQUARE,
  DYNQ_REDUCTION_PROD,
  DYNQ_REDUCTION_MIN,
  DYNQ_REDUCTION_MAX
} dynq_reduction;

/* Functions of one value beside the activations. */
typedef enum dynq_unary {
#define DYNQ_UNARY(op, ulps, size, formula) DYNQ_UNARY_##op,
#include "unary.def"
} dynq_unary;

/* Everything else. A NULL slot falls through to the next ISA in the list that the CPU has. */
typedef struct dynq_vector_kernels {
#define DYNQ_SLOT(type, name, parameters) type(*name) parameters;
#include "slots.def"
#undef DYNQ_SLOT
} dynq_vector_kernels;

typedef struct dynq_isa_kernels {
  const dynq_gemm_kernels *gemm;
  dynq_vector_kernels vector;
} dynq_isa_kernels;

#endif
