/*
 * From the shapes of the inputs to everything that a run needs: the shape of each tensor, the values that are known
 * already, who shares memory with whom, and where it lies.
 *
 * Tensors that are views of one tensor form a group, named by that tensor, the root; a group lives in one buffer. An op
 * that works in place puts its output's group into its input's buffer.
 */
#include "../base/alloc.h"
#include "../base/fp_environment.h"
#include "model.h"

#include <string.h>

typedef struct planner {
  const dynq_model *model;
  const dynq_threads *threads;
  const dynq_sequences *sequences;
  dynq_shape_plan *plan;
  uint32_t *root; /* per tensor */
  size_t *last;   /* per root: when it is read for the last time */
} planner;

/* While planning, what has data is static. */
static bool is_static(const dynq_op_tensor *t) { return t->data != NULL || t->weight != NULL; }

/* ---- Tensors and nodes before anything is inferred ---- */

static void prepare_tensors(const planner *p, const dynq_tensor *inputs) {
  const dynq_model *m = p->model;
  for (size_t i = 0; i < m->tensor_count; i++) {
    const dynq_plan_tensor *from = &m->tensors[i];
    dynq_op_tensor *t = &p->plan->tensors[i];
    t->dtype = from->dtype;
    t->rank = from->rank;
    t->weight = from->weight;
    if (from->kind == DYNQ_CONSTANT) {
      t->data = (void *)(uintptr_t)from->data;
      for (size_t d = 0; d < t->rank; d++) {
        t->dims[d] = (size_t)from->dims[d];
      }
      t->count = dynq_dims_count(t->dtype, t->rank, t->dims);
    } else if (from->kind == DYNQ_STATE) {
      t->is_state = true;
      for (size_t d = 0; d < t->rank; d++) {
        t->dims[d] = (size_t)from->dims[d];
      }
    } else if (from->weight != NULL) {
      dynq_weight_info info;
      dynq_weight_describe(from->weight, &info);
      t->dtype = DYNQ_INT8;
      t->rank = 2;
      t->dims[0] = info.n;
      t->dims[1] = info.k;
      t->count = dynq_size_mul(info.n, info.k);
    }
    p->root[i] = (uint32_t)i;
    p->plan->buffer_of[i] = DYNQ_NONE;
  }
  for (size_t i = 0; i < m->input_count; i++) {
    dynq_op_tensor *t = &p->plan->tensors[m->inputs[i]];
    memcpy(t->dims, inputs[i].dims, sizeof t->dims);
    t->count = dynq_dims_count(t->dtype, t->rank, t->dims);
  }
}

_Alignas(64) char dynq_no_scratch[1];

static dynq_status prepare_node(const planner *p, const dynq_plan_node *from, dynq_op_node *node) {
  const dynq_op_tensor **inputs;
  dynq_op_tensor **outputs;
  DYNQ_TRY(dynq_pool_array(&p->plan->pool, from->input_count, sizeof *inputs, &inputs));
  DYNQ_TRY(dynq_pool_array(&p->plan->pool, from->output_count, sizeof *outputs, &outputs));
  for (size_t i = 0; i < from->input_count; i++) {
    inputs[i] = from->inputs[i] != DYNQ_NONE ? &p->plan->tensors[from->inputs[i]] : NULL;
  }
  for (size_t i = 0; i < from->output_count; i++) {
    outputs[i] = from->outputs[i] != DYNQ_NONE ? &p->plan->tensors[from->outputs[i]] : NULL;
  }
  *node = (dynq_op_node){.op = from->op,
                         .name = from->name,
                         .input_count = from->input_count,
                         .output_count = from->output_count,
                         .inputs = inputs,
                         .outputs = outputs,
                         .attributes = from->attributes,
                         .scratch = dynq_no_scratch,
                         .kernels = p->plan->kernels,
                         .threads = p->threads,
                         .thread_count = p->plan->thread_count,
                         .sequences = &p->sequences[(from->op->flags & DYNQ_OP_SOURCE) != 0]};
  return DYNQ_OK;
}

