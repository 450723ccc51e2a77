/*
 * avx512vnni: 512-bit integers with a byte dot product.
 *
 *   instruction              latency  per cycle   (Sapphire Rapids; Zen 4 in brackets; uops.info)
 *   vpdpbusd  zmm            5 [4]    2 [1]       64 products u8 * s8, added by fours to int32: exact
 *   vpbroadcastd zmm, m32    load     2 [2]
 *   vmovdqa64 zmm, m512      load     2 [1]
 *
 * A panel row (16 channels of 4 k) is one register; the left operand's 4 bytes are broadcast to it.
 *   5 rows or more: 2 panels at a time, R x 2 accumulators. At 12 rows 24 accumulators, 2 panel rows and a
 *     broadcast: 27 of 32 registers; 24 vpdpbusd (12 cycles) for 14 loads (7 cycles), so the bound is
 *     128 [64] MAC a cycle.
 *   1 to 4 rows: 1 panel at a time, so that the weights are one stream of memory; 4 to 8 steps of k have
 *     accumulators of their own to cover the latency. The bound is the load: 64 bytes of weights a cycle.
 */
#include "common/vec_avx512.h"

#include "common/vector.h"

#include "common/stream_avx512vnni.h"

enum { ROWS = 12 };

/* R rows x P panels. */
V_INLINE void tile_block(const size_t R, const size_t P, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                         const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  __m512i sum[ROWS][2];
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
    sum[r][0] = sum[r][1] = _mm512_setzero_si512();
  }
  for (size_t g = 0; g < groups; g++) {
    const __m512i w0 = _mm512_load_si512(rhs + g * ROW_BYTES);
    const __m512i w1 = _mm512_load_si512(rhs + (P - 1) * panel_stride + g * ROW_BYTES);
#pragma GCC unroll 12
    for (size_t r = 0; r < R; r++) {
      const __m512i a = broadcast_four(lhs + r * lhs_stride + g * DYNQ_GROUP);
      sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], a, w0);
      if (P == 2) {
        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], a, w1);
      }
    }
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
    _mm512_store_si512(acc + r * acc_stride, sum[r][0]);
    if (P == 2) {
      _mm512_store_si512(acc + r * acc_stride + DYNQ_PANEL, sum[r][1]);
    }
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  if (m <= STREAM_ROWS) {
    stream_tile(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
    return;
  }
  size_t step;
  for (; panels != 0; panels -= step, rhs += step * panel_stride, acc += step * DYNQ_PANEL) {
    step = panels == 1 ? 1 : 2;
    switch (m) {
#define BLOCK(R)                                                                                                       \
  case R:                                                                                                              \
    if (step == 2) {                                                                                                   \
      tile_block(R, 2, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);                                   \
    } else {                                                                                                           \
      tile_block(R, 1, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);                                   \
    }                                                                                                                  \
    break;
      BLOCK(5)
      BLOCK(6)
      BLOCK(7)
      BLOCK(8)
      BLOCK(9)
      BLOCK(10)
      BLOCK(11)
      BLOCK(12)
#undef BLOCK
    }
  }
}

/* 12 sums: at a latency of 5 and 2 a cycle, 10 would do; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const __m512i a = _mm512_set1_epi8(3), w = _mm512_set1_epi8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define STEP(sum) "vpdpbusd %0, %1, %%zmm" #sum "\n\t"
    __asm__ volatile(STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
                     :
                     : "v"(w), "v"(a)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                       "xmm11");
#undef STEP
  }
  return rounds * 12 * 64;
}

static const dynq_gemm_kernels gemm = {.rows = ROWS, .panels = 2, .lhs_signed = false, .tile = tile, .peak = peak};

const dynq_isa_kernels dynq_isa_avx512vnni = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
