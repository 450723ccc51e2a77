/*
 * dynq_matmul_f32: both operands are quantized while it runs. b is packed like a weight, then it is a linear.
 */
#include "../base/alloc.h"
#include "../base/arguments.h"
#include "../base/threads.h"
#include "../quant/pack.h"
#include "gemm.h"

/* `batch` matrices of which each is fine by itself: does the last one end inside the address space? */
static dynq_status check_batch(const char *name, size_t batch, size_t batch_stride, size_t last) {
  const size_t end = dynq_size_add(dynq_size_mul(batch - 1, batch_stride), last);
  return dynq_size_mul(dynq_size_add(end, 1), sizeof(float)) > PTRDIFF_MAX
             ? dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: the batch exceeds the address space", name)
             : DYNQ_OK;
}

static size_t span(size_t rows, size_t row_stride, size_t columns, size_t column_stride) {
  return dynq_size_add(dynq_size_mul(rows != 0 ? rows - 1 : 0, row_stride),
                       dynq_size_mul(columns != 0 ? columns - 1 : 0, column_stride));
}

dynq_status dynq_matmul_f32(size_t batch, size_t m, size_t n, size_t k, const float *a, size_t a_batch_stride,
                            size_t a_stride, const float *b, size_t b_batch_stride, size_t b_row_stride,
                            size_t b_column_stride, dynq_scheme scheme, dynq_granularity granularity,
                            const dynq_threads *threads, float *y, size_t y_batch_stride, size_t y_stride) {
  dynq_gemm gemm = {.m = m, .y_stride = y_stride};
  static const float nothing = 0.0f; /* K = 0: a may be NULL */
  dynq_weight *weight;
  size_t count;
  DYNQ_TRY(dynq_check_scheme(scheme));
  DYNQ_TRY(dynq_check_granularity(granularity));
  DYNQ_TRY(dynq_check_matrix("a", a, m, k, a_stride, sizeof *a));
  DYNQ_TRY(k != 0 ? dynq_check_array("b", b, n, sizeof *b) : DYNQ_OK);
  DYNQ_TRY(dynq_check_matrix("y", y, m, n, y_stride, sizeof *y));
  if (k > DYNQ_MAX_K || dynq_weight_bytes(n, k, false) > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "b: n %zu and k %zu are too large; k is at most %d", n, k,
                     DYNQ_MAX_K);
  }
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&gemm.kernels));
  if (batch == 0 || m == 0 || n == 0) {
    return DYNQ_OK;
  }
  if (batch > 1 && y_batch_stride <= span(m, y_stride, n, 1)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "y: the batch stride is %zu; a matrix takes %zu elements",
                     y_batch_stride, span(m, y_stride, n, 1) + 1);
  }
  DYNQ_TRY(check_batch("a", batch, a_batch_stride, k != 0 ? span(m, a_stride, k, 1) : 0));
  DYNQ_TRY(check_batch("b", batch, b_batch_stride, span(k, b_row_stride, n, b_column_stride)));
  DYNQ_TRY(check_batch("y", batch, y_batch_stride, span(m, y_stride, n, 1)));
  DYNQ_TRY(dynq_weight_new(n, k, false, &weight));
  gemm.weight = weight;
  dynq_status status = DYNQ_OK;
  for (size_t i = 0; i < batch && (status == DYNQ_OK || status == DYNQ_NONFINITE); i++) {
    const dynq_status before = status;
    dynq_status packed = before;
    if (i == 0 || b_batch_stride != 0) {
      packed = dynq_pack_f32(weight, gemm.kernels, k != 0 ? b + i * b_batch_stride : NULL, b_column_stride,
                             b_row_stride, threads, count);
    }
    gemm.source = (dynq_lhs_source){.x = k != 0 ? a + i * a_batch_stride : &nothing,
                                    .x_stride = k != 0 ? a_stride : 0,
                                    .scheme = scheme,
                                    .per_row = true};
    if (granularity == DYNQ_PER_TENSOR) {
      dynq_lhs_use_tensor_range(&gemm.source, gemm.kernels, threads, count, m, k);
    }
    gemm.y = y + i * y_batch_stride;
    status = dynq_gemm_run(&gemm, threads, count);
    if (status == DYNQ_OK && (before == DYNQ_NONFINITE || packed == DYNQ_NONFINITE)) {
      status = DYNQ_NONFINITE;
    }
  }
  dynq_weight_free(weight);
  return status == DYNQ_NONFINITE ? dynq_fail(DYNQ_NONFINITE, "a or b holds a NaN or an infinity") : status;
}
