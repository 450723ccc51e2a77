/*
 * Four rows by four columns transposed, in xmm registers; included by the vec_<isa>.h of x86.
 */
#ifndef DYNQ_TRANSPOSE_X86_H
#define DYNQ_TRANSPOSE_X86_H

static inline void v_transpose4(const float *from, size_t stride, float *to) {
  const __m128 r0 = _mm_loadu_ps(from), r1 = _mm_loadu_ps(from + stride);
  const __m128 r2 = _mm_loadu_ps(from + 2 * stride), r3 = _mm_loadu_ps(from + 3 * stride);
  const __m128 a = _mm_unpacklo_ps(r0, r2), b = _mm_unpackhi_ps(r0, r2);
  const __m128 c = _mm_unpacklo_ps(r1, r3), d = _mm_unpackhi_ps(r1, r3);
  _mm_storeu_ps(to, _mm_unpacklo_ps(a, c));
  _mm_storeu_ps(to + 16, _mm_unpackhi_ps(a, c));
  _mm_storeu_ps(to + 32, _mm_unpacklo_ps(b, d));
  _mm_storeu_ps(to + 48, _mm_unpackhi_ps(b, d));
}

#endif
