/*
 * DynamicQuantizeLinear, QuantizeLinear and DequantizeLinear.
 */
#include "../quant/qparams.h"
#include "../quant/range.h"
#include "pairs.h"

#include <string.h>

/* ---- DynamicQuantizeLinear: outputs y, y_scale, y_zero_point, each of which may be unread ---- */

static dynq_status infer_dynamic(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(DynamicQuantizeLinear, x), DYNQ_SET_FLOAT));
  const dynq_op_tensor *x = DYNQ_INPUT(node, DynamicQuantizeLinear, x);
  dynq_op_set_output(node, DYNQ_OUT(DynamicQuantizeLinear, y), DYNQ_UINT8, x->rank, x->dims);
  dynq_op_set_output(node, DYNQ_OUT(DynamicQuantizeLinear, y_scale), DYNQ_FLOAT32, 0, NULL);
  dynq_op_set_output(node, DYNQ_OUT(DynamicQuantizeLinear, y_zero_point), DYNQ_UINT8, 0, NULL);
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
  const float *x = DYNQ_INPUT(job->node, DynamicQuantizeLinear, x)->data;
  job->node->kernels->vector.quantize(end - begin, x + begin, job->scale, job->zero_point, 0, 255,
                                      (uint8_t *)job->node->outputs[0]->data + begin);
}

static dynq_status run_dynamic(const dynq_op_node *node) {
  enum { CHUNK = 4096 };
  const dynq_op_tensor *x = DYNQ_INPUT(node, DynamicQuantizeLinear, x);
  const dynq_op_tensor *y = DYNQ_OUTPUT(node, DynamicQuantizeLinear, y);
  const dynq_op_tensor *scale = DYNQ_OUTPUT(node, DynamicQuantizeLinear, y_scale);
  const dynq_op_tensor *zero_point = DYNQ_OUTPUT(node, DynamicQuantizeLinear, y_zero_point);
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
  if (y != NULL && finite) {
    dynq_op_parallel(node, x->count, x->count * sizeof(float), quantize_part, &job);
  } else if (y != NULL && x->count != 0) {
    memset(y->data, 0, x->count);
  }
  if (scale != NULL) {
    *(float *)scale->data = job.scale;
  }
  if (zero_point != NULL) {
    *(uint8_t *)zero_point->data = (uint8_t)job.zero_point;
  }
  return finite ? DYNQ_OK : dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity");
}

const dynq_op_code dynq_op_DynamicQuantizeLinear = {infer_dynamic, run_dynamic};

/* ---- QuantizeLinear, DequantizeLinear: one scale and zero-point for all, or one for each place of an axis ---- */

DYNQ_SAME_IN(QuantizeLinear, x, DequantizeLinear, x);
DYNQ_SAME_IN(QuantizeLinear, y_scale, DequantizeLinear, x_scale);
DYNQ_SAME_IN(QuantizeLinear, y_zero_point, DequantizeLinear, x_zero_point);
DYNQ_SAME_ATTR(QuantizeLinear, DequantizeLinear, axis);
DYNQ_SAME_ATTR(QuantizeLinear, DequantizeLinear, block_size);

/* The place of an element's scale: scale[i / inner % count]. */
typedef struct scale_axis {
  size_t count, inner;
} scale_axis;

static dynq_status find_axis(const dynq_op_node *node, scale_axis *at) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, QuantizeLinear, x), *scale = DYNQ_INPUT(node, QuantizeLinear, y_scale),
                       *zero_point = DYNQ_GIVEN(node, QuantizeLinear, y_zero_point);
  size_t axis;
  if (dynq_op_int(node, DYNQ_ATTR(QuantizeLinear, block_size)) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "block_size is %lld; scales of blocks are not supported",
                     (long long)node->attributes[DYNQ_ATTR(QuantizeLinear, block_size)].i);
  }
  if (zero_point != NULL && zero_point->count != scale->count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the zero-point has %zu elements; expected %zu, as the scale",
                     zero_point->count, scale->count);
  }
  *at = (scale_axis){1, 1};
  if (scale->count == 1 && scale->rank <= 1) {
    return DYNQ_OK;
  }
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(QuantizeLinear, axis), x->rank, &axis));
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

/* Finds the scale and the zero-point of element i, and returns how many of the elements [i, end) have the same. */
static size_t find_scale(const linear_job *job, size_t i, size_t end, float *scale, float *zero_point) {
  const scale_axis *axis = &job->axis;
  const dynq_op_tensor *zero_points = DYNQ_GIVEN(job->node, QuantizeLinear, y_zero_point);
  const size_t at = i / axis->inner % axis->count;
  const size_t left = axis->count == 1 ? end - i : axis->inner - i % axis->inner;
  *scale = ((const float *)DYNQ_INPUT(job->node, QuantizeLinear, y_scale)->data)[at];
  *zero_point = zero_points != NULL ? (float)dynq_op_integer(zero_points, at) : 0.0f;
  return left < end - i ? left : end - i;
}

