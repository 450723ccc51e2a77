/*
 * The only place that allocates.
 */
#ifndef DYNQ_ALLOC_H
#define DYNQ_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* 64-byte aligned and not cleared; NULL if there is no memory or bytes is SIZE_MAX (an overflow). */
void *dynq_alloc(size_t bytes);
void dynq_free(void *p);

/* a * b, SIZE_MAX if it overflows; likewise a + b. SIZE_MAX stays SIZE_MAX. */
size_t dynq_size_mul(size_t a, size_t b);
size_t dynq_size_add(size_t a, size_t b);

/* For tests: where set and true, the allocation of that many bytes fails. */
extern bool (*dynq_alloc_refuse)(size_t bytes);

#endif