/* Prepares the nodes from `first` on, and those of bodies, which the run infers. */
static dynq_status prepare_rest(const planner *p, size_t first) {
  const dynq_model *m = p->model;
  for (size_t i = first; i < m->node_count; i++) {
    DYNQ_TRY(prepare_node(p, &m->nodes[i], &p->plan->nodes[i]));
  }
  for (size_t b = 0; b < m->body_count; b++) {
    for (size_t i = 0; i < m->bodies[b].node_count; i++) {
      DYNQ_TRY(prepare_node(p, &m->bodies[b].nodes[i], &p->plan->nodes[m->bodies[b].first + i]));
    }
  }
  return DYNQ_OK;
}

/* ---- The limit of memory ---- */

dynq_status dynq_fail_limit(size_t bytes, const char *what, size_t max_bytes) {
  return dynq_fail(DYNQ_ERROR_OUT_OF_MEMORY,
                   "%s %zu bytes; the session's limit is %zu: raise max_bytes (dynq_session_options; in Python "
                   "dynq.load or Model.max_bytes)",
                   what, bytes, max_bytes);
}

/* Counts the bytes that a node takes for itself: its outputs and its scratch. */
static size_t bytes_of(const dynq_op_node *node) {
  size_t bytes = node->scratch_bytes;
  for (size_t i = 0; i < node->output_count && !dynq_node_is_view(node); i++) {
    bytes = dynq_size_add(bytes, node->outputs[i] != NULL ? dynq_op_tensor_bytes(node->outputs[i]) : 0);
  }
  return bytes;
}

/* Refuses a node that alone is too large, before any of it is computed. */
static dynq_status check_node(const planner *p, const dynq_op_node *node) {
  const size_t bytes = dynq_size_add(bytes_of(node), p->plan->static_bytes);
  return bytes <= p->plan->max_bytes ? DYNQ_OK : dynq_fail_limit(bytes, "takes", p->plan->max_bytes);
}

/* Refuses the whole, in the name of the node that takes most. */
static dynq_status check_all(const planner *p) {
  const size_t bytes = dynq_size_add(p->plan->arena_bytes, p->plan->static_bytes);
  size_t largest = 0, most = 0;
  if (bytes <= p->plan->max_bytes) {
    return DYNQ_OK;
  }
  for (size_t i = 0; i < p->plan->stop; i++) {
    const size_t own = bytes_of(&p->plan->nodes[i]);
    largest = own > most ? i : largest;
    most = own > most ? own : most;
  }
  const dynq_status status = dynq_fail_limit(bytes, "with the other tensors of a run it takes", p->plan->max_bytes);
  return most != 0 ? dynq_fail_in_node(status, &p->model->nodes[largest]) : status;
}

/* ---- Shapes, and values that are known already ---- */

static dynq_status check_outputs(const dynq_op_node *node) {
  for (size_t i = 0; i < node->output_count; i++) {
    dynq_op_tensor *t = node->outputs[i];
    if (t != NULL) {
      t->count = dynq_dims_count(t->dtype, t->rank, t->dims);
      if (t->count == SIZE_MAX) {
        return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output %zu exceeds the address space", i);
      }
    }
  }
  if (dynq_node_is_view(node) && dynq_op_tensor_bytes(node->outputs[0]) != dynq_op_tensor_bytes(node->inputs[0])) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the output has %zu bytes; expected the input's %zu",
                     dynq_op_tensor_bytes(node->outputs[0]), dynq_op_tensor_bytes(node->inputs[0]));
  }
  return node->scratch_bytes <= PTRDIFF_MAX
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "its memory exceeds the address space");
}

dynq_status dynq_node_infer(dynq_op_node *node) {
  DYNQ_TRY(node->op->code->infer(node));
  return check_outputs(node);
}

void dynq_node_recount(const dynq_op_node *node) {
  for (size_t i = 0; i < node->output_count; i++) {
    dynq_op_tensor *t = node->outputs[i];
    if (t != NULL) {
      t->count = dynq_dims_count(t->dtype, t->rank, t->dims);
    }
  }
}

