/*
 * From the sums of the gates to the states: one step of an LSTM, a GRU or an RNN.
 *
 * Plain loops are elementwise: every operation is rounded once, in the order that they show (docs/numerics.md).
 */
#include "pairs.h"
#include "recurrent.h"

#include <string.h>

/* y[i] = EXPRESSION of i; the arrays do not overlap otherwise than element by element. */
#define EACH(n, y, EXPRESSION)                                                                                         \
  DYNQ_INDEPENDENT for (size_t i = 0; i < (n); i++) { (y)[i] = (EXPRESSION); }

static void scale(size_t n, float alpha, float beta, float *x) { EACH(n, x, dynq_one_nan(alpha * x[i] + beta)) }

static void apply(const dynq_recurrent *r, const dynq_gate_function *f, size_t n, float *x) {
  const dynq_vector_kernels *kernels = &r->kernels->vector;
  switch (f->kind) {
  case DYNQ_GATE_ACTIVATION:
    kernels->activate(f->activation, n, x, x);
    break;
  case DYNQ_GATE_UNARY:
    kernels->unary(f->unary, n, f->alpha, f->beta, x, x);
    break;
  case DYNQ_GATE_AFFINE:
    scale(n, f->alpha, f->beta, x);
    break;
  case DYNQ_GATE_SCALED_TANH:
    scale(n, f->beta, 0.0f, x);
    kernels->activate(DYNQ_ACTIVATION_TANH, n, x, x);
    scale(n, f->alpha, 0.0f, x);
    break;
  }
}

/* The activation of a sum, which is clipped before. */
static void clip_and_apply(const dynq_recurrent *r, const dynq_gate_function *f, size_t n, float *x) {
  if (r->clip < INFINITY) {
    r->kernels->vector.unary(DYNQ_UNARY_CLAMP, n, -r->clip, r->clip, x, x);
  }
  apply(r, f, n, x);
}

static void lstm_row(const dynq_step *s, float *gates, float *restrict h, float *restrict c) {
  const dynq_recurrent *r = s->layer;
  const dynq_gate_function *f = r->functions[s->direction];
  const size_t n = r->hidden;
  float *restrict in = gates, *restrict out = gates + n, *restrict forget = gates + 2 * n,
                  *restrict cell = gates + 3 * n;
  const float *restrict peepholes = r->peepholes != NULL ? r->peepholes + s->direction * 3 * n : NULL;
  if (peepholes != NULL) {
    EACH(n, in, in[i] + peepholes[i] * c[i])
    EACH(n, forget, forget[i] + peepholes[2 * n + i] * c[i])
    clip_and_apply(r, &f[0], n, in);
    clip_and_apply(r, &f[0], n, forget);
  } else {
    clip_and_apply(r, &f[0], 3 * n, gates);
  }
  clip_and_apply(r, &f[1], n, cell);
  if (r->input_forget) {
    EACH(n, forget, 1.0f - in[i])
  }
  EACH(n, c, dynq_one_nan(forget[i] * c[i] + in[i] * cell[i]))
  if (peepholes != NULL) {
    EACH(n, out, out[i] + peepholes[n + i] * c[i])
    clip_and_apply(r, &f[0], n, out);
  }
  memcpy(h, c, n * sizeof *h); /* the state is not clipped, as ONNX Runtime has it */
  apply(r, &f[2], n, h);
  EACH(n, h, dynq_one_nan(out[i] * h[i]))
}

void dynq_lstm_step(const dynq_step *s) {
  const size_t n = s->layer->hidden, width = dynq_recurrent_width(s->layer);
  for (size_t i = 0; i < s->rows; i++) {
    lstm_row(s, s->gates + i * width, s->h + i * n, s->c + i * n);
  }
}

void dynq_rnn_step(const dynq_step *s) {
  const size_t n = s->layer->hidden;
  clip_and_apply(s->layer, &s->layer->functions[s->direction][0], s->rows * n, s->gates);
  memcpy(s->h, s->gates, s->rows * n * sizeof *s->h);
}

/* h = (1 - z) candidate + z h. */
static void gru_update(size_t n, const float *restrict z, const float *restrict candidate, float *restrict h) {
  EACH(n, h, dynq_one_nan((1.0f - z[i]) * candidate[i] + z[i] * h[i]))
}

static void gru_row(const dynq_step *s, float *gates, const float *projected, float *h) {
  const dynq_recurrent *r = s->layer;
  const dynq_gate_function *f = r->functions[s->direction];
  const size_t n = r->hidden;
  const float *restrict x = projected, *restrict reset = gates + n;
  float *restrict candidate = gates + 2 * n;
  EACH(2 * n, gates, gates[i] + x[i])
  clip_and_apply(r, &f[0], 2 * n, gates);
  EACH(n, candidate, x[2 * n + i] + reset[i] * candidate[i])
  clip_and_apply(r, &f[1], n, candidate);
  gru_update(n, gates, candidate, h);
}

void dynq_gru_step(const dynq_step *s) {
  const dynq_recurrent *r = s->layer;
  const size_t n = r->hidden, width = dynq_recurrent_width(r);
  for (size_t row = 0; row < s->rows; row++) {
    float *gates = s->gates + row * width, *h = s->h + row * n;
    if (r->linear_before_reset) {
      gru_row(s, gates, s->projected + row * s->stride, h);
    } else {
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
    gru_update(n, s->gates + row * width, candidate, s->h + row * n);
  }
}
