/*
 * Recurrent layers: LSTM, GRU and RNN against plain loops in double precision; packed ones with the same bits whatever
 * the instruction set, the threads and the batch.
 */
#include "check_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum cell { LSTM, GRU, RNN } cell;

typedef struct layer {
  cell cell;
  size_t steps, batch, input, hidden, directions;
  bool reverse, batch_first, before, given_states;
  const float *x, *w, *r, *b, *h, *c, *p;
  const int32_t *lengths;
} layer;

static const char *const names[] = {"LSTM", "GRU", "RNN"};
static const size_t gate_counts[] = {4, 3, 1};

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

/* Gate `gate`, column j: weights times x or h, and its bias. */
static double product(const layer *l, const float *weights, size_t k, size_t direction, size_t gate, size_t j,
                      const double *v, size_t bias) {
  const size_t width = gate_counts[l->cell] * l->hidden, row = direction * width + gate * l->hidden + j;
  double sum = l->b != NULL ? (double)l->b[direction * 2 * width + bias * width + gate * l->hidden + j] : 0.0;
  for (size_t i = 0; i < k; i++) {
    sum += (double)weights[row * k + i] * v[i];
  }
  return sum;
}

static double gate(const layer *l, size_t direction, size_t g, size_t j, const double *x, const double *h) {
  return product(l, l->w, l->input, direction, g, j, x, 0) + product(l, l->r, l->hidden, direction, g, j, h, 1);
}

/* One step of one sequence. */
static void step(const layer *l, size_t direction, const double *x, double *h, double *c) {
  double next[200], reset[200];
  const size_t n = l->hidden;
  const float *p = l->p != NULL ? l->p + direction * 3 * n : NULL;
  for (size_t j = 0; j < n && l->cell == GRU; j++) {
    reset[j] = sigmoid(gate(l, direction, 1, j, x, h)) * h[j];
  }
  for (size_t j = 0; j < n; j++) {
    if (l->cell == RNN) {
      next[j] = tanh(gate(l, direction, 0, j, x, h));
    } else if (l->cell == GRU) {
      const double z = sigmoid(gate(l, direction, 0, j, x, h)), r = sigmoid(gate(l, direction, 1, j, x, h));
      const double of_x = product(l, l->w, l->input, direction, 2, j, x, 0);
      const double of_h = product(l, l->r, n, direction, 2, j, l->before ? h : reset, 1);
      next[j] = (1.0 - z) * tanh(of_x + (l->before ? r : 1.0) * of_h) + z * h[j];
    } else {
      const double old = c[j];
      const double i = sigmoid(gate(l, direction, 0, j, x, h) + (p != NULL ? (double)p[j] * old : 0.0));
      const double f = sigmoid(gate(l, direction, 2, j, x, h) + (p != NULL ? (double)p[2 * n + j] * old : 0.0));
      c[j] = f * old + i * tanh(gate(l, direction, 3, j, x, h));
      const double o = sigmoid(gate(l, direction, 1, j, x, h) + (p != NULL ? (double)p[n + j] * c[j] : 0.0));
      next[j] = o * tanh(c[j]);
    }
  }
  memcpy(h, next, n * sizeof *h);
}

static void expect_sequence(const op_case *o, const layer *l, size_t direction, size_t row, double bound) {
  double x[200], h[200] = {0}, c[200] = {0};
  const size_t n = l->hidden;
  const size_t state = (l->batch_first ? row * l->directions + direction : direction * l->batch + row) * n;
  for (size_t j = 0; j < n; j++) {
    h[j] = l->h != NULL ? (double)l->h[state + j] : 0.0;
    c[j] = l->c != NULL ? (double)l->c[state + j] : 0.0;
  }
  for (size_t i = 0; i < l->steps; i++) {
    const size_t t = l->reverse != (direction == 1) ? l->steps - 1 - i : i;
    const bool active = l->lengths == NULL || t < (size_t)l->lengths[row];
    const size_t at = l->batch_first ? row * l->steps + t : t * l->batch + row;
    for (size_t k = 0; k < l->input; k++) {
      x[k] = (double)l->x[at * l->input + k];
    }
    if (active) {
      step(l, direction, x, h, c);
    }
    const size_t y =
        (l->batch_first ? at * l->directions + direction : (t * l->directions + direction) * l->batch + row) * n;
    for (size_t j = 0; j < n; j++) {
      op_case_near(o, 0, y + j, active ? h[j] : 0.0, bound);
    }
  }
  for (size_t j = 0; j < n; j++) {
    op_case_near(o, 1, state + j, h[j], bound);
    if (l->cell == LSTM) {
      op_case_near(o, 2, state + j, c[j], bound);
    }
  }
}

