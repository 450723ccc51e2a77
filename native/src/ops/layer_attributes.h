/*
 * Attributes and checks that the ops of layers share.
 */
#ifndef DYNQ_LAYER_ATTRIBUTES_H
#define DYNQ_LAYER_ATTRIBUTES_H

#include "op.h"

/* The attribute `scheme`: asymmetric (default) or symmetric. */
dynq_status dynq_op_scheme(const dynq_op_node *node, size_t attribute, dynq_scheme *scheme);
/* The attribute `granularity`: row (default) or tensor. */
dynq_status dynq_op_granularity(const dynq_op_node *node, size_t attribute, dynq_granularity *granularity);
/* The attribute `activation`: none (default) relu sigmoid tanh silu gelu gelu_tanh hard_swish mish hard_sigmoid
 * leaky_relu; and `alpha` and `beta`, which follow it. */
dynq_status dynq_op_activation(const dynq_op_node *node, size_t attribute, dynq_activation *activation, float *alpha,
                               float *beta);
#define DYNQ_PARAMETERS_FOLLOW(op)                                                                                     \
  _Static_assert(DYNQ_ATTR(op, alpha) == DYNQ_ATTR(op, activation) + 1 &&                                              \
                     DYNQ_ATTR(op, beta) == DYNQ_ATTR(op, activation) + 2 &&                                           \
                     DYNQ_ATTR(op, max) == DYNQ_ATTR(op, min) + 1,                                                     \
                 "as dynq_op_activation and dynq_op_clamp have them")
/* The attributes `min` and `max`, which follow each other: a clamp where min < max; 0, 0 is none. */
dynq_status dynq_op_clamp(const dynq_op_node *node, size_t attribute, float *min, float *max);
/* A fixed range from the attributes `lo` and `hi`, which follow each other; *fixed: the node has them. */
dynq_status dynq_op_range(const dynq_op_node *node, size_t attribute, bool *fixed, float *lo, float *hi);
/* `t` is float32 of that shape. */
dynq_status dynq_op_check_shape(const dynq_op_tensor *t, const char *name, size_t rank, const size_t *dims);
/* Input `i` is float32 with at least `least` dimensions. */
dynq_status dynq_op_check_f32(const dynq_op_node *node, size_t i, const char *name, size_t least);

#endif
