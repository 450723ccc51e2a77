/*
 * The nodes of a plan: known ops, with as many inputs and outputs as they have, in an order in which they can run.
 */
#include "reader.h"

#include <string.h>

static dynq_status read_list(dynq_reader *r, size_t least, size_t most, const char *what, size_t *count,
                             uint32_t **list) {
  DYNQ_TRY(dynq_read_count(r, 4, what, count));
  if (*count < least || *count > most) {
    return dynq_read_damaged(r, "%zu %s; the op has %zu to %zu", *count, what, least, most);
  }
  DYNQ_TRY(dynq_pool_array(&r->model->pool, *count, sizeof **list, list));
  for (size_t i = 0; i < *count; i++) {
    DYNQ_TRY(dynq_read_reference(r, true, &(*list)[i]));
  }
  return DYNQ_OK;
}

/* Every tensor but a constant belongs to one graph. */
static dynq_status check_graph(const dynq_reader *r, const dynq_plan_tensor *t) {
  const bool constant = t->kind == DYNQ_CONSTANT || t->kind == DYNQ_PACKED_WEIGHT;
  if (constant || (t->written && t->graph == r->graph)) {
    return DYNQ_OK;
  }
  return dynq_read_damaged(r, "'%.80s' is of another body", t->name);
}

dynq_status dynq_read_result(const dynq_reader *r, uint32_t tensor) {
  dynq_plan_tensor *t = &r->model->tensors[tensor];
  if (t->kind == DYNQ_PACKED_WEIGHT || t->kind == DYNQ_STATE) {
    return dynq_read_damaged(r, "'%.80s' is a %s", t->name, t->kind == DYNQ_STATE ? "state" : "packed weight");
  }
  t->is_result = true;
  return t->kind == DYNQ_COMPUTED && !t->written ? dynq_read_damaged(r, "'%.80s' is computed by no node", t->name)
                                                 : check_graph(r, t);
}

/* One node appends to a state, and it is the model's own. */
static dynq_status check_state(const dynq_reader *r, const dynq_op *op, size_t i, dynq_plan_tensor *t) {
  const bool expected = (dynq_op_input_flags(op, i) & DYNQ_OPERAND_STATE) != 0;
  if (expected != (t->kind == DYNQ_STATE)) {
    return dynq_read_damaged(r, "%s: input %zu, '%.80s', is %s", op->name, i, t->name,
                             expected ? "no state" : "a state; expected a tensor");
  }
  if (expected && (t->written || r->graph != 0)) {
    return dynq_read_damaged(r, "%s: the state '%.80s' is %s", op->name, t->name,
                             t->written ? "another input's already" : "read in a body");
  }
  t->written |= expected;
  t->of_source |= expected && (op->flags & DYNQ_OP_SOURCE) != 0;
  return DYNQ_OK;
}

static dynq_status check_node_input(const dynq_reader *r, const dynq_op *op, size_t i, uint32_t tensor) {
  if (tensor == DYNQ_NONE) {
    return i >= op->min_inputs ? DYNQ_OK : dynq_read_damaged(r, "%s: input %zu is left out", op->name, i);
  }
  dynq_plan_tensor *t = &r->model->tensors[tensor];
  if (t->kind == DYNQ_COMPUTED && !t->written) {
    return dynq_read_damaged(r, "%s: '%.80s' is read before it is computed", op->name, t->name);
  }
  DYNQ_TRY(check_state(r, op, i, t));
  DYNQ_TRY(check_graph(r, t));
  t->last_reader = (uint32_t)r->index;
  if ((t->kind == DYNQ_PACKED_WEIGHT) != ((dynq_op_input_flags(op, i) & DYNQ_OPERAND_PACKED) != 0)) {
    return dynq_read_damaged(r, "%s: input %zu, '%.80s', is %s", op->name, i, t->name,
                             t->kind == DYNQ_PACKED_WEIGHT ? "a packed weight; expected a tensor"
                                                           : "a tensor; expected a packed weight");
  }
  return DYNQ_OK;
}

static dynq_status check_node_outputs(const dynq_reader *r, const dynq_plan_node *node) {
  size_t read = 0;
  if ((node->op->flags & DYNQ_OP_VIEW) != 0 && node->outputs[0] == DYNQ_NONE) {
    return dynq_read_damaged(r, "output 0 of %s is not read", node->op->name);
  }
  for (size_t i = 0; i < node->output_count; i++) {
    if (node->outputs[i] != DYNQ_NONE) {
      dynq_plan_tensor *t = &r->model->tensors[node->outputs[i]];
      if (t->kind != DYNQ_COMPUTED || t->written) {
        return dynq_read_damaged(r, "writes '%.80s', which is %s", t->name,
                                 t->written && t->kind == DYNQ_COMPUTED ? "computed already" : "not computed");
      }
      t->written = true;
      t->graph = r->graph;
      read++;
    }
  }
  return read != 0 ? DYNQ_OK : dynq_read_damaged(r, "none of its outputs is read");
}

