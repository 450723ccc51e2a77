/*
 * The steps of a recurrent layer.
 *
 * A task is one direction of some sequences, through all steps. Where there are fewer tasks than threads, several share
 * the columns of each step: each keeps the same part of the recurrent weights in its own cache.
 */
#include "../base/interrupt.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../gemm/gemm.h"
#include "run.h"

#include <string.h>

static void shared_step(void *arg, size_t index, uint64_t phase, size_t piece);

/* Task `index` in memory. */
static dynq_recurrent_task *place_task(dynq_recurrent_plan *r, size_t index, char *memory) {
  const dynq_recurrent *layer = r->layer;
  dynq_recurrent_task *t = (dynq_recurrent_task *)(void *)memory;
  *t = (dynq_recurrent_task){.run = r, .layer = layer, .direction = index / r->row_blocks};
  size_t end;
  dynq_share(layer->batch, r->row_blocks, index % r->row_blocks, &t->row, &end);
  t->rows = end - t->row;
  t->members = (dynq_recurrent_member *)(void *)(memory + (sizeof *t + 63) / 64 * 64);
  t->team = (dynq_team){.members = r->members,
                        .pieces = r->pieces,
                        .work = shared_step,
                        .arg = t,
                        .turns = (dynq_team_turn *)(void *)(t->members + r->members)};
  dynq_team_init(&t->team);
  t->h = (float *)(void *)(memory += r->head_bytes);
  t->other_h = (float *)(void *)(memory += r->state_bytes);
  t->c = (float *)(void *)(memory += r->state_bytes);
  t->gates = (float *)(void *)(memory += r->state_bytes);
  t->candidate = (float *)(void *)(memory += r->gate_bytes);
  t->reset = (float *)(void *)(memory += r->candidate_bytes);
  memory += r->reset_bytes;
  for (size_t i = 0; i < r->members; i++, memory += r->lhs_bytes + r->unprojected_bytes) {
    const dynq_weight *weight = layer->weights[t->direction], *projection = layer->projections[t->direction];
    t->members[i].filled = 0;
    if (layer->panels == NULL) {
      dynq_lhs_place(&t->members[i].lhs, memory, r->rows, layer->state, weight->info.zero_point != NULL);
    }
    if (projection != NULL) {
      dynq_lhs_place(&t->members[i].unprojected, memory + r->lhs_bytes, r->rows, layer->hidden,
                     projection->info.zero_point != NULL);
    }
  }
  return t;
}

/* ---- States in and out ---- */

/* Row `row` of a state (directions, batch, columns), or batch first. */
static size_t state_at(const dynq_recurrent_task *t, size_t row, size_t columns) {
  const dynq_recurrent *r = t->layer;
  const size_t at = r->batch_first ? row * r->directions + t->direction : t->direction * r->batch + row;
  return at * columns;
}

static size_t output_at(const dynq_recurrent_task *t, size_t step, size_t row) {
  const dynq_recurrent *r = t->layer;
  const size_t at = r->batch_first ? (row * r->steps + step) * r->directions + t->direction
                                   : (step * r->directions + t->direction) * r->batch + row;
  return at * r->state;
}

static const float *projected_at(const dynq_recurrent_task *t, size_t step, size_t row, size_t *stride) {
  const dynq_recurrent *r = t->layer;
  const size_t width = dynq_recurrent_width(r), all = r->directions * width;
  *stride = r->batch_first ? r->steps * all : all;
  return r->projected + (r->batch_first ? row * r->steps + step : step * r->batch + row) * all + t->direction * width;
}

static void load_states(const dynq_recurrent_task *t, size_t columns, const float *from, float *to) {
  for (size_t i = 0; i < t->rows; i++) {
    if (from != NULL) {
      memcpy(to + i * columns, from + state_at(t, t->row + i, columns), columns * sizeof *to);
    } else {
      memset(to + i * columns, 0, columns * sizeof *to);
    }
  }
}

