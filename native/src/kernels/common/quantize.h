/*
 * Ranges, quantize and dequantize, written once over the abstraction of vec_<isa>.h, which is included first.
 */
#ifndef DYNQ_QUANTIZE_H
#define DYNQ_QUANTIZE_H

#include "../kernels.h"

#include "inline.h"

/* ---- Range ---- */

static bool vector_range(size_t n, const float *x, float *lo, float *hi) {
  /* Two pairs, so that one minimum need not wait for the last; a NaN leaves no trace in vf_min and vf_max. */
  vf lo0 = vf_set1(*lo), lo1 = lo0, hi0 = vf_set1(*hi), hi1 = hi0;
  vm nan = vf_unordered(lo0, lo0);
  size_t i = 0;
  for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
    const vf a = vf_load(x + i), b = vf_load(x + i + V_LANES);
    lo0 = vf_min(a, lo0);
    lo1 = vf_min(b, lo1);
    hi0 = vf_max(a, hi0);
    hi1 = vf_max(b, hi1);
    nan = vm_or(nan, vf_unordered(a, b));
  }
  while (i < n) { /* missing lanes are 0, which the range holds anyway */
    const size_t left = n - i;
    const vf a = left >= V_LANES ? vf_load(x + i) : vf_load_n(x + i, left);
    lo0 = vf_min(a, lo0);
    hi0 = vf_max(a, hi0);
    nan = vm_or(nan, vf_unordered(a, a));
    i += left >= V_LANES ? V_LANES : left;
  }
  *lo = vf_reduce_min(vf_min(lo0, lo1));
  *hi = vf_reduce_max(vf_max(hi0, hi1));
  return !vm_any(nan) && *lo >= -3.40282347e38f && *hi <= 3.40282347e38f;
}

/* ---- Quantize, dequantize ---- */

/*
 * rint(x / scale) without a division for most vectors. t = x * (1 / scale) is within |t| 2^-22.4 of x / scale and of
 * its rounding, so within 2^-13.4 if |t| <= 512. Both round to the same integer unless t is that close to a half; then
 * the division is done. If |t| > 512, every zero-point leads to the same clamp. The bound needs a normal 1 / scale:
 * other scales always divide.
 */
#define NEAR_HALF (0.5f - 0x1p-13f)

V_INLINE vf round_quotient(vf x, vf scale, vf inverse, bool divide) {
  const vf t = vf_mul(x, inverse), rounded = vf_rint(t), d = vf_sub(t, rounded); /* d is exact */
  if (divide || vm_any(vf_lt(vf_set1(NEAR_HALF), vf_max_abs(vf_set1(0.0f), d)))) {
    return vf_rint(vf_div(x, scale));
  }
  return rounded;
}

typedef struct quantizer {
  vf scale, inverse, zero_point, low, high;
  bool divide, check;
  vf *seen; /* where check: NaN in a lane that met a value that is not finite, else 0 */
} quantizer;

/* x - x is 0, or NaN if x is a NaN or an infinity. */
V_INLINE vf checked(const quantizer *z, vf x) {
  if (z->check) {
    *z->seen = vf_add(*z->seen, vf_sub(x, x));
  }
  return x;
}

V_INLINE vi quantized(const quantizer *z, vf x) {
  const vf r = vf_add(round_quotient(x, z->scale, z->inverse, z->divide), z->zero_point);
  return vi_from_f(vf_min(vf_max(r, z->low), z->high)); /* a NaN becomes low, so that no conversion overflows */
}

/* Four vectors at a time, in bytes and by saturation, where no lane comes near a half; d is 1 or more, and so the block
 * is done again, where t does not fit int32. */
V_INLINE size_t quantize_blocks(const quantizer *z, size_t n, const float *x, int16_t zero_point, int8_t low,
                                uint8_t flip, uint8_t *q) {
  size_t i = 0;
  for (; i + 4 * V_LANES <= n; i += 4 * V_LANES) {
    vi r[4];
    vf worst = vf_set1(0.0f);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
      const vf t = vf_mul(checked(z, vf_load(x + i + v * V_LANES)), z->inverse);
      r[v] = vi_round(t);
      worst = vf_max_abs(worst, vf_sub(t, vf_from_i(r[v])));
    }
    if (vm_any(vf_lt(vf_set1(NEAR_HALF), worst))) {
      for (size_t v = 0; v < 4; v++) {
        vi_store_u8(q + i + v * V_LANES, quantized(z, vf_load(x + i + v * V_LANES)));
      }
    } else {
      v_store_clamped(q + i, r[0], r[1], r[2], r[3], zero_point, low, flip);
    }
  }
  return i;
}

V_INLINE bool quantize_all(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                           uint8_t *q, bool check) {
  vf seen = vf_set1(0.0f);
  const int32_t offset = q_max - 127; /* 0 or 128: a uint8 is an int8 with the upper bit flipped */
  const quantizer z = {.scale = vf_set1(scale),
                       .inverse = vf_div(vf_set1(1.0f), vf_set1(scale)),
                       .zero_point = vf_set1((float)zero_point),
                       .low = vf_set1((float)q_min),
                       .high = vf_set1((float)q_max),
                       .check = check,
                       .seen = &seen,
                       .divide = V_LANES == 1 || !(scale >= 0x1p-100f && scale <= 0x1p100f)};
  size_t i = 0;
  if (!z.divide) {
    i = quantize_blocks(&z, n, x, (int16_t)(zero_point - offset), (int8_t)(q_min - offset), (uint8_t)offset, q);
  }
  for (; i + V_LANES <= n; i += V_LANES) {
    vi_store_u8(q + i, quantized(&z, checked(&z, vf_load(x + i))));
  }
  if (i < n) {
    vi_store_u8_n(q + i, n - i, quantized(&z, checked(&z, vf_load_n(x + i, n - i))));
  }
  return !check || !vm_any(vf_unordered(seen, seen));
}

static void vector_quantize(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max,
                            uint8_t *q) {
  (void)quantize_all(n, x, scale, zero_point, q_min, q_max, q, false);
}

static bool vector_quantize_checked(size_t n, const float *x, float scale, int32_t zero_point, int32_t q_min,
                                    int32_t q_max, uint8_t *q) {
  return quantize_all(n, x, scale, zero_point, q_min, q_max, q, true);
}

static void vector_dequantize(size_t n, const uint8_t *q, bool q_signed, float scale, int32_t zero_point, float *x) {
  const vf s = vf_set1(scale);
  const vi zp = vi_set1(zero_point);
  size_t i = 0;
  for (; i + V_LANES <= n; i += V_LANES) {
    const vi a = q_signed ? vi_load_s8(q + i) : vi_load_u8(q + i);
    vf_store(x + i, vf_mul(vf_from_i(vi_sub(a, zp)), s));
  }
  if (i < n) {
    const vi a = q_signed ? vi_load_s8_n(q + i, n - i) : vi_load_u8_n(q + i, n - i);
    vf_store_n(x + i, n - i, vf_mul(vf_from_i(vi_sub(a, zp)), s));
  }
}

#endif
