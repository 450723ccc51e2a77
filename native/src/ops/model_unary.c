/*
 * Functions of each element: of float32 through the kernels, of integers and bools in plain loops.
 */
#include "../alloc.h"
#include "../status.h"
#include "checks.h"
#include "model_linear.h"
#include "walk.h"

#include <math.h>
#include <string.h>

/* ---- float32 ---- */

typedef struct job {
  const dynq_op_node *node;
  bool activates; /* with `activation`, else `function` */
  dynq_activation activation;
  dynq_unary function;
  float alpha, beta;
} job;

static void apply(const void *arg, size_t begin, size_t end) {
  const job *j = arg;
  const dynq_vector_kernels *kernels = &j->node->kernels->vector;
  const float *x = j->node->inputs[0]->data;
  float *y = j->node->outputs[0]->data;
  if (j->activates) {
    kernels->activate(j->activation, end - begin, x + begin, y + begin);
  } else {
    kernels->unary(j->function, end - begin, j->alpha, j->beta, x + begin, y + begin);
  }
}

static dynq_status run_job(job j) {
  const size_t count = j.node->inputs[0]->count;
  dynq_op_parallel_work(j.node, count, count, apply, &j); /* a nanosecond each */
  return DYNQ_OK;
}

static dynq_status run_unary(const dynq_op_node *node, dynq_unary function, float alpha, float beta) {
  return run_job((job){.node = node, .function = function, .alpha = alpha, .beta = beta});
}

static dynq_status run_activation(const dynq_op_node *node, dynq_activation activation) {
  return run_job((job){.node = node, .activates = true, .activation = activation});
}

static dynq_status infer_f32(dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0];
  DYNQ_TRY(dynq_op_check_f32(node, 0, "X", 0));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  return DYNQ_OK;
}

#define ONE_TO_ONE .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1, .in_place = 1 << 0

/* `run` is an expression of `node`. */
#define FLOAT_OP(op_name, run_it, ...)                                                                                 \
  static dynq_status run_##op_name(const dynq_op_node *node) { return run_it; }                                        \
  const dynq_op dynq_op_##op_name = {                                                                                  \
      .name = #op_name, ONE_TO_ONE, .attributes = {__VA_ARGS__}, .infer = infer_f32, .run = run_##op_name};

#define NO_ATTRIBUTES {NULL, DYNQ_ATTRIBUTE_INT}
#define ALPHA {"alpha", DYNQ_ATTRIBUTE_FLOAT}
#define GAMMA {"gamma", DYNQ_ATTRIBUTE_FLOAT}
#define BETA {"beta", DYNQ_ATTRIBUTE_FLOAT}

