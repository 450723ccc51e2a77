/*
 * check_model: what the model runtime promises: the same results as the functions it calls, memory that is shared only
 * if nobody notices, nothing allocated after planning, errors that name what is wrong.
 *
 *   check_model [--seed N]
 */
#include "check_model.h"

#include "base/alloc.h"
#include "blocks.h"
#include "model/model.h"
#include "pools.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 50, WIDTH = 40, HIDDEN = 72 };

/* ---- Models ---- */

dynq_weight *random_weight(size_t n, size_t k) {
  float *w = malloc((n * k + 1) * sizeof *w);
  dynq_weight *weight = NULL;
  fill_f32(FILL_UNIT, w, n * k);
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(n, k, w, k, 1, NULL, &weight));
  free(w);
  return weight;
}

dynq_model *open_image(const void *image, size_t size) {
  dynq_model *model = NULL;
  CHECK_STATUS(DYNQ_OK, dynq_model_open_memory(image, size, &model));
  return model;
}

dynq_tensor tensor_of(dynq_dtype dtype, size_t rank, const size_t *dims, const void *data) {
  dynq_tensor t = {.dtype = dtype, .rank = rank, .data = data};
  for (size_t i = 0; i < rank; i++) {
    t.dims[i] = dims[i];
  }
  return t;
}

/* The arrays that sample_image is made of, for the reference. */
static int8_t table[VOCABULARY * WIDTH];
static float table_scale[VOCABULARY], bias[HIDDEN];
static dynq_weight *first, *second;

static void make_sample(void) {
  dynq_weight_free(first);
  dynq_weight_free(second);
  fill_bytes(BYTES_RANDOM, table, sizeof table);
  for (size_t i = 0; i < VOCABULARY; i++) {
    table_scale[i] = 0.01f * (float)(i + 1);
  }
  fill_f32(FILL_UNIT, bias, HIDDEN);
  first = random_weight(HIDDEN, WIDTH);
  second = random_weight(WIDTH, HIDDEN);
}

void *sample_image(size_t *size) {
  plan_writer w = {0};
  if (first == NULL) {
    make_sample();
  }
  const uint32_t batch = plan_symbol(&w, "batch"), length = plan_symbol(&w, "length");
  const uint32_t ids =
      plan_input(&w, "ids", DYNQ_INT64, 2, (const int64_t[]){-1 - (int64_t)batch, -1 - (int64_t)length});
  const uint32_t rows = plan_constant(&w, "rows", DYNQ_INT8, 2, (const int64_t[]){VOCABULARY, WIDTH}, table);
  const uint32_t scale = plan_constant(&w, "scale", DYNQ_FLOAT32, 1, (const int64_t[]){VOCABULARY}, table_scale);
  const uint32_t first_bias = plan_constant(&w, "first.bias", DYNQ_FLOAT32, 1, (const int64_t[]){HIDDEN}, bias);
  const uint32_t up = plan_weight(&w, "first.weight", first), down = plan_weight(&w, "second.weight", second);
  const uint32_t shape = plan_constant(&w, "flat", DYNQ_INT64, 1, (const int64_t[]){2}, (const int64_t[]){-1, WIDTH});
  const uint32_t x = plan_computed(&w, "x"), h = plan_computed(&w, "h"), y = plan_computed(&w, "y"),
                 z = plan_computed(&w, "z"), s = plan_computed(&w, "s");
  plan_node(&w, "embed", "dynq.Embedding", 3, (const uint32_t[]){rows, scale, ids}, 1, &x);
  plan_node(&w, "up", "dynq.Linear", 3, (const uint32_t[]){x, up, first_bias}, 1, &h);
  plan_string(&w, "activation", "gelu");
  plan_string(&w, "scheme", "symmetric");
  plan_node(&w, "down", "dynq.Linear", 4, (const uint32_t[]){h, down, PLAN_NONE, x}, 1, &y);
  plan_float(&w, "min", -1.0f);
  plan_float(&w, "max", 6.0f);
  plan_node(&w, "flatten", "Reshape", 2, (const uint32_t[]){y, shape}, 1, &z);
  plan_node(&w, "sizes", "Shape", 1, &ids, 1, &s);
  plan_output(&w, "result", z);
  plan_output(&w, "sizes", s);
  return plan_finish(&w, size);
}

