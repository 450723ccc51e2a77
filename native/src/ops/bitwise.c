/*
 * BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot and BitShift. A shift by the number of bits or more gives what many
 * smaller ones would: 0, or the sign if it goes right.
 */
#include "pairs.h"

#define EACH_DTYPE(op, name)                                                                                           \
  DYNQ_PAIRS(name##_int64, int64_t, int64_t, int64_t, a op b)                                                          \
  DYNQ_PAIRS(name##_int32, int32_t, int32_t, int32_t, a op b)                                                          \
  DYNQ_PAIRS(name##_uint8, uint8_t, uint8_t, uint8_t, (uint8_t)(a op b))                                               \
  DYNQ_PAIRS(name##_int8, int8_t, int8_t, int8_t, (int8_t)(a op b))
EACH_DTYPE(&, and)
EACH_DTYPE(|, or)
EACH_DTYPE(^, xor)
#undef EACH_DTYPE

static inline int64_t to_the_left(int64_t a, int64_t b) {
  return b < 0 || b > 63 ? 0 : (int64_t)((uint64_t)a << (uint64_t)b);
}
static inline int64_t to_the_right(int64_t a, int64_t b) {
  const uint64_t sign = a < 0 ? UINT64_MAX : 0, by = b < 0 || b > 63 ? 63 : (uint64_t)b;
  return (int64_t)(((uint64_t)a ^ sign) >> by ^ sign);
}
#define EACH_DTYPE(name, function)                                                                                     \
  DYNQ_PAIRS(name##_int64, int64_t, int64_t, int64_t, function(a, b))                                                  \
  DYNQ_PAIRS(name##_int32, int32_t, int32_t, int32_t, (int32_t)(uint32_t)function(a, b))                               \
  DYNQ_PAIRS(name##_uint8, uint8_t, uint8_t, uint8_t, (uint8_t)function(a, b))                                         \
  DYNQ_PAIRS(name##_int8, int8_t, int8_t, int8_t, (int8_t)(uint8_t)function(a, b))
EACH_DTYPE(left, to_the_left)
EACH_DTYPE(right, to_the_right)
#undef EACH_DTYPE

#define LOOPS(name)                                                                                                    \
  {[DYNQ_INT64] = name##_int64, [DYNQ_INT32] = name##_int32, [DYNQ_UINT8] = name##_uint8, [DYNQ_INT8] = name##_int8}

static dynq_status infer(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(BitwiseAnd, A), DYNQ_SET_INTEGER));
  return dynq_pairs_shape(node, node->inputs[0]->dtype);
}

#define PAIR_OP(op_name, name)                                                                                         \
  static dynq_status run_##name(const dynq_op_node *node) {                                                            \
    static const dynq_walk_inner loops[] = LOOPS(name);                                                                \
    return dynq_pairs_run(node, loops[node->inputs[0]->dtype], NULL);                                                  \
  }                                                                                                                    \
  const dynq_op_code dynq_op_##op_name = {infer, run_##name};
PAIR_OP(BitwiseAnd, and)
PAIR_OP(BitwiseOr, or)
PAIR_OP(BitwiseXor, xor)

static dynq_status infer_not(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(BitwiseNot, X), DYNQ_SET_INTEGER));
  return dynq_op_set_like(node, 0, node->inputs[0]);
}

static dynq_status run_not(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, BitwiseNot, X), *y = node->outputs[0];
  const size_t bytes = x->count * dynq_dtype_size(x->dtype);
  for (size_t i = 0; i < bytes; i++) {
    ((uint8_t *)y->data)[i] = (uint8_t)~((const uint8_t *)x->data)[i];
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_BitwiseNot = {infer_not, run_not};

/* Returns 0 for LEFT, 1 for RIGHT, 2 for neither. */
static size_t direction_of(const dynq_op_node *node) {
  static const char *const names[] = {"LEFT", "RIGHT"};
  return dynq_op_choice(node, DYNQ_ATTR(BitShift, direction), 2, names);
}

static dynq_status infer_shift(dynq_op_node *node) {
  if (direction_of(node) == 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "direction is not LEFT or RIGHT");
  }
  return infer(node);
}

static dynq_status run_shift(const dynq_op_node *node) {
  static const dynq_walk_inner lefts[] = LOOPS(left);
  static const dynq_walk_inner rights[] = LOOPS(right);
  return dynq_pairs_run(node, (direction_of(node) == 0 ? lefts : rights)[node->inputs[0]->dtype], NULL);
}

const dynq_op_code dynq_op_BitShift = {infer_shift, run_shift};
