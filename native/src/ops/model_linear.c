/*
 * Layers with packed weights: dynq.Linear and dynq.MatMulIntegerPacked.
 */
#include "model_linear.h"
#include "checks.h"

#include "../alloc.h"
#include "../status.h"
#include "gemm.h"
#include "lhs_fine.h"

#include <math.h>
#include <string.h>

/* ---- Attributes and inputs that others share ---- */

/* Index of the string among `names`, the first of which is the default. */
static dynq_status choose(const dynq_op_node *node, size_t attribute, const char *const *names, size_t count,
                          size_t *index) {
  const dynq_attribute *a = &node->attributes[attribute];
  *index = 0;
  while (a->present && *index < count && strcmp(a->string, names[*index]) != 0) {
    ++*index;
  }
  return *index < count ? DYNQ_OK
                        : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: '%.40s' is unknown; the first choice is '%s'",
                                    node->op->attributes[attribute].name, a->string, names[0]);
}

dynq_status dynq_op_scheme(const dynq_op_node *node, size_t attribute, dynq_scheme *scheme) {
  static const char *const names[] = {"asymmetric", "symmetric"};
  size_t index;
  DYNQ_TRY(choose(node, attribute, names, 2, &index));
  *scheme = index == 0 ? DYNQ_ASYMMETRIC : DYNQ_SYMMETRIC;
  return DYNQ_OK;
}

dynq_status dynq_op_granularity(const dynq_op_node *node, size_t attribute, dynq_granularity *granularity) {
  static const char *const names[] = {"row", "tensor"};
  size_t index;
  DYNQ_TRY(choose(node, attribute, names, 2, &index));
  *granularity = index == 0 ? DYNQ_PER_ROW : DYNQ_PER_TENSOR;
  return DYNQ_OK;
}

dynq_status dynq_op_activation(const dynq_op_node *node, size_t attribute, dynq_activation *activation) {
  static const char *const names[] = {"none", "relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"};
  size_t index;
  DYNQ_TRY(choose(node, attribute, names, sizeof names / sizeof names[0], &index));
  *activation = (dynq_activation)index;
  return DYNQ_OK;
}

dynq_status dynq_op_range(const dynq_op_node *node, size_t attribute, bool *fixed, float *lo, float *hi) {
  *fixed = node->attributes[attribute].present;
  *lo = dynq_op_float(node, attribute, 0.0f);
  *hi = dynq_op_float(node, attribute + 1, 0.0f);
  if (*fixed != node->attributes[attribute + 1].present || !(*lo <= 0.0f && *hi >= 0.0f) || isinf(*lo) || isinf(*hi)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "lo is %g and hi %g; expected both or neither, lo <= 0 <= hi",
                     (double)*lo, (double)*hi);
  }
  return DYNQ_OK;
}

dynq_status dynq_op_check_f32(const dynq_op_node *node, size_t i, const char *name, size_t least) {
  const dynq_op_tensor *t = node->inputs[i];
  if (t->dtype != DYNQ_FLOAT32 || t->rank < least) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is %s of %zu dimensions; expected float32 of at least %zu", name,
                     dynq_dtype_name(t->dtype), t->rank, least);
  }
  return DYNQ_OK;
}

dynq_status dynq_op_check_shape(const dynq_op_tensor *t, const char *name, size_t rank, const size_t *dims) {
  if (t->dtype != DYNQ_FLOAT32 || t->rank != rank || memcmp(t->dims, dims, rank * sizeof *dims) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: expected float32 of the shape that the output gives it", name);
  }
  return DYNQ_OK;
}

/* The last dimension of x is the weight's K; output 0 has N in its place. */
static dynq_status infer_product(dynq_op_node *node, dynq_dtype dtype) {
  const dynq_op_tensor *x = node->inputs[0];
  const dynq_weight_info *w = &node->inputs[1]->weight->info;
  size_t dims[DYNQ_MAX_RANK];
  if (x->rank == 0 || x->dims[x->rank - 1] != w->k) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "x has %zu columns; the weight takes %zu",
                     x->rank != 0 ? x->dims[x->rank - 1] : 0, w->k);
  }
  memcpy(dims, x->dims, sizeof dims);
  dims[x->rank - 1] = w->n;
  dynq_op_set_output(node, 0, dtype, x->rank, dims);
  return DYNQ_OK;
}

/* A multiply of all rows of x: what is known before the run. */
static dynq_gemm product(const dynq_op_node *node) {
  return (dynq_gemm){.in_model = true,
                     .kernels = node->kernels,
                     .weight = node->inputs[1]->weight,
                     .m = dynq_op_product(node->inputs[0], 0, node->inputs[0]->rank - 1)};
}

/* ---- dynq.Linear ---- */

