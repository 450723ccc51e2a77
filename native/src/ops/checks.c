/*
 * Checks that the infer() of many ops share.
 */
#include "checks.h"

#include <string.h>

static dynq_status wrong_dtype(size_t i, dynq_dtype came, unsigned dtypes) {
  char names[96] = "";
  for (unsigned dtype = DYNQ_FLOAT32; dtype <= DYNQ_INT8; dtype++) {
    if ((dtypes & DYNQ_SET(dtype)) != 0) {
      const char *name = dynq_dtype_name((dynq_dtype)dtype);
      const size_t used = strlen(names);
      if (used + strlen(name) + 2 < sizeof names) {
        (void)strcat(strcat(names, used != 0 ? " " : ""), name);
      }
    }
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu is %s; expected one of: %s", i, dynq_dtype_name(came),
                   names);
}

dynq_status dynq_op_expect(const dynq_op_node *node, size_t i, unsigned dtypes) {
  const dynq_op_tensor *t = dynq_op_input(node, i);
  if (t == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu is left out; expected a tensor", i);
  }
  return (dtypes & DYNQ_SET(t->dtype)) != 0 ? DYNQ_OK : wrong_dtype(i, t->dtype, dtypes);
}

dynq_status dynq_op_expect_same(const dynq_op_node *node, size_t first, unsigned dtypes) {
  DYNQ_TRY(dynq_op_expect(node, first, dtypes));
  for (size_t i = first + 1; i < node->input_count; i++) {
    DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET(node->inputs[first]->dtype)));
  }
  return DYNQ_OK;
}

dynq_status dynq_op_expect_rank(const dynq_op_node *node, size_t i, size_t rank) {
  return node->inputs[i]->rank == rank ? DYNQ_OK
                                       : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu has rank %zu; expected %zu",
                                                   i, node->inputs[i]->rank, rank);
}

dynq_status dynq_op_check_lengths(const dynq_op_node *node, size_t i, size_t count) {
  const dynq_op_tensor *t = dynq_op_input(node, i);
  if (t == NULL || (t->dtype == DYNQ_INT64 && t->rank == 1 && t->dims[0] == count)) {
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                   "%s is %s of %zu dimensions and %zu elements; expected int64, one for each of %zu sequences",
                   node->op->inputs[i].name, dynq_dtype_name(t->dtype), t->rank, t->count, count);
}

dynq_status dynq_op_static_values(const dynq_op_node *node, size_t i, size_t max, size_t *count, int64_t *values) {
  DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET_INDEX));
  const dynq_op_tensor *t = node->inputs[i];
  if (t->rank > 1 || t->count > max) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "input %zu has rank %zu and %zu elements; expected rank 1 and at "
                     "most %zu",
                     i, t->rank, t->count, max);
  }
  *count = t->count;
  for (size_t at = 0; at < t->count; at++) {
    values[at] = dynq_op_value(t, at);
  }
  return DYNQ_OK;
}

dynq_status dynq_op_static_shape(const dynq_op_node *node, size_t i, size_t *rank, size_t *dims) {
  int64_t shape[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_static_values(node, i, DYNQ_MAX_RANK, rank, shape));
  for (size_t d = 0; d < *rank; d++) {
    if (shape[d] < 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "size %zu of the shape is %lld; expected 0 or more", d,
                       (long long)shape[d]);
    }
    dims[d] = (size_t)shape[d];
  }
  return DYNQ_OK;
}

dynq_status dynq_op_ints(const dynq_op_node *node, size_t attribute, size_t count, int64_t otherwise, int64_t *values) {
  const dynq_attribute *a = &node->attributes[attribute];
  if (a->present && a->count != count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "attribute %s has %zu values; expected %zu",
                     node->op->attributes[attribute].name, a->count, count);
  }
  for (size_t i = 0; i < count; i++) {
    values[i] = a->present ? a->ints[i] : otherwise;
  }
  return DYNQ_OK;
}

dynq_status dynq_op_axis_attribute(const dynq_op_node *node, size_t attribute, size_t rank, size_t *axis) {
  return dynq_op_axis(dynq_op_int(node, attribute), rank, axis);
}

dynq_status dynq_op_axes(size_t count, const int64_t *axes, size_t rank, size_t *at, unsigned *set) {
  *set = 0;
  for (size_t i = 0; i < count; i++) {
    DYNQ_TRY(dynq_op_axis(axes[i], rank, &at[i]));
    if ((*set & 1u << at[i]) != 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axes name axis %zu twice", at[i]);
    }
    *set |= 1u << at[i];
  }
  return DYNQ_OK;
}

dynq_status dynq_op_dtype_of_onnx(int64_t number, dynq_dtype *dtype) {
  switch (number) {
  case 1:
    *dtype = DYNQ_FLOAT32;
    return DYNQ_OK;
  case 2:
    *dtype = DYNQ_UINT8;
    return DYNQ_OK;
  case 3:
    *dtype = DYNQ_INT8;
    return DYNQ_OK;
  case 6:
    *dtype = DYNQ_INT32;
    return DYNQ_OK;
  case 7:
    *dtype = DYNQ_INT64;
    return DYNQ_OK;
  case 9:
    *dtype = DYNQ_BOOL;
    return DYNQ_OK;
  default:
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "ONNX type %lld is not supported; expected 1 (float32), 2 (uint8), 3 "
                     "(int8), 6 (int32), 7 (int64) or 9 (bool)",
                     (long long)number);
  }
}

bool dynq_op_string_is(const dynq_op_node *node, size_t attribute, const char *text) {
  const char *given = dynq_op_string(node, attribute);
  return given != NULL && strcmp(given, text) == 0;
}

size_t dynq_op_choice(const dynq_op_node *node, size_t attribute, size_t count, const char *const *names) {
  size_t index = 0;
  while (index < count && !dynq_op_string_is(node, attribute, names[index])) {
    index++;
  }
  return index;
}
