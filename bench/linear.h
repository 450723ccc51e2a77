/*
 * Figures of dynq-bench linear, and functions that show them.
 */
#ifndef BENCH_LINEAR_H
#define BENCH_LINEAR_H

#include "base/dispatch.h"
#include "profile.h"

typedef struct linear_shape {
  size_t m, n, k;
} linear_shape;

/* Medians of one shape with one instruction set and number of threads; a NaN is not known. */
typedef struct linear_result {
  double seconds, bytes;             /* of a call; bytes: of weights, inputs and outputs */
  double peak_seconds, read_seconds; /* of a multiply-add at the peak, of a byte at the bandwidth */
  double of_limit;
  bool of_peak; /* the limit is the peak, not the bandwidth */
  double shares[BENCH_PARTS];
} linear_result;

void linear_show_head(const char *isa, size_t threads, double peak_seconds);
void linear_show(const linear_shape *shape, const linear_result *result);
void linear_json(const char *isa, size_t threads, const linear_shape *shape, const linear_result *result);

#endif
