/*
 * DynamicQuantizeLinear, QuantizeLinear and DequantizeLinear.
 */
#include "../quant/qparams.h"
#include "../quant/range.h"
#include "pairs.h"

#include <string.h>

/* ---- DynamicQuantizeLinear: outputs y, y_scale, y_zero_point, each of which may be unread ---- */

static dynq_status infer_dynamic(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT));
  const dynq_op_tensor *x = node->inputs[0];
  dynq_op_set_output(node, 0, DYNQ_UINT8, x->rank, x->dims);
  dynq_op_set_output(node, 1, DYNQ_FLOAT32, 0, NULL);
  dynq_op_set_output(node, 2, DYNQ_UINT8, 0, NULL);
  return DYNQ_OK;
}

typedef struct dynamic_job {
  const dynq_op_node *node;
  float lo, hi, scale;
  int32_t zero_point;
} dynamic_job;

static void choose_parameters(const void *arg, size_t begin, size_t end) {
  dynamic_job *job = *(dynamic_job *const *)arg;
  (void)begin;
  (void)end;
  dynq_qparams(job->lo, job->hi, DYNQ_ASYMMETRIC, DYNQ_U8, &job->scale, &job->zero_point);
}

static void quantize_part(const void *arg, size_t begin, size_t end) {
  const dynamic_job *job = arg;
  job->node->kernels->vector.quantize(end - begin, (const float *)job->node->inputs[0]->data + begin, job->scale,
                                      job->zero_point, 0, 255, (uint8_t *)job->node->outputs[0]->data + begin);
}

static dynq_status run_dynamic(const dynq_op_node *node) {
  enum { CHUNK = 4096 };
  const dynq_op_tensor *x = node->inputs[0];
  dynamic_job job = {.node = node};
  dynamic_job *const pointer = &job;
  const size_t chunks = x->count / CHUNK, rest = x->count % CHUNK;
  const size_t workers = dynq_pass_workers(node->thread_count, chunks, x->count * sizeof(float));
  const float *values = x->data;
  float lo, hi;
  bool finite =
      dynq_tensor_range(node->kernels, node->threads, workers, chunks, CHUNK, values, CHUNK, &job.lo, &job.hi);
  finite &= dynq_tensor_range(node->kernels, NULL, 1, 1, rest, values + chunks * CHUNK, rest, &lo, &hi);
  job.lo = lo < job.lo ? lo : job.lo;
  job.hi = hi > job.hi ? hi : job.hi;
  if (finite) {
    dynq_op_parallel(node, 1, 0, choose_parameters, &pointer);
  } else {
    job.scale = NAN; /* what is computed from it is NaN */
  }
  if (dynq_op_output(node, 0) != NULL && finite) {
    dynq_op_parallel(node, x->count, x->count * sizeof(float), quantize_part, &job);
  } else if (dynq_op_output(node, 0) != NULL && x->count != 0) {
    memset(node->outputs[0]->data, 0, x->count);
  }
  if (dynq_op_output(node, 1) != NULL) {
    *(float *)node->outputs[1]->data = job.scale;
  }
  if (dynq_op_output(node, 2) != NULL) {
    *(uint8_t *)node->outputs[2]->data = (uint8_t)job.zero_point;
  }
  return finite ? DYNQ_OK : dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity");
}

const dynq_op dynq_op_DynamicQuantizeLinear = {.name = "DynamicQuantizeLinear",
                                               .min_inputs = 1,
                                               .max_inputs = 1,
                                               .min_outputs = 1,
                                               .max_outputs = 3,
                                               .infer = infer_dynamic,
                                               .run = run_dynamic};

/* ---- QuantizeLinear, DequantizeLinear: one scale and zero-point for all, or one for each place of an axis ---- */

enum { AXIS, BLOCK_SIZE, OUTPUT_DTYPE, /* of QuantizeLinear alone: */ SATURATE, PRECISION };

/* Where the scale of an element is: scale[i / inner % count]. */
typedef struct scale_axis {
  size_t count, inner;
} scale_axis;

