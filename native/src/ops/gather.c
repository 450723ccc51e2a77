/*
 * Gather, GatherElements and GatherND. A negative index counts from the end; one out of range is an error.
 */
#include "gather.h"

#include "checks.h"
#include "walk.h"

#include <string.h>

dynq_status dynq_check_indices(const dynq_op_tensor *indices, size_t size) {
  const int64_t limit = (int64_t)size;
  for (size_t i = 0; i < indices->count; i++) {
    const int64_t index = dynq_op_value(indices, i);
    if (index < -limit || index >= limit) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "index %zu is %lld; the axis has size %zu", i, (long long)index,
                       size);
    }
  }
  return DYNQ_OK;
}

/* Gives the output the dims of x before axis `before`, the first `count` of the indices, and those of x from `after`. */
static dynq_status set_output(dynq_op_node *node, const dynq_op_tensor *x, size_t before, size_t count,
                              const dynq_op_tensor *indices, size_t after) {
  size_t dims[DYNQ_MAX_RANK];
  const size_t rest = x->rank - after, rank = before + count + rest;
  if (rank > DYNQ_MAX_RANK) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the output has %zu dimensions; at most %d are supported", rank,
                     DYNQ_MAX_RANK);
  }
  memcpy(dims, x->dims, before * sizeof *dims);
  memcpy(dims + before, indices->dims, count * sizeof *dims);
  memcpy(dims + before + count, x->dims + after, rest * sizeof *dims);
  dynq_op_set_output(node, 0, x->dtype, rank, dims);
  return DYNQ_OK;
}

/* ---- Gather: whole slices ---- */

static dynq_status infer_gather(dynq_op_node *node) {
  size_t axis;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Gather, data), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Gather, indices), DYNQ_SET_INDEX));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Gather, data), *indices = DYNQ_INPUT(node, Gather, indices);
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(Gather, axis), x->rank, &axis));
  return set_output(node, x, axis, indices->rank, indices, axis + 1);
}

typedef struct gather_job {
  const dynq_op_tensor *indices;
  const char *from;
  char *to;
  size_t axis_size, slice; /* bytes */
} gather_job;

/* Step i is index i % count of outer place i / count. */
static void gather_slices(const void *arg, size_t begin, size_t end) {
  const gather_job *job = arg;
  for (size_t i = begin; i < end; i++) {
    const size_t outer = i / job->indices->count;
    const int64_t index = dynq_op_value(job->indices, i % job->indices->count);
    const size_t at = outer * job->axis_size + dynq_wrapped_index(index, job->axis_size);
    memcpy(job->to + i * job->slice, job->from + at * job->slice, job->slice);
  }
}

static dynq_status run_gather(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Gather, data), *indices = DYNQ_INPUT(node, Gather, indices),
                       *out = node->outputs[0];
  size_t axis;
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(Gather, axis), x->rank, &axis));
  DYNQ_TRY(dynq_check_indices(indices, x->dims[axis]));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  const size_t inner = dynq_op_product(x, axis + 1, x->rank);
  const gather_job job = {indices, x->data, out->data, x->dims[axis], inner * dynq_dtype_size(x->dtype)};
  dynq_op_parallel(node, out->count / inner, out->count * sizeof(float), gather_slices, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Gather = {infer_gather, run_gather};

/* ---- GatherElements: an index for each element ---- */

dynq_status dynq_check_element_indices(const dynq_op_tensor *x, const dynq_op_tensor *indices, size_t axis) {
  if (indices->rank != x->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the indices have rank %zu; expected %zu, as the data", indices->rank,
                     x->rank);
  }
  for (size_t d = 0; d < x->rank; d++) {
    if (d != axis && indices->dims[d] > x->dims[d]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the indices have size %zu in axis %zu; the data have %zu",
                       indices->dims[d], d, x->dims[d]);
    }
  }
  return DYNQ_OK;
}

static dynq_status infer_gather_elements(dynq_op_node *node) {
  size_t axis;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(GatherElements, data), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(GatherElements, indices), DYNQ_SET_INDEX));
  const dynq_op_tensor *x = DYNQ_INPUT(node, GatherElements, data),
                       *indices = DYNQ_INPUT(node, GatherElements, indices);
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(GatherElements, axis), x->rank, &axis));
  DYNQ_TRY(dynq_check_element_indices(x, indices, axis));
  dynq_op_set_output(node, 0, x->dtype, indices->rank, indices->dims);
  return DYNQ_OK;
}

