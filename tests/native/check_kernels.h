/*
 * The parts of check_kernels. Each tests one resolved ISA; the reference is reference.h.
 */
#ifndef CHECK_KERNELS_H
#define CHECK_KERNELS_H

#include "check.h"
#include "dispatch.h"

/* Every length to 70, where all tails are, and some longer ones. */
enum { LONGEST = 1000, LENGTHS = 71 + 10 };
static inline size_t length_of(size_t index) {
  static const size_t longer[] = {95, 127, 128, 129, 255, 256, 257, 511, 777, LONGEST};
  _Static_assert(sizeof longer / sizeof longer[0] == LENGTHS - 71, "LENGTHS counts them");
  return index <= 70 ? index : longer[index - 71];
}

/* range, quantize, dequantize, activate, epilogue. */
void check_vector_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar);
/* matmul, reductions, softmax, norms, functions of one value. */
void check_float_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar);
/* Steps of recurrent layers. */
void check_cell_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar);
/* The gemm tile; `quick`: short sums alone. */
void check_gemm_kernels(const dynq_kernels *kernels, bool quick);
/* The public functions with the kernels in use, which the report calls `name`; `quick`: small shapes alone. */
void check_library(const char *name, bool quick);
/* The same where K is long: sums past int32, exact or refused. */
void check_wide(const char *name);
/* And where it is as long as a weight may be: 64 MB of operands. */
void check_longest(const char *name);
/* The public functions with kernels made here: shapes and a sign of the left operand that no ISA may have yet. */
void check_custom(const dynq_kernels *scalar);

#endif
