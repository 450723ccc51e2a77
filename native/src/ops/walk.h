/*
 * Walking strided arrays in step: the loop that elementwise ops and ops that move data share.
 */
#ifndef DYNQ_WALK_H
#define DYNQ_WALK_H

#include "op.h"

enum {
  DYNQ_WALK_OPERANDS = 4,             /* the output and up to three inputs */
  DYNQ_WALK_RANK = 2 * DYNQ_MAX_RANK, /* Tile splits each axis in two */
};

/* The loop over one axis: n elements of each operand, operand o's stride[o] bytes apart; at[0] is the output. */
typedef void (*dynq_walk_inner)(const void *context, size_t n, char *const *at, const ptrdiff_t *stride);

typedef struct dynq_walk {
  size_t rank;
  size_t dims[DYNQ_WALK_RANK];
  size_t operands;
  char *base[DYNQ_WALK_OPERANDS];
  ptrdiff_t strides[DYNQ_WALK_OPERANDS][DYNQ_WALK_RANK]; /* in bytes */
  dynq_walk_inner inner;
  const void *context;
} dynq_walk;

/* A walk over the elements of `out`, which is its first operand. */
void dynq_walk_begin(dynq_walk *walk, const dynq_op_tensor *out);
/* A walk over `dims`, whose first operand is at `base` with these strides. */
void dynq_walk_begin_strided(dynq_walk *walk, size_t rank, const size_t *dims, void *base, const ptrdiff_t *strides);
/* One more operand, broadcast to the walk's dims. */
void dynq_walk_add(dynq_walk *walk, const dynq_op_tensor *t);
/* One more operand with strides of its own. */
void dynq_walk_add_strided(dynq_walk *walk, const void *base, const ptrdiff_t *strides);
/* Byte strides of a tensor without gaps. */
void dynq_strides(const dynq_op_tensor *t, ptrdiff_t *strides);
/* Drops axes of size 1 and joins neighbours that all operands step through as one. The rank becomes at least 1. */
void dynq_walk_collapse(dynq_walk *walk);
/* Calls inner() until every element was seen, in parallel where that pays. */
void dynq_walk_run(const dynq_op_node *node, dynq_walk *walk);
/* The same in this thread, from the first element to the last. */
void dynq_walk_run_in_order(dynq_walk *walk);

/* inner() of a copy; context points to the size_t bytes of an element, 1, 4 or 8. */
void dynq_walk_copy(const void *context, size_t n, char *const *at, const ptrdiff_t *stride);
/* Output 0 = input 0, broadcast to it. */
void dynq_walk_copy_input(const dynq_op_node *node);
/* Copies a box of elements of `size` bytes from strided places to strided places. */
void dynq_copy_box(const dynq_op_node *node, size_t size, size_t rank, const size_t *dims, void *to,
                   const ptrdiff_t *to_strides, const void *from, const ptrdiff_t *from_strides);

typedef void dynq_op_body(const void *arg, size_t begin, size_t end);
/* body(arg, begin, end) for parts of [0, total), in parallel where passing over `bytes` pays for it. Every float
 * operation of an op happens in here, for the floating-point environment. */
void dynq_op_parallel(const dynq_op_node *node, size_t total, size_t bytes, dynq_op_body *body, const void *arg);
/* The same for work of about so many nanoseconds in all. */
void dynq_op_parallel_work(const dynq_op_node *node, size_t total, size_t nanoseconds, dynq_op_body *body,
                           const void *arg);

#endif
