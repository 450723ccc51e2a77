/*
 * Has the functions of one value in double precision, which the checks compare with. EXACT(op, y) gives y of x, which
 * is no NaN, and of alpha and beta, the op's first two attributes. If a function of kernels/unary.def has none, the
 * checks do not compile.
 */
#ifndef EXACT_H
#define EXACT_H

#include <math.h>

#define EXACT(op, y)                                                                                                   \
  static inline double exact_##op(double x, double alpha, double beta) {                                               \
    (void)alpha;                                                                                                       \
    (void)beta;                                                                                                        \
    return isnan(x) ? x : (y);                                                                                         \
  }

EXACT(Abs, fabs(x))
EXACT(Neg, -x)
EXACT(Sign, x > 0 ? 1 : x < 0 ? -1 : x)
EXACT(Floor, floor(x))
EXACT(Ceil, ceil(x))
EXACT(Round, rint(x))
EXACT(Sqrt, x < 0 ? (double)NAN : sqrt(x))
EXACT(Reciprocal, 1 / x)
EXACT(Exp, exp(x))
EXACT(Log, x < 0 ? (double)NAN : log(x))
EXACT(Erf, erf(x))
EXACT(Softplus, fmax(x, 0) + log1p(exp(-fabs(x))))
EXACT(Softsign, x / (1 + fabs(x)))
EXACT(Swish, x / (1 + exp(-alpha * x)))
EXACT(LeakyRelu, x < 0 ? alpha * x : x)
EXACT(Elu, x < 0 ? alpha * expm1(x) : x)
EXACT(HardSigmoid, fmin(1, fmax(0, alpha *x + beta)))
EXACT(HardSwish, x *fmin(1, fmax(0, x / 6 + 0.5)))
EXACT(Clip, fmin(beta, fmax(alpha, x)))
EXACT(Selu, beta *(x < 0 ? alpha * expm1(x) : x))
EXACT(Celu, x < 0 ? alpha * expm1(x / alpha) : x)
EXACT(Mish, x *tanh(x > 40 ? x : log1p(exp(x))))
EXACT(ThresholdedRelu, x > alpha ? x : 0)
EXACT(Shrink, x<-beta ? x + alpha : x> beta ? x - alpha : 0)
EXACT(Sin, sin(x))
EXACT(Cos, cos(x))
EXACT(Tan, tan(x))
EXACT(Asin, asin(x))
EXACT(Acos, acos(x))
EXACT(Atan, atan(x))
EXACT(Sinh, sinh(x))
EXACT(Cosh, cosh(x))
EXACT(Asinh, asinh(x))
EXACT(Acosh, x < 1 ? (double)NAN : acosh(x))
EXACT(Atanh, fabs(x) > 1 ? (double)NAN : atanh(x))
/* Activations, which have kernels of their own. */
EXACT(Relu, fmax(x, 0))
EXACT(Sigmoid, x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)))
EXACT(Tanh, tanh(x))
EXACT(Silu, exact_Sigmoid(x, 0, 0) * x)
EXACT(Gelu, 0.5 * x * erfc(-x / sqrt(2)))
EXACT(GeluTanh, exact_Sigmoid(2 * sqrt(0.63661977236758134308) * (x + 0.044715 * x * x * x), 0, 0) * x)

/* Returns that many ulp of max(|y|, size) in float32. */
static inline double exact_ulps(double ulps, double y, double size) {
  int exponent;
  (void)frexp(fmax(fmax(fabs(y), size), 0x1p-126), &exponent);
  return ulps * ldexp(1.0, exponent - 24);
}

#define DYNQ_UNARY_DOUBLE(op, ulps, formula) DYNQ_UNARY(op, ulps, 0, formula)
#define DYNQ_UNARY(op, ulps, size, formula)                                                                            \
  static inline double exact_bound_##op(double x, double y) {                                                          \
    (void)x;                                                                                                           \
    return exact_ulps(ulps, y, size);                                                                                  \
  }
#include "kernels/unary.def"

typedef struct exact_function {
  const char *op;
  double (*y)(double x, double alpha, double beta);
  double (*bound)(double x, double y); /* of |got - y| */
} exact_function;

/* Has the order of dynq_unary. */
static const exact_function exact_functions[] = {
#define DYNQ_UNARY(op, ulps, size, formula) {#op, exact_##op, exact_bound_##op},
#include "kernels/unary.def"
};
/* Those that are computed in double precision. */
static const exact_function exact_doubles[] = {
#define DYNQ_UNARY_DOUBLE(op, ulps, formula) {#op, exact_##op, exact_bound_##op},
#include "kernels/unary.def"
};
enum {
  EXACT_FUNCTIONS = sizeof exact_functions / sizeof exact_functions[0],
  EXACT_DOUBLES = sizeof exact_doubles / sizeof exact_doubles[0]
};

#endif
