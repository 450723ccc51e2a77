/*
 * Panels of a transposed matrix, written once over the abstraction of vec_<isa>.h, which is included first.
 */
#ifndef DYNQ_TRANSPOSE_H
#define DYNQ_TRANSPOSE_H

#include "../../kernels.h"

#include <string.h>

static void vector_pack_transposed(size_t n, size_t k, const float *from, size_t stride, float *to) {
  for (size_t j = 0; j < n; j += DYNQ_PANEL, from += DYNQ_PANEL * stride, to += DYNQ_PANEL * k) {
    const size_t rows = n - j < DYNQ_PANEL ? n - j : DYNQ_PANEL;
    size_t i = 0;
    if (rows == DYNQ_PANEL) {
      for (; i + 4 <= k; i += 4) {
        v_transpose(from + i, stride, to + i * DYNQ_PANEL);
      }
    } else if (k != 0) {
      memset(to, 0, k * DYNQ_PANEL * sizeof *to);
    }
    for (size_t r = 0; r < rows; r++) {
      for (size_t c = i; c < k; c++) {
        to[c * DYNQ_PANEL + r] = from[r * stride + c];
      }
    }
  }
}

#endif
