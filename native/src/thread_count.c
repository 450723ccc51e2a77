/*
 * How many threads the built-in pool uses: what the user says, else what affinity and cgroup allow.
 */
#include "status.h"
#include "threads.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t count_once = PTHREAD_ONCE_INIT;
static size_t count_default; /* 0: DYNQ_NUM_THREADS cannot be understood */
static char count_text[32];
static _Atomic size_t count_chosen;                 /* 0: count_default */
static _Thread_local const dynq_threads *pool_here; /* NULL: the built-in one */
static _Thread_local size_t limit_here;             /* 0: none */

static size_t at_least_one(size_t n) { return n != 0 ? n : 1; }

/* A whole file into `text`; false where it cannot be read. */
static bool read_text(const char *path, char *text, size_t size) {
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return false;
  }
  const size_t got = fread(text, 1, size - 1, file);
  text[got] = '\0';
  (void)fclose(file);
  return got != 0;
}

/* CPUs that one cgroup folder's quota pays for, rounded up; 0 where it sets none. */
static size_t quota_cpus(const char *folder) {
  char path[2 * PATH_MAX + 32], text[64];
  long long quota, period;
  (void)snprintf(path, sizeof path, "%s/cpu.max", folder); /* version 2: "quota period", or "max period" */
  if (read_text(path, text, sizeof text)) {
    return sscanf(text, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0
               ? (size_t)((quota + period - 1) / period)
               : 0;
  }
  (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder); /* version 1: -1 for none */
  if (!read_text(path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1 || quota <= 0) {
    return 0;
  }
  (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
  if (!read_text(path, text, sizeof text) || sscanf(text, "%lld", &period) != 1 || period <= 0) {
    return 0;
  }
  return (size_t)((quota + period - 1) / period);
}

/* Whether the comma-separated `list` names the cpu controller (and not cpuset or cpuacct alone). */
static bool names_cpu(const char *list) {
  for (const char *name = list; name != NULL; name = strchr(name, ',')) {
    name += *name == ',';
    if (strncmp(name, "cpu", 3) == 0 && (name[3] == ',' || name[3] == '\0')) {
      return true;
    }
  }
  return false;
}

/* The smallest quota on the way from `group` up to the root; a container often sees its own group as the root. */
static size_t smallest_quota(const char *root, char *group, size_t limit) {
  for (;;) {
    char folder[2 * PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s%s", root, group);
    const size_t cpus = quota_cpus(folder);
    limit = cpus != 0 && cpus < limit ? cpus : limit;
    char *slash = strrchr(group, '/');
    if (slash == NULL) {
      return limit;
    }
    *slash = '\0';
  }
}

size_t dynq_cgroup_limit(const char *membership, const char *root, size_t limit) {
  FILE *file = fopen(membership, "re");
  char line[PATH_MAX], version_1[PATH_MAX];
  if (file == NULL) {
    return limit;
  }
  (void)snprintf(version_1, sizeof version_1, "%s/cpu", root);
  while (fgets(line, sizeof line, file) != NULL) { /* number:controllers:/group; version 2 has no controllers */
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group != NULL) {
      *group++ = '\0';
      controllers++;
      if (*controllers == '\0') {
        limit = smallest_quota(root, group, limit);
      } else if (names_cpu(controllers)) {
        limit = smallest_quota(version_1, group, limit);
      }
    }
  }
  (void)fclose(file);
  return limit;
}

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

static void count_initialize(void) {
  const char *text = getenv("DYNQ_NUM_THREADS");
  if (text != NULL && text[0] != '\0') {
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    const bool good = text[0] >= '0' && text[0] <= '9' && *end == '\0' && n >= 1 && n <= DYNQ_MAX_THREADS;
    count_default = good ? n : 0;
    (void)snprintf(count_text, sizeof count_text, "%s", text);
    return;
  }
  const size_t limit = dynq_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup", affinity_limit());
  count_default = at_least_one(limit < DYNQ_MAX_THREADS ? limit : DYNQ_MAX_THREADS);
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
