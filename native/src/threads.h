/*
 * Work in parallel: the caller's pool or the built-in one.
 */
#ifndef DYNQ_THREADS_H
#define DYNQ_THREADS_H

#include "dynq/dynq.h"

enum { DYNQ_MAX_THREADS = 512 };

/* How many threads may work at the same time; `threads` NULL is the built-in pool. */
dynq_status dynq_threads_count(const dynq_threads *threads, size_t *count);
/* Where a call of this thread is given no pool: `pool`, or where that is NULL the built-in one, with at most `limit`
 * threads; 0: with as many as it has. */
void dynq_threads_here(const dynq_threads *pool, size_t limit);
/* The pool that stands for NULL in this thread; NULL: the built-in one. */
const dynq_threads *dynq_threads_default(void);
/* `limit`, or fewer CPUs where a cgroup's quota pays for fewer, rounded up. `membership` is a file like
 * /proc/self/cgroup, `root` a folder like /sys/fs/cgroup; versions 1 and 2. */
size_t dynq_cgroup_limit(const char *membership, const char *root, size_t limit);
/* task(arg, i) for each i in [0, count), with at most `workers` threads of the built-in pool. The floating-
 * point environment of each task is the default one: ties to even, denormals kept. */
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
