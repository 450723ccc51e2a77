/*
 * Quantizing rows for the GEMM kernels.
 */
#include "lhs.h"

#include "../base/alloc.h"
#include "../base/threads.h"
#include "../quant/qparams.h"
#include "../quant/range.h"

#include <math.h>
#include <string.h>

/* Whole cache lines; one more where rows would lie a multiple of 4 KB apart and share their cache sets. */
static size_t row_stride(size_t k) {
  const size_t stride = (k + 63) / 64 * 64;
  return stride % 4096 == 0 ? stride + 64 : stride;
}

static size_t array_bytes(size_t rows) { return dynq_size_add(dynq_size_mul(rows, 4), 63) / 64 * 64; }

size_t dynq_lhs_bytes(size_t rows, size_t k) {
  return dynq_size_add(dynq_size_mul(rows, row_stride(k)), dynq_size_mul(3, array_bytes(rows)));
}

void dynq_lhs_place(dynq_lhs *lhs, void *memory, size_t rows, size_t k, bool sums) {
  char *p = memory;
  lhs->scale = (float *)(void *)p;
  lhs->zero_point = (int32_t *)(void *)(p + array_bytes(rows));
  lhs->sum = sums ? (int32_t *)(void *)(p + 2 * array_bytes(rows)) : NULL;
  lhs->data = (uint8_t *)(p + 3 * array_bytes(rows));
  lhs->stride = row_stride(k);
  lhs->low = NULL;
  lhs->blocks = 1;
}

static int32_t row_sum(size_t k, const uint8_t *data, bool is_signed) {
  int32_t sum = 0;
  for (size_t i = 0; i < k; i++) {
    sum += is_signed ? (int8_t)data[i] : data[i];
  }
  return sum;
}

/* Integers as they come, flipped where the ISA's sign is the other. */
static void copy_row(const dynq_lhs_source *s, dynq_type type, size_t row, size_t k, uint8_t *to, int32_t *zero_point) {
  const uint8_t *from = s->q + row * s->q_stride;
  *zero_point = s->q_zero_point != NULL ? s->q_zero_point[s->per_row ? row : 0] : 0;
  if (type == s->type) {
    memcpy(to, from, k);
    return;
  }
  for (size_t i = 0; i < k; i++) {
    to[i] = from[i] ^ 0x80;
  }
  *zero_point += type == DYNQ_U8 ? 128 : -128;
}

static bool quantize_row(const dynq_kernels *kernels, const dynq_lhs_source *s, dynq_type type, size_t row, size_t k,
                         uint8_t *to, float *scale, int32_t *zero_point) {
  const float *x = s->x + row * s->x_stride;
  int32_t low, high;
  *scale = s->scale;
  *zero_point = s->zero_point;
  if (s->per_row) {
    float lo, hi;
    if (dynq_row_range(kernels, k, x, &lo, &hi)) {
      dynq_qparams(lo, hi, s->scheme, type, scale, zero_point);
    } else {
      *scale = NAN;
    }
  }
  dynq_integer_range(s->scheme, type, &low, &high);
  if (s->fixed && !kernels->vector.quantize_checked(k, x, *scale, *zero_point, low, high, to)) {
    *scale = NAN;
  }
  if (isnan(*scale)) {
    memset(to, 0, k);
    *zero_point = 0;
    return false;
  }
  if (!s->fixed) {
    kernels->vector.quantize(k, x, *scale, *zero_point, low, high, to);
  }
  return true;
}

typedef struct tensor_job {
  dynq_lhs_source *source;
  dynq_type type;
  float lo, hi;
} tensor_job;

static void choose_for_tensor(void *arg, size_t index) {
  tensor_job *j = arg;
  dynq_lhs_source *s = j->source;
  (void)index;
  if (s->bits16) {
    dynq_qparams_16(j->lo, j->hi, s->scheme, &s->scale, &s->zero_point);
  } else {
    dynq_qparams(j->lo, j->hi, s->scheme, j->type, &s->scale, &s->zero_point);
  }
}

void dynq_lhs_use_tensor_range(dynq_lhs_source *source, const dynq_kernels *kernels, const dynq_threads *threads,
                               size_t count, size_t m, size_t k) {
  tensor_job job = {.source = source, .type = dynq_lhs_type(kernels)};
  const size_t workers = dynq_pass_workers(count, m, dynq_size_mul(m, dynq_size_mul(k, sizeof *source->x)));
  source->per_row = false;
  if (dynq_tensor_range(kernels, threads, workers, m, k, source->x, source->x_stride, &job.lo, &job.hi)) {
    dynq_parallel(NULL, 1, choose_for_tensor, &job, 1);
  } else {
    source->scale = NAN;
  }
}

void dynq_lhs_use_range(dynq_lhs_source *source, const dynq_kernels *kernels, float lo, float hi) {
  tensor_job job = {.source = source, .type = dynq_lhs_type(kernels), .lo = lo, .hi = hi};
  source->per_row = false;
  source->fixed = true;
  dynq_parallel(NULL, 1, choose_for_tensor, &job, 1); /* for its floating-point environment */
}

bool dynq_lhs_fill(dynq_lhs *lhs, const dynq_kernels *kernels, const dynq_lhs_source *source, size_t row, size_t rows,
                   size_t k) {
  const dynq_type type = dynq_lhs_type(kernels);
  const size_t padded = (k + DYNQ_GROUP - 1) / DYNQ_GROUP * DYNQ_GROUP;
  bool finite = true;
  for (size_t i = 0; i < rows; i++) {
    uint8_t *to = lhs->data + i * lhs->stride;
    if (source->q != NULL) {
      lhs->scale[i] = 1.0f;
      copy_row(source, type, row + i, k, to, &lhs->zero_point[i]);
    } else {
      finite &= quantize_row(kernels, source, type, row + i, k, to, &lhs->scale[i], &lhs->zero_point[i]);
    }
    memset(to + k, 0, padded - k);
    if (lhs->sum != NULL) {
      lhs->sum[i] = row_sum(k, to, type == DYNQ_S8);
    }
  }
  return finite;
}
