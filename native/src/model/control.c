/*
 * dynq.If and dynq.Loop: which body runs, how often, and what it passes on.
 *
 * docs/model-format.md says how the inputs and outputs of a node and of its bodies belong together; bodies.c has checked
 * that they do.
 */
#include "../base/alloc.h"
#include "../ops/checks.h"
#include "model.h"

#include <string.h>

static const dynq_plan_body *body_of(const dynq_steps *s, const dynq_op_node *node, size_t attribute) {
  return &s->model->bodies[dynq_op_int(node, attribute)];
}

/* Gives back what a body has left: its inputs, and its results. */
static void close_body(const dynq_steps *s, const dynq_plan_body *body) {
  for (size_t i = 0; i < body->input_count; i++) {
    dynq_steps_drop(s, body->inputs[i]);
  }
  for (size_t i = 0; i < body->output_count; i++) {
    dynq_steps_drop(s, body->outputs[i]);
  }
}

/* ---- If ---- */

static dynq_status run_if(const dynq_steps *s, const dynq_plan_node *from, const dynq_op_node *node) {
  const bool yes = *(const unsigned char *)DYNQ_INPUT(node, dynq_If, cond)->data != 0;
  const size_t first = DYNQ_IN(dynq_If, captures);
  const dynq_plan_body *body =
      body_of(s, node, yes ? DYNQ_ATTR(dynq_If, then_branch) : DYNQ_ATTR(dynq_If, else_branch));
  for (size_t i = 0; i < body->input_count; i++) {
    dynq_steps_share(s, body->inputs[i], from->inputs[first + i]);
  }
  DYNQ_TRY(dynq_steps_run_body(s, body));
  for (size_t i = 0; i < from->output_count; i++) {
    if (from->outputs[i] != DYNQ_NONE) {
      dynq_steps_share(s, from->outputs[i], body->outputs[i]);
    }
  }
  close_body(s, body);
  return DYNQ_OK;
}

/* ---- Loop ---- */

/* The results of the iterations for one output, one behind the other. */
typedef struct scan_output {
  dynq_op_tensor each; /* its data: of all */
  dynq_block *block;
  size_t room;
} scan_output;

/* A tensor on its way from one iteration to the next. */
typedef struct passed {
  dynq_op_tensor t;
  dynq_block *block;
} passed;

typedef struct loop {
  const dynq_steps *s;
  const dynq_plan_node *from;
  const dynq_op_node *node;
  const dynq_plan_body *body;
  size_t carried_count, scan_count;
  passed *carried;
  scan_output *scans;
  int64_t trips; /* at the most */
} loop;

static dynq_status set_scalar(const dynq_steps *s, uint32_t tensor, dynq_dtype dtype, int64_t value) {
  dynq_op_tensor *t = &s->plan->tensors[tensor];
  *t = (dynq_op_tensor){.dtype = dtype, .count = 1};
  DYNQ_TRY(dynq_steps_take(s, tensor));
  dynq_op_set_integer(t, 0, value);
  return DYNQ_OK;
}

/* Holds a tensor, which then gives up its own hold of the memory. */
static passed hold(const dynq_steps *s, uint32_t tensor) {
  dynq_block *block = s->session->block_of[tensor];
  if (block != NULL) {
    block->references++;
  }
  return (passed){s->plan->tensors[tensor], block};
}

static void bind(const dynq_steps *s, uint32_t tensor, passed *value) {
  dynq_steps_drop(s, tensor);
  s->plan->tensors[tensor] = value->t;
  s->session->block_of[tensor] = value->block;
  value->block = NULL;
}

