/*
 * The activation functions, written once over the abstraction of vec_<isa>.h, which is included first.
 *
 * Each is one fixed sequence of float32 operations, without fused multiply-adds, and so gives the same bits
 * everywhere. The polynomials come from tools/fit_activations.py. Bounds are in ulp of the exact result, measured
 * by tests/native/check_math; docs/activations.md lists them.
 */
#ifndef DYNQ_ACTIVATIONS_H
#define DYNQ_ACTIVATIONS_H

#include "inline.h"

#define V_NAN 0x7fc00000 /* the only NaN that dynq writes */

static const float EXP[] = {0.49999994f, 0.166665152f, 0.041668456f, 0.00836941134f, 0.00138131611f};
static const float TANH[] = {-0.333332807f, 0.133314416f, -0.0537397154f, 0.0206390843f, -0.00570498314f};
static const float ERF[] = {0.128379166f,   -0.37612626f,     0.112835854f,   -0.0268538129f,
                            0.00518832775f, -0.000801019371f, 7.85386146e-05f};
static const float ERF_TAIL[] = {0.000341518957f, 1.12708926f,    0.638144791f,    0.103106774f,
                                 -0.0218380746f,  0.00294766086f, -0.000186379431f};
static const float GELU[] = {0.693147182f,    0.797885954f,     0.318294913f,    0.0363947153f,
                             -0.0048938184f,  7.53773493e-05f,  0.000151763641f, -3.91386529e-05f,
                             4.97817109e-06f, -3.32685516e-07f, 9.25331811e-09f};
static const float LOG[] = {0.333333313f, -0.250008196f, 0.200012267f, -0.166233569f,
                            0.142017573f, -0.131601855f, 0.127615869f, -0.0763450339f};

/* Some functions exist for W vectors at a time: their chains of operations take turns, and none waits for itself. */
#define EACH_OF(W) _Pragma("GCC unroll 8") for (size_t w = 0; w < (W); w++)
enum { V_MOST = 8 }; /* W */

/* y = c[0] + c[1] x + ..., by Horner's rule. */
V_INLINE void v_polynomial_of(const size_t W, const vf *x, vf *y, const float *c, size_t count) {
  EACH_OF(W) { y[w] = vf_set1(c[count - 1]); }
#pragma GCC unroll 16
  for (size_t i = count - 1; i-- > 0;) {
    EACH_OF(W) { y[w] = vf_add(vf_mul(y[w], x[w]), vf_set1(c[i])); }
  }
}

#define V_POLYNOMIAL(x, c) v_polynomial((x), (c), sizeof(c) / sizeof(c)[0])
V_INLINE vf v_polynomial(vf x, const float *c, size_t count) {
  vf y;
  v_polynomial_of(1, &x, &y, c, count);
  return y;
}

V_INLINE vf v_abs(vf x) { return vi_as_f(vi_and(vf_bits(x), vi_set1(0x7fffffff))); }

/* The size of `x`, which has no sign, with the sign of `y`. */
V_INLINE vf v_with_sign(vf x, vf y) {
  return vi_as_f(vi_or(vf_bits(x), vi_and(vf_bits(y), vi_set1((int32_t)0x80000000u))));
}

/* Returns y 2^n, rounded once, for y near 1 and an integer n from -150 to 128. The difference of the bits of `shifted`
 * and of `to_integer` is n, too. It takes two factors, unless there is an instruction. */
V_INLINE vf v_scale(vf y, vf n, vf shifted, vf to_integer) {
#if defined(DYNQ_VEC_AVX512_H)
  (void)shifted;
  (void)to_integer;
  return vf_scale(y, n);
#else
  (void)n;
  const vi exponent = vi_sub(vf_bits(shifted), vf_bits(to_integer));
  const vi half = VI_SHR(exponent, 1), other = vi_sub(exponent, half), bias = vi_set1(127);
  const vf scale = vi_as_f(VI_SHL(vi_add(half, bias), 23)), other_scale = vi_as_f(VI_SHL(vi_add(other, bias), 23));
  return vf_mul(vf_mul(y, scale), other_scale);
#endif
}

/*
 * e^x for -104 <= x <= 89: x = n ln 2 + r with |r| <= 0.35 (Cody and Waite: ln 2 in two parts, n times the first is
 * exact), e^r by polynomial, times 2^n. A NaN passes.
 */
