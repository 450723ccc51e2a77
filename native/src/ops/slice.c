/*
 * Slice: from `start`, every `step`-th element, up to but not with `end`, along some axes.
 */
#include "checks.h"
#include "walk.h"

#include <string.h>

typedef struct bounds {
  int64_t start, step;
  size_t count;
} bounds;

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* As NumPy clamps them: with a negative step `end` may be just before the first element, which is -1. */
static bounds bounds_of(int64_t start, int64_t end, int64_t step, int64_t size) {
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  start = clamp(start < 0 ? start + size : start, low, high);
  end = clamp(end < 0 ? end + size : end, low, high);
  const int64_t span = step > 0 ? end - start : start - end;
  const uint64_t stride = step > 0 ? (uint64_t)step : (uint64_t)0 - (uint64_t)step;
  return (bounds){start, step, span <= 0 ? 0 : (size_t)(((uint64_t)span - 1) / stride + 1)};
}

/* The bounds of every axis of input 0. */
static dynq_status find_bounds(const dynq_op_node *node, bounds *all) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Slice, data);
  int64_t starts[DYNQ_MAX_RANK], ends[DYNQ_MAX_RANK], axes[DYNQ_MAX_RANK], steps[DYNQ_MAX_RANK];
  size_t count, others, at[DYNQ_MAX_RANK];
  unsigned set;
  DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Slice, starts), x->rank, &count, starts));
  int64_t *const lists[] = {ends, axes, steps};
  for (size_t i = 0; i < count; i++) {
    axes[i] = (int64_t)i;
    steps[i] = 1;
  }
  for (size_t i = 0; i < 3; i++) {
    if (i == 0 || dynq_op_input(node, DYNQ_IN(Slice, ends) + i) != NULL) {
      DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Slice, ends) + i, x->rank, &others, lists[i]));
      if (others != count) {
        return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu elements; expected %zu, as starts",
                         node->op->inputs[DYNQ_IN(Slice, ends) + i].name, others, count);
      }
    }
  }
  DYNQ_TRY(dynq_op_axes(count, axes, x->rank, at, &set));
  for (size_t d = 0; d < x->rank; d++) {
    all[d] = (bounds){0, 1, x->dims[d]};
  }
  for (size_t i = 0; i < count; i++) {
    if (steps[i] == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "step %zu is 0; expected another number", i);
    }
    all[at[i]] = bounds_of(starts[i], ends[i], steps[i], (int64_t)x->dims[at[i]]);
  }
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  bounds all[DYNQ_MAX_RANK];
  size_t dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Slice, data), DYNQ_SET_ANY));
  DYNQ_TRY(find_bounds(node, all));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Slice, data);
  for (size_t d = 0; d < x->rank; d++) {
    dims[d] = all[d].count;
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Slice, data), *out = node->outputs[0];
  bounds all[DYNQ_MAX_RANK];
  ptrdiff_t strides[DYNQ_MAX_RANK], to_strides[DYNQ_MAX_RANK];
  DYNQ_TRY(find_bounds(node, all));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  dynq_strides(x, strides);
  dynq_strides(out, to_strides);
  const char *from = x->data;
  for (size_t d = 0; d < x->rank; d++) {
    from += all[d].start * strides[d];
    strides[d] =
        all[d].count > 1 ? strides[d] * (ptrdiff_t)all[d].step : 0; /* a lone element's step may be any number */
  }
  dynq_copy_box(node, dynq_dtype_size(x->dtype), x->rank, out->dims, out->data, to_strides, from, strides);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Slice = {infer, run};
