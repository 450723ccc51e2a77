/*
 * A model as it was read from its file, and what planning it for the shapes of an input gives.
 *
 *   image.c       opens a file or memory and finds the data
 *   reader.c plan.c plan_nodes.c
 *                 read the plan: from bytes to the structs below, trusting nothing
 *   inputs.c      checks what a caller passes against what the model takes
 *   shape_plan.c  shapes of everything, what is known before the run, who shares memory
 *   arena.c       where each buffer lies
 *   run.c         one inference: the part that is planned
 *   stepwise.c    the part whose sizes depend on values: node by node
 *   control.c     dynq.If and dynq.Loop, which run bodies
 *   blocks.c      the memory of these two
 *   state.c       what a session keeps between runs
 *   state_image.c its bytes, to save and restore
 *   session.c     the public functions around it
 */
#ifndef DYNQ_MODEL_H
#define DYNQ_MODEL_H

#include "../base/interrupt.h"
#include "../base/pool.h"
#include "../base/status.h"
#include "../ops/op.h"

#define DYNQ_NONE UINT32_MAX /* no tensor, no buffer */

typedef enum dynq_tensor_kind {
  DYNQ_COMPUTED = 0,
  DYNQ_INPUT = 1,
  DYNQ_CONSTANT = 2,
  DYNQ_PACKED_WEIGHT = 3,
  DYNQ_PARAMETER = 4, /* an input of a body */
  DYNQ_STATE = 5      /* a session keeps it: heads, the most positions, width */
} dynq_tensor_kind;

