/*
 * The public functions with the kernels in use, against the rule: all shapes, strides, schemes, thread counts.
 */
#include "check_kernels.h"
#include "pools.h"
#include "reference.h"

#include <math.h>
#include <string.h>

/* ---- Shapes ---- */

typedef struct shape {
  size_t m, n, k;
} shape;

/* Through every tile edge: 12 rows, 16 channels, 4 k, 64-byte rows and their multiples. */
static const size_t edges[] = {0,  1,  2,  3,  4,  5,  7,  8,  11, 12, 13, 15, 16,
                               17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65};

/* Worth several threads each, most of them with every instruction set (gemm/gemm.c), split by rows, then by panels; the
 * rows of the longest one make several blocks on one thread too. Each comes twice (TIMES). */
static const shape large[] = {{260, 200, 210}, {700, 130, 129}, {600, 300, 33},  {150, 20, 1536},
                              {560, 17, 2000}, {301, 17, 1030}, {9, 1300, 1000}, {40, 640, 420},
                              {3, 1500, 1000}, {1, 2100, 2000}, {100, 1200, 100}};
enum { LARGE = sizeof large / sizeof large[0], TIMES = CHECK_TSAN ? 1 : 2, SMALL = CHECK_TSAN ? 30 : 200 };

static shape shape_of(size_t index) {
  if (index < (size_t)TIMES * LARGE) {
    return large[index / TIMES];
  }
  const size_t last = sizeof edges / sizeof edges[0];
  return (shape){edges[random_below(last)], edges[random_below(last)], edges[random_below(last)]};
}

static size_t stride_of(size_t columns) { return columns + random_below(2) * random_below(20); }
static fill random_fill(void) { return (fill)random_below(FILL_KINDS); }

/* ---- Quantizing ---- */

static void quantize_case(const shape *s) {
  const size_t x_stride = stride_of(s->k), q_stride = stride_of(s->k), q_size = span(s->m, s->k, q_stride);
  const dynq_scheme scheme = (dynq_scheme)random_below(2);
  const dynq_granularity granularity = (dynq_granularity)random_below(2);
  const dynq_type type = (dynq_type)random_below(2);
  const size_t blocks = granularity == DYNQ_PER_ROW ? s->m : 1;
  const fill kind = random_fill();
  float *x = guarded_f32(span(s->m, s->k, x_stride)), *back = guarded_f32(span(s->m, s->k, x_stride));
  float *scale = guarded_f32(blocks), *lo = guarded_f32(blocks), *hi = guarded_f32(blocks);
  float *want_scale = guarded_f32(blocks), *want_lo = guarded_f32(blocks), *want_hi = guarded_f32(blocks);
  float *want_back = guarded_f32(span(s->m, s->k, x_stride));
  int32_t *zero_point = guarded_s32(blocks), *want_zero_point = guarded_s32(blocks), low, high;
  uint8_t *q = guarded(q_size, 1), *want_q = guarded(q_size, 1);
  const size_t mode = random_below(POOL_MODES);
  fill_f32(kind, x, span(s->m, s->k, x_stride));
  check_case("m %zu, k %zu, strides %zu and %zu, %s, scheme %d, granularity %d, type %d, pool %zu", s->m, s->k,
             x_stride, q_stride, fill_name(kind), scheme, granularity, type, mode);
  for (size_t b = 0; b < blocks; b++) {
    want_lo[b] = want_hi[b] = 0.0f;
    for (size_t i = 0; i < s->m; i++) {
      if (granularity == DYNQ_PER_TENSOR || i == b) {
        (void)reference_range(s->k, x + i * x_stride, &want_lo[b], &want_hi[b]);
      }
    }
    want_lo[b] += 0.0f;
    want_hi[b] += 0.0f;
    reference_qparams(want_lo[b], want_hi[b], scheme, type, &want_scale[b], &want_zero_point[b]);
  }
  reference_limits(scheme, type, &low, &high);
  for (size_t i = 0; i < s->m; i++) {
    const size_t b = granularity == DYNQ_PER_ROW ? i : 0;
    for (size_t j = 0; j < s->k; j++) {
      const int32_t v = reference_quantize(x[i * x_stride + j], want_scale[b], want_zero_point[b], low, high);
      want_q[i * q_stride + j] = (uint8_t)v;
      want_back[i * x_stride + j] = (float)(v - want_zero_point[b]) * want_scale[b];
    }
  }
  const dynq_threads *threads = pool_of(mode);
  CHECK_STATUS(DYNQ_OK, dynq_minmax_f32(s->m, s->k, x, x_stride, granularity, threads, lo, hi));
  check_same("lo", CHECK_F32, want_lo, lo, blocks);
  check_same("hi", CHECK_F32, want_hi, hi, blocks);
  CHECK_STATUS(DYNQ_OK, dynq_choose_qparams(blocks, lo, hi, scheme, type, scale, zero_point));
  check_same("scale", CHECK_F32, want_scale, scale, blocks);
  check_same("zero_point", CHECK_S32, want_zero_point, zero_point, blocks);
  CHECK_STATUS(DYNQ_OK, dynq_quantize_f32(s->m, s->k, x, x_stride, scheme, granularity, type, scale, zero_point,
                                          threads, q, q_stride));
  check_same("q", CHECK_BYTES, want_q, q, q_size);
  CHECK_STATUS(DYNQ_OK, dynq_dequantize_f32(s->m, s->k, q, q_stride, granularity, type, scale, zero_point, threads,
                                            back, x_stride));
  check_same("x", CHECK_F32, want_back, back, span(s->m, s->k, x_stride));
  for (size_t b = 0; b < blocks; b++) {
    scale[b] = -1.0f;
    zero_point[b] = -1;
  }
  for (size_t i = 0; i < s->m && s->k != 0; i++) {
    memset(q + i * q_stride, 0, s->k);
  }
  CHECK_STATUS(DYNQ_OK, dynq_quantize_dynamic_f32(s->m, s->k, x, x_stride, scheme, granularity, type, threads, q,
                                                  q_stride, scale, zero_point));
  check_same("dynamic scale", CHECK_F32, want_scale, scale, blocks);
  check_same("dynamic zero_point", CHECK_S32, want_zero_point, zero_point, blocks);
  check_same("dynamic q", CHECK_BYTES, want_q, q, q_size);
  guards_release();
}