/* The same by the functions for single layers. */
static void sample_reference(size_t count, const int64_t *ids, float *result) {
  float *x = malloc(count * WIDTH * sizeof *x + 1), *h = malloc(count * HIDDEN * sizeof *h + 1);
  for (size_t i = 0; i < count; i++) {
    const size_t row = (size_t)(ids[i] < 0 ? ids[i] + VOCABULARY : ids[i]);
    for (size_t j = 0; j < WIDTH; j++) {
      x[i * WIDTH + j] = (float)table[row * WIDTH + j] * table_scale[row];
    }
  }
  const dynq_epilogue up = {.bias = bias, .activation = DYNQ_ACTIVATION_GELU};
  const dynq_epilogue down = {.residual = x, .residual_stride = WIDTH, .min = -1.0f, .max = 6.0f};
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(first, count, x, WIDTH, DYNQ_SYMMETRIC, DYNQ_PER_ROW, &up, NULL, h, HIDDEN));
  CHECK_STATUS(DYNQ_OK,
               dynq_linear_f32(second, count, h, HIDDEN, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, &down, NULL, result, WIDTH));
  free(x);
  free(h);
}

enum { MOST = 12 * 9 };

static void random_ids(int64_t *ids, size_t count) {
  for (size_t i = 0; i < count; i++) {
    ids[i] = (int64_t)random_below(2 * VOCABULARY) - VOCABULARY;
  }
}

void run_sample(dynq_session *session, size_t batch, size_t length, const int64_t *ids) {
  static _Thread_local float expected[MOST * WIDTH];
  dynq_tensor out[2];
  const dynq_tensor in = tensor_of(DYNQ_INT64, 2, (const size_t[]){batch, length}, ids);
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, out));
  sample_reference(batch * length, ids, expected);
  CHECK(out[0].dtype == DYNQ_FLOAT32 && out[0].rank == 2 && out[0].dims[0] == batch * length &&
        out[0].dims[1] == WIDTH);
  check_same("result", CHECK_F32, expected, out[0].data, batch * length * WIDTH);
  CHECK(out[1].dtype == DYNQ_INT64 && out[1].rank == 1 && out[1].dims[0] == 2);
  const int64_t *sizes = out[1].data;
  CHECK(sizes[0] == (int64_t)batch && sizes[1] == (int64_t)length);
}

/* ---- Results ---- */

static void check_results(void) {
  size_t size;
  int64_t ids[MOST];
  check_begin("", "a model gives what its layers give");
  make_sample();
  void *image = sample_image(&size);
  dynq_model *model = open_image(image, size);
  for (size_t isa = 0; isa < dynq_isa_count(); isa++) {
    if (dynq_isa_supported(dynq_isa_name(isa)) != DYNQ_OK) {
      continue;
    }
    CHECK_STATUS(DYNQ_OK, dynq_isa_select(dynq_isa_name(isa)));
    for (size_t mode = 0; mode < POOL_MODES; mode++) {
      dynq_session *session = NULL;
      CHECK_STATUS(DYNQ_OK, dynq_session_new(model, pool_of(mode), &session));
      for (size_t i = 0; i < 6; i++) {
        const size_t batch = random_below(13), length = random_below(10);
        check_case("%s, pool %zu, %zu x %zu", dynq_isa_name(isa), mode, batch, length);
        random_ids(ids, batch * length);
        run_sample(session, batch, length, ids);
      }
      dynq_session_free(session);
    }
  }
  CHECK_STATUS(DYNQ_OK, dynq_isa_select(NULL));
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  dynq_model_close(model);
  free(image);
  check_end();
}