/* Returns whether the sizes of a node's outputs depend on values that only the run has. */
static bool waits(const dynq_op_node *node) {
  for (size_t i = 0; i < node->input_count; i++) {
    if ((dynq_op_input_flags(node->op, i) & DYNQ_OPERAND_STATIC) != 0 && node->inputs[i] != NULL &&
        !is_static(node->inputs[i])) {
      return true;
    }
  }
  return (node->op->flags & DYNQ_OP_CONTROL) != 0;
}

/* Returns whether the outputs depend on nothing that a run brings. A view is its first input, whatever the others are.
 * */
static bool is_known(const dynq_op_node *node) {
  if ((node->op->flags & DYNQ_OP_STATEFUL) != 0) {
    return false;
  }
  const size_t count = (node->op->flags & DYNQ_OP_SHAPES_ALONE) != 0 ? 0
                       : dynq_node_is_view(node)                     ? 1
                                                                     : node->input_count;
  for (size_t i = 0; i < count; i++) {
    if (node->inputs[i] != NULL && !is_static(node->inputs[i])) {
      return false;
    }
  }
  return true;
}

/* Runs a node whose outputs do not depend on the values of the model's inputs. */
static dynq_status compute(planner *p, size_t index) {
  dynq_op_node *node = &p->plan->nodes[index];
  void *scratch = NULL;
  p->plan->done[index] = true;
  if (dynq_node_is_view(node)) {
    node->outputs[0]->data = node->inputs[0]->data;
    return DYNQ_OK;
  }
  for (size_t i = 0; i < node->output_count; i++) {
    if (node->outputs[i] != NULL) {
      const size_t bytes = dynq_op_tensor_bytes(node->outputs[i]);
      p->plan->static_bytes += bytes;
      node->outputs[i]->data = dynq_pool_take(&p->plan->pool, bytes, 64);
      if (node->outputs[i]->data == NULL) {
        return dynq_fail_memory(bytes);
      }
    }
  }
  if (node->scratch_bytes != 0) {
    scratch = dynq_alloc(node->scratch_bytes);
    if (scratch == NULL) {
      return dynq_fail_memory(node->scratch_bytes);
    }
    node->scratch = scratch;
  }
  const dynq_status status = node->op->code->run(node);
  dynq_free(scratch);
  node->scratch = dynq_no_scratch;
  dynq_node_recount(node);
  if (status == DYNQ_NONFINITE && p->plan->nonfinite_at == DYNQ_NO_NODE) {
    p->plan->nonfinite_at = index;
  }
  return status == DYNQ_NONFINITE ? DYNQ_OK : status;
}

static dynq_status infer_all(planner *p) {
  const dynq_model *m = p->model;
  p->plan->stop = m->node_count;
  for (size_t i = 0; i < m->node_count; i++) {
    dynq_op_node *node = &p->plan->nodes[i];
    DYNQ_TRY(prepare_node(p, &m->nodes[i], node));
    if (waits(node)) {
      p->plan->stop = i;
      return prepare_rest(p, i + 1);
    }
    dynq_status status = dynq_node_infer(node);
    status = status == DYNQ_OK ? check_node(p, node) : status;
    if (status == DYNQ_OK && is_known(node)) {
      status = compute(p, i);
    } else if (status == DYNQ_OK && dynq_node_is_view(node)) {
      p->root[m->nodes[i].outputs[0]] = p->root[m->nodes[i].inputs[0]];
    }
    if (dynq_interrupted()) { /* whatever the status: what was computed may be incomplete */
      return dynq_fail_cancelled();
    }
    if (status != DYNQ_OK) {
      return dynq_fail_in_node(status, &m->nodes[i]);
    }
  }
  return DYNQ_OK;
}

/* ---- Lifetimes and shared memory ---- */

static void use(const planner *p, uint32_t tensor, size_t time) {
  if (tensor != DYNQ_NONE && !is_static(&p->plan->tensors[tensor])) {
    size_t *last = &p->last[p->root[tensor]];
    *last = time > *last ? time : *last;
  }
}