/* ---- Weights ---- */

/* The panel layout, written from its description. */
static void check_layout(const dynq_weight *weight, const reference_weight *want, const int32_t *zero_point) {
  dynq_weight_info info;
  dynq_weight_describe(weight, &info);
  const size_t groups = (info.k + 3) / 4, padded = (info.n + 15) / 16 * 16;
  CHECK(info.n == want->n && info.k == want->k && info.n_padded == padded && info.data_bytes == padded * groups * 4);
  CHECK((uintptr_t)info.data % 64 == 0);
  check_same("weight scale", CHECK_F32, want->scale, info.scale, info.n);
  size_t wrong = 0;
  for (size_t n = 0; n < padded; n++) {
    int32_t sum = 0;
    const int32_t zp = n < info.n && zero_point != NULL ? zero_point[n] : 0;
    for (size_t k = 0; k < groups * 4; k++) {
      const bool inside = n < info.n && k < info.k;
      const int32_t value = inside ? want->values[n * info.k + k] + zp : 0;
      sum += inside ? want->values[n * info.k + k] : 0;
      wrong += info.data[((n / 16 * groups + k / 4) * 16 + n % 16) * 4 + k % 4] != value;
    }
    wrong += info.column_sum[n] != sum;
    wrong += info.zero_point != NULL && info.zero_point[n] != zp;
    wrong += info.zero_point == NULL && zp != 0;
  }
  CHECK(wrong == 0);
}

