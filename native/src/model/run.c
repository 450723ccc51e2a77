/*
 * One inference: find or make the plan for the shapes, copy the inputs in, run the nodes, tell where the outputs lie.
 */
#include "../base/alloc.h"
#include "../base/clock.h"
#include "../base/fp_environment.h"
#include "../base/memory_limit.h"
#include "../base/threads.h"
#include "model.h"

#include <string.h>

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

static size_t limit_of(const dynq_session *s, const dynq_tensor *inputs) {
  size_t given = s->model->image_bytes;
  for (size_t i = 0; i < s->model->input_count; i++) {
    const size_t count = dynq_dims_count(inputs[i].dtype, inputs[i].rank, inputs[i].dims);
    given = dynq_size_add(given, count * dynq_dtype_size(inputs[i].dtype));
  }
  return s->max_bytes != 0 ? s->max_bytes : dynq_memory_limit(given);
}

/* Takes plan `at`, the last, out of those that are kept. An input of this run may still be an output of it. */
static void retire(dynq_session *s, size_t at) {
  dynq_shape_plan_free(s->retired);
  s->retired = s->plans[at];
  s->plans[at] = NULL;
}

/* Retires plans, the oldest first, until those that are kept and an arena for any of them are within the limit; an
 * arena that is over it goes, too. Afterwards no plan that is kept takes more memory when it runs. */
static void keep_within(dynq_session *s, size_t limit) {
  size_t values = 0, arena = 0, kept = 0;
  while (kept < DYNQ_SHAPE_PLANS && s->plans[kept] != NULL) {
    const dynq_shape_plan *plan = s->plans[kept];
    const size_t larger = plan->arena_bytes > arena ? plan->arena_bytes : arena;
    if (kept != 0 && dynq_size_add(larger, dynq_size_add(values, plan->static_bytes)) > limit) {
      break;
    }
    values += plan->static_bytes;
    arena = larger;
    kept++;
  }
  for (size_t i = DYNQ_SHAPE_PLANS; i-- > kept;) {
    if (s->plans[i] != NULL) {
      retire(s, i);
    }
  }
  if (s->arena_bytes < arena || dynq_size_add(s->arena_bytes, values) > limit) {
    dynq_free(s->arena);
    s->arena = NULL;
    s->arena_bytes = 0;
  }
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
  const bool is_new = at == DYNQ_SHAPE_PLANS || s->plans[at] == NULL;
  const size_t limit = limit_of(s, inputs);
  if (is_new) {
    DYNQ_TRY(dynq_shape_plan_new(s->model, inputs, kernels, s->threads, thread_count, s->keep_all, limit,
                                 s->kept.sequences, &plan));
    if (at == DYNQ_SHAPE_PLANS) {
      retire(s, --at);
    }
  } else {
    plan = s->plans[at];
  }
  memmove(&s->plans[1], &s->plans[0], at * sizeof(dynq_shape_plan *));
  s->plans[0] = plan;
  if (is_new) {
    s->limit = limit > s->limit ? limit : s->limit;
    keep_within(s, s->limit);
  }
  return DYNQ_OK;
}

static dynq_status use_arena(dynq_session *s, dynq_shape_plan *plan) {
  if (s->arena == NULL) {
    size_t bytes = 0;
    for (size_t i = 0; i < DYNQ_SHAPE_PLANS && s->plans[i] != NULL; i++) {
      bytes = s->plans[i]->arena_bytes > bytes ? s->plans[i]->arena_bytes : bytes;
      s->plans[i]->arena = NULL;
    }
    s->arena = dynq_alloc(bytes);
    if (s->arena == NULL) {
      return dynq_fail_memory(bytes);
    }
    s->arena_bytes = bytes;
  }
  if (plan->arena != s->arena) {
    dynq_shape_plan_bind(s->model, plan, s->arena);
  }
  return DYNQ_OK;
}

static void copy_part(dynq_dtype dtype, size_t bytes, const unsigned char *from, unsigned char *to) {
  if (dtype != DYNQ_BOOL) {
    memcpy(to, from, bytes);
    return;
  }
  for (size_t i = 0; i < bytes; i++) {
    to[i] = from[i] != 0;
  }
}

static void copy_inputs(const dynq_session *s, const dynq_shape_plan *plan, const dynq_tensor *inputs) {
  enum { PART = 1 << 20 };
  for (size_t i = 0; i < s->model->input_count; i++) {
    const dynq_op_tensor *to = &plan->tensors[s->model->inputs[i]];
    const size_t bytes = dynq_op_tensor_bytes(to);
    for (size_t at = 0; at < bytes && !dynq_interrupted(); at += PART) {
      copy_part(to->dtype, bytes - at < PART ? bytes - at : PART, (const unsigned char *)inputs[i].data + at,
                (unsigned char *)to->data + at);
    }
  }
}

/* After node i. Loops in the nodes look at the clock too: here it is enough to do so now and then. */
static bool is_cancelled(const dynq_session *s, size_t i) {
  return atomic_load_explicit(&s->interrupt.requested, memory_order_relaxed) || (i % 4 == 3 && dynq_interrupted());
}

/* Leaves the first node that met a NaN or an infinity in `nonfinite_at`. */
static dynq_status run_nodes(dynq_session *s, dynq_shape_plan *plan, size_t *nonfinite_at) {
  for (size_t i = 0; i < plan->stop; i++) {
    const dynq_op_node *node = &plan->nodes[i];
    s->times[i] = 0;
    if (plan->done[i] || dynq_node_is_view(node)) {
      continue;
    }
    const uint64_t begin = s->measure ? dynq_nanoseconds() : 0;
    const dynq_status status = dynq_session_run_node(s, plan, node);
    s->times[i] = s->measure ? dynq_nanoseconds() - begin : 0;
    if (is_cancelled(s, i)) { /* whatever the status: the node may have left early */
      return dynq_fail_cancelled();
    }
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
  dynq_shape_plan_free(s->retired); /* from here on nobody reads outputs of the last run */
  s->retired = NULL;
  dynq_steps_clear(s);
  if (dynq_interrupted()) {
    return dynq_fail_cancelled();
  }
  size_t nonfinite_at = plan->nonfinite_at;
  dynq_kept_begin(s, plan);
  DYNQ_TRY(run_nodes(s, plan, &nonfinite_at));
  if (plan->stop < s->model->node_count) {
    DYNQ_TRY(dynq_steps_run(s, plan, &nonfinite_at));
  }
  for (size_t i = 0; i < s->model->output_count; i++) {
    outputs[i] = dynq_op_tensor_view(&plan->tensors[s->model->outputs[i].tensor]);
  }
  s->ran = true;
  dynq_kept_commit(s);
  if (nonfinite_at != DYNQ_NO_NODE) {
    const dynq_plan_node *node = dynq_model_node_at(s->model, nonfinite_at);
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
  DYNQ_TRY(dynq_session_enter(session));
  session->ran = false;
  const dynq_interrupt_scope scope = dynq_interrupt_begin(&session->interrupt);
  const fp_state fp = fp_enter();
  const dynq_status status = run(session, inputs, outputs);
  fp_leave(fp);
  (void)dynq_interrupt_enter(scope);
  dynq_session_leave(session);
  return status;
}
