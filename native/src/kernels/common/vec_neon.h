/*
 * The vector abstraction over 128-bit registers, 4 lanes: the Advanced SIMD that every AArch64 CPU has. The rules are
 * in vec_scalar.h.
 */
#ifndef DYNQ_VEC_NEON_H
#define DYNQ_VEC_NEON_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { V_LANES = 4 };
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm; /* all bits of a lane set, or none */

static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline vf vf_load_n(const float *p, size_t n) {
  float buffer[4] = {0};
  memcpy(buffer, p, n * sizeof *p);
  return vld1q_f32(buffer);
}
static inline vf vf_load_or(const float *p, size_t n, vf other) {
  float buffer[4];
  vst1q_f32(buffer, other);
  memcpy(buffer, p, n * sizeof *p);
  return vld1q_f32(buffer);
}
typedef struct v_range {
  size_t from, to;
} vl;
static inline vl v_lanes(size_t from, size_t to) { return (vl){from, to}; }
static inline vf vf_load_lanes_or(const float *p, vl lanes, vf other) {
  float buffer[4];
  vst1q_f32(buffer, other);
  for (size_t i = lanes.from; i < lanes.to; i++) {
    buffer[i] = p[i];
  }
  return vld1q_f32(buffer);
}
static inline vf vf_load_lanes(const float *p, vl lanes) { return vf_load_lanes_or(p, lanes, vdupq_n_f32(0.0f)); }
static inline vf vf_even(vf a, vf b) { return vuzp1q_f32(a, b); }
static inline vf vf_keep(vf a, size_t n, vf b) {
  static const uint32_t lanes[4] = {0, 1, 2, 3};
  return vbslq_f32(vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)n)), a, b);
}
static inline void vf_store(float *p, vf a) { vst1q_f32(p, a); }
static inline void vf_store_n(float *p, size_t n, vf a) {
  float buffer[4];
  vst1q_f32(buffer, a);
  memcpy(p, buffer, n * sizeof *p);
}
static inline vf vf_set1(float a) { return vdupq_n_f32(a); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
/* fmin and fmax return the NaN, or order the zeros; the rule is a comparison and a choice. */
static inline vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vf vf_rint(vf a) { return vrndnq_f32(a); }
static inline vf vf_floor(vf a) { return vrndmq_f32(a); }
static inline vf vf_ceil(vf a) { return vrndpq_f32(a); }
static inline vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }

static inline vf vf_max_abs(vf a, vf b) { return vmaxq_f32(a, vabsq_f32(b)); }

static inline vm vf_lt(vf a, vf b) { return vcltq_f32(a, b); }
static inline vm vf_unordered(vf a, vf b) { return vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b))); }
static inline vf vf_select(vm mask, vf a, vf b) { return vbslq_f32(mask, a, b); }
static inline vm vm_or(vm a, vm b) { return vorrq_u32(a, b); }
static inline bool vm_any(vm a) { return vmaxvq_u32(a) != 0; }
static inline vf vf_replace_nan(vf y, vf nan) { return vbslq_f32(vceqq_f32(y, y), y, nan); }

static inline vi vf_bits(vf a) { return vreinterpretq_s32_f32(a); }
static inline vf vi_as_f(vi a) { return vreinterpretq_f32_s32(a); }

static inline vi vi_load(const int32_t *p) { return vld1q_s32(p); }
static inline vi vi_load_n(const int32_t *p, size_t n) {
  int32_t buffer[4] = {0};
  memcpy(buffer, p, n * sizeof *p);
  return vld1q_s32(buffer);
}
static inline vi vi_set1(int32_t a) { return vdupq_n_s32(a); }
static inline vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi vi_sub(vi a, vi b) { return vsubq_s32(a, b); }
static inline vi vi_mul(vi a, vi b) { return vmulq_s32(a, b); }
static inline bool vi_any(vi a) { return vmaxvq_u32(vreinterpretq_u32_s32(a)) != 0; }
static inline vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
static inline vi vi_xor(vi a, vi b) { return veorq_s32(a, b); }
#define VI_SHL(a, bits) vshlq_n_s32((a), (bits))
#define VI_SHR(a, bits) vshrq_n_s32((a), (bits))

