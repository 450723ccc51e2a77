/*
 * The rule of docs/numerics.md, written a second time.
 */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const dynq_isa_kernels dynq_isa_scalar;

bool reference_range(size_t n, const float *x, float *lo, float *hi) {
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(x[i])) {
      return false;
    }
    *lo = fminf(*lo, x[i]);
    *hi = fmaxf(*hi, x[i]);
  }
  return true;
}

void reference_qparams(float lo, float hi, dynq_scheme scheme, dynq_type type, float *scale, int32_t *zero_point) {
  if (scheme == DYNQ_SYMMETRIC) {
    *scale = fmaxf(hi, -lo) / 127.0f;
  } else {
    *scale = isinf(hi - lo) ? hi / 255.0f - lo / 255.0f : (hi - lo) / 255.0f;
  }
  *scale = *scale == 0.0f ? 1.0f : *scale;
  if (scheme == DYNQ_SYMMETRIC) {
    *zero_point = type == DYNQ_U8 ? 128 : 0;
  } else {
    *zero_point = (int32_t)fminf(fmaxf(rintf(-lo / *scale), 0.0f), 255.0f) - (type == DYNQ_S8 ? 128 : 0);
  }
}

void reference_limits(dynq_scheme scheme, dynq_type type, int32_t *low, int32_t *high) {
  *low = (scheme == DYNQ_SYMMETRIC ? -127 : -128) + (type == DYNQ_U8 ? 128 : 0);
  *high = type == DYNQ_U8 ? 255 : 127;
}

int32_t reference_quantize(float x, float scale, int32_t zero_point, int32_t low, int32_t high) {
  const double q = (double)rintf(x / scale) + zero_point; /* infinite where the quotient is */
  return q < low ? low : q > high ? high : (int32_t)q;
}

static float the_nan(void) {
  const uint32_t bits = 0x7fc00000;
  float y;
  memcpy(&y, &bits, sizeof y);
  return y;
}

static float bounded(float y) { return y > 0.0f ? (y < 1.0f ? y : 1.0f) : 0.0f; }

float reference_finish(float y, const float *bias, const float *residual, dynq_activation activation, float alpha,
                       float beta, float min, float max) {
  y = bias != NULL ? y + *bias : y;
  y = residual != NULL ? y + *residual : y;
  if (isnan(y)) {
    return the_nan();
  }
  if (activation == DYNQ_ACTIVATION_RELU) {
    y = y < 0.0f ? 0.0f : y;
  } else if (activation == DYNQ_ACTIVATION_LEAKY_RELU) {
    y = y < 0.0f ? alpha * y : y;
  } else if (activation == DYNQ_ACTIVATION_HARD_SIGMOID) {
    y = bounded(alpha * y + beta);
  } else if (activation == DYNQ_ACTIVATION_HARD_SWISH) {
    y = y * bounded(1.0f / 6.0f * y + 0.5f);
    y = isnan(y) ? the_nan() : y; /* -infinity times 0 */
  } else if (activation != DYNQ_ACTIVATION_NONE) {
    dynq_isa_scalar.vector.activate(activation, alpha, beta, 1, &y, &y);
  }
  if (min < max) {
    y = y < min ? min : y;
    y = y > max ? max : y;
  }
  return y;
}

static void *allocate(size_t count, size_t size) {
  void *p = calloc(count != 0 ? count : 1, size);
  if (p == NULL) {
    abort();
  }
  return p;
}

static void weight_new(reference_weight *weight, size_t n, size_t k) {
  *weight = (reference_weight){n, k, allocate(n * k, sizeof(int16_t)), allocate(n, sizeof(float))};
}

void reference_weight_free(reference_weight *weight) {
  free(weight->values);
  free(weight->scale);
}

void reference_weight_f32(reference_weight *weight, size_t n, size_t k, const float *w, size_t row_stride,
                          size_t column_stride) {
  weight_new(weight, n, k);
  for (size_t i = 0; i < n; i++) {
    const float *row = w + i * row_stride;
    float lo = 0.0f, hi = 0.0f;
    int32_t zero_point;
    bool finite = true;
    for (size_t j = 0; j < k; j++) {
      finite &= reference_range(1, &row[j * column_stride], &lo, &hi);
    }
    reference_qparams(lo, hi, DYNQ_SYMMETRIC, DYNQ_S8, &weight->scale[i], &zero_point);
    weight->scale[i] = finite ? weight->scale[i] : NAN;
    for (size_t j = 0; j < k && finite; j++) {
      weight->values[i * k + j] = (int16_t)reference_quantize(row[j * column_stride], weight->scale[i], 0, -127, 127);
    }
  }
}

void reference_weight_s8(reference_weight *weight, size_t n, size_t k, const int8_t *w, size_t row_stride,
                         size_t column_stride, const float *scale, const int32_t *zero_point) {
  weight_new(weight, n, k);
  for (size_t i = 0; i < n; i++) {
    weight->scale[i] = scale[i];
    for (size_t j = 0; j < k; j++) {
      const int32_t zp = zero_point != NULL ? zero_point[i] : 0;
      weight->values[i * k + j] = (int16_t)(w[i * row_stride + j * column_stride] - zp);
    }
  }
}

int64_t reference_dot(size_t k, const int16_t *a, const int16_t *b) {
  enum { FITS = 16384 }; /* 255 * 255 * 16384 < 2^31 */
  int64_t sum = 0;
  for (size_t begin = 0; begin < k; begin += FITS) {
    const size_t end = k - begin < FITS ? k : begin + FITS;
    int32_t part = 0;
    for (size_t i = begin; i < end; i++) {
      part += a[i] * b[i];
    }
    sum += part;
  }
  return sum;
}

bool reference_linear(const reference_weight *weight, size_t m, const float *x, size_t x_stride, dynq_scheme scheme,
                      dynq_granularity granularity, const dynq_epilogue *epilogue, float *y, size_t y_stride) {
  const size_t n = weight->n, k = weight->k;
  const dynq_epilogue e = epilogue != NULL ? *epilogue : (dynq_epilogue){0};
  int16_t *q = allocate(k, sizeof *q);
  int32_t low, high, zero_point;
  float lo = 0.0f, hi = 0.0f, scale;
  bool all_finite = true, tensor_finite = true;
  for (size_t i = 0; i < m; i++) {
    tensor_finite &= reference_range(k, x + i * x_stride, &lo, &hi);
  }
  reference_limits(scheme, DYNQ_U8, &low, &high);
  for (size_t i = 0; i < m; i++) {
    const float *row = x + i * x_stride;
    bool finite = tensor_finite;
    if (granularity == DYNQ_PER_ROW) {
      lo = hi = 0.0f;
      finite = reference_range(k, row, &lo, &hi);
    }
    reference_qparams(lo, hi, scheme, DYNQ_U8, &scale, &zero_point);
    for (size_t j = 0; j < k && finite; j++) {
      q[j] = (int16_t)(reference_quantize(row[j], scale, zero_point, low, high) - zero_point);
    }
    for (size_t c = 0; c < n; c++) {
      const float t = (finite ? scale : NAN) * weight->scale[c];
      const int64_t sum = finite ? reference_dot(k, q, weight->values + c * k) : 0;
      y[i * y_stride + c] = reference_finish((float)sum * t, e.bias != NULL ? &e.bias[c] : NULL,
                                             e.residual != NULL ? &e.residual[i * e.residual_stride + c] : NULL,
                                             e.activation, e.alpha, e.beta, e.min, e.max);
    }
    all_finite &= finite;
  }
  free(q);
  return all_finite;
}
