/*
 * Layer norm and RMS norm of a row, written once over the abstraction of vec_<isa>.h, which is included first. Means are
 * sums in the order of reduce.h, divided by float32(n).
 */
#ifndef DYNQ_NORM_H
#define DYNQ_NORM_H

#include "reduce.h"

/* The mean of (x - center)^2, or of x where not `squared`. */
V_INLINE float norm_mean(const bool squared, size_t n, const float *x, float center) {
  const vf c = vf_set1(center);
  vf lanes[REDUCE_VECTORS];
  EACH_LANES { lanes[v] = vf_set1(0.0f); }
  size_t i = 0;
  for (; i + REDUCE_LANES <= n; i += REDUCE_LANES) {
    EACH_LANES {
      const vf a = vf_load(x + i + v * V_LANES), d = vf_sub(a, c);
      lanes[v] = vf_add(lanes[v], squared ? vf_mul(d, d) : a);
    }
  }
  if (i < n) { /* a missing value adds 0 */
    EACH_LANES {
      const vf a = reduce_load(x + i, n - i, v, squared ? c : vf_set1(0.0f)), d = vf_sub(a, c);
      lanes[v] = vf_add(lanes[v], squared ? vf_mul(d, d) : a);
    }
  }
  return reduce_lanes(DYNQ_REDUCTION_SUM, lanes) / (float)n;
}

/* ((x - center) / divisor or * factor) * scale + bias. */
V_INLINE void norm_apply(const bool layer, size_t n, const float *x, float center, float by, const float *scale,
                         const float *bias, float *y) {
  const vf c = vf_set1(center), f = vf_set1(by), nan = vi_as_f(vi_set1(V_NAN));
  for (size_t i = 0; i < n; i += V_LANES) {
    const bool whole = i + V_LANES <= n;
    const size_t left = n - i;
    const vf a = whole ? vf_load(x + i) : vf_load_n(x + i, left);
    vf t = layer ? vf_mul(vf_sub(a, c), f) : vf_div(a, f);
    t = vf_mul(t, whole ? vf_load(scale + i) : vf_load_n(scale + i, left));
    if (bias != NULL) {
      t = vf_add(t, whole ? vf_load(bias + i) : vf_load_n(bias + i, left));
    }
    t = vf_replace_nan(t, nan);
    if (whole) {
      vf_store(y + i, t);
    } else {
      vf_store_n(y + i, left, t);
    }
  }
}

static void vector_layer_norm(size_t n, const float *x, float epsilon, const float *scale, const float *bias, float *y,
                              float *mean, float *inverse) {
  const vf nan = vi_as_f(vi_set1(V_NAN));
  const float center = norm_mean(false, n, x, 0.0f);
  const float variance = norm_mean(true, n, x, center);
  const float factor = 1.0f / vf_first(vf_sqrt(vf_set1(variance + epsilon)));
  norm_apply(true, n, x, center, factor, scale, bias, y);
  if (mean != NULL) {
    *mean = vf_first(vf_replace_nan(vf_set1(center), nan));
  }
  if (inverse != NULL) {
    *inverse = vf_first(vf_replace_nan(vf_set1(factor), nan));
  }
}

static void vector_rms_norm(size_t n, const float *x, float epsilon, const float *scale, float *y) {
  const float mean = norm_mean(true, n, x, 0.0f);
  norm_apply(false, n, x, 0.0f, vf_first(vf_sqrt(vf_set1(mean + epsilon))), scale, NULL, y);
}

#endif