static void store_states(const dynq_recurrent_task *t, size_t columns, const float *from, float *to) {
  for (size_t i = 0; i < t->rows && to != NULL; i++) {
    memcpy(to + state_at(t, t->row + i, columns), from + i * columns, columns * sizeof *to);
  }
}

/* ---- One step ---- */

/* A product y (rows, width) = x (rows, k) times a weight + bias + residual. */
typedef struct product {
  size_t rows, k, width;
  const dynq_weight *weight; /* or float ... */
  const float *panels;
  const float *x, *bias, *residual;
  size_t residual_stride;
  float *y;
} product;

/* y[i] += a[i] */
static void add_to(size_t n, const float *restrict a, float *restrict y) {
  for (size_t i = 0; i < n; i++) {
    y[i] += a[i];
  }
}

static void multiply_float(const dynq_recurrent_task *t, const product *p, size_t panel, size_t end) {
  const dynq_recurrent *r = t->layer;
  const size_t k = p->k, width = p->width, column = panel * DYNQ_PANEL;
  const size_t columns = dynq_at_most(end * DYNQ_PANEL, width) - column;
  float *y = p->y + column;
  r->kernels->vector.matmul(p->rows, columns, k, p->x, k, p->panels + column * k, DYNQ_PANEL, DYNQ_PANEL * k, y, width);
  for (size_t i = 0; i < p->rows; i++, y += width) {
    if (p->bias != NULL) {
      add_to(columns, p->bias + column, y);
    }
    if (p->residual != NULL) {
      add_to(columns, p->residual + i * p->residual_stride + column, y);
    }
  }
}

static void quantize(const dynq_recurrent_task *t, const product *p, dynq_lhs *lhs) {
  const dynq_recurrent *r = t->layer;
  const dynq_lhs_source source = {.x = p->x, .x_stride = p->k, .scheme = r->scheme, .per_row = true};
  if (p->weight != NULL && !dynq_lhs_fill(lhs, r->kernels, &source, 0, p->rows, p->k)) {
    atomic_store(&t->run->nonfinite, true);
  }
}

/* Panels [panel, end); lhs: what quantize() made of x. */
static void multiply(const dynq_recurrent_task *t, const product *p, const dynq_lhs *lhs, size_t panel, size_t end) {
  const dynq_recurrent *r = t->layer;
  if (p->weight == NULL) {
    multiply_float(t, p, panel, end);
    return;
  }
  const dynq_gemm gemm = {.kernels = r->kernels,
                          .weight = p->weight,
                          .m = p->rows,
                          .epilogue = {.bias = p->bias, .residual = p->residual, .residual_stride = p->residual_stride},
                          .y = p->y,
                          .y_stride = p->width};
  (void)dynq_gemm_block(&gemm, lhs, 0, p->rows, panel, end);
}

static dynq_step step_of(const dynq_recurrent_task *t, size_t first, size_t rows) {
  const dynq_recurrent *r = t->layer;
  const size_t n = r->hidden;
  dynq_step s = {.layer = r,
                 .direction = t->direction,
                 .rows = rows,
                 .columns = n,
                 .gates = t->gates + first * dynq_recurrent_width(r),
                 .candidate = t->candidate,
                 .reset = t->reset,
                 .h = t->h + first * r->state,
                 .to = dynq_recurrent_projects(r) ? t->other_h : t->h + first * n,
                 .c = t->c + first * n,
                 .bias = r->bias != NULL ? r->bias + t->direction * dynq_recurrent_width(r) : NULL};
  s.projected = projected_at(t, t->step, t->row + first, &s.stride);
  return s;
}

static product product_of(const dynq_recurrent_task *t, const dynq_step *s) {
  const dynq_recurrent *r = t->layer;
  const bool added = r->cell != DYNQ_CELL_GRU || !r->linear_before_reset;
  return (product){.rows = s->rows,
                   .k = r->state,
                   .width = dynq_recurrent_width(r),
                   .weight = r->weights[t->direction],
                   .panels = r->panels != NULL ? r->panels + t->direction * dynq_recurrent_panel_floats(r) : NULL,
                   .x = s->h,
                   .bias = s->bias,
                   .residual = added ? s->projected : NULL,
                   .residual_stride = s->stride,
                   .y = s->gates};
}

