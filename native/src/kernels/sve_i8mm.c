/*
 * sve_i8mm: vectors of any length with a byte matrix multiply (Neoverse V1, 256 bits; N2, V2, Cortex-A510, A710, 128).
 *
 *   instruction                  latency  per cycle   (Neoverse V1 [N2] {V2}; LLVM 19's scheduling models)
 *   smmla  z.s, z.b, z.b         3        2 [2] {4}   2 rows x 2 channels x 8 k for each 128 bits, s8 * s8, added to
 *                                                     int32: exact
 *   ld1b   z.b, p/z              6        2 [3] {3}
 *   ld1rqb z.b, p/z              6        2 [3] {3}   16 bytes to all segments of 128 bits: a row pair
 *
 *   4 rows or more: blocks of 4 row pairs x 4 vectors = 16 sums, 4 of weights, 1 to 4 of rows. The zipped panel is 8
 *     vectors at 128 bits, two blocks, and 4 at 256, one. For 8 k 16 smmla (8 [8] {4} cycles) for 8 loads (4 [2.7]
 *     {2.7}). From 512 bits on a block is 2 vectors or 1. common/i8mm.h has what else a tile costs.
 *   1 to 3 rows: sdot, straight from the panel, as in sve.c; common/sdot_sve.h has their bounds.
 *
 *   bound, MAC a cycle    neoverse-n2  neoverse-v1  neoverse-v2
 *   multiply_pairs(R, 4)  64           128          128
 *   multiply_pairs(R, V)  -            -            -
 *   sve_rows(R, S, 1)     -            -            -
 *
 * The dashes are loops for 512 bits and more: LLVM 19 has no model of a processor that has them and I8MM.
 * At 256 bits this takes half the instructions of neon_i8mm for the same products, at 128 bits the same number.
 * The vector kernels are those of the next instruction set in the list: `sve` runs wherever this does.
 */
#include "common/i8mm.h"
#include "common/sdot_sve.h"

#define EACH_PAIR(DO) DO(0) DO(1) DO(2) DO(3)

#define DECLARE_PAIR(r) svint32_t s##r##0 = svdup_n_s32(0), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;

#define MULTIPLY_PAIR(r)                                                                                               \
  if (r < R) {                                                                                                         \
    const svint8_t a = svld1rq_s8(all, left + r * I8MM_PAIR);                                                          \
    s##r##0 = svmmla_s32(s##r##0, a, w0);                                                                              \
    s##r##1 = V > 1 ? svmmla_s32(s##r##1, a, w1) : s##r##1;                                                            \
    s##r##2 = V > 2 ? svmmla_s32(s##r##2, a, w2) : s##r##2;                                                            \
    s##r##3 = V > 2 ? svmmla_s32(s##r##3, a, w3) : s##r##3;                                                            \
  }

