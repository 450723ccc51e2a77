/*
 * Packing into memory that is there already: for right operands that are quantized while a model runs.
 */
#ifndef DYNQ_PACK_H
#define DYNQ_PACK_H

#include "../base/dispatch.h"
#include "weight.h"

/* Fills `weight` from w[n * row_stride + k * column_stride]. DYNQ_NONFINITE where a channel
 * is not finite: its scale is NaN then and its integers are 0. */
dynq_status dynq_pack_f32(dynq_weight *weight, const dynq_kernels *kernels, const float *w, size_t row_stride,
                          size_t column_stride, const dynq_threads *threads, size_t threads_count);

#endif
