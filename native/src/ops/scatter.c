/*
 * ScatterElements and ScatterND: a copy of the data with some places overwritten, in the order of the updates: of two
 * for one place the later one stays.
 */
#include "gather.h"
#include "walk.h"

#include <string.h>

static dynq_status check_inputs(const dynq_op_node *node, size_t reduction) {
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, 1, DYNQ_SET_INDEX));
  DYNQ_TRY(dynq_op_expect(node, 2, DYNQ_SET(node->inputs[0]->dtype)));
  if (node->attributes[reduction].present && !dynq_op_string_is(node, reduction, "none")) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "reduction is '%.40s'; only none is supported",
                     node->attributes[reduction].string);
  }
  return DYNQ_OK;
}

static void copy_data(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *out = node->outputs[0];
  if (out->data != x->data && out->count != 0) {
    memcpy(out->data, x->data, x->count * dynq_dtype_size(x->dtype));
  }
}

static dynq_status infer_scatter_elements(dynq_op_node *node) {
  size_t axis;
  DYNQ_TRY(check_inputs(node, 1));
  const dynq_op_tensor *x = node->inputs[0], *indices = node->inputs[1], *updates = node->inputs[2];
  DYNQ_TRY(dynq_op_axis_attribute(node, 0, 0, x->rank, &axis));
  DYNQ_TRY(dynq_check_element_indices(x, indices, axis));
  if (updates->rank != indices->rank || memcmp(updates->dims, indices->dims, indices->rank * sizeof(size_t)) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the updates have another shape than the indices");
  }
  return dynq_op_set_like(node, 0, x);
}

/* Operands: the output at index 0 of the axis, the indices, the updates. */
static void scatter_elements(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {
  const dynq_element_axis *axis = context;
  for (size_t i = 0; i < n; i++) {
    const ptrdiff_t step = (ptrdiff_t)i;
    const size_t index = dynq_index_at(axis, at[1] + step * stride[1]);
    memcpy(at[0] + step * stride[0] + (ptrdiff_t)index * axis->stride, at[2] + step * stride[2], axis->element);
  }
}

static dynq_status run_scatter_elements(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *indices = node->inputs[1], *out = node->outputs[0];
  size_t axis;
  ptrdiff_t strides[DYNQ_MAX_RANK];
  dynq_walk walk;
  DYNQ_TRY(dynq_op_axis_attribute(node, 0, 0, x->rank, &axis));
  DYNQ_TRY(dynq_check_indices(indices, x->dims[axis]));
  copy_data(node);
  dynq_strides(out, strides);
  const dynq_element_axis along = {x->dims[axis], strides[axis], dynq_dtype_size(x->dtype),
                                   indices->dtype == DYNQ_INT64};
  strides[axis] = 0;
  dynq_walk_begin_strided(&walk, indices->rank, indices->dims, out->data, strides);
  dynq_walk_add(&walk, indices);
  dynq_walk_add(&walk, node->inputs[2]);
  walk.inner = scatter_elements;
  walk.context = &along;
  dynq_walk_run_in_order(&walk);
  return DYNQ_OK;
}

const dynq_op dynq_op_ScatterElements = {
    .name = "ScatterElements",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1,
    .attributes = {{"axis", DYNQ_ATTRIBUTE_INT}, {"reduction", DYNQ_ATTRIBUTE_STRING}},
    .infer = infer_scatter_elements,
    .run = run_scatter_elements};

static dynq_status infer_scatter_nd(dynq_op_node *node) {
  DYNQ_TRY(check_inputs(node, 0));
  const dynq_op_tensor *x = node->inputs[0], *indices = node->inputs[1], *updates = node->inputs[2];
  const size_t width = indices->rank != 0 ? indices->dims[indices->rank - 1] : 0;
  if (width == 0 || width > x->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the last axis of the indices has size %zu; expected 1 to %zu", width,
                     x->rank);
  }
  const size_t tuple_axes = indices->rank - 1, rank = tuple_axes + x->rank - width;
  bool same = updates->rank == rank;
  for (size_t d = 0; d < rank && same; d++) {
    same = updates->dims[d] == (d < tuple_axes ? indices->dims[d] : x->dims[width + d - tuple_axes]);
  }
  if (!same) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "the updates have rank %zu or other sizes than expected: rank %zu, the "
                     "sizes of the indices but for the last and those of the data from axis %zu on",
                     updates->rank, rank, width);
  }
  return dynq_op_set_like(node, 0, x);
}

static dynq_status run_scatter_nd(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *indices = node->inputs[1], *updates = node->inputs[2];
  const size_t width = indices->dims[indices->rank - 1];
  DYNQ_TRY(dynq_check_tuples(x, indices, 0));
  copy_data(node);
  const size_t slice = dynq_op_product(x, width, x->rank) * dynq_dtype_size(x->dtype);
  for (size_t i = 0; slice != 0 && i < indices->count / width; i++) {
    const size_t place = dynq_tuple_place(x, indices, i * width, 0, width, 0);
    memcpy((char *)node->outputs[0]->data + place * slice, (const char *)updates->data + i * slice, slice);
  }
  return DYNQ_OK;
}

const dynq_op dynq_op_ScatterND = {.name = "ScatterND",
                                   .min_inputs = 3,
                                   .max_inputs = 3,
                                   .min_outputs = 1,
                                   .max_outputs = 1,
                                   .in_place = 1,
                                   .attributes = {{"reduction", DYNQ_ATTRIBUTE_STRING}},
                                   .infer = infer_scatter_nd,
                                   .run = run_scatter_nd};
