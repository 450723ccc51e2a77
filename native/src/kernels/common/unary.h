/*
 * Functions of one value, written once over the abstraction of vec_<isa>.h, which is included first.
 */
#ifndef DYNQ_UNARY_H
#define DYNQ_UNARY_H

#include "../../kernels.h"

#include "activations.h"

V_INLINE vf v_hard_sigmoid(vf x, vf alpha, vf beta) {
  return vf_min(vf_set1(1.0f), vf_max(vf_set1(0.0f), vf_add(vf_mul(alpha, x), beta)));
}

/* alpha (e^to - 1) for a negative x, else x. */
V_INLINE vf v_elu(vf x, vf alpha, vf to) { return vf_select(vf_lt(x, vf_set1(0.0f)), vf_mul(alpha, v_expm1(to)), x); }

V_INLINE vf unary_of(const dynq_unary function, vf x, vf alpha, vf beta) {
  const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
  switch (function) {
  case DYNQ_UNARY_ABS:
    return v_abs(x);
  case DYNQ_UNARY_NEG:
    return vi_as_f(vi_xor(vf_bits(x), vi_set1((int32_t)0x80000000u)));
  case DYNQ_UNARY_SIGN:
    return vf_select(vf_lt(zero, x), one, vf_select(vf_lt(x, zero), vf_set1(-1.0f), vf_add(x, zero)));
  case DYNQ_UNARY_FLOOR:
    return vf_floor(x);
  case DYNQ_UNARY_CEIL:
    return vf_ceil(x);
  case DYNQ_UNARY_ROUND:
    return vf_rint(x);
  case DYNQ_UNARY_SQRT:
    return vf_sqrt(x);
  case DYNQ_UNARY_RECIPROCAL:
    return vf_div(one, x);
  case DYNQ_UNARY_EXP:
    return v_exp(x);
  case DYNQ_UNARY_LOG:
    return v_log(x);
  case DYNQ_UNARY_ERF:
    return v_erf(x);
  case DYNQ_UNARY_SOFTPLUS:
    return v_softplus(x);
  case DYNQ_UNARY_SOFTSIGN:
    return vf_div(x, vf_add(one, v_abs(x)));
  case DYNQ_UNARY_SWISH: /* x sigmoid(alpha x) */
    return vf_mul(x, v_sigmoid(vf_mul(alpha, x)));
  case DYNQ_UNARY_LEAKY_RELU:
    return vf_select(vf_lt(x, zero), vf_mul(alpha, x), x);
  case DYNQ_UNARY_ELU:
    return v_elu(x, alpha, x);
  case DYNQ_UNARY_HARD_SIGMOID:
    return v_hard_sigmoid(x, alpha, beta);
  case DYNQ_UNARY_HARD_SWISH:
    return vf_mul(x, v_hard_sigmoid(x, alpha, beta));
  case DYNQ_UNARY_CLAMP:
    return vf_min(beta, vf_max(alpha, x));
  case DYNQ_UNARY_SELU:
    return vf_mul(beta, v_elu(x, alpha, x));
  case DYNQ_UNARY_CELU:
    return v_elu(x, alpha, vf_div(x, alpha));
  case DYNQ_UNARY_MISH:
    return vf_mul(x, v_tanh(v_softplus(x)));
  case DYNQ_UNARY_THRESHOLD:
    return vf_select(vf_lt(alpha, x), x, vf_mul(zero, vf_max(zero, x))); /* a NaN stays one */
  }
  return x;
}

/* Each function has loops of its own. */
V_INLINE void unary_row(const dynq_unary function, size_t n, float alpha, float beta, const float *x, float *y) {
  const vf a = vf_set1(alpha), b = vf_set1(beta), nan = vi_as_f(vi_set1(V_NAN));
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    vf_store(y + i, vf_replace_nan(unary_of(function, vf_load(x + i), a, b), nan));
  }
  if (i < n) {
    vf_store_n(y + i, n - i, vf_replace_nan(unary_of(function, vf_load_n(x + i, n - i), a, b), nan));
  }
}

static void vector_unary(dynq_unary function, size_t n, float alpha, float beta, const float *x, float *y) {
  switch (function) {
#define DYNQ_UNARY_CASE(name)                                                                                          \
  case DYNQ_UNARY_##name:                                                                                              \
    unary_row(DYNQ_UNARY_##name, n, alpha, beta, x, y);                                                                \
    return;
    DYNQ_EACH_UNARY(DYNQ_UNARY_CASE)
#undef DYNQ_UNARY_CASE
  }
}

#endif
