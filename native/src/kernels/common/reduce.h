/*
 * Reductions of a row, written once over the abstraction of vec_<isa>.h, which is included first.
 *
 * The order is one everywhere. Element i goes to lane i mod 16 of 16 lanes, each lane in order from the neutral value.
 * Then lanes 0 to 7 take in lanes 8 to 15, 0 to 3 take in 4 to 7, and so on down to lane 0.
 */
#ifndef DYNQ_REDUCE_H
#define DYNQ_REDUCE_H

#include "../kernels.h"

#include "activations.h"

#include <math.h>

enum { REDUCE_LANES = 16, REDUCE_VECTORS = REDUCE_LANES / V_LANES };

#define EACH_LANES _Pragma("GCC unroll 16") for (size_t v = 0; v < REDUCE_VECTORS; v++)

V_INLINE float reduce_neutral(const dynq_reduction kind) {
  return kind == DYNQ_REDUCTION_MIN    ? INFINITY
         : kind == DYNQ_REDUCTION_MAX  ? -INFINITY
         : kind == DYNQ_REDUCTION_PROD ? 1.0f
                                       : 0.0f;
}

/* Combines two lanes, or a lane and a value. */
V_INLINE vf reduce_two(const dynq_reduction kind, vf a, vf b) {
  switch (kind) {
  case DYNQ_REDUCTION_MIN:
    return vf_min(b, a); /* where b is NaN, a */
  case DYNQ_REDUCTION_MAX:
    return vf_max(b, a);
  case DYNQ_REDUCTION_PROD:
    return vf_mul(a, b);
  case DYNQ_REDUCTION_SUM:
  case DYNQ_REDUCTION_SUM_ABS:
  case DYNQ_REDUCTION_SUM_SQUARE:
    break;
  }
  return vf_add(a, b);
}

V_INLINE vf reduce_value(const dynq_reduction kind, vf x) {
  return kind == DYNQ_REDUCTION_SUM_ABS ? v_abs(x) : kind == DYNQ_REDUCTION_SUM_SQUARE ? vf_mul(x, x) : x;
}

/* The 16 lanes to one. */
V_INLINE float reduce_lanes(const dynq_reduction kind, vf *lanes) {
#pragma GCC unroll 4
  for (size_t half = REDUCE_VECTORS / 2; half != 0; half /= 2) {
#pragma GCC unroll 8
    for (size_t v = 0; v < half; v++) {
      lanes[v] = reduce_two(kind, lanes[v], lanes[v + half]);
    }
  }
  vf r = lanes[0];
#if defined(DYNQ_VEC_AVX512_H)
  r = reduce_two(kind, r, vf_swap8(r));
#endif
#if defined(DYNQ_VEC_AVX512_H) || defined(DYNQ_VEC_AVX2_H)
  r = reduce_two(kind, r, vf_swap4(r));
#endif
#if !defined(DYNQ_VEC_SCALAR_H)
  r = reduce_two(kind, r, vf_swap2(r));
  r = reduce_two(kind, r, vf_swap1(r));
#endif
  return vf_first(r);
}

/* Vector v of the 16 values from p on, of which `left` are there; the others are `missing`. */
V_INLINE vf reduce_load(const float *p, size_t left, size_t v, vf missing) {
  const size_t first = v * V_LANES;
  return left >= first + V_LANES ? vf_load(p + first)
         : left > first          ? vf_load_or(p + first, left - first, missing)
                                 : missing;
}

V_INLINE float reduce_row(const dynq_reduction kind, size_t n, const float *x) {
  const bool ordered = kind == DYNQ_REDUCTION_MIN || kind == DYNQ_REDUCTION_MAX; /* would let a NaN vanish */
  const vf neutral = vf_set1(reduce_neutral(kind));
  vf lanes[REDUCE_VECTORS];
  vm nan = vf_unordered(neutral, neutral);
  EACH_LANES { lanes[v] = neutral; }
  size_t i = 0;
  for (; i + REDUCE_LANES <= n; i += REDUCE_LANES) {
    EACH_LANES {
      const vf a = vf_load(x + i + v * V_LANES);
      lanes[v] = reduce_two(kind, lanes[v], reduce_value(kind, a));
      nan = ordered ? vm_or(nan, vf_unordered(a, a)) : nan;
    }
  }
  if (i < n) {
    EACH_LANES {
      const vf a = reduce_load(x + i, n - i, v, neutral);
      lanes[v] = reduce_two(kind, lanes[v], reduce_value(kind, a));
      nan = ordered ? vm_or(nan, vf_unordered(a, a)) : nan;
    }
  }
  const float y = vm_any(nan) ? NAN : reduce_lanes(kind, lanes);
  return vf_first(vf_replace_nan(vf_set1(y), vi_as_f(vi_set1(V_NAN))));
}

static float vector_reduce(dynq_reduction kind, size_t n, const float *x) {
  switch (kind) {
  case DYNQ_REDUCTION_MIN:
    return reduce_row(DYNQ_REDUCTION_MIN, n, x);
  case DYNQ_REDUCTION_MAX:
    return reduce_row(DYNQ_REDUCTION_MAX, n, x);
  case DYNQ_REDUCTION_PROD:
    return reduce_row(DYNQ_REDUCTION_PROD, n, x);
  case DYNQ_REDUCTION_SUM_ABS:
    return reduce_row(DYNQ_REDUCTION_SUM_ABS, n, x);
  case DYNQ_REDUCTION_SUM_SQUARE:
    return reduce_row(DYNQ_REDUCTION_SUM_SQUARE, n, x);
  case DYNQ_REDUCTION_SUM:
    break;
  }
  return reduce_row(DYNQ_REDUCTION_SUM, n, x);
}

#endif
