/*
 * Elementwise ops of two inputs: what they share.
 */
#include "pairs.h"

#include <string.h>

dynq_status dynq_pairs_shape(dynq_op_node *node, dynq_dtype dtype) {
  dynq_op_tensor all = *node->inputs[0];
  for (size_t i = 1; i < node->input_count; i++) {
    size_t rank, dims[DYNQ_MAX_RANK];
    DYNQ_TRY(dynq_op_broadcast(&all, node->inputs[i], &rank, dims));
    all.rank = rank;
    memcpy(all.dims, dims, sizeof dims);
  }
  dynq_op_set_output(node, 0, dtype, all.rank, all.dims);
  return DYNQ_OK;
}

void dynq_pairs_walk(const dynq_op_node *node, dynq_walk_inner inner, const void *context, const dynq_op_tensor *a,
                     const dynq_op_tensor *b) {
  dynq_walk walk;
  dynq_walk_begin(&walk, node->outputs[0]);
  dynq_walk_add(&walk, a);
  dynq_walk_add(&walk, b);
  walk.inner = inner;
  walk.context = context;
  dynq_walk_run(node, &walk);
}

dynq_status dynq_pairs_run(const dynq_op_node *node, dynq_walk_inner inner, const void *context) {
  dynq_pairs_walk(node, inner, context, node->inputs[0], node->inputs[1]);
  return DYNQ_OK;
}
