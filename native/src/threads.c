/*
 * The built-in pool.
 *
 * It starts when first needed. Each worker owns a slot with one atomic state:
 *   IDLE -> ASSIGNED (the caller, new job) -> RUNNING (the worker took it) -> IDLE (the worker, done)
 * A caller that has run out of tasks takes back what is still ASSIGNED, so it never waits for a worker that
 * has not woken up. A worker without a job spins for a while, then sleeps. One caller at a time has the pool;
 * another one meanwhile works alone. A forked child starts with an empty pool.
 */

#include "threads.h"

#include "status.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---- Floating-point environment ---- */

#if defined(__x86_64__)
typedef unsigned int fp_state;
static fp_state fp_enter(void) {
  const unsigned int old = _mm_getcsr();
  if ((old & 0xffc0u) != 0x1f80u) { /* exceptions masked, ties to even, no flush to zero */
    _mm_setcsr(0x1f80u);
  }
  return old;
}
static void fp_leave(fp_state old) {
  if ((old & 0xffc0u) != 0x1f80u) {
    _mm_setcsr(old);
  }
}
#elif defined(__aarch64__)
typedef uint64_t fp_state;
static fp_state fp_enter(void) {
  fp_state old;
  __asm__ volatile("mrs %0, fpcr" : "=r"(old));
  if (old != 0) {
    __asm__ volatile("msr fpcr, %0" : : "r"((fp_state)0));
  }
  return old;
}
static void fp_leave(fp_state old) {
  if (old != 0) {
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
  }
}
#else
#include <fenv.h>
typedef fenv_t fp_state;
static fp_state fp_enter(void) {
  fenv_t old;
  (void)fegetenv(&old);
  (void)fesetenv(FE_DFL_ENV);
  return old;
}
static void fp_leave(fp_state old) { (void)fesetenv(&old); }
#endif

/* ---- One job ---- */

typedef struct job {
  void (*task)(void *arg, size_t index);
  void *arg;
  size_t count;
  _Atomic size_t next;
} job;

static void job_work(job *j) {
  const fp_state fp = fp_enter();
  for (size_t i = atomic_fetch_add(&j->next, 1); i < j->count; i = atomic_fetch_add(&j->next, 1)) {
    j->task(j->arg, i);
  }
  fp_leave(fp);
}

static void job_task(void *arg, size_t index) {
  const job *j = arg;
  const fp_state fp = fp_enter();
  j->task(j->arg, index);
  fp_leave(fp);
}

/* ---- Workers ---- */

enum { IDLE, ASSIGNED, RUNNING, STOPPED };
enum { SPINS = 1000 }; /* 10 to 50 µs: a pause takes some 40 cycles or, on Intel since Skylake, 140 */

typedef struct worker {
  _Alignas(64) _Atomic int state;
  _Atomic bool asleep;
  job *job; /* written by the caller before ASSIGNED */
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
} worker;

static struct {
  pthread_mutex_t mutex; /* held by the caller that has the pool */
  size_t started;
  worker workers[DYNQ_MAX_THREADS - 1];
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void relax(void) {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static bool has_work(worker *w) {
  const int state = atomic_load(&w->state);
  return state == ASSIGNED || state == STOPPED;
}

static void wait_for_work(worker *w) {
  for (int i = 0; i < SPINS; i++) {
    if (has_work(w)) {
      return;
    }
    relax();
  }
  (void)pthread_mutex_lock(&w->mutex);
  atomic_store(&w->asleep, true);
  while (!has_work(w)) {
    (void)pthread_cond_wait(&w->wake, &w->mutex);
  }
  atomic_store(&w->asleep, false);
  (void)pthread_mutex_unlock(&w->mutex);
}

static void *worker_main(void *arg) {
  worker *w = arg;
  for (;;) {
    wait_for_work(w);
    int expected = ASSIGNED;
    if (atomic_compare_exchange_strong(&w->state, &expected, RUNNING)) {
      job_work(w->job);
      atomic_store(&w->state, IDLE);
    } else if (expected == STOPPED) {
      return NULL;
    }
  }
}

/* Sets the state and wakes the worker where it sleeps. */
static void hand_over(worker *w, int state) {
  atomic_store(&w->state, state);
  if (atomic_load(&w->asleep)) {
    (void)pthread_mutex_lock(&w->mutex);
    (void)pthread_cond_signal(&w->wake);
    (void)pthread_mutex_unlock(&w->mutex);
  }
}

static void forget_workers(void) { /* in a forked child: none of them came along */
  pool.started = 0;
  (void)pthread_mutex_init(&pool.mutex, NULL);
}

static void register_fork_handler(void) { (void)pthread_atfork(NULL, NULL, forget_workers); }

/* Up to `count` workers; fewer where the system gives no more threads. */
static size_t start_workers(size_t count) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, register_fork_handler);
  while (pool.started < count) {
    worker *w = &pool.workers[pool.started];
    atomic_store(&w->state, IDLE);
    atomic_store(&w->asleep, false);
    (void)pthread_mutex_init(&w->mutex, NULL);
    (void)pthread_cond_init(&w->wake, NULL);
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
      break;
    }
    pool.started++;
  }
  return pool.started < count ? pool.started : count;
}

