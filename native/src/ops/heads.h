/*
 * Serves all ops of attention: heads of q, k and v where they lie, the mask, the scale and the soft cap.
 */
#ifndef DYNQ_HEADS_H
#define DYNQ_HEADS_H

#include "../base/alloc.h"
#include "op.h"

/* q, k or v, as (B, rows, heads * size) or (B, heads, rows, size); in elements from one to the next. */
typedef struct dynq_heads {
  const float *data;
  size_t heads, rows, size;
  size_t of_batch, of_head, of_row;
} dynq_heads;

/* A tensor of rank 3 holds `heads` heads side by side; one of rank 4 holds as many as it says. */
static inline dynq_heads dynq_heads_of(const dynq_op_tensor *t, size_t heads) {
  const size_t *d = t->dims;
  if (t->rank == 4) {
    const size_t of_head = dynq_size_mul(d[2], d[3]);
    return (dynq_heads){t->data, d[1], d[2], d[3], dynq_size_mul(d[1], of_head), of_head, d[3]};
  }
  const size_t size = heads != 0 ? d[2] / heads : 0;
  return (dynq_heads){t->data, heads, d[1], size, dynq_size_mul(d[1], d[2]), size, d[2]};
}

/* Finds the steps of a mask: batch, head, query, key, in elements. False if it is not float32 or bool, or does not
 * broadcast to `sizes`; a size of SIZE_MAX fits any. */
bool dynq_heads_mask(const dynq_op_tensor *mask, const size_t sizes[4], size_t steps[4]);
/* The attributes `scale` (default 1 / sqrt(size)) and `softcap` (*softcap 0: none). */
dynq_status dynq_heads_scale(const dynq_op_node *node, size_t scale_attribute, size_t softcap_attribute, size_t size,
                             float *scale, float *softcap);
/* Scores times `scale`, capped smoothly at `softcap`, over it: the softmax multiplies by it. */
void dynq_heads_cap(const dynq_vector_kernels *kernels, float scale, float softcap, size_t count, float *scores);

#endif
