/*
 * The struct that an op of a model provides, and code that ops share. ops.def says what each op is;
 * docs/model-format.md has those of dynq.
 */
#ifndef DYNQ_OP_H
#define DYNQ_OP_H

#include "../base/dispatch.h"
#include "../quant/weight.h"
#include "dynq/dynq.h"

#include <stdbool.h>
#include <stddef.h>

enum {
  DYNQ_OP_MAX_INPUTS = 256,   /* Concat */
  DYNQ_OP_MAX_ATTRIBUTES = 16 /* that one op knows */
};

/* Static: known while the sizes of the node's outputs are inferred. */
typedef struct dynq_op_tensor {
  dynq_dtype dtype;
  size_t rank;
  size_t dims[DYNQ_MAX_RANK];
  size_t count;              /* product of dims */
  void *data;                /* aligned to 64 bytes, row-major without gaps; in infer(): NULL unless static */
  const dynq_weight *weight; /* packed int8 weights, which have no data; only if an op asks for them */
  bool is_state;             /* dims: heads, the most positions, width; data: [sequence][head][capacity][width] */
} dynq_op_tensor;

/* The sequences of a session with state: how much of each is kept, and what the run under way appends. */
typedef struct dynq_sequences {
  size_t count, capacity;     /* capacity: positions that there is memory for, a multiple of 16 */
  size_t *lengths, *appended; /* per sequence: positions before the run, and rows of the run that are kept */
  float *scores;              /* for each position, `append.floats` of them */
} dynq_sequences;

/* The rows that a node with state appends: its infer() sets it. */
typedef struct dynq_op_append {
  size_t sequences, rows;
  const dynq_op_tensor *lengths; /* int64 (sequences): how many rows of each count; NULL: all */
  size_t floats;                 /* that it works in, for each position; 0: none */
} dynq_op_append;

typedef struct dynq_attribute {
  bool present; /* else the node does not have it: dynq_op_int() and its kin give the op's default */
  size_t count; /* of ints and floats; bytes of a string */
  int64_t i;
  float f;
  const char *string; /* ends with a zero */
  const int64_t *ints;
  const float *floats;
} dynq_attribute;

typedef struct dynq_op_node {
  const struct dynq_op *op;
  const char *name;
  size_t input_count, output_count;
  const dynq_op_tensor *const *inputs; /* input_count; NULL: an optional one that is left out */
  dynq_op_tensor *const *outputs;      /* output_count; NULL: one that nobody reads */
  const dynq_attribute *attributes;    /* in the order of op->attributes */
  size_t scratch_bytes;                /* infer() says how much run() needs; 0 at first */
  void *scratch;                       /* in run(): that much, aligned to 64 bytes; never NULL */
  const dynq_kernels *kernels;         /* these three are the same in infer() and in run() */
  const dynq_threads *threads;         /* NULL: the built-in pool */
  size_t thread_count;
  dynq_op_append append;           /* of an op with state */
  const dynq_sequences *sequences; /* for it, in run() */
} dynq_op_node;

/* The functions that compute an op. Each file in native/src/ops/ defines `const dynq_op_code dynq_op_<id>` for its ops.
 */
typedef struct dynq_op_code {
  /* Checks dtypes, shapes and attributes of everything, and sets dtype, rank and dims of each output that is not NULL.
   * What run() relies on is checked here. Sizes come from a file that may be hostile: products are checked (the planner
   * computes `count` by dynq_size_mul and refuses overflow). The message need not name the node: the planner does. */
  dynq_status (*infer)(dynq_op_node *node);
  /* Writes the outputs. If all inputs are STATIC, it may lower sizes that infer() set: it is the first to know them.
   * Fails only for what values can get wrong (an index out of range). Allocates nothing. A view has
   * none. */
  dynq_status (*run)(const dynq_op_node *node);
} dynq_op_code;

/* A line of ops.def. */
typedef struct dynq_op {
  const char *name;
  const dynq_op_operand *inputs, *outputs; /* the last may be variadic */
  const dynq_op_attribute *attributes;     /* others are refused when the model is opened */
  const dynq_op_code *code;
  uint16_t input_count, output_count, attribute_count;
  uint16_t min_inputs, max_inputs, max_outputs; /* of a node, which has an output at least */
  dynq_shape_rule shape_rule;
  uint32_t flags; /* of dynq_op_flags */
} dynq_op;

/* By name; NULL if no op is called that. */
const dynq_op *dynq_op_find(const char *name);
/* The list, in the order of ops.def: dynq_op_count() of them. */
extern const dynq_op dynq_op_list[];

