/*
 * One op with inputs made by hand.
 */
#include "op_case.h"

#include "base/cpu.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

op_case op_case_of(const char *name) {
  op_case c = {.op = dynq_op_find(name), .output_count = 1};
  if (c.op == NULL) {
    fprintf(stderr, "check: no op is called %s\n", name);
    exit(2);
  }
  return c;
}

void op_case_skip(op_case *c) { c->given[c->input_count++] = false; }

static size_t count_of(size_t rank, const size_t *dims) {
  size_t count = 1;
  for (size_t i = 0; i < rank; i++) {
    count *= dims[i];
  }
  return count;
}

void *op_case_add(op_case *c, dynq_dtype dtype, size_t rank, const size_t *dims) {
  dynq_op_tensor *t = &c->in[c->input_count];
  c->given[c->input_count++] = true;
  *t = (dynq_op_tensor){.dtype = dtype, .rank = rank, .count = count_of(rank, dims)};
  for (size_t i = 0; i < rank; i++) {
    t->dims[i] = dims[i];
  }
  t->data = guarded(dynq_op_tensor_bytes(t), 64);
  return t->data;
}

float *op_case_add_f32(op_case *c, float limit, size_t rank, const size_t *dims) {
  float *x = op_case_add(c, DYNQ_FLOAT32, rank, dims);
  for (size_t i = 0; i < c->in[c->input_count - 1].count; i++) {
    x[i] = random_unit() * limit;
  }
  return x;
}

static dynq_attribute *attribute(op_case *c, const char *name) {
  for (size_t i = 0; i < c->op->attribute_count; i++) {
    if (strcmp(c->op->attributes[i].name, name) == 0) {
      c->attributes[i].present = true;
      return &c->attributes[i];
    }
  }
  fprintf(stderr, "check: %s has no attribute %s\n", c->op->name, name);
  exit(2);
}

void op_case_int(op_case *c, const char *name, int64_t value) { attribute(c, name)->i = value; }
void op_case_float(op_case *c, const char *name, float value) { attribute(c, name)->f = value; }
void op_case_string(op_case *c, const char *name, const char *value) { attribute(c, name)->string = value; }

/* A node over the case's tensors. */
typedef struct bound_node {
  dynq_op_node node;
  const dynq_op_tensor *inputs[CASE_INPUTS];
  dynq_op_tensor *outputs[CASE_OUTPUTS];
} bound_node;

static void bind(op_case *c, bound_node *b, const dynq_kernels *kernels, size_t threads) {
  for (size_t i = 0; i < c->input_count; i++) {
    b->inputs[i] = c->given[i] ? &c->in[i] : NULL;
  }
  for (size_t i = 0; i < c->output_count; i++) {
    c->out[i] = (dynq_op_tensor){.rank = 0};
    b->outputs[i] = c->unread[i] ? NULL : &c->out[i];
  }
  b->node = (dynq_op_node){.op = c->op,
                           .name = "case",
                           .input_count = c->input_count,
                           .output_count = c->output_count,
                           .inputs = b->inputs,
                           .outputs = b->outputs,
                           .attributes = c->attributes,
                           .kernels = kernels,
                           .thread_count = threads};
}

/* Checks that output 0 is what the op's shape rule says. Rules that need values or attributes are not checked here. */
static bool follows_rule(const op_case *c) {
  const dynq_op_tensor *out = &c->out[0];
  const dynq_shape_rule rule = c->op->shape_rule;
  dynq_op_tensor expected = c->in[0];
  switch (rule) {
  case DYNQ_SHAPE_SAME:
    break;
  case DYNQ_SHAPE_SAME_BOOL:
    expected.dtype = DYNQ_BOOL;
    break;
  case DYNQ_SHAPE_SAME_FLOAT:
    expected.dtype = DYNQ_FLOAT32;
    break;
  case DYNQ_SHAPE_BROADCAST:
  case DYNQ_SHAPE_COMPARE:
  case DYNQ_SHAPE_CHOOSE:
    for (size_t i = 1; i < c->input_count; i++) {
      const dynq_op_tensor before = expected;
      if (dynq_op_broadcast(&before, &c->in[i], &expected.rank, expected.dims) != DYNQ_OK) {
        return false;
      }
    }
    expected.dtype = rule == DYNQ_SHAPE_COMPARE ? DYNQ_BOOL : c->in[rule == DYNQ_SHAPE_CHOOSE ? 1 : 0].dtype;
    break;
  case DYNQ_SHAPE_REDUCE:
  case DYNQ_SHAPE_ARG_REDUCE:
  case DYNQ_SHAPE_MATMUL:
  case DYNQ_SHAPE_MATMUL_INT32:
  case DYNQ_SHAPE_OWN:
    return true;
  }
  return out->dtype == expected.dtype && out->rank == expected.rank &&
         memcmp(out->dims, expected.dims, out->rank * sizeof *out->dims) == 0;
}

