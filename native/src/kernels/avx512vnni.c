/*
 * avx512vnni: 512-bit integers with a byte dot product.
 *
 *   instruction              latency  per cycle   (Sapphire Rapids; Zen 4 in brackets; uops.info)
 *   vpdpbusd  zmm            5 [4]    2 [1]       64 products u8 * s8, added by fours to int32: exact
 *   vpbroadcastd zmm, m32    load     3 [2]
 *   vmovdqa64 zmm, m512      load     2 [1]
 *
 * A panel row (16 channels of 4 k) is one register; the left operand's 4 bytes are broadcast to it.
 *   5 rows or more: 2 panels at a time, R x 2 sums. At 12 rows 24 sums, 2 panel rows and a broadcast: 27 of 32
 *     registers; 24 vpdpbusd (12 cycles) for 14 loads (5 cycles), 176 bytes in 12 cycles.
 *     The 10 sums of 5 rows just cover the latency of vpdpbusd.
 *   1 to 4 rows, and the last of an odd number of panels: common/stream_avx512vnni.h.
 * On Zen 4, with half as many vpdpbusd, the bound of a block is 64.
 *
 *   bound, MAC a cycle   sapphirerapids
 *   tile_block(R)        128
 */
#include "common/vec_avx512.h"

#include "common/vector.h"

#include "common/stream_avx512vnni.h"

/* R rows x 2 panels; add: to acc. */
V_INLINE void tile_block(const size_t R, bool add, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                         const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const uint8_t *base[MOST_ROWS / BASE_ROWS];
  place_rows(R, base, lhs, lhs_stride);
  __m512i sum[MOST_ROWS][2];
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
    sum[r][0] = add ? _mm512_load_si512(acc + r * acc_stride) : _mm512_setzero_si512();
    sum[r][1] = add ? _mm512_load_si512(acc + r * acc_stride + DYNQ_PANEL) : _mm512_setzero_si512();
  }
  for (size_t g = 0; g < groups; g++) {
    const __m512i w0 = _mm512_load_si512(rhs + g * ROW_BYTES);
    const __m512i w1 = _mm512_load_si512(rhs + panel_stride + g * ROW_BYTES);
#pragma GCC unroll 12
    for (size_t r = 0; r < R; r++) {
      const __m512i a = broadcast_four(base[r / BASE_ROWS] + r % BASE_ROWS * lhs_stride + g * DYNQ_GROUP);
      sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], a, w0);
      sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], a, w1);
    }
  }
  __asm__ volatile("" : "+r"(acc_stride)); /* else each call begins with the 11 offsets of each number of rows */
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
    _mm512_store_si512(acc + r * acc_stride, sum[r][0]);
    _mm512_store_si512(acc + r * acc_stride + DYNQ_PANEL, sum[r][1]);
  }
}

#define LAST_PANEL(R, S)                                                                                               \
  OWN_FUNCTION void last_panel_##R(bool add, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,  \
                                   int32_t *acc, size_t acc_stride) {                                                  \
    stream_rows(R, S, add, groups, lhs, lhs_stride, rhs, acc, acc_stride);                                             \
  }
LAST_PANEL(5, 4)
LAST_PANEL(6, 4)
LAST_PANEL(7, 2)
LAST_PANEL(8, 2)
LAST_PANEL(9, 2)
LAST_PANEL(10, 2)
LAST_PANEL(11, 2)
LAST_PANEL(12, 2)
#undef LAST_PANEL

static void (*const last_panel[MOST_ROWS - STREAM_ROWS])(bool, size_t, const uint8_t *, size_t, const int8_t *,
                                                         int32_t *, size_t) = {
    last_panel_5, last_panel_6, last_panel_7, last_panel_8, last_panel_9, last_panel_10, last_panel_11, last_panel_12};

/* More than STREAM_ROWS rows. */
OWN_FUNCTION void blocks(bool add, size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                         const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels >= 2; panels -= 2, rhs += 2 * panel_stride, acc += 2 * DYNQ_PANEL) {
    switch (m) {
#define BLOCK(R)                                                                                                       \
  case R:                                                                                                              \
    tile_block(R, add, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);                                   \
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
  if (panels != 0) {
    last_panel[m - STREAM_ROWS - 1](add, groups, lhs, lhs_stride, rhs, acc, acc_stride);
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  if (m <= STREAM_ROWS) {
    stream_tile(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  } else {
    blocks(false, m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
}

static void add(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                size_t panel_stride, int32_t *acc, size_t acc_stride) {
  blocks(true, m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
}

/* 24 sums: at a latency of 5 and 2 a cycle, 10 would do if nothing ever came late; in assembly, since a compiler would
 * see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const __m512i a = _mm512_set1_epi8(3), w = _mm512_set1_epi8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define STEP(sum) "vpdpbusd %0, %1, %%zmm" #sum "\n\t"
#define STEPS(a, b, c, d, e, f) STEP(a) STEP(b) STEP(c) STEP(d) STEP(e) STEP(f)
    __asm__ volatile(
        STEPS(0, 1, 2, 3, 4, 5) STEPS(6, 7, 8, 9, 10, 11) STEPS(12, 13, 14, 15, 16, 17) STEPS(18, 19, 20, 21, 22, 23)
        :
        : "v"(w), "v"(a)
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23");
#undef STEPS
#undef STEP
  }
  return rounds * 24 * 64;
}

/* A block of two panels is 32 KB of L1. */
static const dynq_gemm_kernels gemm = {.rows = MOST_ROWS,
                                       .panels = 2,
                                       .macs_per_nanosecond = 400,
                                       .lhs_signed = false,
                                       .tile = tile,
                                       .add = add,
                                       .block_groups = 256,
                                       .peak = peak};

const dynq_isa_kernels dynq_isa_avx512vnni = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
