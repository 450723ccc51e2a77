/*
 * Runs that would take too much: bytes, which a session limits, and time, which a caller ends.
 */
#include "base/cgroup.h"
#include "base/memory_limit.h"
#include "check_model.h"
#include "model/model.h"

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t clock) {
  struct timespec t;
  (void)clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A moment, by the clock on the wall and by the time that this process had of the CPUs. */
typedef struct moment {
  double wall, cpu;
} moment;

static moment now(void) { return (moment){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)}; }

/* The seconds since then, without those that neighbours had: the lesser by the two clocks. Several threads have more of
 * the CPUs than the wall shows. */
static double since(moment then) {
  const moment end = now();
  const double wall = end.wall - then.wall, cpu = end.cpu - then.cpu;
  return wall < cpu ? wall : cpu;
}

/* ---- Bytes ---- */

enum { TILES = 1 << 20 };

/* x (1) -> Tile to `count` -> ReduceSum: a small file that takes much. `known`: x is a constant. */
static void *tile_image(int64_t count, bool known, size_t *size) {
  plan_writer w = {0};
  const int64_t one = 1;
  const float value = 0.5f;
  const uint32_t x = plan_input(&w, "x", DYNQ_FLOAT32, 1, &one);
  const uint32_t c = plan_constant(&w, "c", DYNQ_FLOAT32, 1, &one, &value);
  const uint32_t repeats = plan_constant(&w, "repeats", DYNQ_INT64, 1, &one, &count);
  const uint32_t tiled = plan_computed(&w, "tiled"), sum = plan_computed(&w, "sum");
  plan_node(&w, "many", "Tile", 2, (const uint32_t[]){known ? c : x, repeats}, 1, &tiled);
  plan_node(&w, "few", "ReduceSum", 1, &tiled, 1, &sum);
  plan_output(&w, "sum", sum);
  return plan_finish(&w, size);
}

static dynq_status run_limited(const dynq_model *model, size_t max_bytes, dynq_session **session) {
  static const float x = 0.5f;
  const dynq_session_options options = {.max_bytes = max_bytes};
  const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 1, (const size_t[]){1}, &x);
  dynq_tensor out;
  CHECK_STATUS(DYNQ_OK, dynq_session_new_with(model, &options, session));
  return dynq_model_run(*session, &in, &out);
}

static void check_tiles(int64_t count, bool known) {
  size_t size, bytes;
  void *image = tile_image(count, known, &size);
  dynq_model *model = open_image(image, size);
  dynq_session *session;
  check_case("%lld elements, %s", (long long)count, known ? "known" : "computed");
  if (count > TILES) {
    const moment begin = now();
    CHECK_STATUS(DYNQ_ERROR_OUT_OF_MEMORY, run_limited(model, 0, &session));
    CHECK(strstr(dynq_last_error(), "'many' (Tile)") != NULL && strstr(dynq_last_error(), "max_bytes") != NULL);
    CHECK(since(begin) < 1.0);
    dynq_session_free(session);
  } else {
    CHECK_STATUS(DYNQ_OK, run_limited(model, 0, &session));
    CHECK_STATUS(DYNQ_OK, dynq_session_arena_bytes(session, &bytes));
    bytes += known ? 4 * TILES + 4 : 0;
    dynq_session_free(session);
    CHECK_STATUS(DYNQ_OK, run_limited(model, bytes, &session));
    dynq_session_free(session);
    CHECK_STATUS(DYNQ_ERROR_OUT_OF_MEMORY, run_limited(model, bytes - 1, &session));
    CHECK(strstr(dynq_last_error(), "bytes") != NULL && strstr(dynq_last_error(), "limit") != NULL);
    dynq_session_free(session);
    CHECK_STATUS(DYNQ_OK, run_limited(model, SIZE_MAX, &session));
    dynq_session_free(session);
  }
  dynq_model_close(model);
  free(image);
}

