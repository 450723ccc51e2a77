/*
 * Softmax of a row and its logarithm, written once over the abstraction of vec_<isa>.h, which is included first. The
 * maximum and sums are taken in the order of reduce.h; a NaN, which the maximum lets vanish, comes back through x - max.
 */
#ifndef DYNQ_SOFTMAX_H
#define DYNQ_SOFTMAX_H

#include "reduce.h"

/* y = x * scale + mask (NULL: none); returns the largest. */
static float softmax_prepare(size_t n, const float *x, float scale, const float *mask, float *y) {
  const vf factor = vf_set1(scale), least = vf_set1(-INFINITY);
  vf lanes[REDUCE_VECTORS];
  EACH_LANES { lanes[v] = least; }
  size_t i = 0;
  for (; i + REDUCE_LANES <= n; i += REDUCE_LANES) {
    EACH_LANES {
      const size_t at = i + v * V_LANES;
      vf t = vf_mul(vf_load(x + at), factor);
      t = mask != NULL ? vf_add(t, vf_load(mask + at)) : t;
      vf_store(y + at, t);
      lanes[v] = reduce_two(DYNQ_REDUCTION_MAX, lanes[v], t);
    }
  }
  for (size_t at = i; at < n; at += V_LANES) {
    const size_t left = n - at < V_LANES ? n - at : V_LANES;
    vf t = vf_mul(reduce_load(x + at, left, 0, least), factor);
    t = mask != NULL ? vf_add(t, reduce_load(mask + at, left, 0, least)) : t;
    if (left == V_LANES) {
      vf_store(y + at, t);
    } else {
      vf_store_n(y + at, left, t);
    }
  }
  if (i < n) {
    EACH_LANES { lanes[v] = reduce_two(DYNQ_REDUCTION_MAX, lanes[v], reduce_load(y + i, n - i, v, least)); }
  }
  return reduce_lanes(DYNQ_REDUCTION_MAX, lanes);
}

/* The sum of e^(x - max). y (NULL: unwanted) becomes e^(x - max), or x - max where `logarithm`; it may be x. */
V_INLINE float softmax_sum(const bool logarithm, size_t n, const float *x, float max, float *y) {
  const vf largest = vf_set1(max), least = vf_set1(-INFINITY);
  vf lanes[REDUCE_VECTORS];
  EACH_LANES { lanes[v] = vf_set1(0.0f); }
  size_t i = 0;
  for (; i + REDUCE_LANES <= n; i += REDUCE_LANES) {
    EACH_LANES {
      const vf d = vf_sub(vf_load(x + i + v * V_LANES), largest), e = v_exp(d);
      lanes[v] = vf_add(lanes[v], e);
      if (y != NULL) {
        vf_store(y + i + v * V_LANES, logarithm ? d : e);
      }
    }
  }
  if (i < n) { /* e^(-inf - max) is 0 */
    EACH_LANES {
      const size_t first = i + v * V_LANES;
      const vf d = vf_sub(reduce_load(x + i, n - i, v, least), largest), e = v_exp(d);
      lanes[v] = vf_add(lanes[v], e);
      if (y != NULL && first + V_LANES <= n) {
        vf_store(y + first, logarithm ? d : e);
      } else if (y != NULL && first < n) {
        vf_store_n(y + first, n - first, logarithm ? d : e);
      }
    }
  }
  return reduce_lanes(DYNQ_REDUCTION_SUM, lanes);
}

static void vector_softmax(size_t n, const float *x, float scale, const float *mask, float *y) {
  const float max = softmax_prepare(n, x, scale, mask, y);
  const vf inverse = vf_set1(1.0f / softmax_sum(false, n, y, max, y)), nan = vi_as_f(vi_set1(V_NAN));
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    vf_store(y + i, vf_replace_nan(vf_mul(vf_load(y + i), inverse), nan));
  }
  if (i < n) {
    vf_store_n(y + i, n - i, vf_replace_nan(vf_mul(vf_load_n(y + i, n - i), inverse), nan));
  }
}

static void vector_log_softmax(size_t n, const float *x, float *y) {
  const float max = reduce_row(DYNQ_REDUCTION_MAX, n, x);
  const vf log = v_log(vf_set1(softmax_sum(true, n, x, max, y))), nan = vi_as_f(vi_set1(V_NAN));
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    vf_store(y + i, vf_replace_nan(vf_sub(vf_load(y + i), log), nan));
  }
  if (i < n) {
    vf_store_n(y + i, n - i, vf_replace_nan(vf_sub(vf_load_n(y + i, n - i), log), nan));
  }
}

static float vector_log_sum_exp(size_t n, const float *x) {
  const float max = reduce_row(DYNQ_REDUCTION_MAX, n, x);
  if (!(max - max == 0.0f)) { /* an infinity, which is the result, or the NaN */
    return max;
  }
  return max + vf_first(v_log(vf_set1(softmax_sum(true, n, x, max, NULL))));
}

#endif
