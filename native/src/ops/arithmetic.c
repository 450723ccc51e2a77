/*
 * Add, Sub, Mul, Div, Mod and PRelu.
 *
 * Integers wrap; a division truncates, by -1 it wraps, and by 0 it is an error that the first such divisor reports.
 */
#include "pairs.h"

#include <string.h>

/* The same operation on unsigned integers, where wrapping is defined; bytes are computed as int. */
#define WRAP32(a, op, b) ((int32_t)((uint32_t)(a)op(uint32_t)(b)))
#define WRAP64(a, op, b) ((int64_t)((uint64_t)(a)op(uint64_t)(b)))

#define EACH_DTYPE(op, name)                                                                                           \
  DYNQ_PAIRS(name##_float32, float, float, float, dynq_one_nan(a op b))                                                \
  DYNQ_PAIRS(name##_int64, int64_t, int64_t, int64_t, WRAP64(a, op, b))                                                \
  DYNQ_PAIRS(name##_int32, int32_t, int32_t, int32_t, WRAP32(a, op, b))                                                \
  DYNQ_PAIRS(name##_uint8, uint8_t, uint8_t, uint8_t, (uint8_t)(a op b))                                               \
  DYNQ_PAIRS(name##_int8, int8_t, int8_t, int8_t, (int8_t)(a op b))
EACH_DTYPE(+, add)
EACH_DTYPE(-, sub)
EACH_DTYPE(*, mul)
#undef EACH_DTYPE

DYNQ_PAIRS(div_float32, float, float, float, dynq_one_nan(a / b))
DYNQ_PAIRS(div_int64, int64_t, int64_t, int64_t, (b == -1 ? WRAP64(0, -, a) : a / b))
DYNQ_PAIRS(div_int32, int32_t, int32_t, int32_t, (b == -1 ? WRAP32(0, -, a) : a / b))
DYNQ_PAIRS(div_uint8, uint8_t, uint8_t, uint8_t, (uint8_t)(a / b))
DYNQ_PAIRS(div_int8, int8_t, int8_t, int8_t, (int8_t)(a / b))

/* The remainder with the sign of a, as C has it, and with that of b, as Python has it. */
static inline int64_t remainder_of(int64_t a, int64_t b) { return b == -1 ? 0 : a % b; }
static inline int64_t modulo(int64_t a, int64_t b) {
  const int64_t r = remainder_of(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

#define EACH_DTYPE(name, function)                                                                                     \
  DYNQ_PAIRS(name##_int64, int64_t, int64_t, int64_t, function(a, b))                                                  \
  DYNQ_PAIRS(name##_int32, int32_t, int32_t, int32_t, (int32_t)function(a, b))                                         \
  DYNQ_PAIRS(name##_uint8, uint8_t, uint8_t, uint8_t, (uint8_t)function(a, b))                                         \
  DYNQ_PAIRS(name##_int8, int8_t, int8_t, int8_t, (int8_t)function(a, b))
EACH_DTYPE(mod, modulo)
EACH_DTYPE(fmod, remainder_of)
#undef EACH_DTYPE
/* The same of floats, with zeros that have the sign of b; fmodf is exact by definition. */
static inline float modulo_float(float a, float b) {
  const float r = fmodf(a, b);
  return dynq_one_nan(r == 0.0f ? copysignf(0.0f, b) : (r < 0.0f) != (b < 0.0f) ? r + b : r);
}
DYNQ_PAIRS(mod_float32, float, float, float, modulo_float(a, b))
DYNQ_PAIRS(fmod_float32, float, float, float, dynq_one_nan(fmodf(a, b)))

DYNQ_PAIRS(prelu_float32, float, float, float, dynq_one_nan(a < 0.0f ? b * a : a))
DYNQ_PAIRS(prelu_int64, int64_t, int64_t, int64_t, (a < 0 ? WRAP64(b, *, a) : a))
DYNQ_PAIRS(prelu_int32, int32_t, int32_t, int32_t, (a < 0 ? WRAP32(b, *, a) : a))

static dynq_status infer(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Add, A), DYNQ_SET_NUMERIC));
  return dynq_pairs_shape(node, DYNQ_INPUT(node, Add, A)->dtype);
}

static dynq_status refuse_zeros(const dynq_op_tensor *divisor) {
  const size_t size = dynq_dtype_size(divisor->dtype);
  static const uint8_t zero[sizeof(int64_t)];
  for (size_t i = 0; i < divisor->count && divisor->dtype != DYNQ_FLOAT32; i++) {
    if (memcmp((const char *)divisor->data + i * size, zero, size) == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "element %zu of input 1 is 0; expected no division by zero", i);
    }
  }
  return DYNQ_OK;
}

static dynq_status run_add(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = DYNQ_FOR_NUMERIC(add);
  return dynq_pairs_run(node, loops[DYNQ_INPUT(node, Add, A)->dtype], NULL);
}

static dynq_status run_sub(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = DYNQ_FOR_NUMERIC(sub);
  return dynq_pairs_run(node, loops[DYNQ_INPUT(node, Sub, A)->dtype], NULL);
}

static dynq_status run_mul(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = DYNQ_FOR_NUMERIC(mul);
  return dynq_pairs_run(node, loops[DYNQ_INPUT(node, Mul, A)->dtype], NULL);
}

static dynq_status run_div(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = DYNQ_FOR_NUMERIC(div);
  DYNQ_TRY(node->outputs[0]->count != 0 ? refuse_zeros(DYNQ_INPUT(node, Div, B)) : DYNQ_OK);
  return dynq_pairs_run(node, loops[DYNQ_INPUT(node, Div, A)->dtype], NULL);
}

const dynq_op_code dynq_op_Add = {infer, run_add};
const dynq_op_code dynq_op_Sub = {infer, run_sub};
const dynq_op_code dynq_op_Mul = {infer, run_mul};
const dynq_op_code dynq_op_Div = {infer, run_div};

static dynq_status infer_mod(dynq_op_node *node) {
  DYNQ_TRY(infer(node));
  const int64_t fmod_is = dynq_op_int(node, DYNQ_ATTR(Mod, fmod));
  if (fmod_is != 0 && fmod_is != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "fmod is %lld; expected 0 or 1", (long long)fmod_is);
  }
  return DYNQ_OK;
}

static dynq_status run_mod(const dynq_op_node *node) {
  static const dynq_walk_inner modulos[] = DYNQ_FOR_NUMERIC(mod);
  static const dynq_walk_inner remainders[] = DYNQ_FOR_NUMERIC(fmod);
  DYNQ_TRY(node->outputs[0]->count != 0 ? refuse_zeros(DYNQ_INPUT(node, Mod, B)) : DYNQ_OK);
  const bool is_modulo = dynq_op_int(node, DYNQ_ATTR(Mod, fmod)) == 0;
  return dynq_pairs_run(node, (is_modulo ? modulos : remainders)[DYNQ_INPUT(node, Mod, A)->dtype], NULL);
}

const dynq_op_code dynq_op_Mod = {infer_mod, run_mod};

/* The slope is broadcast to x, and not x to the slope. */
static dynq_status infer_prelu(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(PRelu, X), DYNQ_SET_FLOAT | DYNQ_SET_INDEX));
  const dynq_op_tensor *x = DYNQ_INPUT(node, PRelu, X);
  size_t rank, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_broadcast(x, DYNQ_INPUT(node, PRelu, slope), &rank, dims));
  bool same = rank == x->rank;
  for (size_t d = 0; d < rank && same; d++) {
    same = dims[d] == x->dims[d];
  }
  return same ? dynq_op_set_like(node, 0, x)
              : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the slope has a larger shape than x; expected one that is "
                                                       "broadcast to x");
}

static dynq_status run_prelu(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = {
      [DYNQ_FLOAT32] = prelu_float32, [DYNQ_INT64] = prelu_int64, [DYNQ_INT32] = prelu_int32};
  return dynq_pairs_run(node, loops[DYNQ_INPUT(node, PRelu, X)->dtype], NULL);
}

const dynq_op_code dynq_op_PRelu = {infer_prelu, run_prelu};
