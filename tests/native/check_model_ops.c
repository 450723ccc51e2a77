/*
 * The ops of quantized layers against the functions for single layers, and the ops that are about shapes alone.
 */
#include "check_model.h"
#include "pools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A model of one node and its session. */
typedef struct single {
  void *image;
  dynq_model *model;
  dynq_session *session;
} single;

static single open_single(plan_writer *w, const dynq_threads *threads) {
  single s = {0};
  size_t size;
  s.image = plan_finish(w, &size);
  s.model = open_image(s.image, size);
  CHECK_STATUS(DYNQ_OK, dynq_session_new(s.model, threads, &s.session));
  return s;
}

static void close_single(single *s) {
  dynq_session_free(s->session);
  dynq_model_close(s->model);
  free(s->image);
}

/* An input of any sizes: each has a symbol of its own. */
static uint32_t any_input(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank) {
  int64_t dims[DYNQ_MAX_RANK];
  for (size_t i = 0; i < rank; i++) {
    dims[i] = -1 - (int64_t)plan_symbol(w, name);
  }
  return plan_input(w, name, dtype, rank, dims);
}

/* ---- dynq.MatMulDynamic ---- */

/* a (A, m, k) and b (B, k, n), where A and B are 1 or the batch. */
static void check_matmul(size_t batch, bool one_a, bool one_b, size_t m, size_t n, size_t k, dynq_scheme scheme,
                         dynq_granularity granularity, const dynq_threads *threads) {
  static float a[4 * 20 * 40], b[4 * 40 * 40], expected[4 * 20 * 40];
  plan_writer w = {0};
  dynq_tensor out;
  const uint32_t inputs[] = {any_input(&w, "a", DYNQ_FLOAT32, 3), any_input(&w, "b", DYNQ_FLOAT32, 3)};
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "matmul", "dynq.MatMulDynamic", 2, inputs, 1, &y);
  if (scheme == DYNQ_SYMMETRIC) { /* the other is the default */
    plan_string(&w, "scheme", "symmetric");
  }
  if (granularity == DYNQ_PER_TENSOR) {
    plan_string(&w, "granularity", "tensor");
  }
  plan_output(&w, "y", y);
  single s = open_single(&w, threads);
  fill_f32(FILL_UNIT, a, (one_a ? 1 : batch) * m * k);
  fill_f32(FILL_UNIT, b, (one_b ? 1 : batch) * k * n);
  const dynq_tensor in[] = {tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){one_a ? 1 : batch, m, k}, a),
                            tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){one_b ? 1 : batch, k, n}, b)};
  const size_t matrices = one_a && one_b ? 1 : batch;
  CHECK_STATUS(DYNQ_OK, dynq_matmul_f32(matrices, m, n, k, a, one_a ? 0 : m * k, k, b, one_b ? 0 : k * n, n, 1, scheme,
                                        granularity, threads, expected, m * n, n));
  CHECK_STATUS(DYNQ_OK, dynq_model_run(s.session, in, &out));
  CHECK(out.rank == 3 && out.dims[0] == matrices && out.dims[1] == m && out.dims[2] == n);
  check_same("y", CHECK_F32, expected, out.data, matrices * m * n);
  if (matrices * m * n != 0 && k != 0) {
    a[0] = NAN;
    check_status(__FILE__, __LINE__, "a NaN", DYNQ_NONFINITE, dynq_model_run(s.session, in, &out), "node 'matmul'");
    CHECK(isnan(((const float *)out.data)[0]));
  }
  close_single(&s);
}

static void check_matmuls(void) {
  check_begin("", "dynq.MatMulDynamic");
  for (size_t i = 0; i < 120; i++) {
    const size_t m = random_below(20), n = random_below(40), k = random_below(40);
    const size_t batch = random_between(1, 4);
    check_case("%zu of %zu x %zu x %zu", batch, m, n, k);
    check_matmul(batch, random_below(3) == 0, random_below(3) == 0, m, n, k,
                 random_below(2) != 0 ? DYNQ_SYMMETRIC : DYNQ_ASYMMETRIC,
                 random_below(2) != 0 ? DYNQ_PER_TENSOR : DYNQ_PER_ROW, pool_of(i % POOL_MODES));
  }
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  check_case("shapes that do not fit");
  static float a[64];
  plan_writer w = {0};
  dynq_tensor out;
  const uint32_t inputs[] = {any_input(&w, "a", DYNQ_FLOAT32, 3), any_input(&w, "b", DYNQ_FLOAT32, 3)};
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "matmul", "dynq.MatMulDynamic", 2, inputs, 1, &y);
  plan_output(&w, "y", y);
  single s = open_single(&w, NULL);
  dynq_tensor in[] = {tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){1, 2, 3}, a),
                      tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){1, 4, 2}, a)};
  CHECK_REFUSED("node 'matmul' (dynq.MatMulDynamic): a has 3 columns and b 4 rows",
                dynq_model_run(s.session, in, &out));
  in[0].dims[0] = 2;
  in[1].dims[0] = in[1].dims[1] = 3;
  CHECK_REFUSED("sizes 2 and 3", dynq_model_run(s.session, in, &out));
  close_single(&s);
  check_end();
}

