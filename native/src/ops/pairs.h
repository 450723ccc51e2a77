/*
 * Inner loops (walk.h) over pairs of elements, for elementwise ops of two inputs.
 */
#ifndef DYNQ_PAIRS_H
#define DYNQ_PAIRS_H

#include "../base/elements.h"
#include "checks.h"
#include "walk.h"

/* static void NAME(...): out = EXPRESSION of a and b for each pair. OUT, A and B are types. The three first loops are
 * those that a compiler vectorises: both without gaps, or one of them a constant. */
#define DYNQ_PAIRS(NAME, OUT, A, B, EXPRESSION)                                                                        \
  static void NAME(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {                          \
    const bool whole = stride[0] == (ptrdiff_t)sizeof(OUT);                                                            \
    const bool a_whole = whole && stride[1] == (ptrdiff_t)sizeof(A);                                                   \
    const bool b_whole = whole && stride[2] == (ptrdiff_t)sizeof(B);                                                   \
    OUT *out = (OUT *)(void *)at[0];                                                                                   \
    const A *pa = (const A *)(const void *)at[1];                                                                      \
    const B *pb = (const B *)(const void *)at[2];                                                                      \
    (void)context;                                                                                                     \
    if (a_whole && b_whole) {                                                                                          \
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                \
        const A a = pa[i];                                                                                             \
        const B b = pb[i];                                                                                             \
        out[i] = EXPRESSION;                                                                                           \
      }                                                                                                                \
    } else if (a_whole && stride[2] == 0) {                                                                            \
      const B b = *pb;                                                                                                 \
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                \
        const A a = pa[i];                                                                                             \
        out[i] = EXPRESSION;                                                                                           \
      }                                                                                                                \
    } else if (b_whole && stride[1] == 0) {                                                                            \
      const A a = *pa;                                                                                                 \
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {                                                                \
        const B b = pb[i];                                                                                             \
        out[i] = EXPRESSION;                                                                                           \
      }                                                                                                                \
    } else {                                                                                                           \
      for (size_t i = 0; i < n; i++) {                                                                                 \
        const A a = *(const A *)(const void *)(at[1] + (ptrdiff_t)i * stride[1]);                                      \
        const B b = *(const B *)(const void *)(at[2] + (ptrdiff_t)i * stride[2]);                                      \
        *(OUT *)(void *)(at[0] + (ptrdiff_t)i * stride[0]) = EXPRESSION;                                               \
      }                                                                                                                \
    }                                                                                                                  \
  }

/* Output 0: `dtype` and the shape that inputs 0 to input_count are broadcast to. */
dynq_status dynq_pairs_shape(dynq_op_node *node, dynq_dtype dtype);
/* Output 0 = inner of a and b, broadcast. */
void dynq_pairs_walk(const dynq_op_node *node, dynq_walk_inner inner, const void *context, const dynq_op_tensor *a,
                     const dynq_op_tensor *b);
/* Runs `inner` over inputs 0 and 1. */
dynq_status dynq_pairs_run(const dynq_op_node *node, dynq_walk_inner inner, const void *context);

#endif
