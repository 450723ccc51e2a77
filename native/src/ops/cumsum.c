/*
 * CumSum: sums of the elements before each place of an axis, one after another in the axis's order (reverse: from its
 * end).
 */
#include "pairs.h"

static dynq_status infer_cumsum(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT | DYNQ_SET_INDEX));
  DYNQ_TRY(dynq_op_expect(node, 1, DYNQ_SET_INDEX));
  if (node->inputs[1]->count != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis has %zu elements; expected 1", node->inputs[1]->count);
  }
  return dynq_op_set_like(node, 0, node->inputs[0]);
}

typedef struct cumsum_job {
  const void *x;
  void *out;
  size_t n, inner;
  bool exclusive, reverse;
} cumsum_job;

/* Line i: outer place i / inner, column i % inner. The sum is kept in SUM, which wraps. */
#define CUMSUM(name, T, SUM, RESULT)                                                                                   \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const cumsum_job *job = arg;                                                                                       \
    for (size_t i = begin; i < end; i++) {                                                                             \
      const size_t base = i / job->inner * job->n * job->inner + i % job->inner;                                       \
      const T *x = (const T *)job->x + base;                                                                           \
      T *out = (T *)job->out + base;                                                                                   \
      SUM sum = 0;                                                                                                     \
      for (size_t step = 0; step < job->n; step++) {                                                                   \
        const size_t at = (job->reverse ? job->n - 1 - step : step) * job->inner;                                      \
        const SUM next = step == 0 ? (SUM)x[at] : sum + (SUM)x[at];                                                    \
        out[at] = RESULT(job->exclusive ? sum : next);                                                                 \
        sum = next;                                                                                                    \
      }                                                                                                                \
    }                                                                                                                  \
  }
CUMSUM(cumsum_float32, float, float, dynq_one_nan)
CUMSUM(cumsum_int64, int64_t, uint64_t, (int64_t))
CUMSUM(cumsum_int32, int32_t, uint32_t, (int32_t))

static dynq_status run_cumsum(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *out = node->outputs[0];
  size_t axis;
  DYNQ_TRY(dynq_op_axis(dynq_op_value(node->inputs[1], 0), x->rank, &axis));
  if (x->count == 0) {
    return DYNQ_OK;
  }
  const cumsum_job job = {x->data,
                          out->data,
                          x->dims[axis],
                          dynq_op_product(x, axis + 1, x->rank),
                          dynq_op_int(node, 0, 0) != 0,
                          dynq_op_int(node, 1, 0) != 0};
  dynq_op_parallel(node, x->count / x->dims[axis], x->count * sizeof(float),
                   x->dtype == DYNQ_FLOAT32 ? cumsum_float32
                   : x->dtype == DYNQ_INT64 ? cumsum_int64
                                            : cumsum_int32,
                   &job);
  return DYNQ_OK;
}

const dynq_op dynq_op_CumSum = {.name = "CumSum",
                                .min_inputs = 2,
                                .max_inputs = 2,
                                .min_outputs = 1,
                                .max_outputs = 1,
                                .attributes = {{"exclusive", DYNQ_ATTRIBUTE_INT}, {"reverse", DYNQ_ATTRIBUTE_INT}},
                                .infer = infer_cumsum,
                                .run = run_cumsum};
