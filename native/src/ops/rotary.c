/*
 * dynq.Rotary: each pair of columns of x turned by an angle, whose cosine and sine are given.
 *
 * y[i] = x[i] cos[i] - x[i'] sin[i] for the first column of a pair and + for the second one, where i' is the other
 * column: half the width away, or beside it where `interleaved`. Columns behind the width of cos stay as they are.
 */
#include "../base/elements.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "checks.h"

#include <string.h>

typedef struct rotary {
  const dynq_op_node *node;
  const float *x, *cosine, *sine;
  float *y;
  size_t rows, width, turned, parts;
  size_t rank, dims[DYNQ_MAX_RANK], steps[DYNQ_MAX_RANK]; /* of x without its last axis; of cos and sin */
  bool interleaved;
} rotary;

static dynq_status find_rotary(const dynq_op_node *node, rotary *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_Rotary, x), *c = DYNQ_INPUT(node, dynq_Rotary, cos),
                       *s = DYNQ_INPUT(node, dynq_Rotary, sin);
  const int64_t interleaved = dynq_op_int(node, DYNQ_ATTR(dynq_Rotary, interleaved));
  bool fits = x->rank >= 1 && c->rank == s->rank && c->rank >= 1 && c->rank <= x->rank;
  for (size_t i = 0; fits && i < c->rank; i++) {
    const size_t of_x = x->dims[x->rank - c->rank + i];
    fits = c->dims[i] == s->dims[i] &&
           (i + 1 == c->rank ? c->dims[i] <= of_x && c->dims[i] % 2 == 0 : c->dims[i] == of_x || c->dims[i] == 1);
  }
  if (!fits || (interleaved != 0 && interleaved != 1)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "cos and sin have %zu and %zu dimensions, x %zu, interleaved is %lld: expected equal shapes of an "
                     "even width that broadcast to x, and 0 or 1",
                     c->rank, s->rank, x->rank, (long long)interleaved);
  }
  *r = (rotary){.node = node,
                .x = x->data,
                .cosine = c->data,
                .sine = s->data,
                .rows = dynq_op_product(x, 0, x->rank - 1),
                .width = x->dims[x->rank - 1],
                .turned = c->dims[c->rank - 1],
                .rank = x->rank - 1,
                .interleaved = interleaved == 1};
  size_t step = r->turned;
  for (size_t i = r->rank; i-- > 0;) {
    const size_t missing = x->rank - c->rank, size = i >= missing ? c->dims[i - missing] : 1;
    r->dims[i] = x->dims[i];
    r->steps[i] = size != 1 ? step : 0;
    step = dynq_size_mul(step, size);
  }
  r->parts = dynq_work_parts(node->thread_count, r->rows, dynq_size_mul(r->rows, r->width));
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  rotary r;
  for (size_t i = 0; i < 3; i++) {
    DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET_FLOAT));
  }
  DYNQ_TRY(find_rotary(node, &r));
  return dynq_op_set_like(node, 0, DYNQ_INPUT(node, dynq_Rotary, x));
}

static void turn(const rotary *r, const float *x, const float *c, const float *s, float *y) {
  const size_t half = r->turned / 2;
  for (size_t i = 0; i < half; i++) {
    const size_t a = r->interleaved ? 2 * i : i, b = r->interleaved ? a + 1 : i + half;
    const float first = x[a] * c[a], second = x[b] * c[b], of_b = x[b] * s[a], of_a = x[a] * s[b];
    y[a] = dynq_one_nan(first - of_b);
    y[b] = dynq_one_nan(second + of_a);
  }
  if (r->turned < r->width) {
    memcpy(y + r->turned, x + r->turned, (r->width - r->turned) * sizeof *y);
  }
}

static void task(void *arg, size_t part) {
  const rotary *r = arg;
  size_t row, end;
  dynq_share(r->rows, r->parts, part, &row, &end);
  for (; row < end; row++) {
    size_t left = row, at = 0;
    for (size_t i = r->rank; i-- > 0;) {
      at += left % r->dims[i] * r->steps[i];
      left /= r->dims[i];
    }
    turn(r, r->x + row * r->width, r->cosine + at, r->sine + at, r->y + row * r->width);
  }
}

static dynq_status run(const dynq_op_node *node) {
  rotary r;
  DYNQ_TRY(find_rotary(node, &r));
  r.y = node->outputs[0]->data;
  if (node->outputs[0]->count != 0) {
    dynq_parallel(node->threads, r.parts, task, &r, r.parts);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_Rotary = {infer, run};
