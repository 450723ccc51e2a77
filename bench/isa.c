/*
 * dynq-bench isa: each kernel of each instruction set over data in each level of memory.
 *
 * For a kernel and a level, every round times in turn, for each instruction set: the kernel, the core's clock, the loop
 * that moves the same bytes, and for a GEMM the multiply instructions alone. So a slow moment of the machine, or a clock
 * that wide vectors have lowered, meets all of them alike; the figures are medians over the rounds.
 */
#include "commands.h"

#include "kernel_calls.h"
#include "levels.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "timing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ISAS = 32, MAX_NAMES = 32 };

typedef struct names {
  size_t count;
  const char *names[MAX_NAMES];
} names;

typedef struct options {
  names isas, kernels, levels;
  const char *caches;
  size_t rounds;
  double seconds; /* a sample takes */
  bool json;
} options;

/* One instruction set in one case. */
typedef struct entry {
  const dynq_isa_kernels *own; /* without those of the instruction sets after it */
  const dynq_kernels *kernels;
  bench_loop *const *loops;
  bool shown;
  bench_work work;
  size_t count;      /* units of a sample of the kernel */
  size_t loop_count; /* and of the loop */
  double seconds[BENCH_MAX_ROUNDS], hz[BENCH_MAX_ROUNDS], loop_seconds[BENCH_MAX_ROUNDS], peak[BENCH_MAX_ROUNDS];
} entry;

/* Results of measuring one kernel. */
typedef struct figures {
  double seconds, peak_seconds, loop_seconds; /* of an element or a multiply-add; NaN: there is none */
  double hz, x_scalar, of_bound;
  bool of_peak; /* the bound is the peak, not the bandwidth */
} figures;

static bool chosen(const names *list, const char *name) {
  for (size_t i = 0; i < list->count; i++) {
    if (strcmp(list->names[i], name) == 0) {
      return true;
    }
  }
  return list->count == 0;
}

/* Kernels of a fixed size do not run through levels of memory. */
static bool chosen_kernel(const options *o, const bench_kernel *kernel) {
  return kernel->mix != BENCH_MIXES && chosen(&o->kernels, kernel->name);
}

/* ---- Timing */

static double time_loop(void *arg, size_t count) {
  const entry *e = arg;
  bench_work *w = &((entry *)arg)->work;
  const size_t bytes = w->in_bytes > w->out_bytes ? w->in_bytes : w->out_bytes;
  const double start = bench_now();
  while (count != 0) {
    const size_t left = w->units - w->next, units = count < left ? count : left;
    const size_t times = units == w->units ? count / units : 1; /* round and round where it is all of the level */
    e->loops[w->call.kernel->mix](units * bytes, times, (const char *)w->call.in + w->next * w->in_bytes,
                                  (char *)w->call.out + w->next * w->out_bytes);
    w->next = (w->next + units) % w->units;
    count -= times * units;
  }
  return bench_now() - start;
}

static void measure(const bench_kernel *kernel, entry **entries, size_t count, const options *o) {
  for (size_t i = 0; i < count; i++) {
    entries[i]->count = bench_calibrate(bench_work_time, &entries[i]->work, o->seconds);
    entries[i]->loop_count = bench_calibrate(time_loop, entries[i], o->seconds);
  }
  for (size_t r = 0; r < o->rounds; r++) {
    for (size_t i = 0; i < count; i++) {
      entry *e = entries[i];
      e->seconds[r] = bench_work_time(&e->work, e->count) / ((double)e->count * e->work.done);
      e->hz[r] = bench_core_hz(); /* at once: a lowered clock stays so for half a millisecond */
      e->loop_seconds[r] = time_loop(e, e->loop_count) / ((double)e->loop_count * e->work.done);
      e->peak[r] = kernel->gemm ? bench_peak(e->kernels, 1, o->seconds) : NAN;
    }
  }
}

