/*
 * Functions of one value, written once over the abstraction of vec_<isa>.h, which is included first.
 */
#ifndef DYNQ_UNARY_H
#define DYNQ_UNARY_H

#include "../kernels.h"

#include "activations.h"

V_INLINE vf v_hard_sigmoid(vf x, vf alpha, vf beta) {
  return vf_min(vf_set1(1.0f), vf_max(vf_set1(0.0f), vf_add(vf_mul(alpha, x), beta)));
}

/* alpha (e^to - 1) for a negative x, else x. */
V_INLINE vf v_elu(vf x, vf alpha, vf to) { return vf_select(vf_lt(x, vf_set1(0.0f)), vf_mul(alpha, v_expm1(to)), x); }

V_INLINE vf unary_of(const dynq_unary function, vf x, vf alpha, vf beta) {
  const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
  switch (function) {
#define DYNQ_UNARY(op, ulps, size, formula)                                                                            \
  case DYNQ_UNARY_##op:                                                                                                \
    return formula;
#include "../unary.def"
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
#define DYNQ_UNARY(op, ulps, size, formula)                                                                            \
  case DYNQ_UNARY_##op:                                                                                                \
    unary_row(DYNQ_UNARY_##op, n, alpha, beta, x, y);                                                                  \
    return;
#include "../unary.def"
  }
}

#endif
