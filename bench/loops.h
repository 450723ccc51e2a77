/*
 * Loops that move bytes and do next to nothing else: what a level of memory gives to an instruction set.
 */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include <stddef.h>

/* Mixes of bytes that are read and written, like those of the kernels. */
typedef enum bench_mix {
  BENCH_READ,   /* 4 : 0, as range and the weights of a GEMM */
  BENCH_NARROW, /* 4 : 1, as quantize */
  BENCH_WIDEN,  /* 1 : 4, as dequantize */
  BENCH_COPY,   /* 1 : 1, as activations and the epilogue */
  BENCH_MIXES
} bench_mix;

/* `times` times: reads `bytes` bytes of `in` or, where more is written than read, writes as many to `out`. Both are
 * 64-byte aligned and do not overlap; `bytes` is a multiple of 1024. */
typedef void bench_loop(size_t bytes, size_t times, const void *in, void *out);

/* The loops for the vectors of instruction set `name`; NULL if it is not built. */
bench_loop *const *bench_loops_of(const char *name);

#endif
