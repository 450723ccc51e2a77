/*
 * check_api: what the public functions promise about arguments, sizes of zero, failing allocations, threads, forks
 * and the caller's floating-point environment.
 *
 *   check_api [--seed N]
 */
#include "check_api.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- Arguments: each test spoils one of a call that is fine otherwise ---- */

enum { M = 2, N = 17, K = 5 };
#define HUGE_SIZE (SIZE_MAX / 2)
#define BAD_ENUM(type) ((type)77)

static _Alignas(64) float x[64], y[64], scale[64], lo[64], hi[64];
static _Alignas(64) int32_t zp[64], acc[64];
static _Alignas(64) uint8_t q[512];
static float misaligned_memory[65];
#define MISALIGNED ((float *)(void *)((char *)misaligned_memory + 1))
#define MISALIGNED_S32 ((int32_t *)(void *)((char *)misaligned_memory + 1))

static void no_run(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) {
    task(arg, i);
  }
}
static const dynq_threads no_function = {2, NULL, NULL}, no_threads = {0, no_run, NULL};

static void reset(void) {
  for (size_t i = 0; i < 64; i++) {
    x[i] = y[i] = (float)i;
    scale[i] = 0.5f;
    lo[i] = -1.0f;
    hi[i] = 1.0f;
    zp[i] = 3;
    acc[i] = 7;
  }
  memset(q, 9, sizeof q);
}

static dynq_weight *small_weight(size_t n, size_t k) {
  dynq_weight *weight = NULL;
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_s8(n, k, q, DYNQ_S8, k != 0 ? k : 1, 1, scale, NULL, NULL, &weight));
  return weight;
}

