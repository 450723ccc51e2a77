/*
 * Times dynq_linear_f32 over real layer shapes, beside the machine's own int8 peak measured in the same run.
 *
 * bench_linear [--isa NAME] [--threads N] [--rounds N] [--shape MxNxK]... [--json]
 *
 * Each round times every shape and the peak once, so that a slow moment of the machine meets all of them; the
 * figures are medians over the rounds. GOP/s counts 2 M N K operations, quantization and epilogue included.
 */
#include "dispatch.h"
#include "threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_SHAPES = 64, MAX_ROUNDS = 101 };

typedef struct shape {
  size_t m, n, k, repeats;
  float *x, *y;
  dynq_weight *weight;
  double seconds[MAX_ROUNDS];
} shape;

static const size_t default_shapes[][3] = {{1, 64, 64},     {1, 384, 384},    {1, 768, 768},     {1, 4096, 4096},
                                           {4, 768, 768},   {8, 1024, 4096},  {7, 1000, 333},    {32, 768, 3072},
                                           {128, 768, 768}, {128, 3072, 768}, {512, 1024, 1024}, {512, 4096, 4096}};

static double now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fail(const char *what) {
  (void)fprintf(stderr, "bench_linear: %s\n", what);
  exit(1);
}

static float *random_floats(size_t count) {
  static uint32_t state = 1;
  float *p = malloc((count != 0 ? count : 1) * sizeof *p);
  if (p == NULL) {
    fail("out of memory");
  }
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    p[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
  }
  return p;
}

static double time_once(const shape *s, size_t repeats) {
  const double start = now();
  for (size_t i = 0; i < repeats; i++) {
    if (dynq_linear_f32(s->weight, s->m, s->x, s->k, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, s->y, s->n) !=
        DYNQ_OK) {
      fail(dynq_last_error());
    }
  }
  return (now() - start) / (double)repeats;
}

static void prepare(shape *s) {
  float *w = random_floats(s->n * s->k);
  s->x = random_floats(s->m * s->k);
  s->y = random_floats(s->m * s->n);
  if (dynq_weight_pack_f32(s->n, s->k, w, s->k, 1, NULL, &s->weight) != DYNQ_OK) {
    fail(dynq_last_error());
  }
  free(w);
  const double seconds = time_once(s, 1); /* warms up, too */
  s->repeats = seconds < 0.01 ? (size_t)(0.01 / seconds) + 1 : 1;
}

/* ---- The peak: as many threads at once as the shapes use ---- */

enum { PEAK_ROUNDS = 200000 };

static void peak_task(void *arg, size_t index) {
  const dynq_kernels *kernels = arg;
  (void)index;
  (void)kernels->gemm->peak(PEAK_ROUNDS);
}

static double peak_seconds_per_mac(const dynq_kernels *kernels, size_t threads) {
  if (kernels->gemm->peak == NULL) {
    return 0.0;
  }
  const double macs = (double)kernels->gemm->peak(1) * PEAK_ROUNDS * (double)threads;
  const double start = now();
  dynq_parallel(NULL, threads, peak_task, (void *)(uintptr_t)kernels, threads);
  return (now() - start) / macs;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
  qsort(values, count, sizeof *values, ascending);
  return values[count / 2];
}

int main(int argc, char **argv) {
  static shape shapes[MAX_SHAPES];
  static double peaks[MAX_ROUNDS];
  size_t count = 0, rounds = 15, threads;
  int json = 0;
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    shape *s = &shapes[count];
    if (strcmp(argv[i], "--json") == 0) {
      json = 1;
      continue;
    }
    if (strcmp(argv[i], "--isa") == 0) {
      if (dynq_isa_select(value) != DYNQ_OK) {
        fail(dynq_last_error());
      }
    } else if (strcmp(argv[i], "--threads") == 0) {
      if (dynq_set_num_threads(strtoul(value, NULL, 10)) != DYNQ_OK) {
        fail(dynq_last_error());
      }
    } else if (strcmp(argv[i], "--rounds") == 0) {
      rounds = strtoul(value, NULL, 10);
    } else if (strcmp(argv[i], "--shape") == 0 && count < MAX_SHAPES &&
               sscanf(value, "%zux%zux%zu", &s->m, &s->n, &s->k) == 3) {
      count++;
    } else {
      fail("usage: bench_linear [--isa NAME] [--threads N] [--rounds N] [--shape MxNxK]... [--json]");
    }
    i++;
  }
  if (rounds == 0 || rounds > MAX_ROUNDS) {
    fail("--rounds takes 1 to 101");
  }
  for (size_t i = 0; count == 0 && i < sizeof default_shapes / sizeof default_shapes[0]; i++) {
    shapes[i].m = default_shapes[i][0];
    shapes[i].n = default_shapes[i][1];
    shapes[i].k = default_shapes[i][2];
  }
  count = count != 0 ? count : sizeof default_shapes / sizeof default_shapes[0];
  const dynq_kernels *kernels;
  if (dynq_kernels_current(&kernels) != DYNQ_OK || dynq_get_num_threads(&threads) != DYNQ_OK) {
    fail(dynq_last_error());
  }
  for (size_t i = 0; i < count; i++) {
    prepare(&shapes[i]);
  }
  for (size_t r = 0; r < rounds; r++) {
    peaks[r] = peak_seconds_per_mac(kernels, threads);
    for (size_t i = 0; i < count; i++) {
      shapes[i].seconds[r] = time_once(&shapes[i], shapes[i].repeats);
    }
  }
  const double peak_seconds = median(peaks, rounds), peak = peak_seconds > 0.0 ? 2e-9 / peak_seconds : 0.0;
  if (!json) {
    (void)printf("%s, %zu threads, measured int8 peak %.1f GOP/s (0: not known)\n\n%18s %12s %10s %8s\n", kernels->name,
                 threads, peak, "M x N x K", "us", "GOP/s", "of peak");
  }
  for (size_t i = 0; i < count; i++) {
    shape *s = &shapes[i];
    const double seconds = median(s->seconds, rounds);
    const double gops = 2e-9 * (double)s->m * (double)s->n * (double)s->k / seconds;
    if (json) {
      (void)printf("{\"isa\": \"%s\", \"threads\": %zu, \"m\": %zu, \"n\": %zu, \"k\": %zu, \"us\": %.4f, "
                   "\"gops\": %.2f, \"peak_gops\": %.2f}\n",
                   kernels->name, threads, s->m, s->n, s->k, seconds * 1e6, gops, peak);
    } else {
      (void)printf("%5zu x%5zu x%5zu %12.2f %10.1f %7.1f%%\n", s->m, s->n, s->k, seconds * 1e6, gops,
                   peak > 0.0 ? 100.0 * gops / peak : 0.0);
    }
    dynq_weight_free(s->weight);
    free(s->x);
    free(s->y);
  }
  return 0;
}
