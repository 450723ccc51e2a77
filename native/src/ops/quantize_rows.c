/*
 * dynq.QuantizeRows: int8 rows by the rule of TensorFlow Lite's hybrid kernels, bit for bit as its reference kernels have
 * it (docs/numerics.md). Ties go away from zero, unlike in all of dynq's own rules.
 */
#include "../base/elements.h"
#include "../base/status.h"
#include "../quant/range.h"
#include "checks.h"
#include "layer_attributes.h"
#include "walk.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_QuantizeRows, x);
  dynq_scheme scheme;
  DYNQ_TRY(dynq_op_scheme(node, DYNQ_ATTR(dynq_QuantizeRows, scheme), &scheme));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(dynq_QuantizeRows, x), DYNQ_SET_FLOAT));
  if (x->rank == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "x has rank 0; expected 1 or more");
  }
  dynq_op_set_output(node, DYNQ_OUT(dynq_QuantizeRows, y), DYNQ_INT8, x->rank, x->dims);
  dynq_op_set_output(node, DYNQ_OUT(dynq_QuantizeRows, scale), DYNQ_FLOAT32, x->rank - 1, x->dims);
  dynq_op_set_output(node, DYNQ_OUT(dynq_QuantizeRows, zero_point), DYNQ_INT8, x->rank - 1, x->dims);
  return DYNQ_OK;
}

typedef struct row_steps {
  float scale, inverse;
  int32_t zero_point, low;
} row_steps;

static row_steps find_symmetric(float lo, float hi) {
  const float range = -lo > hi ? -lo : hi;
  return range == 0.0f ? (row_steps){1.0f, 1.0f, 0, -127} : (row_steps){range / 127.0f, 127.0f / range, 0, -127};
}

/* The end of the range that is nearer to zero decides on the zero-point, all in single precision. */
static row_steps find_asymmetric(float lo, float hi) {
  if (lo == hi) {
    return (row_steps){1.0f, 1.0f, 0, -128};
  }
  const float scale = (hi - lo) / 255.0f, below = lo / scale, above = hi / scale;
  const float zero_point = 128.0f + fabsf(below) < 127.0f + fabsf(above) ? -128.0f - below : 127.0f - above;
  const int32_t whole = zero_point <= -128.0f ? -128 : zero_point >= 127.0f ? 127 : (int32_t)roundf(zero_point);
  return (row_steps){scale, 1.0f / scale, whole, -128};
}

static void quantize(size_t n, const float *x, const row_steps *steps, int8_t *q) {
  const float inverse = steps->inverse;
  const int32_t zero_point = steps->zero_point, low = steps->low;
  for (size_t i = 0; i < n; i++) {
    const float value = x[i] * inverse;
    const float bounded = value > -512.0f ? value < 512.0f ? value : 512.0f : -512.0f; /* of a NaN: -512 */
    const int32_t whole = (int32_t)bounded;
    const float rest = bounded - (float)whole; /* exact */
    const int32_t nearest = whole + (rest >= 0.5f) - (rest <= -0.5f) + zero_point;
    q[i] = (int8_t)(nearest < low ? low : nearest > 127 ? 127 : nearest);
  }
}

typedef struct job {
  const dynq_op_node *node;
  size_t width;
  dynq_scheme scheme;
  _Atomic bool *nonfinite;
} job;

static void quantize_rows(const void *arg, size_t begin, size_t end) {
  const job *j = arg;
  const dynq_op_tensor *y = DYNQ_OUTPUT(j->node, dynq_QuantizeRows, y);
  const dynq_op_tensor *scales = DYNQ_OUTPUT(j->node, dynq_QuantizeRows, scale);
  const dynq_op_tensor *zero_points = DYNQ_OUTPUT(j->node, dynq_QuantizeRows, zero_point);
  for (size_t row = begin; row < end; row++) {
    const float *x = (const float *)DYNQ_INPUT(j->node, dynq_QuantizeRows, x)->data + row * j->width;
    float lo, hi;
    const bool finite = dynq_row_range(j->node->kernels, j->width, x, &lo, &hi);
    row_steps steps = {.scale = NAN}; /* what is computed from it is NaN */
    if (finite) {
      steps = j->scheme == DYNQ_SYMMETRIC ? find_symmetric(lo, hi) : find_asymmetric(lo, hi);
    } else {
      atomic_store(j->nonfinite, true);
    }
    if (y != NULL && finite) {
      quantize(j->width, x, &steps, (int8_t *)y->data + row * j->width);
    } else if (y != NULL && j->width != 0) {
      memset((int8_t *)y->data + row * j->width, 0, j->width);
    }
    if (scales != NULL) {
      ((float *)scales->data)[row] = steps.scale;
    }
    if (zero_points != NULL) {
      ((int8_t *)zero_points->data)[row] = (int8_t)steps.zero_point;
    }
  }
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_QuantizeRows, x);
  _Atomic bool nonfinite = false;
  job j = {.node = node, .width = x->dims[x->rank - 1], .nonfinite = &nonfinite};
  DYNQ_TRY(dynq_op_scheme(node, DYNQ_ATTR(dynq_QuantizeRows, scheme), &j.scheme));
  const size_t rows = dynq_op_product(x, 0, x->rank - 1);
  if (x->count == 0 && DYNQ_OUTPUT(node, dynq_QuantizeRows, scale) == NULL &&
      DYNQ_OUTPUT(node, dynq_QuantizeRows, zero_point) == NULL) {
    return DYNQ_OK; /* rows of nothing, as many as there may be */
  }
  dynq_op_parallel(node, rows, dynq_size_mul(dynq_size_add(x->count, rows), sizeof(float)), quantize_rows, &j);
  return atomic_load(&nonfinite) ? dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity") : DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_QuantizeRows = {infer, run};
