/*
 * avx2: 256-bit integers without a dot product instruction.
 *
 *   instruction              latency  per cycle   (Skylake; Zen 3 in brackets; uops.info)
 *   vpmaddwd  ymm            5 [3]    2 [2]       16 products of int16, added in pairs: exact
 *   vpsraw, vpsrlw           1        2 [2]       where vpmaddwd goes, too [elsewhere]
 *   vpslldq                  1        1 [2]       on the third port
 *   vpaddd, vpand            1        3 [4]
 *   vpbroadcastd ymm, m32    load     2 [2]
 *
 * vpmaddubsw takes bytes, but its int16 sums saturate (255 * 127 * 2 > 32767), so it cannot be used. Instead the even
 * and the odd bytes are widened in place. A panel row's 32 bytes hold 8 channels of 4 k, so the two vpmaddwd over even
 * and odd k both end up with one int32 a channel. The widening of the weights (6 shifts a panel row) is shared by 4
 * rows, that of the left operand (2) by the 16 channels. Tile: 4 rows x 1 panel = 8 sums, 4 widened weights, 2 of the
 * left operand, 1 mask: 15 of 16 registers. A step of k is 8 vpmaddwd and vpaddd and 2 more for each row, and 6 shifts:
 * 46 micro-operations at 4 rows, on 3 ports, in which it reads 80 bytes. Skylake takes in 4 micro-operations a cycle,
 * which one row feels: 24 in 6 cycles. Haswell and Broadwell have one port for vpmaddwd and the shifts but vpslldq: 24
 * cycles at 4 rows. 16.7 MAC a cycle stand against 16 of float32 FMA with four times the bytes of weights.
 *
 *   bound, MAC a cycle   skylake           alderlake
 *   tile_block(R)        192R / (10R + 6)  192R / (10R + 6)
 */
#include "common/vec_avx2.h"

#include "common/vector.h"

#include "common/registers.h"

/* R rows, one panel. */
V_INLINE void tile_block(const size_t R, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                         int32_t *acc, size_t acc_stride) {
  const __m256i low_bytes = _mm256_set1_epi16(0x00ff);
  __m256i sum[4][2];
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
    sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  }
  for (size_t g = 0; g < groups; g++) {
    const __m256i *w = (const __m256i *)(rhs + g * DYNQ_PANEL * DYNQ_GROUP);
    const __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1);
    const __m256i even0 = _mm256_srai_epi16(_mm256_bslli_epi128(w0, 1), 8), odd0 = _mm256_srai_epi16(w0, 8);
    const __m256i even1 = _mm256_srai_epi16(_mm256_bslli_epi128(w1, 1), 8), odd1 = _mm256_srai_epi16(w1, 8);
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      int32_t four;
      memcpy(&four, lhs + r * lhs_stride + g * DYNQ_GROUP, sizeof four);
      const __m256i a = _mm256_set1_epi32(four);
      const __m256i even = _mm256_and_si256(a, low_bytes), odd = _mm256_srli_epi16(a, 8);
      sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(even0, even));
      SETTLE(sum[r][0]); /* adding the two products first would take more registers than there are */
      sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(even1, even));
      SETTLE(sum[r][1]);
      sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(odd0, odd));
      sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(odd1, odd));
    }
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
    _mm256_store_si256((__m256i *)(acc + r * acc_stride), sum[r][0]);
    _mm256_store_si256((__m256i *)(acc + r * acc_stride + 8), sum[r][1]);
  }
}

#define TILE_ROWS(R)                                                                                                   \
  OWN_FUNCTION void tile_##R(size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,   \
                             size_t panel_stride, int32_t *acc, size_t acc_stride) {                                   \
    for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {                                            \
      tile_block(R, groups, lhs, lhs_stride, rhs, acc, acc_stride);                                                    \
    }                                                                                                                  \
  }
TILE_ROWS(1)
TILE_ROWS(2)
TILE_ROWS(3)
TILE_ROWS(4)
#undef TILE_ROWS

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  static void (*const rows[])(size_t, size_t, const uint8_t *, size_t, const int8_t *, size_t, int32_t *,
                              size_t) = {tile_1, tile_2, tile_3, tile_4};
  rows[m - 1](panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
}

/* 8 sums, each a vpmaddwd and a vpaddd of 16 products; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const __m256i a = _mm256_set1_epi16(3), w = _mm256_set1_epi16(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define STEP(sum, product)                                                                                             \
  "vpmaddwd %0, %1, %%ymm" #product "\n\tvpaddd %%ymm" #product ", %%ymm" #sum ", %%ymm" #sum "\n\t"
    __asm__ volatile(STEP(0, 8) STEP(1, 9) STEP(2, 10) STEP(3, 11) STEP(4, 8) STEP(5, 9) STEP(6, 10) STEP(7, 11)
                     :
                     : "x"(a), "x"(w)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                       "xmm11");
#undef STEP
  }
  return rounds * 8 * 16;
}

static const dynq_gemm_kernels gemm = {
    .rows = 4, .panels = 1, .macs_per_nanosecond = 40, .lhs_signed = false, .tile = tile, .peak = peak};

const dynq_isa_kernels dynq_isa_avx2 = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
