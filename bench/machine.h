/*
 * What the machine can do at most, measured: the int8 multiply instructions on registers alone.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "dispatch.h"

/* Seconds that one multiply-add of `kernels` takes on `threads` threads at once, measured over about `seconds`; NaN
 * where the instruction set has no such instruction (portable C). */
double bench_peak(const dynq_kernels *kernels, size_t threads, double seconds);

#endif
