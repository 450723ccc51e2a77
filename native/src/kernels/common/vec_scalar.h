/*
 * The vector abstraction for one lane: plain C11, the reference. vec_<isa>.h offer the same names over
 * wider registers, and the files activations.h and vector.h beside this one are written once over them.
 *
 * Types: vf float32, vi int32 (wrapping), vm a mask. Rules every version keeps, so that all give the same bits:
 *   vf_min(a, b) is a < b ? a : b and vf_max(a, b) is a > b ? a : b: the second operand where either is NaN,
 *   as x86 does. vf_rint rounds ties to even. vi_from_f takes integers in int32's range. No operation but vf_fma
 *   fuses a multiply and an add. *_n(p, n) touch the first n lanes only, 0 < n <= V_LANES; missing lanes load as 0, or as
 *   those of `other` with vf_load_or.
 * vf_swap<n> exchanges neighbouring groups of n lanes; a version has those of its lanes' halves: 8, 4, 2, 1.
 */
#ifndef DYNQ_VEC_SCALAR_H
#define DYNQ_VEC_SCALAR_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { V_LANES = 1 };
typedef float vf;
typedef int32_t vi;
typedef bool vm;

static inline vf vf_load(const float *p) { return *p; }
static inline vf vf_load_n(const float *p, size_t n) { return n != 0 ? *p : 0.0f; }
static inline vf vf_load_or(const float *p, size_t n, vf other) { return n != 0 ? *p : other; }
/* Lanes [from, to), 0 <= to <= V_LANES, none where from >= to; the others load as 0, or as those of `other`. */
typedef bool vl;
static inline vl v_lanes(size_t from, size_t to) { return from < to; }
static inline vf vf_load_lanes(const float *p, vl lanes) { return lanes ? *p : 0.0f; }
static inline vf vf_load_lanes_or(const float *p, vl lanes, vf other) { return lanes ? *p : other; }
/* Every second value of a, then of b. */
static inline vf vf_even(vf a, vf b) {
  (void)b;
  return a;
}
/* The first n lanes of a, 0 <= n <= V_LANES, the others of b. */
static inline vf vf_keep(vf a, size_t n, vf b) { return n != 0 ? a : b; }
static inline void vf_store(float *p, vf a) { *p = a; }
static inline void vf_store_n(float *p, size_t n, vf a) {
  if (n != 0) {
    *p = a;
  }
}
static inline vf vf_set1(float a) { return a; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_min(vf a, vf b) { return a < b ? a : b; }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vf vf_rint(vf a) { return rintf(a); }
static inline vf vf_floor(vf a) { return floorf(a); }
static inline vf vf_ceil(vf a) { return ceilf(a); }
static inline vf vf_sqrt(vf a) { return sqrtf(a); }
/* a * b + c, rounded once. */
static inline vf vf_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
/* max(a, |b|); where b is NaN, any of NaN and a. */
static inline vf vf_max_abs(vf a, vf b) { return fabsf(b) > a ? fabsf(b) : a; }

/* Comparisons and choices. vf_unordered: a or b is NaN. vf_select: mask ? a : b. */
static inline vm vf_lt(vf a, vf b) { return a < b; }
static inline vm vf_unordered(vf a, vf b) { return a != a || b != b; }
static inline vf vf_select(vm mask, vf a, vf b) { return mask ? a : b; }
static inline vm vm_or(vm a, vm b) { return a || b; }
static inline bool vm_any(vm a) { return a; }
/* `nan` where y is NaN, else y. */
static inline vf vf_replace_nan(vf y, vf nan) { return y != y ? nan : y; }

/* Bits: reinterpretation. */
static inline vi vf_bits(vf a) {
  vi r;
  memcpy(&r, &a, sizeof r);
  return r;
}
static inline vf vi_as_f(vi a) {
  vf r;
  memcpy(&r, &a, sizeof r);
  return r;
}

static inline vi vi_load(const int32_t *p) { return *p; }
static inline vi vi_load_n(const int32_t *p, size_t n) { return n != 0 ? *p : 0; }
static inline vi vi_set1(int32_t a) { return a; }
static inline vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
static inline vi vi_sub(vi a, vi b) { return (vi)((uint32_t)a - (uint32_t)b); }
static inline vi vi_mul(vi a, vi b) { return (vi)((uint32_t)a * (uint32_t)b); }
static inline bool vi_any(vi a) { return a != 0; } /* a bit of any lane is set */
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
static inline vi vi_xor(vi a, vi b) { return a ^ b; }
#define VI_SHL(a, bits) ((vi)((uint32_t)(a) << (bits)))
/* Arithmetic shift; every compiler that is supported does it so for a negative number. */
#define VI_SHR(a, bits) ((vi)((a) >> (bits)))

/*
 * acc - a * factor, for |a| < 2^22 and |factor| <= 255: vi_factor and vi_factored prepare the two operands. x86 has a
 * product of pairs of int16 that is 2 to 4 times as fast as one of int32; a is split into 128 * high + low there.
 */
static inline vi vi_factored(vi a) { return a; }
static inline int32_t vi_factor(int32_t factor) { return factor; }
static inline vi vi_sub_product(vi acc, vi factored, int32_t factor) { return vi_sub(acc, vi_mul(factored, factor)); }

/* Conversions. vf_from_i rounds ties to even. */
static inline vf vf_from_i(vi a) { return (float)a; }
static inline vi vi_from_f(vf a) { return (int32_t)a; }
/* To the nearest, ties to even; outside of int32's range any value that is at least 1 from `a`, or the limit on its
 * side. */
static inline vi vi_round(vf a) { return a >= -0x1p31f && a < 0x1p31f ? (int32_t)rintf(a) : INT32_MIN; }

/* V_LANES bytes to and from int32 lanes; the store keeps the low byte. */
static inline vi vi_load_u8(const uint8_t *p) { return *p; }
static inline vi vi_load_s8(const uint8_t *p) { return (int8_t)*p; }
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) { return n != 0 ? *p : 0; }
static inline vi vi_load_s8_n(const uint8_t *p, size_t n) { return n != 0 ? (int8_t)*p : 0; }
static inline void vi_store_u8(uint8_t *p, vi a) { *p = (uint8_t)a; }
static inline void vi_store_u8_n(uint8_t *p, size_t n, vi a) {
  if (n != 0) {
    *p = (uint8_t)a;
  }
}