/* ---- What is asked of a model ---- */

static void check_questions(void) {
  size_t size;
  dynq_model_value value;
  const char *name = NULL, *op = NULL;
  check_begin("", "a model describes itself");
  check_case("the sample");
  void *image = sample_image(&size);
  dynq_model *model = open_image(image, size);
  CHECK(dynq_model_input_count(model) == 1 && dynq_model_output_count(model) == 2 && dynq_model_node_count(model) == 5);
  CHECK_STATUS(DYNQ_OK, dynq_model_input(model, 0, &value));
  CHECK(strcmp(value.name, "ids") == 0 && value.dtype == DYNQ_INT64 && value.rank == 2 && value.dims[0] == -1);
  CHECK(strcmp(value.dim_names[0], "batch") == 0 && strcmp(value.dim_names[1], "length") == 0);
  CHECK_STATUS(DYNQ_OK, dynq_model_output_name(model, 0, &name));
  CHECK(strcmp(name, "result") == 0);
  CHECK_STATUS(DYNQ_OK, dynq_model_node(model, 2, &name, &op));
  CHECK(strcmp(name, "down") == 0 && strcmp(op, "dynq.Linear") == 0);
  CHECK_REFUSED("index", dynq_model_input(model, 1, &value));
  CHECK_REFUSED("index", dynq_model_output_name(model, 2, &name));
  CHECK_REFUSED("index", dynq_model_node(model, 5, &name, &op));
  size_t ops = 0;
  while (dynq_op_name(ops) != NULL) {
    dynq_op_description description;
    CHECK_STATUS(DYNQ_OK, dynq_op_describe(ops, &description));
    CHECK(strcmp(description.name, dynq_op_name(ops)) == 0 && description.input_count > 0);
    CHECK(dynq_op_name(ops)[0] != 0);
    ops++;
  }
  CHECK(ops > 0 && ops == dynq_op_count() && dynq_op_name(SIZE_MAX) == NULL);
  CHECK_REFUSED("model", dynq_model_input(NULL, 0, &value));
  CHECK_REFUSED("value", dynq_model_input(model, 0, NULL));
  CHECK_REFUSED("op", dynq_model_node(model, 0, &name, NULL));
  dynq_model_close(model);
  dynq_model_close(NULL);
  dynq_session_free(NULL);
  free(image);
  check_end();
}

/* ---- Inputs that do not fit ---- */