/* ---- dynq.MatMulIntegerPacked ---- */

enum { NO_ZERO_POINT, ONE_ZERO_POINT, ROW_ZERO_POINTS };

static void check_integer(size_t m, size_t n, size_t k, bool is_signed, int zero_points, const dynq_threads *threads) {
  static uint8_t q[20 * 60], integers[40 * 60], zero_point[20];
  static int32_t wide[20], expected[20 * 40];
  const dynq_dtype dtype = is_signed ? DYNQ_INT8 : DYNQ_UINT8;
  float scale[40];
  int32_t w_zero_point[40];
  dynq_weight *weight = NULL;
  dynq_tensor out;
  fill_bytes(BYTES_RANDOM, q, m * k);
  fill_bytes(BYTES_RANDOM, integers, n * k);
  fill_bytes(BYTES_RANDOM, zero_point, 20);
  for (size_t i = 0; i < 40; i++) {
    scale[i] = 1.0f;
    w_zero_point[i] = (int32_t)random_below(256);
  }
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_s8(n, k, integers, DYNQ_U8, k, 1, scale,
                                            random_below(2) != 0 ? w_zero_point : NULL, NULL, &weight));
  const size_t count = zero_points == ROW_ZERO_POINTS ? m : 1;
  for (size_t i = 0; i < count; i++) {
    wide[i] = is_signed ? (int8_t)zero_point[i] : zero_point[i];
  }
  plan_writer w = {0};
  uint32_t inputs[] = {any_input(&w, "q", dtype, 2), plan_weight(&w, "weight", weight), PLAN_NONE};
  if (zero_points != NO_ZERO_POINT) {
    inputs[2] = plan_constant(&w, "zero_point", dtype, 1, (const int64_t[]){(int64_t)count}, zero_point);
  }
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "matmul", "dynq.MatMulIntegerPacked", 3, inputs, 1, &y);
  plan_output(&w, "y", y);
  single s = open_single(&w, threads);
  const dynq_tensor in = tensor_of(dtype, 2, (const size_t[]){m, k}, q);
  CHECK_STATUS(DYNQ_OK, dynq_gemm_s32(weight, m, q, k, is_signed ? DYNQ_S8 : DYNQ_U8,
                                      zero_points == ROW_ZERO_POINTS ? DYNQ_PER_ROW : DYNQ_PER_TENSOR,
                                      zero_points != NO_ZERO_POINT ? wide : NULL, threads, expected, n));
  CHECK_STATUS(DYNQ_OK, dynq_model_run(s.session, &in, &out));
  CHECK(out.dtype == DYNQ_INT32 && out.rank == 2 && out.dims[0] == m && out.dims[1] == n);
  check_same("y", CHECK_S32, expected, out.data, m * n);
  close_single(&s);
  dynq_weight_free(weight);
}

static void check_integers(void) {
  check_begin("", "dynq.MatMulIntegerPacked");
  for (size_t i = 0; i < 120; i++) {
    const size_t m = random_between(1, 20), n = random_below(40), k = random_below(60);
    check_case("%zu x %zu x %zu", m, n, k);
    check_integer(m, n, k, i % 2 != 0, (int)(i % 3), pool_of(i % POOL_MODES));
  }
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  check_end();
}

/* ---- Reshape and Shape ---- */

/* The shape that Reshape gives a (2, 3, 4), or a failure that names `named`. */
static void check_reshape(size_t count, const int64_t *shape, bool allow_zero, size_t rank, const size_t *dims,
                          const char *named) {
  static float x[24];
  plan_writer w = {0};
  dynq_tensor out;
  const uint32_t inputs[] = {
      plan_input(&w, "x", DYNQ_FLOAT32, 3, (const int64_t[]){2, 3, 4}),
      plan_constant(&w, "shape", DYNQ_INT64, 1, (const int64_t[]){(int64_t)count}, shape),
  };
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "reshape", "Reshape", 2, inputs, 1, &y);
  if (allow_zero) {
    plan_int(&w, "allowzero", 1);
  }
  plan_output(&w, "y", y);
  single s = open_single(&w, NULL);
  const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){2, 3, 4}, x);
  fill_f32(FILL_UNIT, x, 24);
  if (named != NULL) {
    CHECK_REFUSED(named, dynq_model_run(s.session, &in, &out));
  } else {
    CHECK_STATUS(DYNQ_OK, dynq_model_run(s.session, &in, &out));
    CHECK(out.rank == rank && memcmp(out.dims, dims, rank * sizeof *dims) == 0);
    check_same("y", CHECK_F32, x, out.data, 24);
  }
  close_single(&s);
}