static const int32_t *add_lengths(op_case *c, const layer *l) {
  int32_t *lengths = op_case_add(c, DYNQ_INT32, 1, &l->batch);
  for (size_t i = 0; i < l->batch; i++) {
    lengths[i] = (int32_t)random_below(l->steps + 1);
  }
  return lengths;
}

static void add_states(op_case *c, layer *l) {
  const size_t state[3] = {l->batch_first ? l->batch : l->directions, l->batch_first ? l->directions : l->batch,
                           l->hidden};
  l->h = op_case_add_f32(c, 1.0f, 3, state);
  l->c = NULL;
  if (l->cell == LSTM) {
    l->c = op_case_add_f32(c, 1.0f, 3, state);
  }
}

static void set_attributes(op_case *c, const layer *l) {
  op_case_string(c, "direction", l->directions == 2 ? "bidirectional" : l->reverse ? "reverse" : "forward");
  op_case_int(c, "layout", l->batch_first);
  if (l->cell == GRU) {
    op_case_int(c, "linear_before_reset", l->before);
  }
}

static layer random_layer(size_t repeat) {
  layer l = {.cell = (cell)(repeat % 3),
             .steps = random_below(6),
             .batch = repeat % 7 == 6 ? 70 : 1 + random_below(4),
             .input = random_below(20),
             .hidden = repeat % 4 == 0 ? 16 * (1 + random_below(5)) : 1 + random_below(40),
             .directions = 1 + random_below(2),
             .batch_first = random_below(2) != 0,
             .before = random_below(2) != 0};
  l.reverse = l.directions == 1 && random_below(2) != 0;
  return l;
}

static void check_float(void) {
  check_begin("", "LSTM, GRU, RNN");
  for (size_t repeat = 0; repeat < 42; repeat++) {
    layer l = random_layer(repeat);
    const size_t width = gate_counts[l.cell] * l.hidden, d = l.directions;
    op_case c = op_case_of(names[l.cell]);
    l.x = op_case_add_f32(
        &c, 1.0f, 3, (const size_t[]){l.batch_first ? l.batch : l.steps, l.batch_first ? l.steps : l.batch, l.input});
    l.w = op_case_add_f32(&c, 0.5f, 3, (const size_t[]){d, width, l.input});
    l.r = op_case_add_f32(&c, 0.5f, 3, (const size_t[]){d, width, l.hidden});
    if (random_below(3) != 0) {
      l.b = op_case_add_f32(&c, 0.5f, 2, (const size_t[]){d, 2 * width});
    } else {
      op_case_skip(&c);
    }
    if (random_below(2) != 0) {
      l.lengths = add_lengths(&c, &l);
    } else {
      op_case_skip(&c);
    }
    add_states(&c, &l);
    if (l.cell == LSTM && random_below(2) != 0) {
      l.p = op_case_add_f32(&c, 0.5f, 2, (const size_t[]){d, 3 * l.hidden});
    }
    set_attributes(&c, &l);
    c.output_count = l.cell == LSTM ? 3 : 2;
    check_case("%s, %zu steps of %zu, %zu to %zu, %zu directions%s%s%s", names[l.cell], l.steps, l.batch, l.input,
               l.hidden, d, l.lengths != NULL ? ", lengths" : "", l.batch_first ? ", batch first" : "",
               l.p != NULL ? ", peepholes" : "");
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < d * l.batch; i++) {
        expect_sequence(&c, &l, i / l.batch, i % l.batch, 1e-5);
      }
    }
    guards_release();
  }
  check_end();
}

/* A packed weight as an input. */
static void add_weight(op_case *c, const dynq_weight *weight) {
  c->given[c->input_count] = weight != NULL;
  c->in[c->input_count++] = (dynq_op_tensor){.dtype = DYNQ_INT8, .rank = 2, .weight = weight};
}

