/*
 * The limit of a session's memory.
 */
#include "memory_limit.h"

#include "alloc.h"
#include "cgroup.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

enum { SHARE = 2, EACH = 256 };
static const size_t least = (size_t)512 << 20;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static size_t of_machine;

static void read_machine(void) {
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  const size_t all = pages > 0 && size > 0 ? dynq_size_mul((size_t)pages, (size_t)size) : SIZE_MAX;
  of_machine = dynq_cgroup_memory("/proc/self/cgroup", "/sys/fs/cgroup", all) / SHARE;
}

size_t dynq_memory_limit(size_t given) {
  (void)pthread_once(&once, read_machine);
  const size_t by_size = dynq_size_add(least, dynq_size_mul(given, EACH));
  return by_size < of_machine ? by_size : of_machine;
}
