/*
 * 1 to 4 rows with AVX-512 VNNI: the weights are read once, as one stream of memory. Shared by the instruction sets that
 * have it (avx512vnni.c has the table of instructions and the bound).
 */
#ifndef DYNQ_STREAM_AVX512VNNI_H
#define DYNQ_STREAM_AVX512VNNI_H

#include "../../kernels.h"

#include <immintrin.h>
#include <string.h>

#define STREAM_INLINE static inline __attribute__((always_inline))

enum { STREAM_ROWS = 4, ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP };

STREAM_INLINE __m512i broadcast_four(const uint8_t *p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

/* R rows x 1 panel, S steps of k at a time. */
STREAM_INLINE void stream_rows(const size_t R, const size_t S, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                               const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  __m512i sum[STREAM_ROWS][8];
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t s = 0; s < S; s++) {
      sum[r][s] = _mm512_setzero_si512();
    }
  }
  size_t g = 0;
  for (; g + S <= groups; g += S) {
#pragma GCC unroll 8
    for (size_t s = 0; s < S; s++) {
      const __m512i w = _mm512_load_si512(rhs + (g + s) * ROW_BYTES);
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) {
        sum[r][s] = _mm512_dpbusd_epi32(sum[r][s], broadcast_four(lhs + r * lhs_stride + (g + s) * DYNQ_GROUP), w);
      }
    }
  }
  for (; g < groups; g++) {
    const __m512i w = _mm512_load_si512(rhs + g * ROW_BYTES);
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], broadcast_four(lhs + r * lhs_stride + g * DYNQ_GROUP), w);
    }
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t s = 1; s < S; s++) {
      sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][s]);
    }
    _mm512_store_si512(acc + r * acc_stride, sum[r][0]);
  }
}

/* m rows, 1 to STREAM_ROWS, x `panels` panels; the arguments are those of dynq_gemm_kernels.tile. */
STREAM_INLINE void stream_tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                               const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
    switch (m) {
    case 1:
      stream_rows(1, 8, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 2:
      stream_rows(2, 4, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 3:
      stream_rows(3, 4, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    default:
      stream_rows(4, 4, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    }
  }
}

#endif
