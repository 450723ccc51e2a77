/*
 * The table of ops, and what their infer() functions share.
 */
#include "op.h"

#include "../base/alloc.h"
#include "../base/status.h"

#include <string.h>

/* The numbers of inputs and outputs that a node of an op can have. */
#define DYNQ_OP(id, name, file, inputs, outputs, attributes, rule, nature) MIN_INPUTS_##id = 0 inputs,
#define IN(name, flags) +(((flags) & DYNQ_OPERAND_OPTIONAL) == 0 ? 1 : 0)
enum {
#include "ops.def"
};
#define DYNQ_OP(id, name, file, inputs, outputs, attributes, rule, nature)                                             \
  MAX_INPUTS_##id = 0 inputs, MAX_OUTPUTS_##id = 0 outputs,
#define IN(name, flags) +(((flags) & DYNQ_OPERAND_VARIADIC) == 0 ? 1 : DYNQ_OP_MAX_INPUTS)
#define OUT(name, flags) IN(name, flags)
enum {
#include "ops.def"
};

#define DYNQ_OP(id, name, file, inputs, outputs, attributes, rule, nature)                                             \
  _Static_assert(sizeof(struct dynq_op_##id##_attributes) - 1 <= DYNQ_OP_MAX_ATTRIBUTES, "attributes of " name);
#include "ops.def"

#define COUNT(id, kind) (sizeof(struct dynq_op_##id##_##kind) - 1) /* its last member is the end */

/* An array ends with an entry that does not count, for those without any. */
const dynq_op dynq_op_list[] = {
#define DYNQ_OP(id, op_name, file, in, out, known, rule, nature)                                                       \
  {.name = (op_name),                                                                                                  \
   .inputs = (const dynq_op_operand[]){in},                                                                            \
   .outputs = (const dynq_op_operand[]){out},                                                                          \
   .attributes = COUNT(id, attributes) != 0 ? (const dynq_op_attribute[]){known{.name = NULL}} : NULL,                 \
   .code = &dynq_op_##id,                                                                                              \
   .input_count = COUNT(id, inputs),                                                                                   \
   .output_count = COUNT(id, outputs),                                                                                 \
   .attribute_count = COUNT(id, attributes),                                                                           \
   .min_inputs = MIN_INPUTS_##id,                                                                                      \
   .max_inputs = MAX_INPUTS_##id,                                                                                      \
   .max_outputs = MAX_OUTPUTS_##id,                                                                                    \
   .shape_rule = DYNQ_SHAPE_##rule,                                                                                    \
   .flags = (nature)},
#define IN(input, bits) {.name = #input, .flags = (bits)},
#define OUT(output, bits) {.name = #output, .flags = (bits)},
#define INT(attribute, value) {.name = #attribute, .type = DYNQ_ATTRIBUTE_INT, .has_default = 1, .i = (value)},
#define FLOAT(attribute, value) {.name = #attribute, .type = DYNQ_ATTRIBUTE_FLOAT, .has_default = 1, .f = (value)},
#define STRING(attribute, value)                                                                                       \
  {.name = #attribute, .type = DYNQ_ATTRIBUTE_STRING, .has_default = 1, .string = (value)},
#define REQUIRED(kind, attribute) {.name = #attribute, .type = DYNQ_ATTRIBUTE_##kind, .required = 1},
#define UNSET(kind, attribute) {.name = #attribute, .type = DYNQ_ATTRIBUTE_##kind},
#include "ops.def"
};

enum { OP_COUNT = sizeof dynq_op_list / sizeof dynq_op_list[0] };

size_t dynq_op_count(void) { return OP_COUNT; }

const char *dynq_op_name(size_t index) { return index < OP_COUNT ? dynq_op_list[index].name : NULL; }

dynq_status dynq_op_describe(size_t index, dynq_op_description *description) {
  if (description == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "description is NULL");
  }
  if (index >= OP_COUNT) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "there is no op %zu; expected less than %d", index, (int)OP_COUNT);
  }
  const dynq_op *op = &dynq_op_list[index];
  *description = (dynq_op_description){.name = op->name,
                                       .input_count = op->input_count,
                                       .output_count = op->output_count,
                                       .attribute_count = op->attribute_count,
                                       .inputs = op->inputs,
                                       .outputs = op->outputs,
                                       .attributes = op->attributes,
                                       .shape_rule = op->shape_rule,
                                       .flags = op->flags};
  return DYNQ_OK;
}

const dynq_op *dynq_op_find(const char *name) {
  for (size_t i = 0; i < OP_COUNT; i++) {
    if (strcmp(dynq_op_list[i].name, name) == 0) {
      return &dynq_op_list[i];
    }
  }
  return NULL;
}

size_t dynq_dtype_size(dynq_dtype dtype) {
  switch (dtype) {
  case DYNQ_FLOAT32:
  case DYNQ_INT32:
    return 4;
  case DYNQ_INT64:
    return 8;
  case DYNQ_BOOL:
  case DYNQ_UINT8:
  case DYNQ_INT8:
    return 1;
  }
  return 0;
}

const char *dynq_dtype_name(dynq_dtype dtype) {
  switch (dtype) {
  case DYNQ_FLOAT32:
    return "float32";
  case DYNQ_INT64:
    return "int64";
  case DYNQ_INT32:
    return "int32";
  case DYNQ_BOOL:
    return "bool";
  case DYNQ_UINT8:
    return "uint8";
  case DYNQ_INT8:
    return "int8";
  }
  return "unknown";
}

size_t dynq_dims_count(dynq_dtype dtype, size_t rank, const size_t *dims) {
  size_t count = 1;
  for (size_t i = 0; i < rank; i++) {
    count = dynq_size_mul(count, dims[i]);
  }
  return dynq_size_mul(count, dynq_dtype_size(dtype)) <= PTRDIFF_MAX ? count : SIZE_MAX;
}

void dynq_op_set_output(dynq_op_node *node, size_t i, dynq_dtype dtype, size_t rank, const size_t *dims) {
  dynq_op_tensor *t = dynq_op_output(node, i);
  if (t != NULL) {
    t->dtype = dtype;
    t->rank = rank;
    for (size_t d = 0; d < rank; d++) {
      t->dims[d] = dims[d];
    }
  }
}

dynq_status dynq_op_axis(int64_t axis, size_t rank, size_t *at) {
  const int64_t r = (int64_t)rank;
  if (axis < -r || axis >= r) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis is %lld; the tensor has %zu dimensions", (long long)axis, rank);
  }
  *at = (size_t)(axis < 0 ? axis + r : axis);
  return DYNQ_OK;
}

dynq_status dynq_op_broadcast(const dynq_op_tensor *a, const dynq_op_tensor *b, size_t *rank, size_t *dims) {
  const size_t r = a->rank > b->rank ? a->rank : b->rank;
  for (size_t i = 0; i < r; i++) { /* from the last dimension on */
    const size_t of_a = i < a->rank ? a->dims[a->rank - 1 - i] : 1;
    const size_t of_b = i < b->rank ? b->dims[b->rank - 1 - i] : 1;
    if (of_a != of_b && of_a != 1 && of_b != 1) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sizes %zu and %zu of dimension %zu do not go together", of_a, of_b,
                       r - 1 - i);
    }
    dims[r - 1 - i] = of_a == 1 ? of_b : of_a;
  }
  *rank = r;
  return DYNQ_OK;
}
