/*
 * dynq_quantize_f32, dynq_quantize_dynamic_f32 and dynq_dequantize_f32: whole matrices, in parallel by rows.
 */
#include "../base/alloc.h"
#include "../base/arguments.h"
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "qparams.h"
#include "range.h"

#include <math.h>
#include <stdatomic.h>

typedef struct quantize_job {
  const dynq_kernels *kernels;
  size_t m, k, parts;
  const float *x;
  size_t x_stride;
  dynq_scheme scheme;
  dynq_type type;
  bool per_row; /* where not, scale and zero_point have one element for all */
  bool choose;  /* compute scale and zero_point of each row */
  bool finite;  /* x was looked through already */
  const float *scale;
  const int32_t *zero_point;
  float *new_scale;
  int32_t *new_zero_point;
  uint8_t *q;
  size_t q_stride;
  _Atomic bool nonfinite;
} quantize_job;

static bool choose_row(const quantize_job *j, size_t row) {
  float lo, hi;
  if (!dynq_row_range(j->kernels, j->k, j->x + row * j->x_stride, &lo, &hi)) {
    return false;
  }
  dynq_qparams(lo, hi, j->scheme, j->type, &j->new_scale[row], &j->new_zero_point[row]);
  return true;
}

/* A user's scale may lead far outside of what the kernels are given otherwise: a NaN or an infinity in x is
 * found here. */
static bool row_is_finite(const quantize_job *j, size_t row) {
  float lo, hi;
  return j->finite || dynq_row_range(j->kernels, j->k, j->x + row * j->x_stride, &lo, &hi);
}

static void quantize_part(void *arg, size_t index) {
  quantize_job *j = arg;
  size_t row, end;
  int32_t low, high;
  dynq_integer_range(j->scheme, j->type, &low, &high);
  dynq_share(j->m, j->parts, index, &row, &end);
  for (; row < end && !dynq_interrupted(); row++) {
    if (!(j->choose ? choose_row(j, row) : row_is_finite(j, row))) {
      atomic_store(&j->nonfinite, true);
      return;
    }
    const size_t block = j->per_row ? row : 0;
    for (size_t i = 0; i < j->k && !(i != 0 && dynq_interrupted()); i += DYNQ_PIECE) {
      j->kernels->vector.quantize(dynq_piece(j->k, i), j->x + row * j->x_stride + i, j->scale[block],
                                  j->zero_point[block], low, high, j->q + row * j->q_stride + i);
    }
  }
}

static dynq_status quantize_run(quantize_job *job, const dynq_threads *threads) {
  dynq_parallel(threads, job->parts, quantize_part, job, job->parts);
  return atomic_load(&job->nonfinite) ? dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity") : DYNQ_OK;
}

/* The checks that both functions share; fills what they have in common. */
static dynq_status quantize_prepare(quantize_job *job, dynq_granularity granularity, const dynq_threads *threads,
                                    void *q) {
  size_t count;
  DYNQ_TRY(dynq_check_scheme(job->scheme));
  DYNQ_TRY(dynq_check_granularity(granularity));
  DYNQ_TRY(dynq_check_type(job->type));
  DYNQ_TRY(dynq_check_matrix("x", job->x, job->m, job->k, job->x_stride, sizeof *job->x));
  DYNQ_TRY(dynq_check_matrix("q", q, job->m, job->k, job->q_stride, 1));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&job->kernels));
  static const float no_x = 0.0f;
  static uint8_t no_q;
  job->q = q;
  if (job->k == 0) { /* the pointers may be NULL */
    job->x = &no_x;
    job->q = &no_q;
    job->x_stride = job->q_stride = 0;
  }
  job->per_row = granularity == DYNQ_PER_ROW;
  job->m = job->k != 0 || job->per_row ? job->m : 0; /* any number of empty rows takes no time */
  job->parts = dynq_pass_workers(count, job->m, dynq_size_mul(job->m, dynq_size_mul(job->k, sizeof *job->x)));
  return DYNQ_OK;
}

