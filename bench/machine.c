/*
 * Measures what the machine can do at most: the int8 multiply instructions on registers alone, and reading memory.
 */
#include "machine.h"

#include "base/threads.h"
#include "timing.h"

#include <math.h>

/* Runs `task` on `threads` threads at once, again and again twice as long (`*amount`), until a run takes about `seconds`;
 * returns what the last one took. */
static double run_for(void (*task)(void *arg, size_t index), void *arg, uint64_t *amount, size_t threads,
                      double seconds) {
  dynq_parallel(NULL, threads, task, arg, threads); /* starts the threads */
  for (;; *amount *= 2) {
    const double start = bench_now();
    dynq_parallel(NULL, threads, task, arg, threads);
    const double took = bench_now() - start;
    if (took >= 0.5 * seconds) {
      return took;
    }
  }
}

typedef struct peak_job {
  const dynq_gemm_kernels *gemm;
  uint64_t rounds, products; /* products: of one thread */
} peak_job;

static void peak_task(void *arg, size_t index) {
  peak_job *j = arg;
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

double bench_peak(const dynq_kernels *kernels, size_t threads, double seconds) {
  peak_job j = {.gemm = kernels->gemm, .rounds = 1};
  if (j.gemm->peak == NULL) {
    return NAN;
  }
  const double took = run_for(peak_task, &j, &j.rounds, threads, seconds);
  return took / ((double)j.products * (double)threads);
}

typedef struct read_job {
  bench_loop *read;
  const char *data;
  size_t each; /* bytes of a thread */
  uint64_t times;
} read_job;

static void read_task(void *arg, size_t index) {
  read_job *j = arg;
  j->read(j->each, (size_t)j->times, j->data + index * j->each, NULL);
}

double bench_read(bench_loop *read, size_t threads, const void *data, size_t bytes, double seconds) {
  read_job j = {.read = read, .data = data, .each = bytes / threads / 1024 * 1024, .times = 1};
  j.each = j.each != 0 ? j.each : 1024;
  const double took = run_for(read_task, &j, &j.times, threads, seconds);
  return took / ((double)j.times * (double)j.each * (double)threads);
}
