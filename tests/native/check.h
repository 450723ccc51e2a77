/*
 * The harness of the C checks: seeded random numbers, guarded buffers, comparisons that say what differs, and a
 * handler that names the kernel that crashed. In the manner of dav1d's checkasm.
 *
 * A program calls check_start, then for each promise check_begin ... check_end, and returns check_finish().
 * Failures are counted and printed; nothing here ends the program but a crash.
 */
#ifndef CHECK_H
#define CHECK_H

#include "dynq/dynq.h"

#include <stdbool.h>

/* 1 under the address or the thread sanitizer: GCC defines __SANITIZE_*, Clang has __has_feature. */
#if !defined(__has_feature)
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define CHECK_TSAN 1
#else
#define CHECK_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define CHECK_ASAN 1
#else
#define CHECK_ASAN 0
#endif

/* ---- The run ---- */

/* Refuses options that no check has (exit status 2). Reads --seed from the arguments (else takes the time) and installs the handlers. --readable-guards: a read outside a
 * guarded buffer goes unseen, for QEMU, which reads the whole register for AVX's masked loads. */
void check_start(int argc, char **argv);
/* The argument after `name`, or NULL; whether `name` is there at all. */
const char *check_argument(int argc, char **argv, const char *name);
bool check_flag(int argc, char **argv, const char *name);
/* One line of the report. `isa` may be "". The random numbers begin anew, from the seed and `kernel` alone, so
 * that every ISA sees the same values. */
void check_begin(const char *isa, const char *kernel);
void check_end(void);
/* Prints "N passed, M failed"; the program's exit status. */
int check_finish(void);
/* Counts a case and describes it for messages. */
void check_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Reports a failure of the case. */
void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      check_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                                 \
    }                                                                                                                  \
  } while (0)
/* The call returns `expected`. */
#define CHECK_STATUS(expected, call) check_status(__FILE__, __LINE__, #call, (expected), (call), "")
/* The call returns DYNQ_ERROR_INVALID_ARGUMENT with a message that names `argument`. */
#define CHECK_REFUSED(argument, call)                                                                                  \
  check_status(__FILE__, __LINE__, #call, DYNQ_ERROR_INVALID_ARGUMENT, (call), (argument))
void check_status(const char *file, int line, const char *call, dynq_status expected, dynq_status got,
                  const char *named);

/* A line of the report that fails for each name of `expected` (spaces between) that cannot run here. */
void check_expected_isas(const char *expected);

typedef enum check_type { CHECK_F32, CHECK_S32, CHECK_BYTES } check_type;
/* The same bits; says where they first differ and in how many places. */
void check_same(const char *what, check_type type, const void *expected, const void *got, size_t count);

/* ---- Random numbers (splitmix64) ---- */

uint64_t check_random(void);
size_t random_below(size_t n);                  /* [0, n) */
size_t random_between(size_t low, size_t high); /* [low, high] */
float random_unit(void);                        /* [-1, 1] */
float random_finite(void);                      /* any finite bits */
float float_of_bits(uint32_t bits);
uint32_t bits_of_float(float x);

/* Finite values of one adversarial kind. */
typedef enum fill {
  FILL_UNIT,
  FILL_ZEROS, /* 0 and -0 */
  FILL_DENORMAL,
  FILL_HUGE, /* near FLT_MAX, both signs */
  FILL_OUTLIER,
  FILL_POSITIVE,
  FILL_NEGATIVE,
  FILL_CONSTANT,
  FILL_INTEGERS, /* and halves: ties */
  FILL_BITS,
  FILL_KINDS
} fill;
void fill_f32(fill kind, float *x, size_t n);
const char *fill_name(fill kind);
/* Bytes: all 255 (-1 as int8), all 127, all -128, sparse, or random. */
enum { BYTES_RANDOM, BYTES_255, BYTES_127, BYTES_NEGATIVE_128, BYTES_EXTREMES, BYTES_SPARSE, BYTES_KINDS };
void fill_bytes(int kind, void *p, size_t n);

/* ---- Guarded buffers ---- */

/* `bytes` bytes at a multiple of `align` and mostly at no multiple of more, filled with a pattern. Most end at
 * an unreadable page, or as near as `align` lets them; some begin after one. Canaries fill the space around. At
 * most 63 MB and 32 at a time. Valid until guards_release. */
void *guarded(size_t bytes, size_t align);
float *guarded_f32(size_t n);
int32_t *guarded_s32(size_t n);
/* The same with values in [-limit, limit]. */
int32_t *random_s32(size_t n, int32_t limit);
/* Checks all canaries. */
void guards_check(void);
/* Checks all canaries, then gives all buffers back. */
void guards_release(void);
/* The same for the buffers made after guards_mark() returned `mark`. */
size_t guards_mark(void);
void guards_release_to(size_t mark);

#endif
