/*
 * Runs nodes one after another: each is inferred with the values of its inputs at hand, gets memory, and runs. So run the
 * nodes behind the first whose sizes depend on values, and those of bodies.
 *
 * Tensors lie in blocks that count their references: views, parameters of bodies and outputs share them. A tensor gives
 * its block back behind its last reader.
 */
#include "../base/alloc.h"
#include "../base/clock.h"
#include "model.h"

#include <string.h>

/* ---- The memory of tensors ---- */

void dynq_steps_drop(const dynq_steps *s, uint32_t tensor) {
  dynq_block **block = &s->session->block_of[tensor];
  dynq_blocks_give(&s->session->blocks, *block);
  *block = NULL;
}

void dynq_steps_share(const dynq_steps *s, uint32_t to, uint32_t from) {
  dynq_block *block = s->session->block_of[from];
  if (block != NULL) {
    block->references++;
  }
  dynq_steps_drop(s, to);
  s->session->block_of[to] = block;
  s->plan->tensors[to] = s->plan->tensors[from];
}

dynq_status dynq_steps_take(const dynq_steps *s, uint32_t tensor) {
  dynq_op_tensor *t = &s->plan->tensors[tensor];
  dynq_block *block = NULL;
  dynq_steps_drop(s, tensor);
  DYNQ_TRY(dynq_blocks_take(&s->session->blocks, dynq_op_tensor_bytes(t), &block));
  s->session->block_of[tensor] = block;
  t->data = dynq_block_data(block);
  return DYNQ_OK;
}

void dynq_steps_clear(dynq_session *session) {
  for (size_t i = 0; session->block_of != NULL && i < session->model->tensor_count; i++) {
    dynq_blocks_give(&session->blocks, session->block_of[i]);
    session->block_of[i] = NULL;
  }
}

/* ---- One node ---- */

typedef struct graph {
  const dynq_plan_node *nodes;
  size_t count, first; /* first: the index of node 0 among all */
  bool keep;           /* every tensor */
} graph;

/* Returns whether nobody reads a tensor behind node i. */
static bool ends(const dynq_steps *s, const graph *g, size_t i, uint32_t tensor) {
  const dynq_plan_tensor *t = &s->model->tensors[tensor];
  return !g->keep && !t->is_result && (t->last_reader == i || t->last_reader == DYNQ_NONE);
}

/* Returns the input whose memory output 0 of node i may take: the node is the only one that still needs it. */
static uint32_t replaced(const dynq_steps *s, const graph *g, size_t i, const dynq_op_tensor *output) {
  const dynq_plan_node *node = &g->nodes[i];
  for (size_t j = 0; j < node->input_count; j++) {
    const uint32_t input = node->inputs[j];
    const dynq_block *block = input != DYNQ_NONE ? s->session->block_of[input] : NULL;
    size_t readers = 0;
    if (block == NULL || block->references != 1 || !ends(s, g, i, input) ||
        (dynq_op_input_flags(node->op, j) & DYNQ_OPERAND_IN_PLACE) == 0 ||
        dynq_op_tensor_bytes(&s->plan->tensors[input]) != dynq_op_tensor_bytes(output)) {
      continue;
    }
    for (size_t other = 0; other < node->input_count; other++) {
      readers += node->inputs[other] == input;
    }
    if (readers == 1) {
      return input;
    }
  }
  return DYNQ_NONE;
}

static dynq_status place_outputs(const dynq_steps *s, const graph *g, size_t i) {
  const dynq_plan_node *node = &g->nodes[i];
  for (size_t j = 0; j < node->output_count; j++) {
    const uint32_t output = node->outputs[j];
    if (output == DYNQ_NONE) {
      continue;
    }
    const uint32_t input = j == 0 ? replaced(s, g, i, &s->plan->tensors[output]) : DYNQ_NONE;
    if (input == DYNQ_NONE) {
      DYNQ_TRY(dynq_steps_take(s, output));
    } else {
      dynq_steps_drop(s, output);
      s->session->block_of[output] = s->session->block_of[input];
      s->session->block_of[input] = NULL;
      s->plan->tensors[output].data = s->plan->tensors[input].data;
    }
  }
  return DYNQ_OK;
}

static dynq_status compute(const dynq_steps *s, const graph *g, size_t i, dynq_op_node *node) {
  dynq_block *scratch = NULL;
  DYNQ_TRY(place_outputs(s, g, i));
  if (node->scratch_bytes != 0) {
    DYNQ_TRY(dynq_blocks_take(&s->session->blocks, node->scratch_bytes, &scratch));
    node->scratch = dynq_block_data(scratch);
  }
  const dynq_status status = dynq_session_run_node(s->session, s->plan, node);
  dynq_blocks_give(&s->session->blocks, scratch);
  node->scratch = dynq_no_scratch;
  dynq_node_recount(node);
  return status;
}