/* The code, and structs whose members are an op's inputs, outputs and attributes by name: see DYNQ_IN. */
#define DYNQ_OP(id, name, file, inputs, outputs, attributes, rule, nature)                                             \
  extern const dynq_op_code dynq_op_##id;                                                                              \
  struct dynq_op_##id##_inputs {                                                                                       \
    inputs char dynq_end;                                                                                              \
  };                                                                                                                   \
  struct dynq_op_##id##_outputs {                                                                                      \
    outputs char dynq_end;                                                                                             \
  };                                                                                                                   \
  struct dynq_op_##id##_attributes {                                                                                   \
    attributes char dynq_end;                                                                                          \
  };
#define IN(name, flags) char name;
#define OUT(name, flags) char name;
#define INT(name, value) char name;
#define FLOAT(name, value) char name;
#define STRING(name, value) char name;
#define REQUIRED(type, name) char name;
#define UNSET(type, name) char name;
#include "ops.def"

/* The place of an input, output or attribute of an op, by its id and name in ops.def: DYNQ_IN(Gather, indices) is 1. */
#define DYNQ_IN(op, name) offsetof(struct dynq_op_##op##_inputs, name)
#define DYNQ_OUT(op, name) offsetof(struct dynq_op_##op##_outputs, name)
#define DYNQ_ATTR(op, name) offsetof(struct dynq_op_##op##_attributes, name)
/* For code that two ops share: both have it at the same place. */
#define DYNQ_SAME_IN(op, name, other_op, other_name)                                                                   \
  _Static_assert(DYNQ_IN(op, name) == DYNQ_IN(other_op, other_name), "the ops share their code")
#define DYNQ_SAME_ATTR(op, other_op, name)                                                                             \
  _Static_assert(DYNQ_ATTR(op, name) == DYNQ_ATTR(other_op, name), "the ops share their code")

/* A required input. */
#define DYNQ_INPUT(node, op, name) ((node)->inputs[DYNQ_IN(op, name)])
/* An input, or NULL if it is left out; an output, or NULL if nobody reads it. */
#define DYNQ_GIVEN(node, op, name) dynq_op_input((node), DYNQ_IN(op, name))
#define DYNQ_OUTPUT(node, op, name) dynq_op_output((node), DYNQ_OUT(op, name))

/* Returns the flags of an input; 0 past the last. */
static inline uint32_t dynq_op_input_flags(const dynq_op *op, size_t i) {
  const size_t last = (size_t)op->input_count - 1;
  return i <= last                                               ? op->inputs[i].flags
         : (op->inputs[last].flags & DYNQ_OPERAND_VARIADIC) != 0 ? op->inputs[last].flags
                                                                 : 0;
}

/* ---- For infer() ---- */

size_t dynq_dtype_size(dynq_dtype dtype);      /* bytes of an element */
const char *dynq_dtype_name(dynq_dtype dtype); /* "float32" */
/* Product of dims; SIZE_MAX if it or its bytes overflow. */
size_t dynq_dims_count(dynq_dtype dtype, size_t rank, const size_t *dims);

static inline const dynq_op_tensor *dynq_op_input(const dynq_op_node *node, size_t i) {
  return i < node->input_count ? node->inputs[i] : NULL;
}
static inline dynq_op_tensor *dynq_op_output(const dynq_op_node *node, size_t i) {
  return i < node->output_count ? node->outputs[i] : NULL;
}

/* An attribute of the node, or else its default; 0 and NULL if it has none. */
static inline int64_t dynq_op_int(const dynq_op_node *node, size_t attribute) {
  return node->attributes[attribute].present ? node->attributes[attribute].i : node->op->attributes[attribute].i;
}
static inline float dynq_op_float(const dynq_op_node *node, size_t attribute) {
  return node->attributes[attribute].present ? node->attributes[attribute].f : node->op->attributes[attribute].f;
}
static inline const char *dynq_op_string(const dynq_op_node *node, size_t attribute) {
  return node->attributes[attribute].present ? node->attributes[attribute].string
                                             : node->op->attributes[attribute].string;
}

/* Output `i`, where somebody reads it, gets this dtype and shape. */
void dynq_op_set_output(dynq_op_node *node, size_t i, dynq_dtype dtype, size_t rank, const size_t *dims);
/* A negative axis counts from the end. Fails, naming `axis`, where it is not in [-rank, rank). */
dynq_status dynq_op_axis(int64_t axis, size_t rank, size_t *at);
/* The shape that a and b are broadcast to, as NumPy does it. */
dynq_status dynq_op_broadcast(const dynq_op_tensor *a, const dynq_op_tensor *b, size_t *rank, size_t *dims);
/* Element i of an int64 or int32 tensor. */
static inline int64_t dynq_op_value(const dynq_op_tensor *t, size_t i) {
  return t->dtype == DYNQ_INT64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
}

#endif
