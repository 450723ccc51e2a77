/*
 * Computes functions in double precision, for trigonometry.c (kernels/unary.def) and pow.c. Each is one fixed sequence
 * of operations that IEEE 754 defines, so the bits are the same everywhere, as those of libm are not. x is no NaN. The
 * relative error is below 2^-36, so one rounding to float32 is within 0.51 ulp.
 */
#ifndef DYNQ_DOUBLES_H
#define DYNQ_DOUBLES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const double DYNQ_PI = 0x1.921fb54442d18p+1;

/* Returns c[0] + c[1] z + ..., by Horner's rule. */
static inline double dynq_series(double z, size_t count, const double *c) {
  double y = c[count - 1];
  for (size_t i = count - 1; i-- > 0;) {
    y = y * z + c[i];
  }
  return y;
}
#define DYNQ_SERIES(z, ...)                                                                                            \
  dynq_series((z), sizeof((const double[]){__VA_ARGS__}) / sizeof(double), (const double[]){__VA_ARGS__})

/* ---- Sine: x = n pi / 2 + r with |r| <= pi / 4, then the power series of sin r or cos r ---- */

/* r for |x| up to 2^20: pi / 2 in two parts, n times the first is exact. Returns n mod 4. */
static inline unsigned dynq_reduce_small(double x, double *r) {
  const double n = rint(x * 0x1.45f306dc9c883p-1);
  *r = (x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34;
  return (unsigned)((int64_t)n & 3);
}

/*
 * Finds r for larger |x| = m 2^e, m an integer of 24 bits. Of 2 / pi the bits from 2^(2 - e) down count, since those above
 * turn m 2^e full circles; 96 of them are exact enough. (M. Payne and R. Hanek, "Radian reduction for trigonometric
 * functions", 1983.)
 */
static inline unsigned dynq_reduce_large(float x, double *r) {
  /* 32 zeros, then the fraction of 2 / pi. */
  static const uint32_t two_over_pi[] = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                         0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561};
  uint32_t bits, window[3];
  memcpy(&bits, &x, sizeof bits);
  const uint64_t m = (bits & 0x7fffff) | 0x800000;
  const unsigned start = (bits >> 23 & 255) - 150 + 30; /* e - 2, behind the zeros; 27 to 134 */
  for (unsigned i = 0; i < 3; i++) {
    const uint64_t two = (uint64_t)two_over_pi[start / 32 + i] << 32 | two_over_pi[start / 32 + i + 1];
    window[i] = (uint32_t)(two << start % 32 >> 32);
  }
  /* A quarter of x / (pi / 2), without its integer, in 2^-64. */
  const uint64_t turn = (m * window[0] << 32) + m * window[1] + (m * window[2] >> 32);
  const uint64_t n = (turn + ((uint64_t)1 << 61)) >> 62;
  const uint64_t rest = turn - (n << 62); /* of two's complement */
  const double size = (double)(rest >> 63 != 0 ? 0 - rest : rest) * 0x1.921fb54442d18p-62;
  const bool negative = (rest >> 63 != 0) != (bits >> 31 != 0);
  *r = negative ? -size : size;
  return (unsigned)(bits >> 31 != 0 ? 0 - n : n) & 3;
}

/* Returns sin(x + quarter * pi / 2) of a float32 x, NaN if x is infinite. */
static inline double dynq_sine(double x, unsigned quarter) {
  double r;
  if (isinf(x)) {
    return (double)NAN;
  }
  if (x == 0.0 && quarter == 0) {
    return x;
  }
  quarter += fabs(x) <= 0x1p20 ? dynq_reduce_small(x, &r) : dynq_reduce_large((float)x, &r);
  const double z = r * r;
  const double sine = r + r * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 - z / 39916800))));
  const double cosine =
      1.0 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z / 479001600)))));
  const double y = (quarter & 1) != 0 ? cosine : sine;
  return (quarter & 2) != 0 ? -y : y;
}

/* ---- The others ---- */

/* Returns atan x: of 1 / |x| above 1, around pi / 4 above tan(pi / 8), by the power series. Keeps the sign of 0. */
static inline double dynq_arctangent(double x) {
  const double size = fabs(x), low = size > 1.0 ? 1.0 / size : size;
  const bool middle = low > 0x1.a827999fcef32p-2;
  const double t = middle ? (low - 1.0) / (low + 1.0) : low;
  const double y = t * DYNQ_SERIES(t * t, 1.0, -1.0 / 3, 1.0 / 5, -1.0 / 7, 1.0 / 9, -1.0 / 11, 1.0 / 13, -1.0 / 15,
                                   1.0 / 17, -1.0 / 19, 1.0 / 21, -1.0 / 23, 1.0 / 25, -1.0 / 27);
  const double of_low = middle ? DYNQ_PI / 4 + y : y;
  return copysign(size > 1.0 ? DYNQ_PI / 2 - of_low : of_low, x);
}

/* Returns e^x: x = n ln 2 + r, ln 2 in two parts, then the power series. Clamps x to -200..200. */
static inline double dynq_exponential(double x) {
  const double within = x > 200.0 ? 200.0 : x < -200.0 ? -200.0 : x, n = rint(within * 0x1.71547652b82fep+0);
  const double r = (within - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
  const uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
  double power;
  memcpy(&power, &bits, sizeof power);
  return power * DYNQ_SERIES(r, 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
                             1.0 / 362880, 1.0 / 3628800);
}

/* Returns (e^x - e^-x) / 2, below 1 by the power series, in which nothing cancels. Keeps the sign of 0. */
static inline double dynq_hyperbolic_sine(double x) {
  if (fabs(x) < 1.0) {
    return x * DYNQ_SERIES(x * x, 1.0, 1.0 / 6, 1.0 / 120, 1.0 / 5040, 1.0 / 362880, 1.0 / 39916800, 1.0 / 6227020800);
  }
  const double e = dynq_exponential(fabs(x));
  return copysign((e - 1.0 / e) / 2, x);
}

/* Returns log f of an f near 1, from s = (f - 1) / (f + 1): 2 atanh s, by the power series. */
static inline double dynq_logarithm_near_1(double s) {
  return 2.0 * s * DYNQ_SERIES(s * s, 1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15);
}

/* Returns log x of a positive, finite x = 2^n f, with f from sqrt(1/2) to sqrt(2). */
static inline double dynq_logarithm(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint64_t from_root = bits - 0x3fe6a09e667f3bcd; /* the bits of sqrt(1/2) */
  const double n = (double)((int64_t)from_root >> 52);
  bits -= from_root >> 52 << 52;
  double f;
  memcpy(&f, &bits, sizeof f);
  return dynq_logarithm_near_1((f - 1.0) / (f + 1.0)) + n * 0x1.62e42fefa39efp-1;
}

/* Returns log(1 + u), -infinity if u is -1, NaN if it is less. */
static inline double dynq_logarithm_of_1_and(double u) {
  if (!(u > -1.0) || isinf(u)) {
    return u == -1.0 ? -(double)INFINITY : u > 0.0 ? u : (double)NAN;
  }
  return u > -0.25 && u < 0.375 ? dynq_logarithm_near_1(u / (2.0 + u)) : dynq_logarithm(1.0 + u);
}

#endif