/* Ratios are taken in each round, whose two sides were measured within a few milliseconds. */
static figures figures_of(const bench_kernel *kernel, const entry *e, const entry *scalar, size_t rounds) {
  double seconds[BENCH_MAX_ROUNDS], hz[BENCH_MAX_ROUNDS], loop[BENCH_MAX_ROUNDS], peak[BENCH_MAX_ROUNDS];
  double of_scalar[BENCH_MAX_ROUNDS], of_loop[BENCH_MAX_ROUNDS], of_peak[BENCH_MAX_ROUNDS];
  for (size_t r = 0; r < rounds; r++) {
    seconds[r] = e->seconds[r];
    hz[r] = e->hz[r];
    loop[r] = e->loop_seconds[r];
    peak[r] = e->peak[r];
    of_scalar[r] = scalar->seconds[r] / e->seconds[r];
    of_loop[r] = e->loop_seconds[r] / e->seconds[r];
    of_peak[r] = e->peak[r] / e->seconds[r];
  }
  figures f = {.seconds = bench_median(seconds, rounds),
               .peak_seconds = bench_median(peak, rounds),
               .loop_seconds = bench_median(loop, rounds),
               .hz = bench_median(hz, rounds),
               .x_scalar = bench_median(of_scalar, rounds),
               .of_bound = bench_median(of_loop, rounds)};
  const double share_of_peak = bench_median(of_peak, rounds);
  if (kernel->gemm && !(share_of_peak < f.of_bound)) {
    f.of_peak = true;
    f.of_bound = share_of_peak; /* a NaN if the peak is not known: the bandwidth alone bounds no GEMM */
  }
  return f;
}

/* ---- Report */

static void show(const options *o, const bench_kernel *kernel, const char *level, const entry *e, const figures *f) {
  const double bytes = (double)(e->work.in_bytes + e->work.out_bytes) / e->work.done;
  const size_t level_bytes = e->work.units * (e->work.in_bytes + e->work.out_bytes);
  const double peak_per_cycle = kernel->gemm ? 1.0 / (f->peak_seconds * f->hz) : NAN;
  if (o->json) {
    json_begin("isa");
    json_text("kernel", kernel->name);
    json_text("level", level);
    json_text("isa", e->kernels->name);
    json_count("bytes", level_bytes);
    json_text("unit", kernel->gemm ? "MAC" : "element");
    json_number("ns_per_1000", 1e12 * f->seconds);
    json_number("per_cycle", 1.0 / (f->seconds * f->hz));
    json_number("gb_per_s", 1e-9 * bytes / f->seconds);
    json_number("x_scalar", f->x_scalar);
    json_text("bound", f->of_peak ? "peak" : "bandwidth");
    json_number("of_bound", f->of_bound);
    json_number("bandwidth_gb_per_s", 1e-9 * bytes / f->loop_seconds);
    json_number("peak_per_cycle", peak_per_cycle);
    json_number("ghz", 1e-9 * f->hz);
    json_end();
    return;
  }
  char ns[16], cycle[16], rate[16], times[16], share[16];
  (void)printf("%-7s %-12s %9s %9s %9s %9s %8s %s\n", level, e->kernels->name,
               bench_number_text(1e12 * f->seconds, 3, ns), bench_number_text(1.0 / (f->seconds * f->hz), 3, cycle),
               bench_number_text(1e-9 * bytes / f->seconds, 3, rate), bench_number_text(f->x_scalar, 2, times),
               bench_number_text(100.0 * f->of_bound, 3, share),
               isnan(f->of_bound) ? ""
               : f->of_peak       ? "% of peak"
                                  : "% of bandwidth");
  bench_flush();
}

