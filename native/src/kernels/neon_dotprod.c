/*
 * neon_dotprod: 128-bit integers with a byte dot product (Cortex-A55 and A76 on, Neoverse N1, Apple M1).
 *
 *   instruction                       latency  per cycle   (Neoverse N1; LLVM 19's scheduling model)
 *   sdot  v.4s, v.16b, v.4b[lane]     2        2           16 products s8 * s8, added by fours to int32: exact
 *   ldr   q                           5        2
 *
 * Tile: 4 rows x 1 panel = 16 accumulators, 4 of weights, 4 of the left operand: 24 of 32 registers (with 5 rows, 29,
 * GCC 12 spills). For 16 k 64 sdot (32 cycles) for 20 loads (10 cycles). One row is bound by its 17 loads for 16 sdot:
 * 32 bytes of weights a cycle.
 *
 *   bound, MAC a cycle   neoverse-n1
 *   sdot_rows(R, S)      min(32, 512R / (16 + R))
 *
 * common/sdot_neon.h has the bounds of its successors.
 */
#include "common/vec_neon.h"

#include "common/sdot_neon.h"
#include "common/vector.h"

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

static const dynq_gemm_kernels gemm = {
    .rows = SDOT_ROWS, .panels = 1, .macs_per_nanosecond = 60, .lhs_signed = true, .tile = sdot_tile, .peak = peak};

const dynq_isa_kernels dynq_isa_neon_dotprod = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
