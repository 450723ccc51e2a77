/*
 * Det: the determinant of square matrices, by Gauss's elimination in float64 with the largest pivot of each column,
 * rounded to float32 once. Of no rows it is 1.
 */
#include "../base/elements.h"
#include "checks.h"
#include "walk.h"

#include <math.h>
#include <string.h>

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Det, X);
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Det, X), DYNQ_SET_FLOAT));
  if (x->rank < 2 || x->dims[x->rank - 1] != x->dims[x->rank - 2]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X is not of square matrices: its last two sizes differ");
  }
  const size_t n = x->dims[x->rank - 1];
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank - 2, x->dims);
  node->scratch_bytes = dynq_size_mul(dynq_size_mul(n, n), sizeof(double));
  return DYNQ_OK;
}

static double determinant(size_t n, double *a) {
  double product = 1.0;
  for (size_t column = 0; column < n; column++) {
    size_t pivot = column;
    for (size_t row = column + 1; row < n; row++) {
      pivot = fabs(a[row * n + column]) > fabs(a[pivot * n + column]) ? row : pivot;
    }
    const double largest = a[pivot * n + column];
    product *= pivot == column ? largest : -largest;
    if (largest == 0.0) {
      return 0.0;
    }
    for (size_t j = column; j < n && pivot != column; j++) {
      const double above = a[column * n + j];
      a[column * n + j] = a[pivot * n + j];
      a[pivot * n + j] = above;
    }
    for (size_t row = column + 1; row < n; row++) {
      const double factor = a[row * n + column] / largest;
      for (size_t j = column + 1; j < n; j++) {
        a[row * n + j] -= factor * a[column * n + j];
      }
    }
  }
  return product;
}

/* One part: the matrices share the memory. */
static void find_all(const void *arg, size_t begin, size_t end) {
  const dynq_op_node *node = arg;
  const dynq_op_tensor *x = DYNQ_INPUT(node, Det, X);
  const size_t n = x->dims[x->rank - 1];
  (void)begin;
  (void)end;
  for (size_t i = 0; i < node->outputs[0]->count; i++) {
    double *a = node->scratch;
    for (size_t j = 0; j < n * n; j++) {
      a[j] = (double)((const float *)x->data)[i * n * n + j];
    }
    ((float *)node->outputs[0]->data)[i] = dynq_one_nan((float)determinant(n, a));
  }
}

static dynq_status run(const dynq_op_node *node) {
  dynq_op_parallel(node, 1, 0, find_all, node);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Det = {infer, run};
