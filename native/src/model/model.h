/*
 * A model as it was read from its file, and what planning it for the shapes of an input gives.
 *
 *   image.c       opens a file or memory and finds the data
 *   reader.c plan.c plan_nodes.c
 *                 read the plan: from bytes to the structs below, trusting nothing
 *   inputs.c      checks what a caller passes against what the model takes
 *   shape_plan.c  shapes of everything, what is known before the run, who shares memory
 *   arena.c       where each buffer lies
 *   run.c         one inference
 *   session.c     the public functions around it
 */
#ifndef DYNQ_MODEL_H
#define DYNQ_MODEL_H

#include "../status.h"
#include "op.h"
#include "pool.h"

#define DYNQ_NONE UINT32_MAX /* no tensor, no buffer */

typedef enum dynq_tensor_kind {
  DYNQ_COMPUTED = 0,
  DYNQ_INPUT = 1,
  DYNQ_CONSTANT = 2,
  DYNQ_PACKED_WEIGHT = 3
} dynq_tensor_kind;

typedef struct dynq_plan_tensor {
  const char *name;
  dynq_tensor_kind kind;
  dynq_dtype dtype; /* of inputs and constants, and the next two */
  size_t rank;
  int64_t dims[DYNQ_MAX_RANK]; /* -1 - s: symbol s */
  const void *data;            /* of a constant */
  dynq_weight *weight;         /* of a packed weight */
  bool written;                /* a node computes it */
} dynq_plan_tensor;

typedef struct dynq_plan_node {
  const char *name;
  const dynq_op *op;
  size_t input_count, output_count;
  const uint32_t *inputs, *outputs; /* tensors, or DYNQ_NONE */
  const dynq_attribute *attributes; /* in the order of op->attributes */
} dynq_plan_node;

typedef struct dynq_plan_output {
  const char *name;
  uint32_t tensor;
} dynq_plan_output;

struct dynq_model {
  dynq_pool pool; /* all that the pointers below lead to, but for the file itself and the weights */
  void *mapping;  /* NULL: the caller's memory */
  size_t mapping_bytes;
  const unsigned char *data;
  size_t data_bytes;
  size_t symbol_count, tensor_count, input_count, node_count, output_count;
  const char **symbols;
  dynq_plan_tensor *tensors;
  uint32_t *inputs;
  dynq_plan_node *nodes;
  dynq_plan_output *outputs;
  uint32_t *by_name; /* tensors, in the order of their names */
};

/* Fills the model from its data, which are set; dynq_model_close frees what is there after a failure. */
dynq_status dynq_plan_read(dynq_model *model);
/* The tensor of that name, or DYNQ_NONE. */
uint32_t dynq_model_find(const dynq_model *model, const char *name);

/* ---- For the shapes of one input ---- */

/* Memory that tensors take turns in, and when it is in use. Time 0: inputs are copied; i + 1: node i runs;
 * node_count + 1: outputs are read. */
typedef struct dynq_buffer {
  size_t bytes, first, last, offset;
} dynq_buffer;

/* Sets the offsets, multiples of 64, so that no two buffers in use at the same time overlap: greedy by size, each into
 * the tightest gap (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020). */
dynq_status dynq_arena_place(dynq_buffer *buffers, size_t count, size_t *arena_bytes);

typedef struct dynq_shape_plan {
  dynq_pool pool;
  /* What it was made for, besides the dims of the inputs. */
  bool keep_all;
  const dynq_kernels *kernels;
  size_t thread_count;
  /* Per tensor of the model; data are set where they are static, and by dynq_shape_plan_bind. */
  dynq_op_tensor *tensors;
  uint32_t *buffer_of; /* DYNQ_NONE: static */
  /* Per node. */
  dynq_op_node *nodes;
  uint32_t *scratch_of;
  bool *done; /* computed while planning */
  bool *kept; /* per tensor: there until the next run */
  size_t buffer_count;
  dynq_buffer *buffers;
  size_t arena_bytes;
  const void *arena;   /* that the data point into */
  size_t nonfinite_at; /* the first node that met a NaN or an infinity while planning, or node_count */
} dynq_shape_plan;

/* `inputs` have been checked. */
dynq_status dynq_shape_plan_new(const dynq_model *model, const dynq_tensor *inputs, const dynq_kernels *kernels,
                                const dynq_threads *threads, size_t thread_count, bool keep_all,
                                dynq_shape_plan **plan);
void dynq_shape_plan_free(dynq_shape_plan *plan);
/* Points every tensor and scratch into `arena`. */
void dynq_shape_plan_bind(const dynq_model *model, dynq_shape_plan *plan, void *arena);

enum { DYNQ_SHAPE_PLANS = 4 }; /* that a session keeps */

struct dynq_session {
  const dynq_model *model;
  const dynq_threads *threads;
  dynq_shape_plan *plans[DYNQ_SHAPE_PLANS]; /* the one used last comes first; NULL after the last */
  dynq_shape_plan *retired;                 /* outputs of the last run may be its */
  void *arena;
  size_t arena_bytes;
  bool keep_all, measure;
  bool ran;        /* plans[0] holds the results of the last run */
  uint64_t *times; /* per node */
  size_t *sizes;   /* of the symbols, while inputs are checked */
};

/* Dtypes, ranks, sizes and memory of what dynq_model_run got. */
dynq_status dynq_inputs_check(const dynq_session *session, const dynq_tensor *inputs);

/* ---- Small things ---- */

static inline bool dynq_op_bit(uint32_t bits, size_t i) { return i < 32 && (bits >> i & 1) != 0; }
static inline size_t dynq_op_tensor_bytes(const dynq_op_tensor *t) { return t->count * dynq_dtype_size(t->dtype); }
/* As callers see it. */
static inline dynq_tensor dynq_op_tensor_view(const dynq_op_tensor *t) {
  dynq_tensor view = {.dtype = t->dtype, .rank = t->rank, .data = t->data};
  for (size_t i = 0; i < t->rank; i++) {
    view.dims[i] = t->dims[i];
  }
  return view;
}
/* Product of dims; SIZE_MAX where it or its bytes overflow. */
size_t dynq_dims_count(dynq_dtype dtype, size_t rank, const size_t *dims);
/* "node 'name' (Op): " before the message of the failure under way. */
dynq_status dynq_fail_in_node(dynq_status status, const dynq_plan_node *node);

#endif
