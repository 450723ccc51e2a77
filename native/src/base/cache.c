/*
 * The size of the second-level cache, asked for once: on x86-64 the C library asks CPUID, which a virtual machine
 * answers in some 50 µs.
 */
#include "cache.h"

#include <pthread.h>
#include <unistd.h>

enum { LEAST = 128 * 1024, MOST = 1024 * 1024, UNKNOWN = 256 * 1024 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static size_t share;

static void initialize(void) {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  const long size = 0;
#endif
  share = size > 0 ? (size_t)size / 2 : UNKNOWN; /* many a board does not tell */
  share = share < LEAST ? LEAST : share > MOST ? MOST : share;
}

size_t dynq_cache_share(void) {
  (void)pthread_once(&once, initialize);
  return share;
}
