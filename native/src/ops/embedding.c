/*
 * dynq.Embedding: rows of an int8 table, each with its scale. A row whose scale is not finite is NaN.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "op.h"
#include "walk.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *rows = DYNQ_INPUT(node, dynq_Embedding, rows), *scale = DYNQ_INPUT(node, dynq_Embedding, scale),
                       *indices = DYNQ_INPUT(node, dynq_Embedding, indices);
  size_t dims[DYNQ_MAX_RANK];
  if (rows->dtype != DYNQ_INT8 || rows->rank != 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "rows are %s of %zu dimensions; expected int8 of 2",
                     dynq_dtype_name(rows->dtype), rows->rank);
  }
  if (scale->dtype != DYNQ_FLOAT32 || scale->rank != 1 || scale->dims[0] != rows->dims[0]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scale: expected float32 (%zu)", rows->dims[0]);
  }
  if ((indices->dtype != DYNQ_INT64 && indices->dtype != DYNQ_INT32) || indices->rank >= DYNQ_MAX_RANK) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "indices are %s of %zu dimensions; expected int64 or int32 of %d at "
                     "most",
                     dynq_dtype_name(indices->dtype), indices->rank, DYNQ_MAX_RANK - 1);
  }
  memcpy(dims, indices->dims, sizeof dims);
  dims[indices->rank] = rows->dims[1];
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, indices->rank + 1, dims);
  return DYNQ_OK;
}

typedef struct job {
  const dynq_op_node *node;
  _Atomic size_t *bad; /* an index out of range; SIZE_MAX: none */
  _Atomic bool *nonfinite;
} job;

static void look_up(const void *arg, size_t begin, size_t end) {
  const job *j = arg;
  const dynq_op_tensor *rows = DYNQ_INPUT(j->node, dynq_Embedding, rows),
                       *indices = DYNQ_INPUT(j->node, dynq_Embedding, indices);
  const float *scale = DYNQ_INPUT(j->node, dynq_Embedding, scale)->data;
  const size_t width = rows->dims[1];
  for (size_t i = begin; i < end; i++) {
    const int64_t given = dynq_op_value(indices, i), count = (int64_t)rows->dims[0];
    if (given < -count || given >= count) {
      atomic_store(j->bad, i);
      return;
    }
    const size_t row = (size_t)(given < 0 ? given + count : given);
    float *y = (float *)j->node->outputs[0]->data + i * width;
    if (isfinite(scale[row])) {
      j->node->kernels->vector.dequantize(width, (const uint8_t *)rows->data + row * width, true, scale[row], 0, y);
      continue;
    }
    atomic_store(j->nonfinite, true);
    for (size_t column = 0; column < width; column++) {
      y[column] = NAN;
    }
  }
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *indices = DYNQ_INPUT(node, dynq_Embedding, indices), *y = node->outputs[0];
  _Atomic size_t first_bad = SIZE_MAX;
  _Atomic bool nonfinite = false;
  const job j = {node, &first_bad, &nonfinite};
  dynq_op_parallel(node, indices->count, dynq_size_mul(y->count, sizeof(float)), look_up, &j);
  const size_t bad = atomic_load(&first_bad);
  if (bad != SIZE_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "index %lld, the table has %zu rows",
                     (long long)dynq_op_value(indices, bad), DYNQ_INPUT(node, dynq_Embedding, rows)->dims[0]);
  }
  return atomic_load(&nonfinite) ? dynq_fail(DYNQ_NONFINITE, "a scale is NaN or an infinity") : DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_Embedding = {infer, run};
