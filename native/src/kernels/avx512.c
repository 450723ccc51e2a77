/*
 * avx512: 512-bit integers without a dot product instruction (Skylake-X).
 *
 *   instruction              latency  per cycle   (Skylake-X with two 512-bit ports; uops.info)
 *   vpmaddwd  zmm            5        2           32 products of int16, added in pairs: exact
 *   vpaddd    zmm            1        2
 *   vpsraw, vpsrlw           1        1 [p0]
 *   vpslldq                  1        1 [p5]
 *   vpbroadcastd zmm, m32    load     2
 *
 * As in avx2.c, the even and the odd bytes of both operands are widened in place, and the two vpmaddwd end up with one
 * int32 a channel; a panel row is one register. The widening of the weights is shared by 8 rows, that of the left
 * operand by the panels. Tile: 8 rows x 2 panels = 16 sums, 4 widened weights, 2 of the left operand, 1 mask: 23 of 32
 * registers. A step of k is 4 vpmaddwd and vpaddd for each row and panel, 2 more for each row and 3 shifts for each
 * panel, on 2 ports. For 2 panels that takes (10R + 6) / 2 cycles, 43 at 8 rows, in which it reads 160 bytes; for one
 * (6R + 3) / 2.
 *
 *   bound, MAC a cycle   skylake-avx512
 *   tile_block(R, 2)     128R / (5R + 3)
 *   tile_block(R, 1)     128R / (6R + 3)
 */
#include "common/vec_avx512.h"

#include "common/vector.h"

#include "common/registers.h"

#include <string.h>

enum { ROWS = 8, ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP };

V_INLINE __m512i even_bytes(__m512i w) { return _mm512_srai_epi16(_mm512_bslli_epi128(w, 1), 8); }
V_INLINE __m512i odd_bytes(__m512i w) { return _mm512_srai_epi16(w, 8); }

/* R rows x P panels. */
V_INLINE void tile_block(const size_t R, const size_t P, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                         const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const __m512i low_bytes = _mm512_set1_epi16(0x00ff);
  __m512i sum[ROWS][2];
#pragma GCC unroll 8
  for (size_t r = 0; r < R; r++) {
    sum[r][0] = sum[r][1] = _mm512_setzero_si512();
  }
  for (size_t g = 0; g < groups; g++) {
    const __m512i w0 = _mm512_load_si512(rhs + g * ROW_BYTES);
    const __m512i w1 = _mm512_load_si512(rhs + (P - 1) * panel_stride + g * ROW_BYTES);
    const __m512i even0 = even_bytes(w0), odd0 = odd_bytes(w0), even1 = even_bytes(w1), odd1 = odd_bytes(w1);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
      int32_t four;
      memcpy(&four, lhs + r * lhs_stride + g * DYNQ_GROUP, sizeof four);
      const __m512i a = _mm512_set1_epi32(four);
      const __m512i even = _mm512_and_si512(a, low_bytes), odd = _mm512_srli_epi16(a, 8);
      sum[r][0] = _mm512_add_epi32(sum[r][0], _mm512_madd_epi16(even0, even));
      sum[r][0] = _mm512_add_epi32(sum[r][0], _mm512_madd_epi16(odd0, odd));
      if (P == 2) {
        sum[r][1] = _mm512_add_epi32(sum[r][1], _mm512_madd_epi16(even1, even));
        sum[r][1] = _mm512_add_epi32(sum[r][1], _mm512_madd_epi16(odd1, odd));
      }
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < R; r++) {
    _mm512_store_si512(acc + r * acc_stride, sum[r][0]);
    if (P == 2) {
      _mm512_store_si512(acc + r * acc_stride + DYNQ_PANEL, sum[r][1]);
    }
  }
}

/* R rows x any number of panels. */
V_INLINE void tile_rows(const size_t R, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                        const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels >= 2; panels -= 2, rhs += 2 * panel_stride, acc += 2 * DYNQ_PANEL) {
    tile_block(R, 2, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
  if (panels != 0) {
    tile_block(R, 1, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
}

#define TILE_ROWS(R)                                                                                                   \
  OWN_FUNCTION void tile_##R(size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,   \
                             size_t panel_stride, int32_t *acc, size_t acc_stride) {                                   \
    tile_rows(R, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);                                 \
  }
TILE_ROWS(1)
TILE_ROWS(2)
TILE_ROWS(3)
TILE_ROWS(4)
TILE_ROWS(5)
TILE_ROWS(6)
TILE_ROWS(7)
TILE_ROWS(8)
#undef TILE_ROWS

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  static void (*const rows[ROWS])(size_t, size_t, const uint8_t *, size_t, const int8_t *, size_t, int32_t *,
                                  size_t) = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8};
  rows[m - 1](panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
}

/* 8 sums, each a vpmaddwd and a vpaddd of 32 products; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const __m512i a = _mm512_set1_epi16(3), w = _mm512_set1_epi16(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define STEP(sum, product)                                                                                             \
  "vpmaddwd %0, %1, %%zmm" #product "\n\tvpaddd %%zmm" #product ", %%zmm" #sum ", %%zmm" #sum "\n\t"
    __asm__ volatile(STEP(0, 8) STEP(1, 9) STEP(2, 10) STEP(3, 11) STEP(4, 8) STEP(5, 9) STEP(6, 10) STEP(7, 11)
                     :
                     : "v"(a), "v"(w)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                       "xmm11");
#undef STEP
  }
  return rounds * 8 * 32;
}

static const dynq_gemm_kernels gemm = {
    .rows = ROWS, .panels = 2, .macs_per_nanosecond = 80, .lhs_signed = false, .tile = tile, .peak = peak};

const dynq_isa_kernels dynq_isa_avx512 = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
