/*
 * Flatten, Squeeze, Unsqueeze and Dropout, whose output is their input with another shape, and Size.
 */
#include "checks.h"

static dynq_status infer_flatten(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Flatten, input), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Flatten, input);
  const int64_t axis = dynq_op_int(node, DYNQ_ATTR(Flatten, axis)), rank = (int64_t)x->rank;
  if (axis < -rank || axis > rank) { /* the rank itself is allowed */
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis is %lld; the tensor has %zu dimensions", (long long)axis,
                     x->rank);
  }
  const size_t at = (size_t)(axis < 0 ? axis + rank : axis);
  const size_t dims[2] = {dynq_op_product(x, 0, at), dynq_op_product(x, at, x->rank)};
  dynq_op_set_output(node, 0, x->dtype, 2, dims);
  return DYNQ_OK;
}

static dynq_status infer_squeeze(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Squeeze, data), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Squeeze, data);
  size_t count, at[DYNQ_MAX_RANK], dims[DYNQ_MAX_RANK], rank = 0;
  int64_t axes[DYNQ_MAX_RANK];
  unsigned set = 0;
  if (DYNQ_GIVEN(node, Squeeze, axes) != NULL) {
    DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Squeeze, axes), DYNQ_MAX_RANK, &count, axes));
    DYNQ_TRY(dynq_op_axes(count, axes, x->rank, at, &set));
  } else {
    for (size_t d = 0; d < x->rank; d++) {
      set |= x->dims[d] == 1 ? 1u << d : 0;
    }
  }
  for (size_t d = 0; d < x->rank; d++) {
    if ((set & 1u << d) == 0) {
      dims[rank++] = x->dims[d];
    } else if (x->dims[d] != 1) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu to be squeezed has size %zu; expected 1", d, x->dims[d]);
    }
  }
  dynq_op_set_output(node, 0, x->dtype, rank, dims);
  return DYNQ_OK;
}

static dynq_status infer_unsqueeze(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Unsqueeze, data), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Unsqueeze, data);
  size_t count, at[DYNQ_MAX_RANK], dims[DYNQ_MAX_RANK];
  int64_t axes[DYNQ_MAX_RANK];
  unsigned set;
  DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Unsqueeze, axes), DYNQ_MAX_RANK, &count, axes));
  const size_t rank = x->rank + count;
  if (rank > DYNQ_MAX_RANK) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the output has %zu dimensions; at most %d are supported", rank,
                     DYNQ_MAX_RANK);
  }
  DYNQ_TRY(dynq_op_axes(count, axes, rank, at, &set));
  for (size_t d = 0, of_x = 0; d < rank; d++) {
    dims[d] = (set & 1u << d) != 0 ? 1 : x->dims[of_x++];
  }
  dynq_op_set_output(node, 0, x->dtype, rank, dims);
  return DYNQ_OK;
}

/* As in inference: it passes x on. `seed` and `ratio` are about training. */
static dynq_status infer_dropout(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Dropout, data), DYNQ_SET_FLOAT));
  const dynq_op_tensor *training = DYNQ_GIVEN(node, Dropout, training_mode);
  if (training != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Dropout, training_mode), DYNQ_SET_BOOL));
    if (training->count != 1 || *(const uint8_t *)training->data != 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "training_mode is not false; expected false: models are not "
                                                    "trained here");
    }
  }
  if (DYNQ_OUTPUT(node, Dropout, mask) != NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the mask of Dropout is read; expected only the first output to be");
  }
  return dynq_op_set_like(node, 0, DYNQ_INPUT(node, Dropout, data));
}

const dynq_op_code dynq_op_Flatten = {infer_flatten, NULL};

const dynq_op_code dynq_op_Squeeze = {infer_squeeze, NULL};

const dynq_op_code dynq_op_Unsqueeze = {infer_unsqueeze, NULL};

const dynq_op_code dynq_op_Dropout = {infer_dropout, NULL};

/* ---- Size ---- */

static dynq_status infer_size(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Size, data), DYNQ_SET_ANY));
  dynq_op_set_output(node, 0, DYNQ_INT64, 0, NULL);
  return DYNQ_OK;
}

static dynq_status run_size(const dynq_op_node *node) {
  *(int64_t *)node->outputs[0]->data = (int64_t)DYNQ_INPUT(node, Size, data)->count;
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Size = {infer_size, run_size};
