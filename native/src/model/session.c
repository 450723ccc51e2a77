/*
 * The public functions around a run: what a model is, sessions, and what can be asked after a run.
 */
#include "../base/alloc.h"
#include "../base/threads.h"
#include "model.h"

#include <string.h>

/* ---- Models ---- */

dynq_status dynq_model_bytes(const dynq_model *model, const void **bytes, size_t *size) {
  if (model == NULL || bytes == NULL || size == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL",
                     model == NULL   ? "model"
                     : bytes == NULL ? "bytes"
                                     : "size");
  }
  *bytes = model->image;
  *size = model->image_bytes;
  return DYNQ_OK;
}

size_t dynq_model_input_count(const dynq_model *model) { return model->input_count; }
size_t dynq_model_output_count(const dynq_model *model) { return model->output_count; }
size_t dynq_model_node_count(const dynq_model *model) { return model->all_node_count; }

static dynq_status check_index(const dynq_model *model, size_t index, size_t count, const void *to, const char *what) {
  if (model == NULL || to == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", model == NULL ? "model" : what);
  }
  return index < count ? DYNQ_OK
                       : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "index is %zu; expected less than %zu", index, count);
}

dynq_status dynq_model_input(const dynq_model *model, size_t index, dynq_model_value *value) {
  DYNQ_TRY(check_index(model, index, model != NULL ? model->input_count : 0, value, "value"));
  const dynq_plan_tensor *t = &model->tensors[model->inputs[index]];
  *value = (dynq_model_value){.name = t->name, .dtype = t->dtype, .rank = t->rank};
  for (size_t i = 0; i < t->rank; i++) {
    value->dims[i] = t->dims[i] >= 0 ? t->dims[i] : -1;
    value->dim_names[i] = t->dims[i] >= 0 ? NULL : model->symbols[-1 - t->dims[i]];
  }
  return DYNQ_OK;
}

dynq_status dynq_model_output_name(const dynq_model *model, size_t index, const char **name) {
  DYNQ_TRY(check_index(model, index, model != NULL ? model->output_count : 0, name, "name"));
  *name = model->outputs[index].name;
  return DYNQ_OK;
}

dynq_status dynq_model_node(const dynq_model *model, size_t index, const char **name, const char **op) {
  DYNQ_TRY(check_index(model, index, model != NULL ? model->all_node_count : 0, name, "name"));
  if (op == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "op is NULL");
  }
  const dynq_plan_node *node = dynq_model_node_at(model, index);
  *name = node->name;
  *op = node->op->name;
  return DYNQ_OK;
}

/* ---- Sessions ---- */

dynq_status dynq_session_new(const dynq_model *model, const dynq_threads *threads, dynq_session **session) {
  return dynq_session_new_with(model, &(dynq_session_options){.threads = threads}, session);
}

dynq_status dynq_session_new_with(const dynq_model *model, const dynq_session_options *options,
                                  dynq_session **session) {
  const dynq_session_options chosen = options != NULL ? *options : (dynq_session_options){0};
  size_t count;
  if (model == NULL || session == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", model == NULL ? "model" : "session");
  }
  DYNQ_TRY(dynq_threads_count(chosen.threads, &count));
  const size_t times = dynq_size_mul(model->all_node_count, sizeof(uint64_t));
  const size_t sizes = dynq_size_mul(model->symbol_count, sizeof(size_t));
  const size_t states = dynq_size_mul(model->state_count, sizeof(float *));
  const size_t bytes = dynq_size_add(sizeof(dynq_session), dynq_size_add(dynq_size_add(times, sizes), states));
  dynq_session *s = dynq_alloc(bytes);
  if (s == NULL) {
    return dynq_fail_memory(bytes);
  }
  memset(s, 0, bytes);
  s->model = model;
  s->threads = chosen.threads;
  s->max_bytes = chosen.max_bytes;
  s->interrupt.poll = chosen.poll;
  s->interrupt.context = chosen.poll_context;
  s->times = (uint64_t *)(void *)(s + 1);
  s->kept.data = (float **)(void *)((char *)(s + 1) + times);
  s->sizes = (size_t *)(void *)((char *)(s + 1) + times + states);
  *session = s;
  return DYNQ_OK;
}

void dynq_session_free(dynq_session *session) {
  if (session == NULL) {
    return;
  }
  for (size_t i = 0; i < DYNQ_SHAPE_PLANS; i++) {
    dynq_shape_plan_free(session->plans[i]);
  }
  dynq_shape_plan_free(session->retired);
  dynq_steps_clear(session);
  dynq_blocks_trim(&session->blocks, UINT64_MAX);
  dynq_free(session->block_of);
  dynq_free(session->arena);
  dynq_kept_free(session);
  dynq_free(session);
}

dynq_status dynq_session_cancel(dynq_session *session) {
  if (session == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "session is NULL");
  }
  atomic_store(&session->interrupt.requested, true);
  return DYNQ_OK;
}

dynq_status dynq_session_keep_all(dynq_session *session, int keep) {
  if (session == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "session is NULL");
  }
  session->keep_all = keep != 0;
  return DYNQ_OK;
}

dynq_status dynq_session_time_nodes(dynq_session *session, int measure) {
  if (session == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "session is NULL");
  }
  session->measure = measure != 0;
  return DYNQ_OK;
}

/* ---- After a run ---- */

static dynq_status check_ran(const dynq_session *session, const void *to, const char *what) {
  if (session == NULL || to == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", session == NULL ? "session" : what);
  }
  return session->ran ? DYNQ_OK
                      : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the session has no results: its last run failed, or "
                                                               "there was none");
}

dynq_status dynq_session_tensor(const dynq_session *session, const char *name, dynq_tensor *tensor) {
  DYNQ_TRY(check_ran(session, tensor, "tensor"));
  if (name == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "name is NULL");
  }
  const dynq_model *m = session->model;
  uint32_t found = dynq_model_find(m, name);
  for (size_t i = 0; i < m->output_count && found == DYNQ_NONE; i++) {
    found = strcmp(m->outputs[i].name, name) == 0 ? m->outputs[i].tensor : DYNQ_NONE;
  }
  if (found == DYNQ_NONE) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "name: the model has no tensor '%.100s'", name);
  }
  const dynq_op_tensor *t = &session->plans[0]->tensors[found];
  if (t->weight != NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "name: '%.100s' is a packed weight", name);
  }
  if (!session->plans[0]->kept[found]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "name: '%.100s' was not kept; dynq_session_keep_all keeps it", name);
  }
  *tensor = dynq_op_tensor_view(t);
  return DYNQ_OK;
}

dynq_status dynq_session_node_time(const dynq_session *session, size_t index, uint64_t *nanoseconds) {
  DYNQ_TRY(check_ran(session, nanoseconds, "nanoseconds"));
  DYNQ_TRY(check_index(session->model, index, session->model->all_node_count, nanoseconds, "nanoseconds"));
  *nanoseconds = session->times[index];
  return DYNQ_OK;
}

dynq_status dynq_session_sizes_vary(const dynq_session *session, int *vary) {
  DYNQ_TRY(check_ran(session, vary, "vary"));
  *vary = session->plans[0]->stop < session->model->node_count;
  return DYNQ_OK;
}

dynq_status dynq_session_arena_bytes(const dynq_session *session, size_t *bytes) {
  DYNQ_TRY(check_ran(session, bytes, "bytes"));
  *bytes = session->plans[0]->arena_bytes;
  return DYNQ_OK;
}
