/*
 * The vector abstraction over ymm registers, 8 lanes: AVX2 and FMA. The rules are in vec_scalar.h.
 */
#ifndef DYNQ_VEC_AVX2_H
#define DYNQ_VEC_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { V_LANES = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane set, or none */

/* The first n lanes. */
static inline __m256i v_first(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vf vf_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_first(n)); }
static inline vf vf_load_or(const float *p, size_t n, vf other) {
  const __m256i first = v_first(n);
  return _mm256_blendv_ps(other, _mm256_maskload_ps(p, first), _mm256_castsi256_ps(first));
}
typedef __m256i vl;
static inline vl v_lanes(size_t from, size_t to) { return _mm256_andnot_si256(v_first(from), v_first(to)); }
static inline vf vf_load_lanes(const float *p, vl lanes) { return _mm256_maskload_ps(p, lanes); }
static inline vf vf_load_lanes_or(const float *p, vl lanes, vf other) {
  return _mm256_blendv_ps(other, _mm256_maskload_ps(p, lanes), _mm256_castsi256_ps(lanes));
}
static inline vf vf_even(vf a, vf b) {
  const __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)); /* each half has two of a and two of b */
  return _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xd8));
}
static inline vf vf_keep(vf a, size_t n, vf b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(v_first(n))); }
static inline void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
static inline void vf_store_n(float *p, size_t n, vf a) { _mm256_maskstore_ps(p, v_first(n), a); }
static inline vf vf_set1(float a) { return _mm256_set1_ps(a); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_rint(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_floor(vf a) { return _mm256_floor_ps(a); }
static inline vf vf_ceil(vf a) { return _mm256_ceil_ps(a); }
static inline vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }

static inline vf vf_max_abs(vf a, vf b) { return _mm256_max_ps(a, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), b)); }

static inline vm vf_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vm vf_unordered(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
static inline vf vf_select(vm mask, vf a, vf b) { return _mm256_blendv_ps(b, a, mask); }
static inline vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
static inline bool vm_any(vm a) { return _mm256_movemask_ps(a) != 0; }
static inline vf vf_replace_nan(vf y, vf nan) { return vf_select(vf_unordered(y, y), nan, y); }

static inline vi vf_bits(vf a) { return _mm256_castps_si256(a); }
static inline vf vi_as_f(vi a) { return _mm256_castsi256_ps(a); }

static inline vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline vi vi_load_n(const int32_t *p, size_t n) { return _mm256_maskload_epi32(p, v_first(n)); }
static inline vi vi_set1(int32_t a) { return _mm256_set1_epi32(a); }
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline bool vi_any(vi a) { return _mm256_testz_si256(a, a) == 0; }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
#define VI_SHL(a, bits) _mm256_slli_epi32((a), (bits))
#define VI_SHR(a, bits) _mm256_srai_epi32((a), (bits))

#include "factor_x86.h"
#include "transpose_x86.h"

static inline vi vi_sub_product(vi acc, vi factored, int32_t factor) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(factored, _mm256_set1_epi32(factor)));
}

static inline vf vf_from_i(vi a) { return _mm256_cvtepi32_ps(a); }
static inline vi vi_from_f(vf a) { return _mm256_cvttps_epi32(a); }
static inline vi vi_round(vf a) { return _mm256_cvtps_epi32(a); }

static inline vi vi_load_u8(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
static inline vi vi_load_s8(const uint8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) {
  uint8_t buffer[8] = {0};
  memcpy(buffer, p, n);
  return vi_load_u8(buffer);
}
static inline vi vi_load_s8_n(const uint8_t *p, size_t n) {
  uint8_t buffer[8] = {0};
  memcpy(buffer, p, n);
  return vi_load_s8(buffer);
}
static inline void vi_store_u8(uint8_t *p, vi a) {
  const __m256i low =
      _mm256_shuffle_epi8(a, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12,
                                              -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storel_epi64((__m128i *)p, both);
}
static inline void vi_store_u8_n(uint8_t *p, size_t n, vi a) {
  uint8_t buffer[8];
  vi_store_u8(buffer, a);
  memcpy(p, buffer, n);
}

static inline void v_store_clamped(uint8_t *p, vi a, vi b, vi c, vi d, int16_t zero_point, int8_t low, uint8_t flip) {
  const __m256i zero_points = _mm256_set1_epi16(zero_point);
  const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_points);
  const __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_points);
  /* Packing stays within 128 bits: each half now holds four values of a, b, c and d. */
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
  const __m256i clamped = _mm256_max_epi8(bytes, _mm256_set1_epi8(low));
  _mm256_storeu_si256((__m256i *)(void *)p, _mm256_xor_si256(clamped, _mm256_set1_epi8((char)flip)));
}

static inline vi v_zero_points(vi a) { return _mm256_packs_epi32(a, a); }
static inline vi v_clamped_group(vi a, vi b, vi c, vi d, vi zero_points, int8_t low, uint8_t flip) {
  const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_points);
  const __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_points);
  /* Each half holds four values of a, b, c and d. */
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i clamped = _mm256_max_epi8(_mm256_packs_epi16(ab, cd), _mm256_set1_epi8(low));
  return _mm256_xor_si256(_mm256_shuffle_epi8(clamped, order), _mm256_set1_epi8((char)flip));
}

/* Each half of a register takes four rows; the halves are transposed side by side. */
static inline void v_transpose16(const float *from, size_t stride, float *to) {
  for (size_t half = 0; half < 16; half += 8, from += 8 * stride, to += 8) {
    __m256 row[4];
    for (size_t r = 0; r < 4; r++) {
      const float *p = from + r * stride;
      row[r] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
    }
    const __m256 a = _mm256_unpacklo_ps(row[0], row[2]), b = _mm256_unpackhi_ps(row[0], row[2]);
    const __m256 c = _mm256_unpacklo_ps(row[1], row[3]), d = _mm256_unpackhi_ps(row[1], row[3]);
    _mm256_storeu_ps(to, _mm256_unpacklo_ps(a, c));
    _mm256_storeu_ps(to + 16, _mm256_unpackhi_ps(a, c));
    _mm256_storeu_ps(to + 32, _mm256_unpacklo_ps(b, d));
    _mm256_storeu_ps(to + 48, _mm256_unpackhi_ps(b, d));
  }
}

static inline float vf_reduce_min(vf a) {
  __m128 r = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  r = _mm_min_ps(r, _mm_movehl_ps(r, r));
  r = _mm_min_ss(r, _mm_shuffle_ps(r, r, 1));
  return _mm_cvtss_f32(r);
}
static inline float vf_reduce_max(vf a) {
  __m128 r = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  r = _mm_max_ps(r, _mm_movehl_ps(r, r));
  r = _mm_max_ss(r, _mm_shuffle_ps(r, r, 1));
  return _mm_cvtss_f32(r);
}
static inline float vf_first(vf a) { return _mm256_cvtss_f32(a); }
static inline vf vf_swap4(vf a) { return _mm256_permute2f128_ps(a, a, 1); }
static inline vf vf_swap2(vf a) { return _mm256_permute_ps(a, 0x4e); }
static inline vf vf_swap1(vf a) { return _mm256_permute_ps(a, 0xb1); }

#endif