typedef struct dynq_plan_tensor {
  const char *name;
  dynq_tensor_kind kind;
  dynq_dtype dtype; /* of inputs and constants, and the next two */
  size_t rank;
  int64_t dims[DYNQ_MAX_RANK]; /* -1 - s: symbol s */
  const void *data;            /* of a constant */
  dynq_weight *weight;         /* of a packed weight */
  bool written;                /* a node computes it, or a list of inputs has it */
  bool is_result;              /* an output of its graph */
  bool of_source;              /* a state whose positions are those of the source */
  uint32_t graph;              /* that computes it or takes it: 0 for the model's own nodes, 1 + b for body b */
  uint32_t last_reader;        /* the last node of that graph that reads it, or DYNQ_NONE */
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

/* The positions of a sequence: those of the text that grows, and those of the source that a decoder looks at. */
enum { DYNQ_TEXT, DYNQ_SOURCE, DYNQ_TRACKS };

/* A graph that a node runs: a branch of dynq.If, or the body of dynq.Loop. */
typedef struct dynq_plan_body {
  size_t input_count, node_count, output_count;
  uint32_t *inputs, *outputs; /* tensors */
  dynq_plan_node *nodes;
  size_t first; /* how many nodes the model and the bodies before have */
} dynq_plan_body;

struct dynq_model {
  dynq_pool pool;    /* all that the pointers below lead to, but for the file itself and the weights */
  const void *image; /* the file's bytes: mapped, or the caller's memory */
  size_t image_bytes;
  bool is_mapped;
  const unsigned char *data;
  size_t data_bytes;
  size_t symbol_count, tensor_count, input_count, node_count, output_count;
  const char **symbols;
  dynq_plan_tensor *tensors;
  uint32_t *inputs;
  dynq_plan_node *nodes;
  dynq_plan_output *outputs;
  uint32_t *by_name;                               /* tensors, in the order of their names */
  size_t state_count, most_positions[DYNQ_TRACKS]; /* most_positions: the least of the states'; 0: there is none */
  uint32_t *states;                                /* tensors */
  size_t body_count, all_node_count;               /* all: with those of bodies */
  dynq_plan_body *bodies;
};

/* Fills the model from its data, which are set; dynq_model_close frees what is there after a failure. */
dynq_status dynq_plan_read(dynq_model *model);
/* The tensor of that name, or DYNQ_NONE. */
uint32_t dynq_model_find(const dynq_model *model, const char *name);
/* A node of the model, or one of its bodies'. */
const dynq_plan_node *dynq_model_node_at(const dynq_model *model, size_t index);

/* ---- For the shapes of one input ---- */

/* Memory that tensors take turns in, and when it is in use. Time 0: inputs are copied; i + 1: node i runs;
 * node_count + 1: outputs are read. */
typedef struct dynq_buffer {
  size_t bytes, first, last, offset;
} dynq_buffer;

/* Sets the offsets, multiples of 64, so that no two buffers in use at the same time overlap. It is greedy by size, each
 * into the tightest gap (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020). */
dynq_status dynq_arena_place(dynq_buffer *buffers, size_t count, size_t *arena_bytes);

typedef struct dynq_shape_plan {
  dynq_pool pool;
  /* It was made for these, besides the dims of the inputs. */
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
  size_t arena_bytes, static_bytes; /* static: of what was computed while planning */
  const void *arena;                /* that the data point into */
  size_t nonfinite_at;              /* the first node that met a NaN or an infinity while planning, or DYNQ_NO_NODE */
  size_t max_bytes;
  size_t stop; /* the first node whose sizes depend on values, or node_count: from there on nothing is planned */
} dynq_shape_plan;

#define DYNQ_NO_NODE SIZE_MAX

/* Infers dtypes and shapes of a node's outputs, and their counts. */
dynq_status dynq_node_infer(dynq_op_node *node);
static inline bool dynq_node_is_view(const dynq_op_node *node) { return (node->op->flags & DYNQ_OP_VIEW) != 0; }
/* Sets the counts again: run() may have lowered sizes. */
void dynq_node_recount(const dynq_op_node *node);
/* The scratch of nodes that ask for none: places may be counted from it. */
extern char dynq_no_scratch[1];
/* Fails: the bytes are more than `max_bytes`. */
dynq_status dynq_fail_limit(size_t bytes, const char *what, size_t max_bytes);

/* `inputs` have been checked. The tensors take at most `max_bytes`. */
dynq_status dynq_shape_plan_new(const dynq_model *model, const dynq_tensor *inputs, const dynq_kernels *kernels,
                                const dynq_threads *threads, size_t thread_count, bool keep_all, size_t max_bytes,
                                const dynq_sequences *sequences, dynq_shape_plan **plan);
void dynq_shape_plan_free(dynq_shape_plan *plan);
/* Points every tensor and scratch into `arena`. */
void dynq_shape_plan_bind(const dynq_model *model, dynq_shape_plan *plan, void *arena);

/* ---- Memory for tensors whose sizes the run tells ---- */

/* Some bytes, which several tensors may share. */
typedef struct dynq_block {
  struct dynq_block *next; /* of the idle ones of its size */
  size_t bytes, references;
  uint64_t used; /* the run that had it last */
} dynq_block;

enum {
  DYNQ_BLOCK_SIZES = 256, /* four for each power of two */
  DYNQ_BLOCK_HEAD = 64    /* bytes before the data */
};

typedef struct dynq_blocks {
  dynq_block *idle[DYNQ_BLOCK_SIZES];
  size_t taken_bytes, idle_bytes;
  size_t planned_bytes, max_bytes; /* planned: what lies elsewhere, and counts too */
  uint64_t run;
} dynq_blocks;

/* Memory for `bytes` bytes, with one reference. Fails beyond `max_bytes`. */
dynq_status dynq_blocks_take(dynq_blocks *blocks, size_t bytes, dynq_block **block);
static inline void *dynq_block_data(dynq_block *block) { return (char *)block + DYNQ_BLOCK_HEAD; }
/* Gives a reference back; NULL is allowed. */
void dynq_blocks_give(dynq_blocks *blocks, dynq_block *block);
/* Frees the idle blocks that no run since `run` had. */
void dynq_blocks_trim(dynq_blocks *blocks, uint64_t run);

enum { DYNQ_SHAPE_PLANS = 4 }; /* that a session keeps */

/* The sequences of a session, and memory for their states, which is taken before a node needs it. */
typedef struct dynq_kept {
  dynq_sequences sequences[DYNQ_TRACKS]; /* of one count */
  size_t room;                           /* sequences that there is memory for */
  float **data;                          /* per state of the model */
  size_t floats[DYNQ_TRACKS];            /* that `scores` has for each position */
  bool begun[DYNQ_TRACKS];               /* a node of this run has said what it appends */
  size_t rows[DYNQ_TRACKS];              /* of this run */
} dynq_kept;

struct dynq_session {
  const dynq_model *model;
  const dynq_threads *threads;
  dynq_shape_plan *plans[DYNQ_SHAPE_PLANS]; /* the one used last comes first; NULL after the last */
  dynq_shape_plan *retired;                 /* outputs of the last run may be its */
  void *arena;                              /* NULL: the next run takes it */
  size_t arena_bytes;
  size_t max_bytes; /* 0: dynq_memory_limit() says it */
  size_t limit;     /* the largest of a run so far */
  dynq_interrupt interrupt;
  bool keep_all, measure;
  bool ran;        /* plans[0] holds the results of the last run */
  uint64_t *times; /* per node, bodies' too */
  dynq_blocks blocks;
  dynq_block **block_of; /* per tensor; NULL: it lies elsewhere. The array is NULL until a run needs it */
  size_t *sizes;         /* of the symbols, while inputs are checked */
  dynq_kept kept;
  _Atomic bool busy; /* a call is at work in it */
};

/* ---- State ---- */

/* A call begins or ends its work in a session. Beginning fails if another call is at work. */
dynq_status dynq_session_enter(dynq_session *session);
void dynq_session_leave(dynq_session *session);
/* Before the nodes of a run, and after them. */
void dynq_kept_begin(dynq_session *session, dynq_shape_plan *plan);
void dynq_kept_commit(dynq_session *session);
/* Before a node with state runs: checks what it appends, and takes memory where the session has too little. */
dynq_status dynq_kept_prepare(dynq_session *session, dynq_shape_plan *plan, const dynq_op_node *node);
/* Runs a node; one with state is prepared first. */
static inline dynq_status dynq_session_run_node(dynq_session *session, dynq_shape_plan *plan,
                                                const dynq_op_node *node) {
  const bool keeps = (node->op->flags & DYNQ_OP_STATEFUL) != 0;
  const dynq_status status = keeps ? dynq_kept_prepare(session, plan, node) : DYNQ_OK;
  return status == DYNQ_OK ? node->op->code->run(node) : status;
}
/* Positions rounded up to whole panels, in which keys lie. */
static inline size_t dynq_kept_rounded(size_t positions) {
  return (positions + DYNQ_PANEL - 1) / DYNQ_PANEL * DYNQ_PANEL;
}
/* Fails if the session or `other`, the argument `what`, is NULL. */
dynq_status dynq_kept_check(const void *session, const void *other, const char *what);
/* Makes room for `count` sequences of `positions`, within `max_bytes`, and keeps what there is. */
dynq_status dynq_kept_reserve(dynq_session *session, size_t count, const size_t positions[DYNQ_TRACKS],
                              size_t max_bytes);
/* Floats of a state for each position of a head, its heads, and the track of its positions. */
size_t dynq_kept_width(const dynq_session *session, size_t state);
size_t dynq_kept_heads(const dynq_session *session, size_t state);
size_t dynq_kept_track(const dynq_session *session, size_t state);
/* Bytes of the states. */
size_t dynq_kept_bytes(const dynq_session *session);
void dynq_kept_free(dynq_session *session);

/* Dtypes, ranks, sizes and memory of what dynq_model_run got. */
dynq_status dynq_inputs_check(const dynq_session *session, const dynq_tensor *inputs);

/* ---- Nodes whose sizes the run tells ---- */

/* A run of nodes one after another. */
typedef struct dynq_steps {
  dynq_session *session;
  const dynq_model *model;
  dynq_shape_plan *plan;
  size_t *nonfinite_at;
} dynq_steps;

/* Gives back what the last run left. */
void dynq_steps_clear(dynq_session *session);
/* Runs the nodes of the model from plan->stop on. */
dynq_status dynq_steps_run(dynq_session *session, dynq_shape_plan *plan, size_t *nonfinite_at);
/* Runs the nodes of a body, whose inputs are bound. */
dynq_status dynq_steps_run_body(const dynq_steps *s, const dynq_plan_body *body);
/* Makes tensor `to` what `from` is, with its memory. */
void dynq_steps_share(const dynq_steps *s, uint32_t to, uint32_t from);
/* Gives the memory of a tensor back. */
void dynq_steps_drop(const dynq_steps *s, uint32_t tensor);
/* Gives outputs of a node of control flow memory of their own. */
dynq_status dynq_steps_take(const dynq_steps *s, uint32_t tensor);
/* Runs a dynq.If or dynq.Loop. */
dynq_status dynq_control_run(const dynq_steps *s, const dynq_plan_node *from, const dynq_op_node *node);

/* ---- Small things ---- */

static inline size_t dynq_op_tensor_bytes(const dynq_op_tensor *t) { return t->count * dynq_dtype_size(t->dtype); }
/* As callers see it. */
static inline dynq_tensor dynq_op_tensor_view(const dynq_op_tensor *t) {
  dynq_tensor view = {.dtype = t->dtype, .rank = t->rank, .data = t->data};
  for (size_t i = 0; i < t->rank; i++) {
    view.dims[i] = t->dims[i];
  }
  return view;
}
static inline dynq_status dynq_fail_cancelled(void) { return dynq_fail(DYNQ_CANCELLED, "the run was cancelled"); }
/* "node 'name' (Op): " before the message of the failure under way. */
static inline dynq_status dynq_fail_in_node(dynq_status status, const dynq_plan_node *node) {
  return dynq_fail(status, "node '%.80s' (%s): %s", node->name, node->op->name, dynq_last_error());
}

#endif
