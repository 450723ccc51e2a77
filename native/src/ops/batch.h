/*
 * The matrices of two tensors (..., M, K) and (..., K, N), broadcast as NumPy does it.
 */
#ifndef DYNQ_BATCH_H
#define DYNQ_BATCH_H

#include "../model/op.h"

typedef struct dynq_batch {
  size_t m, n, k;
  size_t rank, count; /* of the dimensions before the last two */
  size_t dims[DYNQ_MAX_RANK];
} dynq_batch;

/* Both have two dimensions or more. */
dynq_status dynq_batch_find(const dynq_op_tensor *a, const dynq_op_tensor *b, dynq_batch *batch);
/* Which matrix of `t` is number `index` of the batch. */
size_t dynq_batch_matrix(const dynq_batch *batch, const dynq_op_tensor *t, size_t index);

#endif