/* 4 * V_LANES bytes: clamp(a + zero_point, low, 127) ^ flip, and so on for b, c, d; low is -128 or -127. */
static inline uint8_t v_clamp_byte(vi a, int16_t zero_point, int8_t low, uint8_t flip) {
  const int64_t sum = (int64_t)a + zero_point;
  return (uint8_t)((sum < low ? low : sum > 127 ? 127 : sum) ^ flip);
}
static inline void v_store_clamped(uint8_t *p, vi a, vi b, vi c, vi d, int16_t zero_point, int8_t low, uint8_t flip) {
  p[0] = v_clamp_byte(a, zero_point, low, flip);
  p[1] = v_clamp_byte(b, zero_point, low, flip);
  p[2] = v_clamp_byte(c, zero_point, low, flip);
  p[3] = v_clamp_byte(d, zero_point, low, flip);
}

/* The same bytes of a, b, c and d, those of a lane in one int32, that of a lowest; a zero-point for each lane. */
static inline vi v_zero_points(vi a) { return a; }
static inline vi v_clamped_group(vi a, vi b, vi c, vi d, vi zero_points, int8_t low, uint8_t flip) {
  const int16_t zero_point = (int16_t)zero_points;
  return (vi)(v_clamp_byte(a, zero_point, low, flip) | (uint32_t)v_clamp_byte(b, zero_point, low, flip) << 8 |
              (uint32_t)v_clamp_byte(c, zero_point, low, flip) << 16 |
              (uint32_t)v_clamp_byte(d, zero_point, low, flip) << 24);
}

/* to[c * 16 + r] = from[r * stride + c] for 4 c and 4 or 16 r. */
static inline void v_transpose4(const float *from, size_t stride, float *to) {
  for (size_t r = 0; r < 4; r++) {
    for (size_t c = 0; c < 4; c++) {
      to[c * 16 + r] = from[r * stride + c];
    }
  }
}
static inline void v_transpose16(const float *from, size_t stride, float *to) {
  for (size_t r = 0; r < 16; r += 4) {
    v_transpose4(from + r * stride, stride, to + r);
  }
}

/* Over the lanes; no lane is NaN. */
static inline float vf_reduce_min(vf a) { return a; }
static inline float vf_reduce_max(vf a) { return a; }
static inline float vf_first(vf a) { return a; }

#endif