/* Makes room for `needed` bytes: for all that can come if that is not much, else for twice as much as there is. */
static dynq_status grow(const loop *l, scan_output *scan, size_t needed, int64_t left) {
  enum { AT_ONCE = 1 << 20 };
  const size_t each = dynq_op_tensor_bytes(&scan->each), have = needed - each;
  const size_t rest = dynq_size_mul(each, left < AT_ONCE ? (size_t)left : AT_ONCE);
  const size_t more = rest <= AT_ONCE ? rest : have > each ? have : each;
  dynq_block *block = NULL;
  DYNQ_TRY(dynq_blocks_take(&l->s->session->blocks, dynq_size_add(have, more), &block));
  if (have != 0) {
    memcpy(dynq_block_data(block), dynq_block_data(scan->block), have);
  }
  dynq_blocks_give(&l->s->session->blocks, scan->block);
  scan->block = block;
  scan->room = have + more;
  return DYNQ_OK;
}

static bool same_shape(const dynq_op_tensor *a, const dynq_op_tensor *b) {
  return a->dtype == b->dtype && a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

static dynq_status append(const loop *l, size_t k, int64_t iteration) {
  scan_output *scan = &l->scans[k];
  const dynq_op_tensor *t = &l->s->plan->tensors[l->body->outputs[1 + l->carried_count + k]];
  if (iteration == 0) {
    scan->each = *t;
  }
  if (t->rank == DYNQ_MAX_RANK || !same_shape(&scan->each, t)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scan output %zu has %s in iteration %lld", k,
                     t->rank == DYNQ_MAX_RANK ? "too many dimensions" : "another dtype or shape than before",
                     (long long)iteration);
  }
  const size_t bytes = dynq_op_tensor_bytes(t), at = dynq_size_mul(bytes, (size_t)iteration);
  const size_t end = dynq_size_add(at, bytes);
  if (end > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scan output %zu exceeds the address space", k);
  }
  if (scan->block == NULL || end > scan->room) {
    DYNQ_TRY(grow(l, scan, end, l->trips - iteration));
  }
  if (bytes != 0) {
    memcpy((char *)dynq_block_data(scan->block) + at, t->data, bytes);
  }
  return DYNQ_OK;
}

static dynq_status bind_iteration(const loop *l, int64_t iteration) {
  const dynq_plan_body *body = l->body;
  const size_t values = DYNQ_IN(dynq_Loop, values), captures = values + l->carried_count;
  DYNQ_TRY(set_scalar(l->s, body->inputs[0], DYNQ_INT64, iteration));
  DYNQ_TRY(set_scalar(l->s, body->inputs[1], DYNQ_BOOL, 1));
  for (size_t i = 0; i < l->carried_count; i++) {
    bind(l->s, body->inputs[2 + i], &l->carried[i]);
  }
  for (size_t i = 2 + l->carried_count; i < body->input_count; i++) {
    dynq_steps_share(l->s, body->inputs[i], l->from->inputs[captures + i - 2 - l->carried_count]);
  }
  return DYNQ_OK;
}

static dynq_status iterate(const loop *l, int64_t iteration, bool *again) {
  const dynq_plan_body *body = l->body;
  DYNQ_TRY(bind_iteration(l, iteration));
  DYNQ_TRY(dynq_steps_run_body(l->s, body));
  const dynq_op_tensor *condition = &l->s->plan->tensors[body->outputs[0]];
  if (condition->dtype != DYNQ_BOOL || condition->count != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the body's condition has %zu elements of %s; expected one of bool",
                     condition->count, dynq_dtype_name(condition->dtype));
  }
  *again = *(const unsigned char *)condition->data != 0;
  for (size_t i = 0; i < l->scan_count; i++) {
    DYNQ_TRY(append(l, i, iteration));
  }
  for (size_t i = 0; i < l->carried_count; i++) {
    l->carried[i] = hold(l->s, body->outputs[1 + i]);
  }
  close_body(l->s, body);
  return DYNQ_OK;
}

/* Gives a scan output that no iteration made the dtype and the sizes that the file says; those left open are 0. */
static void describe_empty(const loop *l, size_t k, dynq_op_tensor *t) {
  const int64_t *type = l->node->attributes[DYNQ_ATTR(dynq_Loop, scan_types)].ints;
  for (size_t i = 0; i < k; i++) {
    type += 2 + type[1];
  }
  *t = (dynq_op_tensor){.dtype = (dynq_dtype)type[0], .rank = (size_t)type[1]};
  for (size_t d = 0; d < t->rank; d++) {
    t->dims[d] = type[2 + d] > 0 ? (size_t)type[2 + d] : 0;
  }
}

