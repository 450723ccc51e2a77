/*
 * The steps of a recurrent layer. A task is one direction of some sequences, through all steps: no thread waits for
 * another, and the rows of a task stay in its cache.
 */
#include "recurrent.h"

#include "../alloc.h"
#include "../status.h"
#include "../threads.h"
#include "checks.h"
#include "gemm.h"
#include "lhs.h"
#include "work.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
  ROWS_AT_ONCE = 64, /* sequences of a task, at most */
  FLOAT_MACS_PER_NANOSECOND = 16,
  GATE_VALUES_PER_NANOSECOND = 2
};

typedef struct run {
  const dynq_recurrent *layer;
  size_t row_blocks, tasks, workers;
  size_t rows; /* of the largest task */
  /* Of one worker's memory, in this order. */
  size_t state_bytes, gate_bytes, candidate_bytes, reset_bytes, lhs_bytes, each;
  char *memory;
  _Atomic size_t next;
  _Atomic bool nonfinite;
} run;

/* What a task works on: rows [row, row + rows) of the batch, in one direction. */
typedef struct task {
  const run *run;
  const dynq_recurrent *layer;
  size_t direction, row, rows;
  float *h, *c, *gates, *candidate, *reset;
  void *lhs_memory;
  bool finite;
} task;

static size_t floats(size_t rows, size_t columns) {
  return dynq_size_add(dynq_size_mul(dynq_size_mul(rows, columns), sizeof(float)), 63) / 64 * 64;
}

static bool resets_first(const dynq_recurrent *r) { return r->cell == DYNQ_CELL_GRU && !r->linear_before_reset; }

static size_t panels_of(const dynq_recurrent *r) {
  return dynq_size_add(dynq_recurrent_width(r), DYNQ_PANEL - 1) / DYNQ_PANEL;
}

size_t dynq_recurrent_panel_floats(const dynq_recurrent *r) {
  return dynq_size_mul(dynq_size_mul(panels_of(r), DYNQ_PANEL), r->hidden);
}

/* ---- Who computes what ---- */

static size_t nanoseconds(const dynq_recurrent *r) {
  const size_t states = dynq_size_mul(dynq_size_mul(r->steps, r->batch), dynq_size_mul(r->directions, r->hidden));
  const size_t macs = dynq_size_mul(dynq_size_mul(states, r->gates), r->hidden);
  const size_t rate = r->panels != NULL ? FLOAT_MACS_PER_NANOSECOND : r->kernels->gemm->macs_per_nanosecond;
  return dynq_size_add(macs / rate, states / GATE_VALUES_PER_NANOSECOND);
}

