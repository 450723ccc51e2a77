/*
 * The vector abstraction over zmm registers, 16 lanes: AVX-512 F, BW, VL, DQ. The rules are in vec_scalar.h.
 */
#ifndef DYNQ_VEC_AVX512_H
#define DYNQ_VEC_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { V_LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

/* The first n lanes. */
static inline __mmask16 v_first(size_t n) { return (__mmask16)((1u << n) - 1u); }

static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf vf_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
static inline vf vf_load_or(const float *p, size_t n, vf other) { return _mm512_mask_loadu_ps(other, v_first(n), p); }
typedef __mmask16 vl;
static inline vl v_lanes(size_t from, size_t to) { return (vl)(((1u << to) - 1u) & ~((1u << from) - 1u)); }
static inline vf vf_load_lanes(const float *p, vl lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
static inline vf vf_load_lanes_or(const float *p, vl lanes, vf other) { return _mm512_mask_loadu_ps(other, lanes, p); }
static inline vf vf_even(vf a, vf b) {
  const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(a, order, b);
}
static inline vf vf_keep(vf a, size_t n, vf b) { return _mm512_mask_blend_ps(v_first(n), b, a); }
static inline void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline void vf_store_n(float *p, size_t n, vf a) { _mm512_mask_storeu_ps(p, v_first(n), a); }
static inline vf vf_set1(float a) { return _mm512_set1_ps(a); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_rint(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_floor(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
static inline vf vf_ceil(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
/* a 2^n, rounded once. */
static inline vf vf_scale(vf a, vf n) { return _mm512_scalef_ps(a, n); }
static inline vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }

static inline vf vf_max_abs(vf a, vf b) { return _mm512_range_ps(a, b, 0x0b); } /* of sizes, without a sign */

static inline vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vm vf_unordered(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
static inline vf vf_select(vm mask, vf a, vf b) { return _mm512_mask_blend_ps(mask, b, a); }
static inline vm vm_or(vm a, vm b) { return (vm)(a | b); }
static inline bool vm_any(vm a) { return a != 0; }
/* By a table of 4 bits for each kind of value: 0, for the two kinds of NaN, keeps the first operand; 1 takes the second. */
static inline vf vf_replace_nan(vf y, vf nan) { return _mm512_fixupimm_ps(nan, y, _mm512_set1_epi32(0x11111100), 0); }

static inline vi vf_bits(vf a) { return _mm512_castps_si512(a); }
static inline vf vi_as_f(vi a) { return _mm512_castsi512_ps(a); }

static inline vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline vi vi_load_n(const int32_t *p, size_t n) { return _mm512_maskz_loadu_epi32(v_first(n), p); }
static inline vi vi_set1(int32_t a) { return _mm512_set1_epi32(a); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline bool vi_any(vi a) { return _mm512_test_epi32_mask(a, a) != 0; }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
#define VI_SHL(a, bits) _mm512_slli_epi32((a), (bits))
#define VI_SHR(a, bits) _mm512_srai_epi32((a), (bits))

#include "factor_x86.h"
#include "transpose_x86.h"

static inline vi vi_sub_product(vi acc, vi factored, int32_t factor) {
#if defined(__AVX512VNNI__)
  return _mm512_dpwssd_epi32(acc, factored, _mm512_set1_epi32(factor));
#else
  return _mm512_add_epi32(acc, _mm512_madd_epi16(factored, _mm512_set1_epi32(factor)));
#endif
}

static inline vf vf_from_i(vi a) { return _mm512_cvtepi32_ps(a); }
static inline vi vi_from_f(vf a) { return _mm512_cvttps_epi32(a); }
static inline vi vi_round(vf a) { return _mm512_cvtps_epi32(a); }

static inline vi vi_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline vi vi_load_s8(const uint8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(v_first(n), p));
}
static inline vi vi_load_s8_n(const uint8_t *p, size_t n) {
  return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(v_first(n), p));
}
static inline void vi_store_u8(uint8_t *p, vi a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
static inline void vi_store_u8_n(uint8_t *p, size_t n, vi a) {
  _mm_mask_storeu_epi8(p, v_first(n), _mm512_cvtepi32_epi8(a));
}

static inline void v_store_clamped(uint8_t *p, vi a, vi b, vi c, vi d, int16_t zero_point, int8_t low, uint8_t flip) {
  const __m512i zero_points = _mm512_set1_epi16(zero_point);
  const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero_points);
  const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero_points);
  /* Packing stays within 128 bits: each quarter now holds four values of a, b, c and d. */
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
  const __m512i clamped = _mm512_max_epi8(bytes, _mm512_set1_epi8(low));
  _mm512_storeu_si512(p, _mm512_xor_si512(clamped, _mm512_set1_epi8((char)flip)));
}

static inline vi v_zero_points(vi a) { return _mm512_packs_epi32(a, a); }
static inline vi v_clamped_group(vi a, vi b, vi c, vi d, vi zero_points, int8_t low, uint8_t flip) {
  const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero_points);
  const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero_points);
  /* Each quarter holds four values of a, b, c and d. */
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i clamped = _mm512_max_epi8(_mm512_packs_epi16(ab, cd), _mm512_set1_epi8(low));
  return _mm512_xor_si512(_mm512_shuffle_epi8(clamped, order), _mm512_set1_epi8((char)flip));
}

/* Each quarter of a register takes four rows; the quarters are transposed side by side. */
static inline void v_transpose16(const float *from, size_t stride, float *to) {
  __m512 row[4];
  for (size_t r = 0; r < 4; r++) {
    const float *p = from + r * stride;
    const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
    p += 8 * stride;
    const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
    row[r] = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
  }
  const __m512 a = _mm512_unpacklo_ps(row[0], row[2]), b = _mm512_unpackhi_ps(row[0], row[2]);
  const __m512 c = _mm512_unpacklo_ps(row[1], row[3]), d = _mm512_unpackhi_ps(row[1], row[3]);
  _mm512_storeu_ps(to, _mm512_unpacklo_ps(a, c));
  _mm512_storeu_ps(to + 16, _mm512_unpackhi_ps(a, c));
  _mm512_storeu_ps(to + 32, _mm512_unpacklo_ps(b, d));
  _mm512_storeu_ps(to + 48, _mm512_unpackhi_ps(b, d));
}

static inline float vf_reduce_min(vf a) { return _mm512_reduce_min_ps(a); }
static inline float vf_reduce_max(vf a) { return _mm512_reduce_max_ps(a); }
static inline float vf_first(vf a) { return _mm512_cvtss_f32(a); }
static inline vf vf_swap8(vf a) { return _mm512_shuffle_f32x4(a, a, 0x4e); }
static inline vf vf_swap4(vf a) { return _mm512_shuffle_f32x4(a, a, 0xb1); }
static inline vf vf_swap2(vf a) { return _mm512_permute_ps(a, 0x4e); }
static inline vf vf_swap1(vf a) { return _mm512_permute_ps(a, 0xb1); }

#endif