static dynq_status read_attribute_value(dynq_reader *r, dynq_attribute_type type, dynq_attribute *a) {
  switch (type) {
  case DYNQ_ATTRIBUTE_INT:
  case DYNQ_ATTRIBUTE_BODY:
    return dynq_read_i64(r, &a->i);
  case DYNQ_ATTRIBUTE_FLOAT:
    return dynq_read_f32(r, &a->f);
  case DYNQ_ATTRIBUTE_STRING:
    return dynq_read_text(r, &a->string, &a->count);
  case DYNQ_ATTRIBUTE_INTS: {
    int64_t *ints = NULL;
    DYNQ_TRY(dynq_read_count(r, sizeof *ints, "integers", &a->count));
    DYNQ_TRY(dynq_pool_array(&r->model->pool, a->count, sizeof *ints, &ints));
    for (size_t i = 0; i < a->count; i++) {
      DYNQ_TRY(dynq_read_i64(r, &ints[i]));
    }
    a->ints = ints;
    return DYNQ_OK;
  }
  case DYNQ_ATTRIBUTE_FLOATS: {
    float *floats = NULL;
    DYNQ_TRY(dynq_read_count(r, sizeof *floats, "floats", &a->count));
    DYNQ_TRY(dynq_pool_array(&r->model->pool, a->count, sizeof *floats, &floats));
    for (size_t i = 0; i < a->count; i++) {
      DYNQ_TRY(dynq_read_f32(r, &floats[i]));
    }
    a->floats = floats;
    return DYNQ_OK;
  }
  }
  return dynq_read_damaged(r, "an attribute of type %d; expected 1 to 6", (int)type);
}

static dynq_status read_attributes(dynq_reader *r, dynq_plan_node *node) {
  const size_t known = node->op->attribute_count;
  dynq_attribute *attributes = NULL;
  size_t count = 0;
  DYNQ_TRY(dynq_read_count(r, 5, "attributes", &count));
  DYNQ_TRY(dynq_pool_array(&r->model->pool, known, sizeof *attributes, &attributes));
  node->attributes = attributes;
  for (size_t i = 0; i < count; i++) {
    const char *name = NULL;
    uint32_t type = 0;
    size_t at = 0;
    DYNQ_TRY(dynq_read_text(r, &name, NULL));
    DYNQ_TRY(dynq_read_u8(r, &type));
    while (at < known && strcmp(node->op->attributes[at].name, name) != 0) {
      at++;
    }
    if (at == known || attributes[at].present) {
      return dynq_read_damaged(r, "%s: attribute '%.60s' is %s", node->op->name, name,
                               at == known ? "unknown" : "there twice");
    }
    if (type != (uint32_t)node->op->attributes[at].type) {
      return dynq_read_damaged(r, "%s: attribute '%.60s' is of type %lu; expected %d", node->op->name, name,
                               (unsigned long)type, (int)node->op->attributes[at].type);
    }
    attributes[at].present = true;
    DYNQ_TRY(read_attribute_value(r, (dynq_attribute_type)type, &attributes[at]));
  }
  return DYNQ_OK;
}

static dynq_status read_node(dynq_reader *r, dynq_plan_node *node) {
  const char *op = NULL;
  uint32_t *inputs = NULL, *outputs = NULL;
  DYNQ_TRY(dynq_read_text(r, &node->name, NULL));
  DYNQ_TRY(dynq_read_text(r, &op, NULL));
  node->op = dynq_op_find(op);
  if (node->op == NULL) {
    return dynq_read_damaged(r, "'%.60s' is of op '%.60s', which dynq %s does not have", node->name, op, DYNQ_VERSION);
  }
  DYNQ_TRY(read_list(r, node->op->min_inputs, node->op->max_inputs, "inputs", &node->input_count, &inputs));
  DYNQ_TRY(read_list(r, 1, node->op->max_outputs, "outputs", &node->output_count, &outputs));
  node->inputs = inputs;
  node->outputs = outputs;
  for (size_t i = 0; i < node->input_count; i++) {
    DYNQ_TRY(check_node_input(r, node->op, i, inputs[i]));
  }
  DYNQ_TRY(check_node_outputs(r, node));
  return read_attributes(r, node);
}

dynq_status dynq_read_nodes(dynq_reader *r, dynq_plan_node **nodes, size_t *count) {
  r->part = "nodes";
  r->index = 0;
  DYNQ_TRY(dynq_read_count(r, 20, "nodes", count));
  DYNQ_TRY(dynq_pool_array(&r->model->pool, *count, sizeof **nodes, nodes));
  r->part = "node";
  for (r->index = 0; r->index < *count; r->index++) {
    DYNQ_TRY(read_node(r, &(*nodes)[r->index]));
  }
  return DYNQ_OK;
}

dynq_status dynq_check_written(dynq_reader *r) {
  const dynq_model *m = r->model;
  for (r->part = "tensor", r->index = 0; r->index < m->tensor_count; r->index++) {
    const dynq_plan_tensor *t = &m->tensors[r->index];
    if ((t->kind == DYNQ_COMPUTED || t->kind == DYNQ_PARAMETER) && !t->written) {
      return dynq_read_damaged(r, "'%.80s' is %s", t->name,
                               t->kind == DYNQ_COMPUTED ? "computed by no node" : "an input of no body");
    }
  }
  return DYNQ_OK;
}
