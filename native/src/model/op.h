/*
 * What an op of a model provides. ops.def names each; the files are in native/src/ops/.
 *
 * An op without the domain "dynq." is the ONNX operator of that name, as the newest opset defines it; importers bring
 * older forms into the newest one. docs/model-format.md lists those of dynq.
 */
#ifndef DYNQ_OP_H
#define DYNQ_OP_H

#include "../dispatch.h"
#include "../quant/weight.h"
#include "dynq/dynq.h"

#include <stdbool.h>

enum {
  DYNQ_OP_MAX_INPUTS = 256,   /* Concat */
  DYNQ_OP_MAX_ATTRIBUTES = 16 /* that one op knows */
};

/* Static: known while the model is planned, before any input has a value. */
typedef struct dynq_op_tensor {
  dynq_dtype dtype;
  size_t rank;
  size_t dims[DYNQ_MAX_RANK];
  size_t count;              /* product of dims */
  void *data;                /* aligned to 64 bytes, row-major without gaps; in infer(): NULL unless static */
  const dynq_weight *weight; /* packed int8 weights, which have no data; only where an op asks for them */
} dynq_op_tensor;

typedef enum dynq_attribute_type {
  DYNQ_ATTRIBUTE_INT = 1,
  DYNQ_ATTRIBUTE_FLOAT = 2,
  DYNQ_ATTRIBUTE_STRING = 3,
  DYNQ_ATTRIBUTE_INTS = 4,
  DYNQ_ATTRIBUTE_FLOATS = 5
} dynq_attribute_type;

typedef struct dynq_attribute {
  bool present; /* else the node does not have it and the op's default counts */
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
  void *scratch;                       /* in run(): that much, aligned to 64 bytes; NULL where it is 0 */
  const dynq_kernels *kernels;         /* these three are the same in infer() and in run() */
  const dynq_threads *threads;         /* NULL: the built-in pool */
  size_t thread_count;
} dynq_op_node;

/* An attribute that an op knows. Others are refused when the model is opened. */
typedef struct dynq_op_attribute {
  const char *name;
  dynq_attribute_type type;
} dynq_op_attribute;

typedef struct dynq_op {
  const char *name;
  size_t min_inputs, max_inputs, min_outputs, max_outputs;
  uint32_t static_inputs; /* bit i: infer() needs the value of input i */
  uint32_t weight_inputs; /* bit i: input i is packed weights */
  bool is_view;           /* the output is input 0 with another shape: it shares its memory and run() is NULL */
  bool is_static;         /* the output depends on shapes alone (Shape, Size): static whatever the inputs are */
  uint32_t in_place;      /* bit i: output 0 may be input i's own memory, where both have equally many bytes */
  dynq_op_attribute attributes[DYNQ_OP_MAX_ATTRIBUTES]; /* the first without a name ends them */
  /* Checks dtypes, shapes and attributes of everything, and sets dtype, rank and dims of each output that is not NULL.
   * What run() relies on is checked here. Sizes come from a file that may be hostile: products are checked (the planner
   * computes `count` by dynq_size_mul and refuses overflow). The message need not name the node: the planner does. */
  dynq_status (*infer)(dynq_op_node *node);
  /* Writes the outputs. Fails only for what values can get wrong (an index out of range). Allocates nothing. */
  dynq_status (*run)(const dynq_op_node *node);
} dynq_op;

/* By name; NULL where no op is called that. */
const dynq_op *dynq_op_find(const char *name);
/* The list, in the order of ops.def. */
extern const dynq_op *const dynq_op_list[];
extern const size_t dynq_op_count;

/* ---- For infer() ---- */

size_t dynq_dtype_size(dynq_dtype dtype);      /* bytes of an element */
const char *dynq_dtype_name(dynq_dtype dtype); /* "float32" */

static inline const dynq_op_tensor *dynq_op_input(const dynq_op_node *node, size_t i) {
  return i < node->input_count ? node->inputs[i] : NULL;
}
static inline dynq_op_tensor *dynq_op_output(const dynq_op_node *node, size_t i) {
  return i < node->output_count ? node->outputs[i] : NULL;
}
static inline int64_t dynq_op_int(const dynq_op_node *node, size_t attribute, int64_t otherwise) {
  return node->attributes[attribute].present ? node->attributes[attribute].i : otherwise;
}
static inline float dynq_op_float(const dynq_op_node *node, size_t attribute, float otherwise) {
  return node->attributes[attribute].present ? node->attributes[attribute].f : otherwise;
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
