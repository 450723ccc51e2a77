/*
 * The list of ops and what their infer() functions share.
 */
#include "op.h"

#include "../alloc.h"
#include "model.h"

#include <string.h>

#define DYNQ_OP(name, file) extern const dynq_op dynq_op_##name;
#include "ops.def"
#undef DYNQ_OP

const dynq_op *const dynq_op_list[] = {
#define DYNQ_OP(name, file) &dynq_op_##name,
#include "ops.def"
#undef DYNQ_OP
};
const size_t dynq_op_count = sizeof dynq_op_list / sizeof dynq_op_list[0];

const char *dynq_op_name(size_t index) { return index < dynq_op_count ? dynq_op_list[index]->name : NULL; }

const dynq_op *dynq_op_find(const char *name) {
  for (size_t i = 0; i < dynq_op_count; i++) {
    if (strcmp(dynq_op_list[i]->name, name) == 0) {
      return dynq_op_list[i];
    }
  }
  return NULL;
}

size_t dynq_dtype_size(dynq_dtype dtype) {
  switch (dtype) {
  case DYNQ_FLOAT32:
  case DYNQ_INT32:
    return 4;
  case DYNQ_INT64:
    return 8;
  case DYNQ_BOOL:
  case DYNQ_UINT8:
  case DYNQ_INT8:
    return 1;
  }
  return 0;
}

const char *dynq_dtype_name(dynq_dtype dtype) {
  switch (dtype) {
  case DYNQ_FLOAT32:
    return "float32";
  case DYNQ_INT64:
    return "int64";
  case DYNQ_INT32:
    return "int32";
  case DYNQ_BOOL:
    return "bool";
  case DYNQ_UINT8:
    return "uint8";
  case DYNQ_INT8:
    return "int8";
  }
  return "unknown";
}

size_t dynq_dims_count(dynq_dtype dtype, size_t rank, const size_t *dims) {
  size_t count = 1;
  for (size_t i = 0; i < rank; i++) {
    count = dynq_size_mul(count, dims[i]);
  }
  return dynq_size_mul(count, dynq_dtype_size(dtype)) <= PTRDIFF_MAX ? count : SIZE_MAX;
}

void dynq_op_set_output(dynq_op_node *node, size_t i, dynq_dtype dtype, size_t rank, const size_t *dims) {
  dynq_op_tensor *t = dynq_op_output(node, i);
  if (t != NULL) {
    t->dtype = dtype;
    t->rank = rank;
    for (size_t d = 0; d < rank; d++) {
      t->dims[d] = dims[d];
    }
  }
}

dynq_status dynq_op_axis(int64_t axis, size_t rank, size_t *at) {
  const int64_t r = (int64_t)rank;
  if (axis < -r || axis >= r) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis is %lld; the tensor has %zu dimensions", (long long)axis, rank);
  }
  *at = (size_t)(axis < 0 ? axis + r : axis);
  return DYNQ_OK;
}

dynq_status dynq_op_broadcast(const dynq_op_tensor *a, const dynq_op_tensor *b, size_t *rank, size_t *dims) {
  const size_t r = a->rank > b->rank ? a->rank : b->rank;
  for (size_t i = 0; i < r; i++) { /* from the last dimension on */
    const size_t of_a = i < a->rank ? a->dims[a->rank - 1 - i] : 1;
    const size_t of_b = i < b->rank ? b->dims[b->rank - 1 - i] : 1;
    if (of_a != of_b && of_a != 1 && of_b != 1) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sizes %zu and %zu of dimension %zu do not go together", of_a, of_b,
                       r - 1 - i);
    }
    dims[r - 1 - i] = of_a == 1 ? of_b : of_a;
  }
  *rank = r;
  return DYNQ_OK;
}

dynq_status dynq_fail_in_node(dynq_status status, const dynq_plan_node *node) {
  return dynq_fail(status, "node '%.80s' (%s): %s", node->name, node->op->name, dynq_last_error());
}
