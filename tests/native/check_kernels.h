/*
 * The parts of check_kernels. Each tests one resolved ISA; the reference is reference.h.
 */
#ifndef CHECK_KERNELS_H
#define CHECK_KERNELS_H

#include "base/dispatch.h"
#include "check.h"

/* Every length to 70, where all tails are, and some longer ones. */
enum { LONGEST = 1000, LENGTHS = 71 + 10 };
static inline size_t length_of(size_t index) {
  static const size_t longer[] = {95, 127, 128, 129, 255, 256, 257, 511, 777, LONGEST};
  _Static_assert(sizeof longer / sizeof longer[0] == LENGTHS - 71, "LENGTHS counts them");
  return index <= 70 ? index : longer[index - 71];
}

/* All rows but the last are a stride long. */
static inline size_t span(size_t rows, size_t length, size_t stride) {
  return rows == 0 || length == 0 ? 0 : (rows - 1) * stride + length;
}

/* Offsets of `depth` runs of n in what they return the length of. */
static inline size_t random_offsets(size_t n, size_t depth, size_t *offset) {
  enum { REACH = 40 };
  for (size_t i = 0; i < depth; i++) {
    offset[i] = i == 0 ? REACH : random_below(REACH);
  }
  return depth != 0 ? REACH + n : 0;
}

/* range, quantize, dequantize, activate, epilogue. */
void check_vector_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar);
/* matmul, reductions, softmax, norms, functions of one value. */
void check_float_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar);
/* Steps of recurrent layers. */
void check_cell_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar);
/* The gemm tile; `quick`: short sums alone. */
void check_gemm_kernels(const dynq_kernels *kernels, bool quick);
/* The calls of bench/kernel_calls.h, which has every slot; `tile`: those of the gemm alone. */
void check_calls(const dynq_kernels *kernels, const dynq_kernels *scalar, bool tile);
/* Prints the times of these calls, of each kernel that is the instruction set's own. */
void time_calls(const dynq_kernels *kernels, const dynq_kernels *scalar, bool tile, bool quick);
/* The public functions with the kernels in use, which the report calls `name`; `quick`: small shapes alone. */
void check_library(const char *name, bool quick);
/* The same where K is long: sums past int32, exact or refused. */
void check_wide(const char *name);
/* And where it is as long as a weight may be: 64 MB of operands. */
void check_longest(const char *name);
/* The public functions with kernels made here: shapes and a sign of the left operand that no ISA may have yet. */
void check_custom(const dynq_kernels *scalar);

#endif