dynq_status dynq_quantize_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_scheme scheme,
                              dynq_granularity granularity, dynq_type type, const float *scale,
                              const int32_t *zero_point, const dynq_threads *threads, void *q, size_t q_stride) {
  quantize_job job = {.m = m,
                      .k = k,
                      .x = x,
                      .x_stride = x_stride,
                      .scheme = scheme,
                      .type = type,
                      .scale = scale,
                      .zero_point = zero_point,
                      .q_stride = q_stride};
  DYNQ_TRY(quantize_prepare(&job, granularity, threads, q));
  const size_t blocks = dynq_blocks(granularity, m);
  DYNQ_TRY(dynq_check_scales("scale", scale, blocks));
  DYNQ_TRY(dynq_check_array("zero_point", zero_point, blocks, sizeof *zero_point));
  DYNQ_TRY(dynq_check_zero_points("zero_point", zero_point, blocks, type));
  return quantize_run(&job, threads);
}

dynq_status dynq_quantize_dynamic_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_scheme scheme,
                                      dynq_granularity granularity, dynq_type type, const dynq_threads *threads,
                                      void *q, size_t q_stride, float *scale, int32_t *zero_point) {
  quantize_job job = {.m = m,
                      .k = k,
                      .x = x,
                      .x_stride = x_stride,
                      .scheme = scheme,
                      .type = type,
                      .scale = scale,
                      .zero_point = zero_point,
                      .new_scale = scale,
                      .new_zero_point = zero_point,
                      .q_stride = q_stride};
  DYNQ_TRY(quantize_prepare(&job, granularity, threads, q));
  const size_t blocks = dynq_blocks(granularity, m);
  DYNQ_TRY(dynq_check_array("scale", scale, blocks, sizeof *scale));
  DYNQ_TRY(dynq_check_array("zero_point", zero_point, blocks, sizeof *zero_point));
  job.choose = job.per_row;
  if (!job.per_row) {
    float lo, hi;
    if (!dynq_tensor_range(job.kernels, threads, job.parts, m, k, x, x_stride, &lo, &hi)) {
      return dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity");
    }
    job.finite = true;
    DYNQ_TRY(dynq_choose_qparams(1, &lo, &hi, scheme, type, scale, zero_point));
  }
  return quantize_run(&job, threads);
}

typedef struct dequantize_job {
  const dynq_kernels *kernels;
  size_t m, k, parts;
  const uint8_t *q;
  size_t q_stride;
  bool per_row, q_signed;
  const float *scale;
  const int32_t *zero_point;
  float *x;
  size_t x_stride;
} dequantize_job;

static void dequantize_part(void *arg, size_t index) {
  const dequantize_job *j = arg;
  size_t row, end;
  dynq_share(j->m, j->parts, index, &row, &end);
  for (; row < end && !dynq_interrupted(); row++) {
    const size_t block = j->per_row ? row : 0;
    for (size_t i = 0; i < j->k && !(i != 0 && dynq_interrupted()); i += DYNQ_PIECE) {
      j->kernels->vector.dequantize(dynq_piece(j->k, i), j->q + row * j->q_stride + i, j->q_signed, j->scale[block],
                                    j->zero_point[block], j->x + row * j->x_stride + i);
    }
  }
}

dynq_status dynq_dequantize_f32(size_t m, size_t k, const void *q, size_t q_stride, dynq_granularity granularity,
                                dynq_type type, const float *scale, const int32_t *zero_point,
                                const dynq_threads *threads, float *x, size_t x_stride) {
  dequantize_job job = {.m = m,
                        .k = k,
                        .q = q,
                        .q_stride = q_stride,
                        .per_row = granularity == DYNQ_PER_ROW,
                        .q_signed = type == DYNQ_S8,
                        .scale = scale,
                        .zero_point = zero_point,
                        .x = x,
                        .x_stride = x_stride};
  const size_t blocks = dynq_blocks(granularity, m);
  size_t count;
  DYNQ_TRY(dynq_check_granularity(granularity));
  DYNQ_TRY(dynq_check_type(type));
  DYNQ_TRY(dynq_check_matrix("q", q, m, k, q_stride, 1));
  DYNQ_TRY(dynq_check_scales("scale", scale, blocks));
  DYNQ_TRY(dynq_check_array("zero_point", zero_point, blocks, sizeof *zero_point));
  DYNQ_TRY(dynq_check_zero_points("zero_point", zero_point, blocks, type));
  DYNQ_TRY(dynq_check_matrix("x", x, m, k, x_stride, sizeof *x));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&job.kernels));
  job.parts = dynq_pass_workers(count, m, dynq_size_mul(m, dynq_size_mul(k, sizeof *x)));
  if (m != 0 && k != 0) {
    dynq_parallel(threads, job.parts, dequantize_part, &job, job.parts);
  }
  return DYNQ_OK;
}
