/*
 * Expand and Tile: a tensor repeated.
 */
#include "../base/alloc.h"
#include "checks.h"
#include "walk.h"

static dynq_status infer_expand(dynq_op_node *node) {
  dynq_op_tensor asked = {.dtype = DYNQ_INT64};
  size_t rank, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Expand, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_static_shape(node, DYNQ_IN(Expand, shape), &asked.rank, asked.dims));
  DYNQ_TRY(dynq_op_broadcast(DYNQ_INPUT(node, Expand, input), &asked, &rank, dims));
  dynq_op_set_output(node, 0, DYNQ_INPUT(node, Expand, input)->dtype, rank, dims);
  return DYNQ_OK;
}

static dynq_status run_expand(const dynq_op_node *node) {
  dynq_walk_copy_input(node);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Expand = {infer_expand, run_expand};

static dynq_status infer_tile(dynq_op_node *node) {
  int64_t repeats[DYNQ_MAX_RANK];
  size_t count, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Tile, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Tile, repeats), DYNQ_MAX_RANK, &count, repeats));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Tile, input);
  if (count != x->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "repeats has %zu elements; the tensor has %zu dimensions", count,
                     x->rank);
  }
  for (size_t d = 0; d < count; d++) {
    if (repeats[d] < 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "repeat %zu is %lld; expected 0 or more", d, (long long)repeats[d]);
    }
    dims[d] = dynq_size_mul(x->dims[d], (size_t)repeats[d]);
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  return DYNQ_OK;
}

/* Each axis becomes two: the repeats, of which the input has one with stride 0, and its own. */
static dynq_status run_tile(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Tile, input), *out = node->outputs[0];
  size_t dims[DYNQ_WALK_RANK];
  ptrdiff_t own[DYNQ_MAX_RANK], of_out[DYNQ_MAX_RANK], from[DYNQ_WALK_RANK], to[DYNQ_WALK_RANK];
  if (out->count == 0) {
    return DYNQ_OK;
  }
  dynq_strides(x, own);
  dynq_strides(out, of_out);
  for (size_t d = 0; d < x->rank; d++) {
    dims[2 * d] = out->dims[d] / x->dims[d];
    dims[2 * d + 1] = x->dims[d];
    from[2 * d] = 0;
    from[2 * d + 1] = own[d];
    to[2 * d] = of_out[d] * (ptrdiff_t)x->dims[d];
    to[2 * d + 1] = of_out[d];
  }
  dynq_copy_box(node, dynq_dtype_size(x->dtype), 2 * x->rank, dims, out->data, to, x->data, from);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Tile = {infer_tile, run_tile};
