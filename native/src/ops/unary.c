/*
 * Functions of each element: of float32 through the kernels, of integers and bools in plain loops. What ops share reads
 * their first input, which is their only one but for Clip, by the name that one of them has for it.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "checks.h"
#include "layer_attributes.h"
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
  const float *x = DYNQ_INPUT(j->node, Floor, X)->data;
  float *y = j->node->outputs[0]->data;
  if (j->activates) {
    kernels->activate(j->activation, 0.0f, 0.0f, end - begin, x + begin, y + begin);
  } else {
    kernels->unary(j->function, end - begin, j->alpha, j->beta, x + begin, y + begin);
  }
}

static dynq_status run_job(job j) {
  const size_t count = DYNQ_INPUT(j.node, Floor, X)->count;
  dynq_op_parallel_work(j.node, count, count, apply, &j); /* a nanosecond each */
  return DYNQ_OK;
}

static dynq_status run_unary(const dynq_op_node *node, dynq_unary function, float alpha, float beta) {
  return run_job((job){.node = node, .function = function, .alpha = alpha, .beta = beta});
}

/* Takes alpha and beta from the op's first two attributes, if it has them. */
static dynq_status run_function(const dynq_op_node *node, dynq_unary function) {
  const size_t count = node->op->attribute_count;
  return run_unary(node, function, count > 0 ? dynq_op_float(node, 0) : 0.0f,
                   count > 1 ? dynq_op_float(node, 1) : 0.0f);
}

static dynq_status run_activation(const dynq_op_node *node, dynq_activation activation) {
  return run_job((job){.node = node, .activates = true, .activation = activation});
}

static dynq_status infer_f32(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Floor, X);
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Floor, X), "X", 0));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  return DYNQ_OK;
}

/* `run` is an expression of `node`. */
#define FLOAT_OP(op_name, run_it)                                                                                      \
  static dynq_status run_##op_name(const dynq_op_node *node) { return run_it; }                                        \
  const dynq_op_code dynq_op_##op_name = {infer_f32, run_##op_name};

#define DYNQ_UNARY(op, ulps, size, formula) FLOAT_OP(op, run_function(node, DYNQ_UNARY_##op))
#define DYNQ_UNARY_PART(op, ulps, size, formula)
#include "../kernels/unary.def"
FLOAT_OP(Relu, run_activation(node, DYNQ_ACTIVATION_RELU))
FLOAT_OP(Sigmoid, run_activation(node, DYNQ_ACTIVATION_SIGMOID))
FLOAT_OP(Tanh, run_activation(node, DYNQ_ACTIVATION_TANH))
FLOAT_OP(Swish, dynq_op_float(node, DYNQ_ATTR(Swish, alpha)) == 1.0f ? run_activation(node, DYNQ_ACTIVATION_SILU)
                                                                     : run_function(node, DYNQ_UNARY_Swish))

/* ---- Gelu: exact, or by tanh ---- */

static dynq_status gelu_of(const dynq_op_node *node, dynq_activation *activation) {
  static const char *const names[] = {"none", "tanh"};
  const size_t approximate = dynq_op_choice(node, DYNQ_ATTR(Gelu, approximate), 2, names);
  *activation = approximate == 0 ? DYNQ_ACTIVATION_GELU : DYNQ_ACTIVATION_GELU_TANH;
  return approximate < 2 ? DYNQ_OK
                         : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "approximate is '%.40s'; expected none or tanh",
                                     dynq_op_string(node, DYNQ_ATTR(Gelu, approximate)));
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

const dynq_op_code dynq_op_Gelu = {infer_gelu, run_gelu};

/* ---- Abs, Neg, Sign: of integers too; what does not fit wraps ---- */