enum {
  LINEAR_ACTIVATION,
  LINEAR_SCHEME,
  LINEAR_GRANULARITY,
  LINEAR_MIN,
  LINEAR_MAX,
  LINEAR_BITS,
  LINEAR_GROUP,
  LINEAR_LO,
  LINEAR_HI
};
enum { LINEAR_BIAS = 2, LINEAR_RESIDUAL = 3 };

static dynq_status linear_epilogue(const dynq_op_node *node, dynq_epilogue *e) {
  *e = (dynq_epilogue){0};
  DYNQ_TRY(dynq_op_activation(node, LINEAR_ACTIVATION, &e->activation));
  e->min = dynq_op_float(node, LINEAR_MIN, 0.0f);
  e->max = dynq_op_float(node, LINEAR_MAX, 0.0f);
  if (isnan(e->min) || isnan(e->max) || e->min > e->max) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "min is %g and max %g; expected min < max, or 0 and 0",
                     (double)e->min, (double)e->max);
  }
  return DYNQ_OK;
}

/* How x is quantized, but for its address; a group that holds all of a row is none. */
static dynq_status linear_source(const dynq_op_node *node, dynq_lhs_source *source) {
  const dynq_weight_info *w = &node->inputs[1]->weight->info;
  const int64_t bits = dynq_op_int(node, LINEAR_BITS, 8), group = dynq_op_int(node, LINEAR_GROUP, 0);
  dynq_granularity granularity;
  float lo, hi;
  *source = (dynq_lhs_source){.x_stride = w->k};
  DYNQ_TRY(dynq_op_range(node, LINEAR_LO, &source->fixed, &lo, &hi));
  DYNQ_TRY(dynq_op_scheme(node, LINEAR_SCHEME, &source->scheme));
  DYNQ_TRY(dynq_op_granularity(node, LINEAR_GRANULARITY, &granularity));
  source->per_row = granularity == DYNQ_PER_ROW && !source->fixed;
  if (bits != 8 && bits != 16) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "bits is %lld; expected 8 or 16", (long long)bits);
  }
  if (group < 0 || group > DYNQ_MAX_LHS_GROUP || group % 32 != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "group is %lld; expected a multiple of 32 up to %d, or 0 for none",
                     (long long)group, DYNQ_MAX_LHS_GROUP);
  }
  if (group != 0 && !source->per_row) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "group is %lld, with %s; scales of groups are for granularity row",
                     (long long)group, source->fixed ? "lo and hi" : "granularity tensor");
  }
  if ((bits != 8 || group != 0) && w->zero_point != NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "bits is %lld and group %lld; a weight with zero-points takes 8 and 0", (long long)bits,
                     (long long)group);
  }
  source->bits16 = bits == 16;
  source->group = (size_t)group < w->k ? (size_t)group : 0;
  return DYNQ_OK;
}

static dynq_status infer_linear(dynq_op_node *node) {
  const dynq_op_tensor *bias = dynq_op_input(node, LINEAR_BIAS), *residual = dynq_op_input(node, LINEAR_RESIDUAL);
  const dynq_op_tensor *y = node->outputs[0];
  dynq_epilogue epilogue;
  DYNQ_TRY(dynq_op_check_f32(node, 0, "x", 1));
  DYNQ_TRY(infer_product(node, DYNQ_FLOAT32));
  DYNQ_TRY(linear_epilogue(node, &epilogue));
  DYNQ_TRY(bias != NULL ? dynq_op_check_shape(bias, "bias", 1, &y->dims[y->rank - 1]) : DYNQ_OK);
  DYNQ_TRY(residual != NULL ? dynq_op_check_shape(residual, "residual", y->rank, y->dims) : DYNQ_OK);
  dynq_gemm gemm = product(node);
  DYNQ_TRY(linear_source(node, &gemm.source));
  node->scratch_bytes = dynq_gemm_memory_bytes(&gemm, node->thread_count);
  return DYNQ_OK;
}

static dynq_status run_linear(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *y = node->outputs[0];
  const dynq_op_tensor *bias = dynq_op_input(node, LINEAR_BIAS), *residual = dynq_op_input(node, LINEAR_RESIDUAL);
  dynq_gemm gemm = product(node);
  const size_t n = gemm.weight->info.n, k = gemm.weight->info.k;
  gemm.memory = node->scratch;
  gemm.y = y->data;
  gemm.y_stride = n;
  DYNQ_TRY(linear_epilogue(node, &gemm.epilogue));
  DYNQ_TRY(linear_source(node, &gemm.source));
  gemm.source.x = x->data;
  gemm.epilogue.bias = bias != NULL ? bias->data : NULL;
  gemm.epilogue.residual = residual != NULL ? residual->data : NULL;
  gemm.epilogue.residual_stride = n;
  if (gemm.source.fixed) {
    dynq_lhs_use_range(&gemm.source, node->kernels, dynq_op_float(node, LINEAR_LO, 0.0f),
                       dynq_op_float(node, LINEAR_HI, 0.0f));
  } else if (!gemm.source.per_row) {
    dynq_lhs_use_tensor_range(&gemm.source, node->kernels, node->threads, node->thread_count, gemm.m, k);
  }
  return dynq_gemm_run(&gemm, node->threads, node->thread_count);
}

