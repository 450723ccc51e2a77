/*
 * Measures what the machine can do at most: the int8 multiply instructions on registers alone, and reading memory.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "base/dispatch.h"
#include "loops.h"

/* Seconds that one multiply-add of `kernels` takes on `threads` threads at once, measured over about `seconds`; NaN
 * if the instruction set has no such instruction (portable C). */
double bench_peak(const dynq_kernels *kernels, size_t threads, double seconds);

/* Seconds that one byte takes where `threads` threads read `bytes` bytes of `data` again and again, each its own share:
 * so many bytes lie in some level of memory, whose bandwidth this is. `read` is a loop of loops.h. */
double bench_read(bench_loop *read, size_t threads, const void *data, size_t bytes, double seconds);

#endif
