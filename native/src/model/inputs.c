/*
 * Checks what a caller passes to dynq_model_run against what the model takes.
 */
#include "model.h"

#include <stdio.h>
#include <string.h>

enum { SHAPE_TEXT = 80 };

/* "(batch, 384)", "(2, 384)"; cut where it is too long. */
static void add(char *text, const char *what) { strncat(text, what, SHAPE_TEXT - 1 - strlen(text)); }

static void expected_shape(const dynq_model *model, const dynq_plan_tensor *t, char *text) {
  char size[24];
  strcpy(text, "(");
  for (size_t i = 0; i < t->rank; i++) {
    add(text, i != 0 ? ", " : "");
    if (t->dims[i] >= 0) {
      (void)snprintf(size, sizeof size, "%lld", (long long)t->dims[i]);
      add(text, size);
    } else {
      add(text, model->symbols[-1 - t->dims[i]]);
    }
  }
  add(text, ")");
}

static void given_shape(const dynq_tensor *t, char *text) {
  char size[24];
  strcpy(text, "(");
  for (size_t i = 0; i < t->rank && i < DYNQ_MAX_RANK; i++) {
    (void)snprintf(size, sizeof size, "%s%zu", i != 0 ? ", " : "", t->dims[i]);
    add(text, size);
  }
  add(text, t->rank > DYNQ_MAX_RANK ? ", ...)" : ")");
}

static dynq_status fail_shape(const dynq_model *model, const dynq_plan_tensor *expected, const dynq_tensor *given) {
  char came[SHAPE_TEXT], wanted[SHAPE_TEXT];
  given_shape(given, came);
  expected_shape(model, expected, wanted);
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input '%.40s' is %s %s; expected %s %s", expected->name,
                   dynq_dtype_name(given->dtype), came, dynq_dtype_name(expected->dtype), wanted);
}

/* The same symbol is the same size everywhere. */
static dynq_status check_symbol(const dynq_session *session, size_t symbol, const dynq_plan_tensor *t, size_t size) {
  size_t *known = &session->sizes[symbol];
  if (*known != SIZE_MAX && *known != size) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input '%.60s': '%.40s' is %zu; in an earlier dimension it is %zu",
                     t->name, session->model->symbols[symbol], size, *known);
  }
  *known = size;
  return DYNQ_OK;
}

static dynq_status check_memory(const dynq_session *session, const dynq_plan_tensor *expected,
                                const dynq_tensor *given) {
  const size_t size = dynq_dtype_size(given->dtype), count = dynq_dims_count(given->dtype, given->rank, given->dims);
  if (count == SIZE_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input '%.60s' exceeds the address space", expected->name);
  }
  if (count == 0) {
    return DYNQ_OK;
  }
  if (given->data == NULL || (uintptr_t)given->data % size != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input '%.60s': data is %s", expected->name,
                     given->data == NULL ? "NULL" : "not aligned to its elements");
  }
  const uintptr_t begin = (uintptr_t)given->data, arena = (uintptr_t)session->arena;
  if (begin < arena + session->arena_bytes && arena < begin + count * size) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "input '%.60s' lies in the session's own memory, which this run overwrites: pass a copy",
                     expected->name);
  }
  return DYNQ_OK;
}

dynq_status dynq_inputs_check(const dynq_session *session, const dynq_tensor *inputs) {
  const dynq_model *model = session->model;
  for (size_t i = 0; i < model->symbol_count; i++) {
    session->sizes[i] = SIZE_MAX;
  }
  for (size_t i = 0; i < model->input_count; i++) {
    const dynq_plan_tensor *t = &model->tensors[model->inputs[i]];
    const dynq_tensor *given = &inputs[i];
    if (given->dtype != t->dtype || given->rank != t->rank) {
      return fail_shape(model, t, given);
    }
    for (size_t d = 0; d < t->rank; d++) {
      if (t->dims[d] >= 0 ? (uint64_t)t->dims[d] != given->dims[d] : given->dims[d] == SIZE_MAX) {
        return fail_shape(model, t, given);
      }
      if (t->dims[d] < 0) {
        DYNQ_TRY(check_symbol(session, (size_t)(-1 - t->dims[d]), t, given->dims[d]));
      }
    }
    DYNQ_TRY(check_memory(session, t, given));
  }
  return DYNQ_OK;
}
