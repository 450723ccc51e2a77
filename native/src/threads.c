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

#include "fp_environment.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined(__x86_64__)
#include <immintrin.h>
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
