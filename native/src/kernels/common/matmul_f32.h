/*
 * The float32 multiply, written once over the abstraction of vec_<isa>.h, which is included first.
 *
 * Every sum is s = fma(a[k], b[k], s) from 0, k going up: a single chain, so the shape of a tile changes no bit. A tile
 * keeps R rows x W vectors of sums in registers; it takes 8 or more of them to cover the latency of a multiply-add, so
 * few rows go with many vectors. The functions that hold multiply-adds are named matmul_*: tests/assembly lets no other
 * have any.
 *
 *   lanes   registers   largest tile          operands
 *   16      32          12 rows x 2 vectors   2 of b, 1 of a: 24 multiply-adds (12 cycles) for 14 loads (7 cycles)
 *   8       16          6 rows x 2 vectors    2 of b, 1 of a: 12 (6 cycles) for 8 loads (4 cycles)
 *   4       32          5 rows x 4 vectors    4 of b, 5 of a: 20 (10 cycles) for 9 loads (5 cycles); GCC 12 spills with 6
 *
 * Up to 3 rows read b as fast as memory brings it. The hardware's prefetchers stop at the end of a page, and the panels of
 * a block are streams of a page or so each: what comes next is asked for while a block runs.
 */
#ifndef DYNQ_MATMUL_F32_H
#define DYNQ_MATMUL_F32_H

#include "../kernels.h"

#include "activations.h"
#include "registers.h"

enum { MATMUL_ROWS = V_LANES == 16 ? 12 : V_LANES == 8 ? 6 : V_LANES == 4 ? 5 : 1, MATMUL_SUMS = 24 };
enum {
  MATMUL_STREAMED = 3, /* rows, at most, whose b is asked for ahead */
  MATMUL_AHEAD = 32    /* rows of b, where the columns of a block lie side by side */
};

/* W for R rows. */
#define MATMUL_VECTORS(R) ((R) == 1 ? 8 : V_LANES == 16 ? ((R) <= 3 ? 4 : 2) : V_LANES == 8 ? ((R) == 2 ? 4 : 2) : 4)

typedef struct matmul_operands {
  size_t k;
  const float *a, *b;
  size_t a_stride, b_row, b_panel;
  float *y;
  size_t y_stride;
} matmul_operands;

/* R rows x W vectors of columns from j on, or `left` columns of one vector where `partial`. j is a multiple of W *
 * V_LANES, or W is 1. */
V_INLINE void matmul_block(const size_t R, const size_t W, const bool partial, size_t left, size_t j,
                           const matmul_operands *o) {
  vf sum[MATMUL_SUMS];
  const size_t k_end = o->k, stride = o->a_stride, b_row = o->b_row, b_panel = o->b_panel;
  const float *a0 = o->a, *a1 = R > 4 ? a0 + 4 * stride : a0, *a2 = R > 8 ? a1 + 4 * stride : a0;
  const float *b = o->b + j / DYNQ_PANEL * b_panel + j % DYNQ_PANEL;
  const size_t panels = W * V_LANES / DYNQ_PANEL;
  /* The addresses ahead may lie behind b: they are asked for, not read. */
  const uintptr_t ahead = (b_row == DYNQ_PANEL ? panels * b_panel : MATMUL_AHEAD * b_row) * sizeof *b;
#pragma GCC unroll 24
  for (size_t i = 0; i < R * W; i++) {
    sum[i] = vf_set1(0.0f);
  }
  for (size_t k = 0; k < k_end; k++, b += b_row) {
    vf column[8];
#pragma GCC unroll 8
    for (size_t i = 0; R <= MATMUL_STREAMED && i < panels; i++) {
      __builtin_prefetch((const void *)((uintptr_t)b + ahead + i * b_panel * sizeof *b));
    }
#pragma GCC unroll 8
    for (size_t v = 0; v < W; v++) {
      const float *p = b + v * V_LANES / DYNQ_PANEL * b_panel + v * V_LANES % DYNQ_PANEL;
      column[v] = partial ? vf_load_n(p, left) : vf_load(p);
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < R; r++) {
      const vf a = vf_set1((r < 4 ? a0 : r < 8 ? a1 : a2)[k + r % 4 * stride]);
#pragma GCC unroll 8
      for (size_t v = 0; v < W; v++) {
        sum[r * W + v] = vf_fma(a, column[v], sum[r * W + v]);
      }
    }
  }
  const vf nan = vi_as_f(vi_set1(V_NAN));
  float *y = o->y + j;
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++, y += o->y_stride) {
#pragma GCC unroll 8
    for (size_t v = 0; v < W; v++) {
      const vf s = vf_replace_nan(sum[r * W + v], nan);
      if (partial) {
        vf_store_n(y, left, s);
      } else {
        vf_store(y + v * V_LANES, s);
      }
    }
  }
}

