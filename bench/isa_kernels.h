/*
 * Each kernel of an instruction set as the benchmark runs it: in units, one after the other through a level of memory.
 */
#ifndef BENCH_ISA_KERNELS_H
#define BENCH_ISA_KERNELS_H

#include "dispatch.h"
#include "loops.h"

/* What the kernels read and write, and how it is cut into units. */
typedef struct bench_work {
  const void *in;             /* bench_data */
  void *out;                  /* as large */
  size_t in_bytes, out_bytes; /* of a unit, which are the bytes that come from the level and go there */
  size_t units;               /* in the level; they are run through in a circle */
  size_t length;              /* elements in a row */
  double done;                /* elements or multiply-adds of a unit */
} bench_work;

typedef struct bench_kernel {
  const char *name;
  bool gemm; /* its work is counted in multiply-adds, and enter() and leave() belong around it */
  bool tile; /* a unit is several rows */
  bench_mix mix;
  dynq_activation activation;
  dynq_unary function;
  size_t rows;                              /* of a GEMM; 0: a full tile of the instruction set */
  bool (*has)(const dynq_isa_kernels *isa); /* one of its own */
  /* Does `count` units, the first of them unit `first`. */
  void (*run)(const struct bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
              size_t count);
} bench_kernel;

extern const bench_kernel bench_kernel_list[];
extern const size_t bench_kernel_count;

/* Cuts `bytes` of a level, BENCH_LEAST_BYTES or more, for `kernel`; `kernels` is of the instruction set. */
void bench_work_cut(bench_work *work, const bench_kernel *kernel, const dynq_kernels *kernels, size_t bytes);

#endif
