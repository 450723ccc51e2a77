/*
 * The loops of loops.h for one instruction set: compiled for each with its own flags, as DYNQ_BENCH_LOOPS, which CMake
 * gives a name for each.
 *
 * The vectors are as wide as the instruction set's: GCC's and Clang's own, for which __BIGGEST_ALIGNMENT__ tells the
 * width, or those of SVE, whose width the CPU tells. Four at a time, so that no instruction waits for the last. A length
 * of SVE that is no power of two (48 bytes), of which 1024 bytes are no multiple, is used as far as the next lower one.
 */
#include "loops.h"

#include <stdint.h>

#if defined(__ARM_FEATURE_SVE)
#include <arm_sve.h>
typedef svuint64_t vec;
#define LANES svcntd_pat(SV_POW2)
#define USED svptrue_pat_b64(SV_POW2)
#define LOAD(p) svld1_u64(USED, (p))
#define STORE(p, v) svst1_u64(USED, (p), (v))
#define XOR(a, b) sveor_u64_x(USED, (a), (b))
#else
typedef uint64_t vec __attribute__((vector_size(__BIGGEST_ALIGNMENT__), may_alias));
#define LANES (sizeof(vec) / sizeof(uint64_t))
#define LOAD(p) (*(const vec *)(const void *)(p))
#define STORE(p, v) (*(vec *)(void *)(p) = (v))
#define XOR(a, b) ((a) ^ (b))
#endif

/* Each time anew: what was read or written before cannot be known. */
#define FORGET() __asm__ volatile("" : : : "memory")

static void read_loop(size_t bytes, size_t times, const void *in, void *out) {
  const uint64_t *p = in;
  uint64_t used[2048 / 64];
  vec a = LOAD(p), b = a, c = a, d = a;
  (void)out;
  while (times-- > 0) {
    FORGET();
    for (size_t i = 0; i < bytes / sizeof *p; i += 4 * LANES) {
      a = XOR(a, LOAD(p + i));
      b = XOR(b, LOAD(p + i + LANES));
      c = XOR(c, LOAD(p + i + 2 * LANES));
      d = XOR(d, LOAD(p + i + 3 * LANES));
    }
  }
  const vec all = XOR(XOR(a, b), XOR(c, d));
  STORE(used, all);
  __asm__ volatile("" : : "r"(used) : "memory"); /* or else there were no need to read */
}

static void narrow_loop(size_t bytes, size_t times, const void *in, void *out) {
  const uint64_t *p = in;
  uint64_t *q = out;
  while (times-- > 0) {
    FORGET();
    for (size_t i = 0, o = 0; i < bytes / sizeof *p; i += 4 * LANES, o += LANES) {
      const vec a = XOR(LOAD(p + i), LOAD(p + i + LANES)), b = XOR(LOAD(p + i + 2 * LANES), LOAD(p + i + 3 * LANES));
      STORE(q + o, XOR(a, b));
    }
  }
}

static void widen_loop(size_t bytes, size_t times, const void *in, void *out) {
  const uint64_t *p = in;
  uint64_t *q = out;
  while (times-- > 0) {
    FORGET();
    for (size_t i = 0, o = 0; o < bytes / sizeof *q; i += LANES, o += 4 * LANES) {
      const vec v = LOAD(p + i);
      STORE(q + o, v);
      STORE(q + o + LANES, v);
      STORE(q + o + 2 * LANES, v);
      STORE(q + o + 3 * LANES, v);
    }
  }
}

static void copy_loop(size_t bytes, size_t times, const void *in, void *out) {
  const uint64_t *p = in;
  uint64_t *q = out;
  while (times-- > 0) {
    FORGET();
    const vec flip = LOAD(p); /* as it is, a compiler would call memcpy */
    for (size_t i = 0; i < bytes / sizeof *p; i += 4 * LANES) {
      const vec a = LOAD(p + i), b = LOAD(p + i + LANES), c = LOAD(p + i + 2 * LANES), d = LOAD(p + i + 3 * LANES);
      STORE(q + i, XOR(a, flip));
      STORE(q + i + LANES, XOR(b, flip));
      STORE(q + i + 2 * LANES, XOR(c, flip));
      STORE(q + i + 3 * LANES, XOR(d, flip));
    }
  }
}

extern bench_loop *const DYNQ_BENCH_LOOPS[BENCH_MIXES];
bench_loop *const DYNQ_BENCH_LOOPS[BENCH_MIXES] = {read_loop, narrow_loop, widen_loop, copy_loop};