static void check_wrong_inputs(void) {
  plan_writer w = {0};
  size_t size;
  const uint32_t batch = plan_symbol(&w, "batch");
  const uint32_t a = plan_input(&w, "a", DYNQ_FLOAT32, 2, (const int64_t[]){-1 - (int64_t)batch, 3});
  const uint32_t b = plan_input(&w, "b", DYNQ_FLOAT32, 2, (const int64_t[]){-1 - (int64_t)batch, 4});
  const uint32_t y = plan_computed(&w, "y");
  static float memory[64];
  static dynq_tensor in[2], out[2];
  check_begin("", "inputs that do not fit are named");
  check_case("two inputs");
  plan_node(&w, "copy", "Identity", 1, &a, 1, &y);
  plan_output(&w, "y", y);
  plan_output(&w, "b", b);
  void *image = plan_finish(&w, &size);
  dynq_model *model = open_image(image, size);
  dynq_session *session = NULL;
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
#define RESET()                                                                                                        \
  in[0] = tensor_of(DYNQ_FLOAT32, 2, (const size_t[]){2, 3}, memory);                                                  \
  in[1] = tensor_of(DYNQ_FLOAT32, 2, (const size_t[]){2, 4}, memory)
#define SPOIL(named, change)                                                                                           \
  RESET();                                                                                                             \
  change;                                                                                                              \
  CHECK_REFUSED(named, dynq_model_run(session, in, out))
  RESET();
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, in, out));
  SPOIL("input 'a' is int32 (2, 3); expected float32 (batch, 3)", in[0].dtype = DYNQ_INT32);
  SPOIL("input 'b' is float32 (2); expected float32 (batch, 4)", in[1].rank = 1);
  SPOIL("(2, 5)", in[1].dims[1] = 5);
  SPOIL("...", in[1].rank = 99);
  SPOIL("input 'b': 'batch' is 3; in an earlier dimension it is 2", in[1].dims[0] = 3);
  SPOIL("input 'a': data is NULL", in[0].data = NULL);
  SPOIL("input 'a': data is not aligned", in[0].data = (const char *)memory + 1);
  SPOIL("input 'a' exceeds", in[0].dims[0] = in[1].dims[0] = SIZE_MAX / 4);
  SPOIL("input 'a'", in[0].dims[0] = in[1].dims[0] = SIZE_MAX);
  CHECK_REFUSED("session", dynq_model_run(NULL, in, out));
  CHECK_REFUSED("inputs", dynq_model_run(session, NULL, out));
  CHECK_REFUSED("outputs", dynq_model_run(session, in, NULL));
  check_case("outputs");
  RESET();
  for (size_t i = 0; i < 64; i++) {
    memory[i] = (float)i;
  }
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, in, out));
  CHECK(out[0].data != in[0].data && out[1].data != in[1].data);
  memset(memory, 0, sizeof memory); /* outputs are not the caller's memory */
  CHECK(((const float *)out[0].data)[5] == 5.0f && ((const float *)out[1].data)[7] == 7.0f);
  RESET();
  in[1].data = out[1].data;
  CHECK_REFUSED("input 'b' lies in the session's own memory", dynq_model_run(session, in, out));
#undef SPOIL
#undef RESET
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
  check_end();
}

/* ---- Failures while running ---- */

static void check_run_failures(void) {
  size_t size;
  int64_t ids[4] = {1, 2, VOCABULARY, 3};
  dynq_tensor out[2], t;
  check_begin("", "a run that fails says where");
  void *image = sample_image(&size);
  dynq_model *model = open_image(image, size);
  dynq_session *session = NULL;
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  check_case("an index out of range");
  const dynq_tensor in = tensor_of(DYNQ_INT64, 2, (const size_t[]){2, 2}, ids);
  CHECK_REFUSED("the session has no results", dynq_session_tensor(session, "x", &t));
  CHECK_REFUSED("node 'embed' (dynq.Embedding): index 50", dynq_model_run(session, &in, out));
  CHECK_REFUSED("the session has no results", dynq_session_tensor(session, "x", &t));
  ids[2] = -VOCABULARY - 1;
  CHECK_REFUSED("index -51", dynq_model_run(session, &in, out));
  ids[2] = -VOCABULARY;
  run_sample(session, 2, 2, ids);
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);

  check_case("a NaN");
  plan_writer w = {0};
  const uint32_t x = plan_input(&w, "x", DYNQ_FLOAT32, 2, (const int64_t[]){3, HIDDEN});
  const uint32_t weight = plan_weight(&w, "weight", second), y = plan_computed(&w, "y"), z = plan_computed(&w, "z");
  const uint32_t back = plan_weight(&w, "back", first);
  plan_node(&w, "one", "dynq.Linear", 2, (const uint32_t[]){x, weight}, 1, &y);
  plan_node(&w, "two", "dynq.Linear", 2, (const uint32_t[]){y, back}, 1, &z);
  plan_output(&w, "z", z);
  image = plan_finish(&w, &size);
  model = open_image(image, size);
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  float values[3 * HIDDEN];
  fill_f32(FILL_UNIT, values, 3 * HIDDEN);
  const dynq_tensor in_f32 = tensor_of(DYNQ_FLOAT32, 2, (const size_t[]){3, HIDDEN}, values);
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in_f32, out));
  values[HIDDEN + 1] = INFINITY;
  check_status(__FILE__, __LINE__, "run", DYNQ_NONFINITE, dynq_model_run(session, &in_f32, out), "node 'one'");
  const float *result = out[0].data;
  CHECK(!isnan(result[0]) && isnan(result[HIDDEN]) && isnan(result[2 * HIDDEN - 1]) && !isnan(result[2 * HIDDEN]));
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
  check_end();
}

