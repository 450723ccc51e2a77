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

/* A vector is a row on the left and a column on the right, as NumPy has it. */
dynq_op_tensor dynq_batch_as_matrix(const dynq_op_tensor *t, bool left);
/* Both have two dimensions or more. */
dynq_status dynq_batch_find(const dynq_op_tensor *a, const dynq_op_tensor *b, dynq_batch *batch);
/* Output 0 of a product of inputs 0 and 1: a vector among them leaves out its m or n. */
void dynq_batch_set_output(dynq_op_node *node, const dynq_batch *batch, dynq_dtype dtype);
/* Which matrix of `t` is number `index` of the batch. */
size_t dynq_batch_matrix(const dynq_batch *batch, const dynq_op_tensor *t, size_t index);

#endif
