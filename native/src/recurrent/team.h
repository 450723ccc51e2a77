/*
 * Threads that go through many short phases together: one leads, the others take pieces of what it begins.
 *
 * A phase costs well under a microsecond beside its work. Nothing waits for a thread that does not come: the leader
 * takes all pieces of those that are missing, and after some patience of those that are late. So it does not matter
 * whether a pool's tasks run at the same time.
 */
#ifndef DYNQ_TEAM_H
#define DYNQ_TEAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The work that a member has taken: the phase, and the number of its pieces in the lowest 16 bits. */
typedef struct dynq_team_turn {
  _Alignas(64) _Atomic uint64_t taken;
} dynq_team_turn;

typedef struct dynq_team {
  size_t members, pieces; /* of each phase: below 65 536 */
  void (*work)(void *arg, size_t member, uint64_t phase, size_t piece);
  void *arg;
  dynq_team_turn *turns; /* one for each member */
  _Alignas(64) _Atomic uint64_t phase;
  _Alignas(64) _Atomic size_t done, arrived;
} dynq_team;

/* Before any thread comes: phase 0, in which there is nothing to do. */
void dynq_team_init(dynq_team *team);
/* The number of the thread that asks; 0 leads. */
static inline size_t dynq_team_join(dynq_team *team) { return atomic_fetch_add(&team->arrived, 1); }
/* The leader: all pieces of the next phase, until they are done. Odd phases take them from the last one on, so that what
 * was touched last is touched first: half of what a cache holds is there still, where all of it would not be. */
void dynq_team_phase(dynq_team *team);
/* The others: until the leader finishes. */
void dynq_team_help(dynq_team *team, size_t member);
void dynq_team_finish(dynq_team *team);

#endif
