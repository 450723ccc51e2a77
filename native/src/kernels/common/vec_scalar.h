/*
 * The vector abstraction for one lane: plain C11, the reference. vec_<isa>.h offer the same names over
 * wider registers, and the files activations.h and vector.h beside this one are written once over them.
 *
 * Types: vf float32, vi int32 (wrapping), vm a mask. Rules every version keeps, so that all give the same bits:
 *   vf_min(a, b) is a < b ? a : b and vf_max(a, b) is a > b ? a : b: the second operand where either is NaN,
 *   as x86 does. vf_rint rounds ties to even. vi_from_f takes integers in int32's range. No operation fuses
 *   a multiply and an add. *_n(p, n) touch the first n lanes only, 0 < n < V_LANES; missing lanes load as 0.
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

/* Comparisons and choices. vf_unordered: a or b is NaN. vf_select: mask ? a : b. */
static inline vm vf_lt(vf a, vf b) { return a < b; }
static inline vm vf_unordered(vf a, vf b) { return a != a || b != b; }
static inline vf vf_select(vm mask, vf a, vf b) { return mask ? a : b; }
static inline vm vm_or(vm a, vm b) { return a || b; }
static inline bool vm_any(vm a) { return a; }

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
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
static inline vi vi_xor(vi a, vi b) { return a ^ b; }
#define VI_SHL(a, bits) ((vi)((uint32_t)(a) << (bits)))
/* Arithmetic shift; every compiler that is supported does it so for a negative number. */
#define VI_SHR(a, bits) ((vi)((a) >> (bits)))

/* Conversions. vf_from_i rounds ties to even. */
static inline vf vf_from_i(vi a) { return (float)a; }
static inline vi vi_from_f(vf a) { return (int32_t)a; }

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

/* Over the lanes; no lane is NaN. */
static inline float vf_reduce_min(vf a) { return a; }
static inline float vf_reduce_max(vf a) { return a; }

#endif
