/*
 * Writes tokens without Python: generate model.dynq COUNT ID...
 *
 * The model is one of dynq.from_transformers. COUNT tokens follow the prompt of the given ids, each the likeliest one. They
 * are what model.generate([ID, ...], max_new_tokens=COUNT) writes, if it meets no end.
 */
#include <dynq/dynq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(void) {
  fprintf(stderr, "%s\n", dynq_last_error());
  return 1;
}

/* Appends `count` ids to what the session keeps. Returns the likeliest next one, or -1 if the run failed. */
static int64_t next(const dynq_model *model, dynq_session *session, const int64_t *ids, size_t count) {
  const int64_t length = (int64_t)count, last = length - 1; /* how many rows count, and whose logits are wanted */
  dynq_tensor inputs[3], logits;
  for (size_t i = 0; i < 3; i++) { /* in the order of the model */
    dynq_model_value value;
    if (dynq_model_input(model, i, &value) != DYNQ_OK) {
      return -1;
    }
    inputs[i] = (dynq_tensor){.dtype = DYNQ_INT64, .rank = value.rank, .dims = {1, 1}};
    inputs[i].data = strcmp(value.name, "lengths") == 0 ? &length : strcmp(value.name, "logits_at") == 0 ? &last : ids;
    inputs[i].dims[1] = strcmp(value.name, "input_ids") == 0 ? count : 1;
  }
  if (dynq_model_run(session, inputs, &logits) != DYNQ_OK) {
    return -1;
  }
  const float *scores = logits.data;
  size_t best = 0;
  for (size_t i = 1; i < logits.dims[2]; i++) {
    best = scores[i] > scores[best] ? i : best;
  }
  return (int64_t)best;
}

int main(int argc, char **argv) {
  dynq_model *model = NULL;
  dynq_session *session = NULL;
  size_t positions = 0;
  if (argc < 4) {
    fprintf(stderr, "usage: %s model.dynq COUNT ID...\n", argv[0]);
    return 2;
  }
  if (dynq_model_open(argv[1], &model) != DYNQ_OK || dynq_session_new(model, NULL, &session) != DYNQ_OK ||
      dynq_model_positions(model, &positions) != DYNQ_OK) {
    return fail();
  }
  if (positions == 0 || dynq_model_input_count(model) != 3) {
    fprintf(stderr, "%s: no model that generates\n", argv[1]);
    return 1;
  }
  const size_t prompt = (size_t)argc - 3;
  int64_t *ids = calloc(prompt, sizeof *ids);
  for (size_t i = 0; ids != NULL && i < prompt; i++) {
    ids[i] = strtoll(argv[i + 3], NULL, 10);
  }
  /* The prompt in one run, then a token at a time: the session keeps what was read. */
  int64_t token = ids != NULL ? next(model, session, ids, prompt) : -1;
  for (long left = strtol(argv[2], NULL, 10); left > 0 && token >= 0; left--) {
    printf("%lld\n", (long long)token);
    token = left > 1 ? next(model, session, &token, 1) : token;
  }
  free(ids);
  if (token < 0) {
    return fail();
  }
  dynq_session_free(session);
  dynq_model_close(model);
  return 0;
}
