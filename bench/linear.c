/*
 * dynq-bench linear: dynq_linear_f32 over real layer shapes, beside what the machine can do.
 *
 * For each instruction set and number of threads, every round times each shape once. Beside it stand the int8 peak and
 * reading as many bytes as the weights have, on as many threads: so a slow moment of the machine meets all of them. The
 * figures are medians over the rounds. GOP/s counts 2 M N K operations, quantization and epilogue included.
 */
#include "linear.h"

#include "base/threads.h"
#include "commands.h"
#include "levels.h"
#include "loops.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "timing.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SHAPES = 64, MAX_CHOICES = 16, FEW_ROUNDS = 3 };
static const double most_seconds = 2.0; /* that a shape is timed for, where it is not too slow for FEW_ROUNDS */

typedef struct options {
  size_t shape_count, isa_count, thread_count, rounds;
  linear_shape shapes[MAX_SHAPES];
  const char *isas[MAX_CHOICES];
  size_t threads[MAX_CHOICES];
  double seconds; /* a sample takes, or one call if that is longer */
  bool json;
} options;

/* A layer, and its times with the instruction set and the threads at hand. */
typedef struct layer {
  linear_shape shape;
  float *x, *y;
  dynq_weight *weight;
  double bytes;
  size_t weight_bytes, calls, rounds;
  double seconds[BENCH_MAX_ROUNDS], read_seconds[BENCH_MAX_ROUNDS];
} layer;

static const linear_shape default_shapes[] = {
#define SHAPE(m, n, k) {m, n, k},
#include "shapes.def"
#undef SHAPE
};
enum { DEFAULT_SHAPES = sizeof default_shapes / sizeof default_shapes[0] };
_Static_assert(sizeof default_shapes / sizeof default_shapes[0] <= (size_t)MAX_SHAPES, "the shapes of shapes.json");

/* ---- Layers */

