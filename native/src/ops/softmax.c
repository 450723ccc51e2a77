/*
 * Softmax and LogSoftmax over any axis.
 */
#include "../base/alloc.h"
#include "../base/interrupt.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "checks.h"
#include "layer_attributes.h"

/* Lines of other axes than the last are copied together, for as many floats as stay in a cache: they lie side by side. */
enum { MOST_LINES = 16, MOST_FLOATS = 1 << 14 };

typedef struct rows {
  const dynq_op_node *node;
  bool logarithm;
  size_t outer, n, inner, parts, lines; /* lines: copied together */
} rows;

static dynq_status find_rows(const dynq_op_node *node, rows *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Softmax, input);
  size_t axis;
  DYNQ_TRY(dynq_op_axis(dynq_op_int(node, DYNQ_ATTR(Softmax, axis)), x->rank, &axis));
  *r = (rows){.node = node,
              .outer = dynq_op_product(x, 0, axis),
              .n = x->dims[axis],
              .inner = dynq_op_product(x, axis + 1, x->rank)};
  const size_t lines = dynq_size_mul(r->outer, r->inner), fitting = MOST_FLOATS / (r->n + 1);
  r->lines = fitting < 1 ? 1 : fitting < MOST_LINES ? fitting : MOST_LINES;
  r->parts = dynq_work_parts(node->thread_count, lines, dynq_size_mul(lines, r->n)); /* a nanosecond each */
  return DYNQ_OK;
}

static void run_lines(const rows *r, size_t m, const float *x, float *y) {
  const dynq_vector_kernels *kernels = &r->node->kernels->vector;
  if (!r->logarithm) {
    kernels->softmax(m, r->n, x, r->n, 1.0f, NULL, y, r->n);
  }
  for (size_t i = 0; r->logarithm && i < m; i++) {
    kernels->log_softmax(r->n, x + i * r->n, y + i * r->n);
  }
}

static void task(void *arg, size_t part) {
  const rows *r = arg;
  const float *x = DYNQ_INPUT(r->node, Softmax, input)->data;
  float *y = r->node->outputs[0]->data,
        *row = r->inner != 1 ? (float *)r->node->scratch + part * r->n * r->lines : NULL;
  size_t line, end;
  dynq_share(r->outer * r->inner, r->parts, part, &line, &end);
  if (r->inner == 1) {
    const size_t step = dynq_interrupt_step(end - line, (end - line) * r->n);
    for (; line < end && !dynq_interrupted(); line += step) {
      run_lines(r, end - line < step ? end - line : step, x + line * r->n, y + line * r->n);
    }
    return;
  }
  for (size_t m; line < end && !dynq_interrupted(); line += m) {
    const size_t column = line % r->inner, at = line / r->inner * r->n * r->inner + column;
    m = end - line < r->inner - column ? end - line : r->inner - column;
    m = m < r->lines ? m : r->lines;
    for (size_t i = 0; i < r->n; i++) {
      for (size_t j = 0; j < m; j++) {
        row[j * r->n + i] = x[at + i * r->inner + j];
      }
    }
    run_lines(r, m, row, row);
    for (size_t i = 0; i < r->n; i++) {
      for (size_t j = 0; j < m; j++) {
        y[at + i * r->inner + j] = row[j * r->n + i];
      }
    }
  }
}

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Softmax, input);
  rows r;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Softmax, input), "input", 1));
  DYNQ_TRY(find_rows(node, &r));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  node->scratch_bytes =
      r.inner != 1 ? dynq_size_mul(dynq_size_mul(r.parts, r.lines), dynq_size_mul(r.n, sizeof(float))) : 0;
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node, bool logarithm) {
  rows r;
  DYNQ_TRY(find_rows(node, &r));
  r.logarithm = logarithm;
  if (node->outputs[0]->count != 0) {
    dynq_parallel(node->threads, r.parts, task, &r, r.parts);
  }
  return DYNQ_OK;
}

static dynq_status run_softmax(const dynq_op_node *node) { return run(node, false); }
static dynq_status run_log_softmax(const dynq_op_node *node) { return run(node, true); }

DYNQ_SAME_IN(Softmax, input, LogSoftmax, input);
DYNQ_SAME_ATTR(Softmax, LogSoftmax, axis);
const dynq_op_code dynq_op_Softmax = {infer, run_softmax};
const dynq_op_code dynq_op_LogSoftmax = {infer, run_log_softmax};
