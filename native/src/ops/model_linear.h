/*
 * What the ops of layers share: their attributes and checks.
 */
#ifndef DYNQ_MODEL_LINEAR_H
#define DYNQ_MODEL_LINEAR_H

#include "../model/op.h"

/* The attribute `scheme`: asymmetric (default) or symmetric. */
dynq_status dynq_op_scheme(const dynq_op_node *node, size_t attribute, dynq_scheme *scheme);
/* The attribute `granularity`: row (default) or tensor. */
dynq_status dynq_op_granularity(const dynq_op_node *node, size_t attribute, dynq_granularity *granularity);
/* The attribute `activation`: none (default) relu sigmoid tanh silu gelu gelu_tanh. */
dynq_status dynq_op_activation(const dynq_op_node *node, size_t attribute, dynq_activation *activation);
/* A fixed range from the attributes `lo` and `hi`, which follow each other; *fixed: the node has them. */
dynq_status dynq_op_range(const dynq_op_node *node, size_t attribute, bool *fixed, float *lo, float *hi);
/* `t` is float32 of that shape. */
dynq_status dynq_op_check_shape(const dynq_op_tensor *t, const char *name, size_t rank, const size_t *dims);
/* Input `i` is float32 with at least `least` dimensions. */
dynq_status dynq_op_check_f32(const dynq_op_node *node, size_t i, const char *name, size_t least);

#endif
