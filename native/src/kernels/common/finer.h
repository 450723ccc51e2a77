/*
 * The kernels of inputs in finer steps (docs/numerics.md): loops in portable C, which the flags of each instruction set
 * make vectors of.
 */
#ifndef DYNQ_FINER_H
#define DYNQ_FINER_H

#include <stddef.h>
#include <stdint.h>

/* Adding 1.5 * 2^23 rounds to an integer, ties to even; quotients matter up to 65 535. */
static void finer_quantize_16(size_t n, const float *restrict x, float scale, int32_t zero_point, int32_t least,
                              uint8_t flip, uint8_t *restrict high, uint8_t *restrict low) {
  const float limit = 0x1p17f, integers = 0x1.8p23f;
  for (size_t i = 0; i < n; i++) {
    float t = x[i] / scale;
    t = t < -limit ? -limit : t;
    t = t > limit ? limit : t;
    int32_t q = (int32_t)((t + integers) - integers) + zero_point;
    q = q < least ? least : q;
    q = q > 65535 ? 65535 : q;
    high[i] = (uint8_t)((uint8_t)(q >> 8) ^ flip);
    low[i] = (uint8_t)((uint8_t)q ^ flip);
  }
}

/* Sums and products with the zero-point are below 2^23: float32 holds them and their difference. */
static void finer_add_8(size_t n, const int32_t *restrict acc, int32_t zero_point, const int32_t *restrict column_sum,
                        float scale, const float *restrict column_scale, float *restrict y) {
  const float zero = (float)zero_point;
  for (size_t j = 0; j < n; j++) {
    const float sum = (float)acc[j] - zero * (float)column_sum[j];
    y[j] = y[j] + sum * (scale * column_scale[j]);
  }
}

/* float64 holds every term. */
static void finer_add_16(size_t n, const int32_t *restrict high, const int32_t *restrict low, int32_t zero_point,
                         const int32_t *restrict column_sum, float scale, const float *restrict column_scale,
                         float *restrict y) {
  const double zero = zero_point;
  for (size_t j = 0; j < n; j++) {
    const float sum = (float)(256.0 * high[j] + low[j] - zero * column_sum[j]);
    y[j] = y[j] + sum * (scale * column_scale[j]);
  }
}

#endif
