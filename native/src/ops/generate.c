/*
 * Ops that make tensors from few numbers: Range, ConstantOfShape, EyeLike, OneHot; and Trilu, which keeps a triangle.
 */
#include "../base/fp_environment.h"
#include "checks.h"
#include "walk.h"

#include <math.h>
#include <string.h>

/* ---- Range ---- */

/* Elements from `start` on before `limit`; SIZE_MAX if delta is 0 or there are too many. */
static size_t range_of_floats(float start, float limit, float delta) {
  const fp_state fp = fp_enter();
  const double count = ceil(((double)limit - (double)start) / (double)delta);
  fp_leave(fp);
  return delta == 0.0f || !(fabs(count) < 0x1p62) ? SIZE_MAX : count > 0.0 ? (size_t)count : 0;
}

static size_t range_of_integers(int64_t start, int64_t limit, int64_t delta) {
  if (delta == 0) {
    return SIZE_MAX;
  }
  if (delta > 0 ? start >= limit : start <= limit) {
    return 0;
  }
  const uint64_t span = delta > 0 ? (uint64_t)limit - (uint64_t)start : (uint64_t)start - (uint64_t)limit;
  const uint64_t step = delta > 0 ? (uint64_t)delta : (uint64_t)0 - (uint64_t)delta;
  return (size_t)((span - 1) / step + 1);
}

static dynq_status infer_range(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(Range, start), DYNQ_SET_FLOAT | DYNQ_SET_INDEX));
  for (size_t i = 0; i < node->input_count; i++) {
    if (node->inputs[i]->count != 1 || node->inputs[i]->rank > 1) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu has %zu elements; expected a scalar", i,
                       node->inputs[i]->count);
    }
  }
  const dynq_op_tensor *start = DYNQ_INPUT(node, Range, start), *limit = DYNQ_INPUT(node, Range, limit);
  const dynq_op_tensor *delta = DYNQ_INPUT(node, Range, delta);
  size_t count;
  if (start->dtype == DYNQ_FLOAT32) {
    count = range_of_floats(*(const float *)start->data, *(const float *)limit->data, *(const float *)delta->data);
  } else {
    count = range_of_integers(dynq_op_value(start, 0), dynq_op_value(limit, 0), dynq_op_value(delta, 0));
  }
  if (count == SIZE_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "start, limit and delta do not make a range: delta is 0, a number is "
                                                  "not finite, or there are too many elements");
  }
  dynq_op_set_output(node, 0, start->dtype, 1, &count);
  return DYNQ_OK;
}

static void fill_range(const void *arg, size_t begin, size_t end) {
  const dynq_op_node *node = arg;
  const dynq_op_tensor *start = DYNQ_INPUT(node, Range, start), *delta = DYNQ_INPUT(node, Range, delta),
                       *out = node->outputs[0];
  for (size_t i = begin; i < end; i++) {
    if (out->dtype == DYNQ_FLOAT32) {
      ((float *)out->data)[i] = *(const float *)start->data + (float)i * *(const float *)delta->data;
    } else {
      const uint64_t value = (uint64_t)dynq_op_value(start, 0) + (uint64_t)i * (uint64_t)dynq_op_value(delta, 0);
      if (out->dtype == DYNQ_INT64) {
        ((int64_t *)out->data)[i] = (int64_t)value;
      } else {
        ((int32_t *)out->data)[i] = (int32_t)value;
      }
    }
  }
}

static dynq_status run_range(const dynq_op_node *node) {
  dynq_op_parallel(node, node->outputs[0]->count, node->outputs[0]->count * sizeof(float), fill_range, node);
  return DYNQ_OK;
}

/* `stash_type` is about 16-bit floats, which dynq does not have. */
const dynq_op_code dynq_op_Range = {infer_range, run_range};

/* ---- ConstantOfShape: `value` is a second input here, of one element ---- */

