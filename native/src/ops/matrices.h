/*
 * The matrices of two tensors (..., M, K) and (..., K, N), broadcast as NumPy does it.
 */
#ifndef DYNQ_MATRICES_H
#define DYNQ_MATRICES_H

#include "../gemm/batch.h"
#include "op.h"

/* A vector is a row on the left and a column on the right, as NumPy has it. */
dynq_op_tensor dynq_batch_as_matrix(const dynq_op_tensor *t, bool left);
/* Both have two dimensions or more. */
dynq_status dynq_batch_find(const dynq_op_tensor *a, const dynq_op_tensor *b, dynq_batch *batch);
/* Output 0 of a product of inputs 0 and 1: a vector among them leaves out its m or n. */
void dynq_batch_set_output(dynq_op_node *node, const dynq_batch *batch, dynq_dtype dtype);

#endif
