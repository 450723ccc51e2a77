/*
 * The vector kernels (kernels.h), written once over the abstraction of vec_<isa>.h, which is included first.
 * DYNQ_VECTOR_KERNELS is the filled struct.
 */
#ifndef DYNQ_VECTOR_H
#define DYNQ_VECTOR_H

#include "../../kernels.h"

#include "activations.h"
#include "cell.h"
#include "finer.h"
#include "matmul_f32.h"
#include "matmul_taps.h"
#include "norm.h"
#include "reduce.h"
#include "softmax.h"
#include "transpose.h"
#include "unary.h"

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
 * rint(x / scale) without a division for most vectors. t = x * (1 / scale) is within |t| 2^-22.4 of x / scale
 * and of its rounding, so within 2^-13.4 where |t| <= 512, and both round to the same integer unless t is
 * that close to a half; then the division is done. Where |t| > 512 every zero-point leads to the same clamp.
 * The bound needs a normal 1 / scale: other scales always divide.
 */
#define NEAR_HALF (0.5f - 0x1p-13f)

V_INLINE vf round_quotient(vf x, vf scale, vf inverse, bool divide) {
  const vf t = vf_mul(x, inverse), rounded = vf_rint(t), d = vf_sub(t, rounded); /* d is exact */
  if (divide || vm_any(vf_lt(vf_set1(NEAR_HALF), vf_max_abs(vf_set1(0.0f), d)))) {
    return vf_rint(vf_div(x, scale));
  }
  return rounded;
}

typedef struct quantizer {
  vf scale, inverse, zero_point, low, high;
  bool divide, check;
  vf *seen; /* where check: NaN in a lane that met a value that is not finite, else 0 */
} quantizer;

/* x - x is 0, or NaN where x is a NaN or an infinity. */
V_INLINE vf checked(const quantizer *z, vf x) {
  if (z->check) {
    *z->seen = vf_add(*z->seen, vf_sub(x, x));
  }
  return x;
}

V_INLINE vi quantized(const quantizer *z, vf x) {
  const vf r = vf_add(round_quotient(x, z->scale, z->inverse, z->divide), z->zero_point);
  return vi_from_f(vf_min(vf_max(r, z->low), z->high)); /* a NaN becomes low, so that no conversion overflows */
}

/* Four vectors at a time, in bytes and by saturation, where no lane comes near a half; d is 1 or more, and so the block
 * is done again, where t does not fit int32. */
V_INLINE size_t quantize_blocks(const quantizer *z, size_t n, const float *x, int16_t zero_point, int8_t low,
                                uint8_t flip, uint8_t *q) {
  size_t i = 0;
  for (; i + 4 * V_LANES <= n; i += 4 * V_LANES) {
    vi r[4];
    vf worst = vf_set1(0.0f);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
      const vf t = vf_mul(checked(z, vf_load(x + i + v * V_LANES)), z->inverse);
      r[v] = vi_round(t);
      worst = vf_max_abs(worst, vf_sub(t, vf_from_i(r[v])));
    }
    if (vm_any(vf_lt(vf_set1(NEAR_HALF), worst))) {
      for (size_t v = 0; v < 4; v++) {
        vi_store_u8(q + i + v * V_LANES, quantized(z, vf_load(x + i + v * V_LANES)));
      }
    } else {
      v_store_clamped(q + i, r[0], r[1], r[2], r[3], zero_point, low, flip);
    }
  }
  return i;
}

V_INLINE bool quantize_all(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                           uint8_t *q, bool check) {
  vf seen = vf_set1(0.0f);
  const int32_t offset = q_max - 127; /* 0 or 128: a uint8 is an int8 with the upper bit flipped */
  const quantizer z = {.scale = vf_set1(scale),
                       .inverse = vf_div(vf_set1(1.0f), vf_set1(scale)),
                       .zero_point = vf_set1((float)zero_point),
                       .low = vf_set1((float)q_min),
                       .high = vf_set1((float)q_max),
                       .check = check,
                       .seen = &seen,
                       .divide = V_LANES == 1 || !(scale >= 0x1p-100f && scale <= 0x1p100f)};
  size_t i = 0;
  if (!z.divide) {
    i = quantize_blocks(&z, n, x, (int16_t)(zero_point - offset), (int8_t)(q_min - offset), (uint8_t)offset, q);
  }
  for (; i + V_LANES <= n; i += V_LANES) {
    vi_store_u8(q + i, quantized(&z, checked(&z, vf_load(x + i))));
  }
  if (i < n) {
    vi_store_u8_n(q + i, n - i, quantized(&z, checked(&z, vf_load_n(x + i, n - i))));
  }
  return !check || !vm_any(vf_unordered(seen, seen));
}

