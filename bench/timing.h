/*
 * Time, medians and the clock of the core.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <stddef.h>

enum { BENCH_MAX_ROUNDS = 101 };

/* Seconds since some moment. */
double bench_now(void);
/* Sorts the values. */
double bench_median(double *values, size_t count);
/* Cycles a second of the core that runs this, at this moment: from a chain of additions, each waiting for the last. Takes
 * some 30 µs at 3 GHz. */
double bench_core_hz(void);

#endif