V_INLINE void v_exp_within_of(const size_t W, vf *x) {
  const vf to_integer = vf_set1(0x1.8p23f); /* adding it leaves an integer in the low bits, ties to even */
  vf shifted[V_MOST], n[V_MOST], rest[V_MOST];
  EACH_OF(W) { shifted[w] = vf_add(vf_mul(x[w], vf_set1(0x1.715476p0f)), to_integer); }
  EACH_OF(W) { n[w] = vf_sub(shifted[w], to_integer); }
  EACH_OF(W) { x[w] = vf_sub(x[w], vf_mul(n[w], vf_set1(0x1.63p-1f))); }
  EACH_OF(W) { x[w] = vf_sub(x[w], vf_mul(n[w], vf_set1(-0x1.bd0106p-13f))); }
  v_polynomial_of(W, x, rest, EXP, sizeof EXP / sizeof EXP[0]);
  EACH_OF(W) { rest[w] = vf_mul(vf_mul(x[w], x[w]), rest[w]); }
  EACH_OF(W) { x[w] = vf_add(vf_set1(1.0f), vf_add(x[w], rest[w])); }
  EACH_OF(W) { x[w] = v_scale(x[w], n[w], shifted[w], to_integer); }
}

V_INLINE vf v_exp_within(vf x) {
  v_exp_within_of(1, &x);
  return x;
}

/* e^x over the whole range, denormal results too; +inf from 88.73 on, 0 below -103.97. 1 ulp. */
V_INLINE vf v_exp(vf x) { return v_exp_within(vf_min(vf_set1(89.0f), vf_max(vf_set1(-104.0f), x))); }

/* The same for x <= 0. */
V_INLINE vf v_exp_of_negative(vf x) { return v_exp_within(vf_max(vf_set1(-104.0f), x)); }

/* 1 / (1 + e^-x), from e = e^-|x|, which never overflows: 1 / (1 + e) or e / (1 + e). 3 ulp, in both tails. */
V_INLINE void v_sigmoid_of(const size_t W, vf *x) {
  const vf one = vf_set1(1.0f), zero = vf_set1(0.0f);
  vf e[V_MOST];
  EACH_OF(W) { e[w] = vf_max(vf_set1(-104.0f), vi_as_f(vi_or(vf_bits(x[w]), vi_set1((int32_t)0x80000000u)))); }
  v_exp_within_of(W, e);
  EACH_OF(W) { x[w] = vf_div(vf_select(vf_lt(x[w], zero), e[w], one), vf_add(one, e[w])); }
}

V_INLINE vf v_sigmoid(vf x) {
  v_sigmoid_of(1, &x);
  return x;
}

/* tanh: a polynomial below 0.625, 1 - 2 / (e^2|x| + 1) above. Keeps the sign of 0. 2 ulp. */
V_INLINE void v_tanh_of(const size_t W, vf *x) {
  const vf one = vf_set1(1.0f);
  vf a[V_MOST], z[V_MOST], large[V_MOST], small[V_MOST];
  EACH_OF(W) { a[w] = v_abs(x[w]); }
  EACH_OF(W) { large[w] = vf_min(vf_set1(89.0f), vf_add(a[w], a[w])); }
  v_exp_within_of(W, large);
  EACH_OF(W) { large[w] = vf_div(vf_set1(2.0f), vf_add(large[w], one)); }
  EACH_OF(W) { z[w] = vf_mul(a[w], a[w]); }
  v_polynomial_of(W, z, small, TANH, sizeof TANH / sizeof TANH[0]);
  EACH_OF(W) { small[w] = vf_add(a[w], vf_mul(vf_mul(a[w], z[w]), small[w])); }
  EACH_OF(W) { x[w] = v_with_sign(vf_select(vf_lt(a[w], vf_set1(0.625f)), small[w], vf_sub(one, large[w])), x[w]); }
}

V_INLINE vf v_tanh(vf x) {
  v_tanh_of(1, &x);
  return x;
}

/* erf: x + x P(x^2) below 1, 1 - exp(-Q(|x|)) above; 1 from 4 on. Keeps the sign of 0. 2 ulp. */
V_INLINE vf v_erf(vf x) {
  const vf one = vf_set1(1.0f), a = vf_min(vf_set1(4.0f), v_abs(x)), z = vf_mul(a, a);
  const vf small = vf_add(a, vf_mul(a, V_POLYNOMIAL(z, ERF)));
  const vf large = vf_sub(one, v_exp_within(vf_sub(vf_set1(0.0f), V_POLYNOMIAL(a, ERF_TAIL))));
  return v_with_sign(vf_select(vf_lt(a, one), small, large), x);
}

/* x sigmoid(x). NaN at -inf, as IEEE has it for inf * 0. 4 ulp of max(|y|, 2^-120): below, sigmoid is denormal. */
V_INLINE void v_silu_of(const size_t W, vf *x) {
  vf gate[V_MOST];
  EACH_OF(W) { gate[w] = x[w]; }
  v_sigmoid_of(W, gate);
  EACH_OF(W) { x[w] = vf_mul(x[w], gate[w]); }
}