static void run_layer(void *arg) {
  layer *l = arg;
  const linear_shape *s = &l->shape;
  if (dynq_linear_f32(l->weight, s->m, l->x, s->k, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, l->y, s->n) != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
}

static double time_layer(layer *l, size_t calls) {
  const double start = bench_now();
  for (size_t i = 0; i < calls; i++) {
    run_layer(l);
  }
  return (bench_now() - start) / (double)calls;
}

static void make_layer(layer *l, linear_shape shape) {
  dynq_weight_info info;
  float *w = bench_data(shape.n * shape.k * sizeof *w);
  l->shape = shape;
  l->x = bench_data(shape.m * shape.k * sizeof *l->x);
  l->y = bench_data(shape.m * shape.n * sizeof *l->y);
  if (dynq_weight_pack_f32(shape.n, shape.k, w, shape.k, 1, NULL, &l->weight) != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
  free(w);
  dynq_weight_describe(l->weight, &info);
  l->weight_bytes = info.data_bytes;
  l->bytes = (double)info.data_bytes + (double)info.n_padded * (sizeof *info.scale + sizeof *info.column_sum) +
             (double)sizeof(float) * (double)(shape.m * shape.k + shape.m * shape.n);
}

static void free_layer(layer *l) {
  dynq_weight_free(l->weight);
  free(l->x);
  free(l->y);
}

/* ---- One instruction set and number of threads */

static void calibrate(layer *l, const options *o) {
  const double first = time_layer(l, 1), second = time_layer(l, 1), once = first < second ? first : second;
  l->calls = once < o->seconds ? (size_t)(o->seconds / once) + 1 : 1;
  const double fitting = most_seconds / (once * (double)l->calls);
  l->rounds = fitting < (double)o->rounds ? (size_t)fitting : o->rounds;
  l->rounds = l->rounds > FEW_ROUNDS ? l->rounds : o->rounds < FEW_ROUNDS ? o->rounds : FEW_ROUNDS;
}

static linear_result result_of(layer *l, const double *peaks) {
  double of_peak[BENCH_MAX_ROUNDS], of_read[BENCH_MAX_ROUNDS], peak[BENCH_MAX_ROUNDS];
  const double macs = (double)l->shape.m * (double)l->shape.n * (double)l->shape.k;
  for (size_t r = 0; r < l->rounds; r++) {
    peak[r] = peaks[r];
    of_peak[r] = macs * peaks[r] / l->seconds[r];
    of_read[r] = l->bytes * l->read_seconds[r] / l->seconds[r];
  }
  linear_result result = {.bytes = l->bytes,
                          .seconds = bench_median(l->seconds, l->rounds),
                          .peak_seconds = bench_median(peak, l->rounds),
                          .read_seconds = bench_median(l->read_seconds, l->rounds),
                          .of_limit = bench_median(of_read, l->rounds)};
  const double share = bench_median(of_peak, l->rounds);
  if (!(share < result.of_limit)) { /* or it is a NaN, where the peak is not known */
    result.of_peak = true;
    result.of_limit = share;
  }
  return result;
}

static void measure(layer *layers, size_t count, const dynq_kernels *kernels, size_t threads, const options *o,
                    size_t *done) {
  static double peaks[BENCH_MAX_ROUNDS];
  bench_loop *read = bench_loops_of(kernels->name)[BENCH_READ];
  size_t most = 0;
  for (size_t i = 0; i < count; i++) {
    calibrate(&layers[i], o);
    most = layers[i].weight_bytes > most ? layers[i].weight_bytes : most;
  }
  void *data = bench_data(most + 1024 * threads); /* each thread reads 1024 bytes at least */
  for (size_t r = 0; r < o->rounds; r++) {
    peaks[r] = bench_peak(kernels, threads, o->seconds);
    for (size_t i = 0; i < count; i++) {
      layer *l = &layers[i];
      if (r < l->rounds) {
        run_layer(l); /* other layers' weights came between */
        l->seconds[r] = time_layer(l, l->calls);
        l->read_seconds[r] = bench_read(read, threads, data, l->weight_bytes, 0.25 * o->seconds);
      }
    }
    if (o->json) {
      json_begin("progress");
      json_count("done", ++*done);
      json_end();
    }
  }
  free(data);
  if (!o->json) {
    linear_show_head(kernels->name, threads, bench_median(peaks, o->rounds));
  }
  for (size_t i = 0; i < count; i++) {
    linear_result result = result_of(&layers[i], peaks);
    bench_profile(kernels, threads, run_layer, &layers[i], layers[i].calls, result.shares);
    if (o->json) {
      linear_json(kernels->name, threads, &layers[i].shape, &result);
    } else {
      linear_show(&layers[i].shape, &result);
    }
  }
}

/* ---- The command */

/* Adds a shape, unless it is there already. */
static void add_shape(options *o, linear_shape shape) {
  for (size_t i = 0; i < o->shape_count; i++) {
    const linear_shape *s = &o->shapes[i];
    if (s->m == shape.m && s->n == shape.n && s->k == shape.k) {
      return;
    }
  }
  if (o->shape_count == MAX_SHAPES) {
    bench_fail("--shape is given more than %d times", MAX_SHAPES);
  }
  o->shapes[o->shape_count++] = shape;
}

/* Digits and `after`; moves `text` behind them. Any two such sizes have a product in bytes. */
static bool read_size(const char **text, char after, size_t *size) {
  char *end;
  const unsigned long long value = strtoull(*text, &end, 10); /* which alone would take blanks and a sign, too */
  if (**text < '0' || **text > '9' || *end != after || value == 0 || value > 1u << 30) {
    return false;
  }
  *size = (size_t)value;
  *text = end + 1;
  return true;
}

static void read_shape(options *o, const char *value) {
  linear_shape s;
  const char *text = value;
  if (!read_size(&text, 'x', &s.m) || !read_size(&text, 'x', &s.n) || !read_size(&text, '\0', &s.k)) {
    bench_fail("--shape is '%s'; expected MxNxK, such as 128x768x768", value);
  }
  add_shape(o, s);
}

static void count_choice(size_t count, const bench_options *in) {
  if (count == MAX_CHOICES) {
    bench_fail("%s is given more than %d times", in->name, MAX_CHOICES);
  }
}

static void add_isa(options *o, bench_options *in) {
  const char *name = bench_option_value(in);
  if (dynq_isa_supported(name) != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
  for (size_t i = 0; i < o->isa_count; i++) {
    if (strcmp(o->isas[i], name) == 0) {
      return;
    }
  }
  count_choice(o->isa_count, in);
  o->isas[o->isa_count++] = name;
}

static void add_threads(options *o, bench_options *in) {
  const size_t threads = bench_parse_count(in->name, bench_option_value(in), 1, DYNQ_MAX_THREADS);
  for (size_t i = 0; i < o->thread_count; i++) {
    if (o->threads[i] == threads) {
      return;
    }
  }
  count_choice(o->thread_count, in);
  o->threads[o->thread_count++] = threads;
}

static void read_options(options *o, int argc, char **argv) {
  bench_options in = {.command = "linear", .count = argc, .arguments = argv};
  while (bench_next_option(&in)) {
    if (bench_option_is(&in, "--isa")) {
      add_isa(o, &in);
    } else if (bench_option_is(&in, "--threads")) {
      add_threads(o, &in);
    } else if (bench_option_is(&in, "--shape")) {
      read_shape(o, bench_option_value(&in));
    } else {
      bench_option_unknown(&in);
    }
  }
  o->json = in.json;
  o->rounds = in.rounds != 0 ? in.rounds : in.quick ? FEW_ROUNDS : 25;
  o->seconds = in.quick ? 1e-4 : 2e-3;
}

static void fill_options(options *o) {
  for (size_t i = 0, given = o->shape_count; given == 0 && i < DEFAULT_SHAPES; i++) {
    add_shape(o, default_shapes[i]);
  }
  if (o->isa_count == 0) {
    o->isa_count = 1;
    if (dynq_isa_selected(&o->isas[0]) != DYNQ_OK) {
      bench_fail("%s", dynq_last_error());
    }
  }
  if (o->thread_count == 0) {
    o->thread_count = 1;
    if (dynq_get_num_threads(&o->threads[0]) != DYNQ_OK) {
      bench_fail("%s", dynq_last_error());
    }
  }
}

int bench_linear(int argc, char **argv) {
  static options o;
  static layer layers[MAX_SHAPES];
  size_t done = 0;
  read_options(&o, argc, argv);
  fill_options(&o);
  if (o.json) {
    json_begin("machine");
    json_text("command", "linear");
    json_text("dynq", dynq_version());
    json_count("rounds", o.rounds);
    json_count("lines", o.shape_count * o.isa_count * o.thread_count);
    json_count("steps", o.rounds * o.isa_count * o.thread_count);
    json_end();
  }
  for (size_t i = 0; i < o.shape_count; i++) {
    make_layer(&layers[i], o.shapes[i]);
  }
  for (size_t i = 0; i < o.isa_count; i++) {
    for (size_t t = 0; t < o.thread_count; t++) {
      const dynq_kernels *kernels;
      if (dynq_isa_select(o.isas[i]) != DYNQ_OK || dynq_set_num_threads(o.threads[t]) != DYNQ_OK ||
          dynq_kernels_current(&kernels) != DYNQ_OK) {
        bench_fail("%s", dynq_last_error());
      }
      measure(layers, o.shape_count, kernels, o.threads[t], &o, &done);
    }
  }
  for (size_t i = 0; i < o.shape_count; i++) {
    free_layer(&layers[i]);
  }
  return 0;
}
