/*
 * Finds how the time of a call is shared among the kernels.
 */
#ifndef BENCH_PROFILE_H
#define BENCH_PROFILE_H

#include "base/dispatch.h"

enum { BENCH_RANGE, BENCH_QUANTIZE, BENCH_GEMM, BENCH_EPILOGUE, BENCH_REST, BENCH_PARTS };

/* Runs call(arg) `times` times with the kernels in use, each of them timed, and writes the share of each part in the
 * time of all `threads` threads; the rest is everything else, waiting too. */
void bench_profile(const dynq_kernels *kernels, size_t threads, void (*call)(void *arg), void *arg, size_t times,
                   double shares[BENCH_PARTS]);

#endif
