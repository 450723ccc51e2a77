/*
 * The float32 multiply of convolutions whose lanes are positions, written once over the abstraction of vec_<isa>.h, which
 * is included first: row k of the right operand lies wherever the input has it.
 *
 * Sums and the names of functions are as in matmul_f32.h. R rows of a panel x W vectors of positions:
 *
 *   lanes   registers   largest tile         operands
 *   16      32          8 rows x 3 vectors   3 of b, 1 of a: 24 multiply-adds (12 cycles) for 11 loads, 3 of them unaligned
 *   8       16          4 rows x 3 vectors   3 of b, 1 of a: 12 (6 cycles) for 7 loads
 *   4       32          4 rows x 4 vectors   4 of b, 1 of a: 16 (8 cycles) for 8 loads
 */
#ifndef DYNQ_MATMUL_TAPS_H
#define DYNQ_MATMUL_TAPS_H

#include "../kernels.h"

#include "activations.h"
#include "registers.h"

enum { TAPS_FUNCTIONS = V_LANES == 16 ? 4 : V_LANES == 1 ? 1 : 3, TAPS_SUMS = 24 };

/* W for R rows. */
#define TAPS_VECTORS(R) ((R) == 8 ? 3 : (R) == 4 ? (V_LANES == 8 ? 3 : 4) : (R) == 2 ? 4 : V_LANES == 1 ? 1 : 8)

/* R rows x W vectors from position j on, or `left` positions of one vector where `partial`. */
V_INLINE void matmul_taps_block(const size_t R, const size_t W, const bool partial, size_t left, size_t j,
                                const dynq_taps_tile *o) {
  vf sum[TAPS_SUMS];
  const size_t k_end = o->k, a_stride = o->a_stride, *offset = o->offset;
  const float *a = o->a, *b = o->b + j;
#pragma GCC unroll 24
  for (size_t i = 0; i < R * W; i++) {
    sum[i] = vf_set1(0.0f);
  }
  for (size_t k = 0; k < k_end; k++, a += a_stride) {
    const float *p = b + offset[k];
    vf position[8];
#pragma GCC unroll 8
    for (size_t v = 0; v < W; v++) {
      position[v] = partial ? vf_load_n(p, left) : vf_load(p + v * V_LANES);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
      const vf weight = vf_set1(a[r]);
#pragma GCC unroll 8
      for (size_t v = 0; v < W; v++) {
        sum[r * W + v] = vf_fma(weight, position[v], sum[r * W + v]);
      }
    }
  }
  const vf nan = vi_as_f(vi_set1(V_NAN)), zero = vf_set1(0.0f);
  float *y = o->y + j;
#pragma GCC unroll 8
  for (size_t r = 0; r < R; r++, y += o->y_stride) {
#pragma GCC unroll 8
    for (size_t v = 0; v < W; v++) {
      vf s = sum[r * W + v];
      s = o->bias != NULL ? vf_add(s, vf_set1(o->bias[r])) : s;
      s = o->relu ? vf_max(zero, s) : s; /* a NaN is the second operand and passes */
      s = vf_replace_nan(s, nan);
      if (partial) {
        vf_store_n(y, left, s);
      } else {
        vf_store(y + v * V_LANES, s);
      }
    }
  }
}

/* R rows x n positions. */
V_INLINE void matmul_taps_rows(const size_t R, size_t n, const dynq_taps_tile *o) {
  const size_t W = TAPS_VECTORS(R);
  size_t j = 0;
  for (; j + W * V_LANES <= n; j += W * V_LANES) {
    matmul_taps_block(R, W, false, 0, j, o);
  }
  for (; W >= 8 && j + 2 * V_LANES <= n; j += 2 * V_LANES) {
    matmul_taps_block(R, 2, false, 0, j, o);
  }
  for (; j + V_LANES <= n; j += V_LANES) {
    matmul_taps_block(R, 1, false, 0, j, o);
  }
  if (j < n) {
    matmul_taps_block(R, 1, true, n - j, j, o);
  }
}

#define TAPS_FUNCTION(R)                                                                                               \
  OWN_FUNCTION void matmul_taps_##R(size_t n, const dynq_taps_tile *o) { matmul_taps_rows(R, n, o); }
TAPS_FUNCTION(1)
#if !defined(DYNQ_VEC_SCALAR_H)
TAPS_FUNCTION(2)
TAPS_FUNCTION(4)
#endif
#if defined(DYNQ_VEC_AVX512_H)
TAPS_FUNCTION(8)
#endif
#undef TAPS_FUNCTION

/* Functions for 1, 2, 4 and 8 rows. */
static void (*const taps_functions[TAPS_FUNCTIONS])(size_t, const dynq_taps_tile *) = {
    matmul_taps_1,
#if !defined(DYNQ_VEC_SCALAR_H)
    matmul_taps_2,
    matmul_taps_4,
#endif
#if defined(DYNQ_VEC_AVX512_H)
    matmul_taps_8,
#endif
};

static void vector_matmul_taps(const dynq_taps_tile *tile) {
  size_t rows;
  for (size_t row = 0; row < tile->m; row += rows) {
    size_t function = TAPS_FUNCTIONS - 1;
    while ((size_t)1 << function > tile->m - row) {
      function--;
    }
    rows = (size_t)1 << function;
    dynq_taps_tile part = *tile;
    part.a += row;
    part.bias = part.bias != NULL ? part.bias + row : NULL;
    part.y += row * part.y_stride;
    taps_functions[function](part.n, &part);
  }
}

#endif
