/*
 * Ops that are about shapes alone: Identity, Reshape, Shape.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "op.h"

#include <string.h>

static dynq_status infer_identity(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Identity, input);
  dynq_op_set_output(node, 0, x->dtype, x->rank, x->dims);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Identity = {infer_identity, NULL};

/* ---- Reshape ---- */

/* The one size that is -1: what the others leave. */
static dynq_status complete(const dynq_op_tensor *x, size_t rank, size_t *dims, size_t open) {
  size_t others = 1;
  for (size_t i = 0; i < rank; i++) {
    others = i != open ? dynq_size_mul(others, dims[i]) : others;
  }
  if (open < rank) {
    if (others == 0 || others == SIZE_MAX || x->count % others != 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "shape: %zu elements are no multiple of %zu", x->count, others);
    }
    dims[open] = x->count / others;
  } else if (others != x->count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "shape takes %zu elements; the input has %zu", others, x->count);
  }
  return DYNQ_OK;
}

static dynq_status infer_reshape(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Reshape, data), *shape = DYNQ_INPUT(node, Reshape, shape);
  const bool zero_is_zero = dynq_op_int(node, DYNQ_ATTR(Reshape, allowzero)) != 0;
  size_t dims[DYNQ_MAX_RANK], open = DYNQ_MAX_RANK;
  if (shape->dtype != DYNQ_INT64 || shape->rank != 1 || shape->count > DYNQ_MAX_RANK) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "shape: expected int64 and one dimension of %d at most",
                     DYNQ_MAX_RANK);
  }
  for (size_t i = 0; i < shape->count; i++) {
    const int64_t size = dynq_op_value(shape, i);
    if (size < -1 || (size == -1 && open < DYNQ_MAX_RANK) || (size == 0 && !zero_is_zero && i >= x->rank)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "shape: size %lld of dimension %zu", (long long)size, i);
    }
    open = size == -1 ? i : open;
    dims[i] = size == 0 && !zero_is_zero ? x->dims[i] : (size_t)size;
  }
  DYNQ_TRY(complete(x, shape->count, dims, open));
  dynq_op_set_output(node, 0, x->dtype, shape->count, dims);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Reshape = {infer_reshape, NULL};

/* ---- Shape ---- */

/* The dimensions [start, end) that count; both are clamped to the rank. */
static void range(const dynq_op_node *node, size_t *start, size_t *end) {
  const int64_t rank = (int64_t)DYNQ_INPUT(node, Shape, data)->rank;
  const dynq_attribute *last = &node->attributes[DYNQ_ATTR(Shape, end)];
  int64_t bounds[2] = {dynq_op_int(node, DYNQ_ATTR(Shape, start)), last->present ? last->i : rank};
  for (size_t i = 0; i < 2; i++) {
    bounds[i] = bounds[i] < -rank ? 0 : bounds[i] < 0 ? bounds[i] + rank : bounds[i] > rank ? rank : bounds[i];
  }
  *start = (size_t)bounds[0];
  *end = (size_t)(bounds[1] > bounds[0] ? bounds[1] : bounds[0]);
}

static dynq_status infer_shape(dynq_op_node *node) {
  size_t start, end;
  range(node, &start, &end);
  dynq_op_set_output(node, 0, DYNQ_INT64, 1, (const size_t[]){end - start});
  return DYNQ_OK;
}

static dynq_status run_shape(const dynq_op_node *node) {
  size_t start, end;
  range(node, &start, &end);
  for (size_t i = start; i < end; i++) {
    ((int64_t *)node->outputs[0]->data)[i - start] = (int64_t)DYNQ_INPUT(node, Shape, data)->dims[i];
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Shape = {infer_shape, run_shape};
