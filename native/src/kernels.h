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
  float min, max; /* clamp where min < max */
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

/* y[i][j] = sum over k of a[k * 16 + i] * b[offset[k] + j] by fused multiply-adds from 0 on, k going up; then + bias[i],
 * then 0 where that is less. */
typedef struct dynq_taps_tile {
  size_t m, n, k; /* m at most 16 */
  const float *a, *b;
  const size_t *offset; /* (k) */
  const float *bias;    /* (m) or NULL */
  bool relu;
  float *y; /* overlaps nothing else */
  size_t y_stride;
} dynq_taps_tile;

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

/* Functions of one value beside the activations; alpha and beta are theirs. */
#define DYNQ_EACH_UNARY(DO)                                                                                            \
  DO(ABS)                                                                                                              \
  DO(NEG)                                                                                                              \
  DO(SIGN) /* -1, 0, 1 */                                                                                              \
  DO(FLOOR)                                                                                                            \
  DO(CEIL)                                                                                                             \
  DO(ROUND) /* ties to even */                                                                                         \
  DO(SQRT)                                                                                                             \
  DO(RECIPROCAL)                                                                                                       \
  DO(EXP)                                                                                                              \
  DO(LOG)                                                                                                              \
  DO(ERF)                                                                                                              \
  DO(SOFTPLUS)                                                                                                         \
  DO(SOFTSIGN)                                                                                                         \
  DO(SWISH)        /* x sigmoid(alpha x) */                                                                            \
  DO(LEAKY_RELU)   /* x < 0: alpha x */                                                                                \
  DO(ELU)          /* x < 0: alpha (e^x - 1) */                                                                        \
  DO(HARD_SIGMOID) /* alpha x + beta, clamped to 0..1 */                                                               \
  DO(HARD_SWISH)   /* x times that */                                                                                  \
  DO(CLAMP)        /* to alpha..beta */                                                                                \
  DO(SELU)         /* beta x, x < 0: beta alpha (e^x - 1) */                                                           \
  DO(CELU)         /* x < 0: alpha (e^(x / alpha) - 1) */                                                              \
  DO(MISH)         /* x tanh(softplus(x)) */                                                                           \
  DO(THRESHOLD)    /* 0 up to alpha */
typedef enum dynq_unary {
#define DYNQ_UNARY_NAME(name) DYNQ_UNARY_##name,
  DYNQ_EACH_UNARY(DYNQ_UNARY_NAME)
#undef DYNQ_UNARY_NAME
} dynq_unary;

