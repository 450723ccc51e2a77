/*
 * Rows times a panel with the byte dot product of Advanced SIMD, by lane: for the instruction sets that have ASIMDDP.
 *
 * A panel row (16 channels of 4 k) is four registers. One register of the left operand holds 16 k of a row; each sdot
 * takes four of them by lane, so nothing is broadcast. For 16 k of R rows there are 16R sdot and 16 + R loads. Neoverse
 * N2 does 2 sdot and 3 loads a cycle, V1 and V2 4 and 3.
 *
 *   bound, MAC a cycle   neoverse-n2               neoverse-v1               neoverse-v2
 *   sdot_rows(R, S)      min(32, 768R / (16 + R))  min(64, 768R / (16 + R))  min(64, 768R / (16 + R))
 */
#ifndef DYNQ_SDOT_NEON_H
#define DYNQ_SDOT_NEON_H

#include "../kernels.h"
#include "inline.h"

#include <arm_neon.h>
#include <string.h>

enum {
  SDOT_ROWS = 4,
  SDOT_STEP = 4 /* groups in a register of the left operand */
};

/* One group: lane `lane` of each row's register times four registers of weights. The barrier keeps the compiler from
 * loading the weights of all four groups first, which takes more registers than there are. */
#define SDOT_GROUP(lane)                                                                                               \
  do {                                                                                                                 \
    const int8_t *w = rhs + (g + (lane)) * DYNQ_PANEL * DYNQ_GROUP;                                                    \
    const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16), w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);             \
    _Pragma("GCC unroll 4") for (size_t r = 0; r < R; r++) {                                                           \
      int32x4_t *s = sum[r * S + (lane) % S];                                                                          \
      s[0] = vdotq_laneq_s32(s[0], w0, a[r], (lane));                                                                  \
      s[1] = vdotq_laneq_s32(s[1], w1, a[r], (lane));                                                                  \
      s[2] = vdotq_laneq_s32(s[2], w2, a[r], (lane));                                                                  \
      s[3] = vdotq_laneq_s32(s[3], w3, a[r], (lane));                                                                  \
    }                                                                                                                  \
    __asm__ volatile("" ::: "memory");                                                                                 \
  } while (0)

/* R rows x 1 panel, R * S at most 4: few rows have accumulators of their own for S steps of k, which cover the latency
 * of sdot. */
V_INLINE void sdot_rows(const size_t R, const size_t S, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                        const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  int32x4_t sum[SDOT_ROWS][4];
  int8x16_t a[SDOT_ROWS];
#pragma GCC unroll 4
  for (size_t i = 0; i < R * S; i++) {
    sum[i][0] = sum[i][1] = sum[i][2] = sum[i][3] = vdupq_n_s32(0);
  }
  size_t g = 0;
  for (const size_t whole = groups / SDOT_STEP * SDOT_STEP; g < whole; g += SDOT_STEP) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      a[r] = vreinterpretq_s8_u8(vld1q_u8(lhs + r * lhs_stride + g * DYNQ_GROUP));
    }
    SDOT_GROUP(0);
    SDOT_GROUP(1);
    SDOT_GROUP(2);
    SDOT_GROUP(3);
  }
#pragma GCC unroll 1
  for (; g < groups; g++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      uint32_t four;
      memcpy(&four, lhs + r * lhs_stride + g * DYNQ_GROUP, sizeof four);
      a[r] = vreinterpretq_s8_u32(vdupq_n_u32(four));
    }
    SDOT_GROUP(0);
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
      int32x4_t all = sum[r * S][j];
#pragma GCC unroll 4
      for (size_t s = 1; s < S; s++) {
        all = vaddq_s32(all, sum[r * S + s][j]);
      }
      vst1q_s32(acc + r * acc_stride + 4 * j, all);
    }
  }
}

/* m rows, 1 to 4, x `panels` panels. */
static inline void sdot_tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                             const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
    switch (m) {
    case 1:
      sdot_rows(1, 4, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 2:
      sdot_rows(2, 2, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    case 3:
      sdot_rows(3, 1, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    default:
      sdot_rows(4, 1, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      break;
    }
  }
}

#endif
