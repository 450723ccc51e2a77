/*
 * Layer norm and RMS norm of rows, written once over the abstraction of vec_<isa>.h, which is included first. Means are
 * sums in the order of reduce.h, divided by float32(n).
 */
#ifndef DYNQ_NORM_H
#define DYNQ_NORM_H

#include "reduce.h"

enum { NORM_ROWS = V_LANES == 1 ? 1 : 4 };
#define EACH_ROW(R) _Pragma("GCC unroll 4") for (size_t r = 0; r < (R); r++)

/* For R rows, whose sums take turns: the mean of (x - center)^2, or of x where not `squared`. */
V_INLINE void norm_means(const size_t R, const bool squared, size_t n, const float *x, const float *center,
                         float *mean) {
  vf lanes[NORM_ROWS][REDUCE_VECTORS], c[NORM_ROWS];
  EACH_ROW(R) {
    c[r] = vf_set1(squared ? center[r] : 0.0f);
    EACH_LANES { lanes[r][v] = vf_set1(0.0f); }
  }
  size_t i = 0;
  for (; i + REDUCE_LANES <= n; i += REDUCE_LANES) {
    EACH_LANES {
      EACH_ROW(R) {
        const vf a = vf_load(x + r * n + i + v * V_LANES), d = vf_sub(a, c[r]);
        lanes[r][v] = vf_add(lanes[r][v], squared ? vf_mul(d, d) : a);
      }
    }
  }
  EACH_ROW(R) {
    if (i < n) { /* a missing value adds 0 */
      EACH_LANES {
        const vf a = reduce_load(x + r * n + i, n - i, v, c[r]), d = vf_sub(a, c[r]);
        lanes[r][v] = vf_add(lanes[r][v], squared ? vf_mul(d, d) : a);
      }
    }
    mean[r] = reduce_lanes(DYNQ_REDUCTION_SUM, lanes[r]) / (float)n;
  }
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

V_INLINE void layer_norm_rows(const size_t R, size_t n, const float *x, float epsilon, const float *scale,
                              const float *bias, float *y, float *mean, float *inverse) {
  const vf nan = vi_as_f(vi_set1(V_NAN));
  float center[NORM_ROWS], factor[NORM_ROWS];
  norm_means(R, false, n, x, NULL, center);
  norm_means(R, true, n, x, center, factor);
  for (size_t r = 0; r < R; r++) {
    factor[r] = 1.0f / vf_first(vf_sqrt(vf_set1(factor[r] + epsilon)));
    norm_apply(true, n, x + r * n, center[r], factor[r], scale, bias, y + r * n);
    if (mean != NULL) {
      mean[r] = vf_first(vf_replace_nan(vf_set1(center[r]), nan));
    }
    if (inverse != NULL) {
      inverse[r] = vf_first(vf_replace_nan(vf_set1(factor[r]), nan));
    }
  }
}

static void vector_layer_norm(size_t m, size_t n, const float *x, float epsilon, const float *scale, const float *bias,
                              float *y, float *mean, float *inverse) {
  size_t i = 0;
  for (; i + NORM_ROWS <= m; i += NORM_ROWS) {
    layer_norm_rows(NORM_ROWS, n, x + i * n, epsilon, scale, bias, y + i * n, mean != NULL ? mean + i : NULL,
                    inverse != NULL ? inverse + i : NULL);
  }
  for (; i < m; i++) {
    layer_norm_rows(1, n, x + i * n, epsilon, scale, bias, y + i * n, mean != NULL ? mean + i : NULL,
                    inverse != NULL ? inverse + i : NULL);
  }
}

V_INLINE void rms_norm_rows(const size_t R, size_t n, const float *x, float epsilon, const float *scale, float *y) {
  const float zeros[NORM_ROWS] = {0.0f};
  float mean[NORM_ROWS];
  norm_means(R, true, n, x, zeros, mean);
  for (size_t r = 0; r < R; r++) {
    norm_apply(false, n, x + r * n, 0.0f, vf_first(vf_sqrt(vf_set1(mean[r] + epsilon))), scale, NULL, y + r * n);
  }
}

static void vector_rms_norm(size_t m, size_t n, const float *x, float epsilon, const float *scale, float *y) {
  size_t i = 0;
  for (; i + NORM_ROWS <= m; i += NORM_ROWS) {
    rms_norm_rows(NORM_ROWS, n, x + i * n, epsilon, scale, y + i * n);
  }
  for (; i < m; i++) {
    rms_norm_rows(1, n, x + i * n, epsilon, scale, y + i * n);
  }
}

#endif
