/*
 * dynq-bench linear: dynq_linear_f32 over real layer shapes, beside the machine's own int8 peak.
 *
 * Each round times every shape and the peak once, so that a slow moment of the machine meets all of them; the
 * figures are medians over the rounds. GOP/s counts 2 M N K operations, quantization and epilogue included.
 */
#include "commands.h"

#include "levels.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "threads.h"
#include "timing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHAPES = 64 };

typedef struct shape {
  size_t m, n, k, repeats;
  float *x, *y;
  dynq_weight *weight;
  double seconds[BENCH_MAX_ROUNDS];
} shape;

typedef struct options {
  size_t count, rounds;
  double seconds; /* a sample takes, or one call where that is longer */
  bool json;
  shape shapes[MAX_SHAPES];
} options;

static const size_t default_shapes[][3] = {{1, 64, 64},     {1, 384, 384},    {1, 768, 768},     {1, 4096, 4096},
                                           {4, 768, 768},   {8, 1024, 4096},  {7, 1000, 333},    {32, 768, 3072},
                                           {128, 768, 768}, {128, 3072, 768}, {512, 1024, 1024}, {512, 4096, 4096}};

static double time_once(const shape *s, size_t repeats) {
  const double start = bench_now();
  for (size_t i = 0; i < repeats; i++) {
    if (dynq_linear_f32(s->weight, s->m, s->x, s->k, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, s->y, s->n) !=
        DYNQ_OK) {
      bench_fail("%s", dynq_last_error());
    }
  }
  return (bench_now() - start) / (double)repeats;
}

static void prepare(shape *s, double seconds) {
  float *w = bench_data(s->n * s->k * sizeof *w);
  s->x = bench_data(s->m * s->k * sizeof *s->x);
  s->y = bench_data(s->m * s->n * sizeof *s->y);
  if (dynq_weight_pack_f32(s->n, s->k, w, s->k, 1, NULL, &s->weight) != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
  free(w);
  const double once = time_once(s, 1); /* warms up, too */
  s->repeats = once < seconds ? (size_t)(seconds / once) + 1 : 1;
}

static void add_shape(options *o, size_t m, size_t n, size_t k) {
  if (o->count == MAX_SHAPES) {
    bench_fail("--shape is given more than %d times", MAX_SHAPES);
  }
  o->shapes[o->count++] = (shape){.m = m, .n = n, .k = k};
}

static void read_shape(options *o, const char *value) {
  size_t m, n, k;
  char more;
  if (sscanf(value, "%zux%zux%zu%c", &m, &n, &k, &more) != 3 || m == 0 || n == 0 || k == 0) {
    bench_fail("--shape is '%s'; expected MxNxK, such as 128x768x768", value);
  }
  add_shape(o, m, n, k);
}

static void read_options(options *o, int argc, char **argv) {
  bench_options in = {.command = "linear", .count = argc, .arguments = argv};
  dynq_status status = DYNQ_OK;
  o->count = 0;
  while (status == DYNQ_OK && bench_next_option(&in)) {
    if (bench_option_is(&in, "--isa")) {
      status = dynq_isa_select(bench_option_value(&in));
    } else if (bench_option_is(&in, "--threads")) {
      status = dynq_set_num_threads(bench_parse_count(in.name, bench_option_value(&in), 1, DYNQ_MAX_THREADS));
    } else if (bench_option_is(&in, "--shape")) {
      read_shape(o, bench_option_value(&in));
    } else {
      bench_option_unknown(&in);
    }
  }
  if (status != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
  o->json = in.json;
  o->rounds = in.rounds != 0 ? in.rounds : in.quick ? 3 : 15;
  o->seconds = in.quick ? 1e-4 : 0.01;
  for (size_t i = 0, given = o->count; given == 0 && i < sizeof default_shapes / sizeof default_shapes[0]; i++) {
    add_shape(o, default_shapes[i][0], default_shapes[i][1], default_shapes[i][2]);
  }
}

int bench_linear(int argc, char **argv) {
  static options o;
  static double peaks[BENCH_MAX_ROUNDS];
  size_t threads;
  const dynq_kernels *kernels;
  read_options(&o, argc, argv);
  if (dynq_kernels_current(&kernels) != DYNQ_OK || dynq_get_num_threads(&threads) != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
  for (size_t i = 0; i < o.count; i++) {
    prepare(&o.shapes[i], o.seconds);
  }
  for (size_t r = 0; r < o.rounds; r++) {
    peaks[r] = bench_peak(kernels, threads, o.seconds);
    for (size_t i = 0; i < o.count; i++) {
      o.shapes[i].seconds[r] = time_once(&o.shapes[i], o.shapes[i].repeats);
    }
  }
  const double peak = 2e-9 / bench_median(peaks, o.rounds);
  char peak_text[16], us[16], rate[16], share[16];
  if (o.json) {
    json_begin("machine");
    json_text("command", "linear");
    json_text("dynq", dynq_version());
    json_count("rounds", o.rounds);
    json_count("lines", o.count);
    json_end();
  } else {
    (void)printf("%s, %zu threads, measured int8 peak %s GOP/s\n\n%18s %12s %10s %8s\n", kernels->name, threads,
                 bench_number_text(peak, 4, peak_text), "M x N x K", "us", "GOP/s", "of peak");
  }
  for (size_t i = 0; i < o.count; i++) {
    shape *s = &o.shapes[i];
    const double seconds = bench_median(s->seconds, o.rounds);
    const double gops = 2e-9 * (double)s->m * (double)s->n * (double)s->k / seconds;
    if (o.json) {
      json_begin("linear");
      json_text("isa", kernels->name);
      json_count("threads", threads);
      json_count("m", s->m);
      json_count("n", s->n);
      json_count("k", s->k);
      json_number("us", seconds * 1e6);
      json_number("gops", gops);
      json_number("peak_gops", peak);
      json_end();
    } else {
      (void)printf("%5zu x%5zu x%5zu %12s %10s %7s%%\n", s->m, s->n, s->k, bench_number_text(seconds * 1e6, 4, us),
                   bench_number_text(gops, 4, rate), bench_number_text(100.0 * gops / peak, 3, share));
    }
    dynq_weight_free(s->weight);
    free(s->x);
    free(s->y);
  }
  return 0;
}
