/*
 * Panels of a transposed matrix and the like, written once over the abstraction of vec_<isa>.h, which is included first.
 */
#ifndef DYNQ_TRANSPOSE_H
#define DYNQ_TRANSPOSE_H

#include "../kernels.h"

#include "inline.h"

#include <string.h>

static void vector_pack_transposed(size_t n, size_t k, const float *from, size_t stride, float *to) {
  const size_t whole = k / 4 * 4;
  for (size_t j = 0; j < n; j += DYNQ_PANEL, from += DYNQ_PANEL * stride, to += DYNQ_PANEL * k) {
    const size_t rows = n - j < DYNQ_PANEL ? n - j : DYNQ_PANEL, fours = rows / 4 * 4;
    if (rows < DYNQ_PANEL && k != 0) { /* `to` may be NULL if there is nothing */
      memset(to, 0, k * DYNQ_PANEL * sizeof *to);
    }
    for (size_t i = 0; i < whole; i += 4) {
      if (rows == DYNQ_PANEL) {
        v_transpose16(from + i, stride, to + i * DYNQ_PANEL);
      }
      for (size_t r = 0; rows != DYNQ_PANEL && r < fours; r += 4) {
        v_transpose4(from + r * stride + i, stride, to + i * DYNQ_PANEL + r);
      }
    }
    for (size_t r = 0; r < rows; r++) { /* what is left of each row, all of the last rows */
      for (size_t i = r < fours ? whole : 0; i < k; i++) {
        to[i * DYNQ_PANEL + r] = from[r * stride + i];
      }
    }
  }
}

/* A loop for the strides of most convolutions, since a compiler makes shuffles of a stride that it knows. */
V_INLINE void split_by(size_t step, size_t parts, size_t n, const float *from, float *restrict to, size_t stride) {
  for (size_t part = 0; part < parts; part++, from++, to += stride) {
    for (size_t i = 0; i < n; i++) {
      to[i] = from[i * step];
    }
  }
}

static void vector_split(size_t step, size_t parts, size_t n, const float *from, float *to, size_t stride) {
  if (step == 2) {
    split_by(2, parts, n, from, to, stride);
  } else {
    split_by(step, parts, n, from, to, stride);
  }
}

#endif