/* Plans of earlier shapes leave when they would go over the limit; the results stay. */
static void check_many_shapes(void) {
  plan_writer w = {0};
  size_t size;
  const uint32_t n = plan_symbol(&w, "n");
  const uint32_t x = plan_input(&w, "x", DYNQ_FLOAT32, 1, (const int64_t[]){-1 - (int64_t)n});
  const uint32_t shape = plan_computed(&w, "shape"), ones = plan_computed(&w, "ones"), y = plan_computed(&w, "y");
  plan_node(&w, "sizes", "Shape", 1, &x, 1, &shape);
  plan_node(&w, "ones", "ConstantOfShape", 1, &shape, 1, &ones);
  plan_node(&w, "add", "Add", 2, (const uint32_t[]){x, ones}, 1, &y);
  plan_output(&w, "y", y);
  void *image = plan_finish(&w, &size);
  dynq_model *model = open_image(image, size);
  dynq_session *session;
  enum { MOST = 1000 };
  float values[MOST];
  fill_f32(FILL_UNIT, values, MOST);
  const dynq_session_options options = {.max_bytes = 3 * MOST * sizeof(float) + 256};
  CHECK_STATUS(DYNQ_OK, dynq_session_new_with(model, &options, &session));
  for (size_t i = 0; i < 60; i++) {
    const size_t count = MOST - 13 * (i * 7 % 11);
    const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 1, &count, values);
    dynq_tensor out;
    check_case("run %zu", i);
    CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, &out));
    check_same("y", CHECK_F32, values, out.data, count);
    size_t all = 0;
    for (size_t p = 0; p < DYNQ_SHAPE_PLANS && session->plans[p] != NULL; p++) {
      all += session->plans[p]->static_bytes;
    }
    CHECK(all + session->arena_bytes <= options.max_bytes);
  }
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
}

/* Memory that one shape took as an arena is given back where another needs it for values that it computes first. */
static void check_arena_goes(void) {
  plan_writer w = {0};
  size_t size, held = 0;
  const uint32_t n = plan_symbol(&w, "n"), m = plan_symbol(&w, "m");
  const uint32_t x = plan_input(&w, "x", DYNQ_FLOAT32, 1, (const int64_t[]){-1 - (int64_t)n});
  const uint32_t z = plan_input(&w, "z", DYNQ_FLOAT32, 1, (const int64_t[]){-1 - (int64_t)m});
  const uint32_t shape = plan_computed(&w, "shape"), ones = plan_computed(&w, "ones"), y = plan_computed(&w, "y");
  plan_node(&w, "sizes", "Shape", 1, &z, 1, &shape);
  plan_node(&w, "ones", "ConstantOfShape", 1, &shape, 1, &ones);
  plan_node(&w, "sin", "Sin", 1, &x, 1, &y);
  plan_output(&w, "y", y);
  plan_output(&w, "ones", ones);
  void *image = plan_finish(&w, &size);
  dynq_model *model = open_image(image, size);
  dynq_session *session;
  enum { MOST = 1000 };
  static const float values[MOST] = {0.25f};
  const dynq_session_options options = {.max_bytes = 3 * MOST * sizeof(float)};
  CHECK_STATUS(DYNQ_OK, dynq_session_new_with(model, &options, &session));
  for (size_t i = 0; i < 12; i++) { /* x and y alone, z and ones alone, and little of both */
    const size_t counts[2] = {i % 3 == 0 ? MOST : 10 + i, i % 3 == 1 ? MOST : 20 + i};
    const dynq_tensor in[2] = {tensor_of(DYNQ_FLOAT32, 1, &counts[0], values),
                               tensor_of(DYNQ_FLOAT32, 1, &counts[1], values)};
    dynq_tensor out[2];
    check_case("run %zu", i);
    CHECK_STATUS(DYNQ_OK, dynq_model_run(session, in, out));
    CHECK(((const float *)out[0].data)[0] == ((const float *)out[0].data)[0] && out[1].dims[0] == counts[1]);
    held = session->arena_bytes;
    for (size_t p = 0; p < DYNQ_SHAPE_PLANS && session->plans[p] != NULL; p++) {
      held += session->plans[p]->static_bytes;
      CHECK(session->plans[p]->arena_bytes <= session->arena_bytes);
    }
    CHECK(held <= options.max_bytes);
  }
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
}