#define STORE_PAIR(r)                                                                                                  \
  if (r < R) {                                                                                                         \
    store_pair_of_rows(out0, s##r##0, s##r##1, 2 * r + 1 < rows, acc + 2 * r * acc_stride, acc_stride, add);           \
    if (V > 2) {                                                                                                       \
      store_pair_of_rows(out1, s##r##2, s##r##3, 2 * r + 1 < rows, acc + 2 * r * acc_stride + svcntw(), acc_stride,    \
                         add);                                                                                         \
    }                                                                                                                  \
  }

V_INLINE void store_sums(svbool_t out, svint64_t sums, int32_t *to, bool add) {
  const svint32_t s = svreinterpret_s32_s64(sums);
  svst1_s32(out, to, add ? svadd_s32_x(out, svld1_s32(out, to), s) : s);
}

/* Segments of [upper 0, upper 1, lower 0, lower 1] to a vector of the upper and one of the lower row. */
V_INLINE void store_pair_of_rows(svbool_t out, svint32_t s0, svint32_t s1, bool lower, int32_t *acc, size_t acc_stride,
                                 bool add) {
  const svint64_t one = svreinterpret_s64_s32(s0), two = svreinterpret_s64_s32(s1);
  store_sums(out, svuzp1_s64(one, two), acc, add);
  if (lower) {
    store_sums(out, svuzp2_s64(one, two), acc + acc_stride, add);
  }
}

/* R row pairs x V vectors (1, 2 or 4) of the zipped panel, from byte `begin` of its step on. Where they are longer than
 * the panel, what they hold of the step after it is multiplied, too, and not stored. */
V_INLINE void multiply_pairs(const size_t R, const size_t V, size_t begin, size_t rows, size_t steps,
                             const int8_t *left, const int8_t *right, int32_t *acc, size_t acc_stride, bool add) {
  const size_t channel = begin / (2 * DYNQ_GROUP);
  const svbool_t all = svptrue_b8();
  const svbool_t out0 = svwhilelt_b32_u64(channel, DYNQ_PANEL);
  const svbool_t out1 = svwhilelt_b32_u64(channel + svcntw(), DYNQ_PANEL);
  EACH_PAIR(DECLARE_PAIR)
  right += begin;
  acc += channel;
#pragma GCC unroll 2
  for (size_t k = 0; k < steps; k++, left += R * I8MM_PAIR, right += I8MM_PANEL) {
    const svint8_t w0 = svld1_s8(all, right);
    const svint8_t w1 = V > 1 ? svld1_vnum_s8(all, right, 1) : w0;
    const svint8_t w2 = V > 2 ? svld1_vnum_s8(all, right, 2) : w0;
    const svint8_t w3 = V > 2 ? svld1_vnum_s8(all, right, 3) : w0;
    EACH_PAIR(MULTIPLY_PAIR)
  }
  EACH_PAIR(STORE_PAIR)
}

/* At 128 bits the zipped panel is 8 vectors, four at a time; at 256 it is 4, at 512 2, from 1024 on one. */
static void multiply(size_t pairs, size_t rows, size_t steps, const int8_t *left, const int8_t *right, int32_t *acc,
                     size_t acc_stride, bool add) {
  const size_t length = svcntb(), vectors = length >= I8MM_PANEL ? 1 : 2 * length >= I8MM_PANEL ? 2 : 4;
  for (size_t begin = 0; begin < I8MM_PANEL; begin += vectors * length) {
#define SHAPE(pairs, vectors) ((pairs) * 8 + (vectors))
    switch (SHAPE(pairs, vectors)) {
#define PAIRS(R, V)                                                                                                    \
  case SHAPE(R, V):                                                                                                    \
    multiply_pairs(R, V, begin, rows, steps, left, right, acc, acc_stride, add);                                       \
    break;
      PAIRS(2, 1)
      PAIRS(3, 1)
      PAIRS(4, 1)
      PAIRS(2, 2)
      PAIRS(3, 2)
      PAIRS(4, 2)
      PAIRS(2, 4)
      PAIRS(3, 4)
      PAIRS(4, 4)
#undef PAIRS
#undef SHAPE
    }
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  if (m <= 3) {
    sve_few_rows(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  } else {
    i8mm_tile(multiply, m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
}

/* 12 sums at a latency of 3 and up to 4 a cycle; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const svint8_t a = svdup_n_s8(3), w = svdup_n_s8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define SMMLA(sum) "smmla z" #sum ".s, %0.b, %1.b\n\t"
    __asm__ volatile(SMMLA(16) SMMLA(17) SMMLA(18) SMMLA(19) SMMLA(20) SMMLA(21) SMMLA(22) SMMLA(23) SMMLA(24) SMMLA(25)
                         SMMLA(26) SMMLA(27)
                     :
                     : "w"(w), "w"(a)
                     : "z16", "z17", "z18", "z19", "z20", "z21", "z22", "z23", "z24", "z25", "z26", "z27");
#undef SMMLA
  }
  return rounds * 12 * 2 * svcntb();
}

static const dynq_gemm_kernels gemm = {.rows = I8MM_ROWS,
                                       .panels = I8MM_PANELS,
                                       .macs_per_nanosecond = 120,
                                       .lhs_signed = true,
                                       .tile = tile,
                                       .peak = peak};

const dynq_isa_kernels dynq_isa_sve_i8mm = {.gemm = &gemm};