static dynq_status run_node(const dynq_steps *s, const graph *g, size_t i) {
  const dynq_plan_node *from = &g->nodes[i];
  dynq_op_node *node = &s->plan->nodes[g->first + i];
  node->scratch_bytes = 0;
  if ((node->op->flags & DYNQ_OP_CONTROL) != 0) {
    DYNQ_TRY(node->op->code->infer(node));
    return dynq_control_run(s, from, node);
  }
  DYNQ_TRY(dynq_node_infer(node));
  if (!dynq_node_is_view(node)) {
    return compute(s, g, i, node);
  }
  const dynq_op_tensor shaped = *node->outputs[0];
  void *const data = node->inputs[0]->data;
  dynq_steps_share(s, from->outputs[0], from->inputs[0]);
  *node->outputs[0] = shaped;
  node->outputs[0]->data = data;
  return DYNQ_OK;
}

static void drop_read(const dynq_steps *s, const graph *g, size_t i) {
  const dynq_plan_node *node = &g->nodes[i];
  for (size_t j = 0; j < node->input_count; j++) {
    if (node->inputs[j] != DYNQ_NONE && ends(s, g, i, node->inputs[j])) {
      dynq_steps_drop(s, node->inputs[j]);
    }
  }
  for (size_t j = 0; j < node->output_count; j++) {
    if (node->outputs[j] != DYNQ_NONE && s->model->tensors[node->outputs[j]].last_reader == DYNQ_NONE &&
        ends(s, g, i, node->outputs[j])) {
      dynq_steps_drop(s, node->outputs[j]);
    }
  }
}

/* ---- Graphs ---- */

static dynq_status run_graph(const dynq_steps *s, const graph *g, size_t begin) {
  for (size_t i = begin; i < g->count; i++) {
    const uint64_t start = s->session->measure ? dynq_nanoseconds() : 0;
    const dynq_status status = run_node(s, g, i);
    s->session->times[g->first + i] += s->session->measure ? dynq_nanoseconds() - start : 0;
    if (dynq_interrupted()) { /* whatever the status: the node may have left early */
      return dynq_fail_cancelled();
    }
    if (status == DYNQ_NONFINITE) {
      *s->nonfinite_at = *s->nonfinite_at == DYNQ_NO_NODE ? g->first + i : *s->nonfinite_at;
    } else if (status != DYNQ_OK) {
      return dynq_fail_in_node(status, &g->nodes[i]);
    }
    drop_read(s, g, i);
  }
  return DYNQ_OK;
}

dynq_status dynq_steps_run_body(const dynq_steps *s, const dynq_plan_body *body) {
  const graph g = {.nodes = body->nodes, .count = body->node_count, .first = body->first};
  return run_graph(s, &g, 0);
}

static size_t planned_bytes(const dynq_session *session) {
  size_t bytes = session->plans[0]->arena_bytes;
  for (size_t i = 0; i < DYNQ_SHAPE_PLANS && session->plans[i] != NULL; i++) {
    bytes = dynq_size_add(bytes, session->plans[i]->static_bytes);
  }
  return bytes;
}

dynq_status dynq_steps_run(dynq_session *session, dynq_shape_plan *plan, size_t *nonfinite_at) {
  const dynq_model *m = session->model;
  const dynq_steps s = {.session = session, .model = m, .plan = plan, .nonfinite_at = nonfinite_at};
  const graph g = {.nodes = m->nodes, .count = m->node_count, .keep = session->keep_all};
  if (session->block_of == NULL) {
    const size_t bytes = dynq_size_mul(m->tensor_count, sizeof(dynq_block *));
    session->block_of = dynq_alloc(bytes);
    if (session->block_of == NULL) {
      return dynq_fail_memory(bytes);
    }
    memset(session->block_of, 0, bytes);
  }
  session->blocks.run++;
  session->blocks.planned_bytes = planned_bytes(session);
  session->blocks.max_bytes = plan->max_bytes;
  memset(session->times + plan->stop, 0, (m->all_node_count - plan->stop) * sizeof *session->times);
  const dynq_status status = run_graph(&s, &g, plan->stop);
  dynq_blocks_trim(&session->blocks, session->blocks.run);
  return status;
}
