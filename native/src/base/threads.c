/*
 * The built-in pool.
 *
 * It starts when first needed. Each worker owns a slot with one atomic state:
 *   IDLE -> ASSIGNED (the caller, new job) -> RUNNING (the worker took it) -> IDLE (the worker, done)
 * Task 0 is the caller's, the next ones are given to the workers in their order, the others go to who comes first. So a
 * thread meets what it has in its cache again if the same call comes again. A caller that has run out of tasks takes
 * back what is still ASSIGNED, so it never waits for a worker that has not woken up. A worker without a job spins for a
 * while, then sleeps. One caller at a time has the pool; another one meanwhile works alone. A forked child starts with
 * an empty pool.
 */

#include "threads.h"
#include "clock.h"

#include "fp_environment.h"
#include "interrupt.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
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
  dynq_interrupt *run; /* that the caller works for; NULL: none */
  _Atomic size_t next;
} job;

/* Task `first`, then those that no thread has been given; none any more once the run is to stop. */
static void job_work(job *j, size_t first) {
  const fp_state fp = fp_enter();
  for (size_t i = first; i < j->count;) {
    j->task(j->arg, i);
    i = atomic_fetch_add(&j->next, 1);
    if (i < j->count && dynq_interrupted()) {
      break;
    }
  }
  fp_leave(fp);
}

/* The same by a thread of the pool. */
static void job_help(job *j, size_t first) {
  const dynq_interrupt_scope scope = dynq_interrupt_enter(dynq_interrupt_join(j->run));
  if (!dynq_interrupted()) {
    job_work(j, first);
  }
  (void)dynq_interrupt_enter(scope);
}

static void job_task(void *arg, size_t index) {
  const job *j = arg;
  const dynq_interrupt_scope scope = dynq_interrupt_enter(dynq_interrupt_join(j->run));
  const fp_state fp = fp_enter();
  if (!dynq_interrupted()) {
    j->task(j->arg, index);
  }
  fp_leave(fp);
  (void)dynq_interrupt_enter(scope);
}

/* ---- Workers ---- */

enum { IDLE, ASSIGNED, RUNNING, STOPPED };
/* The time for which a thread looks for work before it sleeps. To wake it takes 10 to 50 µs, as long as many a layer;
 * between two layers of a model, or two calls of a loop in Python, there is less than this. */
enum { SPIN_NANOSECONDS = 100000, PAUSES = 16 /* between two looks at the clock */ };

typedef struct worker {
  _Alignas(64) _Atomic int state;
  _Atomic bool asleep;
  job *job; /* written by the caller before ASSIGNED, as is ... */
  size_t first;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
} worker;

static struct {
  pthread_mutex_t mutex; /* held by the caller that has the pool */
  size_t started;
  worker workers[DYNQ_MAX_THREADS - 1];
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void dynq_relax(void) {
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
  const uint64_t end = dynq_nanoseconds() + SPIN_NANOSECONDS;
  do {
    for (int i = 0; i < PAUSES; i++) {
      if (has_work(w)) {
        return;
      }
      dynq_relax();
    }
  } while (dynq_nanoseconds() < end);
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
      job_help(w->job, w->first);
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

/* Starts a worker in which signals are blocked: handlers run in the program's own threads, whose calls they interrupt and
 * on whose stacks they rely. Those that an instruction of the worker itself causes stay: if they were blocked, Linux would
 * end the process without asking a handler, such as one that emulates instructions or writes a report. */
static int start_worker(worker *w) {
  static const int own[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};
  sigset_t all, before;
  (void)sigfillset(&all);
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
    (void)sigdelset(&all, own[i]);
  }
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(&w->thread, NULL, worker_main, w);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

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
    if (start_worker(w) != 0) {
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

/* Until a worker that is RUNNING is done. */
static void wait_for(worker *w) {
  const uint64_t end = dynq_nanoseconds() + SPIN_NANOSECONDS;
  while (atomic_load(&w->state) != IDLE) {
    for (int i = 0; i < PAUSES && atomic_load(&w->state) != IDLE; i++) {
      dynq_relax();
    }
    if (dynq_nanoseconds() > end) {
      (void)dynq_interrupted(); /* the worker leaves its task if this thread's poll() says so */
      (void)sched_yield();
    }
  }
}

static void pool_run(job *j, size_t helpers) {
  helpers = start_workers(helpers);
  atomic_init(&j->next, helpers + 1);
  for (size_t i = 0; i < helpers; i++) {
    pool.workers[i].job = j;
    pool.workers[i].first = i + 1;
    hand_over(&pool.workers[i], ASSIGNED);
  }
  job_work(j, 0);
  for (size_t i = 0; i < helpers; i++) {
    int expected = ASSIGNED;
    if (atomic_compare_exchange_strong(&pool.workers[i].state, &expected, IDLE)) {
      job_work(j, i + 1);
    } else {
      wait_for(&pool.workers[i]);
    }
  }
}

void dynq_parallel(const dynq_threads *threads, size_t workers, void (*task)(void *arg, size_t index), void *arg,
                   size_t count) {
  job j = {.task = task, .arg = arg, .count = count};
  threads = threads != NULL ? threads : dynq_threads_default();
  if (count > 1 && threads != NULL) {
    j.run = dynq_interrupt_here().run;
    threads->run(threads->context, job_task, &j, count);
    return;
  }
  size_t helpers = (workers < count ? workers : count);
  helpers = helpers > 1 ? helpers - 1 : 0;
  if (helpers != 0 && pthread_mutex_trylock(&pool.mutex) == 0) {
    j.run = dynq_interrupt_here().run;
    pool_run(&j, helpers);
    (void)pthread_mutex_unlock(&pool.mutex);
  } else {
    atomic_init(&j.next, 1);
    job_work(&j, 0);
  }
}
