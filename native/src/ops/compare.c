/*
 * Equal, Less, LessOrEqual, Greater, GreaterOrEqual, And, Or, Xor and Where.
 */
#include "pairs.h"

/* Names as in dynq_dtype; bool is a byte, 0 or 1. */
#define EACH_DTYPE(op, name)                                                                                           \
  DYNQ_PAIRS(name##_float32, uint8_t, float, float, a op b)                                                            \
  DYNQ_PAIRS(name##_int64, uint8_t, int64_t, int64_t, a op b)                                                          \
  DYNQ_PAIRS(name##_int32, uint8_t, int32_t, int32_t, a op b)                                                          \
  DYNQ_PAIRS(name##_uint8, uint8_t, uint8_t, uint8_t, a op b)                                                          \
  DYNQ_PAIRS(name##_int8, uint8_t, int8_t, int8_t, a op b)
EACH_DTYPE(==, equal)
EACH_DTYPE(<, less)
EACH_DTYPE(<=, less_or_equal)
EACH_DTYPE(>, greater)
EACH_DTYPE(>=, greater_or_equal)
#undef EACH_DTYPE
DYNQ_PAIRS(equal_bool, uint8_t, uint8_t, uint8_t, (a != 0) == (b != 0))
DYNQ_PAIRS(and_bool, uint8_t, uint8_t, uint8_t, (uint8_t)((a != 0) & (b != 0)))
DYNQ_PAIRS(or_bool, uint8_t, uint8_t, uint8_t, (uint8_t)((a != 0) | (b != 0)))
DYNQ_PAIRS(xor_bool, uint8_t, uint8_t, uint8_t, (uint8_t)((a != 0) ^ (b != 0)))

static dynq_status infer_equal(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Equal, A), DYNQ_SET_ANY));
  return dynq_pairs_shape(node, DYNQ_BOOL);
}

static dynq_status infer_order(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Equal, A), DYNQ_SET_NUMERIC));
  return dynq_pairs_shape(node, DYNQ_BOOL);
}

static dynq_status infer_logic(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Equal, A), DYNQ_SET_BOOL));
  return dynq_pairs_shape(node, DYNQ_BOOL);
}

/* An op with run_NAME, whose loops are indexed by dtype. */
#define COMPARISON(op_name, check, ...)                                                                                \
  static dynq_status run_##op_name(const dynq_op_node *node) {                                                         \
    static const dynq_walk_inner loops[] = {__VA_ARGS__};                                                              \
    return dynq_pairs_run(node, loops[DYNQ_INPUT(node, op_name, A)->dtype], NULL);                                     \
  }                                                                                                                    \
  const dynq_op_code dynq_op_##op_name = {check, run_##op_name}
#define NUMERIC_LOOPS(name)                                                                                            \
  [DYNQ_FLOAT32] = name##_float32, [DYNQ_INT64] = name##_int64, [DYNQ_INT32] = name##_int32,                           \
  [DYNQ_UINT8] = name##_uint8, [DYNQ_INT8] = name##_int8

COMPARISON(Equal, infer_equal, NUMERIC_LOOPS(equal), [DYNQ_BOOL] = equal_bool);
COMPARISON(Less, infer_order, NUMERIC_LOOPS(less));
COMPARISON(LessOrEqual, infer_order, NUMERIC_LOOPS(less_or_equal));
COMPARISON(Greater, infer_order, NUMERIC_LOOPS(greater));
COMPARISON(GreaterOrEqual, infer_order, NUMERIC_LOOPS(greater_or_equal));
COMPARISON(And, infer_logic, [DYNQ_BOOL] = and_bool);
COMPARISON(Or, infer_logic, [DYNQ_BOOL] = or_bool);
COMPARISON(Xor, infer_logic, [DYNQ_BOOL] = xor_bool);

/* ---- Where: operands are the output, the condition, x and y; their bits are copied ---- */

/* The three first loops are those that a compiler vectorises: neither of x and y, or one of them, is a constant. */
#define CHOOSE(T)                                                                                                      \
  static void choose_##T(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {                    \
    const ptrdiff_t size = (ptrdiff_t)sizeof(T);                                                                       \
    const bool whole = stride[0] == size && stride[1] == 1;                                                            \
    T *out = (T *)(void *)at[0];                                                                                       \
    const uint8_t *condition = (const uint8_t *)at[1];                                                                 \
    const T *x = (const T *)(const void *)at[2], *y = (const T *)(const void *)at[3];                                  \
    (void)context;                                                                                                     \
    if (whole && stride[2] == size && stride[3] == size) {                                                             \
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                \
        const T a = x[i], b = y[i];                                                                                    \
        out[i] = condition[i] != 0 ? a : b;                                                                            \
      }                                                                                                                \
    } else if (whole && stride[2] == size && stride[3] == 0) {                                                         \
      const T b = *y;                                                                                                  \
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                \
        const T a = x[i];                                                                                              \
        out[i] = condition[i] != 0 ? a : b;                                                                            \
      }                                                                                                                \
    } else if (whole && stride[2] == 0 && stride[3] == size) {                                                         \
      const T a = *x;                                                                                                  \
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                \
        const T b = y[i];                                                                                              \
        out[i] = condition[i] != 0 ? a : b;                                                                            \
      }                                                                                                                \
    } else {                                                                                                           \
      for (size_t i = 0; i < n; i++) {                                                                                 \
        const ptrdiff_t at_i = (ptrdiff_t)i;                                                                           \
        const size_t from = at[1][at_i * stride[1]] != 0 ? 2 : 3;                                                      \
        *(T *)(void *)(at[0] + at_i * stride[0]) = *(const T *)(const void *)(at[from] + at_i * stride[from]);         \
      }                                                                                                                \
    }                                                                                                                  \
  }
CHOOSE(float)
CHOOSE(int64_t)
CHOOSE(int32_t)
CHOOSE(uint8_t)

static dynq_status infer_where(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Where, condition), DYNQ_SET_BOOL));
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Where, X), DYNQ_SET_ANY));
  return dynq_pairs_shape(node, DYNQ_INPUT(node, Where, X)->dtype);
}

static dynq_status run_where(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = {[DYNQ_FLOAT32] = choose_float, [DYNQ_INT64] = choose_int64_t,
                                          [DYNQ_INT32] = choose_int32_t, [DYNQ_BOOL] = choose_uint8_t,
                                          [DYNQ_UINT8] = choose_uint8_t, [DYNQ_INT8] = choose_uint8_t};
  dynq_walk walk;
  dynq_walk_begin(&walk, node->outputs[0]);
  for (size_t i = DYNQ_IN(Where, condition); i <= DYNQ_IN(Where, Y); i++) {
    dynq_walk_add(&walk, node->inputs[i]);
  }
  walk.inner = loops[node->outputs[0]->dtype];
  dynq_walk_run(node, &walk);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Where = {infer_where, run_where};
