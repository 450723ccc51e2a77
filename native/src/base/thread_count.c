/*
 * The number of threads of the built-in pool: the one that the user says, else as many as affinity and cgroup allow.
 */
#include "cgroup.h"
#include "status.h"
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t count_once = PTHREAD_ONCE_INIT;
static size_t count_default;        /* 0: DYNQ_NUM_THREADS cannot be understood */
static const char *count_from = ""; /* who says so */
static char count_text[32];
static _Atomic size_t count_chosen;                 /* 0: count_default */
static _Thread_local const dynq_threads *pool_here; /* NULL: the built-in one */
static _Thread_local size_t limit_here;             /* 0: none */

static size_t at_least_one(size_t n) { return n != 0 ? n : 1; }
static size_t at_most(size_t n) { return n < DYNQ_MAX_THREADS ? n : DYNQ_MAX_THREADS; }

static size_t affinity_limit(void) {
#if defined(__linux__)
  for (size_t cpus = 1024; cpus <= 65536; cpus *= 2) { /* a set that is too small is refused */
    cpu_set_t *set = CPU_ALLOC(cpus);
    if (set == NULL) {
      break;
    }
    const int got = sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set);
    const int count = got == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set) : 0;
    CPU_FREE(set);
    if (count > 0) {
      return (size_t)count;
    }
  }
#endif
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (size_t)online : 1;
}

/* Returns what OpenMP's variable says of its outermost regions: a number over 0, with spaces around it and perhaps more
 * behind a comma, for regions in regions. 0: it says nothing, or nothing that OpenMP's rules allow. */
static size_t openmp_count(void) {
  const char *text = getenv("OMP_NUM_THREADS");
  if (text == NULL) {
    return 0;
  }
  text += strspn(text, " \t");
  char *end;
  const unsigned long n = strtoul(text, &end, 10); /* of too many digits: ULONG_MAX */
  end += strspn(end, " \t");
  const bool good = text[0] >= '0' && text[0] <= '9' && (*end == '\0' || *end == ',');
  return good ? at_most(n) : 0;
}

static void count_initialize(void) {
  const char *text = getenv("DYNQ_NUM_THREADS");
  if (text != NULL && text[0] != '\0') {
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    const bool good = text[0] >= '0' && text[0] <= '9' && *end == '\0' && n >= 1 && n <= DYNQ_MAX_THREADS;
    count_default = good ? n : 0;
    count_from = "DYNQ_NUM_THREADS";
    (void)snprintf(count_text, sizeof count_text, "%s", text);
    return;
  }
  count_default = openmp_count();
  count_from = "OMP_NUM_THREADS";
  if (count_default == 0) {
    const size_t affinity = affinity_limit();
    const size_t limit = dynq_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup", affinity);
    count_default = at_least_one(at_most(limit));
    count_from = limit < affinity ? "cgroup" : "affinity";
  }
}

dynq_status dynq_set_num_threads(size_t count) {
  if (count > DYNQ_MAX_THREADS) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "count is %zu; expected at most %d", count, DYNQ_MAX_THREADS);
  }
  atomic_store(&count_chosen, count);
  return DYNQ_OK;
}

dynq_status dynq_get_num_threads(size_t *count) {
  if (count == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "count is NULL");
  }
  return dynq_threads_count(NULL, count);
}

const char *dynq_num_threads_from(void) {
  (void)pthread_once(&count_once, count_initialize);
  return atomic_load(&count_chosen) != 0 ? "program" : count_from;
}

void dynq_threads_here(const dynq_threads *pool, size_t limit) {
  pool_here = pool;
  limit_here = limit;
}

const dynq_threads *dynq_threads_default(void) { return pool_here; }

static size_t limited(size_t count) { return limit_here != 0 && limit_here < count ? limit_here : count; }

dynq_status dynq_threads_count(const dynq_threads *threads, size_t *count) {
  if (threads != NULL) {
    if (threads->run == NULL || threads->count == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "threads: run is NULL or count is 0");
    }
    *count = threads->count;
    return DYNQ_OK;
  }
  *count = limited(atomic_load(&count_chosen));
  if (*count != 0) {
    return DYNQ_OK;
  }
  (void)pthread_once(&count_once, count_initialize);
  *count = limited(count_default);
  if (*count == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "DYNQ_NUM_THREADS is '%s'; expected a number from 1 to %d",
                     count_text, DYNQ_MAX_THREADS);
  }
  return DYNQ_OK;
}
