/*
 * Any bytes as a model: opened, planned and run, they give a status and no more, and whole models on
 * every instruction set, thread count and arena the same bits.
 *
 * Under driver.c half of the inputs are random models, the others such models, or files, with bytes changed, taken away
 * or put in.
 */
#include "fuzz.h"

#include "base/alloc.h"
#include "ops/op.h"
#include "plan_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char fuzz_name[] = "fuzz_model";
char fuzz_doing[256];
static unsigned long long opened, ran;
/* Says whether results must be the same everywhere: not for damaged weights, whose column sums need not be theirs, which
 * kernels of signed and unsigned left operands see differently. */
static bool compares;

enum { MOST_BYTES = 2 << 20, MOST_INPUTS = 8, MOST_OUTPUTS = 16, INPUT_BYTES = 1 << 16, OUTPUT_BYTES = 1 << 16 };

/* Limits what a hostile model may ask for here. A real caller has memory and time. */
static bool refuse(size_t bytes) { return bytes > MOST_BYTES; }
static bool refuse_all(size_t bytes) {
  (void)bytes;
  return true;
}

/* Sizes for what a model leaves open, the same for all of one name; false where the input would be large. */
static bool fill_input(const dynq_model_value *value, size_t open, const void *data, dynq_tensor *t) {
  size_t bytes = dynq_dtype_size(value->dtype);
  *t = (dynq_tensor){.dtype = value->dtype, .rank = value->rank, .data = data};
  for (size_t d = 0; d < value->rank; d++) {
    t->dims[d] = value->dims[d] < 0 ? open : (size_t)value->dims[d];
    if (t->dims[d] > INPUT_BYTES || (bytes *= t->dims[d]) > INPUT_BYTES) {
      return false;
    }
  }
  return true;
}

/* ---- One run: its status and the bytes of all outputs one after another ---- */

typedef struct result {
  dynq_status status;
  size_t bytes;
  unsigned char values[OUTPUT_BYTES];
} result;

static void keep(result *r, const void *p, size_t bytes) {
  bytes = bytes < OUTPUT_BYTES - r->bytes ? bytes : OUTPUT_BYTES - r->bytes;
  if (bytes != 0) {
    memcpy(r->values + r->bytes, p, bytes);
    r->bytes += bytes;
  }
}

static void run_once(dynq_session *session, const dynq_model *model, const dynq_tensor *in, result *r) {
  dynq_tensor out[MOST_OUTPUTS];
  r->bytes = 0;
  (void)dynq_session_reset(session); /* each run begins anew */
  r->status = dynq_model_run(session, in, out);
  for (size_t i = 0; i < dynq_model_output_count(model) && (r->status == DYNQ_OK || r->status == DYNQ_NONFINITE); i++) {
    size_t bytes = dynq_dtype_size(out[i].dtype);
    for (size_t d = 0; d < out[i].rank; d++) {
      bytes *= out[i].dims[d];
    }
    keep(r, &out[i].dtype, sizeof out[i].dtype);
    keep(r, out[i].dims, out[i].rank * sizeof out[i].dims[0]);
    keep(r, out[i].data, bytes);
  }
}

/* ---- Scalar code on one thread, then another instruction set and pool: the same bits ---- */

static void run_backwards(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  (void)context;
  while (count-- > 0) {
    task(arg, count);
  }
}

static const char *other_isa(size_t choice) {
  const size_t count = dynq_isa_count();
  for (size_t i = 0; i < count; i++) {
    const char *name = dynq_isa_name((choice + i) % count);
    if (dynq_isa_supported(name) == DYNQ_OK && (choice + i) % count != count - 1) {
      return name;
    }
  }
  return "scalar";
}

/* Ends a loop without an end. */
static int end_soon(void *context) {
  (void)context;
  return 1;
}

/* The second with memory of its own for every tensor, where `keep_all`. */
static void run_and_compare(const dynq_model *model, const dynq_tensor *in, size_t choice, bool keep_all) {
  static result expected, got;
  const dynq_threads pools[2] = {{1, run_backwards, NULL}, {2 + choice % 3, run_backwards, NULL}};
  const char *isas[2] = {"scalar", other_isa(choice)};
  for (size_t i = 0; i < 2; i++) {
    dynq_session *session = NULL;
    (void)dynq_isa_select(isas[i]);
    const dynq_session_options options = {.threads = &pools[i], .poll = end_soon};
    int vary = 0;
    if (dynq_session_new_with(model, &options, &session) != DYNQ_OK) {
      return;
    }
    (void)dynq_session_keep_all(session, i == 1 && keep_all);
    run_once(session, model, in, i == 0 ? &expected : &got);
    if (i == 1 && (got.status == DYNQ_OK || got.status == DYNQ_NONFINITE)) { /* once more, which allocates nothing */
      (void)dynq_session_sizes_vary(session, &vary);
      dynq_alloc_refuse = vary != 0 ? refuse : refuse_all;
      run_once(session, model, in, &got);
      dynq_alloc_refuse = refuse;
      if (got.status == DYNQ_ERROR_OUT_OF_MEMORY && vary == 0) {
        fprintf(stderr, "fuzz_model: a run of known shapes allocates\n");
        abort();
      }
    }
    dynq_session_free(session);
  }
  if (expected.status == DYNQ_ERROR_OUT_OF_MEMORY || got.status == DYNQ_ERROR_OUT_OF_MEMORY) {
    return; /* one needs more than the other */
  }
  if (expected.status == DYNQ_CANCELLED || got.status == DYNQ_CANCELLED) {
    return;
  }
  ran += got.status == DYNQ_OK;
  if (compares && (expected.status != got.status || expected.bytes != got.bytes ||
                   memcmp(expected.values, got.values, got.bytes) != 0)) {
    fprintf(stderr, "fuzz_model: %s differs from scalar: status %d and %d, %zu and %zu bytes\n", isas[1],
            (int)expected.status, (int)got.status, expected.bytes, got.bytes);
    abort();
  }
}