/* Everything else. A NULL slot falls through to the next ISA in the list that the CPU has. */
typedef struct dynq_vector_kernels {
  /* *lo = min(*lo, min x), *hi = max(*hi, max x); false, and both unspecified, where x has a NaN or an
   * infinity. On entry lo <= 0 <= hi. A zero's sign is unspecified. */
  bool (*range)(size_t n, const float *x, float *lo, float *hi);
  /* q[i] = low byte of clamp(rint(x[i] / scale) + zero_point, q_min, q_max); x finite, scale finite and > 0. q_max is
   * 127 (int8) or 255 (uint8), q_min up to 1 above that type's lowest; zero_point is within the type. */
  void (*quantize)(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max, uint8_t *q);
  /* The same of an x that is not known to be finite; false, and q unspecified, where it is not. */
  bool (*quantize_checked)(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                           uint8_t *q);
  /* q[i] = clamp(rint(x[i] / scale) + zero_point, least, 65535) in two bytes, each exclusive-or flip; x finite. */
  void (*quantize_16)(size_t n, const float *x, float scale, int32_t zero_point, int32_t least, uint8_t flip,
                      uint8_t *high, uint8_t *low);
  /* y[j] += float32(acc[j] - zero_point * column_sum[j]) * (scale * column_scale[j]); exact before that rounding for up
   * to 256 k. */
  void (*add_8)(size_t n, const int32_t *acc, int32_t zero_point, const int32_t *column_sum, float scale,
                const float *column_scale, float *y);
  /* The same with 256 * high[j] + low[j] in the place of acc[j]; exact for up to 65 536 k. */
  void (*add_16)(size_t n, const int32_t *high, const int32_t *low, int32_t zero_point, const int32_t *column_sum,
                 float scale, const float *column_scale, float *y);
  /* Of each j < n: lo[j] = min(lo[j], min over k of b[offset[k] + j]), hi[j] likewise; false, and all unspecified, where
   * one of them is a NaN or an infinity. On entry lo <= 0 <= hi. A zero's sign is unspecified. */
  bool (*range_taps)(size_t n, size_t k, const float *b, const size_t *offset, float *lo, float *hi);
  void (*quantize_taps)(const dynq_quantize_taps *taps);
  /* x[i] = float32(q[i] - zero_point) * scale, q read as int8 where q_signed. */
  void (*dequantize)(size_t n, const uint8_t *q, bool q_signed, float scale, int32_t zero_point, float *x);
  /* acc - row_zero_point * column_sum - column_zero_point * row_sum (int32, modulo 2^32); to float32;
   * * (row_scale * column_scale); + bias; + residual; activation; clamp. A NaN is 0x7FC00000. */
  void (*epilogue)(const dynq_epilogue_tile *tile);
  /* y[i] = activation(x[i]); y may be x. A NaN is 0x7FC00000. */
  void (*activate)(dynq_activation activation, size_t n, const float *x, float *y);

  /* The float kernels. Orders and steps are those of docs/numerics.md; a NaN that is written is 0x7FC00000. */

  /* y[i][j] = sum over k of a[i][k] * b[k][j] by fused multiply-adds from 0 on, k going up. b[k][j] lies at
   * b[j / 16 * b_panel + k * b_row + j % 16]: panels of 16 columns, or rows as they are with a b_panel of 16.
   * y overlaps neither. */
  void (*matmul)(size_t m, size_t n, size_t k, const float *a, size_t a_stride, const float *b, size_t b_row,
                 size_t b_panel, float *y, size_t y_stride);
  void (*matmul_taps)(const dynq_taps_tile *tile);
  /* to[j / 16 * 16 * k + i * 16 + j % 16] = from[j * stride + i], j < n, i < k: the panels of a transposed matrix,
   * the last one padded with zeros. */
  void (*pack_transposed)(size_t n, size_t k, const float *from, size_t stride, float *to);
  /* to[part * stride + i] = from[i * step + part], part < parts, i < n. */
  void (*split)(size_t step, size_t parts, size_t n, const float *from, float *to, size_t stride);
  /* 16 lanes, then a tree; of no values 0, 1 (product), infinity (least) or -infinity (largest). */
  float (*reduce)(dynq_reduction reduction, size_t n, const float *x);
  /* log of the sum of e^x. */
  float (*log_sum_exp)(size_t n, const float *x);
  /* Each of m rows: y = softmax(x * scale + mask). mask is one row for all, or NULL; y may be x, with its stride. */
  void (*softmax)(size_t m, size_t n, const float *x, size_t x_stride, float scale, const float *mask, float *y,
                  size_t y_stride);
  /* y = x - log of the sum of e^x; y may be x. */
  void (*log_softmax)(size_t n, const float *x, float *y);
  /* Of m rows of n values, one after another: y = (x - mean) * (1 / sqrt(variance + epsilon)) * scale + bias, n > 0.
   * bias, mean (m) and inverse (m, of the standard deviation) may be NULL, y may be x. */
  void (*layer_norm)(size_t m, size_t n, const float *x, float epsilon, const float *scale, const float *bias, float *y,
                     float *mean, float *inverse);
  /* The same: y = x / sqrt(mean of x^2 + epsilon) * scale. */
  void (*rms_norm)(size_t m, size_t n, const float *x, float epsilon, const float *scale, float *y);
  /* y[i] = function(x[i]); y may be x. */
  void (*unary)(dynq_unary function, size_t n, float alpha, float beta, const float *x, float *y);

  /* Steps of recurrent layers with their usual activations, sigmoid and tanh; a GRU is linear before its reset. */
  void (*lstm)(const dynq_cell_tile *tile);
  void (*gru)(const dynq_cell_tile *tile);
} dynq_vector_kernels;

typedef struct dynq_isa_kernels {
  const dynq_gemm_kernels *gemm;
  dynq_vector_kernels vector;
} dynq_isa_kernels;

#endif
