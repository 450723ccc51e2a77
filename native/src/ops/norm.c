/*
 * Normalization: LayerNormalization and RMSNormalization of rows, BatchNormalization by channels.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "checks.h"
#include "layer_attributes.h"
#include "walk.h"

#include <math.h>

/* ---- Rows: all dimensions from an axis on ---- */

DYNQ_SAME_IN(LayerNormalization, X, RMSNormalization, X);
DYNQ_SAME_IN(LayerNormalization, Scale, RMSNormalization, scale);
DYNQ_SAME_ATTR(LayerNormalization, RMSNormalization, axis);
DYNQ_SAME_ATTR(LayerNormalization, RMSNormalization, epsilon);
DYNQ_SAME_ATTR(LayerNormalization, RMSNormalization, stash_type);

typedef struct rows {
  const dynq_op_node *node;
  bool layer;
  size_t axis, count, n;
} rows;

static dynq_status find_rows(const dynq_op_node *node, rows *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, LayerNormalization, X);
  *r = (rows){.node = node};
  DYNQ_TRY(dynq_op_axis(dynq_op_int(node, DYNQ_ATTR(LayerNormalization, axis)), x->rank, &r->axis));
  r->count = dynq_op_product(x, 0, r->axis);
  r->n = dynq_op_product(x, r->axis, x->rank);
  return DYNQ_OK;
}

/* One value for each of a row; dimensions of 1 before are welcome. */
static dynq_status check_parameter(const rows *r, size_t input, const char *name) {
  const dynq_op_tensor *x = DYNQ_INPUT(r->node, LayerNormalization, X), *t = dynq_op_input(r->node, input);
  if (t == NULL) {
    return DYNQ_OK;
  }
  bool fits = t->dtype == DYNQ_FLOAT32;
  for (size_t i = 0; i < t->rank || i < x->rank - r->axis; i++) { /* from the last dimension on */
    const size_t expected = i < x->rank - r->axis ? x->dims[x->rank - 1 - i] : 1;
    fits &= (i < t->rank ? t->dims[t->rank - 1 - i] : 1) == expected;
  }
  return fits ? DYNQ_OK
              : dynq_fail(
                    DYNQ_ERROR_INVALID_ARGUMENT,
                    "%s: expected float32 of the shape of what is normalized, %zu values; others are not supported",
                    name, r->n);
}

static dynq_status infer_rows(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, LayerNormalization, X);
  size_t dims[DYNQ_MAX_RANK];
  rows r;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(LayerNormalization, X), "X", 1));
  DYNQ_TRY(find_rows(node, &r));
  DYNQ_TRY(check_parameter(&r, DYNQ_IN(LayerNormalization, Scale), "Scale"));
  DYNQ_TRY(check_parameter(&r, DYNQ_IN(LayerNormalization, B), "B"));
  if (dynq_op_int(node, DYNQ_ATTR(LayerNormalization, stash_type)) != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "stash_type is %lld; expected 1, float32",
                     (long long)dynq_op_int(node, DYNQ_ATTR(LayerNormalization, stash_type)));
  }
  for (size_t i = 0; i < x->rank; i++) {
    dims[i] = i < r.axis ? x->dims[i] : 1;
  }
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  dynq_op_set_output(node, DYNQ_OUT(LayerNormalization, Mean), DYNQ_FLOAT32, x->rank, dims);
  dynq_op_set_output(node, DYNQ_OUT(LayerNormalization, InvStdDev), DYNQ_FLOAT32, x->rank, dims);
  if (dynq_op_output(node, 0) == NULL) { /* the kernel writes it all the same */
    node->scratch_bytes = dynq_size_mul(x->count, sizeof(float));
  }
  return DYNQ_OK;
}

