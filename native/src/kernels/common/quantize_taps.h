/*
 * Ranges and quantization of a convolution's rows with positions as the lanes, written once over the abstraction of
 * vec_<isa>.h, which is included first. Value k of the rows lies in a run, wherever the input has it.
 *
 * Each lane has a scale of its own. Four k of a position are one integer of 32 bits, as the rows hold them, so that a
 * quarter as much is transposed as there are values. It takes 16 such groups at a time, the 64 bytes of a row.
 */
#ifndef DYNQ_QUANTIZE_TAPS_H
#define DYNQ_QUANTIZE_TAPS_H

#include "../kernels.h"

#include "quantize.h"

#include <string.h>

/* One vector of positions, or `left` of them where `partial`. */
V_INLINE bool range_taps_vector(const bool partial, size_t left, size_t k, const float *b, const size_t *offset,
                                float *lo, float *hi) {
  vf low = partial ? vf_load_n(lo, left) : vf_load(lo), high = partial ? vf_load_n(hi, left) : vf_load(hi);
  vf low1 = low, high1 = high;
  vm nan = vf_unordered(low, low);
  size_t i = 0;
  for (; i + 2 <= k; i += 2) {
    const float *p = b + offset[i], *p1 = b + offset[i + 1];
    const vf x = partial ? vf_load_n(p, left) : vf_load(p), x1 = partial ? vf_load_n(p1, left) : vf_load(p1);
    low = vf_min(x, low);
    low1 = vf_min(x1, low1);
    high = vf_max(x, high);
    high1 = vf_max(x1, high1);
    nan = vm_or(nan, vf_unordered(x, x1));
  }
  if (i < k) {
    const vf x = partial ? vf_load_n(b + offset[i], left) : vf_load(b + offset[i]);
    low = vf_min(x, low);
    high = vf_max(x, high);
    nan = vm_or(nan, vf_unordered(x, x));
  }
  low = vf_min(low1, low);
  high = vf_max(high1, high);
  if (partial) {
    vf_store_n(lo, left, low);
    vf_store_n(hi, left, high);
  } else {
    vf_store(lo, low);
    vf_store(hi, high);
  }
  const vf largest = vf_set1(3.40282347e38f);
  return !vm_any(vm_or(nan, vm_or(vf_lt(largest, high), vf_lt(low, vf_sub(vf_set1(0.0f), largest)))));
}

static bool vector_range_taps(size_t n, size_t k, const float *b, const size_t *offset, float *lo, float *hi) {
  bool finite = true;
  size_t j = 0;
  for (; j + V_LANES <= n; j += V_LANES) {
    finite &= range_taps_vector(false, 0, k, b + j, offset, lo + j, hi + j);
  }
  if (j < n) {
    finite &= range_taps_vector(true, n - j, k, b + j, offset, lo + j, hi + j);
  }
  return finite;
}

/* The groups of a row that are transposed at a time. */
enum { TAPS_GROUPS = 16 };

typedef struct taps_quantizer {
  vf scale, inverse, zero_point, low, high;
  vi zero_points;
  int8_t least;
  uint8_t flip;
  bool divide;
} taps_quantizer;

/* Four k, or `width` of them, of a vector of positions: a byte each of 32 bits, from the lowest on. */
V_INLINE vi quantize_taps_group(const taps_quantizer *z, const bool partial, size_t left, size_t width, const float *b,
                                const size_t *offset) {
  vf x[DYNQ_GROUP], worst = vf_set1(0.0f);
  vi r[DYNQ_GROUP];
#pragma GCC unroll 4
  for (size_t i = 0; i < DYNQ_GROUP; i++) {
    r[i] = vi_set1(0);
    if (i < width) {
      x[i] = partial ? vf_load_n(b + offset[i], left) : vf_load(b + offset[i]);
      const vf t = vf_mul(x[i], z->inverse);
      r[i] = vi_round(t);
      worst = vf_max_abs(worst, vf_sub(t, vf_from_i(r[i])));
    }
  }
  if (z->divide || vm_any(vf_lt(vf_set1(NEAR_HALF), worst))) {
#pragma GCC unroll 4
    for (size_t i = 0; i < width; i++) {
      const vf q = vf_add(vf_rint(vf_div(x[i], z->scale)), z->zero_point);
      r[i] = vi_from_f(vf_sub(vf_min(z->high, vf_max(z->low, q)), z->zero_point));
    }
  }
  return v_clamped_group(r[0], r[1], r[2], r[3], z->zero_points, z->least, z->flip);
}

