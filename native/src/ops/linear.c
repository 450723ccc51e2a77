/*
 * Layers with packed weights: dynq.Linear and dynq.MatMulIntegerPacked.
 */
#include "checks.h"
#include "layer_attributes.h"

#include "../base/alloc.h"
#include "../base/status.h"
#include "../gemm/gemm.h"
#include "../gemm/lhs_fine.h"

#include <math.h>
#include <string.h>

/* ---- Attributes and inputs that others share ---- */

/* Finds the attribute, which has a default, among `names`. */
static dynq_status choose(const dynq_op_node *node, size_t attribute, const char *const *names, size_t count,
                          size_t *index) {
  *index = dynq_op_choice(node, attribute, count, names);
  return *index < count ? DYNQ_OK
                        : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: '%.40s' is unknown; the first choice is '%s'",
                                    node->op->attributes[attribute].name, dynq_op_string(node, attribute), names[0]);
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

dynq_status dynq_op_activation(const dynq_op_node *node, size_t attribute, dynq_activation *activation, float *alpha,
                               float *beta) {
  static const char *const names[] = {"none",      "relu",       "sigmoid", "tanh",         "silu",      "gelu",
                                      "gelu_tanh", "hard_swish", "mish",    "hard_sigmoid", "leaky_relu"};
  size_t index;
  DYNQ_TRY(choose(node, attribute, names, sizeof names / sizeof names[0], &index));
  *activation = (dynq_activation)index;
  *alpha = dynq_op_float(node, attribute + 1);
  *beta = dynq_op_float(node, attribute + 2);
  return DYNQ_OK;
}

dynq_status dynq_op_clamp(const dynq_op_node *node, size_t attribute, float *min, float *max) {
  *min = dynq_op_float(node, attribute);
  *max = dynq_op_float(node, attribute + 1);
  return isnan(*min) || isnan(*max) || *min > *max
             ? dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "min is %g and max %g; expected min < max, or 0 and 0",
                         (double)*min, (double)*max)
             : DYNQ_OK;
}

dynq_status dynq_op_range(const dynq_op_node *node, size_t attribute, bool *fixed, float *lo, float *hi) {
  *fixed = node->attributes[attribute].present;
  *lo = dynq_op_float(node, attribute);
  *hi = dynq_op_float(node, attribute + 1);
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

DYNQ_SAME_IN(dynq_Linear, x, dynq_MatMulIntegerPacked, a);
DYNQ_SAME_IN(dynq_Linear, weight, dynq_MatMulIntegerPacked, weight);

/* The last dimension of x is the weight's K; output 0 has N in its place. */
static dynq_status infer_product(dynq_op_node *node, dynq_dtype dtype) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_Linear, x);
  const dynq_weight_info *w = &DYNQ_INPUT(node, dynq_Linear, weight)->weight->info;
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
  return (dynq_gemm){
      .in_model = true,
      .kernels = node->kernels,
      .weight = DYNQ_INPUT(node, dynq_Linear, weight)->weight,
      .m = dynq_op_product(DYNQ_INPUT(node, dynq_Linear, x), 0, DYNQ_INPUT(node, dynq_Linear, x)->rank - 1)};
}

/* ---- dynq.Linear ---- */

DYNQ_PARAMETERS_FOLLOW(dynq_Linear);
_Static_assert(DYNQ_ATTR(dynq_Linear, hi) == DYNQ_ATTR(dynq_Linear, lo) + 1, "as dynq_op_range has them");

static dynq_status linear_epilogue(const dynq_op_node *node, dynq_epilogue *e) {
  *e = (dynq_epilogue){0};
  DYNQ_TRY(dynq_op_activation(node, DYNQ_ATTR(dynq_Linear, activation), &e->activation, &e->alpha, &e->beta));
  return dynq_op_clamp(node, DYNQ_ATTR(dynq_Linear, min), &e->min, &e->max);
}

/* Tells how x is quantized, all but its address. A group that holds all of a row is none. */
static dynq_status linear_source(const dynq_op_node *node, dynq_lhs_source *source) {
  const dynq_weight_info *w = &DYNQ_INPUT(node, dynq_Linear, weight)->weight->info;
  const int64_t bits = dynq_op_int(node, DYNQ_ATTR(dynq_Linear, bits)),
                group = dynq_op_int(node, DYNQ_ATTR(dynq_Linear, group));
  dynq_granularity granularity;
  float lo, hi;
  *source = (dynq_lhs_source){.x_stride = w->k};
  DYNQ_TRY(dynq_op_range(node, DYNQ_ATTR(dynq_Linear, lo), &source->fixed, &lo, &hi));
  DYNQ_TRY(dynq_op_scheme(node, DYNQ_ATTR(dynq_Linear, scheme), &source->scheme));
  DYNQ_TRY(dynq_op_granularity(node, DYNQ_ATTR(dynq_Linear, granularity), &granularity));
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
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, dynq_Linear, bias), *residual = DYNQ_GIVEN(node, dynq_Linear, residual);
  const dynq_op_tensor *y = node->outputs[0];
  dynq_epilogue epilogue;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(dynq_Linear, x), "x", 1));
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
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_Linear, x), *y = node->outputs[0];
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, dynq_Linear, bias), *residual = DYNQ_GIVEN(node, dynq_Linear, residual);
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
    dynq_lhs_use_range(&gemm.source, node->kernels, dynq_op_float(node, DYNQ_ATTR(dynq_Linear, lo)),
                       dynq_op_float(node, DYNQ_ATTR(dynq_Linear, hi)));
  } else if (!gemm.source.per_row) {
    dynq_lhs_use_tensor_range(&gemm.source, node->kernels, node->threads, node->thread_count, gemm.m, k);
  }
  return dynq_gemm_run(&gemm, node->threads, node->thread_count);
}

const dynq_op_code dynq_op_dynq_Linear = {infer_linear, run_linear};

/* ---- dynq.MatMulIntegerPacked ---- */

/* One zero-point for all rows, or one for each row of a matrix, as ONNX MatMulInteger has them. */
static dynq_status infer_integer(dynq_op_node *node) {
  const dynq_op_tensor *a = DYNQ_INPUT(node, dynq_MatMulIntegerPacked, a),
                       *zero_point = DYNQ_GIVEN(node, dynq_MatMulIntegerPacked, a_zero_point);
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
  const dynq_op_tensor *a = DYNQ_INPUT(node, dynq_MatMulIntegerPacked, a),
                       *zero_point = DYNQ_GIVEN(node, dynq_MatMulIntegerPacked, a_zero_point);
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

const dynq_op_code dynq_op_dynq_MatMulIntegerPacked = {infer_integer, run_integer};