static void refuse_minmax(void) {
  check_case("dynq_minmax_f32");
#define CALL(m, k, x, stride, granularity, threads, lo, hi)                                                            \
  dynq_minmax_f32(m, k, x, stride, granularity, threads, lo, hi)
  CHECK_STATUS(DYNQ_OK, CALL(M, K, x, K, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK_REFUSED("x", CALL(M, K, NULL, K, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK_REFUSED("x", CALL(M, K, MISALIGNED, K, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK_REFUSED("x", CALL(M, K, x, K - 1, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK_REFUSED("x", CALL(M, HUGE_SIZE, x, HUGE_SIZE, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK_REFUSED("x", CALL(HUGE_SIZE, K, x, K, DYNQ_PER_TENSOR, NULL, lo, hi));
  CHECK_REFUSED("x", CALL(M, K, x, SIZE_MAX, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK_REFUSED("granularity", CALL(M, K, x, K, BAD_ENUM(dynq_granularity), NULL, lo, hi));
  CHECK_REFUSED("threads", CALL(M, K, x, K, DYNQ_PER_ROW, &no_function, lo, hi));
  CHECK_REFUSED("threads", CALL(M, K, x, K, DYNQ_PER_ROW, &no_threads, lo, hi));
  CHECK_REFUSED("lo", CALL(M, K, x, K, DYNQ_PER_ROW, NULL, NULL, hi));
  CHECK_REFUSED("hi", CALL(M, K, x, K, DYNQ_PER_TENSOR, NULL, lo, NULL));
#undef CALL
}

static void refuse_qparams(void) {
  check_case("dynq_choose_qparams");
  CHECK_STATUS(DYNQ_OK, dynq_choose_qparams(M, lo, hi, DYNQ_ASYMMETRIC, DYNQ_U8, scale, zp));
  CHECK_REFUSED("lo", dynq_choose_qparams(M, NULL, hi, DYNQ_ASYMMETRIC, DYNQ_U8, scale, zp));
  CHECK_REFUSED("hi", dynq_choose_qparams(M, lo, NULL, DYNQ_ASYMMETRIC, DYNQ_U8, scale, zp));
  CHECK_REFUSED("scale", dynq_choose_qparams(M, lo, hi, DYNQ_ASYMMETRIC, DYNQ_U8, NULL, zp));
  CHECK_REFUSED("zero_point", dynq_choose_qparams(M, lo, hi, DYNQ_ASYMMETRIC, DYNQ_U8, scale, NULL));
  CHECK_REFUSED("scheme", dynq_choose_qparams(M, lo, hi, BAD_ENUM(dynq_scheme), DYNQ_U8, scale, zp));
  CHECK_REFUSED("type", dynq_choose_qparams(M, lo, hi, DYNQ_SYMMETRIC, BAD_ENUM(dynq_type), scale, zp));
  CHECK_REFUSED("lo", dynq_choose_qparams(HUGE_SIZE, lo, hi, DYNQ_SYMMETRIC, DYNQ_U8, scale, zp));
  const float above = 0.5f, below = -0.5f, infinite = INFINITY, nan = NAN;
  CHECK_REFUSED("lo", dynq_choose_qparams(1, &above, hi, DYNQ_SYMMETRIC, DYNQ_U8, scale, zp));
  CHECK_REFUSED("hi", dynq_choose_qparams(1, lo, &below, DYNQ_ASYMMETRIC, DYNQ_U8, scale, zp));
  CHECK_STATUS(DYNQ_NONFINITE, dynq_choose_qparams(1, lo, &infinite, DYNQ_ASYMMETRIC, DYNQ_U8, scale, zp));
  CHECK_STATUS(DYNQ_NONFINITE, dynq_choose_qparams(1, &nan, hi, DYNQ_SYMMETRIC, DYNQ_S8, scale, zp));
}

/* Scales and zero-points that no function takes. */
#define REFUSE_SCALES(CALL)                                                                                            \
  for (size_t i = 0; i < 5; i++) {                                                                                     \
    const float bad[5] = {0.0f, -1.0f, NAN, INFINITY, -0.0f};                                                          \
    scale[1] = bad[i];                                                                                                 \
    CHECK_REFUSED("scale[1]", CALL);                                                                                   \
    reset();                                                                                                           \
  }                                                                                                                    \
  scale[1] = FLT_TRUE_MIN;                                                                                             \
  CHECK_STATUS(DYNQ_OK, CALL);                                                                                         \
  reset()
#define REFUSE_ZERO_POINT(value, CALL)                                                                                 \
  zp[1] = (value);                                                                                                     \
  CHECK_REFUSED("zero_point[1]", CALL);                                                                                \
  reset()

static void refuse_quantize(void) {
#define CALL(x, x_stride, scheme, granularity, type, scale, zp, threads, q, q_stride)                                  \
  dynq_quantize_f32(M, K, x, x_stride, scheme, granularity, type, scale, zp, threads, q, q_stride)
#define FINE(type) CALL(x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, type, scale, zp, NULL, q, K)
  check_case("dynq_quantize_f32");
  CHECK_STATUS(DYNQ_OK, FINE(DYNQ_U8));
  CHECK_REFUSED("x", CALL(NULL, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, q, K));
  CHECK_REFUSED("x", CALL(x, K - 1, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, q, K));
  CHECK_REFUSED("scheme", CALL(x, K, BAD_ENUM(dynq_scheme), DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, q, K));
  CHECK_REFUSED("granularity", CALL(x, K, DYNQ_SYMMETRIC, BAD_ENUM(dynq_granularity), DYNQ_U8, scale, zp, NULL, q, K));
  CHECK_REFUSED("type", CALL(x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, BAD_ENUM(dynq_type), scale, zp, NULL, q, K));
  CHECK_REFUSED("scale", CALL(x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, NULL, zp, NULL, q, K));
  CHECK_REFUSED("zero_point", CALL(x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, NULL, NULL, q, K));
  CHECK_REFUSED("threads", CALL(x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, zp, &no_function, q, K));
  CHECK_REFUSED("q", CALL(x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, NULL, K));
  CHECK_REFUSED("q", CALL(x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, q, K - 1));
  REFUSE_SCALES(FINE(DYNQ_U8));
  REFUSE_ZERO_POINT(-1, FINE(DYNQ_U8));
  REFUSE_ZERO_POINT(256, FINE(DYNQ_U8));
  REFUSE_ZERO_POINT(-129, FINE(DYNQ_S8));
  REFUSE_ZERO_POINT(128, FINE(DYNQ_S8));
  x[K + 1] = NAN;
  CHECK_STATUS(DYNQ_NONFINITE, FINE(DYNQ_U8));
  CHECK_STATUS(DYNQ_NONFINITE,
               dynq_quantize_dynamic_f32(M, K, x, K, DYNQ_SYMMETRIC, DYNQ_PER_TENSOR, DYNQ_S8, NULL, q, K, scale, zp));
  CHECK_STATUS(DYNQ_NONFINITE,
               dynq_quantize_dynamic_f32(M, K, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_S8, NULL, q, K, scale, zp));
  reset();
#undef FINE
#undef CALL
#define CALL(x, type, q, q_stride, scale, zp)                                                                          \
  dynq_quantize_dynamic_f32(M, K, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, type, NULL, q, q_stride, scale, zp)
  check_case("dynq_quantize_dynamic_f32");
  CHECK_STATUS(DYNQ_OK, CALL(x, DYNQ_U8, q, K, scale, zp));
  CHECK_REFUSED("x", CALL(NULL, DYNQ_U8, q, K, scale, zp));
  CHECK_REFUSED("type", CALL(x, BAD_ENUM(dynq_type), q, K, scale, zp));
  CHECK_REFUSED("q", CALL(x, DYNQ_U8, NULL, K, scale, zp));
  CHECK_REFUSED("q", CALL(x, DYNQ_U8, q, K - 1, scale, zp));
  CHECK_REFUSED("scale", CALL(x, DYNQ_U8, q, K, NULL, zp));
  CHECK_REFUSED("zero_point", CALL(x, DYNQ_U8, q, K, scale, NULL));
  CHECK_REFUSED("zero_point", CALL(x, DYNQ_U8, q, K, scale, MISALIGNED_S32));
#undef CALL
#define CALL(q, q_stride, granularity, type, scale, zp, threads, x, x_stride)                                          \
  dynq_dequantize_f32(M, K, q, q_stride, granularity, type, scale, zp, threads, x, x_stride)
#define FINE(type) CALL(q, K, DYNQ_PER_ROW, type, scale, zp, NULL, x, K)
  check_case("dynq_dequantize_f32");
  reset();
  CHECK_STATUS(DYNQ_OK, FINE(DYNQ_S8));
  CHECK_REFUSED("q", CALL(NULL, K, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, x, K));
  CHECK_REFUSED("q", CALL(q, K - 1, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, x, K));
  CHECK_REFUSED("granularity", CALL(q, K, BAD_ENUM(dynq_granularity), DYNQ_U8, scale, zp, NULL, x, K));
  CHECK_REFUSED("type", CALL(q, K, DYNQ_PER_ROW, BAD_ENUM(dynq_type), scale, zp, NULL, x, K));
  CHECK_REFUSED("scale", CALL(q, K, DYNQ_PER_ROW, DYNQ_U8, NULL, zp, NULL, x, K));
  CHECK_REFUSED("zero_point", CALL(q, K, DYNQ_PER_ROW, DYNQ_U8, scale, NULL, NULL, x, K));
  CHECK_REFUSED("threads", CALL(q, K, DYNQ_PER_ROW, DYNQ_U8, scale, zp, &no_threads, x, K));
  CHECK_REFUSED("x", CALL(q, K, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, NULL, K));
  CHECK_REFUSED("x", CALL(q, K, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, x, K - 1));
  REFUSE_SCALES(FINE(DYNQ_U8));
  REFUSE_ZERO_POINT(256, FINE(DYNQ_U8));
  REFUSE_ZERO_POINT(-129, FINE(DYNQ_S8));
#undef FINE
#undef CALL
}

static void refuse_packing(void) {
  dynq_weight *const untouched = (dynq_weight *)(void *)x, *weight = untouched;
  check_case("dynq_weight_pack_f32");
  CHECK_REFUSED("w", dynq_weight_pack_f32(N, K, NULL, K, 1, NULL, &weight));
  CHECK_REFUSED("w", dynq_weight_pack_f32(3, K, MISALIGNED, K, 1, NULL, &weight));
  CHECK_REFUSED("weight", dynq_weight_pack_f32(3, K, x, K, 1, NULL, NULL));
  CHECK_REFUSED("column_stride", dynq_weight_pack_f32(3, K, x, K, 0, NULL, &weight));
  CHECK_REFUSED("row_stride", dynq_weight_pack_f32(3, K, x, 0, 1, NULL, &weight));
  CHECK_REFUSED("k", dynq_weight_pack_f32(1, 8388609, x, 8388609, 1, NULL, &weight));
  CHECK_REFUSED("w", dynq_weight_pack_f32(HUGE_SIZE, K, x, K, 1, NULL, &weight));
  CHECK_REFUSED("w", dynq_weight_pack_f32(3, K, x, HUGE_SIZE, 1, NULL, &weight));
  CHECK_REFUSED("w", dynq_weight_pack_f32(3, K, x, K, SIZE_MAX, NULL, &weight));
  CHECK_REFUSED("n", dynq_weight_pack_f32(SIZE_MAX - 3, 0, x, K, 1, NULL, &weight));
  CHECK_REFUSED("threads", dynq_weight_pack_f32(3, K, x, K, 1, &no_function, &weight));
  x[K + 2] = -INFINITY;
  CHECK_STATUS(DYNQ_NONFINITE, dynq_weight_pack_f32(3, K, x, K, 1, NULL, &weight));
  reset();
  check_case("dynq_weight_pack_s8");
#define CALL(w, type, row_stride, column_stride, scale, zp, weight)                                                    \
  dynq_weight_pack_s8(N, K, w, type, row_stride, column_stride, scale, zp, NULL, weight)
  CHECK_REFUSED("w", CALL(NULL, DYNQ_S8, K, 1, scale, zp, &weight));
  CHECK_REFUSED("type", CALL(q, BAD_ENUM(dynq_type), K, 1, scale, zp, &weight));
  CHECK_REFUSED("row_stride", CALL(q, DYNQ_S8, 0, 1, scale, zp, &weight));
  CHECK_REFUSED("column_stride", CALL(q, DYNQ_S8, K, 0, scale, zp, &weight));
  CHECK_REFUSED("scale", CALL(q, DYNQ_S8, K, 1, NULL, zp, &weight));
  CHECK_REFUSED("weight", CALL(q, DYNQ_S8, K, 1, scale, zp, NULL));
  scale[1] = 0.0f;
  CHECK_REFUSED("scale[1]", CALL(q, DYNQ_S8, K, 1, scale, zp, &weight));
  reset();
  REFUSE_ZERO_POINT(128, CALL(q, DYNQ_S8, K, 1, scale, zp, &weight));
  REFUSE_ZERO_POINT(-1, CALL(q, DYNQ_U8, K, 1, scale, zp, &weight));
  CHECK_REFUSED("k", dynq_weight_pack_s8(1, SIZE_MAX, q, DYNQ_S8, 1, 1, scale, NULL, NULL, &weight));
  CHECK(weight == untouched);
#undef CALL
}

static void refuse_weight(void) {
  dynq_weight *weight = small_weight(N, K), *view = NULL;
  dynq_weight_info fine, info;
  float w[N * K];
  int8_t w8[N * K];
  check_case("dynq_weight_view, reading back");
  dynq_weight_describe(weight, &fine);
#define SPOIL(name, change)                                                                                            \
  info = fine;                                                                                                         \
  change;                                                                                                              \
  CHECK_REFUSED(name, dynq_weight_view(&info, &view))
  CHECK_REFUSED("info", dynq_weight_view(NULL, &view));
  CHECK_REFUSED("weight", dynq_weight_view(&fine, NULL));
  SPOIL("data_bytes", info.data_bytes--);
  SPOIL("data_bytes", info.k = 9);
  SPOIL("n_padded", info.n_padded = N);
  SPOIL("n_padded", info.n = 33);
  SPOIL("k", info.k = 8388612);
  SPOIL("n", info.n = SIZE_MAX);
  SPOIL("n", info.n = HUGE_SIZE);
  SPOIL("info.data", info.data = NULL);
  SPOIL("info.data", info.data += 32);
  SPOIL("info.scale", info.scale = NULL);
  SPOIL("info.scale", info.scale = MISALIGNED);
  SPOIL("info.column_sum", info.column_sum = NULL);
  SPOIL("info.zero_point", info.zero_point = MISALIGNED_S32);
  scale[3] = NAN;
  SPOIL("info.scale[3]", info.scale = scale);
  zp[3] = -129;
  SPOIL("info.zero_point[3]", info.zero_point = zp);
  reset();
#undef SPOIL
  CHECK(view == NULL);
  CHECK_REFUSED("weight", dynq_weight_dequantize_f32(NULL, NULL, w, K));
  CHECK_REFUSED("w", dynq_weight_dequantize_f32(weight, NULL, NULL, K));
  CHECK_REFUSED("w", dynq_weight_dequantize_f32(weight, NULL, w, K - 1));
  CHECK_REFUSED("threads", dynq_weight_dequantize_f32(weight, &no_threads, w, K));
  CHECK_REFUSED("weight", dynq_weight_unpack_s8(NULL, NULL, w8, K));
  CHECK_REFUSED("w", dynq_weight_unpack_s8(weight, NULL, NULL, K));
  CHECK_REFUSED("w", dynq_weight_unpack_s8(weight, NULL, w8, K - 1));
  dynq_weight_free(weight);
  dynq_weight_free(NULL);
}

static void refuse_linear(void) {
  dynq_weight *w = small_weight(N, K);
  dynq_epilogue e;
  check_case("dynq_linear_f32");
#define CALL(w, m, x, x_stride, scheme, granularity, threads, y, y_stride)                                             \
  dynq_linear_f32(w, m, x, x_stride, scheme, granularity, NULL, threads, y, y_stride)
  CHECK_STATUS(DYNQ_OK, CALL(w, M, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("weight", CALL(NULL, M, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("x", CALL(w, M, NULL, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("x", CALL(w, M, MISALIGNED, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("x", CALL(w, M, x, K - 1, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("x", CALL(w, HUGE_SIZE, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("scheme", CALL(w, M, x, K, BAD_ENUM(dynq_scheme), DYNQ_PER_ROW, NULL, y, N));
  CHECK_REFUSED("granularity", CALL(w, M, x, K, DYNQ_SYMMETRIC, BAD_ENUM(dynq_granularity), NULL, y, N));
  CHECK_REFUSED("threads", CALL(w, M, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, &no_threads, y, N));
  CHECK_REFUSED("y", CALL(w, M, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, NULL, N));
  CHECK_REFUSED("y", CALL(w, M, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, N - 1));
  CHECK_REFUSED("y", CALL(w, M, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, HUGE_SIZE));
#undef CALL
#define SPOIL(name, ...)                                                                                               \
  e = (dynq_epilogue){__VA_ARGS__};                                                                                    \
  CHECK_REFUSED(name, dynq_linear_f32(w, M, x, K, DYNQ_SYMMETRIC, DYNQ_PER_ROW, &e, NULL, y, N))
  SPOIL("activation", .activation = BAD_ENUM(dynq_activation));
  SPOIL("activation", .activation = (dynq_activation)-1);
  SPOIL("bias", .bias = MISALIGNED);
  SPOIL("residual", .residual = x, .residual_stride = N - 1);
  SPOIL("residual", .residual = MISALIGNED, .residual_stride = N);
  SPOIL("residual", .residual = y, .residual_stride = N + 1);
  SPOIL("min", .min = 1.0f, .max = -1.0f);
  SPOIL("min", .min = NAN, .max = 1.0f);
  SPOIL("max", .min = 0.0f, .max = NAN);
#undef SPOIL
  check_case("dynq_gemm_s32");
#define CALL(w, q, q_stride, type, granularity, zp, threads, acc, acc_stride)                                          \
  dynq_gemm_s32(w, M, q, q_stride, type, granularity, zp, threads, acc, acc_stride)
  CHECK_STATUS(DYNQ_OK, CALL(w, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N));
  CHECK_REFUSED("weight", CALL(NULL, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N));
  CHECK_REFUSED("q", CALL(w, NULL, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N));
  CHECK_REFUSED("q", CALL(w, q, K - 1, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N));
  CHECK_REFUSED("type", CALL(w, q, K, BAD_ENUM(dynq_type), DYNQ_PER_ROW, zp, NULL, acc, N));
  CHECK_REFUSED("granularity", CALL(w, q, K, DYNQ_U8, BAD_ENUM(dynq_granularity), zp, NULL, acc, N));
  CHECK_REFUSED("threads", CALL(w, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, &no_function, acc, N));
  CHECK_REFUSED("acc", CALL(w, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, NULL, N));
  CHECK_REFUSED("acc", CALL(w, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N - 1));
  CHECK_REFUSED("acc", CALL(w, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, MISALIGNED_S32, N));
  REFUSE_ZERO_POINT(256, CALL(w, q, K, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N));
  REFUSE_ZERO_POINT(-129, CALL(w, q, K, DYNQ_S8, DYNQ_PER_ROW, zp, NULL, acc, N));
#undef CALL
  dynq_weight_free(w);
}

static void refuse_matmul(void) {
  static float b[2 * K * N];
  check_case("dynq_matmul_f32");
#define CALL(batch, m, n, k, a, a_stride, b, b_stride, scheme, granularity, threads, y, y_batch_stride, y_stride)      \
  dynq_matmul_f32(batch, m, n, k, a, 0, a_stride, b, 0, b_stride, 1, scheme, granularity, threads, y, y_batch_stride,  \
                  y_stride)
  CHECK_STATUS(DYNQ_OK, CALL(1, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("a", CALL(1, M, N, K, NULL, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("a", CALL(1, M, N, K, x, K - 1, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("b", CALL(1, M, N, K, x, K, NULL, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("b", CALL(1, M, N, K, x, K, MISALIGNED, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("b", CALL(1, M, N, K, x, K, b, HUGE_SIZE, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("k", CALL(1, 1, 1, 8388609, x, K, b, 1, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, 1));
  CHECK_REFUSED("y", CALL(1, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, NULL, 0, N));
  CHECK_REFUSED("y", CALL(1, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N - 1));
  CHECK_REFUSED("y", CALL(2, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, M * N - 1, N));
  CHECK_REFUSED("y", CALL(HUGE_SIZE, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, M * N, N));
  CHECK_REFUSED("scheme", CALL(1, M, N, K, x, K, b, N, BAD_ENUM(dynq_scheme), DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK_REFUSED("granularity", CALL(1, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, BAD_ENUM(dynq_granularity), NULL, y, 0, N));
  CHECK_REFUSED("threads", CALL(1, M, N, K, x, K, b, N, DYNQ_SYMMETRIC, DYNQ_PER_ROW, &no_function, y, 0, N));
#undef CALL
}

static void refuse_settings(void) {
  size_t count = 0, before = 0;
  check_case("threads and instruction sets");
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  CHECK_STATUS(DYNQ_OK, dynq_get_num_threads(&before));
  CHECK(before >= 1 && before <= 512);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(512));
  CHECK_REFUSED("count", dynq_set_num_threads(513));
  CHECK_REFUSED("count", dynq_set_num_threads(SIZE_MAX));
  CHECK_STATUS(DYNQ_OK, dynq_get_num_threads(&count));
  CHECK(count == 512);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0)); /* back to what it was at first */
  CHECK_STATUS(DYNQ_OK, dynq_get_num_threads(&count));
  CHECK(count == before);
  CHECK_REFUSED("count", dynq_get_num_threads(NULL));
  CHECK_REFUSED("name", dynq_isa_supported(NULL));
  CHECK_REFUSED("name", dynq_isa_selected(NULL));
  CHECK(strcmp(dynq_version(), DYNQ_VERSION) == 0);
  for (int status = -5; status < 50; status++) {
    CHECK(dynq_status_string((dynq_status)status) != NULL && dynq_status_string((dynq_status)status)[0] != '\0');
  }
}

static void check_arguments(void) {
  void (*const groups[])(void) = {refuse_minmax, refuse_qparams, refuse_quantize, refuse_packing,
                                  refuse_weight, refuse_linear,  refuse_matmul,   refuse_settings};
  check_begin("", "arguments are refused");
  for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
    reset();
    groups[i]();
  }
  check_end();
}

/* ---- Sizes of zero: pointers to nothing may be NULL, and nothing is touched ---- */

static void check_zero_sizes(void) {
  const float bias[N] = {-1.0f, 2.0f};
  const dynq_epilogue e = {.bias = bias, .activation = DYNQ_ACTIVATION_RELU};
  float one_lo = 5.0f, one_hi = 5.0f;
  dynq_weight *w, *no_k = NULL, *no_n = NULL;
  check_begin("", "sizes of zero");
  check_case("K = 0");
  reset();
  w = small_weight(N, K);
  CHECK_STATUS(DYNQ_OK, dynq_minmax_f32(M, 0, NULL, 0, DYNQ_PER_ROW, NULL, lo, hi));
  CHECK(lo[0] == 0.0f && hi[0] == 0.0f && lo[M - 1] == 0.0f && hi[M - 1] == 0.0f && lo[M] == -1.0f);
  CHECK_STATUS(DYNQ_OK, dynq_quantize_dynamic_f32(M, 0, NULL, 0, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, NULL, NULL, 0,
                                                  scale, zp));
  CHECK(scale[0] == 1.0f && zp[0] == 0 && scale[1] == 1.0f && scale[2] == 0.5f);
  CHECK_STATUS(DYNQ_OK,
               dynq_quantize_f32(M, 0, NULL, 0, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK, dynq_dequantize_f32(M, 0, NULL, 0, DYNQ_PER_ROW, DYNQ_U8, scale, zp, NULL, NULL, 0));
  reset();
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(N, 0, NULL, 0, 0, NULL, &no_k));
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(no_k, M, NULL, 0, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, &e, NULL, y, N));
  CHECK(y[0] == 0.0f && y[1] == 2.0f && y[N] == 0.0f && y[N + 1] == 2.0f && y[M * N - 1] == 0.0f);
  CHECK(y[M * N] == (float)(M * N));
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(no_k, M, NULL, 0, DYNQ_SYMMETRIC, DYNQ_PER_TENSOR, NULL, NULL, y, N));
  CHECK(y[1] == 0.0f && y[M * N - 1] == 0.0f);
  CHECK_STATUS(DYNQ_OK, dynq_gemm_s32(no_k, M, NULL, 0, DYNQ_U8, DYNQ_PER_ROW, zp, NULL, acc, N));
  CHECK(acc[0] == 0 && acc[M * N - 1] == 0 && acc[M * N] == 7);
  reset();
  CHECK_STATUS(DYNQ_OK,
               dynq_matmul_f32(1, M, N, 0, NULL, 0, 0, NULL, 0, N, 1, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK(y[0] == 0.0f && y[M * N - 1] == 0.0f && y[M * N] == (float)(M * N));

  check_case("M = 0");
  reset();
  CHECK_STATUS(DYNQ_OK, dynq_minmax_f32(0, K, NULL, 0, DYNQ_PER_ROW, NULL, NULL, NULL));
  CHECK_STATUS(DYNQ_OK, dynq_minmax_f32(0, K, NULL, 0, DYNQ_PER_TENSOR, NULL, &one_lo, &one_hi));
  CHECK(one_lo == 0.0f && one_hi == 0.0f);
  CHECK_STATUS(DYNQ_OK, dynq_quantize_dynamic_f32(0, K, NULL, 0, DYNQ_SYMMETRIC, DYNQ_PER_ROW, DYNQ_S8, NULL, NULL, 0,
                                                  NULL, NULL));
  CHECK_STATUS(DYNQ_OK, dynq_choose_qparams(0, NULL, NULL, DYNQ_SYMMETRIC, DYNQ_S8, NULL, NULL));
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(w, 0, NULL, 0, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, &e, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(w, 0, NULL, 0, DYNQ_ASYMMETRIC, DYNQ_PER_TENSOR, &e, NULL, y, 0));
  CHECK_STATUS(DYNQ_OK, dynq_gemm_s32(w, 0, NULL, 0, DYNQ_U8, DYNQ_PER_ROW, NULL, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK,
               dynq_matmul_f32(1, 0, N, K, NULL, 0, 0, x, 0, N, 1, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, NULL, 0, 0));
  CHECK_STATUS(DYNQ_OK, dynq_matmul_f32(0, M, N, K, x, 0, K, x, 0, N, 1, DYNQ_SYMMETRIC, DYNQ_PER_ROW, NULL, y, 0, N));
  CHECK(y[0] == 0.0f && y[1] == 1.0f && y[M * N - 1] == (float)(M * N - 1));

  check_case("N = 0");
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(0, K, NULL, 0, 0, NULL, &no_n));
  CHECK_STATUS(DYNQ_OK, dynq_linear_f32(no_n, M, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK, dynq_gemm_s32(no_n, M, q, K, DYNQ_U8, DYNQ_PER_ROW, NULL, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK, dynq_weight_dequantize_f32(no_n, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK, dynq_weight_unpack_s8(no_n, NULL, NULL, 0));
  CHECK_STATUS(DYNQ_OK, dynq_weight_unpack_s8(no_k, NULL, NULL, 0));
  dynq_weight_free(w);
  dynq_weight_free(no_k);
  dynq_weight_free(no_n);
  check_end();
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  check_limits();
  check_arguments();
  check_zero_sizes();
  check_faults();
  check_concurrency();
  return check_finish();
}
