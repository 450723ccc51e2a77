/*
 * Limits beyond which splitting a piece of work does not pay.
 */
#ifndef DYNQ_WORK_H
#define DYNQ_WORK_H

#include <stddef.h>

enum { DYNQ_WORK_PER_THREAD = 16384 }; /* nanoseconds of one core: several times what waking a thread costs */

/* Parts for up to `threads` threads of work that has `units` and takes about `nanoseconds` in all; 1 or more. */
static inline size_t dynq_work_parts(size_t threads, size_t units, size_t nanoseconds) {
  const size_t worth = nanoseconds / DYNQ_WORK_PER_THREAD, most = threads < units ? threads : units;
  const size_t parts = worth < most ? worth : most;
  return parts != 0 ? parts : 1;
}

#endif
