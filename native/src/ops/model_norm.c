/*
 * Normalization: LayerNormalization and RMSNormalization of rows, BatchNormalization by channels.
 */
#include "../status.h"
#include "checks.h"
#include "model_linear.h"
#include "walk.h"

#include <math.h>

/* ---- Rows: all dimensions from an axis on ---- */

enum { ROW_AXIS, ROW_EPSILON, ROW_STASH_TYPE };
enum { SCALE = 1, BIAS = 2, MEAN = 1, INVERSE = 2 };

typedef struct rows {
  const dynq_op_node *node;
  bool layer;
  size_t axis, count, n;
} rows;

static dynq_status find_rows(const dynq_op_node *node, rows *r) {
  const dynq_op_tensor *x = node->inputs[0];
  *r = (rows){.node = node};
  DYNQ_TRY(dynq_op_axis(dynq_op_int(node, ROW_AXIS, -1), x->rank, &r->axis));
  r->count = dynq_op_product(x, 0, r->axis);
  r->n = dynq_op_product(x, r->axis, x->rank);
  return DYNQ_OK;
}

/* One value for each of a row; dimensions of 1 before are welcome. */
static dynq_status check_parameter(const rows *r, size_t input, const char *name) {
  const dynq_op_tensor *x = r->node->inputs[0], *t = dynq_op_input(r->node, input);
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
  const dynq_op_tensor *x = node->inputs[0];
  size_t dims[DYNQ_MAX_RANK];
  rows r;
  DYNQ_TRY(dynq_op_check_f32(node, 0, "X", 1));
  DYNQ_TRY(find_rows(node, &r));
  DYNQ_TRY(check_parameter(&r, SCALE, "Scale"));
  DYNQ_TRY(check_parameter(&r, BIAS, "B"));
  if (dynq_op_int(node, ROW_STASH_TYPE, 1) != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "stash_type is %lld; expected 1, float32",
                     (long long)dynq_op_int(node, ROW_STASH_TYPE, 1));
  }
  if (node->outputs[0] == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "nobody reads Y");
  }
  for (size_t i = 0; i < x->rank; i++) {
    dims[i] = i < r.axis ? x->dims[i] : 1;
  }
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  dynq_op_set_output(node, MEAN, DYNQ_FLOAT32, x->rank, dims);
  dynq_op_set_output(node, INVERSE, DYNQ_FLOAT32, x->rank, dims);
  return DYNQ_OK;
}

static void normalize_rows(const void *arg, size_t row, size_t end) {
  const rows *r = arg;
  const dynq_op_node *node = r->node;
  const dynq_vector_kernels *kernels = &node->kernels->vector;
  const dynq_op_tensor *bias = dynq_op_input(node, BIAS), *mean = dynq_op_output(node, MEAN);
  const dynq_op_tensor *inverse = dynq_op_output(node, INVERSE);
  const float epsilon = dynq_op_float(node, ROW_EPSILON, 1e-5f), *x = node->inputs[0]->data;
  const float *scale = node->inputs[SCALE]->data;
  float *y = node->outputs[0]->data;
  if (r->layer) {
    kernels->layer_norm(end - row, r->n, x + row * r->n, epsilon, scale, bias != NULL ? bias->data : NULL,
                        y + row * r->n, mean != NULL ? (float *)mean->data + row : NULL,
                        inverse != NULL ? (float *)inverse->data + row : NULL);
  } else {
    kernels->rms_norm(end - row, r->n, x + row * r->n, epsilon, scale, y + row * r->n);
  }
}

static dynq_status run_rows(const dynq_op_node *node, bool layer) {
  rows r;
  DYNQ_TRY(find_rows(node, &r));
  r.layer = layer;
  if (r.n != 0) {
    dynq_op_parallel_work(node, r.count, r.count * r.n / 2, normalize_rows, &r);
  }
  for (size_t i = MEAN; r.n == 0 && i <= INVERSE; i++) { /* of no values */
    const dynq_op_tensor *t = dynq_op_output(node, i);
    for (size_t row = 0; t != NULL && row < r.count; row++) {
      ((float *)t->data)[row] = NAN;
    }
  }
  return DYNQ_OK;
}

