/*
 * Calls of each kernel of an instruction set: the one list that dynq-bench isa times over levels of memory, and that
 * check_kernels compares with scalar and, with --bench, times.
 *
 * A new slot of kernels.h needs a call and a line of the list here; check_kernels fails if one is missing.
 */
#ifndef BENCH_KERNEL_CALLS_H
#define BENCH_KERNEL_CALLS_H

#include "base/dispatch.h"
#include "loops.h"

struct bench_call;

typedef struct bench_kernel {
  const char *name;
  void (*call)(const struct bench_call *call);
  size_t slot;      /* its offset in dynq_vector_kernels; of a GEMM unused */
  bool gemm;        /* its work is counted in multiply-adds, and enter() and leave() belong around it */
  bool single, add; /* of a GEMM: one row, not a full tile; onto sums that are there */
  bool tile;        /* a unit is several rows */
  bench_mix mix;    /* BENCH_MIXES: of a fixed size, which is not run through levels of memory: */
  size_t in_bytes, out_bytes, products; /* of a call; products: 0 if bytes say more */
  dynq_activation activation;
  dynq_unary function;
} bench_kernel;

typedef struct bench_call {
  const bench_kernel *kernel;
  const dynq_kernels *kernels;
  const void *in;
  void *out;
  size_t length;       /* elements in a row */
  size_t rows, panels; /* of a GEMM */
} bench_call;

/* The memory that a kernel reads and writes, cut into units, which are run through in a circle. */
typedef struct bench_work {
  bench_call call;            /* of unit 0; each unit is a call */
  size_t in_bytes, out_bytes; /* of a unit, which are the bytes that come from the level and go there */
  size_t units, next;         /* in the level; the one that comes next */
  double done;                /* elements or multiply-adds of a unit */
} bench_work;

extern const bench_kernel bench_kernel_list[];
extern const size_t bench_kernel_count;

/* Results of calls that are not written to `out`. */
typedef struct bench_results {
  _Alignas(64) int32_t sums[2048]; /* of a GEMM: as many as the library's buffer has */
  float numbers[2];
} bench_results;
extern bench_results bench_result;

/* Tells whether `isa` has this kernel, not only that of another. */
bool bench_kernel_of(const bench_kernel *kernel, const dynq_isa_kernels *isa);
/* Cuts `bytes` of a level, BENCH_LEAST_BYTES or more, for `kernel`; `kernels` is of the instruction set. What the units
 * read and write is set afterwards, in `call`. */
void bench_work_cut(bench_work *work, const bench_kernel *kernel, const dynq_kernels *kernels, size_t bytes);
/* Does the next `count` units of a bench_work; returns the seconds. A bench_timed. */
double bench_work_time(void *work, size_t count);

#endif
