/*
 * Parts that the fuzzers share. Each has one LLVMFuzzerTestOneInput() and runs under libFuzzer or driver.c.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct fuzz_bytes {
  uint8_t *p;
  size_t size;
} fuzz_bytes;

/* ---- Of each fuzzer ---- */

/* Runs one input. Returns 0, as libFuzzer asks. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char fuzz_name[];
/* A random input, or one made from a file if that is not NULL. For free(). */
uint8_t *fuzz_make(uint64_t *state, const fuzz_bytes *file, size_t *size);
/* Says what is under way, for the message of a crash. */
extern char fuzz_doing[256];
/* Prints how far the inputs came: a fuzzer that never gets far finds nothing. */
void fuzz_summary(void);
/* Prints more of it. */
void fuzz_report(void);

/* ---- Of some ---- */

/* A random .dynq file: a few nodes of any op over inputs, constants and packed weights. For free(). */
void *generate_model(uint64_t *state, size_t *size);
/* Changes some bytes, most of them in the plan. */
void fuzz_damage(uint64_t *state, uint8_t *image, size_t size);
/* A copy of a file, aligned to 64 bytes. */
uint8_t *fuzz_copy(const fuzz_bytes *file, size_t *size);
/* `count` random bytes, or a copy of a file with one byte changed. For free(). */
uint8_t *fuzz_any_bytes(uint64_t *state, const fuzz_bytes *file, size_t count, size_t *size);

/* splitmix64 */
static inline uint64_t fuzz_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}
static inline size_t fuzz_below(uint64_t *state, size_t n) { return (size_t)(fuzz_random(state) % n); }

/* ---- Bytes that are read as numbers; zeros follow the last ---- */

typedef struct fuzz_source {
  const uint8_t *p;
  size_t left;
} fuzz_source;

static inline uint8_t fuzz_byte(fuzz_source *s) {
  const uint8_t byte = s->left != 0 ? *s->p : 0;
  s->p += s->left != 0 ? 1 : 0;
  s->left -= s->left != 0 ? 1 : 0;
  return byte;
}

/* Mostly a small size, sometimes a wild one. */
static inline size_t fuzz_size(fuzz_source *s) {
  static const size_t wild[] = {100,           1000,         65536,        (size_t)1 << 31, (size_t)1 << 32,
                                SIZE_MAX / 64, SIZE_MAX / 8, SIZE_MAX - 1, SIZE_MAX};
  const uint8_t byte = fuzz_byte(s);
  return byte < 240 ? byte % 20 : wild[byte % (sizeof wild / sizeof wild[0])];
}

#endif
