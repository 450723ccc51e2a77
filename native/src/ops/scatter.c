/*
 * ScatterElements and ScatterND: a copy of the data with some places overwritten, in the order of the updates: of two
 * for one place the later one stays. With a reduction the update is added to what is there, or multiplied with it, or
 * the larger or the smaller stays; NaN is larger and smaller than all.
 */
#include "../base/elements.h"
#include "gather.h"
#include "walk.h"

#include <math.h>

#include <string.h>

DYNQ_SAME_IN(ScatterElements, data, ScatterND, data);
DYNQ_SAME_IN(ScatterElements, indices, ScatterND, indices);
DYNQ_SAME_IN(ScatterElements, updates, ScatterND, updates);

typedef enum reduction { NONE, ADD, MUL, MAX, MIN } reduction;

static reduction reduction_of(const dynq_op_node *node, size_t attribute) {
  static const char *const names[] = {"none", "add", "mul", "max", "min"};
  return (reduction)dynq_op_choice(node, attribute, MIN + 1, names);
}

static dynq_status check_inputs(const dynq_op_node *node, size_t attribute) {
  const reduction how = reduction_of(node, attribute);
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ScatterElements, data), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ScatterElements, indices), DYNQ_SET_INDEX));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ScatterElements, updates),
                          DYNQ_SET(DYNQ_INPUT(node, ScatterElements, data)->dtype)));
  if (how > MIN) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "reduction is '%.40s'; expected none, add, mul, max or min",
                     dynq_op_string(node, attribute));
  }
  return how == NONE ? DYNQ_OK : dynq_op_expect(node, DYNQ_IN(ScatterElements, data), DYNQ_SET_NUMERIC);
}

static float combined(reduction how, float a, float b) {
  const bool is_nan = a != a || b != b;
  return dynq_one_nan(how == ADD   ? a + b
                      : how == MUL ? a * b
                      : is_nan     ? NAN
                      : how == MAX ? (a > b ? a : b)
                                   : (a < b ? a : b));
}

static int64_t combined_integers(reduction how, int64_t a, int64_t b) {
  return how == ADD   ? (int64_t)((uint64_t)a + (uint64_t)b)
         : how == MUL ? (int64_t)((uint64_t)a * (uint64_t)b)
         : how == MAX ? (a > b ? a : b)
                      : (a < b ? a : b);
}

/* Puts n elements at `from` into those at `to`. */
static void put(reduction how, dynq_dtype dtype, size_t n, void *to, const void *from) {
  if (how == NONE) {
    memcpy(to, from, n * dynq_dtype_size(dtype));
  } else if (dtype == DYNQ_FLOAT32) {
    for (size_t i = 0; i < n; i++) {
      ((float *)to)[i] = combined(how, ((float *)to)[i], ((const float *)from)[i]);
    }
  } else {
    const dynq_op_tensor old = {.dtype = dtype, .data = to}, new = {.dtype = dtype, .data = (void *)(uintptr_t)from};
    for (size_t i = 0; i < n; i++) {
      dynq_op_set_integer(&old, i, combined_integers(how, dynq_op_integer(&old, i), dynq_op_integer(&new, i)));
    }
  }
}

static void copy_data(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ScatterElements, data), *out = node->outputs[0];
  if (out->data != x->data && out->count != 0) {
    memcpy(out->data, x->data, x->count * dynq_dtype_size(x->dtype));
  }
}

static dynq_status infer_scatter_elements(dynq_op_node *node) {
  size_t axis;
  DYNQ_TRY(check_inputs(node, DYNQ_ATTR(ScatterElements, reduction)));
  const dynq_op_tensor *x = DYNQ_INPUT(node, ScatterElements, data),
                       *indices = DYNQ_INPUT(node, ScatterElements, indices),
                       *updates = DYNQ_INPUT(node, ScatterElements, updates);
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(ScatterElements, axis), x->rank, &axis));
  DYNQ_TRY(dynq_check_element_indices(x, indices, axis));
  if (updates->rank != indices->rank || memcmp(updates->dims, indices->dims, indices->rank * sizeof(size_t)) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the updates have another shape than the indices");
  }
  return dynq_op_set_like(node, 0, x);
}