/* Runs `body` over all elements. */
static dynq_status run_linear(const dynq_op_node *node, dynq_op_body *body) {
  const size_t count = node->outputs[0]->count;
  linear_job job = {.node = node};
  DYNQ_TRY(find_axis(node, &job.axis));
  dynq_op_parallel(node, count, count * sizeof(float), body, &job);
  return DYNQ_OK;
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
  const dynq_op_tensor *x = DYNQ_INPUT(job->node, QuantizeLinear, x);
  const dynq_kernels *kernels = job->node->kernels;
  const bool is_signed = job->node->outputs[0]->dtype == DYNQ_INT8;
  const int32_t low = is_signed ? -128 : 0;
  size_t n;
  for (size_t i = begin; i < end; i += n) {
    float lo, hi, scale, zero_point;
    n = find_scale(job, i, end, &scale, &zero_point);
    const float *values = (const float *)x->data + i;
    uint8_t *q = (uint8_t *)job->node->outputs[0]->data + i;
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
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(QuantizeLinear, x), DYNQ_SET_FLOAT));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(QuantizeLinear, y_scale), DYNQ_SET_FLOAT));
  const int64_t asked = dynq_op_int(node, DYNQ_ATTR(QuantizeLinear, output_dtype));
  const int64_t precision = dynq_op_int(node, DYNQ_ATTR(QuantizeLinear, precision));
  if (precision != 0 && precision != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "precision is %lld; expected 0 or 1 (float32)", (long long)precision);
  }
  if (asked != 0) {
    DYNQ_TRY(dynq_op_dtype_of_onnx(asked, &dtype));
  }
  const dynq_op_tensor *x = DYNQ_INPUT(node, QuantizeLinear, x);
  const dynq_op_tensor *zero_point = DYNQ_GIVEN(node, QuantizeLinear, y_zero_point);
  if (zero_point != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(QuantizeLinear, y_zero_point), DYNQ_SET_BYTES));
    if (asked != 0 && dtype != zero_point->dtype) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output_dtype is %s and the zero-point %s; expected the same",
                       dynq_dtype_name(dtype), dynq_dtype_name(zero_point->dtype));
    }
    dtype = zero_point->dtype;
  }
  if (dtype != DYNQ_UINT8 && dtype != DYNQ_INT8) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output_dtype is %s; expected uint8 or int8", dynq_dtype_name(dtype));
  }
  DYNQ_TRY(find_axis(node, &axis));
  dynq_op_set_output(node, 0, dtype, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_quantize(const dynq_op_node *node) { return run_linear(node, quantize_elements); }

/* `saturate` is about floats of 8 bits, which dynq does not have. */
const dynq_op_code dynq_op_QuantizeLinear = {infer_quantize, run_quantize};

static void dequantize_elements(const void *arg, size_t begin, size_t end) {
  const linear_job *job = arg;
  const dynq_op_tensor *x = DYNQ_INPUT(job->node, DequantizeLinear, x);
  size_t n;
  for (size_t i = begin; i < end; i += n) {
    float scale, zero_point;
    n = find_scale(job, i, end, &scale, &zero_point);
    float *y = (float *)job->node->outputs[0]->data + i;
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
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(DequantizeLinear, x), DYNQ_SET_BYTES | DYNQ_SET(DYNQ_INT32)));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(DequantizeLinear, x_scale), DYNQ_SET_FLOAT));
  if (DYNQ_GIVEN(node, DequantizeLinear, x_zero_point) != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(DequantizeLinear, x_zero_point),
                            DYNQ_SET(DYNQ_INPUT(node, DequantizeLinear, x)->dtype)));
  }
  if (dynq_op_int(node, DYNQ_ATTR(DequantizeLinear, output_dtype)) != 0) {
    DYNQ_TRY(dynq_op_dtype_of_onnx(node->attributes[DYNQ_ATTR(DequantizeLinear, output_dtype)].i, &dtype));
  }
  if (dtype != DYNQ_FLOAT32) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "output_dtype is %s; expected float32", dynq_dtype_name(dtype));
  }
  DYNQ_TRY(find_axis(node, &axis));
  const dynq_op_tensor *x = DYNQ_INPUT(node, DequantizeLinear, x);
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_dequantize(const dynq_op_node *node) { return run_linear(node, dequantize_elements); }

const dynq_op_code dynq_op_DequantizeLinear = {infer_dequantize, run_dequantize};