/* Operands: the output, the indices, the data at index 0 of the axis. */
static void gather_elements(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {
  const dynq_element_axis *axis = context;
  for (size_t i = 0; i < n; i++) {
    const ptrdiff_t step = (ptrdiff_t)i;
    const size_t index = dynq_index_at(axis, at[1] + step * stride[1]);
    memcpy(at[0] + step * stride[0], at[2] + step * stride[2] + (ptrdiff_t)index * axis->stride, axis->element);
  }
}

static dynq_status run_gather_elements(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, GatherElements, data),
                       *indices = DYNQ_INPUT(node, GatherElements, indices);
  size_t axis;
  ptrdiff_t strides[DYNQ_MAX_RANK];
  dynq_walk walk;
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(GatherElements, axis), x->rank, &axis));
  DYNQ_TRY(dynq_check_indices(indices, x->dims[axis]));
  dynq_strides(x, strides);
  const dynq_element_axis along = {x->dims[axis], strides[axis], dynq_dtype_size(x->dtype),
                                   indices->dtype == DYNQ_INT64};
  strides[axis] = 0;
  dynq_walk_begin(&walk, node->outputs[0]);
  dynq_walk_add(&walk, indices);
  dynq_walk_add_strided(&walk, x->data, strides);
  walk.inner = gather_elements;
  walk.context = &along;
  dynq_walk_run(node, &walk);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_GatherElements = {infer_gather_elements, run_gather_elements};

/* ---- GatherND: tuples of indices ---- */

dynq_status dynq_check_tuples(const dynq_op_tensor *x, const dynq_op_tensor *indices, size_t first) {
  const size_t width = indices->rank != 0 ? indices->dims[indices->rank - 1] : 0;
  for (size_t i = 0; i < indices->count; i++) {
    const size_t axis = first + i % width;
    const int64_t index = dynq_op_value(indices, i), limit = (int64_t)x->dims[axis];
    if (index < -limit || index >= limit) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "index %zu is %lld; axis %zu has size %zu", i, (long long)index,
                       axis, x->dims[axis]);
    }
  }
  return DYNQ_OK;
}

static dynq_status infer_gather_nd(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(GatherND, data), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(GatherND, indices), DYNQ_SET_INDEX));
  const dynq_op_tensor *x = DYNQ_INPUT(node, GatherND, data), *indices = DYNQ_INPUT(node, GatherND, indices);
  const int64_t batch = dynq_op_int(node, DYNQ_ATTR(GatherND, batch_dims));
  if (indices->rank == 0 || x->rank == 0 || batch < 0 || (uint64_t)batch >= indices->rank ||
      (uint64_t)batch >= x->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "batch_dims is %lld for data of rank %zu and indices of rank %zu; "
                     "expected fewer than either",
                     (long long)batch, x->rank, indices->rank);
  }
  const size_t first = (size_t)batch, width = indices->dims[indices->rank - 1];
  for (size_t d = 0; d < first; d++) {
    if (indices->dims[d] != x->dims[d]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "batch axis %zu has size %zu in the indices and %zu in the data", d,
                       indices->dims[d], x->dims[d]);
    }
  }
  if (width == 0 || width > x->rank - first) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the last axis of the indices has size %zu; expected 1 to %zu", width,
                     x->rank - first);
  }
  return set_output(node, x, 0, indices->rank - 1, indices, first + width);
}

typedef struct gather_nd_job {
  const dynq_op_tensor *x, *indices;
  char *to;
  size_t first, width, tuples; /* tuples: of one batch */
  size_t slice;                /* bytes */
} gather_nd_job;

static void gather_tuples(const void *arg, size_t begin, size_t end) {
  const gather_nd_job *job = arg;
  for (size_t i = begin; i < end; i++) {
    const size_t at = dynq_tuple_place(job->x, job->indices, i * job->width, job->first, job->width, i / job->tuples);
    memcpy(job->to + i * job->slice, (const char *)job->x->data + at * job->slice, job->slice);
  }
}

static dynq_status run_gather_nd(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, GatherND, data), *indices = DYNQ_INPUT(node, GatherND, indices),
                       *out = node->outputs[0];
  const size_t first = (size_t)dynq_op_int(node, DYNQ_ATTR(GatherND, batch_dims)),
               width = indices->dims[indices->rank - 1];
  DYNQ_TRY(dynq_check_tuples(x, indices, first));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  const size_t inner = dynq_op_product(x, first + width, x->rank);
  const gather_nd_job job = {x,
                             indices,
                             out->data,
                             first,
                             width,
                             dynq_op_product(indices, first, indices->rank - 1),
                             inner * dynq_dtype_size(x->dtype)};
  dynq_op_parallel(node, out->count / inner, out->count * sizeof(float), gather_tuples, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_GatherND = {infer_gather_nd, run_gather_nd};