typedef struct elements_job {
  dynq_element_axis axis;
  reduction how;
  dynq_dtype dtype;
  dynq_walk walk;
} elements_job;

/* Operands: the output at index 0 of the axis, the indices, the updates. */
static void scatter_elements(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {
  const elements_job *job = context;
  const dynq_element_axis *axis = &job->axis;
  for (size_t i = 0; i < n; i++) {
    const ptrdiff_t step = (ptrdiff_t)i;
    const size_t index = dynq_index_at(axis, at[1] + step * stride[1]);
    put(job->how, job->dtype, 1, at[0] + step * stride[0] + (ptrdiff_t)index * axis->stride, at[2] + step * stride[2]);
  }
}

/* One part, in the order of the updates. */
static void scatter_all(const void *arg, size_t begin, size_t end) {
  dynq_walk walk = ((const elements_job *)arg)->walk;
  (void)begin;
  (void)end;
  dynq_walk_run_in_order(&walk);
}

static dynq_status run_scatter_elements(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ScatterElements, data),
                       *indices = DYNQ_INPUT(node, ScatterElements, indices), *out = node->outputs[0];
  size_t axis;
  ptrdiff_t strides[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(ScatterElements, axis), x->rank, &axis));
  DYNQ_TRY(dynq_check_indices(indices, x->dims[axis]));
  copy_data(node);
  dynq_strides(out, strides);
  elements_job job = {
      .axis = {x->dims[axis], strides[axis], dynq_dtype_size(x->dtype), indices->dtype == DYNQ_INT64},
      .how = reduction_of(node, DYNQ_ATTR(ScatterElements, reduction)),
      .dtype = x->dtype,
  };
  strides[axis] = 0;
  dynq_walk_begin_strided(&job.walk, indices->rank, indices->dims, out->data, strides);
  dynq_walk_add(&job.walk, indices);
  dynq_walk_add(&job.walk, DYNQ_INPUT(node, ScatterElements, updates));
  job.walk.inner = scatter_elements;
  job.walk.context = &job;
  dynq_op_parallel(node, 1, 0, scatter_all, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_ScatterElements = {infer_scatter_elements, run_scatter_elements};

static dynq_status infer_scatter_nd(dynq_op_node *node) {
  DYNQ_TRY(check_inputs(node, DYNQ_ATTR(ScatterND, reduction)));
  const dynq_op_tensor *x = DYNQ_INPUT(node, ScatterND, data), *indices = DYNQ_INPUT(node, ScatterND, indices),
                       *updates = DYNQ_INPUT(node, ScatterND, updates);
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

/* One part, in the order of the updates. */
static void scatter_slices(const void *arg, size_t begin, size_t end) {
  const dynq_op_node *node = arg;
  const dynq_op_tensor *x = DYNQ_INPUT(node, ScatterND, data), *indices = DYNQ_INPUT(node, ScatterND, indices);
  const size_t width = indices->dims[indices->rank - 1], size = dynq_dtype_size(x->dtype);
  const size_t n = dynq_op_product(x, width, x->rank);
  const reduction how = reduction_of(node, DYNQ_ATTR(ScatterND, reduction));
  (void)begin;
  (void)end;
  for (size_t i = 0; n != 0 && i < indices->count / width; i++) {
    const size_t place = dynq_tuple_place(x, indices, i * width, 0, width, 0);
    put(how, x->dtype, n, (char *)node->outputs[0]->data + place * n * size,
        (const char *)DYNQ_INPUT(node, ScatterND, updates)->data + i * n * size);
  }
}

static dynq_status run_scatter_nd(const dynq_op_node *node) {
  DYNQ_TRY(dynq_check_tuples(DYNQ_INPUT(node, ScatterND, data), DYNQ_INPUT(node, ScatterND, indices), 0));
  copy_data(node);
  dynq_op_parallel(node, 1, 0, scatter_slices, node);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_ScatterND = {infer_scatter_nd, run_scatter_nd};
