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

typedef struct rows {
  const dynq_op_node *node;
  bool logarithm;
  size_t outer, n, inner, parts;
} rows;

static dynq_status find_rows(const dynq_op_node *node, rows *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Softmax, input);
  size_t axis;
  DYNQ_TRY(dynq_op_axis(dynq_op_int(node, DYNQ_ATTR(Softmax, axis)), x->rank, &axis));
  *r = (rows){.node = node,
              .outer = dynq_op_product(x, 0, axis),
              .n = x->dims[axis],
              .inner = dynq_op_product(x, axis + 1, x->rank)};
  const size_t lines = dynq_size_mul(r->outer, r->inner);
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
  float *y = r->node->outputs[0]->data, *row = r->inner != 1 ? (float *)r->node->scratch + part * r->n : NULL;
  size_t line, end;
  dynq_share(r->outer * r->inner, r->parts, part, &line, &end);
  if (r->inner == 1) {
    const size_t step = dynq_interrupt_step(end - line, (end - line) * r->n);
    for (; line < end && !dynq_interrupted(); line += step) {
      run_lines(r, end - line < step ? end - line : step, x + line * r->n, y + line * r->n);
    }
    return;
  }
  for (; line < end && !dynq_interrupted(); line++) {
    const size_t at = line / r->inner * r->n * r->inner + line % r->inner;
    for (size_t i = 0; i < r->n; i++) {
      row[i] = x[at + i * r->inner];
    }
    run_lines(r, 1, row, row);
    for (size_t i = 0; i < r->n; i++) {
      y[at + i * r->inner] = row[i];
    }
  }
}

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Softmax, input);
  rows r;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Softmax, input), "input", 1));
  DYNQ_TRY(find_rows(node, &r));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  node->scratch_bytes = r.inner != 1 ? dynq_size_mul(r.parts, dynq_size_mul(r.n, sizeof(float))) : 0;
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