/* Keeps what the nodes that are not planned read. Their outputs are not the arena's. */
static void keep_for_rest(const planner *p, size_t end) {
  const dynq_model *m = p->model;
  for (size_t i = p->plan->stop; i < m->node_count; i++) {
    for (size_t j = 0; j < m->nodes[i].input_count; j++) {
      use(p, m->nodes[i].inputs[j], end);
    }
  }
  for (size_t i = p->plan->stop; i < m->node_count; i++) {
    for (size_t j = 0; j < m->nodes[i].output_count; j++) {
      const uint32_t t = m->nodes[i].outputs[j];
      if (t != DYNQ_NONE) {
        p->last[t] = p->plan->keep_all || m->tensors[t].is_result ? end : 0;
      }
    }
  }
}

static void find_lifetimes(const planner *p) {
  const dynq_model *m = p->model;
  const size_t end = m->node_count + 1;
  for (size_t i = 0; i < p->plan->stop; i++) {
    if (p->plan->done[i]) {
      continue;
    }
    for (size_t j = 0; j < m->nodes[i].input_count; j++) {
      use(p, m->nodes[i].inputs[j], i + 1);
    }
    for (size_t j = 0; j < m->nodes[i].output_count; j++) {
      use(p, m->nodes[i].outputs[j], p->plan->keep_all ? end : i + 1);
    }
  }
  for (size_t i = 0; i < m->input_count; i++) { /* can be asked for by name */
    use(p, m->inputs[i], end);
  }
  for (size_t i = 0; i < m->output_count; i++) {
    use(p, m->outputs[i].tensor, end);
  }
  keep_for_rest(p, end);
  for (size_t i = 0; i < m->tensor_count; i++) {
    p->plan->kept[i] = is_static(&p->plan->tensors[i]) || p->last[p->root[i]] == end;
  }
}

static uint32_t new_buffer(const planner *p, size_t bytes, size_t first, size_t last) {
  p->plan->buffers[p->plan->buffer_count] = (dynq_buffer){.bytes = bytes, .first = first, .last = last};
  return (uint32_t)p->plan->buffer_count++;
}

/* Returns whether node i may write its output 0 over its input j: nobody reads that group later, nor by another input.
 * */
static bool may_replace(const planner *p, size_t i, size_t j) {
  const dynq_plan_node *node = &p->model->nodes[i];
  const uint32_t input = node->inputs[j];
  if ((dynq_op_input_flags(node->op, j) & DYNQ_OPERAND_IN_PLACE) == 0 || input == DYNQ_NONE ||
      is_static(&p->plan->tensors[input]) || p->last[p->root[input]] != i + 1 ||
      dynq_op_tensor_bytes(&p->plan->tensors[input]) != dynq_op_tensor_bytes(&p->plan->tensors[node->outputs[0]])) {
    return false;
  }
  for (size_t other = 0; other < node->input_count; other++) {
    if (other != j && node->inputs[other] != DYNQ_NONE && p->root[node->inputs[other]] == p->root[input]) {
      return false;
    }
  }
  return true;
}

static uint32_t place_output(const planner *p, size_t i, size_t output, uint32_t tensor) {
  const dynq_plan_node *node = &p->model->nodes[i];
  const size_t last = p->last[tensor];
  for (size_t j = 0; output == 0 && j < node->input_count; j++) {
    if (may_replace(p, i, j)) {
      const uint32_t buffer = p->plan->buffer_of[p->root[node->inputs[j]]];
      p->plan->buffers[buffer].last = last;
      return buffer;
    }
  }
  return new_buffer(p, dynq_op_tensor_bytes(&p->plan->tensors[tensor]), i + 1, last);
}

