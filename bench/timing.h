/*
 * Time, medians and the clock of the core.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <stddef.h>
#include <stdint.h>

enum { BENCH_MAX_ROUNDS = 101 };

/* Seconds since some moment. */
double bench_now(void);
/* A counter of constant rate that is read in a few nanoseconds; only ratios of it mean something. */
static inline uint64_t bench_ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return (uint64_t)(1e9 * bench_now());
#endif
}
/* Does something `count` times; returns the seconds. */
typedef double bench_timed(void *arg, size_t count);
/* A count that takes about `seconds`. */
size_t bench_calibrate(bench_timed *timed, void *arg, double seconds);
/* Sorts the values. */
double bench_median(double *values, size_t count);
/* Cycles a second of the core that runs this, at this moment: from a chain of additions, each waiting for the last. Takes
 * some 30 µs at 3 GHz. */
double bench_core_hz(void);

#endif
