/*
 * One inference: find or make the plan for the shapes, copy the inputs in, run the nodes, tell where the outputs lie.
 */
#include "../alloc.h"
#include "../fp_environment.h"
#include "../threads.h"
#include "model.h"

#include <string.h>
#include <time.h>

static bool fits(const dynq_session *s, const dynq_shape_plan *plan, const dynq_kernels *kernels, size_t thread_count,
                 const dynq_tensor *inputs) {
  if (plan->kernels != kernels || plan->thread_count != thread_count || plan->keep_all != s->keep_all) {
    return false;
  }
  for (size_t i = 0; i < s->model->input_count; i++) {
    const dynq_op_tensor *t = &plan->tensors[s->model->inputs[i]];
    if (memcmp(t->dims, inputs[i].dims, t->rank * sizeof *t->dims) != 0) {
      return false;
    }
  }
  return true;
}

/* Makes plans[0] the plan for these inputs. */
static dynq_status choose_plan(dynq_session *s, const dynq_tensor *inputs) {
  const dynq_kernels *kernels;
  dynq_shape_plan *plan = NULL;
  size_t thread_count, at = 0;
  DYNQ_TRY(dynq_threads_count(s->threads, &thread_count));
  DYNQ_TRY(dynq_kernels_current(&kernels));
  while (at < DYNQ_SHAPE_PLANS && s->plans[at] != NULL && !fits(s, s->plans[at], kernels, thread_count, inputs)) {
    at++;
  }
  if (at < DYNQ_SHAPE_PLANS && s->plans[at] != NULL) {
    plan = s->plans[at];
  } else {
    DYNQ_TRY(dynq_shape_plan_new(s->model, inputs, kernels, s->threads, thread_count, s->keep_all, &plan));
    if (at == DYNQ_SHAPE_PLANS) { /* the oldest goes; an input may still be an output of it */
      at--;
      dynq_shape_plan_free(s->retired);
      s->retired = s->plans[at];
    }
  }
  memmove(&s->plans[1], &s->plans[0], at * sizeof(dynq_shape_plan *));
  s->plans[0] = plan;
  return DYNQ_OK;
}

static dynq_status use_arena(dynq_session *s, dynq_shape_plan *plan) {
  if (s->arena == NULL || s->arena_bytes < plan->arena_bytes) {
    dynq_free(s->arena);
    s->arena_bytes = 0;
    s->arena = dynq_alloc(plan->arena_bytes);
    if (s->arena == NULL) {
      return dynq_fail_memory(plan->arena_bytes);
    }
    s->arena_bytes = plan->arena_bytes;
    for (size_t i = 0; i < DYNQ_SHAPE_PLANS && s->plans[i] != NULL; i++) {
      s->plans[i]->arena = NULL;
    }
  }
  if (plan->arena != s->arena) {
    dynq_shape_plan_bind(s->model, plan, s->arena);
  }
  return DYNQ_OK;
}

static void copy_inputs(const dynq_session *s, const dynq_shape_plan *plan, const dynq_tensor *inputs) {
  for (size_t i = 0; i < s->model->input_count; i++) {
    const dynq_op_tensor *to = &plan->tensors[s->model->inputs[i]];
    const unsigned char *from = inputs[i].data;
    if (to->dtype == DYNQ_BOOL) {
      for (size_t j = 0; j < to->count; j++) {
        ((unsigned char *)to->data)[j] = from[j] != 0;
      }
    } else if (to->count != 0) {
      memcpy(to->data, from, dynq_op_tensor_bytes(to));
    }
  }
}

static uint64_t now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Leaves the first node that met a NaN or an infinity in `nonfinite_at`. */
static dynq_status run_nodes(const dynq_session *s, const dynq_shape_plan *plan, size_t *nonfinite_at) {
  for (size_t i = 0; i < s->model->node_count; i++) {
    const dynq_op_node *node = &plan->nodes[i];
    s->times[i] = 0;
    if (plan->done[i] || node->op->is_view) {
      continue;
    }
    const uint64_t begin = s->measure ? now() : 0;
    const dynq_status status = node->op->run(node);
    s->times[i] = s->measure ? now() - begin : 0;
    if (status == DYNQ_NONFINITE) {
      *nonfinite_at = i < *nonfinite_at ? i : *nonfinite_at;
    } else if (status != DYNQ_OK) {
      return dynq_fail_in_node(status, &s->model->nodes[i]);
    }
  }
  return DYNQ_OK;
}

static dynq_status run(dynq_session *s, const dynq_tensor *inputs, dynq_tensor *outputs) {
  DYNQ_TRY(dynq_inputs_check(s, inputs));
  DYNQ_TRY(choose_plan(s, inputs));
  dynq_shape_plan *plan = s->plans[0];
  DYNQ_TRY(use_arena(s, plan));
  copy_inputs(s, plan, inputs);
  size_t nonfinite_at = plan->nonfinite_at;
  DYNQ_TRY(run_nodes(s, plan, &nonfinite_at));
  for (size_t i = 0; i < s->model->output_count; i++) {
    outputs[i] = dynq_op_tensor_view(&plan->tensors[s->model->outputs[i].tensor]);
  }
  s->ran = true;
  if (nonfinite_at != s->model->node_count) {
    const dynq_plan_node *node = &s->model->nodes[nonfinite_at];
    return dynq_fail(DYNQ_NONFINITE, "node '%.80s' (%s) met a NaN or an infinity", node->name, node->op->name);
  }
  return DYNQ_OK;
}

dynq_status dynq_model_run(dynq_session *session, const dynq_tensor *inputs, dynq_tensor *outputs) {
  if (session == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "session is NULL");
  }
  if ((inputs == NULL && session->model->input_count != 0) || (outputs == NULL && session->model->output_count != 0)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", inputs == NULL ? "inputs" : "outputs");
  }
  session->ran = false;
  const fp_state fp = fp_enter();
  const dynq_status status = run(session, inputs, outputs);
  fp_leave(fp);
  return status;
}
