/*
 * A tile for the matrix multiply of I8MM: what surrounds the smmla of neon_i8mm and sve_i8mm.
 *
 * smmla multiplies 2 rows x 8 k by 2 channels x 8 k, each 16 bytes, and adds the 2 x 2 sums to four int32. Neither
 * operand lies so in memory. Once per call and chunk of k, rows are copied in pairs, 8 k of each. Once per chunk and
 * panel, two panel rows are zipped, so that each channel has its 8 k in a row. All row pairs share the zipped panel,
 * all panels the paired rows. Both buffers fit the first-level cache:
 *
 *   left    16 KB: for each block of up to 4 pairs [k / 8][pair][2 rows][8]
 *   right    8 KB: [k / 8][16 channels][8]
 *
 * A full tile is 32 rows x 4 panels. On Neoverse N2 a store takes a vector pipe too. For each panel and 8 k the tile
 * costs there: 128 smmla, 64 cycles; 8 zips and 8 stores, 8 cycles; a quarter of the pairing of rows, 4 cycles.
 */
#ifndef DYNQ_I8MM_H
#define DYNQ_I8MM_H

#include "../kernels.h"
#include "inline.h"

#include <arm_neon.h>
#include <string.h>

enum {
  I8MM_ROWS = 32,
  I8MM_PANELS = 4,
  I8MM_PAIRS = 4,                          /* row pairs in a block */
  I8MM_CHUNK = 64,                         /* steps of 8 k in the buffers */
  I8MM_PAIR = 16,                          /* bytes of a row pair in a step */
  I8MM_PANEL = DYNQ_PANEL * 2 * DYNQ_GROUP /* bytes of a panel in a step */
};

/* Multiplies `pairs` (2 to 4) row pairs, of which the first `rows` rows are real, with one panel: acc = the sums, or
 * acc += the sums where `add`. */
typedef void i8mm_block(size_t pairs, size_t rows, size_t steps, const int8_t *left, const int8_t *right, int32_t *acc,
                        size_t acc_stride, bool add);

/* Up to two groups of two rows, zeros where there is one, to [2 rows][8]. */
V_INLINE void store_pair(size_t groups, const uint8_t *upper, const uint8_t *lower, int8_t *to) {
  uint64_t eight[2] = {0, 0};
  memcpy(&eight[0], upper, groups * DYNQ_GROUP);
  memcpy(&eight[1], lower, groups * DYNQ_GROUP);
  memcpy(to, eight, sizeof eight);
}

/* A block's rows to [k / 8][pair][2 rows][8]; the missing partner of the last row of an odd number is that row. */
static inline void pair_rows(size_t pairs, size_t rows, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                             int8_t *left) {
  for (size_t p = 0; p < pairs; p++) {
    const uint8_t *upper = lhs + 2 * p * lhs_stride, *lower = 2 * p + 1 < rows ? upper + lhs_stride : upper;
    int8_t *to = left + p * I8MM_PAIR;
    size_t g = 0;
    for (; g + 4 <= groups; g += 4, upper += 16, lower += 16, to += 2 * pairs * I8MM_PAIR) {
      const int64x2_t u = vreinterpretq_s64_u8(vld1q_u8(upper)), l = vreinterpretq_s64_u8(vld1q_u8(lower));
      vst1q_s8(to, vreinterpretq_s8_s64(vzip1q_s64(u, l)));
      vst1q_s8(to + pairs * I8MM_PAIR, vreinterpretq_s8_s64(vzip2q_s64(u, l)));
    }
    for (; g + 2 <= groups; g += 2, upper += 8, lower += 8, to += pairs * I8MM_PAIR) {
      store_pair(2, upper, lower, to);
    }
    if (g < groups) {
      store_pair(1, upper, lower, to);
    }
  }
}

/* A panel to [k / 8][16 channels][8]; the missing partner of the last group of an odd number is zero. */
static inline void zip_panel(size_t groups, const int8_t *rhs, int8_t *right) {
  for (size_t g = 0; g < groups; g += 2, rhs += I8MM_PANEL) {
#pragma GCC unroll 4
    for (size_t c = 0; c < DYNQ_PANEL; c += 4, right += 2 * 16) {
      const int8_t *from = rhs + c * DYNQ_GROUP;
      const int32x4_t w0 = vreinterpretq_s32_s8(vld1q_s8(from));
      const int32x4_t w1 =
          g + 1 < groups ? vreinterpretq_s32_s8(vld1q_s8(from + DYNQ_PANEL * DYNQ_GROUP)) : vdupq_n_s32(0);
      vst1q_s8(right, vreinterpretq_s8_s32(vzip1q_s32(w0, w1)));
      vst1q_s8(right + 16, vreinterpretq_s8_s32(vzip2q_s32(w0, w1)));
    }
  }
}

/* m is 3 or more, so that each block has two pairs or more. */
V_INLINE void i8mm_tile(i8mm_block *multiply, size_t m, size_t panels, size_t groups, const uint8_t *lhs,
                        size_t lhs_stride, const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  /* A step more than is ever filled, since vectors that do not divide a panel end in the step after it. */
  _Alignas(64) int8_t right[I8MM_PANEL * (I8MM_CHUNK + 1)];
  _Alignas(64) int8_t left[I8MM_ROWS / 2 * I8MM_PAIR * I8MM_CHUNK];
  const size_t pairs = (m + 1) / 2, blocks = (pairs + I8MM_PAIRS - 1) / I8MM_PAIRS;
  size_t g = 0;
  do {
    const size_t count = groups - g < 2 * I8MM_CHUNK ? groups - g : 2 * I8MM_CHUNK, steps = (count + 1) / 2;
    for (size_t panel = 0; panel < panels; panel++) {
      zip_panel(count, rhs + panel * panel_stride + g * DYNQ_PANEL * DYNQ_GROUP, right);
      for (size_t b = 0; b < blocks; b++) { /* as even as they go: 5 pairs are 2 and 3, not 4 and 1 */
        const size_t pair = pairs * b / blocks, row = 2 * pair, width = pairs * (b + 1) / blocks - pair;
        const size_t rows = m - row < 2 * width ? m - row : 2 * width;
        int8_t *block = left + pair * steps * I8MM_PAIR;
        if (panel == 0) {
          pair_rows(width, rows, count, lhs + row * lhs_stride + g * DYNQ_GROUP, lhs_stride, block);
        }
        multiply(width, rows, steps, block, right, acc + row * acc_stride + panel * DYNQ_PANEL, acc_stride, g != 0);
      }
    }
    g += count;
  } while (g < groups);
}

#endif