static dynq_weight *pack(size_t n, size_t k) {
  float *w = malloc(n * k * sizeof *w);
  dynq_weight *weight = NULL;
  for (size_t i = 0; i < n * k; i++) {
    w[i] = random_unit() / 2.0f;
  }
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(n, k, w, k, 1, NULL, &weight));
  free(w);
  return weight;
}

/* The same layer for some of the batch. */
static op_case packed_case(const layer *l, dynq_weight *const *weights, const float *projected, const float *states,
                           size_t row, size_t rows) {
  const size_t n = l->hidden, d = l->directions, columns = d * gate_counts[l->cell] * n;
  char name[16];
  (void)snprintf(name, sizeof name, "dynq.%s", names[l->cell]);
  op_case c = op_case_of(name);
  float *p = op_case_add(&c, DYNQ_FLOAT32, 3, (const size_t[]){l->steps, rows, columns});
  for (size_t t = 0; t < l->steps; t++) {
    memcpy(p + t * rows * columns, projected + (t * l->batch + row) * columns, rows * columns * sizeof *p);
  }
  add_weight(&c, weights[0]);
  add_weight(&c, d == 2 ? weights[1] : NULL);
  op_case_skip(&c);
  op_case_skip(&c);
  op_case_skip(&c);
  for (size_t s = 0; s < (l->cell == LSTM ? 2 : 1); s++) {
    float *state = op_case_add(&c, DYNQ_FLOAT32, 3, (const size_t[]){d, rows, n});
    for (size_t i = 0; i < d; i++) {
      memcpy(state + i * rows * n, states + ((s * d + i) * l->batch + row) * n, rows * n * sizeof *state);
    }
  }
  set_attributes(&c, l);
  op_case_int(&c, "hidden_size", (int64_t)n);
  c.output_count = l->cell == LSTM ? 3 : 2;
  return c;
}

static float *random_floats(size_t count) {
  float *x = malloc((count + 1) * sizeof *x);
  for (size_t i = 0; i < count; i++) {
    x[i] = random_unit();
  }
  return x;
}

/* Runs a case that must give what `expected` gave. */
static void check_outputs(const char *what, const op_case *expected, op_case *c) {
  const bool ran = op_case_run(c, DYNQ_OK);
  for (size_t i = 0; i < (ran ? expected->output_count : 0); i++) {
    check_same(what, CHECK_F32, expected->out[i].data, c->out[i].data, expected->out[i].count);
  }
}

static void free_layer(dynq_weight *const *weights, float *projected, float *states) {
  guards_release();
  free(projected);
  free(states);
  dynq_weight_free(weights[0]);
  dynq_weight_free(weights[1]);
}

static void check_packed(void) {
  check_begin("", "dynq.LSTM, dynq.GRU, dynq.RNN");
  for (size_t repeat = 0; repeat < 36; repeat++) {
    layer l = random_layer(repeat);
    l.batch_first = false;
    l.hidden = repeat % 12 == 0 ? 512 : repeat % 12 == 1 ? 256 : l.hidden; /* enough to be shared by threads */
    l.batch = l.hidden > 200 ? (repeat < 12 ? 3 : 9) : l.batch;
    const size_t n = l.hidden, width = gate_counts[l.cell] * n;
    dynq_weight *weights[2] = {pack(width, n), pack(width, n)};
    float *projected = random_floats(l.steps * l.batch * l.directions * width);
    float *states = random_floats(2 * l.directions * l.batch * n);
    op_case c = packed_case(&l, weights, projected, states, 0, l.batch);
    const size_t row = random_below(l.batch);
    check_case("%s, %zu steps of %zu, %zu, %zu directions", names[l.cell], l.steps, l.batch, n, l.directions);
    if (op_case_run(&c, DYNQ_OK)) {
      op_case clipped = packed_case(&l, weights, projected, states, 0, l.batch);
      /* The gates go through memory, one activation after another. No value reaches this clip. */
      op_case_float(&clipped, "clip", 3e38f);
      check_outputs("clipped at 3e38", &c, &clipped);
      if (l.cell == LSTM) {
        const size_t mark = guards_mark();
        op_case with = packed_case(&l, weights, projected, states, 0, l.batch);
        /* The values of peepholes are not at hand when memory is planned. */
        (void)op_case_add_f32(&with, 0.0f, 2, (const size_t[]){l.directions, 3 * n});
        check_outputs("peepholes of 0", &c, &with);
        guards_release_to(mark);
      }
      op_case alone = packed_case(&l, weights, projected, states, row, 1);
      if (op_case_run(&alone, DYNQ_OK)) {
        for (size_t i = 0; i < l.steps * l.directions; i++) {
          check_same("a sequence alone", CHECK_F32, (const float *)c.out[0].data + (i * l.batch + row) * n,
                     (const float *)alone.out[0].data + i * n, n);
        }
      }
    }
    free_layer(weights, projected, states);
  }
  check_end();
}

