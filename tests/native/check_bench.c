/*
 * check_kernels --bench: the median time of each kernel at realistic sizes, and how many times scalar's speed it has.
 */
#include "check_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 9, LENGTH = 768, MAX_M = 32, MAX_GROUPS = 1024, MAX_PANELS = 2 };

static struct {
  _Alignas(64) float x[MAX_M * LENGTH], y[MAX_M * LENGTH], scale[LENGTH];
  _Alignas(64) uint8_t q[LENGTH], lhs[MAX_M * MAX_GROUPS * DYNQ_GROUP];
  _Alignas(64) int8_t rhs[MAX_PANELS * MAX_GROUPS * DYNQ_PANEL * DYNQ_GROUP];
  _Alignas(64) int32_t acc[MAX_M * LENGTH], integers[LENGTH];
} data;

/* One thing to time: `run` does it once, which is `work` elements (or multiply-adds). */
typedef struct bench {
  const char *name;
  void (*run)(const dynq_kernels *kernels, int option);
  int option;
  double work;
} bench;

static void run_range(const dynq_kernels *k, int option) {
  float lo = 0.0f, hi = 0.0f;
  (void)option;
  (void)k->vector.range(LENGTH, data.x, &lo, &hi);
}

static void run_quantize(const dynq_kernels *k, int option) {
  (void)option;
  k->vector.quantize(LENGTH, data.x, 2.0f / 255.0f, 128, 0, 255, data.q);
}

static void run_dequantize(const dynq_kernels *k, int option) {
  (void)option;
  k->vector.dequantize(LENGTH, data.q, false, 0.01f, 128, data.y);
}

static void run_activate(const dynq_kernels *k, int option) {
  k->vector.activate((dynq_activation)option, LENGTH, data.x, data.y);
}

static void run_epilogue(const dynq_kernels *k, int option) {
  const dynq_epilogue_tile t = {.m = 4,
                                .n = LENGTH,
                                .acc = data.acc,
                                .acc_stride = LENGTH,
                                .row_scale = data.scale,
                                .row_zero_point = data.integers,
                                .column_scale = data.scale,
                                .column_sum = data.integers,
                                .bias = data.scale,
                                .activation = (dynq_activation)option,
                                .y = data.y,
                                .y_stride = LENGTH};
  k->vector.epilogue(&t);
}

/* A full tile (option 0), or `option` rows: one pass over two panels of K = 768. */
static size_t rows_of(const dynq_kernels *k, int option) { return option != 0 ? (size_t)option : k->gemm->rows; }

static void run_tile(const dynq_kernels *k, int option) {
  if (k->gemm->enter != NULL) {
    k->gemm->enter();
  }
  k->gemm->tile(rows_of(k, option), MAX_PANELS, LENGTH / DYNQ_GROUP, data.lhs, LENGTH, data.rhs, LENGTH * DYNQ_PANEL,
                data.acc, MAX_PANELS * DYNQ_PANEL);
  if (k->gemm->leave != NULL) {
    k->gemm->leave();
  }
}

static const bench benches[] = {
    {"range", run_range, 0, LENGTH},
    {"quantize", run_quantize, 0, LENGTH},
    {"dequantize", run_dequantize, 0, LENGTH},
    {"activate_relu", run_activate, DYNQ_ACTIVATION_RELU, LENGTH},
    {"activate_sigmoid", run_activate, DYNQ_ACTIVATION_SIGMOID, LENGTH},
    {"activate_tanh", run_activate, DYNQ_ACTIVATION_TANH, LENGTH},
    {"activate_silu", run_activate, DYNQ_ACTIVATION_SILU, LENGTH},
    {"activate_gelu", run_activate, DYNQ_ACTIVATION_GELU, LENGTH},
    {"activate_gelu_tanh", run_activate, DYNQ_ACTIVATION_GELU_TANH, LENGTH},
    {"epilogue", run_epilogue, DYNQ_ACTIVATION_NONE, 4 * LENGTH},
    {"epilogue_gelu", run_epilogue, DYNQ_ACTIVATION_GELU, 4 * LENGTH},
    {"gemm_tile", run_tile, 0, 0},
    {"gemm_tile_1_row", run_tile, 1, 0},
};

static double now_ns(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Median time of one run, in ns; a round takes about a millisecond. */
static double time_of(const bench *b, const dynq_kernels *k) {
  double rounds[ROUNDS];
  size_t repeats = 1;
  for (double took = 0.0; took < 1e6 && repeats < 1u << 20; repeats *= 2) {
    const double start = now_ns();
    for (size_t i = 0; i < repeats; i++) {
      b->run(k, b->option);
    }
    took = now_ns() - start;
  }
  for (size_t r = 0; r < ROUNDS; r++) {
    const double start = now_ns();
    for (size_t i = 0; i < repeats; i++) {
      b->run(k, b->option);
    }
    rounds[r] = (now_ns() - start) / (double)repeats;
  }
  qsort(rounds, ROUNDS, sizeof rounds[0], compare);
  return rounds[ROUNDS / 2];
}

void bench_kernels(const dynq_kernels *kernels, size_t count, const char *filter) {
  fill_f32(FILL_INTEGERS, data.x, MAX_M * LENGTH);
  for (size_t i = 0; i < MAX_M * LENGTH; i++) {
    data.x[i] = random_unit();
    data.acc[i] = (int32_t)random_below(2000000) - 1000000;
  }
  for (size_t i = 0; i < LENGTH; i++) {
    data.scale[i] = 1e-3f;
    data.integers[i] = (int32_t)random_below(256);
  }
  fill_bytes(BYTES_RANDOM, data.lhs, sizeof data.lhs);
  fill_bytes(BYTES_RANDOM, data.rhs, sizeof data.rhs);
  printf("%-20s %-12s %12s %12s %10s\n", "kernel", "isa", "ns", "", "x scalar");
  for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
    const bench *b = &benches[i];
    if (filter != NULL && strstr(b->name, filter) == NULL) {
      continue;
    }
    double scalar_rate = 0.0;
    for (size_t j = count; j-- > 0;) { /* scalar is the last */
      const bool tile = b->run == run_tile;
      const double macs = (double)(rows_of(&kernels[j], b->option) * MAX_PANELS * DYNQ_PANEL * LENGTH);
      const double ns = time_of(b, &kernels[j]), rate = (tile ? macs : b->work) / ns;
      scalar_rate = j == count - 1 ? rate : scalar_rate;
      printf("%-20s %-12s %12.1f %8.3f %s %9.2f\n", b->name, kernels[j].name, ns, tile ? 2.0 * rate : 1.0 / rate,
             tile ? "GOP/s" : "ns/el", rate / scalar_rate);
    }
  }
}
