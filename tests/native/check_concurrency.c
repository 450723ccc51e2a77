/*
 * Calls from several threads, from forked children, and under the caller's own floating-point environment: the same
 * bits each time, and no hang.
 */
#include "check_api.h"

#include "base/threads.h"

#include <dirent.h>
#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* A linear that is split among threads, with what it gives on one. */
/* Worth two threads with every instruction set (gemm/gemm.c). */
enum { M = 32, N = 512, K = 512, CALLERS = 8, CALLS = 20, FORKS = 200 };
static float x[M * K], w[N * K], expected[M * N];
static dynq_weight *weight;

static dynq_status linear(const dynq_threads *threads, float *y) {
  return dynq_linear_f32(weight, M, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, threads, y, N);
}

/* The call gives what it gives on one thread. Reports nothing, so any thread and child may ask. */
static bool linear_is_right(void) {
  float y[M * N];
  memset(y, 0, sizeof y);
  return linear(NULL, y) == DYNQ_OK && memcmp(y, expected, sizeof y) == 0;
}

static void prepare(void) {
  fill_f32(FILL_UNIT, x, M * K);
  fill_f32(FILL_UNIT, w, N * K);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(1));
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(N, K, w, K, 1, NULL, &weight));
  CHECK_STATUS(DYNQ_OK, linear(NULL, expected));
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(4));
}

/* ---- Threads ---- */

static _Atomic size_t wrong;
static _Atomic bool stop;

static void *call_often(void *arg) {
  (void)arg;
  for (int i = 0; i < CALLS; i++) {
    if (!linear_is_right()) {
      atomic_fetch_add(&wrong, 1);
    }
    if (dynq_minmax_f32(M, K, NULL, K, DYNQ_PER_ROW, NULL, expected, expected) != DYNQ_ERROR_INVALID_ARGUMENT ||
        strstr(dynq_last_error(), "x") == NULL) { /* messages are the thread's own */
      atomic_fetch_add(&wrong, 1);
    }
  }
  return NULL;
}

static void *call_until_stopped(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    if (!linear_is_right()) {
      atomic_fetch_add(&wrong, 1);
    }
  }
  return NULL;
}

static void *change_count(void *arg) {
  (void)arg;
  for (size_t i = 0; !atomic_load(&stop); i++) {
    size_t count;
    if (dynq_set_num_threads(i % 6) != DYNQ_OK || dynq_get_num_threads(&count) != DYNQ_OK || count == 0) {
      atomic_fetch_add(&wrong, 1);
    }
    (void)usleep(50);
  }
  return NULL;
}

