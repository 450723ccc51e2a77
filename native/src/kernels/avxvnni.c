/*
 * avxvnni: 256-bit integers with a byte dot product, for CPUs without AVX-512.
 *
 *   instruction              latency  per cycle   (Alder Lake P; uops.info)
 *   vpdpbusd  ymm (VEX)      5        2           32 products u8 * s8, added by fours to int32: exact
 *   vpbroadcastd ymm, m32    load     3
 *   vmovdqa   ymm, m256      load     3
 *
 * A panel row (16 channels of 4 k) is two registers; the left operand's 4 bytes are broadcast to one.
 *   6 rows: 12 sums, 2 of weights and a broadcast: 15 of 16 registers; 12 vpdpbusd (6 cycles) for 8 loads (2.7 cycles),
 *     88 bytes in 6 cycles.
 *   1 to 3 rows: 2 to 5 steps of k have sums of their own, since it takes 10 to cover the latency. One row takes 64 bytes
 *     of weights a cycle, with its 3 loads for 2 vpdpbusd.
 *   4 and 5 rows: 8 and 10 sums; 8 do not cover the latency. Going through a panel twice, with 2 or 3 rows at a time,
 *     is faster where the weights are in the first-level cache, and slower where they are not.
 *
 *   bound, MAC a cycle   alderlake
 *   tile_rows(4, 1)      51.2
 *   tile_rows(R, S)      64
 *
 * The vector kernels are those of the next instruction set in the list.
 */
#include "kernels.h"

#include "common/inline.h"
#include "common/registers.h"

#include <immintrin.h>
#include <string.h>

enum { ROWS = 6, ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP };

V_INLINE __m256i broadcast_four(const uint8_t *p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

/* R rows x 1 panel, S steps of k at a time. */
V_INLINE void tile_rows(const size_t R, const size_t S, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                        const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  __m256i sum[ROWS][5][2];
#pragma GCC unroll 6
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 5
    for (size_t s = 0; s < S; s++) {
      sum[r][s][0] = sum[r][s][1] = _mm256_setzero_si256();
    }
  }
  size_t g = 0;
  for (const size_t whole = groups / S * S; g < whole; g += S) {
#pragma GCC unroll 5
    for (size_t s = 0; s < S; s++) {
      const __m256i *w = (const __m256i *)(const void *)(rhs + (g + s) * ROW_BYTES);
      const __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
#pragma GCC unroll 6
      for (size_t r = 0; r < R; r++) {
        const __m256i a = broadcast_four(lhs + r * lhs_stride + (g + s) * DYNQ_GROUP);
        sum[r][s][0] = _mm256_dpbusd_avx_epi32(sum[r][s][0], a, w0);
        sum[r][s][1] = _mm256_dpbusd_avx_epi32(sum[r][s][1], a, w1);
      }
    }
  }
#pragma GCC unroll 6
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 5
    for (size_t s = 0; s < S; s++) {
      SETTLE(sum[r][s][0]);
      SETTLE(sum[r][s][1]);
    }
  }
  for (; g < groups; g++) {
    const __m256i *w = (const __m256i *)(const void *)(rhs + g * ROW_BYTES);
#pragma GCC unroll 6
    for (size_t r = 0; r < R; r++) {
      const __m256i a = broadcast_four(lhs + r * lhs_stride + g * DYNQ_GROUP);
      sum[r][0][0] = _mm256_dpbusd_avx_epi32(sum[r][0][0], a, _mm256_load_si256(w));
      sum[r][0][1] = _mm256_dpbusd_avx_epi32(sum[r][0][1], a, _mm256_load_si256(w + 1));
    }
  }
#pragma GCC unroll 6
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 5
    for (size_t s = 1; s < S; s++) {
      sum[r][0][0] = _mm256_add_epi32(sum[r][0][0], sum[r][s][0]);
      sum[r][0][1] = _mm256_add_epi32(sum[r][0][1], sum[r][s][1]);
    }
    __m256i *to = (__m256i *)(void *)(acc + r * acc_stride);
    _mm256_store_si256(to, sum[r][0][0]);
    _mm256_store_si256(to + 1, sum[r][0][1]);
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
    switch (m) {
    case 1:
      tile_rows(1, 5, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 2:
      tile_rows(2, 3, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 3:
      tile_rows(3, 2, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 4:
      tile_rows(4, 1, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 5:
      tile_rows(5, 1, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    default:
      tile_rows(6, 1, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    }
  }
}

/* 14 sums: at a latency of 5 and 2 a cycle, 10 would do if nothing ever came late; in assembly, since a compiler would
 * see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const __m256i a = _mm256_set1_epi8(3), w = _mm256_set1_epi8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define STEP(sum) "%{vex%} vpdpbusd %0, %1, %%ymm" #sum "\n\t"
    __asm__ volatile(STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
                         STEP(12) STEP(13)
                     :
                     : "x"(w), "x"(a)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13");
#undef STEP
  }
  return rounds * 14 * 32;
}

static const dynq_gemm_kernels gemm = {
    .rows = ROWS, .panels = 1, .macs_per_nanosecond = 200, .lhs_signed = false, .tile = tile, .peak = peak};

const dynq_isa_kernels dynq_isa_avxvnni = {.gemm = &gemm};
