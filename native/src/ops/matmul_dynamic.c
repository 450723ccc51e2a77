/*
 * dynq.MatMulDynamic: a product of two activations, both quantized while the model runs.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "../gemm/gemm.h"
#include "../quant/pack.h"
#include "layer_attributes.h"
#include "matrices.h"

static dynq_status infer(dynq_op_node *node) {
  dynq_scheme scheme;
  dynq_granularity granularity;
  dynq_batch b;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(dynq_MatMulDynamic, a), "a", 2));
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(dynq_MatMulDynamic, b), "b", 2));
  DYNQ_TRY(dynq_op_scheme(node, DYNQ_ATTR(dynq_MatMulDynamic, scheme), &scheme));
  DYNQ_TRY(dynq_op_granularity(node, DYNQ_ATTR(dynq_MatMulDynamic, granularity), &granularity));
  DYNQ_TRY(dynq_batch_find(DYNQ_INPUT(node, dynq_MatMulDynamic, a), DYNQ_INPUT(node, dynq_MatMulDynamic, b), &b));
  const size_t weight_bytes = dynq_weight_bytes(b.n, b.k, false);
  if (b.k > DYNQ_MAX_K || weight_bytes > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "b: n %zu and k %zu are too large; k is at most %d", b.n, b.k,
                     DYNQ_MAX_K);
  }
  b.dims[b.rank] = b.m;
  b.dims[b.rank + 1] = b.n;
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, b.rank + 2, b.dims);
  if (b.count != 0 && b.m != 0 && b.n != 0) {
    /* A weight of that shape, without its arrays, tells what the multiply needs. */
    dynq_weight shape = {0};
    dynq_weight_set_shape(&shape, b.n, b.k);
    const dynq_gemm gemm = {.kernels = node->kernels, .weight = &shape, .m = b.m};
    const size_t weight = dynq_size_add(weight_bytes, 63) / 64 * 64;
    node->scratch_bytes = dynq_size_add(weight, dynq_gemm_memory_bytes(&gemm, node->thread_count));
  }
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *left = DYNQ_INPUT(node, dynq_MatMulDynamic, a),
                       *right = DYNQ_INPUT(node, dynq_MatMulDynamic, b), *y = node->outputs[0];
  dynq_scheme scheme;
  dynq_granularity granularity;
  dynq_batch b;
  DYNQ_TRY(dynq_op_scheme(node, DYNQ_ATTR(dynq_MatMulDynamic, scheme), &scheme));
  DYNQ_TRY(dynq_op_granularity(node, DYNQ_ATTR(dynq_MatMulDynamic, granularity), &granularity));
  DYNQ_TRY(dynq_batch_find(DYNQ_INPUT(node, dynq_MatMulDynamic, a), DYNQ_INPUT(node, dynq_MatMulDynamic, b), &b));
  if (y->count == 0) {
    return DYNQ_OK;
  }
  dynq_weight *weight = dynq_weight_place(node->scratch, b.n, b.k, false);
  dynq_gemm gemm = {.kernels = node->kernels, .weight = weight, .m = b.m, .y_stride = b.n};
  gemm.memory = (char *)node->scratch + (dynq_weight_bytes(b.n, b.k, false) + 63) / 64 * 64;
  size_t packed = SIZE_MAX; /* the matrix of b that the weight holds */
  dynq_status finite = DYNQ_OK;
  for (size_t i = 0; i < b.count; i++) {
    const size_t of_left = dynq_batch_matrix(&b, b.a_steps, i), of_right = dynq_batch_matrix(&b, b.b_steps, i);
    if (of_right != packed) {
      const float *w = b.k != 0 ? (const float *)right->data + of_right * b.k * b.n : NULL;
      const dynq_status status = dynq_pack_f32(weight, node->kernels, w, 1, b.n, node->threads, node->thread_count);
      finite = status != DYNQ_OK ? status : finite;
      packed = of_right;
    }
    gemm.source = (dynq_lhs_source){
        .x = (const float *)left->data + of_left * b.m * b.k, .x_stride = b.k, .scheme = scheme, .per_row = true};
    if (granularity == DYNQ_PER_TENSOR) {
      dynq_lhs_use_tensor_range(&gemm.source, node->kernels, node->threads, node->thread_count, b.m, b.k);
    }
    gemm.y = (float *)y->data + i * b.m * b.n;
    const dynq_status status = dynq_gemm_run(&gemm, node->threads, node->thread_count);
    if (status != DYNQ_OK && status != DYNQ_NONFINITE) {
      return status;
    }
    finite = status != DYNQ_OK ? status : finite;
  }
  return finite;
}

const dynq_op_code dynq_op_dynq_MatMulDynamic = {infer, run};