static void normalize_rows(const void *arg, size_t row, size_t end) {
  const rows *r = arg;
  const dynq_op_node *node = r->node;
  const dynq_vector_kernels *kernels = &node->kernels->vector;
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, LayerNormalization, B),
                       *mean = DYNQ_OUTPUT(node, LayerNormalization, Mean);
  const dynq_op_tensor *inverse = DYNQ_OUTPUT(node, LayerNormalization, InvStdDev);
  const float epsilon = dynq_op_float(node, DYNQ_ATTR(LayerNormalization, epsilon));
  const float *x = DYNQ_INPUT(node, LayerNormalization, X)->data;
  const float *scale = DYNQ_INPUT(node, LayerNormalization, Scale)->data;
  float *y = node->outputs[0] != NULL ? node->outputs[0]->data : node->scratch;
  if (r->layer) {
    kernels->layer_norm(end - row, r->n, x + row * r->n, epsilon, scale, bias != NULL ? bias->data : NULL,
                        y + row * r->n, mean != NULL ? (float *)mean->data + row : NULL,
                        inverse != NULL ? (float *)inverse->data + row : NULL);
  } else {
    kernels->rms_norm(end - row, r->n, x + row * r->n, epsilon, scale, y + row * r->n);
  }
}

/* Mean and deviation of rows of no values. */
static void fill_with_nan(size_t count, const dynq_op_tensor *t) {
  for (size_t row = 0; t != NULL && row < count; row++) {
    ((float *)t->data)[row] = NAN;
  }
}

static dynq_status run_rows(const dynq_op_node *node, bool layer) {
  rows r;
  DYNQ_TRY(find_rows(node, &r));
  r.layer = layer;
  if (r.n != 0) {
    dynq_op_parallel_work(node, r.count, r.count * r.n / 2, normalize_rows, &r);
  } else {
    fill_with_nan(r.count, DYNQ_OUTPUT(node, LayerNormalization, Mean));
    fill_with_nan(r.count, DYNQ_OUTPUT(node, LayerNormalization, InvStdDev));
  }
  return DYNQ_OK;
}

static dynq_status run_layer(const dynq_op_node *node) { return run_rows(node, true); }
static dynq_status run_rms(const dynq_op_node *node) { return run_rows(node, false); }

const dynq_op_code dynq_op_LayerNormalization = {infer_rows, run_layer};

const dynq_op_code dynq_op_RMSNormalization = {infer_rows, run_rms};

/* ---- BatchNormalization, as it is used after training ---- */

static dynq_status infer_batch(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, BatchNormalization, X);
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(BatchNormalization, X), "X", 2));
  for (size_t i = DYNQ_IN(BatchNormalization, scale); i <= DYNQ_IN(BatchNormalization, input_var); i++) {
    DYNQ_TRY(dynq_op_check_shape(node->inputs[i], node->op->inputs[i].name, 1, &x->dims[1]));
  }
  if (dynq_op_int(node, DYNQ_ATTR(BatchNormalization, training_mode)) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "training_mode is set; dynq runs models, it trains none");
  }
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  return DYNQ_OK;
}

typedef struct planes {
  const dynq_op_node *node;
  size_t channels, n;
} planes;

/* (x - mean) * (scale / sqrt(variance + epsilon)) + bias. */
static void normalize_planes(const void *arg, size_t begin, size_t end) {
  const planes *p = arg;
  const dynq_op_node *node = p->node;
  const float epsilon = dynq_op_float(node, DYNQ_ATTR(BatchNormalization, epsilon));
  const float *scales = DYNQ_INPUT(node, BatchNormalization, scale)->data;
  const float *biases = DYNQ_INPUT(node, BatchNormalization, B)->data;
  const float *means = DYNQ_INPUT(node, BatchNormalization, input_mean)->data;
  const float *variances = DYNQ_INPUT(node, BatchNormalization, input_var)->data;
  for (size_t plane = begin; plane < end; plane++) {
    const size_t channel = plane % p->channels;
    const float *x = (const float *)DYNQ_INPUT(node, BatchNormalization, X)->data + plane * p->n;
    float *y = (float *)node->outputs[0]->data + plane * p->n;
    const float mean = means[channel], bias = biases[channel];
    const float factor = scales[channel] / sqrtf(variances[channel] + epsilon);
    for (size_t i = 0; i < p->n; i++) {
      const float value = (x[i] - mean) * factor + bias;
      y[i] = value == value ? value : NAN;
    }
  }
}

static dynq_status run_batch(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, BatchNormalization, X);
  const planes p = {node, x->dims[1], dynq_op_product(x, 2, x->rank)};
  if (x->count != 0) {
    dynq_op_parallel_work(node, x->dims[0] * x->dims[1], x->count / 2, normalize_planes, &p);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_BatchNormalization = {infer_batch, run_batch};
