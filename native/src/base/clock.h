/*
 * The time that has passed since some moment, for intervals.
 */
#ifndef DYNQ_CLOCK_H
#define DYNQ_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t dynq_nanoseconds(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

#endif
