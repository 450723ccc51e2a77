/*
 * Any bytes as a file: opened from memory, described, closed. Nothing runs, so that many fit into a second.
 */
#include "fuzz.h"

#include "dynq/dynq.h"
#include "plan_writer.h"

#include <stdio.h>
#include <string.h>

const char fuzz_name[] = "fuzz_plan";
char fuzz_doing[256];
static unsigned long long opened;

/* Reads each text to its end; returns their length. */
static size_t describe(const dynq_model *model) {
  dynq_model_value value;
  const char *name, *op;
  size_t length = 0;
  for (size_t i = 0; dynq_model_input(model, i, &value) == DYNQ_OK; i++) {
    length += strlen(value.name);
    for (size_t d = 0; d < value.rank; d++) {
      length += value.dim_names[d] != NULL ? strlen(value.dim_names[d]) : 0;
    }
  }
  for (size_t i = 0; dynq_model_output_name(model, i, &name) == DYNQ_OK; i++) {
    length += strlen(name);
  }
  for (size_t i = 0; dynq_model_node(model, i, &name, &op) == DYNQ_OK; i++) {
    length += strlen(name) + strlen(op);
  }
  return length;
}

static void open_once(const uint8_t *image, size_t size) {
  dynq_model *model = NULL;
  if (dynq_model_open_memory(image, size, &model) == DYNQ_OK) {
    dynq_session *session = NULL;
    opened += describe(model) != SIZE_MAX;
    if (dynq_session_new(model, NULL, &session) == DYNQ_OK) {
      dynq_session_free(session);
    }
  }
  dynq_model_close(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *image = aligned_alloc(64, size / 64 * 64 + 64);
  if (image == NULL) {
    return 0;
  }
  if (size != 0) {
    memcpy(image, data, size);
  }
  if (size % 16 != 15) { /* else the checksum stops nearly all */
    plan_repair(image, size);
  }
  open_once(image, size);
  free(image);
  return 0;
}

uint8_t *fuzz_make(uint64_t *state, const fuzz_bytes *file, size_t *size) {
  uint8_t *image = file != NULL ? fuzz_copy(file, size) : generate_model(state, size);
  if (image != NULL && fuzz_below(state, 8) != 0) {
    fuzz_damage(state, image, *size);
    *size = fuzz_below(state, 8) == 0 ? fuzz_below(state, *size + 1) : *size;
  }
  return image;
}

void fuzz_summary(void) { printf("%llu opened", opened); }
void fuzz_report(void) {}