const dynq_op dynq_op_Linear = {
    .name = "dynq.Linear",
    .min_inputs = 2,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .weight_inputs = 1 << 1,
    .in_place = 1 << LINEAR_RESIDUAL,
    .attributes = {[LINEAR_ACTIVATION] = {"activation", DYNQ_ATTRIBUTE_STRING},
                   [LINEAR_SCHEME] = {"scheme", DYNQ_ATTRIBUTE_STRING},
                   [LINEAR_GRANULARITY] = {"granularity", DYNQ_ATTRIBUTE_STRING},
                   [LINEAR_MIN] = {"min", DYNQ_ATTRIBUTE_FLOAT},
                   [LINEAR_MAX] = {"max", DYNQ_ATTRIBUTE_FLOAT},
                   [LINEAR_BITS] = {"bits", DYNQ_ATTRIBUTE_INT},
                   [LINEAR_GROUP] = {"group", DYNQ_ATTRIBUTE_INT},
                   [LINEAR_LO] = {"lo", DYNQ_ATTRIBUTE_FLOAT},
                   [LINEAR_HI] = {"hi", DYNQ_ATTRIBUTE_FLOAT}},
    .infer = infer_linear,
    .run = run_linear,
};

/* ---- dynq.MatMulIntegerPacked ---- */

enum { INTEGER_ZERO_POINT = 2 };

/* One zero-point for all rows, or one for each row of a matrix, as ONNX MatMulInteger has them. */
static dynq_status infer_integer(dynq_op_node *node) {
  const dynq_op_tensor *a = node->inputs[0], *zero_point = dynq_op_input(node, INTEGER_ZERO_POINT);
  if (a->dtype != DYNQ_UINT8 && a->dtype != DYNQ_INT8) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "a is %s; expected uint8 or int8", dynq_dtype_name(a->dtype));
  }
  DYNQ_TRY(infer_product(node, DYNQ_INT32));
  dynq_gemm gemm = product(node);
  if (zero_point != NULL &&
      (zero_point->dtype != a->dtype || (zero_point->count != 1 && zero_point->count != gemm.m))) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "a_zero_point: %zu of %s; expected 1 or one for each of %zu rows, %s",
                     zero_point->count, dynq_dtype_name(zero_point->dtype), gemm.m, dynq_dtype_name(a->dtype));
  }
  const size_t memory = dynq_gemm_memory_bytes(&gemm, node->thread_count);
  const size_t zero_points = zero_point != NULL ? dynq_size_mul(zero_point->count, sizeof(int32_t)) : 0;
  node->scratch_bytes = dynq_size_add(memory, zero_points);
  return DYNQ_OK;
}

static dynq_status run_integer(const dynq_op_node *node) {
  const dynq_op_tensor *a = node->inputs[0], *zero_point = dynq_op_input(node, INTEGER_ZERO_POINT);
  dynq_gemm gemm = product(node);
  const size_t memory = dynq_gemm_memory_bytes(&gemm, node->thread_count); /* a multiple of 64; then the zero-points */
  int32_t *wide = zero_point != NULL ? (int32_t *)(void *)((char *)node->scratch + memory) : NULL;
  for (size_t i = 0; zero_point != NULL && i < zero_point->count; i++) {
    wide[i] = a->dtype == DYNQ_UINT8 ? ((const uint8_t *)zero_point->data)[i] : ((const int8_t *)zero_point->data)[i];
  }
  gemm.memory = node->scratch;
  gemm.acc = node->outputs[0]->data;
  gemm.acc_stride = gemm.weight->info.n;
  gemm.source = (dynq_lhs_source){.q = a->data,
                                  .q_stride = gemm.weight->info.k,
                                  .type = a->dtype == DYNQ_UINT8 ? DYNQ_U8 : DYNQ_S8,
                                  .per_row = zero_point != NULL && zero_point->count != 1,
                                  .q_zero_point = wide};
  return dynq_gemm_run(&gemm, node->threads, node->thread_count);
}

const dynq_op dynq_op_MatMulIntegerPacked = {
    .name = "dynq.MatMulIntegerPacked",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .weight_inputs = 1 << 1,
    .infer = infer_integer,
    .run = run_integer,
};