static void check_refused(void) {
  static const char *const texts[] = {
      "X is float32 of 2", "hidden_size", "R is",   "initial_h",       "sequence_lens", "activations",
      "direction",         "clip",        "layout", "input_forget is", "P is"};
  check_begin("", "LSTM refused");
  for (size_t wrong = 0; wrong < sizeof texts / sizeof texts[0]; wrong++) {
    op_case c = op_case_of("LSTM");
    (void)op_case_add_f32(&c, 1.0f, wrong == 0 ? 2 : 3, (const size_t[]){2, 3, 4});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 20, 4});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, wrong == 2 ? 15 : 20, 5});
    op_case_skip(&c);
    (void)op_case_add(&c, wrong == 4 ? DYNQ_FLOAT32 : DYNQ_INT32, 1, (const size_t[]){3});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, wrong == 3 ? 2 : 3, 5});
    op_case_skip(&c);
    (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){1, wrong == 10 ? 10 : 15});
    if (wrong == 1) {
      op_case_int(&c, "hidden_size", 6);
    }
    op_case_string(&c, "activations", wrong == 5 ? "Sigmoid,Tanh" : "Sigmoid,Tanh,Tanh");
    op_case_string(&c, "direction", wrong == 6 ? "backward" : "reverse");
    op_case_float(&c, "clip", wrong == 7 ? 0.0f : 3.0f);
    op_case_int(&c, "layout", wrong == 8 ? 2 : 0);
    op_case_int(&c, "input_forget", wrong == 9 ? -1 : 0);
    op_case_refused(&c, texts[wrong]);
    guards_release();
  }
  check_end();
}

/* Gives dynq's own op what is wrong, since a plan may come from anywhere. */
static void check_packed_refused(void) {
  enum {
    RANK,
    NO_HIDDEN,
    HIDDEN_0,
    COLUMNS,
    WEIGHT,
    NO_BACKWARD,
    NO_WEIGHT,
    BIAS,
    LENGTHS,
    STATE,
    CELL_STATE,
    PEEPHOLES,
    ACTIVATION,
    SCHEME,
    COUNT
  };
  static const char *const texts[COUNT] = {[RANK] = "projected",
                                           [NO_HIDDEN] = "hidden_size is 0",
                                           [HIDDEN_0] = "hidden_size is 0",
                                           [COLUMNS] = "projected has 120 columns",
                                           [WEIGHT] = "R_forward is a weight (64, 15); expected (64, 16)",
                                           [NO_BACKWARD] = "expected a packed R for each direction",
                                           [NO_WEIGHT] = "expected a packed R for each direction",
                                           [BIAS] = "bias is float32 (2, 63); expected float32 (2, 64)",
                                           [LENGTHS] = "sequence_lens is int32 (4); expected int32 (3)",
                                           [STATE] = "initial_h is float32 (1, 3, 16); expected float32 (2, 3, 16)",
                                           [CELL_STATE] = "initial_c is float32 (2, 3, 17)",
                                           [PEEPHOLES] = "P is float32 (2, 32); expected float32 (2, 48)",
                                           [ACTIVATION] = "'Sinus' is no activation of a recurrent layer",
                                           [SCHEME] = "scheme"};
  dynq_weight *weight = pack(64, 16), *narrow = pack(64, 15);
  check_begin("", "dynq.LSTM refused");
  for (size_t wrong = 0; wrong < COUNT; wrong++) {
    op_case c = op_case_of("dynq.LSTM");
    (void)op_case_add_f32(&c, 1.0f, wrong == RANK ? 2 : 3, (const size_t[]){2, 3, wrong == COLUMNS ? 120 : 128});
    add_weight(&c, wrong == NO_WEIGHT ? NULL : wrong == WEIGHT ? narrow : weight);
    add_weight(&c, wrong == NO_BACKWARD || wrong == NO_WEIGHT ? NULL : weight);
    op_case_skip(&c);
    (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, wrong == BIAS ? 63 : 64});
    (void)op_case_add(&c, DYNQ_INT32, 1, (const size_t[]){wrong == LENGTHS ? 4 : 3});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){wrong == STATE ? 1 : 2, 3, 16});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){2, 3, wrong == CELL_STATE ? 17 : 16});
    if (wrong == PEEPHOLES) {
      (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 32});
    }
    if (wrong != NO_HIDDEN) {
      op_case_int(&c, "hidden_size", wrong == HIDDEN_0 ? 0 : 16);
    }
    op_case_string(&c, "direction", "bidirectional");
    op_case_string(&c, "activations",
                   wrong == ACTIVATION ? "Sigmoid,Tanh,Tanh,Sigmoid,Sinus,Tanh"
                                       : "Sigmoid,Tanh,Tanh,Sigmoid,Tanh,Tanh");
    op_case_string(&c, "scheme", wrong == SCHEME ? "both" : "symmetric");
    op_case_refused(&c, texts[wrong]);
    guards_release();
  }
  dynq_weight_free(weight);
  dynq_weight_free(narrow);
  check_end();
}

