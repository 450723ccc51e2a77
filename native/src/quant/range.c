/*
 * Ranges per row and per tensor, and dynq_minmax_f32.
 */
#include "range.h"

#include "../base/alloc.h"
#include "../base/arguments.h"
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "../base/work.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

bool dynq_row_range(const dynq_kernels *kernels, size_t k, const float *x, float *lo, float *hi) {
  *lo = *hi = 0.0f;
  bool finite = kernels->vector.range(dynq_piece(k, 0), x, lo, hi);
  for (size_t i = DYNQ_PIECE; finite && i < k && !dynq_interrupted(); i += DYNQ_PIECE) {
    finite = kernels->vector.range(dynq_piece(k, i), x + i, lo, hi);
  }
  *lo += 0.0f; /* -0 becomes +0: which of the two a minimum keeps depends on the order */
  *hi += 0.0f;
  return finite;
}

size_t dynq_pass_workers(size_t count, size_t rows, size_t bytes) {
  enum { BYTES_PER_NANOSECOND = 16 };
  return dynq_work_parts(count, rows, bytes / BYTES_PER_NANOSECOND);
}

typedef struct range_job {
  const dynq_kernels *kernels;
  size_t m, k, parts;
  const float *x;
  size_t x_stride;
  float *lo, *hi;                        /* per row, or NULL: one range for all */
  _Atomic uint32_t largest_low, largest; /* bits of -lo and hi: floats without a sign compare as integers */
  _Atomic bool nonfinite;
} range_job;

static void raise_to(_Atomic uint32_t *largest, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t seen = atomic_load(largest);
  while (bits > seen && !atomic_compare_exchange_weak(largest, &seen, bits)) {
  }
}

static float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void range_part(void *arg, size_t index) {
  range_job *j = arg;
  size_t row, end;
  dynq_share(j->m, j->parts, index, &row, &end);
  for (; row < end && !dynq_interrupted(); row++) {
    float lo, hi;
    const bool finite = dynq_row_range(j->kernels, j->k, j->x + row * j->x_stride, &lo, &hi);
    if (!finite) {
      atomic_store(&j->nonfinite, true);
      lo = hi = NAN;
    }
    if (j->lo != NULL) {
      j->lo[row] = lo;
      j->hi[row] = hi;
    } else if (finite) {
      raise_to(&j->largest_low, 0.0f - lo);
      raise_to(&j->largest, hi);
    }
  }
}

bool dynq_tensor_range(const dynq_kernels *kernels, const dynq_threads *threads, size_t workers, size_t m, size_t k,
                       const float *x, size_t x_stride, float *lo, float *hi) {
  range_job job = {.kernels = kernels, .k = k, .parts = workers, .x = x, .x_stride = x_stride};
  job.m = k != 0 ? m : 0; /* any number of empty rows takes no time */
  dynq_parallel(threads, workers, range_part, &job, workers);
  const uint32_t low = atomic_load(&job.largest_low);
  *lo = bits_to_float(low != 0 ? low | 0x80000000u : 0); /* on bits: this is outside of the tasks' environment */
  *hi = bits_to_float(atomic_load(&job.largest));
  return !atomic_load(&job.nonfinite);
}

dynq_status dynq_minmax_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_granularity granularity,
                            const dynq_threads *threads, float *lo, float *hi) {
  const dynq_kernels *kernels;
  size_t count;
  DYNQ_TRY(dynq_check_granularity(granularity));
  DYNQ_TRY(dynq_check_matrix("x", x, m, k, x_stride, sizeof *x));
  DYNQ_TRY(dynq_check_array("lo", lo, dynq_blocks(granularity, m), sizeof *lo));
  DYNQ_TRY(dynq_check_array("hi", hi, dynq_blocks(granularity, m), sizeof *hi));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&kernels));
  static const float nothing = 0.0f;
  if (k == 0) { /* x may be NULL */
    x = &nothing;
    x_stride = 0;
  }
  const size_t workers = dynq_pass_workers(count, m, dynq_size_mul(m, dynq_size_mul(k, sizeof *x)));
  bool finite;
  if (granularity == DYNQ_PER_TENSOR) {
    finite = dynq_tensor_range(kernels, threads, workers, m, k, x, x_stride, lo, hi);
    if (!finite) {
      *lo = *hi = NAN;
    }
  } else {
    range_job job = {.kernels = kernels, .m = m, .k = k, .parts = workers, .x = x, .x_stride = x_stride};
    job.lo = lo;
    job.hi = hi;
    dynq_parallel(threads, workers, range_part, &job, workers);
    finite = !atomic_load(&job.nonfinite);
  }
  return finite ? DYNQ_OK : dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity");
}