static void check_shape(bool start, bool end, int64_t from, int64_t to, size_t count, const int64_t *sizes) {
  static float x[24];
  plan_writer w = {0};
  dynq_tensor out;
  const uint32_t input = any_input(&w, "x", DYNQ_FLOAT32, 3), y = plan_computed(&w, "y");
  plan_node(&w, "shape", "Shape", 1, &input, 1, &y);
  if (start) {
    plan_int(&w, "start", from);
  }
  if (end) {
    plan_int(&w, "end", to);
  }
  plan_output(&w, "y", y);
  single s = open_single(&w, NULL);
  const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 3, (const size_t[]){2, 3, 4}, x);
  CHECK_STATUS(DYNQ_OK, dynq_model_run(s.session, &in, &out));
  CHECK(out.dtype == DYNQ_INT64 && out.rank == 1 && out.dims[0] == count);
  CHECK(count == 0 || memcmp(out.data, sizes, count * sizeof *sizes) == 0);
  close_single(&s);
}

static void check_shapes(void) {
  check_begin("", "Reshape and Shape");
  check_case("Reshape");
  check_reshape(2, (const int64_t[]){6, 4}, false, 2, (const size_t[]){6, 4}, NULL);
  check_reshape(2, (const int64_t[]){-1, 8}, false, 2, (const size_t[]){3, 8}, NULL);
  check_reshape(3, (const int64_t[]){0, 0, -1}, false, 3, (const size_t[]){2, 3, 4}, NULL);
  check_reshape(4, (const int64_t[]){4, -1, 1, 1}, false, 4, (const size_t[]){4, 6, 1, 1}, NULL);
  check_reshape(2, (const int64_t[]){5, 5}, false, 0, NULL, "25 elements; the input has 24");
  check_reshape(2, (const int64_t[]){-1, 5}, false, 0, NULL, "no multiple of 5");
  check_reshape(2, (const int64_t[]){-1, -1}, false, 0, NULL, "size -1 of dimension 1");
  check_reshape(1, (const int64_t[]){-2}, false, 0, NULL, "size -2");
  check_reshape(4, (const int64_t[]){2, 3, 4, 0}, false, 0, NULL, "size 0 of dimension 3");
  check_reshape(2, (const int64_t[]){0, 4}, true, 0, NULL, "takes 0 elements");
  check_reshape(2, (const int64_t[]){INT64_MAX, INT64_MAX}, true, 0, NULL, "elements");
  check_case("Shape");
  check_shape(false, false, 0, 0, 3, (const int64_t[]){2, 3, 4});
  check_shape(true, false, 1, 0, 2, (const int64_t[]){3, 4});
  check_shape(true, true, -2, -1, 1, (const int64_t[]){3});
  check_shape(true, true, -9, 9, 3, (const int64_t[]){2, 3, 4});
  check_shape(true, true, 2, 1, 0, NULL);
  check_shape(true, true, INT64_MIN, INT64_MAX, 3, (const int64_t[]){2, 3, 4});
  check_end();
}

/* ---- A view of a constant, by an op with an input that is none ---- */

static void check_constant_view(void) {
  const float x[3] = {1.0f, 2.0f, 3.0f}, ratio = 0.5f;
  plan_writer w = {0};
  dynq_tensor out;
  check_begin("", "a view of a constant");
  check_case("Dropout");
  const uint32_t inputs[] = {plan_constant(&w, "x", DYNQ_FLOAT32, 1, (const int64_t[]){3}, x),
                             plan_input(&w, "ratio", DYNQ_FLOAT32, 0, NULL)};
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "dropout", "Dropout", 2, inputs, 1, &y);
  plan_output(&w, "y", y);
  single s = open_single(&w, NULL);
  const dynq_tensor in = tensor_of(DYNQ_FLOAT32, 0, NULL, &ratio);
  CHECK_STATUS(DYNQ_OK, dynq_model_run(s.session, &in, &out));
  CHECK(out.data != NULL && memcmp(out.data, x, sizeof x) == 0);
  close_single(&s);
  check_end();
}

void check_model_ops(void) {
  check_constant_view();
  check_matmuls();
  check_integers();
  check_shapes();
}