static inline vi vi_factored(vi a) { return a; }
static inline int32_t vi_factor(int32_t factor) { return factor; }
static inline vi vi_sub_product(vi acc, vi factored, int32_t factor) { return vmlsq_n_s32(acc, factored, factor); }

static inline vf vf_from_i(vi a) { return vcvtq_f32_s32(a); }
static inline vi vi_from_f(vf a) { return vcvtq_s32_f32(a); }
static inline vi vi_round(vf a) { return vcvtnq_s32_f32(a); }

static inline vi v_widen_u8(uint32_t four) {
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}
static inline vi v_widen_s8(uint32_t four) { return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))); }
static inline uint32_t v_four_bytes(const uint8_t *p, size_t n) {
  uint32_t four = 0;
  memcpy(&four, p, n);
  return four;
}
static inline vi vi_load_u8(const uint8_t *p) { return v_widen_u8(v_four_bytes(p, 4)); }
static inline vi vi_load_s8(const uint8_t *p) { return v_widen_s8(v_four_bytes(p, 4)); }
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) { return v_widen_u8(v_four_bytes(p, n)); }
static inline vi vi_load_s8_n(const uint8_t *p, size_t n) { return v_widen_s8(v_four_bytes(p, n)); }
static inline void vi_store_u8_n(uint8_t *p, size_t n, vi a) {
  const int16x4_t half = vmovn_s32(a);
  const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(half, half))), 0);
  memcpy(p, &four, n);
}
static inline void vi_store_u8(uint8_t *p, vi a) { vi_store_u8_n(p, 4, a); }

static inline void v_store_clamped(uint8_t *p, vi a, vi b, vi c, vi d, int16_t zero_point, int8_t low, uint8_t flip) {
  const int16x8_t zero_points = vdupq_n_s16(zero_point);
  const int16x8_t ab = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero_points);
  const int16x8_t cd = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero_points);
  const int8x16_t bytes = vmaxq_s8(vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)), vdupq_n_s8(low));
  vst1q_u8(p, veorq_u8(vreinterpretq_u8_s8(bytes), vdupq_n_u8(flip)));
}

static inline vi v_zero_points(vi a) {
  const int16x4_t half = vqmovn_s32(a);
  return vreinterpretq_s32_s16(vcombine_s16(half, half));
}
static inline vi v_clamped_group(vi a, vi b, vi c, vi d, vi zero_points, int8_t low, uint8_t flip) {
  static const uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const int16x8_t zero_point = vreinterpretq_s16_s32(zero_points);
  const int16x8_t ab = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero_point);
  const int16x8_t cd = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero_point);
  const int8x16_t clamped = vmaxq_s8(vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)), vdupq_n_s8(low));
  const uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_s8(clamped), vld1q_u8(order));
  return vreinterpretq_s32_u8(veorq_u8(bytes, vdupq_n_u8(flip)));
}

static inline void v_transpose4(const float *from, size_t stride, float *to) {
  const float32x4_t r0 = vld1q_f32(from), r1 = vld1q_f32(from + stride);
  const float32x4_t r2 = vld1q_f32(from + 2 * stride), r3 = vld1q_f32(from + 3 * stride);
  const float32x4_t a = vzip1q_f32(r0, r2), b = vzip2q_f32(r0, r2), c = vzip1q_f32(r1, r3), d = vzip2q_f32(r1, r3);
  vst1q_f32(to, vzip1q_f32(a, c));
  vst1q_f32(to + 16, vzip2q_f32(a, c));
  vst1q_f32(to + 32, vzip1q_f32(b, d));
  vst1q_f32(to + 48, vzip2q_f32(b, d));
}
static inline void v_transpose16(const float *from, size_t stride, float *to) {
  for (size_t r = 0; r < 16; r += 4) {
    v_transpose4(from + r * stride, stride, to + r);
  }
}

static inline float vf_reduce_min(vf a) { return vminvq_f32(a); }
static inline float vf_reduce_max(vf a) { return vmaxvq_f32(a); }
static inline float vf_first(vf a) { return vgetq_lane_f32(a, 0); }
static inline vf vf_swap2(vf a) { return vextq_f32(a, a, 2); }
static inline vf vf_swap1(vf a) { return vrev64q_f32(a); }

#endif
