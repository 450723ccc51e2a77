/*
 * From the sums of the gates to the states: one step of an LSTM, a GRU or an RNN.
 *
 * Plain loops are elementwise: every operation is rounded once, in the order that they show (docs/numerics.md).
 */
#include "../base/elements.h"
#include "layer.h"

#include <string.h>

/* y[i] = EXPRESSION of i; the arrays do not overlap otherwise than element by element. */
#define EACH(n, y, EXPRESSION)                                                                                         \
  DYNQ_INDEPENDENT for (size_t i = 0; i < (n); i++) { (y)[i] = (EXPRESSION); }

static void scale(size_t n, float alpha, float beta, float *x) { EACH(n, x, dynq_one_nan(alpha * x[i] + beta)) }

static void apply(const dynq_recurrent *r, const dynq_gate_function *f, size_t n, float *x) {
  const dynq_vector_kernels *kernels = &r->kernels->vector;
  switch (f->kind) {
  case DYNQ_GATE_ACTIVATION:
    kernels->activate(f->activation, 0.0f, 0.0f, n, x, x);
    break;
  case DYNQ_GATE_UNARY:
    kernels->unary(f->unary, n, f->alpha, f->beta, x, x);
    break;
  case DYNQ_GATE_AFFINE:
    scale(n, f->alpha, f->beta, x);
    break;
  case DYNQ_GATE_SCALED_TANH:
    scale(n, f->beta, 0.0f, x);
    kernels->activate(DYNQ_ACTIVATION_TANH, 0.0f, 0.0f, n, x, x);
    scale(n, f->alpha, 0.0f, x);
    break;
  }
}

/* The activation of a sum, which is clipped before. */
static void clip_and_apply(const dynq_recurrent *r, const dynq_gate_function *f, size_t n, float *x) {
  if (r->clip < INFINITY) {
    r->kernels->vector.unary(DYNQ_UNARY_Clip, n, -r->clip, r->clip, x, x);
  }
  apply(r, f, n, x);
}

/* Applies a function to gates [first, last) of a row, which lie side by side if a step has all columns. */
static void apply_to_gates(const dynq_step *s, const dynq_gate_function *f, size_t first, size_t last, float *row) {
  const size_t n = s->layer->hidden;
  if (s->columns == n) {
    clip_and_apply(s->layer, f, (last - first) * n, row + first * n);
    return;
  }
  for (size_t gate = first; gate < last; gate++) {
    clip_and_apply(s->layer, f, s->columns, row + gate * n + s->column);
  }
}

/* Arrays begin at the step's first column, but for the row. */
static void lstm_row(const dynq_step *s, float *row, float *restrict h, float *restrict c) {
  const dynq_recurrent *r = s->layer;
  const dynq_gate_function *f = r->functions[s->direction];
  const size_t n = s->columns, stride = r->hidden;
  float *restrict in = row + s->column, *restrict out = in + stride, *restrict forget = out + stride;
  float *restrict cell = forget + stride;
  const float *restrict peepholes = NULL;
  if (r->peepholes != NULL) {
    peepholes = r->peepholes + s->direction * 3 * stride + s->column;
    EACH(n, in, in[i] + peepholes[i] * c[i])
    EACH(n, forget, forget[i] + peepholes[2 * stride + i] * c[i])
    apply_to_gates(s, &f[0], 0, 1, row);
    apply_to_gates(s, &f[0], 2, 3, row);
  } else {
    apply_to_gates(s, &f[0], 0, 3, row);
  }
  apply_to_gates(s, &f[1], 3, 4, row);
  if (r->input_forget) {
    EACH(n, forget, 1.0f - in[i])
  }
  EACH(n, c, dynq_one_nan(forget[i] * c[i] + in[i] * cell[i]))
  if (peepholes != NULL) {
    EACH(n, out, out[i] + peepholes[stride + i] * c[i])
    apply_to_gates(s, &f[0], 1, 2, row);
  }
  memcpy(h, c, n * sizeof *h); /* the state is not clipped, as ONNX Runtime has it */
  apply(r, &f[2], n, h);
  EACH(n, h, dynq_one_nan(out[i] * h[i]))
}

void dynq_lstm_step(const dynq_step *s) {
  const size_t n = s->layer->hidden, width = dynq_recurrent_width(s->layer);
  for (size_t i = 0; i < s->rows; i++) {
    lstm_row(s, s->gates + i * width, s->to + i * n + s->column, s->c + i * n + s->column);
  }
}

void dynq_rnn_step(const dynq_step *s) {
  const size_t n = s->layer->hidden;
  for (size_t i = 0; i < s->rows; i++) {
    float *row = s->gates + i * n;
    apply_to_gates(s, &s->layer->functions[s->direction][0], 0, 1, row);
    memcpy(s->to + i * n + s->column, row + s->column, s->columns * sizeof *row);
  }
}

/* to = (1 - z) candidate + z h; `to` may be h. */
static void gru_update(size_t n, const float *restrict z, const float *restrict candidate, const float *h, float *to) {
  EACH(n, to, dynq_one_nan((1.0f - z[i]) * candidate[i] + z[i] * h[i]))
}

static void gru_row(const dynq_step *s, float *row, const float *projected, const float *h, float *to) {
  const dynq_recurrent *r = s->layer;
  const dynq_gate_function *f = r->functions[s->direction];
  const size_t n = s->columns, stride = r->hidden;
  float *restrict update = row + s->column, *restrict reset = update + stride, *restrict candidate = reset + stride;
  const float *restrict x = projected + s->column;
  EACH(n, update, update[i] + x[i])
  EACH(n, reset, reset[i] + x[stride + i])
  apply_to_gates(s, &f[0], 0, 2, row);
  EACH(n, candidate, x[2 * stride + i] + reset[i] * candidate[i])
  apply_to_gates(s, &f[1], 2, 3, row);
  gru_update(n, update, candidate, h, to);
}

void dynq_gru_step(const dynq_step *s) {
  const dynq_recurrent *r = s->layer;
  const size_t n = r->hidden, width = dynq_recurrent_width(r);
  for (size_t row = 0; row < s->rows; row++) {
    float *gates = s->gates + row * width;
    if (r->linear_before_reset) {
      const size_t at = row * n + s->column;
      gru_row(s, gates, s->projected + row * s->stride, s->h + at, s->to + at);
    } else {
      const float *h = s->h + row * n;
      float *restrict to = s->reset + row * n;
      clip_and_apply(r, &r->functions[s->direction][0], 2 * n, gates);
      EACH(n, to, dynq_one_nan(gates[n + i] * h[i]))
    }
  }
}

void dynq_gru_finish(const dynq_step *s) {
  const dynq_recurrent *r = s->layer;
  const size_t n = r->hidden, width = dynq_recurrent_width(r);
  for (size_t row = 0; row < s->rows; row++) {
    float *candidate = s->candidate + row * width + 2 * n;
    clip_and_apply(r, &r->functions[s->direction][1], n, candidate);
    gru_update(n, s->gates + row * width, candidate, s->h + row * n, s->to + row * n);
  }
}
