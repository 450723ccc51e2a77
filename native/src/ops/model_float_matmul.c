/*
 * Products in float32: MatMul, Gemm, dynq.LinearFloat.
 */
#include "../alloc.h"
#include "../status.h"
#include "checks.h"
#include "float_matmul.h"
#include "model_linear.h"

#include <string.h>

static size_t round_up(size_t bytes) { return dynq_size_add(bytes, 63) / 64 * 64; }

/* ---- MatMul ---- */

typedef struct product {
  dynq_op_tensor a, b;
  dynq_batch batch;
  dynq_float_matmul matmul; /* points into the others */
} product;

static dynq_status find_product(const dynq_op_node *node, product *p) {
  p->a = dynq_batch_as_matrix(node->inputs[0], true);
  p->b = dynq_batch_as_matrix(node->inputs[1], false);
  DYNQ_TRY(dynq_batch_find(&p->a, &p->b, &p->batch));
  p->matmul = (dynq_float_matmul){.kernels = node->kernels,
                                  .m = p->batch.m,
                                  .n = p->batch.n,
                                  .k = p->batch.k,
                                  .a = p->a.data,
                                  .b = p->b.data,
                                  .alpha = 1.0f,
                                  .y = node->outputs[0]->data};
  if (dynq_op_product(&p->b, 0, p->b.rank - 2) ==
      1) { /* one matrix for all: the rows of the batch are rows of one product */
    p->matmul.m = dynq_size_mul(p->batch.m, p->batch.count);
  } else {
    p->matmul.batch = &p->batch;
    p->matmul.a_tensor = &p->a;
    p->matmul.b_tensor = &p->b;
  }
  return DYNQ_OK;
}

static dynq_status infer_matmul(dynq_op_node *node) {
  product p;
  DYNQ_TRY(dynq_op_check_f32(node, 0, "A", 1));
  DYNQ_TRY(dynq_op_check_f32(node, 1, "B", 1));
  DYNQ_TRY(find_product(node, &p));
  dynq_batch_set_output(node, &p.batch, DYNQ_FLOAT32);
  node->scratch_bytes = dynq_float_matmul_bytes(&p.matmul, node->thread_count);
  return DYNQ_OK;
}

static dynq_status run_matmul(const dynq_op_node *node) {
  product p;
  DYNQ_TRY(find_product(node, &p));
  dynq_float_matmul_run(&p.matmul, node->scratch, node->threads, node->thread_count);
  return DYNQ_OK;
}

const dynq_op dynq_op_MatMul = {
    .name = "MatMul",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .infer = infer_matmul,
    .run = run_matmul,
};

/* ---- Gemm ---- */

enum { GEMM_ALPHA, GEMM_BETA, GEMM_TRANS_A, GEMM_TRANS_B };

/* What is added comes as a bias where it is one row and beta is 1, as a residual where it is a whole matrix and beta
 * is 1; else beta C is written out first. */
typedef struct gemm {
  dynq_float_matmul matmul;
  const dynq_op_tensor *c;
  float beta;
  bool a_transposed;
  bool c_written;
  size_t a_bytes, c_bytes; /* of the scratch, in this order; then the multiply's */
} gemm;