static void show_head(const bench_kernel *kernel) {
  static const char *const bytes[BENCH_MIXES] = {"4 bytes read", "4 bytes read, 1 written", "1 byte read, 4 written",
                                                 "4 bytes read, 4 written"};
  if (kernel->gemm) {
    (void)printf("\n%s: K = 512, %s, bytes of weights\n", kernel->name, kernel->single ? "1 row" : "a full tile");
  } else {
    (void)printf("\n%s: %s, an element\n", kernel->name, bytes[kernel->mix]);
  }
  (void)printf("%-7s %-12s %9s %9s %9s %9s %8s\n", "level", "isa", kernel->gemm ? "ns/kMAC" : "ns/1000",
               kernel->gemm ? "MAC/cycle" : "per cycle", "GB/s", "x scalar", "bound");
}

static void show_machine(const options *o, const bench_levels *levels, size_t lines) {
  char size[16];
  if (o->json) {
    json_begin("machine");
    json_text("command", "isa");
    json_text("dynq", dynq_version());
    json_text("caches_from", levels->source);
    json_count("l1", levels->cache[BENCH_L1]);
    json_count("l2", levels->cache[BENCH_L2]);
    json_count("l3", levels->cache[BENCH_L3]);
    json_count("rounds", o->rounds);
    json_count("lines", lines);
    json_number("ghz", 1e-9 * bench_core_hz());
    json_end();
    return;
  }
  (void)printf("dynq %s, 1 thread, %.2f GHz measured, caches (%s):", dynq_version(), 1e-9 * bench_core_hz(),
               levels->source);
  for (int i = 0; i < BENCH_MEMORY; i++) {
    (void)printf(" %s %s", bench_level_names[i],
                 levels->cache[i] != 0 ? bench_size_text(levels->cache[i], size) : "none");
  }
  (void)printf("\nData in each level:");
  for (int i = 0; i < BENCH_LEVELS; i++) {
    if (levels->bytes[i] != 0) {
      (void)printf(" %s %s", bench_level_names[i], bench_size_text(levels->bytes[i], size));
    }
  }
  (void)printf("\n");
}

/* ---- Options */

static void add_name(names *list, bench_options *in) {
  if (list->count == MAX_NAMES) {
    bench_fail("%s is given more than %d times", in->name, MAX_NAMES);
  }
  list->names[list->count++] = bench_option_value(in);
}

static void check_kernel_name(const char *name) {
  char known[256] = "";
  for (size_t i = 0; i < bench_kernel_count; i++) {
    if (bench_kernel_list[i].mix != BENCH_MIXES) {
      if (strcmp(bench_kernel_list[i].name, name) == 0) {
        return;
      }
      (void)strcat(strcat(known, " "), bench_kernel_list[i].name);
    }
  }
  bench_fail("--kernel is '%s'; known:%s", name, known);
}

static void check_level_name(const char *name) {
  for (int i = 0; i < BENCH_LEVELS; i++) {
    if (strcmp(bench_level_names[i], name) == 0) {
      return;
    }
  }
  bench_fail("--level is '%s'; known: L1 L2 L3 memory", name);
}

static void read_options(options *o, int argc, char **argv) {
  bench_options in = {.command = "isa", .count = argc, .arguments = argv};
  *o = (options){0};
  while (bench_next_option(&in)) {
    if (bench_option_is(&in, "--isa")) {
      add_name(&o->isas, &in);
      if (dynq_isa_supported(o->isas.names[o->isas.count - 1]) != DYNQ_OK) {
        bench_fail("%s", dynq_last_error());
      }
    } else if (bench_option_is(&in, "--kernel")) {
      add_name(&o->kernels, &in);
      check_kernel_name(o->kernels.names[o->kernels.count - 1]);
    } else if (bench_option_is(&in, "--level")) {
      add_name(&o->levels, &in);
      check_level_name(o->levels.names[o->levels.count - 1]);
    } else if (bench_option_is(&in, "--caches")) {
      o->caches = bench_option_value(&in);
    } else {
      bench_option_unknown(&in);
    }
  }
  o->json = in.json;
  o->rounds = in.rounds != 0 ? in.rounds : in.quick ? 3 : 21;
  o->seconds = in.quick ? 5e-5 : 3e-4;
}

