/*
 * Splits a recurrent layer: tasks, threads and pieces of each, and the memory that they take.
 */
#include "../base/cache.h"
#include "../base/work.h"
#include "../gemm/gemm.h"
#include "run.h"

/* The cost model, in nanoseconds and bytes a nanosecond; gemm/gemm.c has its machine. */
enum {
  FLOAT_MACS_PER_NANOSECOND = 16,
  GATE_VALUES_PER_NANOSECOND = 2,
  FROM_L2 = 150,
  FROM_L3 = 30,
  LEAST_ROWS = 4, /* of a task: with weights in each thread's own cache, to share rows costs no meeting in each step */
  WORTH_A_MEMBER = 700,     /* of a step, for each thread that shares it */
  PIECE_BYTES = 256 * 1024, /* of weights that leave the cache between steps */
  WORTH_A_PIECE = 12000,    /* of a step: a thread that comes late leaves some to the others */
  LEAST_COLUMNS = 64        /* of a piece: the kernels take four panels at a time */
};

static size_t floats(size_t rows, size_t columns) {
  return dynq_size_add(dynq_size_mul(dynq_size_mul(rows, columns), sizeof(float)), 63) / 64 * 64;
}

size_t dynq_recurrent_panel_floats(const dynq_recurrent *r) {
  return dynq_panel_floats(dynq_recurrent_width(r), r->state);
}

/* ---- Who computes what ---- */

/* Returns whether the columns of a step can be shared. Those of a state must be whole panels of each gate, and all rows
 * must take part in every step. */
static bool is_shared(const dynq_recurrent *r) {
  return r->lengths == NULL && !dynq_recurrent_resets_first(r) && !dynq_recurrent_projects(r) &&
         r->hidden % DYNQ_PANEL == 0;
}

/* Returns the multiply-adds of a row in a step. */
static size_t macs_of(const dynq_recurrent *r) {
  const size_t projection = dynq_recurrent_projects(r) ? dynq_size_mul(r->hidden, r->state) : 0;
  return dynq_size_add(dynq_size_mul(dynq_recurrent_width(r), r->state), projection);
}

static size_t weight_bytes(const dynq_recurrent *r) {
  return dynq_size_mul(macs_of(r), r->panels != NULL ? sizeof(float) : 1);
}

/* One step of `rows` sequences. */
static size_t step_time(const dynq_recurrent *r, size_t rows) {
  const size_t bytes = weight_bytes(r), reading = bytes / (bytes > 2 * dynq_cache_share() ? FROM_L3 : FROM_L2);
  const size_t rate = r->panels != NULL ? FLOAT_MACS_PER_NANOSECOND : r->kernels->gemm->macs_per_nanosecond;
  const size_t values = dynq_size_mul(rows, dynq_recurrent_width(r)), macs = dynq_size_mul(rows, macs_of(r)) / rate;
  return dynq_size_add(macs > reading ? macs : reading, values / GATE_VALUES_PER_NANOSECOND);
}

/* Tasks, for up to `threads` threads. Few rows take as long as some more, and weights that do not fit the cache are read
 * by each task, so rows are not split there where columns can be. */
static void plan_tasks(dynq_recurrent_plan *r, size_t threads) {
  const dynq_recurrent *layer = r->layer;
  const size_t total = dynq_size_mul(step_time(layer, dynq_size_mul(layer->batch, layer->directions)), layer->steps);
  const bool fits = weight_bytes(layer) <= 2 * dynq_cache_share();
  const size_t least = !is_shared(layer) ? 1 : fits ? LEAST_ROWS : DYNQ_MAX_TILE_ROWS;
  const size_t most = dynq_at_least(layer->batch / least, 1);
  r->workers = dynq_work_parts(threads, SIZE_MAX, total);
  const size_t wanted = dynq_at_most((r->workers + layer->directions - 1) / layer->directions, most);
  r->row_blocks = dynq_at_least(wanted, (layer->batch + DYNQ_STEP_ROWS - 1) / DYNQ_STEP_ROWS);
  r->rows = (layer->batch + r->row_blocks - 1) / r->row_blocks;
  r->tasks = dynq_size_mul(layer->directions, r->row_blocks);
}

/* Threads and pieces of a task. */
static void plan_members(dynq_recurrent_plan *r) {
  const dynq_recurrent *layer = r->layer;
  const size_t most = dynq_at_least(layer->hidden / LEAST_COLUMNS, 1), bytes = weight_bytes(layer);
  r->members = 1;
  r->pieces = 1;
  if (is_shared(layer)) {
    const size_t worth = dynq_at_least(step_time(layer, r->rows) / WORTH_A_MEMBER, 1);
    r->members = dynq_at_least(dynq_at_most(dynq_at_most(r->workers / r->tasks, worth), most), 1);
    const size_t streamed = bytes > 2 * dynq_cache_share() ? bytes / PIECE_BYTES : 1;
    const size_t worth_it = r->members > 1 ? dynq_at_least(step_time(layer, r->rows) / WORTH_A_PIECE, r->members) : 1;
    r->pieces = dynq_at_most(dynq_at_least(worth_it, streamed), dynq_at_most(most, 4096));
  }
  r->workers = r->members > 1 ? r->tasks * r->members : dynq_at_most(r->workers, r->tasks);
}

static size_t head_bytes(const dynq_recurrent_plan *r) {
  const size_t each = sizeof(dynq_recurrent_member) + sizeof(dynq_team_turn);
  return dynq_size_add((sizeof(dynq_recurrent_task) + 63) / 64 * 64, dynq_size_mul(r->members, each));
}

void dynq_recurrent_plan_fill(dynq_recurrent_plan *r, size_t threads) {
  const dynq_recurrent *layer = r->layer;
  plan_tasks(r, threads);
  plan_members(r);
  r->head_bytes = head_bytes(r);
  r->state_bytes = floats(r->rows, dynq_at_least(layer->hidden, layer->state));
  r->fused = dynq_recurrent_is_fused(layer);
  r->gate_bytes = r->fused ? 0 : floats(r->rows, dynq_recurrent_width(layer));
  r->candidate_bytes = dynq_recurrent_resets_first(layer) ? r->gate_bytes : 0;
  r->reset_bytes = dynq_recurrent_resets_first(layer) ? r->state_bytes : 0;
  r->lhs_bytes = layer->panels == NULL ? dynq_lhs_bytes(r->rows, layer->state) : 0;
  r->unprojected_bytes = layer->projections[0] != NULL ? dynq_lhs_bytes(r->rows, layer->hidden) : 0;
  r->each = dynq_size_add(dynq_size_add(r->head_bytes, dynq_size_add(dynq_size_mul(3, r->state_bytes), r->gate_bytes)),
                          dynq_size_add(dynq_size_add(r->candidate_bytes, r->reset_bytes),
                                        dynq_size_mul(r->members, dynq_size_add(r->lhs_bytes, r->unprojected_bytes))));
}