static unsigned long long runs_of[512]; /* in the order of dynq_op_list */

static void count_ops(const dynq_model *model) {
  const char *name, *op;
  for (size_t i = 0; i < dynq_model_node_count(model) && dynq_model_node(model, i, &name, &op) == DYNQ_OK; i++) {
    for (size_t j = 0; j < dynq_op_count() && j < 512; j++) {
      runs_of[j] += strcmp(dynq_op_list[j].name, op) == 0;
    }
  }
}

uint8_t *fuzz_make(uint64_t *state, const fuzz_bytes *file, size_t *size) {
  uint8_t *image = file != NULL ? fuzz_copy(file, size) : generate_model(state, size);
  compares = fuzz_below(state, 2) != 0;
  if (!compares && image != NULL) {
    fuzz_damage(state, image, *size);
    *size = fuzz_below(state, 16) == 0 ? fuzz_below(state, *size + 1) : *size;
  }
  return image;
}

void fuzz_summary(void) { printf("%llu of them opened, %llu runs", opened, ran); }

void fuzz_report(void) {
  for (size_t i = 0; i < dynq_op_count() && i < 512; i++) {
    printf("%10llu %s\n", runs_of[i], dynq_op_list[i].name);
  }
}

static void list_ops(const dynq_model *model) {
  const char *name, *op;
  fuzz_doing[0] = '\0';
  for (size_t i = 0; i < dynq_model_node_count(model) && dynq_model_node(model, i, &name, &op) == DYNQ_OK; i++) {
    strncat(fuzz_doing, " ", sizeof fuzz_doing - 1 - strlen(fuzz_doing));
    strncat(fuzz_doing, op, sizeof fuzz_doing - 1 - strlen(fuzz_doing));
  }
}

static void run_model(const dynq_model *model, const void *data, size_t choice) {
  dynq_tensor in[MOST_INPUTS];
  dynq_model_value value;
  if (dynq_model_input_count(model) > MOST_INPUTS || dynq_model_output_count(model) > MOST_OUTPUTS) {
    return;
  }
  const size_t open = 1 + choice % 3;
  list_ops(model);
  for (size_t i = 0; i < dynq_model_input_count(model); i++) {
    if (dynq_model_input(model, i, &value) != DYNQ_OK || !fill_input(&value, open, data, &in[i])) {
      return;
    }
  }
  const unsigned long long before = ran;
  run_and_compare(model, in, choice, open == 2);
  if (ran != before) {
    count_ops(model);
  }
}

/* All inputs read the same bytes: float32 near 0 and some at the extremes, or small whole numbers. */
static void fill_values(const uint8_t *data, size_t size, uint8_t *values) {
  static const float extreme[] = {3e38f, -3e38f, 1e-40f, -0.0f, INFINITY, NAN, 88.8f, -104.0f};
  const bool whole = size % 128 == 0;
  for (size_t i = 0; i < INPUT_BYTES; i += 4) {
    const uint32_t byte = size != 0 ? data[i / 4 % size] : 0, small = i % 8 == 0 ? byte % 4 : 0;
    float real = ((float)byte - 120.0f + (float)(i % 97) * 0.37f) / 16.0f;
    real = size % 256 == 64 && byte % 8 == 3 ? extreme[i / 4 % 8] : real;
    memcpy(values + i, whole ? (const void *)&small : (const void *)&real, 4);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static _Alignas(64) uint8_t values[INPUT_BYTES];
  dynq_model *model = NULL;
  void *image = aligned_alloc(64, (size + 64) / 64 * 64);
  if (image == NULL) {
    return 0;
  }
  memcpy(image, data, size);
  plan_repair(image, size); /* else the checksum would stop nearly all */
  fill_values(data, size, values);
  dynq_alloc_refuse = refuse;
  if (dynq_model_open_memory(image, size, &model) == DYNQ_OK) {
    opened++;
    run_model(model, values, size != 0 ? data[size / 2] + size : 0);
  }
  dynq_model_close(model);
  dynq_alloc_refuse = NULL;
  free(image);
  return 0;
}
