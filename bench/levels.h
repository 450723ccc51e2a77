/*
 * The levels of memory, and data for the kernels that fills each.
 */
#ifndef BENCH_LEVELS_H
#define BENCH_LEVELS_H

#include <stddef.h>
#include <stdint.h>

enum { BENCH_L1, BENCH_L2, BENCH_L3, BENCH_MEMORY, BENCH_LEVELS };
/* The fewest bytes that every kernel has work in: a panel of the GEMM, a tile of the epilogue. */
enum { BENCH_LEAST_BYTES = 8192 };

typedef struct bench_levels {
  const char *source;         /* where the sizes of the caches come from */
  size_t cache[BENCH_MEMORY]; /* bytes of the data caches of one core; 0 if there is none */
  size_t bytes[BENCH_LEVELS]; /* what a kernel works on so that it comes from this level, BENCH_LEAST_BYTES or more; 0:
                                 it does not exist here, or is smaller */
} bench_levels;

/* "L1", "L2", "L3", "memory". */
extern const char *const bench_level_names[BENCH_LEVELS];

/* The caches as /sys or sysconf tell, or `given`, such as "48K,2M,260M", where it is not NULL. */
void bench_levels_find(bench_levels *levels, const char *given);
/* Returns 64-byte aligned memory, in huge pages if the system gives them, so that the address translation costs the
 * same in every run. It holds float32 uniform in [-4, 4), whose bytes serve as int8 and int32 as well. Never fails: it
 * ends the program. */
void *bench_data(size_t bytes);

#endif
