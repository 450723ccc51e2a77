/*
 * What the ops of quantized layers share: their attributes.
 */
#ifndef DYNQ_MODEL_LINEAR_H
#define DYNQ_MODEL_LINEAR_H

#include "../model/op.h"

/* The attribute `scheme`: asymmetric (default) or symmetric. */
dynq_status dynq_op_scheme(const dynq_op_node *node, size_t attribute, dynq_scheme *scheme);
/* The attribute `granularity`: row (default) or tensor. */
dynq_status dynq_op_granularity(const dynq_op_node *node, size_t attribute, dynq_granularity *granularity);
/* Input `i` is float32 with at least `least` dimensions. */
dynq_status dynq_op_check_f32(const dynq_op_node *node, size_t i, const char *name, size_t least);
/* Product of all dimensions but the last `but`. */
size_t dynq_op_rows(const dynq_op_tensor *t, size_t but);

#endif
