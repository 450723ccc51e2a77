/*
 * The matrices of two tensors, broadcast.
 */
#include "batch.h"

#include "../alloc.h"
#include "../status.h"

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

size_t dynq_batch_matrix(const dynq_batch *batch, const dynq_op_tensor *t, size_t index) {
  size_t at = 0, step = 1;
  for (size_t i = 0; i < batch->rank; i++) { /* from the last dimension on */
    const size_t size = batch->dims[batch->rank - 1 - i], own = i + 2 < t->rank ? t->dims[t->rank - 3 - i] : 1;
    at += own != 1 ? index % size * step : 0;
    step *= own;
    index /= size;
  }
  return at;
}