static void check_read_back(const dynq_weight *weight, const reference_weight *want, const int32_t *zero_point,
                            const dynq_threads *threads) {
  const size_t stride = stride_of(want->k), size = span(want->n, want->k, stride);
  float *w = guarded_f32(size), *want_w = guarded_f32(size);
  int8_t *q = guarded(size, 1), *want_q = guarded(size, 1);
  for (size_t n = 0; n < want->n; n++) {
    for (size_t k = 0; k < want->k; k++) {
      const int16_t value = want->values[n * want->k + k];
      want_w[n * stride + k] = (float)value * want->scale[n];
      want_q[n * stride + k] = (int8_t)(value + (zero_point != NULL ? zero_point[n] : 0));
    }
  }
  CHECK_STATUS(DYNQ_OK, dynq_weight_dequantize_f32(weight, threads, w, stride));
  check_same("dequantized w", CHECK_F32, want_w, w, size);
  CHECK_STATUS(DYNQ_OK, dynq_weight_unpack_s8(weight, threads, q, stride));
  check_same("unpacked w", CHECK_BYTES, want_q, q, size);
}

/* A random weight of one of four kinds: float32 as (N, K) or (K, N), int8 with and without zero-points. */
static dynq_weight *make_weight(const shape *s, const dynq_threads *threads, reference_weight *want, bool judge) {
  const size_t kind = random_below(4);
  const bool transposed = kind == 1;
  const size_t stride = 1 + stride_of(transposed ? s->n : s->k);
  const size_t row = transposed ? 1 : stride, column = transposed ? stride : 1;
  const size_t size = transposed ? span(s->k, s->n, stride) : span(s->n, s->k, stride);
  dynq_weight *weight = NULL;
  int32_t *zero_point = NULL;
  if (kind < 2) {
    float *w = guarded_f32(size);
    fill_f32(random_fill(), w, size);
    reference_weight_f32(want, s->n, s->k, w, row, column);
    CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(s->n, s->k, w, row, column, threads, &weight));
  } else {
    int8_t *w = guarded(size, 1);
    float *scale = guarded_f32(s->n);
    fill_bytes((int)random_below(BYTES_KINDS), w, size);
    zero_point = kind == 3 ? guarded_s32(s->n) : NULL;
    for (size_t i = 0; i < s->n; i++) {
      scale[i] = (1.0f + fabsf(random_unit())) * 1e-2f;
      if (zero_point != NULL) {
        zero_point[i] = (int32_t)random_below(256) - 128;
      }
    }
    reference_weight_s8(want, s->n, s->k, w, row, column, scale, zero_point);
    CHECK_STATUS(DYNQ_OK,
                 dynq_weight_pack_s8(s->n, s->k, w, DYNQ_S8, row, column, scale, zero_point, threads, &weight));
  }
  if (weight != NULL && judge) {
    check_layout(weight, want, zero_point);
    check_read_back(weight, want, zero_point, threads);
  }
  return weight;
}

static void weight_case(const shape *s) {
  reference_weight want;
  const size_t mode = random_below(POOL_MODES);
  check_case("n %zu, k %zu, pool %zu", s->n, s->k, mode);
  dynq_weight *weight = make_weight(s, pool_of(mode), &want, true), *view = NULL;
  if (weight != NULL) {
    dynq_weight_info info, seen;
    dynq_weight_describe(weight, &info);
    CHECK_STATUS(DYNQ_OK, dynq_weight_view(&info, &view));
    if (view != NULL) {
      dynq_weight_describe(view, &seen);
      CHECK(memcmp(&info, &seen, sizeof info) == 0);
    }
  }
  dynq_weight_free(view);
  dynq_weight_free(weight);
  reference_weight_free(&want);
  guards_release();
}

/* ---- Multiplying ---- */

static dynq_epilogue random_epilogue(const shape *s, float *y, size_t y_stride) {
  dynq_epilogue e = {
      .activation = (dynq_activation)random_below(DYNQ_ACTIVATION_LEAKY_RELU + 1), .alpha = -0.25f, .beta = 0.5f};
  const size_t residual = random_below(3);
  if (random_below(2) != 0) {
    float *bias = guarded_f32(s->n);
    fill_f32(FILL_UNIT, bias, s->n);
    e.bias = bias;
  }
  if (residual == 0) { /* y itself */
    fill_f32(FILL_UNIT, y, span(s->m, s->n, y_stride));
    e.residual = y;
    e.residual_stride = y_stride;
  } else if (residual == 1) {
    e.residual_stride = stride_of(s->n);
    float *values = guarded_f32(span(s->m, s->n, e.residual_stride));
    fill_f32(FILL_UNIT, values, span(s->m, s->n, e.residual_stride));
    e.residual = values;
  }
  e.min = random_below(2) != 0 ? -0.25f : 0.0f;
  e.max = e.min != 0.0f ? 6.0f : 0.0f;
  return e;
}

