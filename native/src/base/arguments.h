/*
 * Checks of what a caller passed. Each names the argument, what came and what was expected.
 */
#ifndef DYNQ_ARGUMENTS_H
#define DYNQ_ARGUMENTS_H

#include "dynq/dynq.h"
#include "status.h"

#include <stdbool.h>

/* A matrix (rows, columns) of `size`-byte elements, rows `stride` elements apart. */
dynq_status dynq_check_matrix(const char *name, const void *p, size_t rows, size_t columns, size_t stride, size_t size);
/* An array of `count` elements of `size` bytes. */
dynq_status dynq_check_array(const char *name, const void *p, size_t count, size_t size);
dynq_status dynq_check_scheme(dynq_scheme scheme);
dynq_status dynq_check_granularity(dynq_granularity granularity);
dynq_status dynq_check_type(dynq_type type);
/* count scales: finite and over 0. */
dynq_status dynq_check_scales(const char *name, const float *scale, size_t count);
/* count zero-points that `type` can hold; NULL is fine. */
dynq_status dynq_check_zero_points(const char *name, const int32_t *zero_point, size_t count, dynq_type type);

/* Blocks of a matrix of m rows. */
static inline size_t dynq_blocks(dynq_granularity granularity, size_t m) { return granularity == DYNQ_PER_ROW ? m : 1; }

#endif
