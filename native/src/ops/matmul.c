/*
 * Products in float32: MatMul, Gemm, dynq.LinearFloat. MatMul of int32 and int64 is plain sums, which wrap.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "../gemm/float_matmul.h"
#include "checks.h"
#include "layer_attributes.h"
#include "matrices.h"
#include "walk.h"

#include <string.h>

static size_t round_up(size_t bytes) { return dynq_size_add(bytes, 63) / 64 * 64; }

/* ---- MatMul ---- */

typedef struct product {
  dynq_op_tensor a, b;
  dynq_batch batch;
  dynq_float_matmul matmul; /* points into the others */
  void *y;
} product;

static dynq_status find_product(const dynq_op_node *node, product *p) {
  p->a = dynq_batch_as_matrix(DYNQ_INPUT(node, MatMul, A), true);
  p->b = dynq_batch_as_matrix(DYNQ_INPUT(node, MatMul, B), false);
  DYNQ_TRY(dynq_batch_find(&p->a, &p->b, &p->batch));
  p->matmul = (dynq_float_matmul){.kernels = node->kernels,
                                  .m = p->batch.m,
                                  .n = p->batch.n,
                                  .k = p->batch.k,
                                  .a = p->a.data,
                                  .b = p->b.data,
                                  .alpha = 1.0f,
                                  .y = node->outputs[0]->data};
  p->y = node->outputs[0]->data;
  if (dynq_op_product(&p->b, 0, p->b.rank - 2) ==
      1) { /* one matrix for all: the rows of the batch are rows of one product */
    p->matmul.m = dynq_size_mul(p->batch.m, p->batch.count);
  } else {
    p->matmul.batch = &p->batch;
  }
  return DYNQ_OK;
}

/* Rows of all products: row i of the output is that of A times a matrix of B. */
#define INTEGER_ROWS(name, T, UNSIGNED)                                                                                \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const product *p = arg;                                                                                            \
    const size_t m = p->batch.m, n = p->batch.n, k = p->batch.k;                                                       \
    for (size_t i = begin; i < end; i++) {                                                                             \
      const size_t a_matrix = dynq_batch_matrix(&p->batch, p->batch.a_steps, i / m);                                   \
      const size_t b_matrix = dynq_batch_matrix(&p->batch, p->batch.b_steps, i / m);                                   \
      const T *a = (const T *)p->a.data + (a_matrix * m + i % m) * k, *b = (const T *)p->b.data + b_matrix * k * n;    \
      T *y = (T *)p->y + i * n;                                                                                        \
      memset(y, 0, n * sizeof *y);                                                                                     \
      for (size_t j = 0; j < k; j++) {                                                                                 \
        for (size_t column = 0; column < n; column++) {                                                                \
          y[column] = (T)((UNSIGNED)y[column] + (UNSIGNED)a[j] * (UNSIGNED)b[j * n + column]);                         \
        }                                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
  }
INTEGER_ROWS(multiply_int64, int64_t, uint64_t)
INTEGER_ROWS(multiply_int32, int32_t, uint32_t)

static dynq_status infer_matmul(dynq_op_node *node) {
  product p;
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(MatMul, A), DYNQ_SET_FLOAT | DYNQ_SET_INDEX));
  for (size_t i = 0; i < 2; i++) {
    if (node->inputs[i]->rank == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input %zu has no dimensions; expected 1 or more", i);
    }
  }
  DYNQ_TRY(find_product(node, &p));
  dynq_batch_set_output(node, &p.batch, p.a.dtype);
  if (p.a.dtype != DYNQ_FLOAT32) {
    return DYNQ_OK;
  }
  node->scratch_bytes = dynq_float_matmul_bytes(&p.matmul, node->thread_count);
  return DYNQ_OK;
}

