/*
 * Recurrent layers: LSTM, GRU and RNN, as ONNX defines them, over inputs that are projected already.
 *
 *   plan.c       who computes what, and in which memory
 *   recurrent.c  goes through the steps
 *   cell.c       a step's states from its gates
 *   fused.c      the product of a step and its states at once
 *   team.c       threads that share each step
 */
#ifndef DYNQ_RECURRENT_H
#define DYNQ_RECURRENT_H

#include "../base/dispatch.h"
#include "../gemm/lhs.h"
#include "../quant/weight.h"

typedef enum dynq_cell { DYNQ_CELL_LSTM, DYNQ_CELL_GRU, DYNQ_CELL_RNN } dynq_cell;

/* An activation of a gate. ONNX's Affine and ScaledTanh are no kernels; the others are. */
typedef struct dynq_gate_function {
  enum { DYNQ_GATE_ACTIVATION, DYNQ_GATE_UNARY, DYNQ_GATE_AFFINE, DYNQ_GATE_SCALED_TANH } kind;
  dynq_activation activation;
  dynq_unary unary;
  float alpha, beta;
} dynq_gate_function;

enum { DYNQ_MAX_DIRECTIONS = 2, DYNQ_MAX_GATE_FUNCTIONS = 3, DYNQ_STEP_ROWS = 64 /* of a step, at most */ };

typedef struct dynq_recurrent {
  dynq_cell cell;
  size_t directions, gates; /* 1 or 2; 4 (i o f c), 3 (z r h) or 1 */
  size_t steps, batch, hidden;
  size_t state; /* columns of h and y: hidden, unless an LSTM projects them (o * h(c), of `hidden` columns) to others */
  bool reverse; /* the first direction; the second is the reverse of it */
  bool batch_first, linear_before_reset, input_forget;
  float clip; /* of the gates' sums, before their activations; infinity: none */
  dynq_gate_function functions[DYNQ_MAX_DIRECTIONS][DYNQ_MAX_GATE_FUNCTIONS]; /* ONNX's f, g, h */
  const dynq_kernels *kernels;
  dynq_scheme scheme;                              /* of the states, where the weights are packed */
  const float *projected;                          /* (steps, batch, directions, gates, hidden), or batch first */
  const dynq_weight *weights[DYNQ_MAX_DIRECTIONS]; /* (gates * hidden, state), or ... */
  const float *panels; /* ... float, of each direction as pack_transposed makes them of such a matrix */
  const dynq_weight *projections[DYNQ_MAX_DIRECTIONS]; /* (state, hidden), or NULL, or ... */
  const float *projection_panels;                      /* ... float, where `panels` are */
  const float *bias;        /* (directions, gates * hidden) or NULL: added to the product with the state */
  const void *lengths;      /* (batch) or NULL; ... */
  dynq_dtype lengths_dtype; /* ... int32 or int64 */
  const float *initial_h, *initial_c, *peepholes; /* as y_h and y_c; (directions, 3 * hidden) in the order i o f */
  float *y, *y_h,
      *y_c; /* (steps, directions, batch, state), (directions, batch, state), (directions, batch, hidden), or
                           batch first: (batch, steps, directions, state) and so on; each may be NULL */
} dynq_recurrent;

static inline size_t dynq_recurrent_width(const dynq_recurrent *r) { return r->gates * r->hidden; }
static inline bool dynq_recurrent_projects(const dynq_recurrent *r) {
  return r->projections[0] != NULL || r->projection_panels != NULL;
}
/* Steps of sequence `i`, where there are lengths. */
static inline int64_t dynq_recurrent_length(const dynq_recurrent *r, size_t i) {
  return r->lengths_dtype == DYNQ_INT64 ? ((const int64_t *)r->lengths)[i] : ((const int32_t *)r->lengths)[i];
}
/* Floats of one direction's panels; SIZE_MAX on overflow. */
size_t dynq_recurrent_panel_floats(const dynq_recurrent *r);

/* Bytes that it works in with up to `count` threads; SIZE_MAX on overflow. Of states, lengths, bias and peepholes it looks
 * at no value, but whether there are lengths and peepholes. */
size_t dynq_recurrent_bytes(const dynq_recurrent *r, size_t count);
/* `memory`: that many bytes, aligned to 64. DYNQ_NONFINITE: outputs are written, some are NaN. */
dynq_status dynq_recurrent_run(const dynq_recurrent *r, void *memory, const dynq_threads *threads, size_t count);

/* ---- A step of some rows (cell.c) ---- */

/* From sums to states, for rows one after another and columns [column, column + columns) of the state. gates (rows,
 * width) are h R. What is projected is added to them, but for a GRU that is linear before its reset. `projected` rows
 * are `stride` apart. The new state goes to `to`, which may be h where all columns are at hand. Of a GRU that resets
 * first, which takes all columns, the first call leaves r * h in `reset` (rows, hidden), and dynq_gru_finish takes the
 * sums of the candidate (rows, width). */
typedef struct dynq_step {
  const dynq_recurrent *layer;
  size_t direction, rows, column, columns;
  float *gates, *candidate, *reset, *to, *c;
  const float *h, *projected, *bias; /* bias: NULL or of this direction */
  size_t stride;
} dynq_step;

void dynq_lstm_step(const dynq_step *s);
void dynq_rnn_step(const dynq_step *s);
void dynq_gru_step(const dynq_step *s);
void dynq_gru_finish(const dynq_step *s);

/* ---- The same with the product (fused.c) ---- */

/* Returns whether a layer can have it: packed weights without zero-points, an LSTM or a GRU that is linear before its
 * reset, with the usual activations and nothing else. The bits are the same. */
bool dynq_recurrent_is_fused(const dynq_recurrent *r);
/* The states of whole panels of columns; lhs: the quantized states. Neither gates, candidate nor reset are used. */
void dynq_fused_step(const dynq_step *s, const dynq_lhs *lhs);

#endif
