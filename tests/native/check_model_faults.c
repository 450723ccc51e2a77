/*
 * Every allocation fails in turn while a model is opened from its file, planned for several shapes and run. Each failure
 * is a status and leaves no block and no file behind. The session works afterwards.
 */
#include "base/alloc.h"
#include "blocks.h"
#include "check_model.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 32, HIDDEN = 48, STEPS = 3, MOST_ROWS = 40 };

static _Atomic size_t asked;
static size_t refused;
static bool refuse_one(size_t bytes) {
  (void)bytes;
  return atomic_fetch_add(&asked, 1) == refused;
}

static uint32_t random_constant(plan_writer *w, const char *name, size_t rank, const int64_t *dims) {
  float values[4 * HIDDEN * HIDDEN];
  size_t count = 1;
  for (size_t i = 0; i < rank; i++) {
    count *= (size_t)dims[i];
  }
  fill_f32(FILL_UNIT, values, count);
  return plan_constant(w, name, DYNQ_FLOAT32, rank, dims, values);
}

/* x (steps, rows, width) -> LSTM -> linear, softmax; what shapes alone decide; a convolution. */
static void *layers_image(size_t *size) {
  plan_writer w = {0};
  dynq_weight *weight = random_weight(WIDTH, HIDDEN);
  const int64_t rows = -1 - (int64_t)plan_symbol(&w, "rows");
  const uint32_t x = plan_input(&w, "x", DYNQ_FLOAT32, 3, (const int64_t[]){STEPS, rows, WIDTH});
  const uint32_t input = random_constant(&w, "w", 3, (const int64_t[]){1, 4 * HIDDEN, WIDTH});
  const uint32_t state = random_constant(&w, "r", 3, (const int64_t[]){1, 4 * HIDDEN, HIDDEN});
  const uint32_t kernel = random_constant(&w, "kernel", 3, (const int64_t[]){8, WIDTH, 3});
  const uint32_t packed = plan_weight(&w, "packed", weight);
  const uint32_t axis = plan_constant(&w, "axis", DYNQ_INT64, 1, (const int64_t[]){1}, (const int64_t[]){1});
  const uint32_t y = plan_computed(&w, "y"), squeezed = plan_computed(&w, "squeezed"), z = plan_computed(&w, "z"),
                 p = plan_computed(&w, "p"), shape = plan_computed(&w, "shape"), ones = plan_computed(&w, "ones"),
                 sum = plan_computed(&w, "sum"), turned = plan_computed(&w, "turned"), c = plan_computed(&w, "c");
  plan_node(&w, "lstm", "LSTM", 3, (const uint32_t[]){x, input, state}, 1, &y);
  plan_int(&w, "hidden_size", HIDDEN);
  plan_node(&w, "squeeze", "Squeeze", 2, (const uint32_t[]){y, axis}, 1, &squeezed);
  plan_node(&w, "linear", "dynq.Linear", 2, (const uint32_t[]){squeezed, packed}, 1, &z);
  plan_node(&w, "softmax", "Softmax", 1, &z, 1, &p);
  plan_node(&w, "sizes", "Shape", 1, &x, 1, &shape);
  plan_node(&w, "ones", "ConstantOfShape", 1, &shape, 1, &ones);
  plan_node(&w, "add", "Add", 2, (const uint32_t[]){p, ones}, 1, &sum);
  plan_node(&w, "turn", "Transpose", 1, &sum, 1, &turned);
  plan_ints(&w, "perm", 3, (const int64_t[]){0, 2, 1});
  plan_node(&w, "conv", "Conv", 2, (const uint32_t[]){turned, kernel}, 1, &c);
  plan_ints(&w, "pads", 2, (const int64_t[]){1, 1});
  plan_output(&w, "c", c);
  plan_output(&w, "p", p);
  dynq_weight_free(weight);
  return plan_finish(&w, size);
}

static dynq_status run_shape(dynq_session *session, size_t rows, const float *x, float *c) {
  dynq_tensor out[2];
  const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){STEPS, rows, WIDTH}, x);
  const dynq_status status = dynq_model_run(session, &in, out);
  if (status == DYNQ_OK) {
    CHECK(out[0].rank == 3 && out[0].dims[1] == 8 && out[0].dims[2] == rows);
    memcpy(c, out[0].data, STEPS * 8 * rows * sizeof *c);
  }
  return status;
}

/* Shapes that are planned, and one that is planned again. */
static dynq_status run_shapes(dynq_session *session, const float *x, float *c) {
  dynq_status status = DYNQ_OK;
  for (size_t i = 0; i < 6 && status == DYNQ_OK; i++) {
    (void)dynq_session_keep_all(session, i == 4);
    status = run_shape(session, i == 5 ? 1 : 1 + i * i, x, c);
  }
  return status == DYNQ_OK ? run_shape(session, MOST_ROWS, x, c) : status;
}

static size_t open_files(void) {
  size_t count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (folder != NULL && readdir(folder) != NULL) {
    count++;
  }
  if (folder != NULL) {
    (void)closedir(folder);
  }
  return count;
}

static void check_with_threads(const char *path, size_t threads, const float *x) {
  static float expected[STEPS * 8 * MOST_ROWS], c[STEPS * 8 * MOST_ROWS];
  const size_t before = blocks_in_use(), files = open_files();
  bool done = false;
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(threads));
  for (refused = 0; !done && refused < 1000; refused++) {
    dynq_model *model = NULL;
    dynq_session *session = NULL;
    check_case("%zu threads, allocation %zu fails", threads, refused);
    atomic_store(&asked, 0);
    dynq_alloc_refuse = refuse_one;
    dynq_status status = dynq_model_open(path, &model);
    status = status == DYNQ_OK ? dynq_session_new(model, NULL, &session) : status;
    status = status == DYNQ_OK ? run_shapes(session, x, c) : status;
    dynq_alloc_refuse = NULL;
    done = atomic_load(&asked) <= refused;
    CHECK(status == (done ? DYNQ_OK : DYNQ_ERROR_OUT_OF_MEMORY));
    if (session != NULL && run_shapes(session, x, c) == DYNQ_OK) { /* works after the failure */
      if (refused == 0 || expected[0] == 0.0f) {
        memcpy(expected, c, sizeof c);
      }
      check_same("c", CHECK_F32, expected, c, sizeof c / sizeof c[0]);
    } else {
      CHECK(session == NULL);
    }
    dynq_session_free(session);
    dynq_model_close(model);
    CHECK(blocks_in_use() == before);
    CHECK(open_files() == files);
  }
  CHECK(done && refused > 20);
}

void check_model_faults(void) {
  char path[] = "/tmp/dynq-faults-XXXXXX";
  size_t size;
  static float x[STEPS * MOST_ROWS * WIDTH];
  check_begin("", "failing allocations, from file to results");
  fill_f32(FILL_UNIT, x, sizeof x / sizeof x[0]);
  void *image = layers_image(&size);
  const int file = mkstemp(path);
  CHECK(file >= 0 && write(file, image, size) == (ssize_t)size);
  (void)close(file);
  check_with_threads(path, 1, x);
  check_with_threads(path, 4, x);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  (void)unlink(path);
  free(image);
  check_end();
}
