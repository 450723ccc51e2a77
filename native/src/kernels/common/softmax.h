/*
 * Softmax of a row and its logarithm, written once over the abstraction of vec_<isa>.h, which is included first. The
 * maximum and sums are taken in the order of reduce.h; a NaN, which the maximum lets vanish, comes back through x - max.
 */
#ifndef DYNQ_SOFTMAX_H
#define DYNQ_SOFTMAX_H

#include "reduce.h"

/* e^d, d <= 0, and 0 below e^-80, which is nothing beside the largest, e^0: denormal numbers, which masks would lead to,
 * take some CPUs a hundred cycles each. */
V_INLINE void softmax_exp_of(const size_t W, vf *d) {
  const vf least = vf_set1(-80.0f);
  vm below[V_MOST];
  EACH_OF(W) { below[w] = vf_lt(d[w], least); }
  EACH_OF(W) { d[w] = vf_max(least, d[w]); }
  v_exp_within_of(W, d);
  EACH_OF(W) { d[w] = vf_select(below[w], vf_set1(0.0f), d[w]); }
}

V_INLINE vf softmax_exp(vf d) {
  softmax_exp_of(1, &d);
  return d;
}

/* y = e^(y - max) of `blocks` times 16 values, W vectors at a time; lanes take them in. */
V_INLINE void softmax_exp_blocks(const size_t W, size_t blocks, vf max, float *y, vf *lanes) {
  for (float *end = y + blocks * REDUCE_LANES; y < end;) {
    for (size_t first = 0; first < (W > REDUCE_VECTORS ? 1 : REDUCE_VECTORS); first += W, y += W * V_LANES) {
      vf e[V_MOST];
      EACH_OF(W) { e[w] = vf_sub(vf_load(y + w * V_LANES), max); }
      softmax_exp_of(W, e);
      EACH_OF(W) {
        vf *lane = &lanes[(first + w) % REDUCE_VECTORS];
        *lane = vf_add(*lane, e[w]);
        vf_store(y + w * V_LANES, e[w]);
      }
    }
  }
}

/* x * scale + mask (NULL: none) of the 16 values from i on, or of those that there are: the others are -infinity. */
V_INLINE void softmax_load(const bool whole, size_t n, size_t i, const float *x, vf scale, const float *mask, vf *t) {
  const vf least = vf_set1(-INFINITY);
  EACH_LANES {
    const size_t first = i + v * V_LANES, left = first < n ? n - first : 0;
    if (whole || left >= V_LANES) {
      t[v] = vf_mul(vf_load(x + first), scale);
      t[v] = mask != NULL ? vf_add(t[v], vf_load(mask + first)) : t[v];
    } else if (left != 0) {
      t[v] = vf_mul(vf_load_n(x + first, left), scale);
      t[v] = vf_keep(mask != NULL ? vf_add(t[v], vf_load_n(mask + first, left)) : t[v], left, least);
    } else {
      t[v] = least;
    }
  }
}

/* The last values, fewer than 16, stay in registers. */
static void softmax_row(size_t n, const float *x, float scale, const float *mask, float *y) {
  const vf factor = vf_set1(scale), nan = vi_as_f(vi_set1(V_NAN));
  const size_t whole = n / REDUCE_LANES * REDUCE_LANES;
  vf lanes[REDUCE_VECTORS], last[REDUCE_VECTORS], t[REDUCE_VECTORS];
  softmax_load(false, n, whole, x, factor, mask, last);
  EACH_LANES { lanes[v] = vf_set1(-INFINITY); }
  for (size_t i = 0; i < whole; i += REDUCE_LANES) {
    softmax_load(true, n, i, x, factor, mask, t);
    EACH_LANES {
      lanes[v] = reduce_two(DYNQ_REDUCTION_MAX, lanes[v], t[v]);
      vf_store(y + i + v * V_LANES, t[v]);
    }
  }
  EACH_LANES { lanes[v] = reduce_two(DYNQ_REDUCTION_MAX, lanes[v], last[v]); }
  const vf max = vf_set1(reduce_lanes(DYNQ_REDUCTION_MAX, lanes));
  EACH_LANES { lanes[v] = vf_set1(0.0f); }
  const size_t blocks = whole / REDUCE_LANES, pairs = V_LANES == 16 ? blocks / 2 * 2 : 0;
  if (V_LANES == 16) { /* a block is one vector */
    softmax_exp_blocks(2, pairs, max, y, lanes);
    softmax_exp_blocks(1, blocks - pairs, max, y + pairs * REDUCE_LANES, lanes);
  } else {
    softmax_exp_blocks(V_LANES == 8 ? 2 : 4, blocks, max, y, lanes);
  }
  if (whole < n) { /* what is missing, -inf, adds 0 */
    EACH_LANES {
      last[v] = softmax_exp(vf_sub(last[v], max));
      lanes[v] = vf_add(lanes[v], last[v]);
    }
  }
  const vf inverse = vf_set1(1.0f / reduce_lanes(DYNQ_REDUCTION_SUM, lanes));
  for (size_t i = 0; i < whole; i += V_LANES) {
    vf_store(y + i, vf_replace_nan(vf_mul(vf_load(y + i), inverse), nan));
  }
  for (size_t v = 0, i = whole; i < n; v++, i += V_LANES) {
    const vf p = vf_replace_nan(vf_mul(last[v], inverse), nan);
    if (n - i >= V_LANES) {
      vf_store(y + i, p);
    } else {
      vf_store_n(y + i, n - i, p);
    }
  }
}

