/*
 * What the machine can do at most, measured: the int8 multiply instructions on registers alone.
 */
#include "machine.h"

#include "threads.h"
#include "timing.h"

#include <math.h>

typedef struct job {
  const dynq_gemm_kernels *gemm;
  uint64_t rounds, products; /* products: of one thread */
} job;

static void task(void *arg, size_t index) {
  job *j = arg;
  if (j->gemm->enter != NULL) {
    j->gemm->enter();
  }
  const uint64_t products = j->gemm->peak(j->rounds);
  if (index == 0) {
    j->products = products;
  }
  if (j->gemm->leave != NULL) {
    j->gemm->leave();
  }
}

static double run(job *j, size_t threads) {
  const double start = bench_now();
  dynq_parallel(NULL, threads, task, j, threads);
  return bench_now() - start;
}

double bench_peak(const dynq_kernels *kernels, size_t threads, double seconds) {
  job j = {.gemm = kernels->gemm, .rounds = 1};
  if (j.gemm->peak == NULL) {
    return NAN;
  }
  (void)run(&j, threads); /* starts the threads */
  double took = 0.0;
  for (; took < 0.5 * seconds; j.rounds *= 2) {
    took = run(&j, threads);
  }
  took = run(&j, threads);
  return took / ((double)j.products * (double)threads);
}