/* Inputs whose values are not asked for have none while shapes are inferred. */
static dynq_status infer(op_case *c, bound_node *b) {
  void *data[CASE_INPUTS];
  for (size_t i = 0; i < c->input_count; i++) {
    data[i] = c->in[i].data;
    c->in[i].data = (dynq_op_input_flags(c->op, i) & DYNQ_OPERAND_STATIC) != 0 ? data[i] : NULL;
  }
  const dynq_status status = c->op->code->infer(&b->node);
  for (size_t i = 0; i < c->input_count; i++) {
    c->in[i].data = data[i];
  }
  for (size_t i = 0; i < c->output_count && status == DYNQ_OK; i++) {
    c->out[i].count = c->unread[i] ? 0 : count_of(c->out[i].rank, c->out[i].dims);
  }
  if (status == DYNQ_OK && !c->unread[0] && !follows_rule(c)) {
    check_fail("output 0 of %s has not the dtype and shape of its rule in ops.def", c->op->name);
  }
  return status;
}

dynq_status op_case_infer(op_case *c) {
  dynq_kernels kernels;
  bound_node b;
  (void)dynq_isa_resolve(dynq_isa_count() - 1, 0, 0, &kernels);
  bind(c, &b, &kernels, 1);
  return infer(c, &b);
}

void op_case_refused(op_case *c, const char *text) {
  const dynq_status status = op_case_infer(c);
  check_case("%s refused: %s", c->op->name, text);
  if (status != DYNQ_ERROR_INVALID_ARGUMENT || strstr(dynq_last_error(), text) == NULL) {
    check_fail("status %d, \"%s\"; expected a refusal that says \"%s\"", (int)status, dynq_last_error(), text);
  }
}

enum { NOT_IN_PLACE = CASE_INPUTS };

/* Output 0 lies where input `in_place` does. */
static bool run_once(op_case *c, const dynq_kernels *kernels, size_t threads, size_t in_place, dynq_status expected) {
  bound_node b;
  bind(c, &b, kernels, threads);
  dynq_status status = infer(c, &b);
  if (status != DYNQ_OK) {
    check_fail("infer on %s: %s", kernels->name, dynq_last_error());
    return false;
  }
  for (size_t i = 0; i < c->output_count; i++) {
    if (c->unread[i]) {
      continue;
    }
    c->out[i].data =
        i == 0 && in_place != NOT_IN_PLACE ? c->in[in_place].data : guarded(dynq_op_tensor_bytes(&c->out[i]), 64);
  }
  b.node.scratch = guarded(b.node.scratch_bytes, 64);
  status = c->op->code->run(&b.node);
  if (status != expected) {
    check_fail("run on %s returned %d: %s; expected %d", kernels->name, (int)status, dynq_last_error(), (int)expected);
    return false;
  }
  guards_check();
  return true;
}

static bool run_and_compare(const op_case *c, const dynq_kernels *kernels, size_t threads, size_t in_place,
                            dynq_status expected) {
  const size_t mark = guards_mark();
  op_case other = *c;
  if (in_place != NOT_IN_PLACE) {
    other.in[in_place].data = guarded(dynq_op_tensor_bytes(&c->in[in_place]), 64);
    for (size_t i = 0; i < dynq_op_tensor_bytes(&c->in[in_place]); i++) {
      ((uint8_t *)other.in[in_place].data)[i] = ((const uint8_t *)c->in[in_place].data)[i];
    }
  }
  if (!run_once(&other, kernels, threads, in_place, expected)) {
    return false;
  }
  for (size_t o = 0; o < c->output_count; o++) {
    if (c->unread[o]) {
      continue;
    }
    char what[80];
    (void)snprintf(what, sizeof what, "output %zu on %s with %zu threads%s", o, kernels->name, threads,
                   in_place != NOT_IN_PLACE ? ", in place" : "");
    check_same(what, CHECK_BYTES, c->out[o].data, other.out[o].data, dynq_op_tensor_bytes(&c->out[o]));
  }
  guards_release_to(mark);
  return true;
}

bool op_case_run(op_case *c, dynq_status expected) {
  static const size_t thread_counts[] = {1, 2, 7};
  dynq_cpu_facts facts;
  dynq_kernels kernels;
  dynq_cpu_read(&facts);
  (void)dynq_isa_resolve(dynq_isa_count() - 1, 0, 0, &kernels);
  if (!run_once(c, &kernels, 1, NOT_IN_PLACE, expected)) {
    return false;
  }
  for (size_t i = 0; i + 1 < dynq_isa_count(); i++) {
    if (dynq_isa_resolve(i, dynq_cpu_features(&facts), 0, &kernels) == DYNQ_OK &&
        !run_and_compare(c, &kernels, thread_counts[i % 3], NOT_IN_PLACE, expected)) {
      return false;
    }
  }
  for (size_t i = 0; i < c->input_count; i++) { /* on the last of these */
    if ((dynq_op_input_flags(c->op, i) & DYNQ_OPERAND_IN_PLACE) != 0 && c->given[i] &&
        dynq_op_tensor_bytes(&c->in[i]) == dynq_op_tensor_bytes(&c->out[0]) &&
        !run_and_compare(c, &kernels, 2, i, expected)) {
      return false;
    }
  }
  return true;
}

void op_case_near(const op_case *c, size_t i, size_t at, double expected, double bound) {
  const float got = ((const float *)c->out[i].data)[at];
  if (isnan(expected) ? bits_of_float(got) != 0x7fc00000
                      : !(fabs((double)got - expected) <= bound || (double)got == expected)) {
    check_fail("element %zu of output %zu is %.9g; expected %.9g within %.3g", at, i, (double)got, expected, bound);
  }
}