/* Lengths are data: a run finds what is wrong with them. */
static void check_lengths_refused(void) {
  static const int32_t lengths[][3] = {{0, 2, 3}, {2, -1, 2}, {INT32_MIN, 0, 0}, {0, 0, INT32_MAX}};
  dynq_weight *weight = pack(48, 16);
  check_begin("", "sequence_lens refused");
  for (size_t wrong = 0; wrong < sizeof lengths / sizeof lengths[0]; wrong++) {
    op_case c = op_case_of("dynq.GRU");
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){2, 3, 48});
    add_weight(&c, weight);
    for (size_t i = 0; i < 3; i++) {
      op_case_skip(&c);
    }
    memcpy(op_case_add(&c, DYNQ_INT32, 1, (const size_t[]){3}), lengths[wrong], sizeof lengths[wrong]);
    op_case_int(&c, "hidden_size", 16);
    check_case("lengths %d, %d, %d of 2 steps", lengths[wrong][0], lengths[wrong][1], lengths[wrong][2]);
    (void)op_case_run(&c, DYNQ_ERROR_INVALID_ARGUMENT);
    guards_release();
  }
  dynq_weight_free(weight);
  check_end();
}

/* No steps: the states go through. No sequences: nothing comes out. */
static void check_empty(void) {
  check_begin("", "empty sequences");
  for (size_t repeat = 0; repeat < 12; repeat++) {
    layer l = {.cell = (cell)(repeat % 3), .steps = repeat < 6 ? 0 : 3, .batch = repeat < 6 ? 2 : 0, .hidden = 16};
    l.directions = 1 + repeat / 3 % 2;
    const size_t width = gate_counts[l.cell] * l.hidden, count = l.directions * l.batch * l.hidden;
    dynq_weight *weights[2] = {pack(width, l.hidden), pack(width, l.hidden)};
    float *projected = random_floats(l.steps * l.batch * l.directions * width), *states = random_floats(2 * count);
    op_case c = packed_case(&l, weights, projected, states, 0, l.batch);
    check_case("%s, %zu steps of %zu, %zu directions", names[l.cell], l.steps, l.batch, l.directions);
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].count == 0 && c.out[1].count == count);
      check_same("the state", CHECK_F32, states, c.out[1].data, count);
      if (l.cell == LSTM) {
        check_same("the cell", CHECK_F32, states + count, c.out[2].data, count);
      }
    }
    free_layer(weights, projected, states);
  }
  check_end();
}

void check_recurrent_ops(void) {
  check_float();
  check_packed();
  check_empty();
  check_refused();
  check_packed_refused();
  check_lengths_refused();
}
