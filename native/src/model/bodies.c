/*
 * The bodies of a plan, and whether each fits the node that runs it. One node runs it, which stands before it. It has the
 * inputs that this node gives it, and the outputs that the node takes.
 */
#include "reader.h"

enum { DEEPEST = 16 }; /* bodies within bodies */

/* ---- Reading ---- */

static dynq_status read_list(dynq_reader *r, const char *what, size_t *count, uint32_t **list) {
  DYNQ_TRY(dynq_read_count(r, 4, what, count));
  DYNQ_TRY(dynq_pool_array(&r->model->pool, *count, sizeof **list, list));
  for (size_t i = 0; i < *count; i++) {
    DYNQ_TRY(dynq_read_reference(r, false, &(*list)[i]));
  }
  return DYNQ_OK;
}

static dynq_status read_body(dynq_reader *r, size_t index, dynq_plan_body *body) {
  dynq_model *m = r->model;
  r->part = "body";
  r->index = index;
  r->graph = (uint32_t)index + 1;
  DYNQ_TRY(read_list(r, "inputs", &body->input_count, &body->inputs));
  for (size_t i = 0; i < body->input_count; i++) {
    dynq_plan_tensor *t = &m->tensors[body->inputs[i]];
    if (t->kind != DYNQ_PARAMETER || t->written) {
      return dynq_read_damaged(r, "input '%.80s' is %s", t->name, t->written ? "another's already" : "no parameter");
    }
    t->written = true;
    t->graph = r->graph;
  }
  body->first = m->all_node_count;
  DYNQ_TRY(dynq_read_nodes(r, &body->nodes, &body->node_count));
  m->all_node_count += body->node_count;
  r->part = "body";
  r->index = index;
  DYNQ_TRY(read_list(r, "outputs", &body->output_count, &body->outputs));
  for (size_t i = 0; i < body->output_count; i++) {
    DYNQ_TRY(dynq_read_result(r, body->outputs[i]));
  }
  return DYNQ_OK;
}

/* ---- What a node and its bodies have to do with each other ---- */

static dynq_status check_given(const dynq_reader *r, const dynq_plan_node *node, size_t first) {
  for (size_t i = first; i < node->input_count; i++) {
    if (node->inputs[i] == DYNQ_NONE) {
      return dynq_read_damaged(r, "input %zu of its node '%.80s' is left out", i, node->name);
    }
  }
  return DYNQ_OK;
}

static dynq_status check_counts(const dynq_reader *r, const dynq_plan_node *node, const dynq_plan_body *body,
                                size_t inputs, size_t outputs) {
  return body->input_count == inputs && body->output_count >= outputs
             ? DYNQ_OK
             : dynq_read_damaged(r, "%zu inputs and %zu outputs; its node '%.80s' needs %zu and %zu", body->input_count,
                                 body->output_count, node->name, inputs, outputs);
}

/* scan_types: for each scan output its dtype, its rank and so many sizes, of one iteration. */
static dynq_status check_scan_types(const dynq_reader *r, const dynq_plan_node *node, size_t scans) {
  const dynq_attribute *types = &node->attributes[DYNQ_ATTR(dynq_Loop, scan_types)];
  size_t at = 0;
  for (size_t i = 0; i < scans; i++) {
    const bool there = types->count - at >= 2;
    const int64_t dtype = there ? types->ints[at] : -1, rank = there ? types->ints[at + 1] : -1;
    if (dtype < 0 || dtype > DYNQ_INT8 || rank < 0 || rank >= DYNQ_MAX_RANK || types->count - at - 2 < (size_t)rank) {
      return dynq_read_damaged(r, "scan_types of its node '%.80s' do not describe %zu outputs", node->name, scans);
    }
    at += 2 + (size_t)rank;
  }
  return at == types->count ? DYNQ_OK : dynq_read_damaged(r, "scan_types of its node '%.80s' are too many", node->name);
}

