/*
 * The rule of docs/numerics.md written a second time, as plainly as it goes: what the library is compared with.
 * Only the activations beyond relu are the library's own scalar ones; check_math judges those.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "kernels/kernels.h"

/* False if x has a NaN or an infinity. */
bool reference_range(size_t n, const float *x, float *lo, float *hi);
void reference_qparams(float lo, float hi, dynq_scheme scheme, dynq_type type, float *scale, int32_t *zero_point);
void reference_limits(dynq_scheme scheme, dynq_type type, int32_t *low, int32_t *high);
int32_t reference_quantize(float x, float scale, int32_t zero_point, int32_t low, int32_t high);
/* Bias, residual (NULL: none), activation, clamp, one NaN. */
float reference_finish(float y, const float *bias, const float *residual, dynq_activation activation, float alpha,
                       float beta, float min, float max);

/* A weight as plain integers (N, K), minus their zero-point, and scales; NaN if a channel was not finite. */
typedef struct reference_weight {
  size_t n, k;
  int16_t *values;
  float *scale;
} reference_weight;
void reference_weight_f32(reference_weight *weight, size_t n, size_t k, const float *w, size_t row_stride,
                          size_t column_stride);
/* zero_point may be NULL; w is int8. */
void reference_weight_s8(reference_weight *weight, size_t n, size_t k, const int8_t *w, size_t row_stride,
                         size_t column_stride, const float *scale, const int32_t *zero_point);
void reference_weight_free(reference_weight *weight);

/* Exact sum of a[i] * b[i]. */
int64_t reference_dot(size_t k, const int16_t *a, const int16_t *b);
/* True where all of x was finite. */
bool reference_linear(const reference_weight *weight, size_t m, const float *x, size_t x_stride, dynq_scheme scheme,
                      dynq_granularity granularity, const dynq_epilogue *epilogue, float *y, size_t y_stride);

#endif