static dynq_status find_axis(const dynq_op_node *node, scale_axis *at) {
  const dynq_op_tensor *x = node->inputs[0], *scale = node->inputs[1], *zero_point = dynq_op_input(node, 2);
  size_t axis;
  if (dynq_op_int(node, BLOCK_SIZE, 0) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "block_size is %lld; scales of blocks are not supported",
                     (long long)node->attributes[BLOCK_SIZE].i);
  }
  if (zero_point != NULL && zero_point->count != scale->count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the zero-point has %zu elements; expected %zu, as the scale",
                     zero_point->count, scale->count);
  }
  *at = (scale_axis){1, 1};
  if (scale->count == 1 && scale->rank <= 1) {
    return DYNQ_OK;
  }
  DYNQ_TRY(dynq_op_axis_attribute(node, AXIS, 1, x->rank, &axis));
  if (scale->rank != 1 || scale->count != x->dims[axis]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "the scale has rank %zu and %zu elements; expected 1 element, or %zu "
                     "for axis %zu",
                     scale->rank, scale->count, x->dims[axis], axis);
  }
  *at = (scale_axis){scale->count, dynq_op_product(x, axis + 1, x->rank)};
  return DYNQ_OK;
}

typedef struct linear_job {
  const dynq_op_node *node;
  scale_axis axis;
} linear_job;

static float zero_point_at(const dynq_op_tensor *t, size_t i) {
  return t != NULL ? (float)dynq_op_integer(t, i) : 0.0f;
}

/* Of the elements [i, end) how many have the scale of element i. */
static size_t run_of(const scale_axis *axis, size_t i, size_t end) {
  const size_t left = axis->count == 1 ? end - i : axis->inner - i % axis->inner;
  return left < end - i ? left : end - i;
}

/* rint(x / scale) + zero_point, clamped; ties to even. A NaN becomes the zero-point. */
static void quantize_any(size_t n, const float *x, float scale, float zero_point, float low, float high, uint8_t *q) {
  for (size_t i = 0; i < n; i++) {
    const float r = rintf(x[i] / scale) + zero_point;
    const float clamped = r != r ? zero_point : r < low ? low : r > high ? high : r;
    q[i] = (uint8_t)(int32_t)clamped;
  }
}

static void quantize_elements(const void *arg, size_t begin, size_t end) {
  const linear_job *job = arg;
  const dynq_op_tensor *x = job->node->inputs[0], *scales = job->node->inputs[1];
  const dynq_kernels *kernels = job->node->kernels;
  const bool is_signed = job->node->outputs[0]->dtype == DYNQ_INT8;
  const int32_t low = is_signed ? -128 : 0;
  size_t n;
  for (size_t i = begin; i < end; i += n) {
    const size_t at = i / job->axis.inner % job->axis.count;
    const float scale = ((const float *)scales->data)[at];
    const float zero_point = zero_point_at(dynq_op_input(job->node, 2), at);
    const float *values = (const float *)x->data + i;
    uint8_t *q = (uint8_t *)job->node->outputs[0]->data + i;
    float lo, hi;
    n = run_of(&job->axis, i, end);
    if (n >= 16 && scale > 0.0f && scale < INFINITY && dynq_row_range(kernels, n, values, &lo, &hi)) {
      kernels->vector.quantize(n, values, scale, (int32_t)zero_point, low, low + 255, q);
    } else {
      quantize_any(n, values, scale, zero_point, (float)low, (float)(low + 255), q);
    }
  }
}

static dynq_status infer_quantize(dynq_op_node *node) {
  scale_axis axis;
  dynq_dtype dtype = DYNQ_UINT8;
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT));
  DYNQ_TRY(dynq_op_expect(node, 1, DYNQ_SET_FLOAT));
  const int64_t asked = dynq_op_int(node, OUTPUT_DTYPE, 0), precision = dynq_op_int(node, PRECISION, 0);
  if (precision != 0 && precision != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "precision is %lld; expected 0 or 1 (float32)", (long long)precision);
  }
  if (asked != 0) {
    DYNQ_TRY(dynq_op_dtype_of_onnx(asked, &dtype));
  }
  if (dynq_op_input(node, 2) != NULL) {
    DYNQ_TRY(dynq_op_expect(node, 2, DYNQ_SET_BYTES));
    if (asked != 0 && dtype != node->inputs[2]->dtype) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output_dtype is %s and the zero-point %s; expected the same",
                       dynq_dtype_name(dtype), dynq_dtype_name(node->inputs[2]->dtype));
    }
    dtype = node->inputs[2]->dtype;
  }
  if (dtype != DYNQ_UINT8 && dtype != DYNQ_INT8) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output_dtype is %s; expected uint8 or int8", dynq_dtype_name(dtype));
  }
  DYNQ_TRY(find_axis(node, &axis));
  dynq_op_set_output(node, 0, dtype, node->inputs[0]->rank, node->inputs[0]->dims);
  return DYNQ_OK;
}