static void vector_quantize(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                            uint8_t *q) {
  (void)quantize_all(n, x, scale, zero_point, q_min, q_max, q, false);
}

static bool vector_quantize_checked(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min,
                                    int32_t q_max, uint8_t *q) {
  return quantize_all(n, x, scale, zero_point, q_min, q_max, q, true);
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
  case DYNQ_ACTIVATION_GELU_TANH:
    return v_gelu_tanh(y);
  case DYNQ_ACTIVATION_GELU: /* in finish() */
  case DYNQ_ACTIVATION_NONE:
    break;
  }
  return y;
}

/* Activation, clamp, and one NaN for all, of W vectors. */
V_INLINE void finish(const size_t W, dynq_activation activation, vf *y, bool clamp, vf low, vf high) {
  const vf nan = vi_as_f(vi_set1(V_NAN));
  if (activation == DYNQ_ACTIVATION_GELU) {
    v_gelu_of(W, y);
  } else {
    EACH_OF(W) { y[w] = activation_of(activation, y[w]); } /* every activation of a NaN is a NaN */
  }
  if (clamp) {
    EACH_OF(W) { y[w] = vf_min(high, vf_max(low, y[w])); } /* a NaN is the second operand and passes */
  }
  EACH_OF(W) { y[w] = vf_replace_nan(y[w], nan); }
}

/* W vectors from i on, or `left` values of one where `partial`. */
V_INLINE void activate_vectors(const size_t W, const bool partial, size_t left, dynq_activation activation,
                               const float *x, float *y) {
  const vf none = vf_set1(0.0f);
  vf a[V_MOST];
  EACH_OF(W) { a[w] = partial ? vf_load_n(x, left) : vf_load(x + w * V_LANES); }
  finish(W, activation, a, false, none, none);
  EACH_OF(W) {
    if (partial) {
      vf_store_n(y, left, a[w]);
    } else {
      vf_store(y + w * V_LANES, a[w]);
    }
  }
}

V_INLINE void activate_all(dynq_activation activation, size_t n, const float *x, float *y) {
  size_t i = 0;
  for (; activation == DYNQ_ACTIVATION_GELU && i + V_MOST * V_LANES <= n; i += V_MOST * V_LANES) {
    activate_vectors(V_MOST, false, 0, activation, x + i, y + i);
  }
  for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
    activate_vectors(2, false, 0, activation, x + i, y + i);
  }
  for (; i + V_LANES <= n; i += V_LANES) {
    activate_vectors(1, false, 0, activation, x + i, y + i);
  }
  if (i < n) {
    activate_vectors(1, true, n - i, activation, x + i, y + i);
  }
}

/* ---- Epilogue ---- */

/* Rows [i, end), R at a time, of W vectors of columns from `j` on, or of the `left` columns that remain where `partial`
 * (W is 1 then). factors: vi_factor of each row's zero-point. */
