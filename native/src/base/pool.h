/*
 * Memory that is taken piece by piece and given back at once: what was read of a model, what was planned for a shape.
 */
#ifndef DYNQ_POOL_H
#define DYNQ_POOL_H

#include "status.h"

typedef struct dynq_pool {
  struct dynq_pool_block *newest; /* NULL: nothing taken yet */
} dynq_pool;

/* Cleared; `align` is a power of two up to 64. NULL if there is no memory or bytes is SIZE_MAX (an overflow). */
void *dynq_pool_take(dynq_pool *pool, size_t bytes, size_t align);
/* An array of `count` elements of `size` bytes: `array` points to the pointer, which is NULL after a failure. */
dynq_status dynq_pool_array(dynq_pool *pool, size_t count, size_t size, void *array);
/* Gives all back. */
void dynq_pool_free(dynq_pool *pool);

#endif
