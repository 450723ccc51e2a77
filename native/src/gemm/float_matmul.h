/*
 * The float32 multiply of matrices, in parallel.
 */
#ifndef DYNQ_FLOAT_MATMUL_H
#define DYNQ_FLOAT_MATMUL_H

#include "../base/dispatch.h"
#include "batch.h"

/* y = activation(alpha a b + bias + residual), for each pair of matrices of a batch. */
typedef struct dynq_float_matmul {
  const dynq_kernels *kernels;
  size_t m, n, k;
  const float *a, *b; /* (m, k) and (k, n), or (n, k) where transposed */
  bool b_transposed;
  float alpha;
  const float *bias;     /* (n) or NULL */
  const float *residual; /* (m, n) or NULL; may be y */
  dynq_activation activation;
  float activation_alpha, activation_beta;
  float min, max; /* clamp where min < max */
  float *y;
  const dynq_batch *batch; /* or NULL */
} dynq_float_matmul;

/* k rows of `columns` values, `stride` apart, as panels of 16 columns; the last one's missing values are not written. */
void dynq_pack_rows(size_t k, size_t columns, const float *b, size_t stride, float *to);
/* Bytes that it works in with up to `count` threads; SIZE_MAX on overflow. It looks at m, n, k, b_transposed and batch
 * alone. */
size_t dynq_float_matmul_bytes(const dynq_float_matmul *p, size_t count);
/* `memory`: that many bytes, aligned to 64. */
void dynq_float_matmul_run(const dynq_float_matmul *p, void *memory, const dynq_threads *threads, size_t count);

#endif
