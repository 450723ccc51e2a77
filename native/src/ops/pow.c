/*
 * Pow. Two kinds of exponents have an exact way in float32: 0.5 (the square root; of -infinity +infinity, of -0 +0) and
 * integers n. x^n for n >= 0 takes the bits of n from the lowest, with r = 1 and s = x at first. A bit that is set
 * makes r = r * s (r = s the first time); then s = s * s. x^-n is 1 / x^n. So x^2 is x * x and x^3 is x * (x * x). Any
 * other exponent y gives e^(y ln x) in double precision, rounded once to float32: within 0.51 ulp. Integers wrap and
 * take exponents >= 0.
 */
#include "doubles.h"
#include "pairs.h"

#define LARGEST_EXPONENT 2147483647.0

typedef struct pow_dtypes {
  dynq_dtype base, exponent;
} pow_dtypes;

/* The number at p; every int64 that is accepted as an exponent is exact. */
static inline double number_at(dynq_dtype dtype, const char *p) {
  switch (dtype) {
  case DYNQ_FLOAT32:
    return (double)*(const float *)(const void *)p;
  case DYNQ_INT64:
    return (double)*(const int64_t *)(const void *)p;
  case DYNQ_INT32:
    return (double)*(const int32_t *)(const void *)p;
  case DYNQ_UINT8:
    return (double)*(const uint8_t *)(const void *)p;
  case DYNQ_INT8:
  case DYNQ_BOOL:
    break;
  }
  return (double)*(const int8_t *)(const void *)p;
}

/* ---- Exponents that are neither 0.5 nor whole ---- */

static float power_real(float x, double exponent) {
  const double size = fabs((double)x);
  if (size == 1.0 && (x > 0.0f || isinf(exponent))) {
    return 1.0f;
  }
  if (x != x || exponent != exponent) {
    return NAN;
  }
  if (isinf(exponent)) {
    return (size > 1.0) == (exponent > 0.0) ? INFINITY : 0.0f;
  }
  if (size == 0.0 || isinf(size)) {
    return (size == 0.0) == (exponent < 0.0) ? INFINITY : 0.0f;
  }
  if (x < 0.0f && exponent != rint(exponent)) {
    return NAN;
  }
  return (float)dynq_exponential(exponent * dynq_logarithm(size)); /* a whole exponent that comes here is even */
}

static inline bool is_whole(double exponent) {
  return fabs(exponent) <= LARGEST_EXPONENT && exponent == rint(exponent);
}

static inline float power_float(float x, double exponent) {
  if (exponent == 0.5) {
    return x == -INFINITY ? INFINITY : dynq_one_nan(sqrtf(x) + 0.0f);
  }
  if (!is_whole(exponent)) {
    return power_real(x, exponent);
  }
  uint64_t bits = (uint64_t)fabs(exponent);
  float r = 1.0f, s = x;
  for (bool first = true; bits != 0; bits >>= 1) {
    if ((bits & 1) != 0) {
      r = first ? s : r * s;
      first = false;
    }
    s = s * s;
  }
  return dynq_one_nan(exponent < 0.0 ? 1.0f / r : r);
}

static inline uint64_t power_integer(uint64_t x, double exponent) {
  uint64_t r = 1;
  for (uint64_t bits = (uint64_t)exponent; bits != 0; bits >>= 1) {
    r *= (bits & 1) != 0 ? x : 1;
    x *= x;
  }
  return r;
}

static void power_any(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {
  const pow_dtypes *dtypes = context;
  for (size_t i = 0; i < n; i++) {
    const ptrdiff_t step = (ptrdiff_t)i;
    void *out = at[0] + step * stride[0];
    const void *base = at[1] + step * stride[1];
    const double exponent = number_at(dtypes->exponent, at[2] + step * stride[2]);
    switch (dtypes->base) {
    case DYNQ_FLOAT32:
      *(float *)out = power_float(*(const float *)base, exponent);
      break;
    case DYNQ_INT64:
      *(int64_t *)out = (int64_t)power_integer((uint64_t)*(const int64_t *)base, exponent);
      break;
    case DYNQ_INT32:
      *(int32_t *)out = (int32_t)power_integer((uint64_t)*(const int32_t *)base, exponent);
      break;
    case DYNQ_UINT8:
      *(uint8_t *)out = (uint8_t)power_integer(*(const uint8_t *)base, exponent);
      break;
    case DYNQ_INT8:
    case DYNQ_BOOL:
      *(int8_t *)out = (int8_t)power_integer((uint64_t)*(const int8_t *)base, exponent);
      break;
    }
  }
}

/* The same for one exponent, in loops that a compiler vectorises. */
#define ONE_EXPONENT(name, EXPRESSION)                                                                                 \
  static void name(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {                          \
    const float *x = (const float *)(const void *)at[1];                                                               \
    float *out = (float *)(void *)at[0];                                                                               \
    (void)context;                                                                                                     \
    (void)stride;                                                                                                      \
    DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                  \
      const float a = x[i];                                                                                            \
      out[i] = EXPRESSION;                                                                                             \
    }                                                                                                                  \
  }
ONE_EXPONENT(square, dynq_one_nan(a *a))
ONE_EXPONENT(cube, dynq_one_nan(a *(a *a)))
ONE_EXPONENT(root, (a == -INFINITY ? INFINITY : dynq_one_nan(sqrtf(a) + 0.0f)))

static dynq_status infer(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Pow, X), DYNQ_SET_NUMERIC));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Pow, Y), DYNQ_SET_NUMERIC));
  return dynq_pairs_shape(node, DYNQ_INPUT(node, Pow, X)->dtype);
}

/* Refuses what has no power among integers. */
static dynq_status check_exponents(const dynq_op_tensor *base, const dynq_op_tensor *exponent) {
  const size_t size = dynq_dtype_size(exponent->dtype);
  for (size_t i = 0; i < exponent->count && base->dtype != DYNQ_FLOAT32; i++) {
    const double e = number_at(exponent->dtype, (const char *)exponent->data + i * size);
    if (!is_whole(e) || e < 0.0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "element %zu of the exponent is %.9g; expected a whole number >= 0",
                       i, e);
    }
  }
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *base = DYNQ_INPUT(node, Pow, X), *exponent = DYNQ_INPUT(node, Pow, Y), *out = node->outputs[0];
  const pow_dtypes dtypes = {base->dtype, exponent->dtype};
  dynq_walk_inner inner = power_any;
  if (out->count == 0) {
    return DYNQ_OK;
  }
  DYNQ_TRY(check_exponents(base, exponent));
  if (base->dtype == DYNQ_FLOAT32 && exponent->count == 1 && base->count == out->count) {
    const double e = number_at(exponent->dtype, exponent->data);
    inner = e == 2.0 ? square : e == 3.0 ? cube : e == 0.5 ? root : power_any;
  }
  return dynq_pairs_run(node, inner, &dtypes);
}

const dynq_op_code dynq_op_Pow = {infer, run};