/* When the library is unloaded no thread may be left in its code. */
__attribute__((destructor)) static void stop_workers(void) {
  if (pthread_mutex_trylock(&pool.mutex) != 0) {
    return;
  }
  for (size_t i = 0; i < pool.started; i++) {
    hand_over(&pool.workers[i], STOPPED);
    (void)pthread_join(pool.workers[i].thread, NULL);
  }
  pool.started = 0;
  (void)pthread_mutex_unlock(&pool.mutex);
}

static void pool_run(job *j, size_t helpers) {
  helpers = start_workers(helpers);
  for (size_t i = 0; i < helpers; i++) {
    pool.workers[i].job = j;
    hand_over(&pool.workers[i], ASSIGNED);
  }
  job_work(j);
  for (size_t i = 0; i < helpers; i++) {
    int expected = ASSIGNED;
    if (!atomic_compare_exchange_strong(&pool.workers[i].state, &expected, IDLE)) {
      for (size_t spins = 0; atomic_load(&pool.workers[i].state) != IDLE; spins++) {
        if (spins < SPINS) {
          relax();
        } else {
          (void)sched_yield();
        }
      }
    }
  }
}

void dynq_parallel(const dynq_threads *threads, size_t workers, void (*task)(void *arg, size_t index), void *arg,
                   size_t count) {
  job j = {.task = task, .arg = arg, .count = count};
  if (count > 1 && threads != NULL) {
    threads->run(threads->context, job_task, &j, count);
    return;
  }
  size_t helpers = (workers < count ? workers : count);
  helpers = helpers > 1 ? helpers - 1 : 0;
  if (helpers != 0 && pthread_mutex_trylock(&pool.mutex) == 0) {
    pool_run(&j, helpers);
    (void)pthread_mutex_unlock(&pool.mutex);
  } else {
    job_work(&j);
  }
}

/* ---- How many ---- */

static pthread_once_t count_once = PTHREAD_ONCE_INIT;
static size_t count_default; /* 0: DYNQ_NUM_THREADS cannot be understood */
static char count_text[32];
static _Atomic size_t count_chosen; /* 0: count_default */

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
  char path[PATH_MAX + 64], text[64];
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

/* The smallest quota from this process's cgroup up to the root; `limit` where none is smaller. */
static size_t cgroup_limit(size_t limit) {
  FILE *file = fopen("/proc/self/cgroup", "re");
  char line[PATH_MAX];
  if (file == NULL) {
    return limit;
  }
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    const char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) {
      continue;
    }
    *group++ = '\0';
    const bool unified = controllers[1] == '\0';
    if (!unified && strstr(controllers, "cpu") == NULL) {
      continue;
    }
    for (;;) { /* a container often sees its own group as the root: ask each level down to it */
      char folder[PATH_MAX + 24];
      (void)snprintf(folder, sizeof folder, "/sys/fs/cgroup%s%s", unified ? "" : "/cpu", group);
      const size_t cpus = quota_cpus(folder);
      limit = cpus != 0 && cpus < limit ? cpus : limit;
      char *slash = strrchr(group, '/');
      if (slash == NULL) {
        break;
      }
      *slash = '\0';
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
  const size_t limit = cgroup_limit(affinity_limit());
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

dynq_status dynq_threads_count(const dynq_threads *threads, size_t *count) {
  if (threads != NULL) {
    if (threads->run == NULL || threads->count == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "threads: run is NULL or count is 0");
    }
    *count = threads->count;
    return DYNQ_OK;
  }
  *count = atomic_load(&count_chosen);
  if (*count != 0) {
    return DYNQ_OK;
  }
  (void)pthread_once(&count_once, count_initialize);
  *count = count_default;
  if (*count == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "DYNQ_NUM_THREADS is '%s'; expected a number from 1 to %d",
                     count_text, DYNQ_MAX_THREADS);
  }
  return DYNQ_OK;
}