static dynq_status infer_constant(dynq_op_node *node) {
  size_t rank, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_static_shape(node, DYNQ_IN(ConstantOfShape, input), &rank, dims));
  const dynq_op_tensor *value = DYNQ_GIVEN(node, ConstantOfShape, value);
  if (value != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ConstantOfShape, value), DYNQ_SET_ANY));
  }
  if (value != NULL && value->count != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the value has %zu elements; expected 1", value->count);
  }
  dynq_op_set_output(node, 0, value != NULL ? value->dtype : DYNQ_FLOAT32, rank, dims);
  return DYNQ_OK;
}

static dynq_status run_constant(const dynq_op_node *node) {
  static const float zero = 0.0f;
  const dynq_op_tensor *out = node->outputs[0], *value = DYNQ_GIVEN(node, ConstantOfShape, value);
  const size_t size = dynq_dtype_size(out->dtype);
  const ptrdiff_t to_stride = (ptrdiff_t)size, from_stride = 0;
  dynq_copy_box(node, size, 1, &out->count, out->data, &to_stride, value != NULL ? value->data : &zero, &from_stride);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_ConstantOfShape = {infer_constant, run_constant};

/* ---- EyeLike ---- */

/* The bytes of 1. */
static void one_of(dynq_dtype dtype, void *p) {
  static const float f = 1.0f;
  static const int64_t l = 1;
  static const int32_t i = 1;
  static const uint8_t b = 1;
  memcpy(p,
         dtype == DYNQ_FLOAT32 ? (const void *)&f
         : dtype == DYNQ_INT64 ? (const void *)&l
         : dtype == DYNQ_INT32 ? (const void *)&i
                               : (const void *)&b,
         dynq_dtype_size(dtype));
}

static dynq_status infer_eye(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(EyeLike, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(EyeLike, input), 2));
  dynq_dtype dtype = DYNQ_INPUT(node, EyeLike, input)->dtype;
  if (node->attributes[DYNQ_ATTR(EyeLike, dtype)].present) {
    DYNQ_TRY(dynq_op_dtype_of_onnx(node->attributes[DYNQ_ATTR(EyeLike, dtype)].i, &dtype));
  }
  dynq_op_set_output(node, 0, dtype, 2, DYNQ_INPUT(node, EyeLike, input)->dims);
  return DYNQ_OK;
}

static dynq_status run_eye(const dynq_op_node *node) {
  const dynq_op_tensor *out = node->outputs[0];
  const size_t rows = out->dims[0], columns = out->dims[1], size = dynq_dtype_size(out->dtype);
  const int64_t k = dynq_op_int(node, DYNQ_ATTR(EyeLike, k));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  memset(out->data, 0, out->count * size);
  if (k >= (int64_t)columns || k <= -(int64_t)rows) {
    return DYNQ_OK;
  }
  size_t row = k < 0 ? (size_t)-k : 0, column = k > 0 ? (size_t)k : 0;
  for (; row < rows && column < columns; row++, column++) {
    one_of(out->dtype, (char *)out->data + (row * columns + column) * size);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_EyeLike = {infer_eye, run_eye};

/* ---- OneHot: an index out of [-depth, depth) has no 1; floats are cut to integers ---- */

static int64_t integer_at(const dynq_op_tensor *t, size_t i) {
  if (t->dtype != DYNQ_FLOAT32) {
    return dynq_op_integer(t, i);
  }
  const float x = ((const float *)t->data)[i];
  return x > -0x1p62f && x < 0x1p62f ? (int64_t)x : INT64_MIN;
}

static dynq_status infer_one_hot(dynq_op_node *node) {
  size_t axis, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(OneHot, indices), DYNQ_SET_NUMERIC));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(OneHot, depth), DYNQ_SET_NUMERIC));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(OneHot, values), DYNQ_SET_ANY));
  const dynq_op_tensor *indices = DYNQ_INPUT(node, OneHot, indices), *values = DYNQ_INPUT(node, OneHot, values);
  const dynq_op_tensor *number = DYNQ_INPUT(node, OneHot, depth);
  const int64_t depth = number->count == 1 ? integer_at(number, 0) : -1;
  if (depth < 0 || values->count != 2 || indices->rank == DYNQ_MAX_RANK) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "indices of rank %zu, depth %lld, %zu values; expected at most rank "
                     "%d, one depth of 0 or more, and 2 values",
                     indices->rank, (long long)depth, values->count, DYNQ_MAX_RANK - 1);
  }
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(OneHot, axis), indices->rank + 1, &axis));
  for (size_t d = 0; d < indices->rank + 1; d++) {
    dims[d] = d < axis ? indices->dims[d] : d == axis ? (size_t)depth : indices->dims[d - 1];
  }
  dynq_op_set_output(node, 0, values->dtype, indices->rank + 1, dims);
  return DYNQ_OK;
}

