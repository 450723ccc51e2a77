/*
 * Packing weights into the panel layout, in parallel by panels.
 */
#include "pack.h"

#include "../base/alloc.h"
#include "../base/arguments.h"
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "qparams.h"
#include "range.h"

#include <stdatomic.h>
#include <string.h>

enum { PIECE = 2048 }; /* k at a time, a multiple of 4: what is gathered and quantized before it is stored */

typedef struct pack_job {
  dynq_weight *weight;
  const dynq_kernels *kernels;
  const float *f32; /* one of the two */
  const uint8_t *bytes;
  size_t row_stride, column_stride;
  uint8_t flip; /* turns a byte of the input into int8 */
  size_t parts;
  _Atomic size_t bad_channel; /* not finite; SIZE_MAX for none */
} pack_job;

static float *scale_of(const pack_job *j) { return (float *)(uintptr_t)j->weight->info.scale; }
static int32_t *column_sum_of(const pack_job *j) { return (int32_t *)(uintptr_t)j->weight->info.column_sum; }

/* `count` values of channel n from k on, in one row: the input itself or gathered in `buffer`. */
static const float *gather_f32(const pack_job *j, size_t n, size_t k, size_t count, float *buffer) {
  const float *from = j->f32 + n * j->row_stride + k * j->column_stride;
  if (j->column_stride == 1) {
    return from;
  }
  for (size_t i = 0; i < count; i++) {
    buffer[i] = from[i * j->column_stride];
  }
  return buffer;
}

/* Stores int8 values of channel n from k on (a multiple of 4), zero padded to a whole group; returns their sum. */
static int32_t store(const pack_job *j, size_t n, size_t k, size_t count, int8_t *values) {
  int8_t *to = (int8_t *)(uintptr_t)dynq_weight_group(j->weight, n, k / DYNQ_GROUP);
  int32_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    sum += values[i];
  }
  memset(values + count, 0, (DYNQ_GROUP - count % DYNQ_GROUP) % DYNQ_GROUP);
  for (size_t i = 0; i < count; i += DYNQ_GROUP) {
    memcpy(to + i * DYNQ_PANEL, values + i, DYNQ_GROUP);
  }
  return sum;
}

/* Range of a channel; false if it is not finite. */
static bool channel_range(const pack_job *j, size_t n, float *buffer, float *lo, float *hi) {
  const size_t k_end = j->weight->info.k;
  *lo = *hi = 0.0f;
  for (size_t k = 0; k < k_end && !dynq_interrupted(); k += PIECE) {
    const size_t count = k_end - k < PIECE ? k_end - k : PIECE;
    if (!j->kernels->vector.range(count, gather_f32(j, n, k, count, buffer), lo, hi)) {
      return false;
    }
  }
  return true;
}

static void pack_channel_f32(pack_job *j, size_t n) {
  float buffer[PIECE];
  int8_t values[PIECE + DYNQ_GROUP];
  const size_t k_end = j->weight->info.k;
  float lo, hi;
  int32_t zero_point;
  const bool finite = channel_range(j, n, buffer, &lo, &hi);
  if (finite) {
    dynq_qparams(lo, hi, DYNQ_SYMMETRIC, DYNQ_S8, &scale_of(j)[n], &zero_point);
  } else {
    const uint32_t nan = 0x7fc00000;
    memcpy(&scale_of(j)[n], &nan, sizeof nan);
    atomic_store(&j->bad_channel, n);
  }
  int32_t sum = 0;
  for (size_t k = 0; k < k_end && !dynq_interrupted(); k += PIECE) {
    const size_t count = k_end - k < PIECE ? k_end - k : PIECE;
    if (finite) {
      j->kernels->vector.quantize(count, gather_f32(j, n, k, count, buffer), scale_of(j)[n], 0, -127, 127,
                                  (uint8_t *)values);
    } else {
      memset(values, 0, count);
    }
    sum += store(j, n, k, count, values);
  }
  column_sum_of(j)[n] = sum;
}

static void pack_channel_bytes(pack_job *j, size_t n) {
  int8_t values[PIECE + DYNQ_GROUP];
  const dynq_weight_info *info = &j->weight->info;
  int32_t sum = 0;
  for (size_t k = 0; k < info->k && !dynq_interrupted(); k += PIECE) {
    const size_t count = info->k - k < PIECE ? info->k - k : PIECE;
    const uint8_t *from = j->bytes + n * j->row_stride + k * j->column_stride;
    for (size_t i = 0; i < count; i++) {
      const uint8_t byte = from[i * j->column_stride] ^ j->flip;
      memcpy(&values[i], &byte, 1);
    }
    sum += store(j, n, k, count, values);
  }
  column_sum_of(j)[n] = sum - (info->zero_point != NULL ? info->zero_point[n] * (int32_t)info->k : 0);
}

