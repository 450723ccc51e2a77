/*
 * The pairs of matrices of a batched product, broadcast as NumPy does it.
 */
#ifndef DYNQ_BATCH_H
#define DYNQ_BATCH_H

#include "dynq/dynq.h"

typedef struct dynq_batch {
  size_t m, n, k;
  size_t rank, count; /* of the dimensions before the last two */
  size_t dims[DYNQ_MAX_RANK];
  /* Matrices of a and of b from one index of a dimension to the next; 0 if one serves for all. */
  size_t a_steps[DYNQ_MAX_RANK], b_steps[DYNQ_MAX_RANK];
} dynq_batch;

/* Returns the number of the matrix of a, or of b, that belongs to pair `index` of the batch. `steps` are those of a, or
 * of b. */
static inline size_t dynq_batch_matrix(const dynq_batch *batch, const size_t *steps, size_t index) {
  size_t at = 0;
  for (size_t i = batch->rank; i-- > 0;) {
    at += index % batch->dims[i] * steps[i];
    index /= batch->dims[i];
  }
  return at;
}

#endif