static dynq_status run_one_hot(const dynq_op_node *node) {
  const dynq_op_tensor *indices = DYNQ_INPUT(node, OneHot, indices), *values = DYNQ_INPUT(node, OneHot, values),
                       *out = node->outputs[0];
  const size_t size = dynq_dtype_size(out->dtype);
  const ptrdiff_t to_stride = (ptrdiff_t)size, from_stride = 0;
  const char *off = values->data, *on = off + size;
  size_t axis;
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(OneHot, axis), out->rank, &axis));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  dynq_copy_box(node, size, 1, &out->count, out->data, &to_stride, off, &from_stride);
  const size_t depth = out->dims[axis], inner = dynq_op_product(out, axis + 1, out->rank);
  for (size_t i = 0; i < indices->count; i++) {
    const int64_t index = integer_at(indices, i), limit = (int64_t)depth;
    if (index >= -limit && index < limit) {
      const size_t at = (size_t)(index < 0 ? index + limit : index);
      memcpy((char *)out->data + ((i / inner * depth + at) * inner + i % inner) * size, on, size);
    }
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_OneHot = {infer_one_hot, run_one_hot};

/* ---- Trilu ---- */

static dynq_status infer_trilu(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Trilu, input), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Trilu, input), *k = DYNQ_GIVEN(node, Trilu, k);
  if (x->rank < 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input 0 has rank %zu; expected 2 or more", x->rank);
  }
  if (k != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Trilu, k), DYNQ_SET_INDEX));
    if (k->count != 1) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "k has %zu elements; expected 1", k->count);
    }
  }
  return dynq_op_set_like(node, 0, x);
}

typedef struct trilu_job {
  const char *from;
  char *to;
  size_t rows, columns, size;
  int64_t k;
  bool upper;
} trilu_job;

/* Keeps the columns of row r from r + k on, or, if lower, those up to and with r + k. */
static void trilu_rows(const void *arg, size_t begin, size_t end) {
  const trilu_job *job = arg;
  const size_t size = job->size, columns = job->columns;
  for (size_t i = begin; i < end; i++) {
    const int64_t row = (int64_t)(i % job->rows), last = (int64_t)columns;
    int64_t split = row + job->k + (job->upper ? 0 : 1);
    split = split < 0 ? 0 : split > last ? last : split;
    const size_t before = (size_t)split * size, all = columns * size;
    char *to = job->to + i * all;
    const char *from = job->from + i * all;
    if (job->upper) {
      memset(to, 0, before);
      memmove(to + before, from + before, all - before);
    } else {
      memmove(to, from, before);
      memset(to + before, 0, all - before);
    }
  }
}

static dynq_status run_trilu(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Trilu, input), *diagonal = DYNQ_GIVEN(node, Trilu, k);
  const dynq_op_tensor *out = node->outputs[0];
  const bool upper = dynq_op_int(node, DYNQ_ATTR(Trilu, upper)) != 0;
  const size_t rows = x->dims[x->rank - 2], columns = x->dims[x->rank - 1];
  int64_t k = diagonal != NULL ? dynq_op_value(diagonal, 0) : 0;
  const int64_t wide = (int64_t)rows, high = (int64_t)columns;
  k = k < -wide - 1 ? -wide - 1 : k > high + 1 ? high + 1 : k; /* no further diagonal makes a difference */
  const trilu_job job = {x->data, out->data, rows, columns, dynq_dtype_size(x->dtype), k, upper};
  if (out->count != 0) {
    dynq_op_parallel(node, out->count / columns, out->count * sizeof(float), trilu_rows, &job);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Trilu = {infer_trilu, run_trilu};