static void pack_part(void *arg, size_t index) {
  pack_job *j = arg;
  dynq_weight *w = j->weight;
  size_t panel, end;
  dynq_share(w->panels, j->parts, index, &panel, &end);
  for (; panel < end && !dynq_interrupted(); panel++) {
    const size_t first = panel * DYNQ_PANEL, last = first + DYNQ_PANEL;
    if (last > w->info.n) {
      memset((void *)(uintptr_t)(w->info.data + panel * w->panel_stride), 0, w->panel_stride);
    }
    for (size_t n = first; n < last && n < w->info.n; n++) {
      if (j->f32 != NULL) {
        pack_channel_f32(j, n);
      } else {
        pack_channel_bytes(j, n);
      }
    }
  }
}

static void pack_run(pack_job *job, const dynq_threads *threads, size_t count) {
  if (job->weight->panels != 0) {
    job->parts = dynq_pass_workers(count, job->weight->panels, job->weight->info.data_bytes);
    dynq_parallel(threads, job->parts, pack_part, job, job->parts);
  }
}

dynq_status dynq_pack_f32(dynq_weight *weight, const dynq_kernels *kernels, const float *w, size_t row_stride,
                          size_t column_stride, const dynq_threads *threads, size_t threads_count) {
  static const float nothing = 0.0f; /* K = 0: each channel's range is that of no value */
  pack_job job = {.weight = weight,
                  .kernels = kernels,
                  .f32 = w != NULL ? w : &nothing,
                  .row_stride = w != NULL ? row_stride : 0,
                  .column_stride = column_stride};
  atomic_store(&job.bad_channel, SIZE_MAX);
  pack_run(&job, threads, threads_count);
  const size_t bad = atomic_load(&job.bad_channel);
  return bad == SIZE_MAX ? DYNQ_OK : dynq_fail(DYNQ_NONFINITE, "w: channel %zu holds a NaN or an infinity", bad);
}

/* Both strides lead to elements of their own, inside the address space. */
static dynq_status check_source(const void *w, size_t n, size_t k, size_t row_stride, size_t column_stride, size_t size,
                                dynq_weight **weight) {
  if (weight == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "weight is NULL");
  }
  if (k > DYNQ_MAX_K) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "k is %zu; expected at most %d", k, DYNQ_MAX_K);
  }
  if (n == 0 || k == 0) {
    return dynq_weight_bytes(n, k, true) == SIZE_MAX
               ? dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "n is %zu: its arrays exceed the address space", n)
               : DYNQ_OK;
  }
  if ((k > 1 && column_stride == 0) || (n > 1 && row_stride == 0)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is 0",
                     k > 1 && column_stride == 0 ? "column_stride" : "row_stride");
  }
  const size_t last = dynq_size_add(dynq_size_mul(n - 1, row_stride), dynq_size_mul(k - 1, column_stride));
  if (dynq_size_mul(dynq_size_add(last, 1), size) > PTRDIFF_MAX || dynq_weight_bytes(n, k, true) > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "w: n %zu, k %zu and the strides exceed the address space", n, k);
  }
  return dynq_check_array("w", w, 1, size);
}

dynq_status dynq_weight_pack_f32(size_t n, size_t k, const float *w, size_t row_stride, size_t column_stride,
                                 const dynq_threads *threads, dynq_weight **weight) {
  const dynq_kernels *kernels;
  dynq_weight *packed;
  size_t count;
  DYNQ_TRY(check_source(w, n, k, row_stride, column_stride, sizeof *w, weight));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&kernels));
  DYNQ_TRY(dynq_weight_new(n, k, false, &packed));
  const dynq_status status =
      dynq_pack_f32(packed, kernels, k != 0 ? w : NULL, row_stride, column_stride, threads, count);
  if (status != DYNQ_OK) {
    dynq_weight_free(packed);
    return status;
  }
  *weight = packed;
  return DYNQ_OK;
}

dynq_status dynq_weight_pack_s8(size_t n, size_t k, const void *w, dynq_type type, size_t row_stride,
                                size_t column_stride, const float *scale, const int32_t *zero_point,
                                const dynq_threads *threads, dynq_weight **weight) {
  const int32_t offset = type == DYNQ_U8 ? 128 : 0;
  dynq_weight *packed;
  size_t count;
  DYNQ_TRY(dynq_check_type(type));
  DYNQ_TRY(check_source(w, n, k, row_stride, column_stride, 1, weight));
  DYNQ_TRY(dynq_check_scales("scale", scale, n));
  DYNQ_TRY(dynq_check_zero_points("zero_point", zero_point, n, type));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  bool zero_points = false;
  for (size_t i = 0; i < n && zero_point != NULL; i++) {
    zero_points |= zero_point[i] != offset;
  }
  DYNQ_TRY(dynq_weight_new(n, k, zero_points, &packed));
  pack_job job = {.weight = packed,
                  .bytes = w,
                  .row_stride = row_stride,
                  .column_stride = column_stride,
                  .flip = type == DYNQ_U8 ? 0x80 : 0};
  for (size_t i = 0; i < n; i++) {
    scale_of(&job)[i] = scale[i];
    if (zero_points) {
      ((int32_t *)(uintptr_t)packed->info.zero_point)[i] = zero_point[i] - offset;
    }
  }
  pack_run(&job, threads, count);
  *weight = packed;
  return DYNQ_OK;
}