/*
 * max(x, 0) - |x| exp(-Q(|x|)), exp(-Q(a)) = erfc(a / sqrt(2)) / 2: nothing cancels for x < 0. Under 4 ulp of
 * max(|y|, |x| / 4), and within 1.2e-4 of y for -8 <= x < 0. 0 at -inf.
 */
V_INLINE void v_gelu_of(const size_t W, vf *x) {
  const vf zero = vf_set1(0.0f);
  vf a[V_MOST], tail[V_MOST];
  EACH_OF(W) { a[w] = v_abs(x[w]); }
  v_polynomial_of(W, a, tail, GELU, sizeof GELU / sizeof GELU[0]);
  EACH_OF(W) { tail[w] = vf_max(vf_set1(-104.0f), vf_sub(zero, tail[w])); }
  v_exp_within_of(W, tail);
  EACH_OF(W) { x[w] = vf_sub(vf_max(zero, x[w]), vf_mul(vf_min(vf_set1(16.0f), a[w]), tail[w])); }
}

/*
 * x / 2 * (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). The error of u is one of e^u, so:
 * under 4 ulp of max(|y|, |x| / 4).
 */
V_INLINE void v_gelu_tanh_of(const size_t W, vf *x) {
  vf gate[V_MOST];
  EACH_OF(W) {
    const vf cube = vf_mul(vf_set1(0.0713548163f), vf_mul(x[w], x[w]));
    gate[w] = vf_mul(x[w], vf_add(vf_set1(1.59576912f), cube));
  }
  v_sigmoid_of(W, gate);
  EACH_OF(W) { x[w] = vf_mul(x[w], gate[w]); }
}

/* e^x - 1: r + r^2 P(r) where e^x needs no power of two, so that nothing cancels. */
V_INLINE vf v_expm1(vf x) {
  const vf near = vf_add(x, vf_mul(vf_mul(x, x), V_POLYNOMIAL(x, EXP)));
  return vf_select(vf_lt(v_abs(x), vf_set1(0.34f)), near, vf_sub(v_exp(x), vf_set1(1.0f)));
}

/* n ln 2 + log(1 + f), for f from sqrt(1/2) - 1 to sqrt(2) - 1: f - f^2 / 2 + f^3 P(f), ln 2 in two parts. */
V_INLINE vf v_log_parts(vf n, vf f) {
  const vf z = vf_mul(f, f);
  const vf rest = vf_add(vf_mul(vf_mul(f, z), V_POLYNOMIAL(f, LOG)), vf_mul(n, vf_set1(-0x1.bd0106p-13f)));
  return vf_add(vf_add(f, vf_sub(rest, vf_mul(z, vf_set1(0.5f)))), vf_mul(n, vf_set1(0x1.63p-1f)));
}

/* log: x = 2^n (1 + f). -inf at 0 of either sign, NaN below. */
V_INLINE vf v_log(vf x) {
  const vf zero = vf_set1(0.0f), infinity = vi_as_f(vi_set1(0x7f800000));
  const vm tiny = vf_lt(x, vf_set1(0x1p-126f));
  const vf normal = vf_select(tiny, vf_mul(x, vf_set1(0x1p23f)), x);
  const vi half = vi_set1(0x3f3504f3); /* sqrt(1/2) */
  const vi offset = vi_sub(vf_bits(normal), half);
  const vf n = vf_add(vf_from_i(VI_SHR(offset, 23)), vf_select(tiny, vf_set1(-23.0f), zero));
  const vf m = vi_as_f(vi_add(vi_and(offset, vi_set1(0x7fffff)), half));
  vf y = v_log_parts(n, vf_sub(m, vf_set1(1.0f)));
  y = vf_select(vf_lt(x, infinity), y, x); /* infinity and NaN */
  y = vf_select(
      vf_lt(zero, x), y,
      vf_select(vf_lt(x, zero), vi_as_f(vi_set1(V_NAN)), vf_select(vf_unordered(x, x), x, vf_sub(zero, infinity))));
  return y;
}

/* log(1 + e^x) = max(x, 0) + log(1 + e), e = e^-|x|. */
V_INLINE vf v_softplus(vf x) {
  const vf one = vf_set1(1.0f), zero = vf_set1(0.0f), e = v_exp_of_negative(vf_sub(zero, v_abs(x)));
  const vm few = vf_lt(e, vf_set1(0.41f));
  const vf halved = vf_sub(vf_mul(vf_add(one, e), vf_set1(0.5f)), one);
  const vf log = v_log_parts(vf_select(few, zero, one), vf_select(few, e, halved));
  return vf_add(vf_max(zero, x), log);
}

#endif
