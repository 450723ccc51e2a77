/*
 * Concat and Split: parts of a tensor along one axis.
 */
#include "../base/alloc.h"
#include "checks.h"
#include "walk.h"

#include <string.h>

static dynq_status infer_concat(dynq_op_node *node) {
  size_t axis, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Concat, inputs), DYNQ_SET_ANY));
  const dynq_op_tensor *first = DYNQ_INPUT(node, Concat, inputs);
  if (!node->attributes[DYNQ_ATTR(Concat, axis)].present) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "attribute axis is left out; expected an axis");
  }
  DYNQ_TRY(dynq_op_axis(node->attributes[DYNQ_ATTR(Concat, axis)].i, first->rank, &axis));
  memcpy(dims, first->dims, sizeof dims);
  for (size_t i = 1; i < node->input_count; i++) {
    const dynq_op_tensor *t = node->inputs[i];
    if (t->rank != first->rank) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu has rank %zu; expected %zu, as input 0", i, t->rank,
                       first->rank);
    }
    for (size_t d = 0; d < first->rank; d++) {
      if (d != axis && t->dims[d] != first->dims[d]) {
        return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu has size %zu in axis %zu; expected %zu, as input 0", i,
                         t->dims[d], d, first->dims[d]);
      }
    }
    dims[axis] = dynq_size_add(dims[axis], t->dims[axis]);
  }
  dynq_op_set_output(node, 0, first->dtype, first->rank, dims);
  return DYNQ_OK;
}

static dynq_status run_concat(const dynq_op_node *node) {
  const dynq_op_tensor *out = node->outputs[0];
  size_t axis;
  ptrdiff_t to_strides[DYNQ_MAX_RANK], from_strides[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_axis(node->attributes[DYNQ_ATTR(Concat, axis)].i, out->rank, &axis));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  dynq_strides(out, to_strides);
  char *to = out->data;
  for (size_t i = 0; i < node->input_count; i++) {
    const dynq_op_tensor *t = node->inputs[i];
    dynq_strides(t, from_strides);
    dynq_copy_box(node, dynq_dtype_size(t->dtype), t->rank, t->dims, to, to_strides, t->data, from_strides);
    to += (ptrdiff_t)t->dims[axis] * to_strides[axis];
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Concat = {infer_concat, run_concat};

/* ---- Split: into as many parts as the input or num_outputs says, the last of which may be no outputs ---- */

/* The size of part i: as the input says, else equal ones of which the last may be smaller. */
static size_t part_size(const dynq_op_node *node, size_t axis, size_t i) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Split, input), *split = DYNQ_GIVEN(node, Split, split);
  if (split != NULL) {
    return (size_t)dynq_op_value(split, i);
  }
  const size_t size = x->dims[axis], parts = (size_t)dynq_op_int(node, DYNQ_ATTR(Split, num_outputs));
  const size_t each = size / parts + (size % parts != 0 ? 1 : 0);
  const size_t before = each * i < size ? each * i : size;
  return size - before < each ? size - before : each;
}

static dynq_status check_split(const dynq_op_node *node, size_t axis) {
  const dynq_op_tensor *split = DYNQ_INPUT(node, Split, split);
  size_t left = DYNQ_INPUT(node, Split, input)->dims[axis];
  if (split->rank != 1 || split->count < node->output_count ||
      node->attributes[DYNQ_ATTR(Split, num_outputs)].present) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "split has %zu sizes for %zu outputs%s; expected one for each and no num_outputs", split->count,
                     node->output_count,
                     node->attributes[DYNQ_ATTR(Split, num_outputs)].present ? " and there is num_outputs" : "");
  }
  for (size_t i = 0; i < split->count; i++) {
    const int64_t size = dynq_op_value(split, i);
    if (size < 0 || (uint64_t)size > left) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "part %zu of split has size %lld; %zu are left", i, (long long)size,
                       left);
    }
    left -= (size_t)size;
  }
  return left == 0
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "split leaves %zu of axis %zu; expected all of it", left, axis);
}

static dynq_status infer_split(dynq_op_node *node) {
  size_t axis, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Split, input), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Split, input);
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(Split, axis), x->rank, &axis));
  if (DYNQ_GIVEN(node, Split, split) != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Split, split), DYNQ_SET_INDEX));
    DYNQ_TRY(check_split(node, axis));
  } else if (dynq_op_int(node, DYNQ_ATTR(Split, num_outputs)) < (int64_t)node->output_count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "num_outputs is %lld and split is left out; expected one of them, for %zu outputs",
                     (long long)dynq_op_int(node, DYNQ_ATTR(Split, num_outputs)), node->output_count);
  }
  memcpy(dims, x->dims, sizeof dims);
  for (size_t i = 0; i < node->output_count; i++) {
    dims[axis] = part_size(node, axis, i);
    dynq_op_set_output(node, i, x->dtype, x->rank, dims);
  }
  return DYNQ_OK;
}

static dynq_status run_split(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Split, input);
  size_t axis;
  ptrdiff_t to_strides[DYNQ_MAX_RANK], from_strides[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(Split, axis), x->rank, &axis));
  if (x->count == 0) {
    return DYNQ_OK;
  }
  dynq_strides(x, from_strides);
  const char *from = x->data;
  for (size_t i = 0; i < node->output_count; i++) {
    const dynq_op_tensor *part = node->outputs[i];
    if (part != NULL) {
      dynq_strides(part, to_strides);
      dynq_copy_box(node, dynq_dtype_size(x->dtype), x->rank, part->dims, part->data, to_strides, from, from_strides);
    }
    from += (ptrdiff_t)part_size(node, axis, i) * from_strides[axis];
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Split = {infer_split, run_split};