static void plan(run *r, size_t threads) {
  const dynq_recurrent *layer = r->layer;
  const size_t sequences = dynq_size_mul(layer->batch, layer->directions);
  const size_t workers = dynq_work_parts(threads, sequences, nanoseconds(layer));
  const size_t wanted = (workers + layer->directions - 1) / layer->directions;
  r->row_blocks = (layer->batch + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  r->row_blocks = r->row_blocks < wanted ? wanted : r->row_blocks;
  r->row_blocks = r->row_blocks > layer->batch ? layer->batch : r->row_blocks;
  r->rows = (layer->batch + r->row_blocks - 1) / r->row_blocks;
  r->tasks = dynq_size_mul(layer->directions, r->row_blocks);
  r->workers = workers < r->tasks ? workers : r->tasks;
  const size_t width = dynq_recurrent_width(layer);
  r->state_bytes = floats(r->rows, layer->hidden);
  r->gate_bytes = floats(r->rows, width);
  r->candidate_bytes = resets_first(layer) ? r->gate_bytes : 0;
  r->reset_bytes = resets_first(layer) ? r->state_bytes : 0;
  r->lhs_bytes = layer->panels == NULL ? dynq_lhs_bytes(r->rows, layer->hidden) : 0;
  r->each = dynq_size_add(dynq_size_add(dynq_size_mul(2, r->state_bytes), r->gate_bytes),
                          dynq_size_add(dynq_size_add(r->candidate_bytes, r->reset_bytes), r->lhs_bytes));
}

static task place_task(const run *r, size_t index, char *memory) {
  const dynq_recurrent *layer = r->layer;
  task t = {.run = r, .layer = layer, .direction = index / r->row_blocks, .finite = true};
  size_t end;
  dynq_share(layer->batch, r->row_blocks, index % r->row_blocks, &t.row, &end);
  t.rows = end - t.row;
  t.h = (float *)(void *)memory;
  t.c = (float *)(void *)(memory += r->state_bytes);
  t.gates = (float *)(void *)(memory += r->state_bytes);
  t.candidate = (float *)(void *)(memory += r->gate_bytes);
  t.reset = (float *)(void *)(memory += r->candidate_bytes);
  t.lhs_memory = memory + r->reset_bytes;
  return t;
}

/* ---- States in and out ---- */

/* Row `row` of a state (directions, batch, hidden), or batch first. */
static size_t state_at(const task *t, size_t row) {
  const dynq_recurrent *r = t->layer;
  const size_t at = r->batch_first ? row * r->directions + t->direction : t->direction * r->batch + row;
  return at * r->hidden;
}

static size_t output_at(const task *t, size_t step, size_t row) {
  const dynq_recurrent *r = t->layer;
  const size_t at = r->batch_first ? (row * r->steps + step) * r->directions + t->direction
                                   : (step * r->directions + t->direction) * r->batch + row;
  return at * r->hidden;
}

static const float *projected_at(const task *t, size_t step, size_t row, size_t *stride) {
  const dynq_recurrent *r = t->layer;
  const size_t width = dynq_recurrent_width(r), all = r->directions * width;
  *stride = r->batch_first ? r->steps * all : all;
  return r->projected + (r->batch_first ? row * r->steps + step : step * r->batch + row) * all + t->direction * width;
}

static void load_states(const task *t, const float *from, float *to) {
  const size_t n = t->layer->hidden;
  for (size_t i = 0; i < t->rows; i++) {
    if (from != NULL) {
      memcpy(to + i * n, from + state_at(t, t->row + i), n * sizeof *to);
    } else {
      memset(to + i * n, 0, n * sizeof *to);
    }
  }
}

static void store_states(const task *t, const float *from, float *to) {
  const size_t n = t->layer->hidden;
  for (size_t i = 0; i < t->rows && to != NULL; i++) {
    memcpy(to + state_at(t, t->row + i), from + i * n, n * sizeof *to);
  }
}

/* ---- One step ---- */

/* y[i] += a[i] */
static void add_to(size_t n, const float *restrict a, float *restrict y) {
  for (size_t i = 0; i < n; i++) {
    y[i] += a[i];
  }
}

static void multiply_float(const task *t, size_t rows, const float *h, const float *bias, const float *residual,
                           size_t stride, size_t panel, float *y) {
  const dynq_recurrent *r = t->layer;
  const size_t k = r->hidden, width = dynq_recurrent_width(r), column = panel * DYNQ_PANEL;
  const float *panels = r->panels + t->direction * dynq_recurrent_panel_floats(r) + column * k;
  r->kernels->vector.matmul(rows, width - column, k, h, k, panels, DYNQ_PANEL, DYNQ_PANEL * k, y + column, width);
  for (size_t i = 0; i < rows; i++) {
    if (bias != NULL) {
      add_to(width - column, bias + column, y + i * width + column);
    }
    if (residual != NULL) {
      add_to(width - column, residual + i * stride + column, y + i * width + column);
    }
  }
}

static void multiply_quantized(task *t, size_t rows, const float *h, const float *bias, const float *residual,
                               size_t stride, size_t panel, float *y) {
  const dynq_recurrent *r = t->layer;
  const dynq_weight *weight = r->weights[t->direction];
  const dynq_gemm gemm = {.kernels = r->kernels,
                          .weight = weight,
                          .m = rows,
                          .epilogue = {.bias = bias, .residual = residual, .residual_stride = stride},
                          .y = y,
                          .y_stride = dynq_recurrent_width(r)};
  const dynq_lhs_source source = {.x = h, .x_stride = r->hidden, .scheme = r->scheme, .per_row = true};
  dynq_lhs lhs;
  dynq_lhs_place(&lhs, t->lhs_memory, t->run->rows, r->hidden, weight->info.zero_point != NULL);
  t->finite &= dynq_lhs_fill(&lhs, r->kernels, &source, 0, rows, r->hidden);
  (void)dynq_gemm_block(&gemm, &lhs, 0, rows, panel, weight->panels);
}

/* y (rows, width) = h R + bias + residual, from panel `panel` on. */
static void multiply(task *t, size_t rows, const float *h, const float *bias, const float *residual, size_t stride,
                     size_t panel, float *y) {
  if (t->layer->panels != NULL) {
    multiply_float(t, rows, h, bias, residual, stride, panel, y);
  } else {
    multiply_quantized(t, rows, h, bias, residual, stride, panel, y);
  }
}

/* Rows [first, first + rows) of the task. */
static void run_rows(task *t, size_t step, size_t first, size_t rows) {
  const dynq_recurrent *r = t->layer;
  const size_t n = r->hidden, width = dynq_recurrent_width(r);
  dynq_step s = {.layer = r,
                 .direction = t->direction,
                 .rows = rows,
                 .gates = t->gates + first * width,
                 .candidate = t->candidate,
                 .reset = t->reset,
                 .h = t->h + first * n,
                 .c = t->c + first * n};
  const float *bias = r->bias != NULL ? r->bias + t->direction * width : NULL;
  s.projected = projected_at(t, step, t->row + first, &s.stride);
  const bool add = r->cell != DYNQ_CELL_GRU || !r->linear_before_reset;
  multiply(t, rows, s.h, bias, add ? s.projected : NULL, s.stride, 0, s.gates);
  switch (r->cell) {
  case DYNQ_CELL_LSTM:
    dynq_lstm_step(&s);
    break;
  case DYNQ_CELL_RNN:
    dynq_rnn_step(&s);
    break;
  case DYNQ_CELL_GRU:
    dynq_gru_step(&s);
    if (!r->linear_before_reset) { /* the candidate's columns once more, now of the state that is reset */
      multiply(t, rows, s.reset, bias, s.projected, s.stride, 2 * n / DYNQ_PANEL, s.candidate);
      dynq_gru_finish(&s);
    }
    break;
  }
}

static bool goes_on(const task *t, size_t step, size_t row) {
  const dynq_op_tensor *lengths = t->layer->lengths;
  return lengths == NULL || (int64_t)step < dynq_op_index(lengths, t->row + row);
}

/* Sequences that have ended, or that backwards have not begun, keep their states and give zeros. */
static void run_step(task *t, size_t step) {
  const dynq_recurrent *r = t->layer;
  const size_t n = r->hidden;
  for (size_t first = 0, end; first < t->rows; first = end) {
    const bool active = goes_on(t, step, first);
    for (end = first + 1; end < t->rows && goes_on(t, step, end) == active; end++) {
    }
    if (active) {
      run_rows(t, step, first, end - first);
    }
    for (size_t i = first; i < end && r->y != NULL; i++) {
      float *to = r->y + output_at(t, step, t->row + i);
      if (active) {
        memcpy(to, t->h + i * n, n * sizeof *to);
      } else {
        memset(to, 0, n * sizeof *to);
      }
    }
  }
}

static void run_task(run *r, size_t index, char *memory) {
  const dynq_recurrent *layer = r->layer;
  task t = place_task(r, index, memory);
  const bool reverse = layer->reverse != (t.direction == 1);
  load_states(&t, layer->initial_h, t.h);
  load_states(&t, layer->initial_c, t.c);
  for (size_t i = 0; i < layer->steps; i++) {
    run_step(&t, reverse ? layer->steps - 1 - i : i);
  }
  store_states(&t, t.h, layer->y_h);
  store_states(&t, t.c, layer->y_c);
  if (!t.finite) {
    atomic_store(&r->nonfinite, true);
  }
}

static void work(void *arg, size_t worker) {
  run *r = arg;
  for (size_t i = atomic_fetch_add(&r->next, 1); i < r->tasks; i = atomic_fetch_add(&r->next, 1)) {
    run_task(r, i, r->memory + worker * r->each);
  }
}

size_t dynq_recurrent_bytes(const dynq_recurrent *layer, size_t count) {
  run r = {.layer = layer};
  if (layer->batch == 0) {
    return 0;
  }
  plan(&r, count);
  return dynq_size_mul(r.workers, r.each);
}

static dynq_status check_lengths(const dynq_recurrent *r) {
  for (size_t i = 0; r->lengths != NULL && i < r->batch; i++) {
    const int64_t length = dynq_op_index(r->lengths, i);
    if (length < 0 || (uint64_t)length > r->steps) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sequence_lens[%zu] is %lld; expected 0 to %zu", i,
                       (long long)length, r->steps);
    }
  }
  return DYNQ_OK;
}

dynq_status dynq_recurrent_run(const dynq_recurrent *layer, void *memory, const dynq_threads *threads, size_t count) {
  run r = {.layer = layer, .memory = memory};
  DYNQ_TRY(check_lengths(layer));
  if (layer->batch == 0) {
    return DYNQ_OK;
  }
  plan(&r, count);
  dynq_parallel(threads, r.workers, work, &r, r.workers);
  return atomic_load(&r.nonfinite) ? dynq_fail(DYNQ_NONFINITE, "a state holds a NaN or an infinity") : DYNQ_OK;
}