/* R rows x n columns. */
V_INLINE void matmul_rows(const size_t R, size_t n, const matmul_operands *o) {
  const size_t W = MATMUL_VECTORS(R);
  size_t j = 0;
  for (; j + W * V_LANES <= n; j += W * V_LANES) {
    matmul_block(R, W, false, 0, j, o);
  }
  for (; j + V_LANES <= n; j += V_LANES) {
    matmul_block(R, 1, false, 0, j, o);
  }
  if (j < n) {
    matmul_block(R, 1, true, n - j, j, o);
  }
}

#define MATMUL_FUNCTION(R)                                                                                             \
  OWN_FUNCTION void matmul_rows_##R(size_t n, const matmul_operands *o) { matmul_rows(R, n, o); }
MATMUL_FUNCTION(1)
#if !defined(DYNQ_VEC_SCALAR_H)
MATMUL_FUNCTION(2)
MATMUL_FUNCTION(3)
MATMUL_FUNCTION(4)
MATMUL_FUNCTION(5)
#endif
#if defined(DYNQ_VEC_AVX2_H) || defined(DYNQ_VEC_AVX512_H)
MATMUL_FUNCTION(6)
#endif
#if defined(DYNQ_VEC_AVX512_H)
MATMUL_FUNCTION(7)
MATMUL_FUNCTION(8)
MATMUL_FUNCTION(9)
MATMUL_FUNCTION(10)
MATMUL_FUNCTION(11)
MATMUL_FUNCTION(12)
#endif
#undef MATMUL_FUNCTION

static void (*const matmul_functions[MATMUL_ROWS])(size_t, const matmul_operands *) = {
    matmul_rows_1,
#if !defined(DYNQ_VEC_SCALAR_H)
    matmul_rows_2, matmul_rows_3, matmul_rows_4, matmul_rows_5,
#endif
#if defined(DYNQ_VEC_AVX2_H) || defined(DYNQ_VEC_AVX512_H)
    matmul_rows_6,
#endif
#if defined(DYNQ_VEC_AVX512_H)
    matmul_rows_7, matmul_rows_8, matmul_rows_9, matmul_rows_10, matmul_rows_11, matmul_rows_12,
#endif
};

static void vector_matmul(size_t m, size_t n, size_t k, const float *a, size_t a_stride, const float *b, size_t b_row,
                          size_t b_panel, float *y, size_t y_stride) {
  const size_t tiles = (m + MATMUL_ROWS - 1) / MATMUL_ROWS;
  for (size_t i = 0; i < tiles; i++) { /* as even as they go: 14 rows are 7 and 7, not 12 and 2 */
    const size_t row = m * i / tiles, end = m * (i + 1) / tiles;
    const matmul_operands o = {.k = k,
                               .a = a + row * a_stride,
                               .b = b,
                               .a_stride = a_stride,
                               .b_row = b_row,
                               .b_panel = b_panel,
                               .y = y + row * y_stride,
                               .y_stride = y_stride};
    matmul_functions[end - row - 1](n, &o);
  }
}

#endif
