/*
 * Random graphs: whatever shares memory, the results are those of tensors that share none.
 */
#include "check_model.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 40, ROWS = 7, WIDTHS = 3 };
static const size_t widths[WIDTHS] = {16, 24, 33};

/* A graph under construction: tensors that a node may read, with their widths. */
typedef struct graph {
  plan_writer w;
  uint32_t weights[WIDTHS][WIDTHS], shapes[WIDTHS];
  uint32_t values[NODES + WIDTHS];
  size_t width[NODES + WIDTHS], count;
} graph;

static void begin(graph *g, const dynq_weight *const weights[WIDTHS][WIDTHS]) {
  char name[56];
  *g = (graph){0};
  const int64_t rows = -1 - (int64_t)plan_symbol(&g->w, "rows");
  for (size_t i = 0; i < WIDTHS; i++) {
    (void)snprintf(name, sizeof name, "in%zu", i);
    g->values[g->count] = plan_input(&g->w, name, DYNQ_FLOAT32, 2, (const int64_t[]){rows, (int64_t)widths[i]});
    g->width[g->count++] = i;
    (void)snprintf(name, sizeof name, "shape%zu", i);
    g->shapes[i] =
        plan_constant(&g->w, name, DYNQ_INT64, 1, (const int64_t[]){2}, (const int64_t[]){-1, (int64_t)widths[i]});
    for (size_t j = 0; j < WIDTHS; j++) {
      (void)snprintf(name, sizeof name, "weight%zu.%zu", i, j);
      g->weights[i][j] = plan_weight(&g->w, name, weights[i][j]);
    }
  }
}

/* Mostly a recent value, so that others die. */
static size_t any_value(const graph *g) {
  return random_below(3) != 0 && g->count > 4 ? g->count - 1 - random_below(4) : random_below(g->count);
}

static void add_node(graph *g, size_t number) {
  char name[56];
  const size_t x = any_value(g), from = g->width[x];
  size_t to = from;
  (void)snprintf(name, sizeof name, "value%zu", number);
  const uint32_t y = plan_computed(&g->w, name);
  (void)snprintf(name, sizeof name, "node%zu", number);
  if (random_below(3) == 0) {
    plan_node(&g->w, name, "Reshape", 2, (const uint32_t[]){g->values[x], g->shapes[from]}, 1, &y);
  } else if (random_below(4) == 0) {
    plan_node(&g->w, name, "Identity", 1, &g->values[x], 1, &y);
  } else {
    uint32_t residual = PLAN_NONE;
    to = random_below(WIDTHS);
    for (size_t tries = 0; tries < 3 && residual == PLAN_NONE; tries++) {
      const size_t r = any_value(g);
      residual = g->width[r] == to ? g->values[r] : PLAN_NONE;
    }
    plan_node(&g->w, name, "dynq.Linear", 4,
              (const uint32_t[]){g->values[x], g->weights[from][to], PLAN_NONE, residual}, 1, &y);
    plan_string(&g->w, "activation", random_below(2) != 0 ? "tanh" : "none");
  }
  g->values[g->count] = y;
  g->width[g->count++] = to;
}

static void *random_graph(const dynq_weight *const weights[WIDTHS][WIDTHS], size_t *size) {
  graph g;
  char name[56];
  begin(&g, weights);
  const size_t nodes = random_between(1, NODES), outputs = random_between(1, 4);
  for (size_t i = 0; i < nodes; i++) {
    add_node(&g, i);
  }
  for (size_t i = 0; i < outputs; i++) {
    (void)snprintf(name, sizeof name, "out%zu", i);
    plan_output(&g.w, name, g.values[i == 0 ? g.count - 1 : random_below(g.count)]);
  }
  return plan_finish(&g.w, size);
}

