/*
 * The quantized multiply: from rows of float32 or integers to float32 outputs or exact int32 sums, in parallel.
 */
#ifndef DYNQ_GEMM_H
#define DYNQ_GEMM_H

#include "../base/dispatch.h"
#include "../quant/weight.h"
#include "lhs.h"

typedef struct dynq_gemm {
  const dynq_kernels *kernels;
  const dynq_weight *weight;
  size_t m;
  dynq_lhs_source source;
  dynq_epilogue epilogue;
  float *y; /* float32 outputs, or ... */
  size_t y_stride;
  int32_t *acc; /* ... exact sums */
  size_t acc_stride;
  /* One of many layers: others' weights have been in the cache since, and rows are where a thread computed them. */
  bool in_model;
  void *memory; /* dynq_gemm_memory_bytes() of it, aligned to 64 bytes; NULL: the call allocates */
} dynq_gemm;

/* Bytes that dynq_gemm_run works in with up to `count` threads; SIZE_MAX on overflow. It looks at kernels, weight, m,
 * in_model and the source's bits16 and group alone. */
size_t dynq_gemm_memory_bytes(const dynq_gemm *gemm, size_t count);

/* Runs it with up to `count` threads. DYNQ_NONFINITE: outputs are written, some are NaN. */
dynq_status dynq_gemm_run(const dynq_gemm *gemm, const dynq_threads *threads, size_t count);

/* Rows [0, rows) of `lhs`, which are rows [row, row + rows) of the outputs, times panels [panel, panel_end).
 * False if an exact sum does not fit int32. */
bool dynq_gemm_block(const dynq_gemm *gemm, const dynq_lhs *lhs, size_t row, size_t rows, size_t panel,
                     size_t panel_end);

#endif
