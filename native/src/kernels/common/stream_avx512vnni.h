/*
 * One panel at a time with AVX-512 VNNI, so that the weights are one stream of memory: 1 to 4 rows, and the last of an
 * odd number of panels. Shared by the instruction sets that have it; avx512vnni.c has the table of instructions.
 *
 * A step of k is R vpdpbusd, 2 a cycle, for R + 1 loads, 3 a cycle. S steps have sums of their own, so that 8 to 24 of
 * them cover the latency of 5. The bound of one row is the loads: 96 bytes of weights a cycle; of 2 and more it is the
 * multiplications: 128 / R bytes of weights a cycle.
 *
 *   bound, MAC a cycle   sapphirerapids
 *   stream_rows(1, 8)    96
 *   stream_rows(R, S)    128
 */
#ifndef DYNQ_STREAM_AVX512VNNI_H
#define DYNQ_STREAM_AVX512VNNI_H

#include "../../kernels.h"

#include "inline.h"
#include "registers.h"

#include <immintrin.h>
#include <string.h>

enum { STREAM_ROWS = 4, MOST_ROWS = 12, BASE_ROWS = 4, ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP };

V_INLINE __m512i broadcast_four(const uint8_t *p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

/* One address for 4 rows: 12 offsets from one would be more than there are registers. */
V_INLINE void place_rows(const size_t R, const uint8_t *base[MOST_ROWS / BASE_ROWS], const uint8_t *lhs,
                         size_t lhs_stride) {
#pragma GCC unroll 3
  for (size_t b = 0; b * BASE_ROWS < R; b++) {
    base[b] = lhs + b * BASE_ROWS * lhs_stride;
    __asm__ volatile("" : "+r"(base[b])); /* else the compiler makes offsets of them again */
  }
}

/* R rows x 1 panel, S steps of k at a time with sums of their own, to cover the latency. */
V_INLINE void stream_rows(const size_t R, const size_t S, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                          const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  const uint8_t *base[MOST_ROWS / BASE_ROWS];
  place_rows(R, base, lhs, lhs_stride);
  __m512i sum[MOST_ROWS][8];
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t s = 0; s < S; s++) {
      sum[r][s] = _mm512_setzero_si512();
    }
  }
  size_t g = 0;
  for (const size_t whole = groups / S * S; g < whole; g += S) {
#pragma GCC unroll 8
    for (size_t s = 0; s < S; s++) {
      __m512i w = _mm512_load_si512(rhs + (g + s) * ROW_BYTES);
      if (R > 1) {
        SETTLE(w); /* loaded once, not once a row */
      }
#pragma GCC unroll 12
      for (size_t r = 0; r < R; r++) {
        const uint8_t *a = base[r / BASE_ROWS] + r % BASE_ROWS * lhs_stride + (g + s) * DYNQ_GROUP;
        sum[r][s] = _mm512_dpbusd_epi32(sum[r][s], broadcast_four(a), w);
      }
    }
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t s = 0; s < S; s++) {
      SETTLE(sum[r][s]);
    }
  }
  for (; g < groups; g++) {
    const __m512i w = _mm512_load_si512(rhs + g * ROW_BYTES);
#pragma GCC unroll 12
    for (size_t r = 0; r < R; r++) {
      sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], broadcast_four(lhs + r * lhs_stride + g * DYNQ_GROUP), w);
    }
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t s = 1; s < S; s++) {
      sum[r][0] = _mm512_add_epi32(sum[r][0], sum[r][s]);
    }
    _mm512_store_si512(acc + r * acc_stride, sum[r][0]);
  }
}

/* m rows, 1 to STREAM_ROWS, x `panels` panels; the arguments are those of dynq_gemm_kernels.tile. */
V_INLINE void stream_tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                          const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
    switch (m) {
    case 1:
      stream_rows(1, 8, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 2:
      stream_rows(2, 8, groups, lhs, lhs_stride, rhs, acc, acc_stride);
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
