/*
 * sve: vectors of any length with a byte dot product, and nothing beyond the first SVE (A64FX, 512 bits; Neoverse V1,
 * 256 bits, and later ones where the system does not tell of their I8MM).
 *
 *   instruction                  latency  per cycle    (A64FX [Neoverse V1]; LLVM 19's scheduling models)
 *   sdot  z.s, z.b, z.b          9 [3]    2 [2]        4 products s8 * s8 for each 32 bits, added to int32: exact
 *   sdot  z.s, z.b, z.b[lane]    15 [3]   1 [2]        not used
 *   ld1b  z.b, p/z               11 [6]   2 [2]
 *   ld1rw z.s, p/z               11 [6]   2 [2]        4 bytes to all elements
 *
 *   5 rows or more: up to 24 sums, as common/sdot_sve.h lays them out, 2 of weights and a broadcast: 27 of 32 registers
 *     (at 128 bits 29). With two vectors 24 sdot (12 cycles) for 14 loads (7 cycles) and 4 others. A latency of 9 at 2
 *     a cycle takes 18 sums: 5 to 7 rows have sums of their own for two steps of k, 28 with 7 rows (31 registers).
 *   1 to 4 rows: 1 panel at a time, with 8 to 24 sums. One row is bound by the load: one panel row (64 bytes) and one
 *     broadcast a cycle at 512 bits; 8 sums at a latency of 9 reach 57 of these 64 bytes.
 *
 *   bound, MAC a cycle   a64fx
 *   sve_rows(R, S, 1)    128R / (1 + R)
 *   sve_rows(1, S, 2)    -
 *   sve_rows(2, S, 2)    -
 *   sve_rows(3, S, 2)    -
 *   sve_rows(4, S, 2)    -
 *   sve_rows(R, S, 2)    128
 *
 * The dashes are loops that do not run at 512 bits. common/sdot_sve.h has the bounds at 256 and 128.
 * The vector kernels are those of Advanced SIMD, which every CPU with SVE has: A64FX is served by no other entry.
 */
#include "common/vec_neon.h"

#include "common/sdot_sve.h"
#include "common/vector.h"

SVE_ROWS_FUNCTION(5, 1, 4)
SVE_ROWS_FUNCTION(6, 1, 4)
SVE_ROWS_FUNCTION(5, 2, 2)
SVE_ROWS_FUNCTION(6, 2, 2)
SVE_ROWS_FUNCTION(7, 2, 2)
SVE_ROWS_FUNCTION(8, 1, 2)
SVE_ROWS_FUNCTION(9, 1, 2)
SVE_ROWS_FUNCTION(10, 1, 2)
SVE_ROWS_FUNCTION(11, 1, 2)
SVE_ROWS_FUNCTION(12, 1, 2)

/* 5 or 6 rows of a panel that is four vectors wide. */
static void rows_of_four_vectors(size_t m, sve_columns columns, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                                 const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  if (m == 5) {
    sve_rows_5_of_4(columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);
  } else {
    sve_rows_6_of_4(columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);
  }
}

/* 5 to 12 rows of a panel that is two vectors wide, or of two that are one wide. */
static void rows_of_two_vectors(size_t m, sve_columns columns, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                                const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  switch (m) {
#define ROWS(R)                                                                                                        \
  case R:                                                                                                              \
    sve_rows_##R##_of_2(columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);                                       \
    break;
    ROWS(5)
    ROWS(6)
    ROWS(7)
    ROWS(8)
    ROWS(9)
    ROWS(10)
    ROWS(11)
    ROWS(12)
#undef ROWS
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const size_t length = svcntb();
  if (m <= 4) {
    sve_few_rows(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  } else if (length >=
             SVE_ROW_BYTES) { /* the second vector is the next panel's; empty beside the last of an odd number */
    for (size_t j = 0; j < panels; j += 2, rhs += 2 * panel_stride, acc += 2 * DYNQ_PANEL) {
      const sve_columns columns = {
          .bytes = panel_stride, .elements = DYNQ_PANEL, .begin = j + 1 < panels ? 0 : SVE_ROW_BYTES};
      rows_of_two_vectors(m, columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);
    }
  } else if (2 * length < SVE_ROW_BYTES && m > 6) { /* 7 rows are 4 and 3 */
    const size_t upper = (m + 1) / 2;
    tile(upper, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
    tile(m - upper, panels, groups, lhs + upper * lhs_stride, lhs_stride, rhs, panel_stride, acc + upper * acc_stride,
         acc_stride);
  } else {
    const sve_columns columns = {.bytes = length, .elements = svcntw(), .begin = length};
    for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
      if (2 * length < SVE_ROW_BYTES) {
        rows_of_four_vectors(m, columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      } else {
        rows_of_two_vectors(m, columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);
      }
    }
  }
}

/* 18 sums cover A64FX's latency of 9 at 2 a cycle; in assembly, since a compiler would see that they repeat. */
static uint64_t peak(uint64_t rounds) {
  const svint8_t a = svdup_n_s8(3), w = svdup_n_s8(-5);
  for (uint64_t r = 0; r < rounds; r++) {
#define SDOT(sum) "sdot z" #sum ".s, %0.b, %1.b\n\t"
    __asm__ volatile(SDOT(8) SDOT(9) SDOT(10) SDOT(11) SDOT(12) SDOT(13) SDOT(14) SDOT(15) SDOT(16) SDOT(17) SDOT(18)
                         SDOT(19) SDOT(20) SDOT(21) SDOT(22) SDOT(23) SDOT(24) SDOT(25)
                     :
                     : "w"(w), "w"(a)
                     : "z8", "z9", "z10", "z11", "z12", "z13", "z14", "z15", "z16", "z17", "z18", "z19", "z20", "z21",
                       "z22", "z23", "z24", "z25");
#undef SDOT
  }
  return rounds * 18 * svcntb();
}

static const dynq_gemm_kernels gemm = {
    .rows = SVE_ROWS, .panels = SVE_PANELS, .macs_per_nanosecond = 120, .lhs_signed = true, .tile = tile, .peak = peak};

const dynq_isa_kernels dynq_isa_sve = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
