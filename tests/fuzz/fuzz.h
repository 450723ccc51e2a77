/*
 * What the parts of the fuzzer share.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens the bytes as a model, plans and runs it. Returns 0, as libFuzzer asks. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* How many of them opened, and how many runs went well: a fuzzer that never gets far finds nothing. */
extern unsigned long long fuzz_opened, fuzz_ran;
/* Whether results must be the same everywhere: not for damaged weights, whose column sums need not be theirs, which
 * kernels of signed and unsigned left operands see differently. */
extern bool fuzz_compares;
/* Prints how often each op took part in a run that went well. */
void fuzz_report(void);
/* The ops of the model that runs, for the message of a crash. */
extern char fuzz_ops[256];

/* A random .dynq file: a few nodes of any op over inputs, constants and packed weights. For free(). */
void *generate_model(uint64_t *state, size_t *size);

/* splitmix64 */
static inline uint64_t fuzz_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}
static inline size_t fuzz_below(uint64_t *state, size_t n) { return (size_t)(fuzz_random(state) % n); }

#endif
