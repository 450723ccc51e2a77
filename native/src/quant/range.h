/*
 * The range of a block: smallest and largest value, 0 included.
 */
#ifndef DYNQ_RANGE_H
#define DYNQ_RANGE_H

#include "../base/dispatch.h"

enum { DYNQ_PIECE = 1 << 18 }; /* elements of a long row between two looks at whether to stop (interrupt.h) */
/* Returns how many elements of a row of k the piece that begins at `at` has. */
static inline size_t dynq_piece(size_t k, size_t at) { return k - at < DYNQ_PIECE ? k - at : DYNQ_PIECE; }

/* Range of one row; false if it is not finite. Zeros are +0. */
bool dynq_row_range(const dynq_kernels *kernels, size_t k, const float *x, float *lo, float *hi);
/* Range of a whole matrix, in parallel. */
bool dynq_tensor_range(const dynq_kernels *kernels, const dynq_threads *threads, size_t workers, size_t m, size_t k,
                       const float *x, size_t x_stride, float *lo, float *hi);

/* Returns how many of `count` threads are worth waking for passing once over `bytes`. */
size_t dynq_pass_workers(size_t count, size_t rows, size_t bytes);

#endif