/* ---- Nothing is allocated once a shape is planned; four shapes stay planned ---- */

static void check_allocations(void) {
  size_t size;
  int64_t ids[MOST];
  check_begin("", "no allocation after planning");
  void *image = sample_image(&size);
  const size_t before = blocks_in_use();
  for (size_t mode = 0; mode < POOL_MODES; mode++) {
    dynq_model *model = open_image(image, size);
    dynq_session *session = NULL;
    CHECK_STATUS(DYNQ_OK, dynq_session_new(model, pool_of(mode), &session));
    check_case("pool %zu", mode);
    for (size_t round = 0; round < 3; round++) {
      const size_t taken_before = blocks_taken();
      for (size_t length = 6; length < 6 + 4; length++) {
        random_ids(ids, 12 * length);
        dynq_tensor out[2];
        const dynq_tensor in = tensor_of(DYNQ_INT64, 2, (const size_t[]){12, length}, ids);
        CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, out));
      }
      CHECK(round == 0 || blocks_taken() == taken_before);
    }
    dynq_session_free(session);
    dynq_model_close(model);
    CHECK(blocks_in_use() == before);
  }
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  free(image);
  check_end();
}

static _Atomic size_t asked;
static size_t refused;
static bool refuse_one(size_t bytes) {
  (void)bytes;
  return atomic_fetch_add(&asked, 1) == refused;
}

static void check_refused_allocations(void) {
  size_t size;
  int64_t ids[4] = {1, 2, 3, 4};
  dynq_tensor out[2];
  const dynq_tensor in = tensor_of(DYNQ_INT64, 2, (const size_t[]){2, 2}, ids);
  check_begin("", "failing allocations leak nothing");
  void *image = sample_image(&size);
  const size_t before = blocks_in_use();
  bool done = false;
  for (refused = 0; !done && refused < 100; refused++) {
    dynq_model *model = NULL;
    dynq_session *session = NULL;
    check_case("allocation %zu fails", refused);
    atomic_store(&asked, 0);
    dynq_alloc_refuse = refuse_one;
    dynq_status status = dynq_model_open_memory(image, size, &model);
    status = status == DYNQ_OK ? dynq_session_new(model, NULL, &session) : status;
    status = status == DYNQ_OK ? dynq_model_run(session, &in, out) : status;
    dynq_alloc_refuse = NULL;
    done = atomic_load(&asked) <= refused;
    CHECK(status == (done ? DYNQ_OK : DYNQ_ERROR_OUT_OF_MEMORY));
    if (session != NULL) { /* works after the failure */
      run_sample(session, 2, 2, ids);
    }
    dynq_session_free(session);
    dynq_model_close(model);
    CHECK(blocks_in_use() == before);
  }
  CHECK(done && refused > 5);
  free(image);
  check_end();
}

/* ---- Tensors by name, times, arena ---- */