static dynq_status run_matmul(const dynq_op_node *node) {
  product p;
  DYNQ_TRY(find_product(node, &p));
  if (p.a.dtype != DYNQ_FLOAT32) {
    const size_t rows = p.batch.n != 0 ? node->outputs[0]->count / p.batch.n : 0;
    dynq_op_parallel(node, rows, dynq_size_mul(dynq_size_mul(node->outputs[0]->count, p.batch.k), sizeof(int32_t)),
                     p.a.dtype == DYNQ_INT64 ? multiply_int64 : multiply_int32, &p);
    return DYNQ_OK;
  }
  dynq_float_matmul_run(&p.matmul, node->scratch, node->threads, node->thread_count);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_MatMul = {infer_matmul, run_matmul};

/* ---- Gemm ---- */

/* If beta is 1, C is added as a bias if it is one row, as a residual if it is a whole matrix. Otherwise beta C is
 * written out first. */
typedef struct gemm {
  dynq_float_matmul matmul;
  const dynq_op_tensor *c;
  float beta;
  bool a_transposed;
  bool c_written;
  size_t a_bytes, c_bytes; /* of the scratch, in this order; then the multiply's */
} gemm;

static dynq_status find_gemm(const dynq_op_node *node, gemm *g) {
  const dynq_op_tensor *a = DYNQ_INPUT(node, Gemm, A), *b = DYNQ_INPUT(node, Gemm, B);
  g->c = DYNQ_GIVEN(node, Gemm, C);
  g->beta = dynq_op_float(node, DYNQ_ATTR(Gemm, beta));
  g->a_transposed = dynq_op_int(node, DYNQ_ATTR(Gemm, transA)) != 0;
  const bool b_transposed = dynq_op_int(node, DYNQ_ATTR(Gemm, transB)) != 0;
  const size_t m = a->dims[g->a_transposed ? 1 : 0], k = a->dims[g->a_transposed ? 0 : 1];
  const size_t n = b->dims[b_transposed ? 0 : 1];
  if (b->dims[b_transposed ? 1 : 0] != k) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "A has %zu columns and B %zu rows", k, b->dims[b_transposed ? 1 : 0]);
  }
  g->matmul = (dynq_float_matmul){.kernels = node->kernels,
                                  .m = m,
                                  .n = n,
                                  .k = k,
                                  .a = a->data,
                                  .b = b->data,
                                  .b_transposed = b_transposed,
                                  .alpha = dynq_op_float(node, DYNQ_ATTR(Gemm, alpha)),
                                  .y = node->outputs[0]->data};
  g->c_written = false;
  if (g->c != NULL) {
    const size_t columns = g->c->rank >= 1 ? g->c->dims[g->c->rank - 1] : 1;
    const size_t rows = g->c->rank == 2 ? g->c->dims[0] : 1;
    if ((rows != 1 && rows != m) || (columns != 1 && columns != n)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "C is %zu x %zu; expected what broadcasts to %zu x %zu", rows,
                       columns, m, n);
    }
    if (g->beta == 1.0f && columns == n && rows == 1) {
      g->matmul.bias = g->c->data;
    } else if (g->beta == 1.0f && columns == n) {
      g->matmul.residual = g->c->data;
    } else {
      g->c_written = true;
    }
  }
  g->a_bytes = g->a_transposed ? round_up(dynq_size_mul(dynq_size_mul(m, k), sizeof(float))) : 0;
  g->c_bytes = g->c_written ? round_up(dynq_size_mul(dynq_size_mul(m, n), sizeof(float))) : 0;
  return DYNQ_OK;
}

static dynq_status infer_gemm(dynq_op_node *node) {
  const dynq_op_tensor *a = DYNQ_INPUT(node, Gemm, A), *b = DYNQ_INPUT(node, Gemm, B), *c = DYNQ_GIVEN(node, Gemm, C);
  gemm g;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Gemm, A), "A", 2));
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Gemm, B), "B", 2));
  DYNQ_TRY(c != NULL ? dynq_op_check_f32(node, DYNQ_IN(Gemm, C), "C", 0) : DYNQ_OK);
  if (a->rank != 2 || b->rank != 2 || (c != NULL && c->rank > 2)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "A, B and C have %zu, %zu and %zu dimensions; expected 2, 2 and up to 2", a->rank, b->rank,
                     c != NULL ? c->rank : 0);
  }
  DYNQ_TRY(find_gemm(node, &g));
  const size_t dims[2] = {g.matmul.m, g.matmul.n};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, 2, dims);
  node->scratch_bytes =
      dynq_size_add(dynq_size_add(g.a_bytes, g.c_bytes), dynq_float_matmul_bytes(&g.matmul, node->thread_count));
  return DYNQ_OK;
}

static void transpose(size_t m, size_t k, const float *from, float *to) {
  for (size_t i = 0; i < m; i++) {
    for (size_t j = 0; j < k; j++) {
      to[i * k + j] = from[j * m + i];
    }
  }
}

