/*
 * Any bytes as a model: opened, planned and run, they give a status and no more.
 *
 * With libFuzzer: clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Inative/include -Inative/src
 * -Itests/native tests/fuzz/fuzz_model.c tests/native/plan_writer.c <libdynq.a built with the same sanitizers>
 * -pthread -lm. driver.c is for compilers without it.
 */
#include "fuzz.h"

#include "alloc.h"
#include "plan_writer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

unsigned long long fuzz_opened, fuzz_ran;

enum { MOST_BYTES = 2 << 20, MOST_INPUTS = 8, MOST_OUTPUTS = 16, INPUT_BYTES = 1 << 16 };

/* What a hostile model may ask for here; a real caller has memory and time. */
static bool refuse(size_t bytes) { return bytes > MOST_BYTES; }

static size_t element_bytes(dynq_dtype dtype) {
  return dtype == DYNQ_INT64 ? 8 : dtype == DYNQ_FLOAT32 || dtype == DYNQ_INT32 ? 4 : 1;
}

/* Sizes for what a model leaves open, the same for all of one name; false where the input would be large. */
static bool fill_input(const dynq_model_value *value, size_t open, const void *data, dynq_tensor *t) {
  size_t bytes = element_bytes(value->dtype);
  *t = (dynq_tensor){.dtype = value->dtype, .rank = value->rank, .data = data};
  for (size_t d = 0; d < value->rank; d++) {
    t->dims[d] = value->dims[d] < 0 ? open : (size_t)value->dims[d];
    if (t->dims[d] > INPUT_BYTES || (bytes *= t->dims[d]) > INPUT_BYTES) {
      return false;
    }
  }
  return true;
}

static void run_model(const dynq_model *model, const void *data) {
  dynq_session *session = NULL;
  dynq_tensor in[MOST_INPUTS], out[MOST_OUTPUTS];
  dynq_model_value value;
  if (dynq_model_input_count(model) > MOST_INPUTS || dynq_model_output_count(model) > MOST_OUTPUTS ||
      dynq_session_new(model, NULL, &session) != DYNQ_OK) {
    return;
  }
  for (size_t open = 1; open < 4; open++) {
    bool fits = true;
    for (size_t i = 0; i < dynq_model_input_count(model) && fits; i++) {
      fits = dynq_model_input(model, i, &value) == DYNQ_OK && fill_input(&value, open, data, &in[i]);
    }
    if (fits) {
      (void)dynq_session_keep_all(session, open == 2);
      fuzz_ran += dynq_model_run(session, in, out) == DYNQ_OK;
    }
  }
  dynq_session_free(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static _Alignas(64) uint8_t values[INPUT_BYTES];
  dynq_model *model = NULL;
  void *image = aligned_alloc(64, (size + 64) / 64 * 64);
  if (image == NULL) {
    return 0;
  }
  memcpy(image, data, size);
  plan_repair(image, size);                       /* else the checksum would stop nearly all */
  for (size_t i = 0; i < sizeof values; i += 4) { /* small whole numbers, as int64 in every second place */
    const uint32_t small = size != 0 ? data[i / 4 % size] % 4u : 0;
    const float real = (float)small;
    memcpy(values + i, size % 2 == 0 && i % 8 != 0 ? (const void *)&small : (const void *)&real, 4);
    if (size % 3 == 0) {
      memcpy(values + i, i % 8 == 0 ? &small : &(uint32_t){0}, 4);
    }
  }
  dynq_alloc_refuse = refuse;
  if (dynq_model_open_memory(image, size, &model) == DYNQ_OK) {
    fuzz_opened++;
    run_model(model, values);
  }
  dynq_model_close(model);
  dynq_alloc_refuse = NULL;
  free(image);
  return 0;
}