/* The instruction sets that run here, scalar last, which the others are compared with. */
static size_t find_isas(entry *entries, const options *o) {
  size_t count = 0;
  for (size_t i = 0; i < dynq_isa_count() && count < MAX_ISAS; i++) {
    const char *name = dynq_isa_name(i);
    const bool asked = chosen(&o->isas, name), scalar = i + 1 == dynq_isa_count();
    if ((asked || scalar) && dynq_isa_select(name) == DYNQ_OK) {
      entry *e = &entries[count++];
      e->own = dynq_isa_list[i].kernels;
      e->loops = bench_loops_of(name);
      e->shown = asked;
      (void)dynq_kernels_current(&e->kernels);
    }
  }
  return count;
}

/* ---- The run */

/* Finds the instruction sets that have this kernel, and not that of another. Returns how many are to be shown. */
static size_t select_entries(const bench_kernel *kernel, entry *all, size_t all_count, entry **selected,
                             size_t *count) {
  size_t shown = 0;
  *count = 0;
  for (size_t i = 0; i < all_count; i++) {
    if (bench_kernel_of(kernel, all[i].own)) {
      selected[(*count)++] = &all[i];
      shown += all[i].shown;
    }
  }
  return shown;
}

static void run_case(const options *o, const bench_kernel *kernel, const char *level, size_t bytes, entry **entries,
                     size_t count, const void *in, void *out) {
  for (size_t i = 0; i < count; i++) {
    bench_work_cut(&entries[i]->work, kernel, entries[i]->kernels, bytes);
    entries[i]->work.call.in = in;
    entries[i]->work.call.out = out;
  }
  measure(kernel, entries, count, o);
  for (size_t i = 0; i < count; i++) {
    if (entries[i]->shown) {
      const figures f = figures_of(kernel, entries[i], entries[count - 1], o->rounds);
      show(o, kernel, level, entries[i], &f);
    }
  }
}

int bench_isa(int argc, char **argv) {
  static entry all[MAX_ISAS];
  entry *entries[MAX_ISAS];
  options o;
  bench_levels levels;
  size_t most = 0, level_count = 0, lines = 0, count;
  read_options(&o, argc, argv);
  bench_levels_find(&levels, o.caches);
  const size_t all_count = find_isas(all, &o);
  for (int l = 0; l < BENCH_LEVELS; l++) {
    levels.bytes[l] = chosen(&o.levels, bench_level_names[l]) ? levels.bytes[l] : 0;
    level_count += levels.bytes[l] != 0;
    most = levels.bytes[l] > most ? levels.bytes[l] : most;
  }
  if (level_count == 0) {
    bench_fail("--level: this machine has no such level, or too little memory to fill it");
  }
  for (size_t k = 0; k < bench_kernel_count; k++) {
    if (chosen_kernel(&o, &bench_kernel_list[k])) {
      lines += level_count * select_entries(&bench_kernel_list[k], all, all_count, entries, &count);
    }
  }
  if (lines == 0) {
    bench_fail("none of these instruction sets has one of these kernels: they use those of the next that has");
  }
  void *in = bench_data(most), *out = bench_data(most);
  show_machine(&o, &levels, lines);
  for (size_t k = 0; k < bench_kernel_count; k++) {
    const bench_kernel *kernel = &bench_kernel_list[k];
    if (chosen_kernel(&o, kernel) && select_entries(kernel, all, all_count, entries, &count) != 0) {
      if (!o.json) {
        show_head(kernel);
      }
      for (int l = 0; l < BENCH_LEVELS; l++) {
        if (levels.bytes[l] != 0) {
          run_case(&o, kernel, bench_level_names[l], levels.bytes[l], entries, count, in, out);
        }
      }
    }
  }
  free(in);
  free(out);
  return 0;
}
