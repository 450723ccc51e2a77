/*
 * The vector kernels (kernels.h), written once over the abstraction of vec_<isa>.h, which is included first.
 * DYNQ_VECTOR_KERNELS is the filled struct.
 */
#ifndef DYNQ_VECTOR_H
#define DYNQ_VECTOR_H

#include "../../kernels.h"

#include "activations.h"

#define V_NAN 0x7fc00000 /* the only NaN that dynq writes */

/* ---- Range ---- */

static bool vector_range(size_t n, const float *x, float *lo, float *hi) {
  /* Two pairs, so that one minimum need not wait for the last; a NaN leaves no trace in vf_min and vf_max. */
  vf lo0 = vf_set1(*lo), lo1 = lo0, hi0 = vf_set1(*hi), hi1 = hi0;
  vm nan = vf_unordered(lo0, lo0);
  size_t i = 0;
  for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
    const vf a = vf_load(x + i), b = vf_load(x + i + V_LANES);
    lo0 = vf_min(a, lo0);
    lo1 = vf_min(b, lo1);
    hi0 = vf_max(a, hi0);
    hi1 = vf_max(b, hi1);
    nan = vm_or(nan, vf_unordered(a, b));
  }
  while (i < n) { /* missing lanes are 0, which the range holds anyway */
    const size_t left = n - i;
    const vf a = left >= V_LANES ? vf_load(x + i) : vf_load_n(x + i, left);
    lo0 = vf_min(a, lo0);
    hi0 = vf_max(a, hi0);
    nan = vm_or(nan, vf_unordered(a, a));
    i += left >= V_LANES ? V_LANES : left;
  }
  *lo = vf_reduce_min(vf_min(lo0, lo1));
  *hi = vf_reduce_max(vf_max(hi0, hi1));
  return !vm_any(nan) && *lo >= -3.40282347e38f && *hi <= 3.40282347e38f;
}

/* ---- Quantize, dequantize ---- */

/*
 * rint(x / scale) without a division for most vectors. t = x * (1 / scale) is within |t| 2^-22.9 of x / scale
 * and of its rounding, so within 2^-13.7 where |t| <= 512, and both round to the same integer unless t is
 * that close to a half; then the division is done. Where |t| > 512 every zero-point leads to the same clamp.
 * The bound needs a normal 1 / scale: other scales always divide.
 */
V_INLINE vf round_quotient(vf x, vf scale, vf inverse, bool divide) {
  const vf t = vf_mul(x, inverse), rounded = vf_rint(t), d = vf_sub(t, rounded); /* d is exact */
  const float near_half = 0.5f - 0x1p-12f;
  if (divide || vm_any(vm_or(vf_lt(vf_set1(near_half), d), vf_lt(d, vf_set1(-near_half))))) {
    return vf_rint(vf_div(x, scale));
  }
  return rounded;
}

static void vector_quantize(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                            uint8_t *q) {
  const vf s = vf_set1(scale), inverse = vf_div(vf_set1(1.0f), s), zp = vf_set1((float)zero_point);
  const vf low = vf_set1((float)q_min), high = vf_set1((float)q_max);
  const bool divide = V_LANES == 1 || !(scale >= 0x1p-100f && scale <= 0x1p100f);
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    const vf r = vf_add(round_quotient(vf_load(x + i), s, inverse, divide), zp);
    vi_store_u8(q + i, vi_from_f(vf_min(high, vf_max(low, r))));
  }
  if (i < n) {
    const vf r = vf_add(round_quotient(vf_load_n(x + i, n - i), s, inverse, divide), zp);
    vi_store_u8_n(q + i, n - i, vi_from_f(vf_min(high, vf_max(low, r))));
  }
}

static void vector_dequantize(size_t n, const uint8_t *q, bool q_signed, float scale, int32_t zero_point, float *x) {
  const vf s = vf_set1(scale);
  const vi zp = vi_set1(zero_point);
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    const vi a = q_signed ? vi_load_s8(q + i) : vi_load_u8(q + i);
    vf_store(x + i, vf_mul(vf_from_i(vi_sub(a, zp)), s));
  }
  if (i < n) {
    const vi a = q_signed ? vi_load_s8_n(q + i, n - i) : vi_load_u8_n(q + i, n - i);
    vf_store_n(x + i, n - i, vf_mul(vf_from_i(vi_sub(a, zp)), s));
  }
}

/* ---- Activations ---- */

V_INLINE vf activation_of(dynq_activation activation, vf y) {
  switch (activation) {
  case DYNQ_ACTIVATION_RELU:
    return vf_max(vf_set1(0.0f), y);
  case DYNQ_ACTIVATION_SIGMOID:
    return v_sigmoid(y);
  case DYNQ_ACTIVATION_TANH:
    return v_tanh(y);
  case DYNQ_ACTIVATION_SILU:
    return v_silu(y);
  case DYNQ_ACTIVATION_GELU:
    return v_gelu(y);
  case DYNQ_ACTIVATION_GELU_TANH:
    return v_gelu_tanh(y);
  case DYNQ_ACTIVATION_NONE:
    break;
  }
  return y;
}

