/*
 * The matrices of two tensors, broadcast.
 */
#include "matrices.h"

#include "../base/alloc.h"
#include "../base/status.h"

#include <string.h>

dynq_op_tensor dynq_batch_as_matrix(const dynq_op_tensor *t, bool left) {
  dynq_op_tensor m = *t;
  if (t->rank == 1) {
    m.rank = 2;
    m.dims[left ? 1 : 0] = t->dims[0];
    m.dims[left ? 0 : 1] = 1;
  }
  return m;
}

/* Finds the steps of a tensor without its last two dimensions. */
static void find_steps(const dynq_batch *batch, const dynq_op_tensor *t, size_t *steps) {
  size_t step = 1;
  for (size_t i = 0; i < batch->rank; i++) { /* from the last dimension on */
    const size_t own = i < t->rank ? t->dims[t->rank - 1 - i] : 1;
    steps[batch->rank - 1 - i] = own != 1 ? step : 0;
    step *= own;
  }
}

dynq_status dynq_batch_find(const dynq_op_tensor *a, const dynq_op_tensor *b, dynq_batch *batch) {
  dynq_op_tensor left = *a, right = *b; /* without the last two dimensions */
  batch->m = left.dims[left.rank - 2];
  batch->k = left.dims[left.rank - 1];
  batch->n = right.dims[right.rank - 1];
  if (right.dims[right.rank - 2] != batch->k) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "a has %zu columns and b %zu rows", batch->k,
                     right.dims[right.rank - 2]);
  }
  left.rank -= 2;
  right.rank -= 2;
  DYNQ_TRY(dynq_op_broadcast(&left, &right, &batch->rank, batch->dims));
  batch->count = 1;
  for (size_t i = 0; i < batch->rank; i++) {
    batch->count = dynq_size_mul(batch->count, batch->dims[i]);
  }
  find_steps(batch, &left, batch->a_steps);
  find_steps(batch, &right, batch->b_steps);
  return DYNQ_OK;
}

void dynq_batch_set_output(dynq_op_node *node, const dynq_batch *batch, dynq_dtype dtype) {
  size_t rank = batch->rank, dims[DYNQ_MAX_RANK];
  memcpy(dims, batch->dims, sizeof dims);
  if (node->inputs[0]->rank != 1) {
    dims[rank++] = batch->m;
  }
  if (node->inputs[1]->rank != 1) {
    dims[rank++] = batch->n;
  }
  dynq_op_set_output(node, 0, dtype, rank, dims);
}
