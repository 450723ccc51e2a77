/*
 * The run that each thread works for.
 */
#include "interrupt.h"

#include "clock.h"

enum {
  LOOKS = 8,                   /* between two looks at the clock, if so many take less than ... */
  SHORT_NANOSECONDS = 1000000, /* ... this; else it looks each time */
  POLL_NANOSECONDS = 30000000  /* between two calls of poll(): it may wait for an interpreter's lock */
};

static _Thread_local dynq_interrupt_scope here;

dynq_interrupt_scope dynq_interrupt_here(void) { return here; }

dynq_interrupt_scope dynq_interrupt_enter(dynq_interrupt_scope scope) {
  const dynq_interrupt_scope before = here;
  here = scope;
  return before;
}

dynq_interrupt_scope dynq_interrupt_join(dynq_interrupt *run) {
  return (dynq_interrupt_scope){.run = run, .polls = here.run == run && here.polls};
}

dynq_interrupt_scope dynq_interrupt_begin(dynq_interrupt *run) {
  atomic_store_explicit(&run->requested, false, memory_order_relaxed);
  run->looks = LOOKS;
  run->looked = run->polled = 0;
  return dynq_interrupt_enter((dynq_interrupt_scope){.run = run, .polls = run->poll != NULL});
}

static void poll(dynq_interrupt *run) {
  const uint64_t time = dynq_nanoseconds();
  run->looks = time - run->looked < SHORT_NANOSECONDS ? LOOKS : 1;
  run->looked = time;
  if (run->polled == 0) { /* the first look at the clock of this run */
    run->polled = time;
  } else if (time - run->polled > POLL_NANOSECONDS) {
    if (run->poll(run->context) != 0) {
      atomic_store_explicit(&run->requested, true, memory_order_relaxed);
    }
    run->polled = dynq_nanoseconds();
  }
}

bool dynq_interrupted(void) {
  dynq_interrupt *run = here.run;
  if (run == NULL) {
    return false;
  }
  if (here.polls && --run->looks == 0 && !atomic_load_explicit(&run->requested, memory_order_relaxed)) {
    poll(run);
  }
  return atomic_load_explicit(&run->requested, memory_order_relaxed);
}
