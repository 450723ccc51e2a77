/*
 * Failing allocations: for each function that allocates, the first allocation fails, then the second, and so on until
 * the call succeeds. Each failure is a status, leaks nothing and leaves the results as they were.
 */
#include "check_api.h"

#include "base/alloc.h"
#include "blocks.h"

#include <stdatomic.h>
#include <string.h>

enum { M = 40, N = 320, K = 700 }; /* too large for the stack, and enough for several threads */

static float x[M * K], w[N * K], y[M * N], y_before[M * N], scale[M];
static int8_t w8[N * K];
static float w_scale[N];
static uint8_t q[M * K];
static int32_t acc[M * N], zero_point[M];
static dynq_weight *ready, *made;

/* ---- Allocation number `refused` fails ---- */

static _Atomic size_t seen;
static size_t refused;

static bool refuse(size_t bytes) {
  (void)bytes;
  return atomic_fetch_add(&seen, 1) == refused;
}

/* ---- The functions ---- */

static dynq_status call_pack_f32(void) { return dynq_weight_pack_f32(N, K, w, K, 1, NULL, &made); }
static dynq_status call_pack_f32_transposed(void) { return dynq_weight_pack_f32(N, K, w, 1, N, NULL, &made); }
static dynq_status call_pack_s8(void) {
  return dynq_weight_pack_s8(N, K, w8, DYNQ_S8, K, 1, w_scale, NULL, NULL, &made);
}
static dynq_status call_view(void) {
  dynq_weight_info info;
  dynq_weight_describe(ready, &info);
  return dynq_weight_view(&info, &made);
}
static dynq_status call_linear_rows(void) {
  return dynq_linear_f32(ready, M, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, y, N);
}
static dynq_status call_linear_tensor(void) {
  return dynq_linear_f32(ready, M, x, K, DYNQ_SYMMETRIC, DYNQ_PER_TENSOR, NULL, NULL, y, N);
}
static dynq_status call_linear_few(void) { /* by panels, where there are threads */
  return dynq_linear_f32(ready, 20, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, y, N);
}
static dynq_status call_gemm(void) {
  return dynq_gemm_s32(ready, M, q, K, DYNQ_U8, DYNQ_PER_ROW, zero_point, NULL, acc, N);
}
static dynq_status call_matmul(void) {
  return dynq_matmul_f32(1, M, N, K, x, 0, K, w, 0, N, 1, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N);
}
static dynq_status call_matmul_batch(void) {
  return dynq_matmul_f32(2, M / 2, N, K, x, (size_t)M / 2 * K, K, w, 0, N, 1, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y,
                         (size_t)M / 2 * N, N);
}
static dynq_status call_quantize(void) {
  return dynq_quantize_dynamic_f32(M, K, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, NULL, q, K, scale, zero_point);
}
static dynq_status call_minmax(void) {
  float lo, hi;
  return dynq_minmax_f32(M, K, x, K, DYNQ_PER_TENSOR, NULL, &lo, &hi);
}
static dynq_status call_dequantize(void) {
  return dynq_dequantize_f32(M, K, q, K, DYNQ_PER_ROW, DYNQ_U8, scale, zero_point, NULL, x, K);
}
static dynq_status call_weight_dequantize(void) { return dynq_weight_dequantize_f32(ready, NULL, w, K); }
static dynq_status call_unpack(void) { return dynq_weight_unpack_s8(ready, NULL, w8, K); }

static const struct function {
  const char *name;
  dynq_status (*call)(void);
  size_t at_least; /* allocations that it is known to make */
  bool untouched;  /* y and acc keep their values when it fails */
} functions[] = {
    {"dynq_weight_pack_f32", call_pack_f32, 1, true},
    {"dynq_weight_pack_f32 (K, N)", call_pack_f32_transposed, 1, true},
    {"dynq_weight_pack_s8", call_pack_s8, 1, true},
    {"dynq_weight_view", call_view, 1, true},
    {"dynq_linear_f32", call_linear_rows, 1, true},
    {"dynq_linear_f32 per tensor", call_linear_tensor, 1, true},
    {"dynq_linear_f32 few rows", call_linear_few, 1, true},
    {"dynq_gemm_s32", call_gemm, 1, true},
    {"dynq_matmul_f32", call_matmul, 2, true},
    {"dynq_matmul_f32 batch", call_matmul_batch, 2, false},
    {"dynq_quantize_dynamic_f32", call_quantize, 0, true},
    {"dynq_minmax_f32", call_minmax, 0, true},
    {"dynq_dequantize_f32", call_dequantize, 0, true},
    {"dynq_weight_dequantize_f32", call_weight_dequantize, 0, true},
    {"dynq_weight_unpack_s8", call_unpack, 0, true},
};

/* ---- Every block is given back ---- */

static void check_function(const struct function *f) {
  for (refused = 0;; refused++) {
    check_case("%s, allocation %zu fails", f->name, refused);
    made = NULL;
    memcpy(y, y_before, sizeof y);
    memset(acc, 0x5a, sizeof acc);
    atomic_store(&seen, 0);
    const size_t before = blocks_in_use();
    dynq_alloc_refuse = refuse;
    const dynq_status status = f->call();
    dynq_alloc_refuse = NULL;
    if (atomic_load(&seen) <= refused) { /* all of them were granted */
      CHECK(status == DYNQ_OK);
      dynq_weight_free(made);
      made = NULL;
      CHECK(blocks_in_use() == before);
      CHECK(refused >= f->at_least);
      return;
    }
    CHECK(status == DYNQ_ERROR_OUT_OF_MEMORY);
    CHECK(strstr(dynq_last_error(), "bytes") != NULL);
    CHECK(made == NULL);
    CHECK(blocks_in_use() == before);
    if (f->untouched) {
      check_same("y", CHECK_F32, y_before, y, (size_t)M * N);
      CHECK(acc[0] == 0x5a5a5a5a && acc[M * N - 1] == 0x5a5a5a5a);
    }
    if (refused > 100) {
      check_fail("the call still allocates after 100 failures");
      return;
    }
  }
}

void check_faults(void) {
  check_begin("", "failing allocations");
  fill_f32(FILL_UNIT, x, M * K);
  fill_f32(FILL_UNIT, w, N * K);
  fill_f32(FILL_UNIT, y_before, M * N);
  fill_bytes(BYTES_RANDOM, w8, N * K);
  fill_bytes(BYTES_RANDOM, q, M * K);
  for (size_t i = 0; i < N; i++) {
    w_scale[i] = 0.01f;
  }
  CHECK_STATUS(DYNQ_OK, call_pack_f32());
  ready = made;
  for (size_t threads = 1; threads <= 4 && ready != NULL; threads += 3) {
    CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(threads));
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
      check_function(&functions[i]);
    }
  }
  dynq_weight_free(ready);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  check_end();
}