static dynq_status run_layer(const dynq_op_node *node) { return run_rows(node, true); }
static dynq_status run_rms(const dynq_op_node *node) { return run_rows(node, false); }

#define ROW_ATTRIBUTES                                                                                                 \
  {                                                                                                                    \
    [ROW_AXIS] = {"axis", DYNQ_ATTRIBUTE_INT}, [ROW_EPSILON] = {"epsilon", DYNQ_ATTRIBUTE_FLOAT},                      \
    [ROW_STASH_TYPE] = {"stash_type", DYNQ_ATTRIBUTE_INT}                                                              \
  }

const dynq_op dynq_op_LayerNormalization = {
    .name = "LayerNormalization",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 3,
    .in_place = 1 << 0,
    .attributes = ROW_ATTRIBUTES,
    .infer = infer_rows,
    .run = run_layer,
};

const dynq_op dynq_op_RMSNormalization = {
    .name = "RMSNormalization",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1 << 0,
    .attributes = ROW_ATTRIBUTES,
    .infer = infer_rows,
    .run = run_rms,
};

/* ---- BatchNormalization, as it is used after training ---- */

enum { BATCH_EPSILON, BATCH_MOMENTUM, BATCH_TRAINING_MODE };
enum { BATCH_SCALE = 1, BATCH_BIAS, BATCH_MEAN, BATCH_VARIANCE };

static dynq_status infer_batch(dynq_op_node *node) {
  static const char *const names[] = {"", "scale", "B", "input_mean", "input_var"};
  const dynq_op_tensor *x = node->inputs[0];
  DYNQ_TRY(dynq_op_check_f32(node, 0, "X", 2));
  for (size_t i = BATCH_SCALE; i <= BATCH_VARIANCE; i++) {
    DYNQ_TRY(dynq_op_check_shape(node->inputs[i], names[i], 1, &x->dims[1]));
  }
  if (dynq_op_int(node, BATCH_TRAINING_MODE, 0) != 0) {
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
  const float epsilon = dynq_op_float(node, BATCH_EPSILON, 1e-5f);
  for (size_t plane = begin; plane < end; plane++) {
    const size_t channel = plane % p->channels;
    const float *x = (const float *)node->inputs[0]->data + plane * p->n;
    float *y = (float *)node->outputs[0]->data + plane * p->n;
    const float mean = ((const float *)node->inputs[BATCH_MEAN]->data)[channel];
    const float bias = ((const float *)node->inputs[BATCH_BIAS]->data)[channel];
    const float deviation = sqrtf(((const float *)node->inputs[BATCH_VARIANCE]->data)[channel] + epsilon);
    const float factor = ((const float *)node->inputs[BATCH_SCALE]->data)[channel] / deviation;
    for (size_t i = 0; i < p->n; i++) {
      const float value = (x[i] - mean) * factor + bias;
      y[i] = value == value ? value : NAN;
    }
  }
}

static dynq_status run_batch(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0];
  const planes p = {node, x->dims[1], dynq_op_product(x, 2, x->rank)};
  if (x->count != 0) {
    dynq_op_parallel_work(node, x->dims[0] * x->dims[1], x->count / 2, normalize_planes, &p);
  }
  return DYNQ_OK;
}

const dynq_op dynq_op_BatchNormalization = {
    .name = "BatchNormalization",
    .min_inputs = 5,
    .max_inputs = 5,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1 << 0,
    .attributes = {[BATCH_EPSILON] = {"epsilon", DYNQ_ATTRIBUTE_FLOAT},
                   [BATCH_MOMENTUM] = {"momentum", DYNQ_ATTRIBUTE_FLOAT},
                   [BATCH_TRAINING_MODE] = {"training_mode", DYNQ_ATTRIBUTE_INT}},
    .infer = infer_batch,
    .run = run_batch,
};
