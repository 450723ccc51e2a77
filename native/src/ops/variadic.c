/*
 * Min, Max, Sum and Mean of one input or more, broadcast: the first two are combined, then the result and the third,
 * and so on; Mean divides the sum by their number. Of two equal values, zeros of different signs among them, Min and Max
 * keep the earlier one; a NaN wins.
 */
#include "pairs.h"

#define EARLIER(op, a, b) ((b)op(a) ? (b) : (a))
#define EACH_DTYPE(op, name)                                                                                           \
  DYNQ_PAIRS(name##_float32, float, float, float, (a != a || b != b) ? NAN : EARLIER(op, a, b))                        \
  DYNQ_PAIRS(name##_int64, int64_t, int64_t, int64_t, EARLIER(op, a, b))                                               \
  DYNQ_PAIRS(name##_int32, int32_t, int32_t, int32_t, EARLIER(op, a, b))                                               \
  DYNQ_PAIRS(name##_uint8, uint8_t, uint8_t, uint8_t, EARLIER(op, a, b))                                               \
  DYNQ_PAIRS(name##_int8, int8_t, int8_t, int8_t, EARLIER(op, a, b))
EACH_DTYPE(<, min)
EACH_DTYPE(>, max)
#undef EACH_DTYPE
DYNQ_PAIRS(sum_float32, float, float, float, dynq_one_nan(a + b))
DYNQ_PAIRS(divide_float32, float, float, float, dynq_one_nan(a / b))

static dynq_status infer_numeric(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Min, data_0), DYNQ_SET_NUMERIC));
  return dynq_pairs_shape(node, DYNQ_INPUT(node, Min, data_0)->dtype);
}

static dynq_status infer_float(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Sum, data_0), DYNQ_SET_FLOAT));
  return dynq_pairs_shape(node, DYNQ_FLOAT32);
}

static void fold(const dynq_op_node *node, dynq_walk_inner inner) {
  const dynq_op_tensor *out = node->outputs[0];
  if (node->input_count == 1) {
    dynq_walk_copy_input(node);
    return;
  }
  dynq_pairs_walk(node, inner, NULL, node->inputs[0], node->inputs[1]);
  for (size_t i = 2; i < node->input_count; i++) {
    dynq_pairs_walk(node, inner, NULL, out, node->inputs[i]);
  }
}

static dynq_status run_min(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = DYNQ_FOR_NUMERIC(min);
  fold(node, loops[node->outputs[0]->dtype]);
  return DYNQ_OK;
}

static dynq_status run_max(const dynq_op_node *node) {
  static const dynq_walk_inner loops[] = DYNQ_FOR_NUMERIC(max);
  fold(node, loops[node->outputs[0]->dtype]);
  return DYNQ_OK;
}

static dynq_status run_sum(const dynq_op_node *node) {
  fold(node, sum_float32);
  return DYNQ_OK;
}

static dynq_status run_mean(const dynq_op_node *node) {
  float number = (float)node->input_count;
  const dynq_op_tensor divisor = {.dtype = DYNQ_FLOAT32, .count = 1, .data = &number};
  fold(node, sum_float32);
  dynq_pairs_walk(node, divide_float32, NULL, node->outputs[0], &divisor);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Min = {infer_numeric, run_min};
const dynq_op_code dynq_op_Max = {infer_numeric, run_max};
const dynq_op_code dynq_op_Sum = {infer_float, run_sum};
const dynq_op_code dynq_op_Mean = {infer_float, run_mean};