FLOAT_OP(Floor, run_unary(node, DYNQ_UNARY_FLOOR, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Ceil, run_unary(node, DYNQ_UNARY_CEIL, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Round, run_unary(node, DYNQ_UNARY_ROUND, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Sqrt, run_unary(node, DYNQ_UNARY_SQRT, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Reciprocal, run_unary(node, DYNQ_UNARY_RECIPROCAL, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Exp, run_unary(node, DYNQ_UNARY_EXP, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Log, run_unary(node, DYNQ_UNARY_LOG, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Erf, run_unary(node, DYNQ_UNARY_ERF, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Softplus, run_unary(node, DYNQ_UNARY_SOFTPLUS, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(Softsign, run_unary(node, DYNQ_UNARY_SOFTSIGN, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(HardSwish, run_unary(node, DYNQ_UNARY_HARD_SWISH, 1.0f / 6.0f, 0.5f), NO_ATTRIBUTES)
FLOAT_OP(LeakyRelu, run_unary(node, DYNQ_UNARY_LEAKY_RELU, dynq_op_float(node, 0, 0.01f), 0.0f), ALPHA)
FLOAT_OP(Elu, run_unary(node, DYNQ_UNARY_ELU, dynq_op_float(node, 0, 1.0f), 0.0f), ALPHA)
FLOAT_OP(Selu,
         run_unary(node, DYNQ_UNARY_SELU, dynq_op_float(node, 0, 1.67326319f), dynq_op_float(node, 1, 1.05070102f)),
         ALPHA, GAMMA)
FLOAT_OP(Celu, run_unary(node, DYNQ_UNARY_CELU, dynq_op_float(node, 0, 1.0f), 0.0f), ALPHA)
FLOAT_OP(Mish, run_unary(node, DYNQ_UNARY_MISH, 0.0f, 0.0f), NO_ATTRIBUTES)
FLOAT_OP(ThresholdedRelu, run_unary(node, DYNQ_UNARY_THRESHOLD, dynq_op_float(node, 0, 1.0f), 0.0f), ALPHA)
FLOAT_OP(HardSigmoid,
         run_unary(node, DYNQ_UNARY_HARD_SIGMOID, dynq_op_float(node, 0, 0.2f), dynq_op_float(node, 1, 0.5f)), ALPHA,
         BETA)
FLOAT_OP(Relu, run_activation(node, DYNQ_ACTIVATION_RELU), NO_ATTRIBUTES)
FLOAT_OP(Sigmoid, run_activation(node, DYNQ_ACTIVATION_SIGMOID), NO_ATTRIBUTES)
FLOAT_OP(Tanh, run_activation(node, DYNQ_ACTIVATION_TANH), NO_ATTRIBUTES)
FLOAT_OP(Swish,
         dynq_op_float(node, 0, 1.0f) == 1.0f ? run_activation(node, DYNQ_ACTIVATION_SILU)
                                              : run_unary(node, DYNQ_UNARY_SWISH, dynq_op_float(node, 0, 1.0f), 0.0f),
         ALPHA)

/* ---- Gelu: exact, or by tanh ---- */

static dynq_status gelu_of(const dynq_op_node *node, dynq_activation *activation) {
  const dynq_attribute *a = &node->attributes[0];
  const bool exact = !a->present || strcmp(a->string, "none") == 0;
  *activation = exact ? DYNQ_ACTIVATION_GELU : DYNQ_ACTIVATION_GELU_TANH;
  if (!exact && strcmp(a->string, "tanh") != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "approximate is '%.40s'; expected none or tanh", a->string);
  }
  return DYNQ_OK;
}

static dynq_status infer_gelu(dynq_op_node *node) {
  dynq_activation activation;
  DYNQ_TRY(gelu_of(node, &activation));
  return infer_f32(node);
}

static dynq_status run_gelu(const dynq_op_node *node) {
  dynq_activation activation;
  DYNQ_TRY(gelu_of(node, &activation));
  return run_activation(node, activation);
}

const dynq_op dynq_op_Gelu = {.name = "Gelu",
                              ONE_TO_ONE,
                              .attributes = {{"approximate", DYNQ_ATTRIBUTE_STRING}},
                              .infer = infer_gelu,
                              .run = run_gelu};

/* ---- Abs, Neg, Sign: of integers too; what does not fit wraps ---- */

static dynq_status infer_number(dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0];
  if (x->dtype == DYNQ_BOOL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X is bool; expected numbers");
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_number(const dynq_op_node *node, dynq_unary function) {
  const dynq_op_tensor *x = node->inputs[0];
  if (x->dtype == DYNQ_FLOAT32) {
    return run_unary(node, function, 0.0f, 0.0f);
  }
  for (size_t i = 0; i < x->count; i++) {
    const int64_t value = dynq_op_integer(x, i);
    const bool negate = function == DYNQ_UNARY_NEG || (function == DYNQ_UNARY_ABS && value < 0);
    const uint64_t sign = value > 0 ? 1 : value < 0 ? UINT64_MAX : 0;
    const uint64_t result = function == DYNQ_UNARY_SIGN ? sign : negate ? 0 - (uint64_t)value : (uint64_t)value;
    dynq_op_set_integer(node->outputs[0], i, (int64_t)result);
  }
  return DYNQ_OK;
}

#define NUMBER_OP(op_name, function)                                                                                   \
  static dynq_status run_##op_name(const dynq_op_node *node) { return run_number(node, function); }                    \
  const dynq_op dynq_op_##op_name = {.name = #op_name, ONE_TO_ONE, .infer = infer_number, .run = run_##op_name};

NUMBER_OP(Abs, DYNQ_UNARY_ABS)
NUMBER_OP(Neg, DYNQ_UNARY_NEG)
NUMBER_OP(Sign, DYNQ_UNARY_SIGN)

/* ---- Clip ---- */

static dynq_status infer_clip(dynq_op_node *node) {
  static const char *const names[] = {"", "min", "max"};
  DYNQ_TRY(infer_number(node));
  for (size_t i = 1; i < node->input_count; i++) {
    const dynq_op_tensor *t = node->inputs[i];
    if (t != NULL && (t->dtype != node->inputs[0]->dtype || t->count != 1)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: %zu of %s; expected one of X's %s", names[i], t->count,
                       dynq_dtype_name(t->dtype), dynq_dtype_name(node->inputs[0]->dtype));
    }
  }
  return DYNQ_OK;
}

static dynq_status run_clip(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *min = dynq_op_input(node, 1), *max = dynq_op_input(node, 2);
  if (x->dtype == DYNQ_FLOAT32) {
    return run_unary(node, DYNQ_UNARY_CLAMP, min != NULL ? *(const float *)min->data : -INFINITY,
                     max != NULL ? *(const float *)max->data : INFINITY);
  }
  const int64_t low = min != NULL ? dynq_op_integer(min, 0) : INT64_MIN,
                high = max != NULL ? dynq_op_integer(max, 0) : INT64_MAX;
  for (size_t i = 0; i < x->count; i++) {
    int64_t value = dynq_op_integer(x, i);
    value = value < low ? low : value;
    dynq_op_set_integer(node->outputs[0], i, value > high ? high : value);
  }
  return DYNQ_OK;
}

const dynq_op dynq_op_Clip = {
    .name = "Clip",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1 << 0,
    .infer = infer_clip,
    .run = run_clip,
};

/* ---- Bools ---- */

static dynq_status infer_not(dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0];
  if (x->dtype != DYNQ_BOOL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X is %s; expected bool", dynq_dtype_name(x->dtype));
  }
  dynq_op_set_output(node, 0, DYNQ_BOOL, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_not(const dynq_op_node *node) {
  const uint8_t *x = node->inputs[0]->data;
  uint8_t *y = node->outputs[0]->data;
  for (size_t i = 0; i < node->inputs[0]->count; i++) {
    y[i] = x[i] == 0;
  }
  return DYNQ_OK;
}

const dynq_op dynq_op_Not = {.name = "Not", ONE_TO_ONE, .infer = infer_not, .run = run_not};

static dynq_status infer_is(dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0];
  DYNQ_TRY(dynq_op_check_f32(node, 0, "X", 0));
  dynq_op_set_output(node, 0, DYNQ_BOOL, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_is_nan(const dynq_op_node *node) {
  const float *x = node->inputs[0]->data;
  uint8_t *y = node->outputs[0]->data;
  for (size_t i = 0; i < node->inputs[0]->count; i++) {
    y[i] = x[i] != x[i];
  }
  return DYNQ_OK;
}

static dynq_status run_is_inf(const dynq_op_node *node) {
  const bool negative = dynq_op_int(node, 0, 1) != 0, positive = dynq_op_int(node, 1, 1) != 0;
  const float *x = node->inputs[0]->data;
  uint8_t *y = node->outputs[0]->data;
  for (size_t i = 0; i < node->inputs[0]->count; i++) {
    y[i] = isinf(x[i]) && (x[i] < 0.0f ? negative : positive);
  }
  return DYNQ_OK;
}

#define IS_OP(op_name, run_it, ...)                                                                                    \
  const dynq_op dynq_op_##op_name = {                                                                                  \
      .name = #op_name,                                                                                                \
      .min_inputs = 1,                                                                                                 \
      .max_inputs = 1,                                                                                                 \
      .min_outputs = 1,                                                                                                \
      .max_outputs = 1,                                                                                                \
      .attributes = {__VA_ARGS__},                                                                                     \
      .infer = infer_is,                                                                                               \
      .run = run_it,                                                                                                   \
  };
IS_OP(IsNaN, run_is_nan, NO_ATTRIBUTES)
IS_OP(IsInf, run_is_inf, {"detect_negative", DYNQ_ATTRIBUTE_INT}, {"detect_positive", DYNQ_ATTRIBUTE_INT})
