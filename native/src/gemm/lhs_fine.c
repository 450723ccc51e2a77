/*
 * Quantizing rows in 16 bits, or with a scale for each group of values.
 */
#include "lhs_fine.h"

#include "../base/alloc.h"
#include "../quant/qparams.h"
#include "../quant/range.h"

#include <math.h>
#include <string.h>

static size_t blocks_of(const dynq_lhs_source *source, size_t k) {
  return source->group == 0 || k == 0 ? 1 : (k + source->group - 1) / source->group;
}

static size_t array_bytes(size_t rows, size_t blocks) {
  return dynq_size_add(dynq_size_mul(dynq_size_mul(rows, blocks), 4), 63) / 64 * 64;
}

size_t dynq_lhs_fine_bytes(const dynq_lhs_source *source, size_t rows, size_t k) {
  const size_t planes = dynq_lhs_bytes(dynq_size_mul(rows, source->bits16 ? 2 : 1), k);
  return dynq_size_add(planes, dynq_size_mul(2, array_bytes(rows, blocks_of(source, k))));
}

void dynq_lhs_fine_place(dynq_lhs *lhs, const dynq_lhs_source *source, void *memory, size_t rows, size_t k) {
  const size_t blocks = blocks_of(source, k), each = array_bytes(rows, blocks);
  dynq_lhs_place(lhs, (char *)memory + 2 * each, source->bits16 ? 2 * rows : rows, k, false);
  lhs->scale = memory;
  lhs->zero_point = (int32_t *)(void *)((char *)memory + each);
  lhs->low = source->bits16 ? lhs->data + rows * lhs->stride : NULL;
  lhs->blocks = blocks;
}

/* Values [begin, begin + n) of a row; false if they are not finite. */
static bool quantize_block(dynq_lhs *lhs, const dynq_kernels *kernels, const dynq_lhs_source *s, const float *x,
                           size_t to, size_t n, float *scale, int32_t *zero_point) {
  const dynq_type type = dynq_lhs_type(kernels);
  *scale = s->scale;
  *zero_point = s->zero_point;
  if (s->per_row || s->fixed) {
    float lo, hi;
    if (!dynq_row_range(kernels, n, x, &lo, &hi)) {
      *scale = NAN;
    } else if (s->per_row && s->bits16) {
      dynq_qparams_16(lo, hi, s->scheme, scale, zero_point);
    } else if (s->per_row) {
      dynq_qparams(lo, hi, s->scheme, type, scale, zero_point);
    }
  }
  if (isnan(*scale)) {
    memset(lhs->data + to, 0, n);
    memset(lhs->low != NULL ? lhs->low + to : lhs->data + to, 0, n);
    *zero_point = 0;
    return false;
  }
  if (s->bits16) {
    kernels->vector.quantize_16(n, x, *scale, *zero_point, s->scheme == DYNQ_SYMMETRIC ? 1 : 0,
                                type == DYNQ_S8 ? 0x80 : 0, lhs->data + to, lhs->low + to);
    *zero_point -= type == DYNQ_S8 ? 0x8080 : 0; /* 128 less in both bytes */
  } else {
    int32_t low, high;
    dynq_integer_range(s->scheme, type, &low, &high);
    kernels->vector.quantize(n, x, *scale, *zero_point, low, high, lhs->data + to);
  }
  return true;
}

bool dynq_lhs_fine_fill(dynq_lhs *lhs, const dynq_kernels *kernels, const dynq_lhs_source *source, size_t row,
                        size_t rows, size_t k) {
  const size_t padding = -k % DYNQ_GROUP, each = source->group != 0 ? source->group : k;
  bool finite = true;
  for (size_t i = 0; i < rows; i++) {
    const float *x = source->x + (row + i) * source->x_stride;
    for (size_t b = 0; b < lhs->blocks; b++) {
      const size_t begin = b * each, left = k - begin, at = i * lhs->blocks + b;
      finite &= quantize_block(lhs, kernels, source, x + begin, i * lhs->stride + begin, left < each ? left : each,
                               &lhs->scale[at], &lhs->zero_point[at]);
    }
    memset(lhs->data + i * lhs->stride + k, 0, padding);
    memset((lhs->low != NULL ? lhs->low : lhs->data) + i * lhs->stride + k, 0, padding);
  }
  return finite;
}