V_INLINE void epilogue_columns(const dynq_epilogue_tile *t, dynq_activation activation, const int32_t *factors,
                               size_t i, size_t end, size_t j, const size_t R, const size_t W, const bool partial,
                               size_t left) {
#define LOAD_F(p) (partial ? vf_load_n((p), left) : vf_load(p))
#define LOAD_I(p) (partial ? vi_load_n((p), left) : vi_load(p))
#define EACH_VECTOR _Pragma("GCC unroll 8") for (size_t v = 0; v < W; v++)
#define EACH_VALUE _Pragma("GCC unroll 4") for (size_t r = 0; r < R; r++) EACH_VECTOR
  const bool integers = t->acc != NULL, clamp = t->min < t->max;
  const bool zero_points = integers && t->column_zero_point != NULL;
  const vf low = vf_set1(t->min), high = vf_set1(t->max);
  vf scale[V_MOST], bias[V_MOST];
  vi sum[V_MOST], factored[V_MOST], zero_point[V_MOST];
  bool small = true;
  EACH_VECTOR {
    const size_t at = j + v * V_LANES;
    scale[v] = LOAD_F(t->column_scale + at);
    bias[v] = t->bias != NULL ? LOAD_F(t->bias + at) : vf_set1(0.0f);
    sum[v] = integers ? LOAD_I(t->column_sum + at) : vi_set1(0);
    factored[v] = vi_factored(sum[v]);
    zero_point[v] = zero_points ? LOAD_I(t->column_zero_point + at) : vi_set1(0);
    small &= !vi_any(vi_and(vi_add(sum[v], vi_set1(1 << 22)), vi_set1(-(1 << 23)))); /* -2^22 <= sum < 2^22 */
  }
  for (; i + R <= end; i += R) {
    vf y[V_MOST];
    if (integers) {
      EACH_VALUE {
        const size_t row = i + r;
        vi acc = LOAD_I(t->acc + row * t->acc_stride + j + v * V_LANES);
        acc = small ? vi_sub_product(acc, factored[v], factors[row])
                    : vi_sub(acc, vi_mul(vi_set1(t->row_zero_point[row]), sum[v]));
        if (zero_points) {
          acc = vi_sub(acc, vi_mul(vi_set1(t->row_sum[row]), zero_point[v]));
        }
        y[r * W + v] = vf_from_i(acc);
      }
    } else {
      EACH_VALUE { y[r * W + v] = LOAD_F(t->acc_f32 + (i + r) * t->acc_stride + j + v * V_LANES); }
    }
    EACH_VALUE { y[r * W + v] = vf_mul(y[r * W + v], vf_mul(vf_set1(t->row_scale[i + r]), scale[v])); }
    if (t->bias != NULL) {
      EACH_VALUE { y[r * W + v] = vf_add(y[r * W + v], bias[v]); }
    }
    if (t->residual != NULL) {
      EACH_VALUE {
        y[r * W + v] = vf_add(y[r * W + v], LOAD_F(t->residual + (i + r) * t->residual_stride + j + v * V_LANES));
      }
    }
    finish(R * W, activation, y, clamp, low, high);
    EACH_VALUE {
      float *to = t->y + (i + r) * t->y_stride + j + v * V_LANES;
      if (partial) {
        vf_store_n(to, left, y[r * W + v]);
      } else {
        vf_store(to, y[r * W + v]);
      }
    }
  }
#undef EACH_VALUE
#undef EACH_VECTOR
#undef LOAD_F
#undef LOAD_I
}

V_INLINE void epilogue_all(dynq_activation activation, const dynq_epilogue_tile *tile) {
  const dynq_epilogue_tile t = *tile; /* y cannot overlap a copy, so nothing of it is loaded again after a store */
  const size_t R = activation == DYNQ_ACTIVATION_GELU ? V_MOST / 2 : 1; /* its chains are long, and take turns */
  const size_t together = t.m / R * R;
  int32_t factors[DYNQ_MAX_TILE_ROWS];
  size_t j = 0;
  for (size_t i = 0; i < t.m && t.acc != NULL; i++) {
    factors[i] = vi_factor(t.row_zero_point[i]);
  }
  for (; R > 1 && together == 0 && j + V_MOST * V_LANES <= t.n; j += V_MOST * V_LANES) {
    epilogue_columns(&t, activation, factors, 0, t.m, j, 1, V_MOST, false, 0);
  }
  for (; j + 2 * V_LANES <= t.n; j += 2 * V_LANES) {
    epilogue_columns(&t, activation, factors, 0, together, j, R, 2, false, 0);
    if (R > 1 && together < t.m) {
      epilogue_columns(&t, activation, factors, together, t.m, j, 1, 2, false, 0);
    }
  }
  for (; j < t.n; j += V_LANES) {
    if (t.n - j >= V_LANES) {
      epilogue_columns(&t, activation, factors, 0, t.m, j, 1, 1, false, 0);
    } else {
      epilogue_columns(&t, activation, factors, 0, t.m, j, 1, 1, true, t.n - j);
    }
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
      .quantize_checked = vector_quantize_checked,                                                                     \
      .quantize_16 = finer_quantize_16,                                                                                \
      .add_8 = finer_add_8,                                                                                            \
      .add_16 = finer_add_16,                                                                                          \
      .dequantize = vector_dequantize,                                                                                 \
      .epilogue = vector_epilogue,                                                                                     \
      .activate = vector_activate,                                                                                     \
      .matmul = vector_matmul,                                                                                         \
      .matmul_taps = vector_matmul_taps,                                                                               \
      .pack_transposed = vector_pack_transposed,                                                                       \
      .split = vector_split,                                                                                           \
      .reduce = vector_reduce,                                                                                         \
      .log_sum_exp = vector_log_sum_exp,                                                                               \
      .softmax = vector_softmax,                                                                                       \
      .log_softmax = vector_log_softmax,                                                                               \
      .layer_norm = vector_layer_norm,                                                                                 \
      .rms_norm = vector_rms_norm,                                                                                     \
      .unary = vector_unary,                                                                                           \
      .lstm = vector_lstm,                                                                                             \
      .gru = vector_gru,                                                                                               \
  }

#endif