static void write_c(const gemm *g, float *to) {
  const size_t columns = g->c->rank >= 1 ? g->c->dims[g->c->rank - 1] : 1;
  const size_t rows = g->c->rank == 2 ? g->c->dims[0] : 1;
  const float *c = g->c->data;
  for (size_t i = 0; i < g->matmul.m; i++) {
    const float *row = c + (rows != 1 ? i * columns : 0);
    for (size_t j = 0; j < g->matmul.n; j++) {
      to[i * g->matmul.n + j] = g->beta * row[columns != 1 ? j : 0];
    }
  }
}

static dynq_status run_gemm(const dynq_op_node *node) {
  gemm g;
  DYNQ_TRY(find_gemm(node, &g));
  char *scratch = node->scratch;
  if (g.matmul.m == 0 || g.matmul.n == 0) {
    return DYNQ_OK;
  }
  if (g.a_bytes != 0) {
    float *a = (float *)(void *)scratch;
    transpose(g.matmul.m, g.matmul.k, DYNQ_INPUT(node, Gemm, A)->data, a);
    g.matmul.a = a;
  }
  if (g.c_bytes != 0) {
    float *c = (float *)(void *)(scratch + g.a_bytes);
    write_c(&g, c);
    g.matmul.residual = c;
  }
  void *memory = scratch + g.a_bytes + g.c_bytes;
  dynq_float_matmul_run(&g.matmul, memory, node->threads, node->thread_count);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Gemm = {infer_gemm, run_gemm};

/* ---- dynq.LinearFloat ---- */

static dynq_float_matmul linear(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_LinearFloat, x), *weight = DYNQ_INPUT(node, dynq_LinearFloat, weight);
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, dynq_LinearFloat, bias),
                       *residual = DYNQ_GIVEN(node, dynq_LinearFloat, residual);
  return (dynq_float_matmul){.kernels = node->kernels,
                             .m = dynq_op_product(x, 0, x->rank - 1),
                             .n = weight->dims[1],
                             .k = weight->dims[0],
                             .a = x->data,
                             .b = weight->data,
                             .alpha = 1.0f,
                             .bias = bias != NULL ? bias->data : NULL,
                             .residual = residual != NULL ? residual->data : NULL,
                             .y = node->outputs[0]->data};
}

DYNQ_PARAMETERS_FOLLOW(dynq_LinearFloat);

static dynq_status infer_linear(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, dynq_LinearFloat, x), *weight = DYNQ_INPUT(node, dynq_LinearFloat, weight);
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, dynq_LinearFloat, bias),
                       *residual = DYNQ_GIVEN(node, dynq_LinearFloat, residual);
  size_t dims[DYNQ_MAX_RANK];
  dynq_activation activation;
  float alpha, beta, min, max;
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(dynq_LinearFloat, x), "x", 1));
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(dynq_LinearFloat, weight), "weight", 2));
  DYNQ_TRY(dynq_op_activation(node, DYNQ_ATTR(dynq_LinearFloat, activation), &activation, &alpha, &beta));
  DYNQ_TRY(dynq_op_clamp(node, DYNQ_ATTR(dynq_LinearFloat, min), &min, &max));
  if (weight->rank != 2 || x->dims[x->rank - 1] != weight->dims[0]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "x has %zu columns; the weight, of %zu dimensions, %zu rows",
                     x->dims[x->rank - 1], weight->rank, weight->dims[0]);
  }
  memcpy(dims, x->dims, sizeof dims);
  dims[x->rank - 1] = weight->dims[1];
  DYNQ_TRY(bias != NULL ? dynq_op_check_shape(bias, "bias", 1, &weight->dims[1]) : DYNQ_OK);
  DYNQ_TRY(residual != NULL ? dynq_op_check_shape(residual, "residual", x->rank, dims) : DYNQ_OK);
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, dims);
  const dynq_float_matmul p = linear(node);
  node->scratch_bytes = dynq_float_matmul_bytes(&p, node->thread_count);
  return DYNQ_OK;
}

static dynq_status run_linear(const dynq_op_node *node) {
  dynq_float_matmul p = linear(node);
  DYNQ_TRY(dynq_op_activation(node, DYNQ_ATTR(dynq_LinearFloat, activation), &p.activation, &p.activation_alpha,
                              &p.activation_beta));
  DYNQ_TRY(dynq_op_clamp(node, DYNQ_ATTR(dynq_LinearFloat, min), &p.min, &p.max));
  dynq_float_matmul_run(&p, node->scratch, node->threads, node->thread_count);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_LinearFloat = {infer_linear, run_linear};