static dynq_status infer_number(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Abs, X);
  if (x->dtype == DYNQ_BOOL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X is bool; expected numbers");
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_number(const dynq_op_node *node, dynq_unary function) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Abs, X);
  if (x->dtype == DYNQ_FLOAT32) {
    return run_function(node, function);
  }
  for (size_t i = 0; i < x->count; i++) {
    const int64_t value = dynq_op_integer(x, i);
    const bool negate = function == DYNQ_UNARY_Neg || (function == DYNQ_UNARY_Abs && value < 0);
    const uint64_t sign = value > 0 ? 1 : value < 0 ? UINT64_MAX : 0;
    const uint64_t result = function == DYNQ_UNARY_Sign ? sign : negate ? 0 - (uint64_t)value : (uint64_t)value;
    dynq_op_set_integer(node->outputs[0], i, (int64_t)result);
  }
  return DYNQ_OK;
}

#define NUMBER_OP(op_name)                                                                                             \
  static dynq_status run_##op_name(const dynq_op_node *node) { return run_number(node, DYNQ_UNARY_##op_name); }        \
  const dynq_op_code dynq_op_##op_name = {infer_number, run_##op_name};

NUMBER_OP(Abs)
NUMBER_OP(Neg)
NUMBER_OP(Sign)

/* ---- Clip ---- */

static dynq_status infer_clip(dynq_op_node *node) {
  DYNQ_TRY(infer_number(node));
  for (size_t i = DYNQ_IN(Clip, min); i < node->input_count; i++) {
    const dynq_op_tensor *t = node->inputs[i];
    if (t != NULL && (t->dtype != DYNQ_INPUT(node, Clip, input)->dtype || t->count != 1)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: %zu of %s; expected one of X's %s", node->op->inputs[i].name,
                       t->count, dynq_dtype_name(t->dtype), dynq_dtype_name(DYNQ_INPUT(node, Clip, input)->dtype));
    }
  }
  return DYNQ_OK;
}

static dynq_status run_clip(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Clip, input), *min = DYNQ_GIVEN(node, Clip, min),
                       *max = DYNQ_GIVEN(node, Clip, max);
  if (x->dtype == DYNQ_FLOAT32) {
    return run_unary(node, DYNQ_UNARY_Clip, min != NULL ? *(const float *)min->data : -INFINITY,
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

const dynq_op_code dynq_op_Clip = {infer_clip, run_clip};

/* ---- Bools ---- */

static dynq_status infer_not(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Not, X);
  if (x->dtype != DYNQ_BOOL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X is %s; expected bool", dynq_dtype_name(x->dtype));
  }
  dynq_op_set_output(node, 0, DYNQ_BOOL, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_not(const dynq_op_node *node) {
  const uint8_t *x = DYNQ_INPUT(node, Not, X)->data;
  uint8_t *y = node->outputs[0]->data;
  for (size_t i = 0; i < DYNQ_INPUT(node, Not, X)->count; i++) {
    y[i] = x[i] == 0;
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Not = {infer_not, run_not};

static dynq_status infer_is(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, IsNaN, X);
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(IsNaN, X), "X", 0));
  dynq_op_set_output(node, 0, DYNQ_BOOL, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_is_nan(const dynq_op_node *node) {
  const float *x = DYNQ_INPUT(node, IsNaN, X)->data;
  uint8_t *y = node->outputs[0]->data;
  for (size_t i = 0; i < DYNQ_INPUT(node, IsNaN, X)->count; i++) {
    y[i] = x[i] != x[i];
  }
  return DYNQ_OK;
}

static dynq_status run_is_inf(const dynq_op_node *node) {
  const bool negative = dynq_op_int(node, DYNQ_ATTR(IsInf, detect_negative)) != 0;
  const bool positive = dynq_op_int(node, DYNQ_ATTR(IsInf, detect_positive)) != 0;
  const float *x = DYNQ_INPUT(node, IsInf, X)->data;
  uint8_t *y = node->outputs[0]->data;
  for (size_t i = 0; i < DYNQ_INPUT(node, IsInf, X)->count; i++) {
    y[i] = isinf(x[i]) && (x[i] < 0.0f ? negative : positive);
  }
  return DYNQ_OK;
}

DYNQ_SAME_IN(IsNaN, X, IsInf, X);
const dynq_op_code dynq_op_IsNaN = {infer_is, run_is_nan};
const dynq_op_code dynq_op_IsInf = {infer_is, run_is_inf};
