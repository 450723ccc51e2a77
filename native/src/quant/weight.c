/*
 * Packed weights: making, viewing, reading back. quant/pack.c fills them.
 */
#include "weight.h"

#include "../base/alloc.h"
#include "../base/arguments.h"
#include "../base/dispatch.h"
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "range.h"

#include <string.h>

static size_t round_up(size_t n, size_t multiple) {
  return dynq_size_add(n, multiple - 1) == SIZE_MAX ? SIZE_MAX : (n + multiple - 1) / multiple * multiple;
}

size_t dynq_weight_padded(size_t n) { return round_up(n, DYNQ_PANEL); }

size_t dynq_weight_data_bytes(size_t n, size_t k) {
  return dynq_size_mul(dynq_weight_padded(n), round_up(k, DYNQ_GROUP));
}

/* The arrays in one allocation: the struct, data, then scale, column_sum and zero_point. */
enum { HEAD_BYTES = (sizeof(struct dynq_weight) + 63) / 64 * 64 };

size_t dynq_weight_bytes(size_t n, size_t k, bool zero_points) {
  const size_t arrays = dynq_size_mul(dynq_weight_padded(n), zero_points ? 12 : 8);
  return dynq_size_add(HEAD_BYTES, dynq_size_add(dynq_weight_data_bytes(n, k), arrays));
}

void dynq_weight_set_shape(dynq_weight *w, size_t n, size_t k) {
  w->info.n = n;
  w->info.k = k;
  w->info.n_padded = dynq_weight_padded(n);
  w->info.data_bytes = dynq_weight_data_bytes(n, k);
  w->panels = w->info.n_padded / DYNQ_PANEL;
  w->groups = round_up(k, DYNQ_GROUP) / DYNQ_GROUP;
  w->panel_stride = w->groups * DYNQ_PANEL * DYNQ_GROUP;
}

dynq_weight *dynq_weight_place(void *memory, size_t n, size_t k, bool zero_points) {
  const size_t bytes = dynq_weight_bytes(n, k, zero_points);
  dynq_weight *w = memory;
  memset(w, 0, sizeof *w);
  dynq_weight_set_shape(w, n, k);
  char *arrays = (char *)w + HEAD_BYTES + w->info.data_bytes;
  memset(arrays, 0, bytes - HEAD_BYTES - w->info.data_bytes);
  w->info.data = (const int8_t *)w + HEAD_BYTES;
  w->info.scale = (const float *)(void *)arrays;
  w->info.column_sum = (const int32_t *)(void *)(arrays + 4 * w->info.n_padded);
  w->info.zero_point = zero_points ? w->info.column_sum + w->info.n_padded : NULL;
  return w;
}

dynq_status dynq_weight_new(size_t n, size_t k, bool zero_points, dynq_weight **weight) {
  const size_t bytes = dynq_weight_bytes(n, k, zero_points);
  void *memory = dynq_alloc(bytes);
  if (memory == NULL) {
    return dynq_fail_memory(bytes);
  }
  *weight = dynq_weight_place(memory, n, k, zero_points);
  return DYNQ_OK;
}