static void check_inspection(void) {
  size_t size, packed = 0, kept = 0;
  int64_t ids[6] = {0, 1, 2, 3, 4, 5};
  dynq_tensor out[2], t;
  uint64_t time = 1;
  const dynq_tensor in = tensor_of(DYNQ_INT64, 2, (const size_t[]){2, 3}, ids);
  check_begin("", "tensors by name");
  check_case("the sample");
  void *image = sample_image(&size);
  dynq_model *model = open_image(image, size);
  dynq_session *session = NULL;
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, out));
  CHECK_STATUS(DYNQ_OK, dynq_session_arena_bytes(session, &packed));
  CHECK_REFUSED("'h' was not kept", dynq_session_tensor(session, "h", &t));
  CHECK_REFUSED("no tensor 'nobody'", dynq_session_tensor(session, "nobody", &t));
  CHECK_REFUSED("'first.weight' is a packed weight", dynq_session_tensor(session, "first.weight", &t));
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "result", &t)); /* the output's name; the tensor's is z */
  CHECK(t.data == out[0].data);
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "z", &t));
  CHECK(t.data == out[0].data && t.rank == 2);
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "y", &t)); /* z is a view of it */
  CHECK(t.data == out[0].data && t.rank == 3);
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "rows", &t));
  CHECK(t.dtype == DYNQ_INT8 && memcmp(t.data, table, sizeof table) == 0);
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "ids", &t));
  CHECK(t.dtype == DYNQ_INT64 && memcmp(t.data, ids, sizeof ids) == 0);
  check_case("all kept, with times");
  CHECK_STATUS(DYNQ_OK, dynq_session_keep_all(session, 1));
  CHECK_STATUS(DYNQ_OK, dynq_session_time_nodes(session, 1));
  CHECK_STATUS(DYNQ_OK, dynq_model_run(session, &in, out));
  CHECK_STATUS(DYNQ_OK, dynq_session_arena_bytes(session, &kept));
  CHECK(packed < kept);
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "h", &t));
  CHECK(t.rank == 3 && t.dims[2] == HIDDEN);
  CHECK_STATUS(DYNQ_OK, dynq_session_tensor(session, "x", &t));
  CHECK(((const float *)t.data)[0] == (float)table[0] * table_scale[0]);
  CHECK_STATUS(DYNQ_OK, dynq_session_node_time(session, 1, &time));
  CHECK(time > 0);
  CHECK_STATUS(DYNQ_OK, dynq_session_node_time(session, 4, &time)); /* Shape: known while planning */
  CHECK(time == 0);
  CHECK_REFUSED("index", dynq_session_node_time(session, 5, &time));
  CHECK_STATUS(DYNQ_OK, dynq_session_keep_all(session, 0));
  run_sample(session, 2, 3, ids);
  CHECK_REFUSED("'h' was not kept", dynq_session_tensor(session, "h", &t));
  check_case("x gave its memory to y"); /* the residual dies where it is added */
  CHECK(packed <= (2 * 3 * (8 + WIDTH * 4 + HIDDEN * 4) + 64 * 4 + 2 * 3 * 64 + 3 * 64 + 4096));
  dynq_session_free(session);
  dynq_model_close(model);
  free(image);
  check_end();
}

/* ---- Many threads, many sessions, one model ---- */

typedef struct worker {
  dynq_model *model;
  int64_t ids[MOST];
} worker;

static void *run_worker(void *arg) {
  worker *w = arg;
  dynq_session *session = NULL;
  CHECK_STATUS(DYNQ_OK, dynq_session_new(w->model, NULL, &session));
  for (size_t i = 0; i < 20; i++) {
    run_sample(session, 1 + i % 6, 9, w->ids);
  }
  dynq_session_free(session);
  return NULL;
}

static void check_threads(void) {
  enum { THREADS = 4 };
  static worker workers[THREADS];
  pthread_t threads[THREADS];
  size_t size;
  check_begin("", "many sessions of one model");
  check_case("%d threads", THREADS);
  void *image = sample_image(&size);
  dynq_model *model = open_image(image, size);
  for (size_t i = 0; i < THREADS; i++) {
    workers[i].model = model;
    random_ids(workers[i].ids, MOST);
  }
  for (size_t i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&threads[i], NULL, run_worker, &workers[i]) == 0);
  }
  for (size_t i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  dynq_model_close(model);
  free(image);
  check_end();
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  check_questions();
  check_results();
  check_wrong_inputs();
  check_run_failures();
  check_allocations();
  check_refused_allocations();
  check_inspection();
  check_threads();
  check_model_files();
  check_model_faults();
  check_model_limits();
  check_model_ops();
  check_model_state();
  check_model_random();
  check_model_damage();
  dynq_weight_free(first);
  dynq_weight_free(second);
  return check_finish();
}
