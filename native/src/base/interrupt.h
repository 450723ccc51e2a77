/*
 * Stops a long run: loops ask dynq_interrupted() after each piece of some milliseconds at most, and leave early
 * if it says so. What they leave unwritten does not reach the caller: whoever started the run asks too, and returns
 * DYNQ_CANCELLED. A later loop of the same node may read it as numbers, never as places.
 */
#ifndef DYNQ_INTERRUPT_H
#define DYNQ_INTERRUPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One run that can be stopped. */
typedef struct dynq_interrupt {
  _Atomic bool requested; /* by any thread, or by a signal handler */
  int (*poll)(void *context);
  void *context;
  /* Only the thread that started the run, which alone calls poll(), uses these. */
  uint64_t looked, polled;
  unsigned looks; /* left until the next look at the clock */
} dynq_interrupt;

/* The run that this thread works for, and whether it started it. */
typedef struct dynq_interrupt_scope {
  dynq_interrupt *run; /* NULL: nothing that can be stopped */
  bool polls;
} dynq_interrupt_scope;

/* Returns the run of this thread. */
dynq_interrupt_scope dynq_interrupt_here(void);
/* Sets it and returns the one before, which is to be set again afterwards. */
dynq_interrupt_scope dynq_interrupt_enter(dynq_interrupt_scope scope);
/* A scope for another thread's run: as this thread's own where it is the same run. */
dynq_interrupt_scope dynq_interrupt_join(dynq_interrupt *run);

/* Begins a run in this thread: what was requested before does not count. */
dynq_interrupt_scope dynq_interrupt_begin(dynq_interrupt *run);

/* Returns whether to stop. Takes a nanosecond or two, and looks at the clock every few calls if this thread has to
 * poll. */
bool dynq_interrupted(void);

/* Pieces for a loop over `total` things that takes about `nanoseconds`: each is short. */
static inline size_t dynq_interrupt_step(size_t total, size_t nanoseconds) {
  enum { PIECE = 250000 };
  const size_t pieces = nanoseconds / PIECE + 1, step = total / pieces;
  return step != 0 ? step : 1;
}

#endif
