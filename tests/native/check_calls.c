/*
 * The calls of bench/kernel_calls.h: each gives the bits that scalar gives, and --bench tells how long it takes.
 */
#include "check_kernels.h"
#include "kernel_calls.h"
#include "timing.h"

#include <stdio.h>
#include <string.h>

enum { BYTES = 16384 /* in the nearest cache of every CPU, and two panels */ };

static bool left_out(const bench_kernel *kernel, bool tile) { return tile && !kernel->gemm; }

/* Makes the inputs of a call at a multiple of `align`; returns the bytes of its outputs. */
static size_t make(bench_work *work, const bench_kernel *kernel, const dynq_kernels *kernels, size_t align) {
  bench_work_cut(work, kernel, kernels, BYTES);
  const size_t floats = work->units * work->in_bytes / sizeof(float), bytes = work->units * work->out_bytes;
  float *in = guarded(floats * sizeof *in, align);
  for (size_t i = 0; i < floats; i++) {
    in[i] = random_unit() * 4.0f;
  }
  work->call.in = in;
  work->call.out = guarded(bytes, align);
  return bytes;
}

static bench_results results_of(bench_work *work, const dynq_kernels *kernels, size_t bytes) {
  work->call.kernels = kernels;
  memset(work->call.out, 0, bytes);
  memset(&bench_result, 0, sizeof bench_result);
  (void)bench_work_time(work, work->units);
  return bench_result;
}

static void check_slots(void) {
  for (size_t slot = 0; slot < sizeof(dynq_vector_kernels); slot += sizeof(void (*)(void))) {
    bool found = false;
    for (size_t i = 0; i < bench_kernel_count; i++) {
      found |= !bench_kernel_list[i].gemm && bench_kernel_list[i].slot == slot;
    }
    check_case("slot %zu of dynq_vector_kernels", slot / sizeof(void (*)(void)));
    CHECK(found);
  }
}

void check_calls(const dynq_kernels *kernels, const dynq_kernels *scalar, bool tile) {
  check_begin(kernels->name, "calls that --bench times");
  check_slots();
  for (size_t i = 0; i < bench_kernel_count; i++) {
    if (left_out(&bench_kernel_list[i], tile)) {
      continue;
    }
    bench_work work;
    const size_t bytes = make(&work, &bench_kernel_list[i], kernels, 64);
    void *got = work.call.out, *expected = guarded(bytes, 64);
    check_case("%s", bench_kernel_list[i].name);
    CHECK(work.call.rows * work.call.panels * DYNQ_PANEL <= sizeof bench_result.sums / sizeof bench_result.sums[0]);
    work.call.out = expected;
    const bench_results want = results_of(&work, scalar, bytes);
    work.call.out = got;
    const bench_results came = results_of(&work, kernels, bytes);
    check_same("out", CHECK_BYTES, expected, got, bytes);
    check_same("sums", CHECK_S32, want.sums, came.sums, sizeof want.sums / sizeof want.sums[0]);
    check_same("numbers", CHECK_F32, want.numbers, came.numbers, sizeof want.numbers / sizeof want.numbers[0]);
    guards_release();
  }
  check_end();
}

void time_calls(const dynq_kernels *kernels, const dynq_kernels *scalar, bool tile, bool quick) {
  const size_t rounds = quick ? 3 : 21;
  const double seconds = quick ? 2e-5 : 3e-4; /* of a sample */
  for (size_t i = 0; i < bench_kernel_count; i++) {
    const bench_kernel *kernel = &bench_kernel_list[i];
    if (left_out(kernel, tile) || !bench_kernel_of(kernel, dynq_isa_list[dynq_isa_find(kernels->name)].kernels)) {
      continue; /* or it is the next instruction set's, and timed there */
    }
    bench_work work;
    double times[BENCH_MAX_ROUNDS], ratios[BENCH_MAX_ROUNDS];
    const size_t bytes = make(&work, kernel, kernels, 4096); /* every run alike */
    memset(work.call.out, 0, bytes);
    bench_work other = work;
    other.call.kernels = scalar;
    const size_t count = bench_calibrate(bench_work_time, &work, seconds);
    const size_t others = bench_calibrate(bench_work_time, &other, seconds);
    for (size_t r = 0; r < rounds; r++) { /* in turn: a slow moment of the machine meets both */
      times[r] = bench_work_time(&work, count) / (double)count;
      ratios[r] = bench_work_time(&other, others) / (double)others / times[r];
    }
    const bool products = kernel->gemm || kernel->products != 0;
    const double ns = 1e9 * bench_median(times, rounds);
    printf("%-12s %-18s %10.1f ns %9.1f %-11s %8.2f x scalar\n", kernels->name, kernel->name, ns,
           (products ? work.done : (double)(work.in_bytes + work.out_bytes)) / ns,
           products ? "products/ns" : "bytes/ns", bench_median(ratios, rounds));
    guards_release();
  }
}