static void choose_buffers(const planner *p) {
  const dynq_model *m = p->model;
  for (size_t i = 0; i < m->input_count; i++) {
    const uint32_t t = m->inputs[i];
    p->plan->buffer_of[t] = new_buffer(p, dynq_op_tensor_bytes(&p->plan->tensors[t]), 0, p->last[t]);
  }
  for (size_t i = 0; i < m->node_count; i++) {
    const dynq_op_node *node = &p->plan->nodes[i];
    p->plan->scratch_of[i] = DYNQ_NONE;
    if (p->plan->done[i] || i >= p->plan->stop) {
      continue;
    }
    for (size_t j = 0; j < node->output_count; j++) {
      const uint32_t tensor = m->nodes[i].outputs[j];
      if (tensor != DYNQ_NONE) {
        const uint32_t root = p->root[tensor];
        p->plan->buffer_of[tensor] = root == tensor ? place_output(p, i, j, tensor) : p->plan->buffer_of[root];
      }
    }
    if (node->scratch_bytes != 0) {
      p->plan->scratch_of[i] = new_buffer(p, node->scratch_bytes, i + 1, i + 1);
    }
  }
}

/* ---- The whole ---- */

static dynq_status fill(planner *p, dynq_pool *temporary, const dynq_tensor *inputs) {
  const dynq_model *m = p->model;
  dynq_shape_plan *plan = p->plan;
  DYNQ_TRY(dynq_pool_array(temporary, m->tensor_count, sizeof *p->root, &p->root));
  DYNQ_TRY(dynq_pool_array(temporary, m->tensor_count, sizeof *p->last, &p->last));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->tensor_count, sizeof *plan->tensors, &plan->tensors));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->tensor_count, sizeof *plan->buffer_of, &plan->buffer_of));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->tensor_count, sizeof *plan->kept, &plan->kept));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->all_node_count, sizeof *plan->nodes, &plan->nodes));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->node_count, sizeof *plan->scratch_of, &plan->scratch_of));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->node_count, sizeof *plan->done, &plan->done));
  DYNQ_TRY(dynq_pool_array(&plan->pool, m->tensor_count + m->node_count, sizeof *plan->buffers, &plan->buffers));
  prepare_tensors(p, inputs);
  DYNQ_TRY(infer_all(p));
  find_lifetimes(p);
  choose_buffers(p);
  DYNQ_TRY(dynq_arena_place(plan->buffers, plan->buffer_count, &plan->arena_bytes));
  return check_all(p);
}

dynq_status dynq_shape_plan_new(const dynq_model *model, const dynq_tensor *inputs, const dynq_kernels *kernels,
                                const dynq_threads *threads, size_t thread_count, bool keep_all, size_t max_bytes,
                                const dynq_sequences *sequences, dynq_shape_plan **plan) {
  dynq_shape_plan *made = dynq_alloc(sizeof *made);
  dynq_pool temporary = {NULL};
  if (made == NULL) {
    return dynq_fail_memory(sizeof *made);
  }
  *made = (dynq_shape_plan){.keep_all = keep_all,
                            .kernels = kernels,
                            .thread_count = thread_count,
                            .max_bytes = max_bytes,
                            .nonfinite_at = DYNQ_NO_NODE};
  planner p = {.model = model, .threads = threads, .sequences = sequences, .plan = made};
  const dynq_status status = fill(&p, &temporary, inputs);
  dynq_pool_free(&temporary);
  if (status != DYNQ_OK) {
    dynq_shape_plan_free(made);
    return status;
  }
  *plan = made;
  return DYNQ_OK;
}

void dynq_shape_plan_free(dynq_shape_plan *plan) {
  if (plan != NULL) {
    dynq_pool_free(&plan->pool);
    dynq_free(plan);
  }
}

void dynq_shape_plan_bind(const dynq_model *model, dynq_shape_plan *plan, void *arena) {
  for (size_t i = 0; i < model->tensor_count; i++) {
    if (plan->buffer_of[i] != DYNQ_NONE) {
      plan->tensors[i].data = (char *)arena + plan->buffers[plan->buffer_of[i]].offset;
    }
  }
  for (size_t i = 0; i < model->node_count; i++) {
    if (plan->scratch_of[i] != DYNQ_NONE) {
      plan->nodes[i].scratch = (char *)arena + plan->buffers[plan->scratch_of[i]].offset;
    }
  }
  plan->arena = arena;
}