/* Projects what a step made, to the states h of the task from row `first` on. */
static void project(const dynq_recurrent_task *t, const dynq_step *s, size_t first) {
  const dynq_recurrent *r = t->layer;
  const float *panels = r->projection_panels;
  const product p = {.rows = s->rows,
                     .k = r->hidden,
                     .width = r->state,
                     .weight = r->projections[t->direction],
                     .panels = panels != NULL ? panels + t->direction * dynq_panel_floats(r->state, r->hidden) : NULL,
                     .x = s->to,
                     .y = t->h + first * r->state};
  quantize(t, &p, &t->members[0].unprojected);
  multiply(t, &p, &t->members[0].unprojected, 0, dynq_panels_of(r->state));
}

static void gates_to_states(const dynq_step *s) {
  switch (s->layer->cell) {
  case DYNQ_CELL_LSTM:
    dynq_lstm_step(s);
    break;
  case DYNQ_CELL_RNN:
    dynq_rnn_step(s);
    break;
  case DYNQ_CELL_GRU:
    dynq_gru_step(s);
    break;
  }
}

/* Rows [first, first + rows) of the task, by one thread. */
static void run_rows(const dynq_recurrent_task *t, size_t first, size_t rows) {
  dynq_step s = step_of(t, first, rows);
  product p = product_of(t, &s);
  dynq_lhs *lhs = &t->members[0].lhs;
  quantize(t, &p, lhs);
  if (t->run->fused) {
    dynq_fused_step(&s, lhs);
  } else {
    multiply(t, &p, lhs, 0, dynq_panels_of(p.width));
    gates_to_states(&s);
  }
  if (dynq_recurrent_resets_first(t->layer)) { /* the candidate's columns once more, now of the state that is reset */
    p.x = s.reset;
    p.y = s.candidate;
    quantize(t, &p, lhs);
    multiply(t, &p, lhs, 2 * t->layer->hidden / DYNQ_PANEL, dynq_panels_of(p.width));
    dynq_gru_finish(&s);
  }
  if (dynq_recurrent_projects(t->layer)) {
    project(t, &s, first);
  }
}

/* Some columns of all rows: those of each gate, then their states. */
static void shared_step(void *arg, size_t index, uint64_t phase, size_t piece) {
  dynq_recurrent_task *t = arg;
  const dynq_recurrent *r = t->layer;
  dynq_recurrent_member *m = &t->members[index];
  dynq_step s = step_of(t, 0, t->rows);
  const product p = product_of(t, &s);
  size_t panel, end;
  dynq_share(r->hidden / DYNQ_PANEL, t->run->pieces, piece, &panel, &end);
  if (m->filled != phase) {
    quantize(t, &p, &m->lhs);
    m->filled = phase;
  }
  s.to = t->other_h;
  s.column = panel * DYNQ_PANEL;
  s.columns = (end - panel) * DYNQ_PANEL;
  if (t->run->fused) {
    dynq_fused_step(&s, &m->lhs);
    return;
  }
  for (size_t gate = 0; gate < r->gates; gate++) {
    const size_t before = gate * (r->hidden / DYNQ_PANEL);
    multiply(t, &p, &m->lhs, before + panel, before + end);
  }
  gates_to_states(&s);
}

static void share_step(dynq_recurrent_task *t) {
  dynq_team_phase(&t->team);
  float *h = t->h;
  t->h = t->other_h;
  t->other_h = h;
}

static bool goes_on(const dynq_recurrent_task *t, size_t step, size_t row) {
  return t->layer->lengths == NULL || (int64_t)step < dynq_recurrent_length(t->layer, t->row + row);
}

