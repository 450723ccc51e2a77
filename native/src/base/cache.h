/*
 * Sizes that the machine's caches suggest. Results never depend on it.
 */
#ifndef DYNQ_CACHE_H
#define DYNQ_CACHE_H

#include <stddef.h>

/* Bytes that one thread may keep in its second-level cache beside what streams through it: half of that cache, within
 * 128 KB and 1 MB. */
size_t dynq_cache_share(void);

#endif
