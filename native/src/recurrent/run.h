/*
 * Structs that the files of recurrent layers share: the plan of one, and the memory of a task.
 */
#ifndef DYNQ_RECURRENT_RUN_H
#define DYNQ_RECURRENT_RUN_H

#include "../base/alloc.h"
#include "layer.h"
#include "team.h"

#include <stdatomic.h>

/* The tasks of a layer, and their memory. */
typedef struct dynq_recurrent_plan {
  const dynq_recurrent *layer;
  size_t row_blocks, tasks, workers;
  size_t rows;            /* of the largest task */
  size_t members, pieces; /* of a task: threads, and pieces of the columns of a step */
  bool fused;
  /* Parts of one task's memory, in this order. */
  size_t head_bytes, state_bytes, gate_bytes, candidate_bytes, reset_bytes, lhs_bytes, unprojected_bytes, each;
  char *memory;
  _Atomic size_t next;
  _Atomic bool nonfinite;
} dynq_recurrent_plan;

/* Values that a member has for itself. */
typedef struct dynq_recurrent_member {
  _Alignas(64) uint64_t filled; /* the phase whose states lhs holds */
  dynq_lhs lhs, unprojected;
} dynq_recurrent_member;

/* A task: rows [row, row + rows) of the batch, in one direction. It lies at the head of its memory; the members and
 * their turns follow. */
typedef struct dynq_recurrent_task {
  dynq_team team;
  dynq_recurrent_plan *run;
  const dynq_recurrent *layer;
  size_t direction, row, rows;
  /* other_h takes the states of a step that is shared, or those that are to be projected. */
  float *h, *other_h, *c, *gates, *candidate, *reset;
  dynq_recurrent_member *members;
  size_t step; /* at hand */
} dynq_recurrent_task;

static inline size_t dynq_at_most(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t dynq_at_least(size_t a, size_t b) { return a > b ? a : b; }

static inline bool dynq_recurrent_resets_first(const dynq_recurrent *r) {
  return r->cell == DYNQ_CELL_GRU && !r->linear_before_reset;
}

static inline size_t dynq_panels_of(size_t columns) { return dynq_size_add(columns, DYNQ_PANEL - 1) / DYNQ_PANEL; }

static inline size_t dynq_panel_floats(size_t columns, size_t k) {
  return dynq_size_mul(dynq_size_mul(dynq_panels_of(columns), DYNQ_PANEL), k);
}

/* From the layer, for up to `threads` threads; its batch is not 0. */
void dynq_recurrent_plan_fill(dynq_recurrent_plan *r, size_t threads);

#endif
