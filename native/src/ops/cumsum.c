/*
 * CumSum and CumProd: sums and products of the elements before each place of an axis, one after another in the axis's
 * order (reverse: from its end).
 */
#include "pairs.h"

static dynq_status infer_cumsum(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(CumSum, x), DYNQ_SET_FLOAT | DYNQ_SET_INDEX));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(CumSum, axis), DYNQ_SET_INDEX));
  const dynq_op_tensor *axis = DYNQ_INPUT(node, CumSum, axis);
  if (axis->count != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis has %zu elements; expected 1", axis->count);
  }
  return dynq_op_set_like(node, 0, DYNQ_INPUT(node, CumSum, x));
}

typedef struct cumsum_job {
  const void *x;
  void *out;
  size_t n, inner;
  bool exclusive, reverse;
} cumsum_job;

/* Line i: outer place i / inner, column i % inner. The sum is kept in SUM, which wraps. */
#define CUMULATE(name, T, SUM, FIRST, op, RESULT)                                                                      \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const cumsum_job *job = arg;                                                                                       \
    for (size_t i = begin; i < end; i++) {                                                                             \
      const size_t base = i / job->inner * job->n * job->inner + i % job->inner;                                       \
      const T *x = (const T *)job->x + base;                                                                           \
      T *out = (T *)job->out + base;                                                                                   \
      SUM sum = FIRST;                                                                                                 \
      for (size_t step = 0; step < job->n; step++) {                                                                   \
        const size_t at = (job->reverse ? job->n - 1 - step : step) * job->inner;                                      \
        const SUM next = step == 0 ? (SUM)x[at] : sum op(SUM) x[at];                                                   \
        out[at] = RESULT(job->exclusive ? sum : next);                                                                 \
        sum = next;                                                                                                    \
      }                                                                                                                \
    }                                                                                                                  \
  }
CUMULATE(cumsum_float32, float, float, 0.0f, +, dynq_one_nan)
CUMULATE(cumsum_int64, int64_t, uint64_t, 0, +, (int64_t))
CUMULATE(cumsum_int32, int32_t, uint32_t, 0, +, (int32_t))
CUMULATE(cumprod_float32, float, float, 1.0f, *, dynq_one_nan)
CUMULATE(cumprod_int64, int64_t, uint64_t, 1, *, (int64_t))
CUMULATE(cumprod_int32, int32_t, uint32_t, 1, *, (int32_t))

DYNQ_SAME_IN(CumSum, x, CumProd, x);
DYNQ_SAME_IN(CumSum, axis, CumProd, axis);
DYNQ_SAME_ATTR(CumSum, CumProd, exclusive);
DYNQ_SAME_ATTR(CumSum, CumProd, reverse);

/* `bodies` are indexed by dtype. */
static dynq_status run_cumulative(const dynq_op_node *node, dynq_op_body *const *bodies) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, CumSum, x), *out = node->outputs[0];
  size_t axis;
  DYNQ_TRY(dynq_op_axis(dynq_op_value(DYNQ_INPUT(node, CumSum, axis), 0), x->rank, &axis));
  if (x->count == 0) {
    return DYNQ_OK;
  }
  const cumsum_job job = {x->data,
                          out->data,
                          x->dims[axis],
                          dynq_op_product(x, axis + 1, x->rank),
                          dynq_op_int(node, DYNQ_ATTR(CumSum, exclusive)) != 0,
                          dynq_op_int(node, DYNQ_ATTR(CumSum, reverse)) != 0};
  dynq_op_parallel(node, x->count / x->dims[axis], x->count * sizeof(float), bodies[x->dtype], &job);
  return DYNQ_OK;
}

static dynq_status run_cumsum(const dynq_op_node *node) {
  static dynq_op_body *const bodies[] = {
      [DYNQ_FLOAT32] = cumsum_float32, [DYNQ_INT64] = cumsum_int64, [DYNQ_INT32] = cumsum_int32};
  return run_cumulative(node, bodies);
}

static dynq_status run_cumprod(const dynq_op_node *node) {
  static dynq_op_body *const bodies[] = {
      [DYNQ_FLOAT32] = cumprod_float32, [DYNQ_INT64] = cumprod_int64, [DYNQ_INT32] = cumprod_int32};
  return run_cumulative(node, bodies);
}

const dynq_op_code dynq_op_CumSum = {infer_cumsum, run_cumsum};
const dynq_op_code dynq_op_CumProd = {infer_cumsum, run_cumprod};