static dynq_status check_loop(const dynq_reader *r, const dynq_plan_node *node, const dynq_plan_body *body) {
  const size_t values = DYNQ_IN(dynq_Loop, values);
  const size_t given = node->input_count > values ? node->input_count - values : 0;
  const int64_t carried = node->attributes[DYNQ_ATTR(dynq_Loop, carried)].i;
  if (carried < 0 || (uint64_t)carried > given || body->output_count < 1 + (size_t)carried) {
    return dynq_read_damaged(r, "its node '%.80s' has carried %lld, %zu values and %zu outputs of the body", node->name,
                             (long long)carried, given, body->output_count);
  }
  DYNQ_TRY(check_given(r, node, values));
  DYNQ_TRY(check_counts(r, node, body, 2 + given, 1 + node->output_count));
  return check_scan_types(r, node, body->output_count - 1 - (size_t)carried);
}

static dynq_status check_pair(const dynq_reader *r, const dynq_plan_node *node, const dynq_plan_body *body) {
  if (node->op->code == &dynq_op_dynq_Loop) {
    return check_loop(r, node, body);
  }
  const size_t captures = DYNQ_IN(dynq_If, captures);
  DYNQ_TRY(check_given(r, node, captures));
  return check_counts(r, node, body, node->input_count - captures, node->output_count);
}

/* Visits the bodies of the nodes of one graph; `depths` are of bodies, 0 for those that no node has named yet. */
static dynq_status check_nodes(dynq_reader *r, const dynq_plan_node *nodes, size_t count, size_t graph, size_t depth,
                               size_t *depths) {
  const dynq_model *m = r->model;
  for (size_t i = 0; i < count; i++) {
    for (size_t a = 0; a < nodes[i].op->attribute_count; a++) {
      const dynq_attribute *attribute = &nodes[i].attributes[a];
      if (nodes[i].op->attributes[a].type != DYNQ_ATTRIBUTE_BODY) {
        continue;
      }
      if (!attribute->present || attribute->i < (int64_t)graph || (uint64_t)attribute->i >= m->body_count ||
          depths[attribute->i] != 0 || depth == DEEPEST) {
        r->index = i;
        r->part = "node";
        return dynq_read_damaged(r, "'%.80s' %s", nodes[i].name,
                                 depth == DEEPEST ? "is in too many bodies, one in another"
                                                  : "names no body of its own that comes after it");
      }
      r->index = (size_t)attribute->i;
      depths[attribute->i] = depth + 1;
      DYNQ_TRY(check_pair(r, &nodes[i], &m->bodies[attribute->i]));
    }
  }
  return DYNQ_OK;
}

dynq_status dynq_read_bodies(dynq_reader *r, bool any) {
  dynq_model *m = r->model;
  size_t count = 0, *depths;
  r->part = "bodies";
  r->index = 0;
  if (any) {
    DYNQ_TRY(dynq_read_count(r, 12, "bodies", &count));
  }
  DYNQ_TRY(dynq_pool_array(&m->pool, count, sizeof *m->bodies, &m->bodies));
  DYNQ_TRY(dynq_pool_array(&m->pool, count, sizeof *depths, &depths));
  m->body_count = count;
  for (size_t i = 0; i < count; i++) {
    DYNQ_TRY(read_body(r, i, &m->bodies[i]));
  }
  r->part = "body";
  DYNQ_TRY(check_nodes(r, m->nodes, m->node_count, 0, 0, depths));
  for (size_t i = 0; i < count; i++) {
    r->part = "body";
    r->index = i;
    if (depths[i] == 0) { /* it would never run, and its node must come before it */
      return dynq_read_damaged(r, "no node before it runs it");
    }
    DYNQ_TRY(check_nodes(r, m->bodies[i].nodes, m->bodies[i].node_count, i + 1, depths[i], depths));
  }
  return DYNQ_OK;
}
