/*
 * The floating-point environment that the numerics rule asks for: ties to even, denormals kept, exceptions masked.
 * fp_enter sets it and returns what was there; fp_leave puts that back. The register is written only if it differs.
 */
#ifndef DYNQ_FP_ENVIRONMENT_H
#define DYNQ_FP_ENVIRONMENT_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

#if defined(__x86_64__)
typedef unsigned int fp_state;
static inline fp_state fp_enter(void) {
  const unsigned int old = _mm_getcsr();
  if ((old & 0xffc0u) != 0x1f80u) { /* exceptions masked, ties to even, no flush to zero */
    _mm_setcsr(0x1f80u);
  }
  return old;
}
static inline void fp_leave(fp_state old) {
  if ((old & 0xffc0u) != 0x1f80u) {
    _mm_setcsr(old);
  }
}
#elif defined(__aarch64__)
typedef uint64_t fp_state;
static inline fp_state fp_enter(void) {
  fp_state old;
  __asm__ volatile("mrs %0, fpcr" : "=r"(old));
  if (old != 0) {
    __asm__ volatile("msr fpcr, %0" : : "r"((fp_state)0));
  }
  return old;
}
static inline void fp_leave(fp_state old) {
  if (old != 0) {
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
  }
}
#else
typedef fenv_t fp_state;
static inline fp_state fp_enter(void) {
  fenv_t old;
  (void)fegetenv(&old);
  (void)fesetenv(FE_DFL_ENV);
  return old;
}
static inline void fp_leave(fp_state old) { (void)fesetenv(&old); }
#endif

#endif
