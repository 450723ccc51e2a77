/*
 * neon_i8mm: 128-bit integers with a byte matrix multiply (Cortex-A510, A710, X2 on; Neoverse V1, N2, V2; Apple M2).
 *
 *   instruction                       latency  per cycle   (Neoverse N2 [V1, V2]; LLVM 19's scheduling models)
 *   smmla v.4s, v.16b, v.16b          3        2 [4]       2 rows x 2 channels x 8 k = 32 products s8 * s8, added to
 *                                                          int32: exact
 *   sdot  v.4s, v.16b, v.4b[lane]     3        2 [4]       16 products
 *   zip1, zip2, uzp1, uzp2  v         2        2 [4]
 *   ldr   q                           6        3 [3]
 *   str   q                           2        2 [2]       takes one of the pipes above too
 *
 *   4 rows or more: blocks of 4 row pairs x 4 channel pairs = 16 sums, 4 of weights, 4 of rows: 24 of 32 registers. For
 *     8 k 16 smmla (8 [4] cycles) for 8 loads (2.7 cycles). With two row pairs the block is all 8 channel pairs.
 *     common/i8mm.h has what else a tile costs: a sixth of the time.
 *   1 to 3 rows: sdot by lane, straight from the panel, which a zip of each panel row would slow down: up to 3 rows the
 *     zips cost what smmla saves. common/sdot_neon.h has their bounds.
 *
 *   bound, MAC a cycle    neoverse-n2  neoverse-v1  neoverse-v2
 *   multiply_pairs(R, P)  64           128          128
 *
 * The vector kernels are those of the next instruction set in the list.
 */
#include "common/i8mm.h"
#include "common/sdot_neon.h"

/* R row pairs x P channel pairs, of which channels begin at `channel`. */
V_INLINE void multiply_pairs(const size_t R, const size_t P, size_t channel, size_t rows, size_t steps,
                             const int8_t *left, const int8_t *right, int32_t *acc, size_t acc_stride, bool add) {
  int32x4_t sum[4][8];
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t c = 0; c < P; c++) {
      sum[r][c] = vdupq_n_s32(0);
    }
  }
  right += channel * 2 * DYNQ_GROUP;
#pragma GCC unroll 2
  for (size_t k = 0; k < steps; k++, left += R * I8MM_PAIR, right += I8MM_PANEL) {
    int8x16_t w[8];
#pragma GCC unroll 8
    for (size_t c = 0; c < P; c++) {
      w[c] = vld1q_s8(right + c * 16);
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      const int8x16_t a = vld1q_s8(left + r * I8MM_PAIR);
#pragma GCC unroll 8
      for (size_t c = 0; c < P; c++) {
        sum[r][c] = vmmlaq_s32(sum[r][c], a, w[c]);
      }
    }
  }
  /* [upper 0, upper 1, lower 0, lower 1] of channels 0 and 1, and of 2 and 3, to four of the upper and of the lower. */
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (size_t c = 0; c < P; c += 2) {
      const int64x2_t one = vreinterpretq_s64_s32(sum[r][c]), two = vreinterpretq_s64_s32(sum[r][c + 1]);
      int32x4_t upper = vreinterpretq_s32_s64(vuzp1q_s64(one, two));
      int32x4_t lower = vreinterpretq_s32_s64(vuzp2q_s64(one, two));
      int32_t *to = acc + 2 * r * acc_stride + channel + 2 * c;
      vst1q_s32(to, add ? vaddq_s32(vld1q_s32(to), upper) : upper);
      if (2 * r + 1 < rows) {
        to += acc_stride;
        vst1q_s32(to, add ? vaddq_s32(vld1q_s32(to), lower) : lower);
      }
    }
  }
}

static void multiply(size_t pairs, size_t rows, size_t steps, const int8_t *left, const int8_t *right, int32_t *acc,
                     size_t acc_stride, bool add) {
  switch (pairs) {
  case 2:
    multiply_pairs(2, 8, 0, rows, steps, left, right, acc, acc_stride, add);
    break;
  case 3:
    multiply_pairs(3, 4, 0, rows, steps, left, right, acc, acc_stride, add);
    multiply_pairs(3, 4, 8, rows, steps, left, right, acc, acc_stride, add);
    break;
  default:
    multiply_pairs(4, 4, 0, rows, steps, left, right, acc, acc_stride, add);
    multiply_pairs(4, 4, 8, rows, steps, left, right, acc, acc_stride, add);
    break;
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  if (m <= 3) {
    sdot_tile(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  } else {
    i8mm_tile(multiply, m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
}

/* 12 sums at a latency of 3 and up to 4 a cycle; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const int8x16_t a = vdupq_n_s8(3), w = vdupq_n_s8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define SMMLA(sum) "smmla v" #sum ".4s, %0.16b, %1.16b\n\t"
    __asm__ volatile(SMMLA(16) SMMLA(17) SMMLA(18) SMMLA(19) SMMLA(20) SMMLA(21) SMMLA(22) SMMLA(23) SMMLA(24) SMMLA(25)
                         SMMLA(26) SMMLA(27)
                     :
                     : "w"(w), "w"(a)
                     : "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27");
#undef SMMLA
  }
  return rounds * 12 * 32;
}

static const dynq_gemm_kernels gemm = {.rows = I8MM_ROWS,
                                       .panels = I8MM_PANELS,
                                       .macs_per_nanosecond = 120,
                                       .lhs_signed = true,
                                       .tile = tile,
                                       .peak = peak};

const dynq_isa_kernels dynq_isa_neon_i8mm = {.gemm = &gemm};