static void linear_case(const shape *s) {
  reference_weight want;
  const size_t mode = random_below(POOL_MODES);
  const size_t x_stride = stride_of(s->k), y_stride = stride_of(s->n), y_size = span(s->m, s->n, y_stride);
  const dynq_scheme scheme = (dynq_scheme)random_below(2);
  const dynq_granularity granularity = (dynq_granularity)random_below(2);
  const fill kind = random_fill();
  float *x = guarded_f32(span(s->m, s->k, x_stride)), *y = guarded_f32(y_size), *want_y = guarded_f32(y_size);
  size_t bad_row = s->m;
  fill_f32(kind, x, span(s->m, s->k, x_stride));
  if (s->m != 0 && s->k != 0 && random_below(4) == 0) {
    bad_row = random_below(s->m);
    x[bad_row * x_stride + random_below(s->k)] = random_below(2) != 0 ? NAN : -INFINITY;
  }
  check_case("m %zu, n %zu, k %zu, strides %zu and %zu, %s, scheme %d, granularity %d, pool %zu, bad row %zu", s->m,
             s->n, s->k, x_stride, y_stride, fill_name(kind), scheme, granularity, mode, bad_row);
  const dynq_threads *threads = pool_of(mode);
  dynq_weight *weight = make_weight(s, threads, &want, false);
  const dynq_epilogue e = random_epilogue(s, y, y_stride);
  dynq_epilogue want_e = e;
  memcpy(want_y, y, y_size * sizeof *y);
  want_e.residual = e.residual == y ? want_y : e.residual;
  const bool finite = reference_linear(&want, s->m, x, x_stride, scheme, granularity, &want_e, want_y, y_stride);
  if (weight != NULL) {
    CHECK_STATUS(finite || s->n == 0 ? DYNQ_OK : DYNQ_NONFINITE,
                 dynq_linear_f32(weight, s->m, x, x_stride, scheme, granularity, &e, threads, y, y_stride));
    check_same("y", CHECK_F32, want_y, y, y_size);
    for (size_t j = 0; bad_row < s->m && j < s->n; j++) {
      CHECK(bits_of_float(y[bad_row * y_stride + j]) == 0x7fc00000u);
    }
  }
  dynq_weight_free(weight);
  reference_weight_free(&want);
  guards_release();
}

static void gemm_s32_case(const shape *s) {
  reference_weight want;
  const size_t mode = random_below(POOL_MODES), q_stride = stride_of(s->k), acc_stride = stride_of(s->n);
  const dynq_granularity granularity = (dynq_granularity)random_below(2);
  const dynq_type type = (dynq_type)random_below(2);
  const size_t blocks = granularity == DYNQ_PER_ROW ? s->m : 1, size = span(s->m, s->n, acc_stride);
  uint8_t *q = guarded(span(s->m, s->k, q_stride), 1);
  int32_t *acc = guarded_s32(size), *want_acc = guarded_s32(size);
  int32_t *zero_point = random_below(3) != 0 ? guarded_s32(blocks) : NULL;
  int16_t row[2048];
  fill_bytes((int)random_below(BYTES_KINDS), q, span(s->m, s->k, q_stride));
  for (size_t i = 0; zero_point != NULL && i < blocks; i++) {
    zero_point[i] = (int32_t)random_below(256) - (type == DYNQ_S8 ? 128 : 0);
  }
  check_case("m %zu, n %zu, k %zu, strides %zu and %zu, type %d, granularity %d, zero-points %d, pool %zu", s->m, s->n,
             s->k, q_stride, acc_stride, type, granularity, zero_point != NULL, mode);
  const dynq_threads *threads = pool_of(mode);
  dynq_weight *weight = make_weight(s, threads, &want, false);
  for (size_t i = 0; i < s->m; i++) {
    const int32_t zp = zero_point != NULL ? zero_point[granularity == DYNQ_PER_ROW ? i : 0] : 0;
    for (size_t k = 0; k < s->k; k++) {
      const uint8_t byte = q[i * q_stride + k];
      row[k] = (int16_t)((type == DYNQ_S8 ? (int8_t)byte : byte) - zp);
    }
    for (size_t j = 0; j < s->n; j++) {
      want_acc[i * acc_stride + j] = (int32_t)reference_dot(s->k, row, want.values + j * s->k);
    }
  }
  if (weight != NULL) {
    CHECK_STATUS(DYNQ_OK,
                 dynq_gemm_s32(weight, s->m, q, q_stride, type, granularity, zero_point, threads, acc, acc_stride));
    check_same("acc", CHECK_S32, want_acc, acc, size);
  }
  dynq_weight_free(weight);
  reference_weight_free(&want);
  guards_release();
}

