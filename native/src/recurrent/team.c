/*
 * Phases of a team.
 */
#include "team.h"

#include "../base/threads.h"

#include <sched.h>
#include <stdbool.h>

enum {
  COUNT_BITS = 16,
  PATIENCE = 200, /* pauses of some 40 ns, before the leader does what is another member's: in whose cache it is */
  PAUSES = 4096   /* between two times that a thread which waits gives its CPU away */
};
#define FINISHED UINT64_MAX

void dynq_team_init(dynq_team *team) {
  for (size_t i = 0; i < team->members; i++) {
    atomic_init(&team->turns[i].taken, 0);
  }
  atomic_init(&team->phase, 0);
  atomic_init(&team->done, 0);
  atomic_init(&team->arrived, 0);
}

/* The next piece of those of member `owner`, which it meets again in its cache in every phase. A turn of another phase
 * gives nothing: whoever comes late takes no piece of a phase that it does not know. */
static bool take(dynq_team *team, size_t owner, uint64_t phase, size_t *piece) {
  size_t begin, end;
  dynq_share(team->pieces, team->members, owner, &begin, &end);
  uint64_t taken = atomic_load(&team->turns[owner].taken);
  while (taken >> COUNT_BITS == phase && (taken & ((1u << COUNT_BITS) - 1)) < end - begin) {
    if (atomic_compare_exchange_weak(&team->turns[owner].taken, &taken, taken + 1)) {
      const size_t count = taken & ((1u << COUNT_BITS) - 1);
      *piece = phase % 2 == 0 ? begin + count : end - 1 - count;
      return true;
    }
  }
  return false;
}

/* Pieces of `owner` by `member`: at most `most` of them. False if there was none. */
static bool work(dynq_team *team, size_t member, size_t owner, uint64_t phase, size_t most) {
  size_t count = 0;
  for (size_t piece; count < most && take(team, owner, phase, &piece); count++) {
    team->work(team->arg, member, phase, piece);
    atomic_fetch_add(&team->done, 1);
  }
  return count != 0;
}

static void wait_a_little(size_t *waited) {
  dynq_relax();
  if (++*waited % PAUSES == 0) {
    (void)sched_yield();
  }
}

void dynq_team_phase(dynq_team *team) {
  const uint64_t phase = atomic_load(&team->phase) + 1;
  if (team->members == 1) {
    atomic_store_explicit(&team->phase, phase, memory_order_relaxed);
    for (size_t i = 0; i < team->pieces; i++) {
      team->work(team->arg, 0, phase, phase % 2 == 0 ? i : team->pieces - 1 - i);
    }
    return;
  }
  size_t waited = 0;
  /* Each of these lines is another core's: without a fence between them they come at the same time. */
  atomic_store_explicit(&team->done, 0, memory_order_relaxed);
  for (size_t i = 0; i < team->members; i++) {
    atomic_store_explicit(&team->turns[i].taken, phase << COUNT_BITS, memory_order_release);
  }
  atomic_store_explicit(&team->phase, phase, memory_order_release);
  (void)work(team, 0, 0, phase, SIZE_MAX);
  while (atomic_load_explicit(&team->done, memory_order_acquire) != team->pieces) {
    const size_t arrived = waited < PATIENCE ? atomic_load(&team->arrived) : 1;
    bool helped = false;
    for (size_t owner = arrived > 1 ? arrived : 1; owner < team->members && !helped; owner++) {
      helped = work(team, 0, owner, phase, 1);
    }
    if (!helped) {
      wait_a_little(&waited);
    }
  }
}

void dynq_team_help(dynq_team *team, size_t member) {
  uint64_t seen = 0;
  size_t waited = 0;
  for (uint64_t phase = atomic_load(&team->phase); phase != FINISHED; phase = atomic_load(&team->phase)) {
    if (phase != seen) {
      (void)work(team, member, member, phase, SIZE_MAX);
      seen = phase;
      waited = 0;
    } else {
      wait_a_little(&waited);
    }
  }
}

void dynq_team_finish(dynq_team *team) { atomic_store(&team->phase, FINISHED); }
