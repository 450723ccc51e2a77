/*
 * dynq_linear_f32 and dynq_gemm_s32: checks, then one quantized multiply.
 */
#include "../base/arguments.h"
#include "../base/threads.h"
#include "gemm.h"

#include <math.h>

static dynq_status check_epilogue(const dynq_epilogue *e, size_t m, size_t n, const float *y, size_t y_stride) {
  DYNQ_TRY(e->bias != NULL ? dynq_check_array("epilogue.bias", e->bias, n, sizeof *e->bias) : DYNQ_OK);
  if (e->residual != NULL) {
    DYNQ_TRY(dynq_check_matrix("epilogue.residual", e->residual, m, n, e->residual_stride, sizeof *e->residual));
    if (e->residual == y && m > 1 && e->residual_stride != y_stride) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "epilogue.residual is y itself with a stride of %zu; y's is %zu",
                       e->residual_stride, y_stride);
    }
  }
  if ((int)e->activation < DYNQ_ACTIVATION_NONE || e->activation > DYNQ_ACTIVATION_LEAKY_RELU) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "epilogue.activation is %d; expected a dynq_activation",
                     (int)e->activation);
  }
  if (isnan(e->min) || isnan(e->max) || e->min > e->max) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "epilogue: min is %g and max %g; expected min < max, or 0 and 0",
                     (double)e->min, (double)e->max);
  }
  return DYNQ_OK;
}

dynq_status dynq_linear_f32(const dynq_weight *weight, size_t m, const float *x, size_t x_stride, dynq_scheme scheme,
                            dynq_granularity granularity, const dynq_epilogue *epilogue, const dynq_threads *threads,
                            float *y, size_t y_stride) {
  size_t count;
  dynq_gemm gemm = {.weight = weight, .m = m, .y = y, .y_stride = y_stride};
  if (weight == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "weight is NULL");
  }
  const size_t n = weight->info.n, k = weight->info.k;
  DYNQ_TRY(dynq_check_matrix("x", x, m, k, x_stride, sizeof *x));
  DYNQ_TRY(dynq_check_scheme(scheme));
  DYNQ_TRY(dynq_check_granularity(granularity));
  DYNQ_TRY(dynq_check_matrix("y", y, m, n, y_stride, sizeof *y));
  if (epilogue != NULL) {
    DYNQ_TRY(check_epilogue(epilogue, m, n, y, y_stride));
    gemm.epilogue = *epilogue;
  }
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&gemm.kernels));
  static const float nothing = 0.0f; /* K = 0: x may be NULL */
  gemm.source = (dynq_lhs_source){
      .x = k != 0 ? x : &nothing, .x_stride = k != 0 ? x_stride : 0, .scheme = scheme, .per_row = true};
  if (granularity == DYNQ_PER_TENSOR) {
    dynq_lhs_use_tensor_range(&gemm.source, gemm.kernels, threads, count, m, k);
  }
  return dynq_gemm_run(&gemm, threads, count);
}

dynq_status dynq_gemm_s32(const dynq_weight *weight, size_t m, const void *q, size_t q_stride, dynq_type type,
                          dynq_granularity granularity, const int32_t *zero_point, const dynq_threads *threads,
                          int32_t *acc, size_t acc_stride) {
  size_t count;
  dynq_gemm gemm = {.weight = weight, .m = m, .acc = acc, .acc_stride = acc_stride};
  static const uint8_t nothing = 0; /* K = 0 */
  if (weight == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "weight is NULL");
  }
  const size_t n = weight->info.n, k = weight->info.k;
  DYNQ_TRY(dynq_check_matrix("q", q, m, k, q_stride, 1));
  DYNQ_TRY(dynq_check_type(type));
  DYNQ_TRY(dynq_check_granularity(granularity));
  DYNQ_TRY(dynq_check_zero_points("zero_point", zero_point, dynq_blocks(granularity, m), type));
  DYNQ_TRY(dynq_check_matrix("acc", acc, m, n, acc_stride, sizeof *acc));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&gemm.kernels));
  gemm.source = (dynq_lhs_source){.q = k != 0 ? q : &nothing,
                                  .q_stride = k != 0 ? q_stride : 0,
                                  .type = type,
                                  .per_row = granularity == DYNQ_PER_ROW,
                                  .q_zero_point = zero_point};
  return dynq_gemm_run(&gemm, threads, count);
}
