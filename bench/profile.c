/*
 * Finds how the time of a call is shared among the kernels, by kernels that read a counter before and after the real
 * ones. That makes calls longer, so only shares are taken from here, no times.
 */
#include "profile.h"

#include "base/threads.h"
#include "report.h"
#include "timing.h"

#include <stdatomic.h>
#include <string.h>

/* Each thread adds to its own line. */
static struct {
  _Alignas(64) uint64_t ticks[BENCH_PARTS];
} lines[DYNQ_MAX_THREADS];
static _Atomic size_t lines_used;
static _Thread_local uint64_t *own;

static const dynq_kernels *real;
static uint64_t overhead; /* ticks between two readings with nothing between */

static void note(int part, uint64_t start) {
  const uint64_t took = bench_ticks() - start;
  if (own == NULL) {
    own = lines[atomic_fetch_add(&lines_used, 1) % DYNQ_MAX_THREADS].ticks;
  }
  own[part] += took > overhead ? took - overhead : 0;
}

static bool range(size_t n, const float *x, float *lo, float *hi) {
  const uint64_t start = bench_ticks();
  const bool finite = real->vector.range(n, x, lo, hi);
  note(BENCH_RANGE, start);
  return finite;
}

static void quantize(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                     uint8_t *q) {
  const uint64_t start = bench_ticks();
  real->vector.quantize(n, x, scale, zero_point, q_min, q_max, q);
  note(BENCH_QUANTIZE, start);
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const uint64_t start = bench_ticks();
  real->gemm->tile(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  note(BENCH_GEMM, start);
}

static void add(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const uint64_t start = bench_ticks();
  real->gemm->add(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  note(BENCH_GEMM, start);
}

static void epilogue(const dynq_epilogue_tile *t) {
  const uint64_t start = bench_ticks();
  real->vector.epilogue(t);
  note(BENCH_EPILOGUE, start);
}

static uint64_t least_between_readings(void) {
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 1000; i++) {
    const uint64_t start = bench_ticks(), took = bench_ticks() - start;
    least = took < least ? took : least;
  }
  return least;
}

void bench_profile(const dynq_kernels *kernels, size_t threads, void (*call)(void *arg), void *arg, size_t times,
                   double shares[BENCH_PARTS]) {
  dynq_gemm_kernels gemm = *kernels->gemm;
  dynq_kernels timed = *kernels;
  real = kernels;
  overhead = least_between_readings();
  gemm.tile = tile;
  gemm.add = gemm.add != NULL ? add : NULL;
  timed.gemm = &gemm;
  timed.vector.range = range;
  timed.vector.quantize = quantize;
  timed.vector.epilogue = epilogue;
  memset(lines, 0, sizeof lines);
  dynq_kernels_override(&timed);
  const uint64_t start = bench_ticks();
  for (size_t i = 0; i < times; i++) {
    call(arg);
  }
  const double all = (double)(bench_ticks() - start) * (double)threads;
  if (dynq_isa_select(kernels->name) != DYNQ_OK) {
    bench_fail("%s", dynq_last_error());
  }
  shares[BENCH_REST] = 1.0;
  for (int part = 0; part < BENCH_REST; part++) {
    uint64_t sum = 0;
    for (size_t i = 0; i < DYNQ_MAX_THREADS; i++) {
      sum += lines[i].ticks[part];
    }
    shares[part] = (double)sum / all;
    shares[BENCH_REST] -= shares[part];
  }
  shares[BENCH_REST] = shares[BENCH_REST] > 0.0 ? shares[BENCH_REST] : 0.0;
}