static void matmul_case(const shape *s) {
  const size_t batch = random_below(4), mode = random_below(POOL_MODES);
  const bool shared_b = random_below(3) == 0, shared_a = random_below(3) == 0, transposed = random_below(2) != 0;
  const size_t a_stride = stride_of(s->k), y_stride = stride_of(s->n);
  const size_t b_stride = stride_of(transposed ? s->k : s->n);
  const size_t b_row = transposed ? 1 : b_stride, b_column = transposed ? b_stride : 1;
  const size_t a_one = span(s->m, s->k, a_stride), y_one = span(s->m, s->n, y_stride) + random_below(3);
  const size_t b_one = transposed ? span(s->n, s->k, b_stride) : span(s->k, s->n, b_stride);
  const dynq_scheme scheme = (dynq_scheme)random_below(2);
  const dynq_granularity granularity = (dynq_granularity)random_below(2);
  const fill kind = random_fill();
  float *a = guarded_f32(shared_a ? a_one : batch * a_one), *b = guarded_f32(shared_b ? b_one : batch * b_one);
  float *y = guarded_f32(batch * y_one), *want_y = guarded_f32(batch * y_one);
  bool finite = true;
  fill_f32(kind, a, shared_a ? a_one : batch * a_one);
  fill_f32(random_fill(), b, shared_b ? b_one : batch * b_one);
  if (b_one != 0 && batch != 0 && s->m != 0 && random_below(4) == 0) {
    b[random_below(s->k) * b_row + random_below(s->n) * b_column] = INFINITY;
    finite = false;
  }
  check_case("batch %zu, m %zu, n %zu, k %zu, shared %d %d, transposed %d, %s, scheme %d, granularity %d, pool %zu%s",
             batch, s->m, s->n, s->k, shared_a, shared_b, transposed, fill_name(kind), scheme, granularity, mode,
             finite ? "" : ", a bad column");
  for (size_t i = 0; i < batch; i++) {
    reference_weight w;
    reference_weight_f32(&w, s->n, s->k, shared_b ? b : b + i * b_one, b_column, b_row);
    (void)reference_linear(&w, s->m, shared_a ? a : a + i * a_one, a_stride, scheme, granularity, NULL,
                           want_y + i * y_one, y_stride);
    reference_weight_free(&w);
  }
  CHECK_STATUS(finite ? DYNQ_OK : DYNQ_NONFINITE,
               dynq_matmul_f32(batch, s->m, s->n, s->k, a, shared_a ? 0 : a_one, a_stride, b, shared_b ? 0 : b_one,
                               b_row, b_column, scheme, granularity, pool_of(mode), y, y_one, y_stride));
  check_same("y", CHECK_F32, want_y, y, batch * y_one);
  guards_release();
}

static void each_shape(const char *isa, const char *what, size_t skip, void (*run)(const shape *)) {
  check_begin(isa, what);
  for (size_t i = skip; i < TIMES * LARGE + SMALL; i++) {
    const shape s = shape_of(i);
    run(&s);
  }
  check_end();
}

void check_library(const char *name, bool quick) {
  const size_t skip = quick ? TIMES * LARGE : 0;
  each_shape(name, "library quantize", skip, quantize_case);
  each_shape(name, "library weight", skip, weight_case);
  each_shape(name, "library linear", skip, linear_case);
  each_shape(name, "library gemm_s32", skip, gemm_s32_case);
  each_shape(name, "library matmul", quick ? skip : TIMES * (LARGE - 2), matmul_case);
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
}