static dynq_status finish(const loop *l, int64_t iterations) {
  const dynq_plan_node *from = l->from;
  for (size_t i = 0; i < from->output_count; i++) {
    const size_t k = i - l->carried_count;
    if (from->outputs[i] == DYNQ_NONE) {
      continue;
    }
    dynq_op_tensor *to = &l->s->plan->tensors[from->outputs[i]];
    if (i < l->carried_count) {
      bind(l->s, from->outputs[i], &l->carried[i]);
      continue;
    }
    scan_output *scan = &l->scans[k];
    dynq_op_tensor each = scan->each;
    if (iterations == 0) {
      describe_empty(l, k, &each);
      DYNQ_TRY(dynq_blocks_take(&l->s->session->blocks, 0, &scan->block));
    }
    *to = (dynq_op_tensor){.dtype = each.dtype, .rank = each.rank + 1, .data = dynq_block_data(scan->block)};
    to->dims[0] = (size_t)iterations;
    memcpy(to->dims + 1, each.dims, each.rank * sizeof *each.dims);
    to->count = dynq_dims_count(to->dtype, to->rank, to->dims);
    dynq_steps_drop(l->s, from->outputs[i]);
    l->s->session->block_of[from->outputs[i]] = scan->block;
    scan->block = NULL;
    if (to->count == SIZE_MAX) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output %zu exceeds the address space", i);
    }
  }
  return DYNQ_OK;
}

static dynq_status run_iterations(const loop *l) {
  const dynq_op_tensor *condition = DYNQ_GIVEN(l->node, dynq_Loop, cond);
  bool again = condition == NULL || *(const unsigned char *)condition->data != 0;
  int64_t iteration = 0;
  for (; again && iteration < l->trips; iteration++) {
    DYNQ_TRY(iterate(l, iteration, &again));
    if (dynq_interrupted()) {
      return dynq_fail_cancelled();
    }
  }
  return finish(l, iteration);
}

static dynq_status run_loop(const dynq_steps *s, const dynq_plan_node *from, const dynq_op_node *node) {
  const dynq_op_tensor *trips = DYNQ_GIVEN(node, dynq_Loop, M);
  loop l = {.s = s, .from = from, .node = node, .body = body_of(s, node, DYNQ_ATTR(dynq_Loop, body))};
  dynq_pool pool = {NULL};
  l.carried_count = (size_t)dynq_op_int(node, DYNQ_ATTR(dynq_Loop, carried));
  l.scan_count = l.body->output_count - 1 - l.carried_count;
  l.trips = trips != NULL ? dynq_op_value(trips, 0) : INT64_MAX;
  dynq_status status = dynq_pool_array(&pool, l.carried_count, sizeof *l.carried, &l.carried);
  status = status == DYNQ_OK ? dynq_pool_array(&pool, l.scan_count, sizeof *l.scans, &l.scans) : status;
  if (status == DYNQ_OK) {
    for (size_t i = 0; i < l.carried_count; i++) {
      l.carried[i] = hold(s, from->inputs[DYNQ_IN(dynq_Loop, values) + i]);
    }
    status = run_iterations(&l);
    for (size_t i = 0; i < l.carried_count; i++) {
      dynq_blocks_give(&s->session->blocks, l.carried[i].block);
    }
    for (size_t i = 0; i < l.scan_count; i++) {
      dynq_blocks_give(&s->session->blocks, l.scans[i].block);
    }
  }
  dynq_pool_free(&pool);
  return status;
}

dynq_status dynq_control_run(const dynq_steps *s, const dynq_plan_node *from, const dynq_op_node *node) {
  return node->op->code == &dynq_op_dynq_If ? run_if(s, from, node) : run_loop(s, from, node);
}