static void check_threads(void) {
  pthread_t callers[CALLERS], changer;
  check_begin("", "threads call at once");
  atomic_store(&wrong, 0);
  atomic_store(&stop, false);
  for (int changing = 0; changing < 2; changing++) {
    check_case("%d threads, %s", CALLERS, changing ? "the number of threads changes" : "4 threads in the pool");
    if (changing) {
      CHECK(pthread_create(&changer, NULL, change_count, NULL) == 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
      CHECK(pthread_create(&callers[i], NULL, call_often, NULL) == 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
      CHECK(pthread_join(callers[i], NULL) == 0);
    }
  }
  atomic_store(&stop, true);
  CHECK(pthread_join(changer, NULL) == 0);
  CHECK(atomic_load(&wrong) == 0);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(4));
  check_end();
}

/* ---- The pool ---- */

enum { MOST_TASKS = 40 };

static void count_task(void *arg, size_t index) {
  _Atomic int *times = arg;
  atomic_fetch_add(&times[index], 1);
}

/* Checks that each task runs once, whether a worker wakes in time or the caller takes its task back. */
static void check_tasks(void) {
  check_begin("", "each task runs once");
  for (size_t repeat = 0; repeat < (CHECK_TSAN ? 200 : 2000); repeat++) {
    const size_t workers = random_between(1, 6), count = random_below(MOST_TASKS);
    _Atomic int times[MOST_TASKS];
    for (size_t i = 0; i < MOST_TASKS; i++) {
      atomic_init(&times[i], 0);
    }
    check_case("%zu workers, %zu tasks", workers, count);
    dynq_parallel(NULL, workers, count_task, times, count);
    for (size_t i = 0; i < MOST_TASKS; i++) {
      CHECK(atomic_load(&times[i]) == (i < count ? 1 : 0));
    }
  }
  check_end();
}

/* ---- Forks ---- */

static size_t threads_of_this_process(void) {
  size_t count = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (const struct dirent *entry = NULL; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
    count += entry->d_name[0] != '.';
  }
  if (tasks != NULL) {
    (void)closedir(tasks);
  }
  return count;
}

/* A child calls twice, has threads of its own, and ends as a program does, the library's cleaning up included; a
 * hang ends it after 20 s. */
static bool child_is_right(void) {
  (void)fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    (void)alarm(20);
    const bool right = linear_is_right() && linear_is_right() && threads_of_this_process() > 1;
    if (CHECK_ASAN) {
      _exit(right ? 0 : 1); /* its search for leaks trips over the child's threads */
    }
    exit(right ? 0 : 1);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void check_forks(void) {
  check_begin("", "forked children call");
  if (CHECK_TSAN) {
    printf("skipped: forked children call (the thread sanitizer does not follow a fork of threads)\n");
    check_end();
    return;
  }
  check_case("after the pool was used");
  CHECK(linear_is_right());
  CHECK(child_is_right());
  CHECK(linear_is_right()); /* the parent's pool goes on */
  if (CHECK_ASAN) {
    printf("skipped: a fork while another thread is in the pool (the child waits for the sanitizer's own allocator)\n");
    check_end();
    return;
  }
  pthread_t caller;
  atomic_store(&stop, false);
  atomic_store(&wrong, 0);
  CHECK(pthread_create(&caller, NULL, call_until_stopped, NULL) == 0);
  for (int i = 0; i < FORKS; i++) {
    check_case("while another thread is in the pool, fork %d", i);
    CHECK(child_is_right());
  }
  atomic_store(&stop, true);
  CHECK(pthread_join(caller, NULL) == 0);
  CHECK(atomic_load(&wrong) == 0);
  check_end();
}

/* ---- The caller's floating-point environment ---- */

#if defined(__x86_64__)

/* Results of all functions for small and large values, as bytes. */
typedef struct results {
  float lo[4], hi[4], scale[4], tensor_lo, tensor_hi, tensor_scale, back[4 * 64], y[4 * 16], y_tensor[4 * 16];
  float y_matmul[4 * 16], w_back[16 * 64], chosen_scale[4];
  int32_t zero_point[4], tensor_zero_point, chosen_zero_point[4];
  uint8_t q[4 * 64], q_tensor[4 * 64], q_given[4 * 64];
  dynq_status status[12];
} results;

static void run_everything(const float *values, const float *weights, results *r) {
  static const float given_scale[4] = {FLT_TRUE_MIN, 0x1p-130f, 1e-3f, 1e30f};
  static const int8_t w8[16 * 64] = {1, -2, 3};
  static float w8_scale[16];
  static const float bias[16] = {FLT_TRUE_MIN, -0x1p-140f, 1.0f};
  const dynq_epilogue e = {.bias = bias, .activation = DYNQ_ACTIVATION_NONE};
  dynq_weight *packed = NULL, *packed_s8 = NULL;
  memset(r, 0, sizeof *r);
  for (size_t i = 0; i < 16; i++) {
    w8_scale[i] = i % 2 != 0 ? 0x1p-135f : 1.0f;
  }
  dynq_status *s = r->status;
  s[0] = dynq_minmax_f32(4, 64, values, 64, DYNQ_PER_ROW, NULL, r->lo, r->hi);
  s[1] = dynq_minmax_f32(4, 64, values, 64, DYNQ_PER_TENSOR, NULL, &r->tensor_lo, &r->tensor_hi);
  s[2] = dynq_quantize_dynamic_f32(4, 64, values, 64, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, NULL, r->q, 64, r->scale,
                                   r->zero_point);
  s[3] = dynq_quantize_dynamic_f32(4, 64, values, 64, DYNQ_SYMMETRIC, DYNQ_PER_TENSOR, DYNQ_S8, NULL, r->q_tensor, 64,
                                   &r->tensor_scale, &r->tensor_zero_point);
  s[4] = dynq_quantize_f32(4, 64, values, 64, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, given_scale, r->zero_point, NULL,
                           r->q_given, 64);
  s[5] = dynq_dequantize_f32(4, 64, r->q, 64, DYNQ_PER_ROW, DYNQ_U8, given_scale, r->zero_point, NULL, r->back, 64);
  s[6] = dynq_weight_pack_f32(16, 64, weights, 64, 1, NULL, &packed);
  s[7] = dynq_weight_pack_s8(16, 64, w8, DYNQ_S8, 64, 1, w8_scale, NULL, NULL, &packed_s8);
  if (packed != NULL && packed_s8 != NULL) {
    s[8] = dynq_linear_f32(packed, 4, values, 64, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, &e, NULL, r->y, 16);
    s[9] = dynq_linear_f32(packed_s8, 4, values, 64, DYNQ_ASYMMETRIC, DYNQ_PER_TENSOR, &e, NULL, r->y_tensor, 16);
    (void)dynq_weight_dequantize_f32(packed, NULL, r->w_back, 64);
  }
  s[10] = dynq_matmul_f32(1, 4, 16, 64, values, 0, 64, weights, 0, 1, 64, DYNQ_SYMMETRIC, DYNQ_PER_TENSOR, NULL,
                          r->y_matmul, 0, 16);
  s[11] = dynq_choose_qparams(4, r->lo, r->hi, DYNQ_ASYMMETRIC, DYNQ_U8, r->chosen_scale, r->chosen_zero_point);
  dynq_weight_free(packed);
  dynq_weight_free(packed_s8);
}

static void check_environment(void) {
  enum { FTZ_DAZ = 0x8040, ROUND_UP = 0x4000, ROUND_TO_ZERO = 0x6000 };
  static const unsigned modes[] = {FTZ_DAZ, ROUND_UP, ROUND_TO_ZERO, FTZ_DAZ | ROUND_TO_ZERO};
  static const fill kinds[] = {FILL_DENORMAL, FILL_UNIT, FILL_BITS, FILL_HUGE};
  static float values[4 * 64], weights[16 * 64];
  static results plain, other;
  check_begin("", "floating-point environment");
  for (size_t kind = 0; kind < 4; kind++) {
    fill_f32(kinds[kind], values, sizeof values / sizeof *values);
    fill_f32(kinds[kind], weights, sizeof weights / sizeof *weights);
    run_everything(values, weights, &plain);
    for (size_t i = 0; i < 4; i++) {
      check_case("%s, MXCSR | 0x%x", fill_name(kinds[kind]), modes[i]);
      const unsigned before = _mm_getcsr();
      _mm_setcsr((before & ~0x3fu) | modes[i]);
      run_everything(values, weights, &other);
      const unsigned after = _mm_getcsr();
      _mm_setcsr(before);
      CHECK((after & ~0x3fu) == ((before & ~0x3fu) | modes[i])); /* restored, but for the flags */
#define SAME(type, part)                                                                                               \
  check_same(#part, type, &plain.part, &other.part, sizeof plain.part / ((type) == CHECK_BYTES ? 1 : 4))
      for (size_t j = 0; j < 12; j++) {
        if (plain.status[j] != other.status[j]) {
          check_fail("call %zu: status \"%s\"; expected \"%s\"", j, dynq_status_string(other.status[j]),
                     dynq_status_string(plain.status[j]));
        }
      }
      SAME(CHECK_F32, lo);
      SAME(CHECK_F32, hi);
      SAME(CHECK_F32, tensor_lo);
      SAME(CHECK_F32, tensor_hi);
      SAME(CHECK_F32, scale);
      SAME(CHECK_S32, zero_point);
      SAME(CHECK_F32, tensor_scale);
      SAME(CHECK_S32, tensor_zero_point);
      SAME(CHECK_BYTES, q);
      SAME(CHECK_BYTES, q_tensor);
      SAME(CHECK_BYTES, q_given);
      SAME(CHECK_F32, back);
      SAME(CHECK_F32, y);
      SAME(CHECK_F32, y_tensor);
      SAME(CHECK_F32, y_matmul);
      SAME(CHECK_F32, w_back);
      SAME(CHECK_F32, chosen_scale);
      SAME(CHECK_S32, chosen_zero_point);
#undef SAME
    }
  }
  check_end();
}

#else
static void check_environment(void) { printf("skipped: floating-point environment (x86-64 only)\n"); }
#endif

void check_concurrency(void) {
  prepare();
  if (weight != NULL) {
    check_threads();
    check_tasks();
    check_forks();
  }
  check_environment();
  dynq_weight_free(weight);
}