dynq_status dynq_weight_view(const dynq_weight_info *info, dynq_weight **weight) {
  if (info == NULL || weight == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", info == NULL ? "info" : "weight");
  }
  const size_t bytes = dynq_weight_data_bytes(info->n, info->k), padded = dynq_weight_padded(info->n);
  if (info->k > DYNQ_MAX_K || bytes == SIZE_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "info: n is %zu and k %zu; expected k of at most %d", info->n,
                     info->k, DYNQ_MAX_K);
  }
  if (info->data_bytes != bytes || info->n_padded != padded) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "info: data_bytes is %zu and n_padded %zu; n %zu and k %zu take %zu and %zu", info->data_bytes,
                     info->n_padded, info->n, info->k, bytes, padded);
  }
  DYNQ_TRY(dynq_check_array("info.data", info->data, bytes, 1));
  if (bytes != 0 && (uintptr_t)info->data % 64 != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "info.data is not aligned to 64 bytes");
  }
  DYNQ_TRY(dynq_check_array("info.column_sum", info->column_sum, padded, sizeof *info->column_sum));
  DYNQ_TRY(dynq_check_array("info.scale", info->scale, padded, sizeof *info->scale));
  DYNQ_TRY(dynq_check_scales("info.scale", info->scale, info->n));
  DYNQ_TRY(dynq_check_zero_points("info.zero_point", info->zero_point, info->n, DYNQ_S8));
  dynq_weight *w = dynq_alloc(sizeof *w);
  if (w == NULL) {
    return dynq_fail_memory(sizeof *w);
  }
  w->info = *info;
  dynq_weight_set_shape(w, info->n, info->k);
  *weight = w;
  return DYNQ_OK;
}

void dynq_weight_describe(const dynq_weight *weight, dynq_weight_info *info) { *info = weight->info; }

void dynq_weight_free(dynq_weight *weight) { dynq_free(weight); }

/* ---- Reading back ---- */

typedef struct unpack_job {
  const dynq_kernels *kernels;
  const dynq_weight *weight;
  size_t parts;
  float *f32; /* one of the two */
  int8_t *s8;
  size_t stride;
} unpack_job;

static void unpack_row(const dynq_weight *w, size_t n, size_t begin, size_t count, int8_t *out) {
  for (size_t k = begin; k < begin + count; k++) {
    out[k - begin] = dynq_weight_group(w, n, k / DYNQ_GROUP)[k % DYNQ_GROUP];
  }
}

static void unpack_part(void *arg, size_t index) {
  enum { CHUNK = 1024 };
  const unpack_job *j = arg;
  const dynq_weight_info *info = &j->weight->info;
  size_t n, end;
  dynq_share(info->n, j->parts, index, &n, &end);
  for (; n < end && !dynq_interrupted(); n++) {
    if (j->s8 != NULL) {
      unpack_row(j->weight, n, 0, info->k, j->s8 + n * j->stride);
      continue;
    }
    for (size_t k = 0; k < info->k; k += CHUNK) {
      int8_t values[CHUNK];
      const size_t count = info->k - k < CHUNK ? info->k - k : CHUNK;
      unpack_row(j->weight, n, k, count, values);
      j->kernels->vector.dequantize(count, (const uint8_t *)values, true, info->scale[n],
                                    info->zero_point != NULL ? info->zero_point[n] : 0, j->f32 + n * j->stride + k);
    }
  }
}

static dynq_status unpack(const dynq_weight *weight, const dynq_threads *threads, float *f32, int8_t *s8,
                          size_t stride) {
  unpack_job job = {.weight = weight, .f32 = f32, .s8 = s8, .stride = stride};
  size_t count;
  if (weight == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "weight is NULL");
  }
  const size_t n = weight->info.n, k = weight->info.k;
  DYNQ_TRY(dynq_check_matrix("w", s8 != NULL ? (const void *)s8 : f32, n, k, stride, s8 != NULL ? 1 : sizeof *f32));
  DYNQ_TRY(dynq_threads_count(threads, &count));
  DYNQ_TRY(dynq_kernels_current(&job.kernels));
  if (n != 0 && k != 0) {
    job.parts = dynq_pass_workers(count, n, weight->info.data_bytes);
    dynq_parallel(threads, job.parts, unpack_part, &job, job.parts);
  }
  return DYNQ_OK;
}

dynq_status dynq_weight_dequantize_f32(const dynq_weight *weight, const dynq_threads *threads, float *w,
                                       size_t w_stride) {
  return unpack(weight, threads, w, NULL, w_stride);
}

dynq_status dynq_weight_unpack_s8(const dynq_weight *weight, const dynq_threads *threads, int8_t *w, size_t w_stride) {
  return unpack(weight, threads, NULL, w, w_stride);
}
