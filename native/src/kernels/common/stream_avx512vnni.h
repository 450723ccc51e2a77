/*
 * Few rows with AVX-512 VNNI: 1 to 4 rows, and the last of an odd number of panels. Shared by the instruction sets that
 * have it; avx512vnni.c has the table of instructions.
 *
 * few_rows: 1 to 4 rows x 4 panels, so that a broadcast serves 4 panel rows. A step of k is 4R vpdpbusd, 2 a cycle, for
 * R + 4 loads, of which a Sapphire Rapids begins 2 a cycle where they are 512 bits wide.
 * stream_rows: R rows x 1 panel, for the panels that are left: R vpdpbusd for R + 1 loads.
 * S steps have sums of their own, so that 8 to 24 of them cover the latency of 5.
 *
 *   bound, MAC a cycle   sapphirerapids
 *   few_rows(R, S)       128
 *   stream_rows(1, 8)    96
 *   stream_rows(R, S)    128
 */
#ifndef DYNQ_STREAM_AVX512VNNI_H
#define DYNQ_STREAM_AVX512VNNI_H

#include "../kernels.h"

#include "inline.h"
#include "registers.h"

#include <immintrin.h>
#include <string.h>

enum { STREAM_ROWS = 4, STREAM_PANELS = 4, MOST_ROWS = 12, BASE_ROWS = 4, ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP };

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

/* R rows x 1 panel, S steps of k at a time with sums of their own, to cover the latency. add: to acc. */
V_INLINE void stream_rows(const size_t R, const size_t S, bool add, size_t groups, const uint8_t *lhs,
                          size_t lhs_stride, const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  const uint8_t *base[MOST_ROWS / BASE_ROWS];
  place_rows(R, base, lhs, lhs_stride);
  __m512i sum[MOST_ROWS][8];
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
    sum[r][0] = add ? _mm512_load_si512(acc + r * acc_stride) : _mm512_setzero_si512();
#pragma GCC unroll 8
    for (size_t s = 1; s < S; s++) {
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

/* R rows x STREAM_PANELS panels, S steps of k at a time with sums of their own. */
V_INLINE void few_rows(const size_t R, const size_t S, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                       const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const int8_t *const base[2] = {rhs, rhs + 2 * panel_stride}; /* an address for two panels each */
  __m512i sum[STREAM_ROWS][STREAM_PANELS][4], a[STREAM_ROWS];
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (size_t p = 0; p < STREAM_PANELS; p++) {
#pragma GCC unroll 4
      for (size_t s = 0; s < S; s++) {
        sum[r][p][s] = _mm512_setzero_si512();
      }
    }
  }
  size_t g = 0;
  for (const size_t whole = groups / S * S; g < whole; g += S) {
#pragma GCC unroll 4
    for (size_t s = 0; s < S; s++) {
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) {
        a[r] = broadcast_four(lhs + r * lhs_stride + (g + s) * DYNQ_GROUP);
      }
#pragma GCC unroll 4
      for (size_t p = 0; p < STREAM_PANELS; p++) {
        __m512i w = _mm512_load_si512(base[p / 2] + p % 2 * panel_stride + (g + s) * ROW_BYTES);
        if (R > 1) {
          SETTLE(w); /* loaded once, not once a row */
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < R; r++) {
          sum[r][p][s] = _mm512_dpbusd_epi32(sum[r][p][s], a[r], w);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (size_t p = 0; p < STREAM_PANELS; p++) {
#pragma GCC unroll 4
      for (size_t s = 0; s < S; s++) {
        SETTLE(sum[r][p][s]); /* else the loop above copies its sums */
      }
    }
  }
  for (; g < groups; g++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      a[r] = broadcast_four(lhs + r * lhs_stride + g * DYNQ_GROUP);
    }
#pragma GCC unroll 4
    for (size_t p = 0; p < STREAM_PANELS; p++) {
      const __m512i w = _mm512_load_si512(base[p / 2] + p % 2 * panel_stride + g * ROW_BYTES);
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) {
        sum[r][p][0] = _mm512_dpbusd_epi32(sum[r][p][0], a[r], w);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (size_t p = 0; p < STREAM_PANELS; p++) {
#pragma GCC unroll 4
      for (size_t s = 1; s < S; s++) {
        sum[r][p][0] = _mm512_add_epi32(sum[r][p][0], sum[r][p][s]);
      }
      _mm512_store_si512(acc + r * acc_stride + p * DYNQ_PANEL, sum[r][p][0]);
    }
  }
}

OWN_FUNCTION void four_panels(size_t m, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                              size_t panel_stride, int32_t *acc, size_t acc_stride) {
  switch (m) {
  case 1:
    few_rows(1, 4, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
    break;
  case 2:
    few_rows(2, 2, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
    break;
  case 3:
    few_rows(3, 1, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
    break;
  default:
    few_rows(4, 1, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
    break;
  }
}

/* m rows, 1 to STREAM_ROWS, x `panels` panels; the arguments are those of dynq_gemm_kernels.tile. */
V_INLINE void stream_tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                          const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels >= STREAM_PANELS;
       panels -= STREAM_PANELS, rhs += STREAM_PANELS * panel_stride, acc += STREAM_PANELS * DYNQ_PANEL) {
    four_panels(m, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
    switch (m) {
    case 1:
      stream_rows(1, 8, false, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 2:
      stream_rows(2, 8, false, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 3:
      stream_rows(3, 4, false, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    default:
      stream_rows(4, 4, false, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    }
  }
}

#endif
