/*
 * ArgMax and ArgMin. Of equal values the first counts, or the last with select_last_index; a NaN wins.
 */
#include "checks.h"
#include "walk.h"

typedef struct arg_job {
  const void *x;
  int64_t *out;
  size_t n, inner; /* the axis's size; elements between two of its places */
  bool last;
} arg_job;

/* x[place i] takes over from x[place best]. */
#define BETTER_INTEGER(op, a, b) ((a)op(b))
#define BETTER_FLOAT(op, a, b) ((b) == (b) && ((a) != (a) || (a)op(b)))
#define SAME_FLOAT(a, b) ((a) == (b) || ((a) != (a) && (b) != (b)))
#define SAME_INTEGER(a, b) ((a) == (b))

#define SEARCH(name, T, op, KIND)                                                                                      \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const arg_job *job = arg;                                                                                          \
    for (size_t i = begin; i < end; i++) {                                                                             \
      const T *x = (const T *)job->x + i / job->inner * job->n * job->inner + i % job->inner;                          \
      T best = x[0];                                                                                                   \
      size_t at = 0;                                                                                                   \
      for (size_t place = 1; place < job->n; place++) {                                                                \
        const T a = x[place * job->inner];                                                                             \
        if (BETTER_##KIND(op, a, best) || (job->last && SAME_##KIND(a, best))) {                                       \
          best = a;                                                                                                    \
          at = place;                                                                                                  \
        }                                                                                                              \
      }                                                                                                                \
      job->out[i] = (int64_t)at;                                                                                       \
    }                                                                                                                  \
  }
#define EACH_DTYPE(name, op)                                                                                           \
  SEARCH(name##_float32, float, op, FLOAT)                                                                             \
  SEARCH(name##_int64, int64_t, op, INTEGER)                                                                           \
  SEARCH(name##_int32, int32_t, op, INTEGER)                                                                           \
  SEARCH(name##_uint8, uint8_t, op, INTEGER)                                                                           \
  SEARCH(name##_int8, int8_t, op, INTEGER)
EACH_DTYPE(max, >)
EACH_DTYPE(min, <)
#undef EACH_DTYPE

static dynq_status infer(dynq_op_node *node) {
  size_t axis, rank = 0, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ArgMax, data), DYNQ_SET_NUMERIC));
  const dynq_op_tensor *x = DYNQ_INPUT(node, ArgMax, data);
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(ArgMax, axis), x->rank, &axis));
  if (x->dims[axis] == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu has size 0; expected an element to choose", axis);
  }
  for (size_t d = 0; d < x->rank; d++) {
    if (d != axis) {
      dims[rank++] = x->dims[d];
    } else if (dynq_op_int(node, DYNQ_ATTR(ArgMax, keepdims)) != 0) {
      dims[rank++] = 1;
    }
  }
  dynq_op_set_output(node, 0, DYNQ_INT64, rank, dims);
  return DYNQ_OK;
}

typedef void (*search)(const void *arg, size_t begin, size_t end);

static dynq_status run(const dynq_op_node *node, const search *searches) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ArgMax, data), *out = node->outputs[0];
  size_t axis;
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(ArgMax, axis), x->rank, &axis));
  const arg_job job = {x->data, out->data, x->dims[axis], dynq_op_product(x, axis + 1, x->rank),
                       dynq_op_int(node, DYNQ_ATTR(ArgMax, select_last_index)) != 0};
  dynq_op_parallel(node, out->count, x->count * sizeof(float), searches[x->dtype], &job);
  return DYNQ_OK;
}

static dynq_status run_max(const dynq_op_node *node) {
  static const search searches[] = DYNQ_FOR_NUMERIC(max);
  return run(node, searches);
}

static dynq_status run_min(const dynq_op_node *node) {
  static const search searches[] = DYNQ_FOR_NUMERIC(min);
  return run(node, searches);
}

DYNQ_SAME_IN(ArgMax, data, ArgMin, data);
DYNQ_SAME_ATTR(ArgMax, ArgMin, axis);
DYNQ_SAME_ATTR(ArgMax, ArgMin, keepdims);
DYNQ_SAME_ATTR(ArgMax, ArgMin, select_last_index);
const dynq_op_code dynq_op_ArgMax = {infer, run_max};
const dynq_op_code dynq_op_ArgMin = {infer, run_min};