/* Row j of `groups` (TAPS_GROUPS, V_LANES) integers, as columns: 64 bytes at most. */
V_INLINE void store_taps_rows(size_t positions, size_t bytes, const float *groups, uint8_t *to, size_t to_stride) {
  _Alignas(64) float rows[(V_LANES + 3) / 4 * 4 * TAPS_GROUPS];
#if defined(DYNQ_VEC_SCALAR_H)
  memcpy(rows, groups, TAPS_GROUPS * sizeof *rows);
#else
  for (size_t j = 0; j < V_LANES; j += 4) {
    v_transpose16(groups + j, V_LANES, rows + j * TAPS_GROUPS);
  }
#endif
  for (size_t j = 0; j < positions; j++, to += to_stride) {
    if (bytes == TAPS_GROUPS * DYNQ_GROUP) {
      memcpy(to, rows + j * TAPS_GROUPS, TAPS_GROUPS * DYNQ_GROUP);
    } else {
      memcpy(to, rows + j * TAPS_GROUPS, bytes);
    }
  }
}

/* One vector of positions from j on, or `left` of them where `partial`. */
V_INLINE void quantize_taps_vector(const bool partial, size_t left, size_t j, const dynq_quantize_taps *o) {
  const int32_t offset = o->q_max - 127; /* 0 or 128: a uint8 is an int8 with the upper bit flipped */
  const vf one = vf_set1(1.0f), scale = partial ? vf_load_or(o->scale + j, left, one) : vf_load(o->scale + j);
  const vi given = partial ? vi_load_n(o->zero_point + j, left) : vi_load(o->zero_point + j);
  const vi zero_point = vi_sub(given, vi_set1(offset));
  const vm far = vm_or(vf_lt(scale, vf_set1(0x1p-100f)), vf_lt(vf_set1(0x1p100f), scale));
  const taps_quantizer z = {.scale = scale,
                            .inverse = vf_div(one, scale),
                            .zero_point = vf_from_i(zero_point),
                            .low = vf_set1((float)(o->q_min - offset)),
                            .high = vf_set1(127.0f),
                            .zero_points = v_zero_points(zero_point),
                            .least = (int8_t)(o->q_min - offset),
                            .flip = (uint8_t)offset,
                            .divide = V_LANES == 1 || vm_any(far)};
  const float *b = o->b + j;
  uint8_t *to = o->q + j * o->q_stride;
  _Alignas(64) float groups[TAPS_GROUPS * V_LANES];
  for (size_t k = 0; k < o->k; k += TAPS_GROUPS * DYNQ_GROUP, to += TAPS_GROUPS * DYNQ_GROUP) {
    const size_t n = o->k - k < TAPS_GROUPS * DYNQ_GROUP ? o->k - k : TAPS_GROUPS * DYNQ_GROUP;
    float *group = groups;
    size_t i = 0;
    for (; i + DYNQ_GROUP <= n; i += DYNQ_GROUP, group += V_LANES) {
      vf_store(group, vi_as_f(quantize_taps_group(&z, partial, left, DYNQ_GROUP, b, o->offset + k + i)));
    }
    if (i < n) {
      const vi bytes = n - i == 1   ? quantize_taps_group(&z, partial, left, 1, b, o->offset + k + i)
                       : n - i == 2 ? quantize_taps_group(&z, partial, left, 2, b, o->offset + k + i)
                                    : quantize_taps_group(&z, partial, left, 3, b, o->offset + k + i);
      const int32_t kept = (int32_t)((UINT32_C(1) << 8 * (n - i)) - 1);
      vf_store(group, vi_as_f(vi_and(vi_set1(kept), bytes)));
    }
    store_taps_rows(partial ? left : V_LANES, (n + DYNQ_GROUP - 1) / DYNQ_GROUP * DYNQ_GROUP, groups, to, o->q_stride);
  }
}

static void vector_quantize_taps(const dynq_quantize_taps *o) {
  size_t j = 0;
  for (; j + V_LANES <= o->n; j += V_LANES) {
    quantize_taps_vector(false, 0, j, o);
  }
  if (j < o->n) {
    quantize_taps_vector(true, o->n - j, j, o);
  }
}

#endif
