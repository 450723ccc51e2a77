/*
 * Work in parallel: the caller's pool or the built-in one.
 */
#ifndef DYNQ_THREADS_H
#define DYNQ_THREADS_H

#include "dynq/dynq.h"

enum { DYNQ_MAX_THREADS = 512 };

/* Tells how many threads may work at the same time. NULL stands for the built-in pool. */
dynq_status dynq_threads_count(const dynq_threads *threads, size_t *count);
/* Sets the pool of this thread's calls that are given none: `pool`, or if that is NULL the built-in one. At most
 * `limit` of its threads are used, or all if `limit` is 0. */
void dynq_threads_here(const dynq_threads *pool, size_t limit);
/* The pool that stands for NULL in this thread; NULL: the built-in one. */
const dynq_threads *dynq_threads_default(void);
/* task(arg, i) for each i in [0, count), with at most `workers` threads of the built-in pool. The floating-
 * point environment of each task is the default one: ties to even, denormals kept. Tasks that have not begun when this
 * thread's run is to stop (interrupt.h) are left out. */
void dynq_parallel(const dynq_threads *threads, size_t workers, void (*task)(void *arg, size_t index), void *arg,
                   size_t count);

/* Tells the CPU that this thread waits for another's write. */
void dynq_relax(void);

/* Part `index` of `total` things shared evenly among `count`: [begin, end). */
static inline void dynq_share(size_t total, size_t count, size_t index, size_t *begin, size_t *end) {
  const size_t each = total / count, more = total % count;
  *begin = index * each + (index < more ? index : more);
  *end = *begin + each + (index < more ? 1 : 0);
}

#endif
