/*
 * Sessions of random models under hostile callers: shapes of any size, wrong ranks and dtypes, other shapes in between,
 * names that do not exist, runs that are cancelled. Each call returns a status and stays within its bytes.
 */
#include "fuzz.h"

#include "base/alloc.h"
#include "dynq/dynq.h"
#include "plan_writer.h"

#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, MOST_INPUTS = 8, MOST_OUTPUTS = 16, MOST_STEPS = 12 };

const char fuzz_name[] = "fuzz_session";
char fuzz_doing[256];
static unsigned long long ran, refused, cancelled;

/* Bounds what a session takes beside its tensors: a part of the size of the file. */
static bool refuse(size_t bytes) { return bytes > 2 * MOST_BYTES; }

static int poll_and_cancel(void *context) { return (*(int *)context)++ % 2; }

static void list_ops(const dynq_model *model) {
  const char *name, *op;
  fuzz_doing[0] = '\0';
  for (size_t i = 0; dynq_model_node(model, i, &name, &op) == DYNQ_OK; i++) {
    strncat(fuzz_doing, " ", sizeof fuzz_doing - 1 - strlen(fuzz_doing));
    strncat(fuzz_doing, op, sizeof fuzz_doing - 1 - strlen(fuzz_doing));
  }
}

static void choose_inputs(fuzz_source *s, const dynq_model *model, const void *data, dynq_tensor *in) {
  dynq_model_value value;
  const size_t common = fuzz_size(s);
  for (size_t i = 0; dynq_model_input(model, i, &value) == DYNQ_OK; i++) {
    const uint8_t how = fuzz_byte(s);
    in[i] = (dynq_tensor){.dtype = value.dtype, .rank = value.rank, .data = data};
    for (size_t d = 0; d < 8; d++) { /* also those behind the rank, which nobody may look at */
      const bool known = d < value.rank && value.dims[d] >= 0 && how != 255;
      in[i].dims[d] = known ? (size_t)value.dims[d] : how < 200 ? common : fuzz_size(s);
    }
    in[i].rank = how == 254 ? fuzz_byte(s) : in[i].rank;
    in[i].dtype = how == 253 ? (dynq_dtype)(fuzz_byte(s) % 7) : in[i].dtype;
    in[i].data = how == 252 ? NULL : how == 251 ? (const char *)data + 1 : data;
  }
}

static void touch(const dynq_tensor *t, size_t element) {
  const volatile unsigned char *data = t->data;
  size_t bytes = element;
  for (size_t d = 0; d < t->rank; d++) {
    bytes *= t->dims[d];
  }
  if (bytes != 0) {
    (void)data[0];
    (void)data[bytes - 1];
  }
}

static void run(fuzz_source *s, dynq_session *session, const dynq_model *model, const void *data) {
  static const size_t sizes[] = {4, 8, 4, 1, 1, 1};
  dynq_tensor in[MOST_INPUTS], out[MOST_OUTPUTS];
  choose_inputs(s, model, data, in);
  const dynq_status status = dynq_model_run(session, in, out);
  ran += status == DYNQ_OK;
  cancelled += status == DYNQ_CANCELLED;
  refused += status == DYNQ_ERROR_OUT_OF_MEMORY;
  for (size_t i = 0; i < dynq_model_output_count(model) && (status == DYNQ_OK || status == DYNQ_NONFINITE); i++) {
    touch(&out[i], sizes[out[i].dtype]);
  }
}

static void ask(fuzz_source *s, const dynq_session *session, const dynq_model *model) {
  dynq_tensor tensor;
  dynq_model_value value;
  uint64_t nanoseconds;
  size_t bytes;
  const char *name;
  if (dynq_model_input(model, fuzz_byte(s) % 4, &value) == DYNQ_OK) {
    (void)dynq_session_tensor(session, value.name, &tensor);
  }
  if (dynq_model_output_name(model, fuzz_byte(s) % 4, &name) == DYNQ_OK &&
      dynq_session_tensor(session, name, &tensor) == DYNQ_OK) {
    static const size_t sizes[] = {4, 8, 4, 1, 1, 1};
    touch(&tensor, sizes[tensor.dtype]);
  }
  (void)dynq_session_tensor(session, "value1", &tensor);
  (void)dynq_session_node_time(session, fuzz_size(s), &nanoseconds);
  (void)dynq_session_arena_bytes(session, &bytes);
}

static void use(fuzz_source *s, const dynq_model *model, const void *data) {
  dynq_session *session = NULL;
  int polls = 0;
  const dynq_session_options options = {
      .max_bytes = MOST_BYTES >> fuzz_byte(s) % 12, .poll = poll_and_cancel, .poll_context = &polls};
  if (dynq_session_new_with(model, &options, &session) != DYNQ_OK) {
    return;
  }
  for (size_t step = 0; step < MOST_STEPS && s->left != 0; step++) {
    const uint8_t what = fuzz_byte(s);
    if (what < 170) {
      run(s, session, model, data);
    } else if (what < 200) {
      ask(s, session, model);
    } else if (what < 215) {
      (void)dynq_session_keep_all(session, what & 1);
    } else if (what < 230) {
      (void)dynq_session_time_nodes(session, what & 1);
    } else if (what < 245) {
      (void)dynq_set_num_threads(1 + what % 3);
    } else {
      (void)dynq_session_cancel(session);
    }
  }
  dynq_session_free(session);
}

/* Four bytes choose the model, the others what is done with it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static _Alignas(64) uint8_t values[MOST_BYTES + 64];
  fuzz_source s = {data, size};
  uint64_t state = 0;
  size_t image_size = 0;
  dynq_model *model = NULL;
  for (size_t i = 0; i < 4; i++) {
    state = state << 8 | fuzz_byte(&s);
  }
  for (size_t i = 0; i < sizeof values && values[0] == 0; i++) {
    values[i] = (uint8_t)(i % 7 + 1);
  }
  void *image = generate_model(&state, &image_size);
  dynq_alloc_refuse = refuse;
  if (image != NULL && dynq_model_open_memory(image, image_size, &model) == DYNQ_OK &&
      dynq_model_input_count(model) <= MOST_INPUTS && dynq_model_output_count(model) <= MOST_OUTPUTS) {
    list_ops(model);
    use(&s, model, values);
  }
  dynq_model_close(model);
  dynq_alloc_refuse = NULL;
  free(image);
  return 0;
}

uint8_t *fuzz_make(uint64_t *state, const fuzz_bytes *file, size_t *size) {
  return fuzz_any_bytes(state, file, 8 + fuzz_below(state, 120), size);
}

void fuzz_summary(void) { printf("%llu runs, %llu over the limit, %llu cancelled", ran, refused, cancelled); }
void fuzz_report(void) {}