static void check_graph(const dynq_weight *const weights[WIDTHS][WIDTHS]) {
  size_t size, packed = 0, separate = 0;
  static float x[WIDTHS][ROWS * 33];
  dynq_tensor in[WIDTHS], out[4], kept[4];
  dynq_session *session[2] = {NULL, NULL};
  void *image = random_graph(weights, &size);
  dynq_model *model = open_image(image, size);
  for (size_t round = 0; round < 2; round++) { /* the second with other sizes and used memory */
    const size_t rows = random_between(0, ROWS);
    for (size_t i = 0; i < WIDTHS; i++) {
      fill_f32(FILL_UNIT, x[i], rows * widths[i]);
      in[i] = tensor_of(DYNQ_FLOAT32, 2, (const size_t[]){rows, widths[i]}, x[i]);
    }
    for (size_t i = 0; i < 2; i++) {
      if (round == 0) {
        CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session[i]));
      }
      CHECK_STATUS(DYNQ_OK, dynq_session_keep_all(session[i], (int)i));
      CHECK_STATUS(DYNQ_OK, dynq_model_run(session[i], in, i == 0 ? out : kept));
    }
    CHECK_STATUS(DYNQ_OK, dynq_session_arena_bytes(session[0], &packed));
    CHECK_STATUS(DYNQ_OK, dynq_session_arena_bytes(session[1], &separate));
    CHECK(packed <= separate);
    for (size_t i = 0; i < dynq_model_output_count(model); i++) {
      CHECK(out[i].rank == 2 && out[i].dims[0] == rows && out[i].dims[1] == kept[i].dims[1]);
      check_same("output", CHECK_F32, kept[i].data, out[i].data, rows * out[i].dims[1]);
    }
  }
  for (size_t i = 0; i < 2; i++) {
    dynq_session_free(session[i]);
  }
  dynq_model_close(model);
  free(image);
}

/* ---- The arena by itself ---- */

static void check_placement(void) {
  enum { MOST = 60 };
  dynq_buffer b[MOST];
  check_begin("", "buffers in use at one time do not overlap");
  for (size_t round = 0; round < 400; round++) {
    const size_t count = random_below(MOST + 1);
    size_t total = 0, bytes = SIZE_MAX, sum = 0;
    check_case("%zu buffers", count);
    for (size_t i = 0; i < count; i++) {
      const size_t first = random_below(30);
      b[i] = (dynq_buffer){
          .bytes = random_below(4) == 0 ? 0 : random_below(5000), .first = first, .last = first + random_below(8)};
      sum += (b[i].bytes + 63) / 64 * 64;
    }
    CHECK_STATUS(DYNQ_OK, dynq_arena_place(b, count, &bytes));
    for (size_t i = 0; i < count; i++) {
      CHECK(b[i].offset % 64 == 0);
      total = b[i].offset + b[i].bytes > total ? b[i].offset + b[i].bytes : total;
      for (size_t j = 0; j < i; j++) {
        const bool meet = b[i].first <= b[j].last && b[j].first <= b[i].last;
        CHECK(!meet || b[i].bytes == 0 || b[j].bytes == 0 || b[i].offset + b[i].bytes <= b[j].offset ||
              b[j].offset + b[j].bytes <= b[i].offset);
      }
    }
    CHECK(total == bytes && bytes <= sum);
  }
  check_case("sizes that overflow");
  size_t bytes = 0;
  for (size_t i = 0; i < 3; i++) {
    b[i] = (dynq_buffer){.bytes = (size_t)PTRDIFF_MAX - 100, .first = 0, .last = 1};
  }
  CHECK_STATUS(DYNQ_ERROR_OUT_OF_MEMORY, dynq_arena_place(b, 3, &bytes));
  check_end();
}

void check_model_random(void) {
  dynq_weight *weights[WIDTHS][WIDTHS];
  check_placement();
  check_begin("", "a packed arena gives the same results");
  for (size_t i = 0; i < WIDTHS * WIDTHS; i++) {
    weights[i / WIDTHS][i % WIDTHS] = random_weight(widths[i % WIDTHS], widths[i / WIDTHS]);
  }
  for (size_t round = 0; round < (CHECK_TSAN || CHECK_ASAN ? 60 : 200); round++) {
    check_case("graph %zu", round);
    check_graph((const dynq_weight *const(*)[WIDTHS])weights);
  }
  for (size_t i = 0; i < WIDTHS * WIDTHS; i++) {
    dynq_weight_free(weights[i / WIDTHS][i % WIDTHS]);
  }
  check_end();
}
