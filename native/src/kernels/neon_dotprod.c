/*
 * neon_dotprod: 128-bit integers with a byte dot product (Cortex-A55 and A76 on, Neoverse N1, Apple M1).
 *
 *   instruction                       latency  per cycle   (Arm Neoverse N1 Software Optimization Guide)
 *   sdot  v.4s, v.16b, v.4b[lane]     4 (1)    2           16 products s8 * s8, added by fours to int32: exact;
 *                                                          1 cycle from sdot to sdot in the accumulator
 *   ldr   q                           5        2
 *
 * A panel row (16 channels of 4 k) is four registers. One register of the left operand holds 16 k of a row; each
 * sdot takes four of them by lane, so nothing is broadcast.
 * Tile: 4 rows x 1 panel = 16 accumulators, 4 of weights, 4 of the left operand: 24 of 32 registers (with 5 rows, 29,
 * GCC 12 spills). 64 sdot (32 cycles) for 20 loads (10 cycles), so the bound is 32 MAC a cycle.
 */
#include "common/vec_neon.h"

#include "common/vector.h"

enum { ROWS = 4, ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP, STEP = 4 /* groups in a register of the left operand */ };

/* One group: lane `lane` of each row's register times four registers of weights. */
#define MULTIPLY_GROUP(lane)                                                                                           \
  do {                                                                                                                 \
    const int8_t *w = rhs + (g + (lane)) * ROW_BYTES;                                                                  \
    const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16), w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);             \
    _Pragma("GCC unroll 4") for (size_t r = 0; r < R; r++) {                                                           \
      sum[r][0] = vdotq_laneq_s32(sum[r][0], w0, a[r], (lane));                                                        \
      sum[r][1] = vdotq_laneq_s32(sum[r][1], w1, a[r], (lane));                                                        \
      sum[r][2] = vdotq_laneq_s32(sum[r][2], w2, a[r], (lane));                                                        \
      sum[r][3] = vdotq_laneq_s32(sum[r][3], w3, a[r], (lane));                                                        \
    }                                                                                                                  \
  } while (0)

/* R rows x 1 panel. */
V_INLINE void tile_rows(const size_t R, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                        int32_t *acc, size_t acc_stride) {
  int32x4_t sum[ROWS][4];
  int8x16_t a[ROWS];
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
    sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_s32(0);
  }
  size_t g = 0;
  for (; g + STEP <= groups; g += STEP) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      a[r] = vreinterpretq_s8_u8(vld1q_u8(lhs + r * lhs_stride + g * DYNQ_GROUP));
    }
    MULTIPLY_GROUP(0);
    MULTIPLY_GROUP(1);
    MULTIPLY_GROUP(2);
    MULTIPLY_GROUP(3);
  }
  for (; g < groups; g++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      uint32_t four;
      memcpy(&four, lhs + r * lhs_stride + g * DYNQ_GROUP, sizeof four);
      a[r] = vreinterpretq_s8_u32(vdupq_n_u32(four));
    }
    MULTIPLY_GROUP(0);
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
    int32_t *to = acc + r * acc_stride;
    vst1q_s32(to, sum[r][0]);
    vst1q_s32(to + 4, sum[r][1]);
    vst1q_s32(to + 8, sum[r][2]);
    vst1q_s32(to + 12, sum[r][3]);
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
    switch (m) {
    case 1:
      tile_rows(1, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 2:
      tile_rows(2, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 3:
      tile_rows(3, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    default:
      tile_rows(4, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    }
  }
}

/* 8 sums at 2 a cycle; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const int8x16_t a = vdupq_n_s8(3), w = vdupq_n_s8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define SDOT(sum) "sdot v" #sum ".4s, %0.16b, %1.4b[0]\n\t"
    __asm__ volatile(SDOT(16) SDOT(17) SDOT(18) SDOT(19) SDOT(20) SDOT(21) SDOT(22) SDOT(23)
                     :
                     : "w"(w), "w"(a)
                     : "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23");
#undef SDOT
  }
  return rounds * 8 * 16;
}

static const dynq_gemm_kernels gemm = {.rows = ROWS, .panels = 1, .lhs_signed = true, .tile = tile, .peak = peak};

const dynq_isa_kernels dynq_isa_neon_dotprod = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
