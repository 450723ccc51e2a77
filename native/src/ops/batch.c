/*
 * The matrices of two tensors, broadcast.
 */
#include "batch.h"

#include "../alloc.h"
#include "../status.h"

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
