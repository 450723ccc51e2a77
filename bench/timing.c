/*
 * Time, medians and the clock of the core.
 */
#include "timing.h"

#include <stdlib.h>
#include <time.h>

double bench_now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The better of two: one that was interrupted would leave samples too short to measure. */
static double best_of_two(bench_timed *timed, void *arg, size_t count) {
  const double first = timed(arg, count), second = timed(arg, count);
  return first < second ? first : second;
}

size_t bench_calibrate(bench_timed *timed, void *arg, double seconds) {
  size_t count = 1;
  double took = best_of_two(timed, arg, count);
  while (took < 0.5 * seconds) {
    count *= 2;
    took = best_of_two(timed, arg, count);
  }
  const double fitting = (double)count * seconds / took;
  return fitting > 1.0 ? (size_t)fitting : 1;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double bench_median(double *values, size_t count) {
  qsort(values, count, sizeof *values, ascending);
  return count % 2 != 0 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

enum { CHAIN_ROUNDS = 512, CHAIN_LENGTH = 64 };

/* An addition of two registers takes one cycle on every core that runs dynq's kernels (uops.info; Arm's Software
 * Optimization Guides). Both are registers, since Golden Cove adds small constants in the renamer, for nothing. The
 * empty assembly keeps the compiler from adding several at once. */
static uint64_t chain(uint64_t sum, uint64_t step) {
#define ADD                                                                                                            \
  sum += step;                                                                                                         \
  __asm__ volatile("" : "+r"(sum), "+r"(step));
#define ADD_8 ADD ADD ADD ADD ADD ADD ADD ADD
  for (int i = 0; i < CHAIN_ROUNDS; i++) {
    ADD_8 ADD_8 ADD_8 ADD_8 ADD_8 ADD_8 ADD_8 ADD_8
  }
#undef ADD_8
#undef ADD
  return sum;
}

double bench_core_hz(void) {
  static volatile uint64_t sink;
  double best = 0.0;
  for (int i = 0; i < 3; i++) { /* whatever comes between makes a chain longer, nothing makes it shorter */
    const double start = bench_now();
    sink = chain(sink, 1);
    const double took = bench_now() - start;
    best = i == 0 || took < best ? took : best;
  }
  return (double)(CHAIN_ROUNDS * CHAIN_LENGTH) / best;
}
