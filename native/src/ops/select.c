/*
 * NonZero and Compress: elements that are chosen by values.
 */
#include "checks.h"

#include <string.h>

/* ---- NonZero: a row for each axis, a column for each element; a NaN is none of zero ---- */

static bool is_nonzero(const dynq_op_tensor *t, size_t i) {
  if (t->dtype == DYNQ_FLOAT32) {
    return !(((const float *)t->data)[i] == 0.0f);
  }
  return dynq_op_integer(t, i) != 0;
}

static dynq_status infer_nonzero(dynq_op_node *node) {
  size_t dims[2] = {0, 0};
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(NonZero, X), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, NonZero, X);
  dims[0] = x->rank;
  for (size_t i = 0; i < x->count; i++) {
    dims[1] += is_nonzero(x, i);
  }
  dynq_op_set_output(node, 0, DYNQ_INT64, 2, dims);
  return DYNQ_OK;
}

static dynq_status run_nonzero(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, NonZero, X), *out = node->outputs[0];
  int64_t at[DYNQ_MAX_RANK] = {0}, *to = out->data;
  for (size_t i = 0; i < x->count; i++) {
    if (is_nonzero(x, i)) {
      for (size_t d = 0; d < x->rank; d++) {
        to[d * out->dims[1]] = at[d];
      }
      to++;
    }
    for (size_t d = x->rank; d-- > 0 && ++at[d] == (int64_t)x->dims[d];) {
      at[d] = 0;
    }
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_NonZero = {infer_nonzero, run_nonzero};

/* ---- Compress ---- */

/* Finds the axis; without one, all is a single axis. */
static dynq_status find_axis(const dynq_op_node *node, size_t *outer, size_t *size, size_t *inner, size_t *axis) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Compress, input);
  *axis = 0;
  *outer = *inner = 1;
  *size = x->count;
  if (node->attributes[DYNQ_ATTR(Compress, axis)].present) {
    DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(Compress, axis), x->rank, axis));
    *outer = dynq_op_product(x, 0, *axis);
    *size = x->dims[*axis];
    *inner = dynq_op_product(x, *axis + 1, x->rank);
  }
  return DYNQ_OK;
}

static dynq_status infer_compress(dynq_op_node *node) {
  size_t outer, size, inner, axis, dims[DYNQ_MAX_RANK], chosen = 0;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Compress, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Compress, condition), DYNQ_SET_BOOL));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(Compress, condition), 1));
  DYNQ_TRY(find_axis(node, &outer, &size, &inner, &axis));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Compress, input), *condition = DYNQ_INPUT(node, Compress, condition);
  for (size_t i = 0; i < condition->count; i++) {
    if (dynq_op_integer(condition, i) != 0) {
      if (i >= size) {
        return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the condition chooses element %zu; the axis has %zu", i, size);
      }
      chosen++;
    }
  }
  const bool flat = !node->attributes[DYNQ_ATTR(Compress, axis)].present;
  memcpy(dims, x->dims, sizeof dims);
  dims[axis] = chosen;
  dynq_op_set_output(node, 0, x->dtype, flat ? 1 : x->rank, dims);
  return DYNQ_OK;
}

static dynq_status run_compress(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Compress, input), *condition = DYNQ_INPUT(node, Compress, condition);
  const dynq_op_tensor *out = node->outputs[0];
  size_t outer, size, inner, axis;
  DYNQ_TRY(find_axis(node, &outer, &size, &inner, &axis));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  const size_t bytes = inner * dynq_dtype_size(x->dtype);
  char *to = out->data;
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < condition->count && i < size; i++) {
      if (dynq_op_integer(condition, i) != 0) {
        memcpy(to, (const char *)x->data + (o * size + i) * bytes, bytes);
        to += bytes;
      }
    }
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Compress = {infer_compress, run_compress};