#if defined(DYNQ_VEC_AVX512_H) || defined(DYNQ_VEC_AVX2_H)

enum { SHORT_VECTORS = 4 }; /* that take turns */

/* R rows of up to B times 16 values, which take turns; the same as above. */
V_INLINE void softmax_short_rows(const size_t R, const size_t B, size_t n, const float *x, size_t x_stride, float scale,
                                 const float *mask, float *y, size_t y_stride) {
  enum { ROW = REDUCE_VECTORS };
  const vf factor = vf_set1(scale), nan = vi_as_f(vi_set1(V_NAN));
  vf t[V_MOST], lanes[V_MOST], by[V_MOST];
  EACH_OF(R) {
    EACH_LANES { lanes[w * ROW + v] = vf_set1(-INFINITY); }
#pragma GCC unroll 2
    for (size_t b = 0; b < B; b++) {
      vf *block = t + (w * B + b) * ROW;
      softmax_load(false, n, b * REDUCE_LANES, x + w * x_stride, factor, mask, block);
      EACH_LANES { lanes[w * ROW + v] = reduce_two(DYNQ_REDUCTION_MAX, lanes[w * ROW + v], block[v]); }
    }
  }
  EACH_OF(R) { by[w] = vf_set1(reduce_lanes(DYNQ_REDUCTION_MAX, lanes + w * ROW)); }
  EACH_OF(R * B * ROW) { t[w] = vf_sub(t[w], by[w / (B * ROW)]); }
  softmax_exp_of(R * B * ROW, t);
  EACH_OF(R) {
    EACH_LANES { lanes[w * ROW + v] = vf_set1(0.0f); }
#pragma GCC unroll 2
    for (size_t b = 0; b < B; b++) {
      EACH_LANES { lanes[w * ROW + v] = vf_add(lanes[w * ROW + v], t[(w * B + b) * ROW + v]); }
    }
  }
  EACH_OF(R) { by[w] = vf_set1(1.0f / reduce_lanes(DYNQ_REDUCTION_SUM, lanes + w * ROW)); }
  EACH_OF(R * B * ROW) {
    const size_t first = w % (B * ROW) * V_LANES;
    float *to = y + w / (B * ROW) * y_stride + first;
    const vf p = vf_replace_nan(vf_mul(t[w], by[w / (B * ROW)]), nan);
    if (n >= first + V_LANES) {
      vf_store(to, p);
    } else if (n > first) {
      vf_store_n(to, n - first, p);
    }
  }
}

#endif

static void vector_softmax(size_t m, size_t n, const float *x, size_t x_stride, float scale, const float *mask,
                           float *y, size_t y_stride) {
  size_t i = 0;
#if defined(DYNQ_VEC_AVX512_H) || defined(DYNQ_VEC_AVX2_H)
  const size_t together = SHORT_VECTORS / REDUCE_VECTORS; /* rows */
  for (; n <= REDUCE_LANES && i + together <= m; i += together) {
    softmax_short_rows(together, 1, n, x + i * x_stride, x_stride, scale, mask, y + i * y_stride, y_stride);
  }
#endif
#if defined(DYNQ_VEC_AVX512_H)
  for (; n > REDUCE_LANES && n <= 2 * REDUCE_LANES && i + 2 <= m; i += 2) {
    softmax_short_rows(2, 2, n, x + i * x_stride, x_stride, scale, mask, y + i * y_stride, y_stride);
  }
#endif
  for (; i < m; i++) {
    softmax_row(n, x + i * x_stride, scale, mask, y + i * y_stride);
  }
}

/* The sum of e^(x - max). y (NULL: unwanted) becomes x - max; it may be x. */
static float softmax_sum(size_t n, const float *x, float max, float *y) {
  const vf largest = vf_set1(max), least = vf_set1(-INFINITY);
  vf lanes[REDUCE_VECTORS];
  EACH_LANES { lanes[v] = vf_set1(0.0f); }
  for (size_t i = 0; i < n; i += REDUCE_LANES) {
    EACH_LANES {
      const size_t first = i + v * V_LANES;
      const vf d = vf_sub(reduce_load(x + i, n - i, v, least), largest);
      lanes[v] = vf_add(lanes[v], softmax_exp(d));
      if (y != NULL && first + V_LANES <= n) {
        vf_store(y + first, d);
      } else if (y != NULL && first < n) {
        vf_store_n(y + first, n - first, d);
      }
    }
  }
  return reduce_lanes(DYNQ_REDUCTION_SUM, lanes);
}

static void vector_log_softmax(size_t n, const float *x, float *y) {
  const float max = reduce_row(DYNQ_REDUCTION_MAX, n, x);
  const vf log = v_log(vf_set1(softmax_sum(n, x, max, y))), nan = vi_as_f(vi_set1(V_NAN));
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
  return max + vf_first(v_log(vf_set1(softmax_sum(n, x, max, NULL))));
}

#endif