/* Activation, clamp, and one NaN for all. */
V_INLINE vf finish(dynq_activation activation, vf y, bool clamp, vf low, vf high) {
  const vm before = vf_unordered(y, y);
  y = activation_of(activation, y);
  if (clamp) {
    y = vf_min(high, vf_max(low, y)); /* a NaN is the second operand and passes */
  }
  return vf_select(vm_or(before, vf_unordered(y, y)), vi_as_f(vi_set1(V_NAN)), y);
}

V_INLINE void activate_all(dynq_activation activation, size_t n, const float *x, float *y) {
  const vf none = vf_set1(0.0f);
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    vf_store(y + i, finish(activation, vf_load(x + i), false, none, none));
  }
  if (i < n) {
    vf_store_n(y + i, n - i, finish(activation, vf_load_n(x + i, n - i), false, none, none));
  }
}

/* ---- Epilogue ---- */

/* V_LANES columns from `j` on, or the `left` ones that remain where `partial`. */
V_INLINE void epilogue_columns(const dynq_epilogue_tile *t, dynq_activation activation, size_t j, bool partial,
                               size_t left) {
#define LOAD_F(p) (partial ? vf_load_n((p), left) : vf_load(p))
#define LOAD_I(p) (partial ? vi_load_n((p), left) : vi_load(p))
  const bool integers = t->acc != NULL, clamp = t->min < t->max;
  const vf column_scale = LOAD_F(t->column_scale + j), low = vf_set1(t->min), high = vf_set1(t->max);
  const vi column_sum = integers ? LOAD_I(t->column_sum + j) : vi_set1(0);
  const bool zero_points = integers && t->column_zero_point != NULL;
  const vi column_zero_point = zero_points ? LOAD_I(t->column_zero_point + j) : vi_set1(0);
  const vf bias = t->bias != NULL ? LOAD_F(t->bias + j) : vf_set1(0.0f);
  for (size_t i = 0; i < t->m; i++) {
    vf y;
    if (integers) {
      vi acc = LOAD_I(t->acc + i * t->acc_stride + j);
      acc = vi_sub(acc, vi_mul(vi_set1(t->row_zero_point[i]), column_sum));
      if (zero_points) {
        acc = vi_sub(acc, vi_mul(vi_set1(t->row_sum[i]), column_zero_point));
      }
      y = vf_from_i(acc);
    } else {
      y = LOAD_F(t->acc_f32 + i * t->acc_stride + j);
    }
    y = vf_mul(y, vf_mul(vf_set1(t->row_scale[i]), column_scale));
    if (t->bias != NULL) {
      y = vf_add(y, bias);
    }
    if (t->residual != NULL) {
      y = vf_add(y, LOAD_F(t->residual + i * t->residual_stride + j));
    }
    y = finish(activation, y, clamp, low, high);
    if (partial) {
      vf_store_n(t->y + i * t->y_stride + j, left, y);
    } else {
      vf_store(t->y + i * t->y_stride + j, y);
    }
  }
#undef LOAD_F
#undef LOAD_I
}

V_INLINE void epilogue_all(dynq_activation activation, const dynq_epilogue_tile *t) {
  size_t j = 0;
  for (; j + V_LANES <= t->n; j += V_LANES) {
    epilogue_columns(t, activation, j, false, 0);
  }
  if (j < t->n) {
    epilogue_columns(t, activation, j, true, t->n - j);
  }
}

/* One loop for each activation, so that none of them asks again for every value. */
#define EACH_ACTIVATION(DO)                                                                                            \
  DO(DYNQ_ACTIVATION_NONE)                                                                                             \
  DO(DYNQ_ACTIVATION_RELU)                                                                                             \
  DO(DYNQ_ACTIVATION_SIGMOID)                                                                                          \
  DO(DYNQ_ACTIVATION_TANH)                                                                                             \
  DO(DYNQ_ACTIVATION_SILU)                                                                                             \
  DO(DYNQ_ACTIVATION_GELU)                                                                                             \
  DO(DYNQ_ACTIVATION_GELU_TANH)

static void vector_activate(dynq_activation activation, size_t n, const float *x, float *y) {
  switch (activation) {
#define DO(name)                                                                                                       \
  case name:                                                                                                           \
    activate_all(name, n, x, y);                                                                                       \
    return;
    EACH_ACTIVATION(DO)
#undef DO
  }
}

static void vector_epilogue(const dynq_epilogue_tile *t) {
  switch (t->activation) {
#define DO(name)                                                                                                       \
  case name:                                                                                                           \
    epilogue_all(name, t);                                                                                             \
    return;
    EACH_ACTIVATION(DO)
#undef DO
  }
}

#define DYNQ_VECTOR_KERNELS                                                                                            \
  {                                                                                                                    \
      .range = vector_range,                                                                                           \
      .quantize = vector_quantize,                                                                                     \
      .dequantize = vector_dequantize,                                                                                 \
      .epilogue = vector_epilogue,                                                                                     \
      .activate = vector_activate,                                                                                     \
  }

#endif
