/*
 * Callers' own pools for dynq_threads: all on the calling thread, in an order that a real pool may have.
 */
#ifndef POOLS_H
#define POOLS_H

#include "check.h"

#include <stdlib.h>

static inline void run_reversed(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  (void)context;
  while (count-- > 0) {
    task(arg, count);
  }
}

static inline void run_shuffled(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  size_t *order = malloc((count != 0 ? count : 1) * sizeof *order);
  (void)context;
  for (size_t i = 0; i < count; i++) {
    const size_t j = random_below(i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  for (size_t i = 0; i < count; i++) {
    task(arg, order[i]);
  }
  free(order);
}

/* Mode 0 to 3: the built-in pool with 1, 2, 3 and 5 threads; 4 and 5: reversed and shuffled, 3 and 5 "threads". */
enum { POOL_MODES = 6 };
static inline const dynq_threads *pool_of(size_t mode) {
  static const size_t counts[4] = {1, 2, 3, 5};
  static const dynq_threads own[2] = {{3, run_reversed, NULL}, {5, run_shuffled, NULL}};
  if (mode < 4) {
    CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(counts[mode]));
    return NULL;
  }
  return &own[mode - 4];
}

#endif
