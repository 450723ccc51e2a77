/*
 * The vector kernels (kernels.h), written once over the abstraction of vec_<isa>.h, which is included first.
 * DYNQ_VECTOR_KERNELS is the filled struct.
 */
#ifndef DYNQ_VECTOR_H
#define DYNQ_VECTOR_H

#include "../kernels.h"

#include "activations.h"
#include "cell.h"
#include "depthwise.h"
#include "finer.h"
#include "matmul_f32.h"
#include "matmul_taps.h"
#include "norm.h"
#include "pool.h"
#include "quantize.h"
#include "quantize_taps.h"
#include "reduce.h"
#include "softmax.h"
#include "transpose.h"
#include "unary.h"

/* ---- Activations ---- */

/* Activations whose chains of operations are long, with their functions: V_MOST vectors take turns. */
#define LONG_ACTIVATIONS(DO)                                                                                           \
  DO(DYNQ_ACTIVATION_SIGMOID, v_sigmoid_of)                                                                            \
  DO(DYNQ_ACTIVATION_TANH, v_tanh_of)                                                                                  \
  DO(DYNQ_ACTIVATION_SILU, v_silu_of)                                                                                  \
  DO(DYNQ_ACTIVATION_GELU, v_gelu_of)                                                                                  \
  DO(DYNQ_ACTIVATION_GELU_TANH, v_gelu_tanh_of)

V_INLINE bool takes_long(dynq_activation activation) {
#define IS(name, function) || activation == name
  return false LONG_ACTIVATIONS(IS);
#undef IS
}

/* One of the others, which finish() does not know. */
V_INLINE vf activation_of(dynq_activation activation, vf y, vf alpha, vf beta) {
  switch (activation) {
  case DYNQ_ACTIVATION_RELU:
    return vf_max(vf_set1(0.0f), y);
  case DYNQ_ACTIVATION_HARD_SWISH:
    return unary_of(DYNQ_UNARY_HardSwish, y, alpha, beta);
  case DYNQ_ACTIVATION_MISH:
    return unary_of(DYNQ_UNARY_Mish, y, alpha, beta);
  case DYNQ_ACTIVATION_HARD_SIGMOID:
    return unary_of(DYNQ_UNARY_HardSigmoid, y, alpha, beta);
  case DYNQ_ACTIVATION_LEAKY_RELU:
    return unary_of(DYNQ_UNARY_LeakyRelu, y, alpha, beta);
#define DO(name, function) case name:
    LONG_ACTIVATIONS(DO)
#undef DO
  case DYNQ_ACTIVATION_NONE:
    break;
  }
  return y;
}

/* Activation, clamp, and one NaN for all, of W vectors. */
V_INLINE void finish(const size_t W, dynq_activation activation, float alpha, float beta, vf *y, bool clamp, vf low,
                     vf high) {
  const vf nan = vi_as_f(vi_set1(V_NAN));
  switch (activation) { /* every activation of a NaN is a NaN */
#define DO(name, function)                                                                                             \
  case name:                                                                                                           \
    function(W, y);                                                                                                    \
    break;
    LONG_ACTIVATIONS(DO)
#undef DO
  default:
    EACH_OF(W) { y[w] = activation_of(activation, y[w], vf_set1(alpha), vf_set1(beta)); }
    break;
  }
  if (clamp) {
    EACH_OF(W) { y[w] = vf_min(high, vf_max(low, y[w])); } /* a NaN is the second operand and passes */
  }
  EACH_OF(W) { y[w] = vf_replace_nan(y[w], nan); }
}

/* W vectors from i on, or `left` values of one where `partial`. */
V_INLINE void activate_vectors(const size_t W, const bool partial, size_t left, dynq_activation activation, float alpha,
                               float beta, const float *x, float *y) {
  const vf none = vf_set1(0.0f);
  vf a[V_MOST];
  EACH_OF(W) { a[w] = partial ? vf_load_n(x, left) : vf_load(x + w * V_LANES); }
  finish(W, activation, alpha, beta, a, false, none, none);
  EACH_OF(W) {
    if (partial) {
      vf_store_n(y, left, a[w]);
    } else {
      vf_store(y + w * V_LANES, a[w]);
    }
  }
}

V_INLINE void activate_all(dynq_activation activation, float alpha, float beta, size_t n, const float *x, float *y) {
  size_t i = 0;
  for (; takes_long(activation) && i + V_MOST * V_LANES <= n; i += V_MOST * V_LANES) {
    activate_vectors(V_MOST, false, 0, activation, alpha, beta, x + i, y + i);
  }
  for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
    activate_vectors(2, false, 0, activation, alpha, beta, x + i, y + i);
  }
  for (; i + V_LANES <= n; i += V_LANES) {
    activate_vectors(1, false, 0, activation, alpha, beta, x + i, y + i);
  }
  if (i < n) {
    activate_vectors(1, true, n - i, activation, alpha, beta, x + i, y + i);
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
    finish(R * W, activation, t->alpha, t->beta, y, clamp, low, high);
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
  const size_t R = takes_long(activation) ? V_MOST / 2 : 1;
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
  DO(DYNQ_ACTIVATION_GELU_TANH)                                                                                        \
  DO(DYNQ_ACTIVATION_HARD_SWISH)                                                                                       \
  DO(DYNQ_ACTIVATION_MISH)                                                                                             \
  DO(DYNQ_ACTIVATION_HARD_SIGMOID)                                                                                     \
  DO(DYNQ_ACTIVATION_LEAKY_RELU)

static void vector_activate(dynq_activation activation, float alpha, float beta, size_t n, const float *x, float *y) {
  switch (activation) {
#define DO(name)                                                                                                       \
  case name:                                                                                                           \
    activate_all(name, alpha, beta, n, x, y);                                                                          \
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
      .range_taps = vector_range_taps,                                                                                 \
      .quantize_taps = vector_quantize_taps,                                                                           \
      .dequantize = vector_dequantize,                                                                                 \
      .epilogue = vector_epilogue,                                                                                     \
      .activate = vector_activate,                                                                                     \
      .matmul = vector_matmul,                                                                                         \
      .depthwise = vector_depthwise,                                                                                   \
      .matmul_taps = vector_matmul_taps,                                                                               \
      .pool = vector_pool,                                                                                             \
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