static void write_outputs(const dynq_recurrent_task *t, size_t first, size_t end, bool active) {
  const dynq_recurrent *r = t->layer;
  const size_t n = r->state;
  for (size_t i = first; i < end && r->y != NULL; i++) {
    float *to = r->y + output_at(t, t->step, t->row + i);
    if (active) {
      memcpy(to, t->h + i * n, n * sizeof *to);
    } else {
      memset(to, 0, n * sizeof *to);
    }
  }
}

/* Sequences that have ended, or that backwards have not begun, keep their states and give zeros. */
static void run_step(dynq_recurrent_task *t) {
  if (t->run->pieces > 1) {
    share_step(t);
    write_outputs(t, 0, t->rows, true);
    return;
  }
  for (size_t first = 0, end; first < t->rows; first = end) {
    const bool active = goes_on(t, t->step, first);
    end = t->layer->lengths == NULL ? t->rows : first + 1;
    while (end < t->rows && goes_on(t, t->step, end) == active) {
      end++;
    }
    if (active) {
      run_rows(t, first, end - first);
    }
    write_outputs(t, first, end, active);
  }
}

static void run_task(dynq_recurrent_task *t) {
  const dynq_recurrent *layer = t->layer;
  const bool reverse = layer->reverse != (t->direction == 1);
  load_states(t, layer->state, layer->initial_h, t->h);
  load_states(t, layer->hidden, layer->initial_c, t->c);
  for (size_t i = 0; i < layer->steps && !dynq_interrupted(); i++) {
    t->step = reverse ? layer->steps - 1 - i : i;
    run_step(t);
  }
  store_states(t, layer->state, t->h, layer->y_h);
  store_states(t, layer->hidden, t->c, layer->y_c);
}

/* Whole tasks, one thread each. */
static void work(void *arg, size_t worker) {
  dynq_recurrent_plan *r = arg;
  for (size_t i = atomic_fetch_add(&r->next, 1); i < r->tasks && !dynq_interrupted();
       i = atomic_fetch_add(&r->next, 1)) {
    run_task(place_task(r, i, r->memory + worker * r->each));
  }
}

/* Several threads for each task: the first that comes leads. */
static void work_together(void *arg, size_t worker) {
  const dynq_recurrent_plan *r = arg;
  dynq_recurrent_task *t = (dynq_recurrent_task *)(void *)(r->memory + worker % r->tasks * r->each);
  const size_t index = dynq_team_join(&t->team);
  if (index == 0) {
    run_task(t);
    dynq_team_finish(&t->team);
  } else {
    dynq_team_help(&t->team, index);
  }
}

size_t dynq_recurrent_bytes(const dynq_recurrent *layer, size_t count) {
  dynq_recurrent_plan r = {.layer = layer};
  if (layer->batch == 0) {
    return 0;
  }
  dynq_recurrent_plan_fill(&r, count);
  return dynq_size_mul(r.members > 1 ? r.tasks : r.workers, r.each);
}

static dynq_status check_lengths(const dynq_recurrent *r) {
  for (size_t i = 0; r->lengths != NULL && i < r->batch; i++) {
    const int64_t length = dynq_recurrent_length(r, i);
    if (length < 0 || (uint64_t)length > r->steps) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sequence_lens[%zu] is %lld; expected 0 to %zu", i,
                       (long long)length, r->steps);
    }
  }
  return DYNQ_OK;
}

dynq_status dynq_recurrent_run(const dynq_recurrent *layer, void *memory, const dynq_threads *threads, size_t count) {
  dynq_recurrent_plan r = {.layer = layer, .memory = memory};
  DYNQ_TRY(check_lengths(layer));
  if (layer->batch == 0) {
    return DYNQ_OK;
  }
  dynq_recurrent_plan_fill(&r, count);
  for (size_t i = 0; i < r.tasks && r.members > 1; i++) {
    (void)place_task(&r, i, r.memory + i * r.each);
  }
  dynq_parallel(threads, r.workers, r.members > 1 ? work_together : work, &r, r.workers);
  return atomic_load(&r.nonfinite) ? dynq_fail(DYNQ_NONFINITE, "a state holds a NaN or an infinity") : DYNQ_OK;
}
