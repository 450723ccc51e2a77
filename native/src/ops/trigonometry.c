/*
 * Computes functions of float32 in double precision and in plain C, with one rounding at the end: what models take them
 * of is small.
 */
#include "../base/status.h"
#include "doubles.h"
#include "layer_attributes.h"
#include "walk.h"

typedef struct job {
  const dynq_op_node *node;
  double (*function)(double x);
} job;

static void apply(const void *arg, size_t begin, size_t end) {
  const job *j = arg;
  const float *x = DYNQ_INPUT(j->node, Sin, input)->data;
  float *y = j->node->outputs[0]->data;
  for (size_t i = begin; i < end; i++) {
    const float result = isnan(x[i]) ? NAN : (float)j->function((double)x[i]);
    y[i] = isnan(result) ? NAN : result; /* of one sign */
  }
}

static dynq_status run(const dynq_op_node *node, double (*function)(double x)) {
  const size_t count = DYNQ_INPUT(node, Sin, input)->count;
  const job j = {node, function};
  dynq_op_parallel_work(node, count, 10 * count, apply, &j);
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Sin, input);
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Sin, input), "X", 0));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  return DYNQ_OK;
}

#define DYNQ_UNARY_DOUBLE(op, ulps, formula)                                                                           \
  DYNQ_SAME_IN(Sin, input, op, input);                                                                                 \
  static double op##_of(double x) { return formula; }                                                                  \
  static dynq_status run_##op(const dynq_op_node *node) { return run(node, op##_of); }                                 \
  const dynq_op_code dynq_op_##op = {infer, run_##op};
#include "../kernels/unary.def"
