/*
 * ReverseSequence: of each batch the first so many steps of time in reverse order, the others as they are.
 */
#include "checks.h"
#include "walk.h"

#include <string.h>

static dynq_status find_axes(const dynq_op_node *node, size_t *batch, size_t *time) {
  const size_t rank = DYNQ_INPUT(node, ReverseSequence, input)->rank;
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(ReverseSequence, batch_axis), rank, batch));
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(ReverseSequence, time_axis), rank, time));
  return *batch + *time == 1
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                         "batch_axis is %zu and time_axis %zu; expected 0 and 1 or 1 and 0", *batch, *time);
}

static dynq_status infer(dynq_op_node *node) {
  size_t batch, time;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ReverseSequence, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ReverseSequence, sequence_lens), DYNQ_SET(DYNQ_INT64)));
  const dynq_op_tensor *x = DYNQ_INPUT(node, ReverseSequence, input),
                       *lengths = DYNQ_INPUT(node, ReverseSequence, sequence_lens);
  if (x->rank < 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input 0 has rank %zu; expected 2 or more", x->rank);
  }
  DYNQ_TRY(find_axes(node, &batch, &time));
  if (lengths->rank != 1 || lengths->count != x->dims[batch]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "sequence_lens has %zu elements; expected one for each of %zu "
                     "sequences",
                     lengths->count, x->dims[batch]);
  }
  return dynq_op_set_like(node, 0, x);
}

typedef struct reverse_job {
  const dynq_op_node *node;
  size_t batch, step; /* bytes of what one step of one sequence holds */
} reverse_job;

/* Step i is place i % dims[1] of axis 1 in place i / dims[1] of axis 0. */
static void reverse_steps(const void *arg, size_t begin, size_t end) {
  const reverse_job *job = arg;
  const dynq_op_tensor *x = DYNQ_INPUT(job->node, ReverseSequence, input);
  const dynq_op_tensor *lengths = DYNQ_INPUT(job->node, ReverseSequence, sequence_lens);
  for (size_t i = begin; i < end; i++) {
    size_t at[2] = {i / x->dims[1], i % x->dims[1]};
    const size_t time = 1 - job->batch, length = (size_t)dynq_op_value(lengths, at[job->batch]);
    at[time] = at[time] < length ? length - 1 - at[time] : at[time];
    memcpy((char *)job->node->outputs[0]->data + i * job->step,
           (const char *)x->data + (at[0] * x->dims[1] + at[1]) * job->step, job->step);
  }
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ReverseSequence, input),
                       *lengths = DYNQ_INPUT(node, ReverseSequence, sequence_lens);
  size_t batch, time;
  DYNQ_TRY(find_axes(node, &batch, &time));
  for (size_t i = 0; i < lengths->count; i++) {
    const int64_t length = dynq_op_value(lengths, i);
    if (length < 0 || (uint64_t)length > x->dims[time]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "length %zu is %lld; expected 0 to %zu", i, (long long)length,
                       x->dims[time]);
    }
  }
  if (x->count != 0) {
    const reverse_job job = {node, batch, dynq_op_product(x, 2, x->rank) * dynq_dtype_size(x->dtype)};
    dynq_op_parallel(node, x->dims[0] * x->dims[1], x->count * sizeof(float), reverse_steps, &job);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_ReverseSequence = {infer, run};