static dynq_status run_quantize(const dynq_op_node *node) {
  linear_job job = {.node = node};
  DYNQ_TRY(find_axis(node, &job.axis));
  dynq_op_parallel(node, node->outputs[0]->count, node->outputs[0]->count * sizeof(float), quantize_elements, &job);
  return DYNQ_OK;
}

/* `saturate` is about floats of 8 bits, which dynq does not have. */
const dynq_op dynq_op_QuantizeLinear = {.name = "QuantizeLinear",
                                        .min_inputs = 2,
                                        .max_inputs = 3,
                                        .min_outputs = 1,
                                        .max_outputs = 1,
                                        .attributes = {{"axis", DYNQ_ATTRIBUTE_INT},
                                                       {"block_size", DYNQ_ATTRIBUTE_INT},
                                                       {"output_dtype", DYNQ_ATTRIBUTE_INT},
                                                       {"saturate", DYNQ_ATTRIBUTE_INT},
                                                       {"precision", DYNQ_ATTRIBUTE_INT}},
                                        .infer = infer_quantize,
                                        .run = run_quantize};

static void dequantize_elements(const void *arg, size_t begin, size_t end) {
  const linear_job *job = arg;
  const dynq_op_tensor *x = job->node->inputs[0], *scales = job->node->inputs[1];
  size_t n;
  for (size_t i = begin; i < end; i += n) {
    const size_t at = i / job->axis.inner % job->axis.count;
    const float scale = ((const float *)scales->data)[at];
    const float zero_point = zero_point_at(dynq_op_input(job->node, 2), at);
    float *y = (float *)job->node->outputs[0]->data + i;
    n = run_of(&job->axis, i, end);
    if (n >= 16 && x->dtype != DYNQ_INT32 && isfinite(scale)) { /* the same bits: a byte less a byte is exact */
      job->node->kernels->vector.dequantize(n, (const uint8_t *)x->data + i, x->dtype == DYNQ_INT8, scale,
                                            (int32_t)zero_point, y);
      continue;
    }
    for (size_t j = 0; j < n; j++) {
      y[j] = dynq_one_nan(((float)dynq_op_integer(x, i + j) - zero_point) * scale);
    }
  }
}

static dynq_status infer_dequantize(dynq_op_node *node) {
  scale_axis axis;
  dynq_dtype dtype = DYNQ_FLOAT32;
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_BYTES | DYNQ_SET(DYNQ_INT32)));
  DYNQ_TRY(dynq_op_expect(node, 1, DYNQ_SET_FLOAT));
  if (dynq_op_input(node, 2) != NULL) {
    DYNQ_TRY(dynq_op_expect(node, 2, DYNQ_SET(node->inputs[0]->dtype)));
  }
  if (dynq_op_int(node, OUTPUT_DTYPE, 0) != 0) {
    DYNQ_TRY(dynq_op_dtype_of_onnx(node->attributes[OUTPUT_DTYPE].i, &dtype));
  }
  if (dtype != DYNQ_FLOAT32) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output_dtype is %s; expected float32", dynq_dtype_name(dtype));
  }
  DYNQ_TRY(find_axis(node, &axis));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, node->inputs[0]->rank, node->inputs[0]->dims);
  return DYNQ_OK;
}

static dynq_status run_dequantize(const dynq_op_node *node) {
  linear_job job = {.node = node};
  DYNQ_TRY(find_axis(node, &job.axis));
  dynq_op_parallel(node, node->outputs[0]->count, node->outputs[0]->count * sizeof(float), dequantize_elements, &job);
  return DYNQ_OK;
}

const dynq_op dynq_op_DequantizeLinear = {.name = "DequantizeLinear",
                                          .min_inputs = 2,
                                          .max_inputs = 3,
                                          .min_outputs = 1,
                                          .max_outputs = 1,
                                          .attributes = {{"axis", DYNQ_ATTRIBUTE_INT},
                                                         {"block_size", DYNQ_ATTRIBUTE_INT},
                                                         {"output_dtype", DYNQ_ATTRIBUTE_INT}},
                                          .infer = infer_dequantize,
                                          .run = run_dequantize};