static dynq_status find_gemm(const dynq_op_node *node, gemm *g) {
  const dynq_op_tensor *a = node->inputs[0], *b = node->inputs[1];
  g->c = dynq_op_input(node, 2);
  g->beta = dynq_op_float(node, GEMM_BETA, 1.0f);
  g->a_transposed = dynq_op_int(node, GEMM_TRANS_A, 0) != 0;
  const bool b_transposed = dynq_op_int(node, GEMM_TRANS_B, 0) != 0;
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
                                  .alpha = dynq_op_float(node, GEMM_ALPHA, 1.0f),
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
  const dynq_op_tensor *c = dynq_op_input(node, 2);
  gemm g;
  DYNQ_TRY(dynq_op_check_f32(node, 0, "A", 2));
  DYNQ_TRY(dynq_op_check_f32(node, 1, "B", 2));
  DYNQ_TRY(c != NULL ? dynq_op_check_f32(node, 2, "C", 0) : DYNQ_OK);
  if (node->inputs[0]->rank != 2 || node->inputs[1]->rank != 2 || (c != NULL && c->rank > 2)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "A, B and C have %zu, %zu and %zu dimensions; expected 2, 2 and up to 2", node->inputs[0]->rank,
                     node->inputs[1]->rank, c != NULL ? c->rank : 0);
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
    transpose(g.matmul.m, g.matmul.k, node->inputs[0]->data, a);
    g.matmul.a = a;
  }
  if (g.c_bytes != 0) {
    float *c = (float *)(void *)(scratch + g.a_bytes);
    write_c(&g, c);
    g.matmul.residual = c;
  }
  void *memory = scratch != NULL ? scratch + g.a_bytes + g.c_bytes : NULL;
  dynq_float_matmul_run(&g.matmul, memory, node->threads, node->thread_count);
  return DYNQ_OK;
}

const dynq_op dynq_op_Gemm = {
    .name = "Gemm",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = {[GEMM_ALPHA] = {"alpha", DYNQ_ATTRIBUTE_FLOAT},
                   [GEMM_BETA] = {"beta", DYNQ_ATTRIBUTE_FLOAT},
                   [GEMM_TRANS_A] = {"transA", DYNQ_ATTRIBUTE_INT},
                   [GEMM_TRANS_B] = {"transB", DYNQ_ATTRIBUTE_INT}},
    .infer = infer_gemm,
    .run = run_gemm,
};

/* ---- dynq.LinearFloat ---- */

enum { LINEAR_ACTIVATION };
enum { LINEAR_BIAS = 2, LINEAR_RESIDUAL = 3 };

static dynq_float_matmul linear(const dynq_op_node *node) {
  const dynq_op_tensor *bias = dynq_op_input(node, LINEAR_BIAS), *residual = dynq_op_input(node, LINEAR_RESIDUAL);
  return (dynq_float_matmul){.kernels = node->kernels,
                             .m = dynq_op_product(node->inputs[0], 0, node->inputs[0]->rank - 1),
                             .n = node->inputs[1]->dims[1],
                             .k = node->inputs[1]->dims[0],
                             .a = node->inputs[0]->data,
                             .b = node->inputs[1]->data,
                             .alpha = 1.0f,
                             .bias = bias != NULL ? bias->data : NULL,
                             .residual = residual != NULL ? residual->data : NULL,
                             .y = node->outputs[0]->data};
}

static dynq_status infer_linear(dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *weight = node->inputs[1];
  const dynq_op_tensor *bias = dynq_op_input(node, LINEAR_BIAS), *residual = dynq_op_input(node, LINEAR_RESIDUAL);
  size_t dims[DYNQ_MAX_RANK];
  dynq_activation activation;
  DYNQ_TRY(dynq_op_check_f32(node, 0, "x", 1));
  DYNQ_TRY(dynq_op_check_f32(node, 1, "weight", 2));
  DYNQ_TRY(dynq_op_activation(node, LINEAR_ACTIVATION, &activation));
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
  DYNQ_TRY(dynq_op_activation(node, LINEAR_ACTIVATION, &p.activation));
  dynq_float_matmul_run(&p, node->scratch, node->threads, node->thread_count);
  return DYNQ_OK;
}

const dynq_op dynq_op_LinearFloat = {
    .name = "dynq.LinearFloat",
    .min_inputs = 2,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1 << LINEAR_RESIDUAL,
    .attributes = {[LINEAR_ACTIVATION] = {"activation", DYNQ_ATTRIBUTE_STRING}},
    .infer = infer_linear,
    .run = run_linear,
};
