/*
 * The operands of x86's product of pairs of int16, for vi_sub_product (vec_scalar.h); included by the vec_<isa>.h that
 * have it.
 */
#ifndef DYNQ_FACTOR_X86_H
#define DYNQ_FACTOR_X86_H

/* 128 * high + low as two int16: low from 0 to 127, high in the upper half. */
static inline vi vi_factored(vi a) { return vi_or(vi_and(a, vi_set1(127)), VI_SHL(VI_SHR(a, 7), 16)); }
static inline int32_t vi_factor(int32_t factor) {
  return (int32_t)(((uint32_t)-factor & 0xffff) | (uint32_t)(-factor * 128) << 16);
}

#endif