static void write_text(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  CHECK(file != NULL);
  if (file != NULL) {
    (void)fputs(text, file);
    (void)fclose(file);
  }
}

/* Half of the machine's memory; less of it in a control group. */
static void check_default_limit(void) {
  char folder[] = "/tmp/dynq-limits-XXXXXX", path[PATH_MAX], membership[PATH_MAX];
  check_case("default");
  const size_t machine = dynq_memory_limit(SIZE_MAX);
  CHECK(machine > 0 && machine <= (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 2);
  CHECK(dynq_memory_limit(0) <= (size_t)512 << 20);
  CHECK(mkdtemp(folder) != NULL);
  (void)snprintf(membership, sizeof membership, "%s/membership", folder);
  (void)snprintf(path, sizeof path, "%s/memory.max", folder);
  write_text(membership, "0::/\n");
  CHECK(dynq_cgroup_memory(membership, folder, 1000) == 1000);
  write_text(path, "max\n");
  CHECK(dynq_cgroup_memory(membership, folder, 1000) == 1000);
  write_text(path, "700\n");
  CHECK(dynq_cgroup_memory(membership, folder, 1000) == 700);
  CHECK(dynq_cgroup_memory(membership, folder, 600) == 600);
  (void)unlink(path);
  (void)snprintf(path, sizeof path, "%s/memory", folder);
  CHECK(mkdir(path, 0700) == 0);
  (void)snprintf(path, sizeof path, "%s/memory/memory.limit_in_bytes", folder);
  write_text(path, "800\n");
  write_text(membership, "5:cpu,memory:/\n");
  CHECK(dynq_cgroup_memory(membership, folder, 1000) == 800);
  (void)unlink(path);
  (void)snprintf(path, sizeof path, "%s/memory", folder);
  (void)rmdir(path);
  (void)unlink(membership);
  (void)rmdir(folder);
}

static void check_bytes(void) {
  check_begin("", "limit of bytes");
  for (size_t known = 0; known < 2; known++) {
    check_tiles(TILES, known != 0);
    check_tiles((int64_t)800 << 20, known != 0);
    check_tiles((int64_t)1 << 50, known != 0);
  }
  check_many_shapes();
  check_arena_goes();
  check_default_limit();
  check_end();
}

/* ---- Time ---- */

typedef struct long_model {
  const char *name;
  uint32_t (*add)(plan_writer *w, uint32_t x);
  size_t rank, dims[4];
} long_model;

static uint32_t add_constant(plan_writer *w, const char *name, size_t rank, const int64_t *dims) {
  size_t count = 1;
  for (size_t i = 0; i < rank; i++) {
    count *= (size_t)dims[i];
  }
  float *values = malloc(count * sizeof *values);
  fill_f32(FILL_UNIT, values, count);
  const uint32_t t = plan_constant(w, name, DYNQ_FLOAT32, rank, dims, values);
  free(values);
  return t;
}

static uint32_t add_matmul(plan_writer *w, uint32_t x) {
  const uint32_t b = add_constant(w, "b", 2, (const int64_t[]){1500, 1500}), y = plan_computed(w, "y");
  plan_node(w, "long", "MatMul", 2, (const uint32_t[]){x, b}, 1, &y);
  return y;
}

static uint32_t add_linear(plan_writer *w, uint32_t x) {
  dynq_weight *weight = random_weight(1200, 1200);
  const uint32_t b = plan_weight(w, "b", weight), y = plan_computed(w, "y");
  plan_node(w, "long", "dynq.Linear", 2, (const uint32_t[]){x, b}, 1, &y);
  dynq_weight_free(weight);
  return y;
}

static uint32_t add_conv(plan_writer *w, uint32_t x) {
  const uint32_t b = add_constant(w, "b", 4, (const int64_t[]){128, 32, 5, 5}), y = plan_computed(w, "y");
  plan_node(w, "long", "Conv", 2, (const uint32_t[]){x, b}, 1, &y);
  return y;
}

static uint32_t add_pool(plan_writer *w, uint32_t x) {
  const uint32_t y = plan_computed(w, "y");
  plan_node(w, "long", "AveragePool", 1, &x, 1, &y);
  plan_ints(w, "kernel_shape", 2, (const int64_t[]){301, 301});
  return y;
}

static uint32_t add_lstm(plan_writer *w, uint32_t x) {
  const uint32_t input = add_constant(w, "w", 3, (const int64_t[]){1, 512, 32}),
                 state = add_constant(w, "r", 3, (const int64_t[]){1, 512, 128}), y = plan_computed(w, "y");
  plan_node(w, "long", "LSTM", 3, (const uint32_t[]){x, input, state}, 1, &y);
  plan_int(w, "hidden_size", 128);
  return y;
}

/* Many nodes that are short. */
static uint32_t add_chain(plan_writer *w, uint32_t x) {
  for (size_t i = 0; i < 4000; i++) {
    char name[24], node[24];
    (void)snprintf(name, sizeof name, "value%zu", i);
    (void)snprintf(node, sizeof node, "node%zu", i);
    const uint32_t y = plan_computed(w, name);
    plan_node(w, node, "Sin", 1, &x, 1, &y);
    x = y;
  }
  return x;
}

static const long_model long_models[] = {
    {"MatMul", add_matmul, 2, {1500, 1500}},  {"Linear", add_linear, 2, {6000, 1200}},
    {"Conv", add_conv, 4, {1, 32, 150, 150}}, {"AveragePool", add_pool, 4, {1, 1, 1500, 1500}},
    {"LSTM", add_lstm, 3, {20000, 1, 32}},    {"many nodes", add_chain, 2, {200, 200}},
};

static dynq_model *open_long(const long_model *l, void **image) {
  plan_writer w = {0};
  int64_t dims[4];
  size_t size;
  for (size_t i = 0; i < l->rank; i++) {
    dims[i] = (int64_t)l->dims[i];
  }
  const uint32_t x = plan_input(&w, "x", DYNQ_FLOAT32, l->rank, dims);
  plan_output(&w, "y", l->add(&w, x));
  *image = plan_finish(&w, &size);
  return open_image(*image, size);
}

typedef struct long_run {
  dynq_session *session;
  dynq_tensor in, out;
  dynq_status status;
  _Atomic bool ended;
} long_run;

static void *run_long(void *arg) {
  long_run *r = arg;
  r->status = dynq_model_run(r->session, &r->in, &r->out);
  atomic_store(&r->ended, true);
  return NULL;
}

static int polls_until;
static moment asked;
static double latest;
static int poll_some(void *context) {
  int *count = context;
  asked = now();
  return ++*count >= polls_until;
}

static dynq_session *signalled;
static void on_alarm(int number) {
  (void)number;
  asked = now();
  (void)dynq_session_cancel(signalled);
}

static const double late_milliseconds = 400; /* loose: machines of CI are slow, and sanitizers */

/* Ways to end a run: another thread, poll(), a signal handler. */
static void check_cancel(const long_model *l, size_t way, const float *values) {
  void *image;
  dynq_model *model = open_long(l, &image);
  int polls = 0;
  polls_until = 3;
  const dynq_session_options options = {.poll = way == 1 ? poll_some : NULL, .poll_context = &polls};
  long_run r = {.in = tensor_of(DYNQ_FLOAT32, l->rank, l->dims, values)};
  check_case("%s, way %zu", l->name, way);
  CHECK_STATUS(DYNQ_OK, dynq_session_new_with(model, &options, &r.session));
  CHECK_STATUS(DYNQ_OK, dynq_session_cancel(r.session)); /* of no run: the next one does not know */
  if (way == 0) {
    pthread_t thread;
    (void)pthread_create(&thread, NULL, run_long, &r);
    const struct timespec some = {.tv_nsec = 100000000};
    (void)nanosleep(&some, NULL);
    CHECK(!atomic_load(&r.ended));
    asked = now();
    CHECK_STATUS(DYNQ_OK, dynq_session_cancel(r.session));
    (void)pthread_join(thread, NULL);
  } else {
    const struct itimerval timer = {.it_value = {.tv_usec = 100000}};
    if (way == 2) {
      signalled = r.session;
      (void)signal(SIGALRM, on_alarm);
      (void)setitimer(ITIMER_REAL, &timer, NULL);
    }
    (void)run_long(&r);
    (void)signal(SIGALRM, SIG_DFL);
  }
  const double late = 1e3 * since(asked);
  CHECK(r.status == DYNQ_CANCELLED);
  CHECK(way != 1 || polls == polls_until);
  latest = late > latest ? late : latest;
  if (late > late_milliseconds) {
    check_fail("%s ended %.0f ms after it was asked to", l->name, late);
  }
  dynq_tensor tensor;
  CHECK_STATUS(DYNQ_ERROR_INVALID_ARGUMENT, dynq_session_tensor(r.session, "y", &tensor)); /* it has no results */
  dynq_session_free(r.session);
  dynq_model_close(model);
  free(image);
}

/* After a cancelled run, one that is left alone gives what a new session gives. */
static void check_use_after(void) {
  size_t size;
  void *image = sample_image(&size);
  dynq_model *model = open_image(image, size);
  dynq_session *session;
  int polls = 0;
  const dynq_session_options options = {.poll = poll_some, .poll_context = &polls};
  static const int64_t ids[6] = {1, 2, 3, 4, 5, 6};
  check_case("use after a cancelled run");
  polls_until = 1 << 30; /* never: on a busy machine even this run is asked */
  CHECK_STATUS(DYNQ_OK, dynq_session_new_with(model, &options, &session));
  atomic_store(&session->interrupt.requested, true);
  for (size_t i = 0; i < 3; i++) {
    run_sample(session, 2, 3, ids);
    CHECK_STATUS(DYNQ_OK, dynq_session_cancel(session));
  }
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
}

/* Signals go to the program's own threads: each worker blocks them, but not those that its own instructions cause. */
static void check_signals(void) {
#if defined(__linux__)
  DIR *folder = opendir("/proc/self/task");
  size_t workers = 0;
  check_case("signals of workers");
  for (const struct dirent *entry = folder != NULL ? readdir(folder) : NULL; entry != NULL; entry = readdir(folder)) {
    char path[300], line[200];
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    FILE *file = atoi(entry->d_name) != 0 && atoi(entry->d_name) != getpid() ? fopen(path, "re") : NULL;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
      unsigned long long blocked;
      if (sscanf(line, "SigBlk: %llx", &blocked) == 1) {
        workers++;
        CHECK((blocked >> (SIGINT - 1) & 1) != 0 && (blocked >> (SIGTERM - 1) & 1) != 0 &&
              (blocked >> (SIGPROF - 1) & 1) != 0);
        CHECK(CHECK_TSAN || (blocked >> (SIGILL - 1) & 1) == 0); /* the thread sanitizer's own thread blocks all */
      }
    }
    if (file != NULL) {
      (void)fclose(file);
    }
  }
  if (folder != NULL) {
    (void)closedir(folder);
  }
  CHECK(CHECK_TSAN || CHECK_ASAN || workers != 0);
#endif
}

static void check_time(void) {
  enum { MODELS = sizeof long_models / sizeof long_models[0] };
  size_t most = 0;
  check_begin("", "runs that are cancelled");
  for (size_t i = 0; i < MODELS; i++) {
    size_t count = 1;
    for (size_t d = 0; d < long_models[i].rank; d++) {
      count *= long_models[i].dims[d];
    }
    most = count > most ? count : most;
  }
  float *values = malloc(most * sizeof *values);
  fill_f32(FILL_UNIT, values, most);
  CHECK_STATUS(DYNQ_OK, dynq_isa_select("scalar")); /* slow, so that small models take long */
  for (size_t threads = 1; threads <= 3; threads += 2) {
    CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(threads));
    for (size_t i = 0; i < MODELS; i++) {
      for (size_t way = threads != 1 ? 1 : 0; way < (threads != 1 ? 2 : 3); way++) {
        check_cancel(&long_models[i], way, values);
      }
    }
  }
  check_signals();
  CHECK_STATUS(DYNQ_OK, dynq_isa_select(NULL));
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  check_use_after();
  free(values);
  check_end();
}

void check_model_limits(void) {
  check_bytes();
  check_time();
}
