/*
 * Depthwise convolution, written once over the abstraction of vec_<isa>.h, which is included first: positions of a row
 * of the output are the lanes, and the input is read where it lies.
 *
 * Each sum is a single chain over the taps, row by row, from 0. Kernels of 3, 5 and 7 by as many make R rows of the output at
 * a time, so a vector of the input is loaded once for all rows that see it. At the edges lanes outside of a row load
 * as 0, and rows outside of the plane are a row of zeros. Names begin with matmul_ since there are multiply-adds.
 *
 *   3 x 3, stride 1, R = 4   6 rows x 3 loads for 36 multiply-adds; 9 weights stay in registers, if there are 32
 */
#ifndef DYNQ_DEPTHWISE_H
#define DYNQ_DEPTHWISE_H

#include "../kernels.h"

#include "activations.h"
#include "places.h"
#include "registers.h"

#include <math.h>

enum {
  DEPTHWISE_TAPS = 7,  /* the largest kernel that is unrolled; */
  DEPTHWISE_ROWS = 4,  /* its rows of the output, ... */
  DEPTHWISE_LINES = 13 /* ... and those of the input that they see with a stride of 2 */
};

/* One vector of places from p on, S apart; if not `inside`, only the lanes that are given. */
V_INLINE vf matmul_depthwise_load(const size_t S, const bool inside, const float *p, const vl *lanes) {
  const vf low = inside ? vf_load(p) : vf_load_lanes(p, lanes[0]);
  return S == 1 ? low : vf_even(low, inside ? vf_load(p + V_LANES) : vf_load_lanes(p + V_LANES, lanes[1]));
}

/* Finishes the sums of a plane; without a bias it adds -0, which changes nothing. */
typedef struct depthwise_end {
  vf bias, least;
} depthwise_end;

V_INLINE depthwise_end matmul_depthwise_end(const dynq_depthwise *o, size_t plane) {
  return (depthwise_end){vf_set1(o->bias != NULL ? o->bias[plane] : -0.0f), vf_set1(o->relu ? 0.0f : -INFINITY)};
}

/* W vectors of a row of the output, or `left` positions of one. */
V_INLINE void matmul_depthwise_store(const size_t W, const bool partial, const depthwise_end *end, const vf *sum,
                                     float *y, size_t left) {
  const vf nan = vi_as_f(vi_set1(V_NAN));
#pragma GCC unroll 4
  for (size_t v = 0; v < W; v++) {
    const vf s = vf_replace_nan(vf_max(end->least, vf_add(sum[v], end->bias)), nan); /* max lets a NaN pass */
    if (partial) {
      vf_store_n(y, left, s);
    } else {
      vf_store(y + v * V_LANES, s);
    }
  }
}

/* Returns whether W vectors of positions from column j on, and all that they see, lie in the rows. */
V_INLINE bool matmul_depthwise_fits(const size_t W, const size_t S, const dynq_depthwise *o, size_t j) {
  const ptrdiff_t place = o->first[1] + (ptrdiff_t)(j * S);
  const size_t reach = W * V_LANES * S + (o->taps[1] - 1) * o->step[1];
  return j + W * V_LANES <= o->columns && place >= 0 && (size_t)place + reach <= o->in[1];
}

/* ---- Any kernel ---- */

/* W vectors of row i of a plane from column j on, or `left` positions of one. */
V_INLINE void matmul_depthwise_any(const size_t W, const size_t S, const bool inside, const dynq_depthwise *o,
                                   size_t plane, size_t i, size_t j, size_t left) {
  const depthwise_end end = matmul_depthwise_end(o, plane);
  const float *x = o->x + plane * o->in[0] * o->in[1], *w = o->w + plane * o->taps[0] * o->taps[1];
  const ptrdiff_t column = o->first[1] + (ptrdiff_t)(j * S);
  vf sum[4];
#pragma GCC unroll 4
  for (size_t v = 0; v < W; v++) {
    sum[v] = vf_set1(0.0f);
  }
  for (size_t t = 0; t < o->taps[0]; t++) {
    const ptrdiff_t row = o->first[0] + (ptrdiff_t)(i * o->stride[0] + t * o->step[0]);
    const float *line = row >= 0 && row < (ptrdiff_t)o->in[0] ? x + (size_t)row * o->in[1] : o->zeros;
    for (size_t s = 0; s < o->taps[1]; s++) {
      const ptrdiff_t place = column + (ptrdiff_t)(s * o->step[1]);
      const vf weight = vf_set1(*w++);
      const vl lanes[2] = {v_lanes_within(inside ? 0 : place, o->in[1]),
                           v_lanes_within(inside ? 0 : place + V_LANES, o->in[1])};
#pragma GCC unroll 4
      for (size_t v = 0; v < W; v++) {
        sum[v] = vf_fma(weight, matmul_depthwise_load(S, inside, line + place + v * V_LANES * S, lanes), sum[v]);
      }
    }
  }
  matmul_depthwise_store(W, !inside, &end, sum, o->y + plane * o->y_plane + i * o->y_stride + j, left);
}

/* Rows from `first` on of all planes. */
V_INLINE void matmul_depthwise_any_planes(const size_t S, const dynq_depthwise *given, size_t first) {
  const dynq_depthwise o = *given; /* y cannot overlap a copy, so nothing of it is loaded again after a store */
  const size_t rows = o.rows - first;
  for (size_t row = 0; row < o.planes * rows; row++) {
    const size_t plane = row / rows, i = first + row % rows;
    for (size_t j = 0; j < o.columns;) {
      if (matmul_depthwise_fits(4, S, &o, j)) {
        matmul_depthwise_any(4, S, true, &o, plane, i, j, V_LANES);
        j += 4 * V_LANES;
      } else if (matmul_depthwise_fits(1, S, &o, j)) {
        matmul_depthwise_any(1, S, true, &o, plane, i, j, V_LANES);
        j += V_LANES;
      } else {
        const size_t left = o.columns - j < V_LANES ? o.columns - j : V_LANES;
        matmul_depthwise_any(1, S, false, &o, plane, i, j, left);
        j += left;
      }
    }
  }
}

OWN_FUNCTION void matmul_depthwise_any_1(const dynq_depthwise *o, size_t first) {
  matmul_depthwise_any_planes(1, o, first);
}
OWN_FUNCTION void matmul_depthwise_any_2(const dynq_depthwise *o, size_t first) {
  matmul_depthwise_any_planes(2, o, first);
}

/* ---- T x T without holes ---- */

#if !defined(DYNQ_VEC_SCALAR_H)
/* Rows of the input, of the first plane: where they begin, and all bits set, or none of a row of zeros, which is that of
 * all planes. */
typedef struct depthwise_lines {
  const float *at[DEPTHWISE_LINES];
  size_t moves[DEPTHWISE_LINES];
} depthwise_lines;

/* Adds to R x W sums the products of row `line` of the input, from p on, and the tap of each row of the kernel at w. */
V_INLINE void matmul_depthwise_tap(const size_t R, const size_t W, const size_t T, const size_t S, const bool inside,
                                   const float *p, const vl *lanes, const float *w, size_t line, vf *sum) {
  vf x[2];
#pragma GCC unroll 2
  for (size_t v = 0; v < W; v++) {
    x[v] = matmul_depthwise_load(S, inside, p + v * V_LANES * S, lanes);
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < R; r++) {
    if (line >= r * S && line < r * S + T) {
      const vf weight = vf_set1(w[(line - r * S) * T]);
#pragma GCC unroll 2
      for (size_t v = 0; v < W; v++) {
        sum[r * W + v] = vf_fma(weight, x[v], sum[r * W + v]);
      }
    }
  }
}

/* R rows from row i on x W vectors from column j on, or `left` positions of one, of all planes. */
V_INLINE void matmul_depthwise_block(const size_t R, const size_t W, const size_t T, const size_t S, const bool inside,
                                     const dynq_depthwise *o, const depthwise_lines *lines, size_t i, size_t j,
                                     size_t left) {
  const ptrdiff_t column = o->first[1] + (ptrdiff_t)(j * S);
  const size_t x_plane = o->in[0] * o->in[1];
  const float *w = o->w;
  float *y = o->y + i * o->y_stride + j;
  vl lanes[DEPTHWISE_TAPS][2];
  for (size_t s = 0; s < T; s++) {
    lanes[s][0] = v_lanes_within(inside ? 0 : column + (ptrdiff_t)s, o->in[1]);
    lanes[s][1] = v_lanes_within(inside ? 0 : column + (ptrdiff_t)s + V_LANES, o->in[1]);
  }
  for (size_t plane = 0; plane < o->planes; plane++, w += T * T, y += o->y_plane) {
    const size_t moved = plane * x_plane;
    vf sum[DEPTHWISE_ROWS * 2];
#pragma GCC unroll 8
    for (size_t r = 0; r < R * W; r++) {
      sum[r] = vf_set1(0.0f);
    }
#pragma GCC unroll 13
    for (size_t line = 0; line < (R - 1) * S + T; line++) {
      const float *p = lines->at[line] + (moved & lines->moves[line]) + column;
      SETTLE_POINTER(p); /* one address for the taps of a row */
      if (T == 3) {
        matmul_depthwise_tap(R, W, T, S, inside, p, lanes[0], w, line, sum);
        matmul_depthwise_tap(R, W, T, S, inside, p + 1, lanes[1], w + 1, line, sum);
        matmul_depthwise_tap(R, W, T, S, inside, p + 2, lanes[2], w + 2, line, sum);
      } else {
#pragma GCC unroll 1
        for (size_t s = 0; s < T; s++) {
          matmul_depthwise_tap(R, W, T, S, inside, p + s, lanes[s], w + s, line, sum);
        }
      }
    }
    const depthwise_end end = matmul_depthwise_end(o, plane);
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      matmul_depthwise_store(W, !inside, &end, sum + r * W, y + r * o->y_stride, left);
    }
  }
}

/* R rows of the output from row i on. */
V_INLINE void matmul_depthwise_rows(const size_t R, const size_t T, const size_t S, const dynq_depthwise *o, size_t i) {
  const size_t W = S == 1 && V_LANES != 8 ? 2 : 1;
  depthwise_lines lines;
  for (size_t line = 0; line < (R - 1) * S + T; line++) {
    const ptrdiff_t row = o->first[0] + (ptrdiff_t)(i * S + line);
    const bool within = row >= 0 && row < (ptrdiff_t)o->in[0];
    lines.at[line] = within ? o->x + (size_t)row * o->in[1] : o->zeros;
    lines.moves[line] = within ? SIZE_MAX : 0;
  }
  for (size_t j = 0; j < o->columns;) {
    if (matmul_depthwise_fits(W, S, o, j)) {
      matmul_depthwise_block(R, W, T, S, true, o, &lines, i, j, V_LANES);
      j += W * V_LANES;
    } else {
      const size_t left = o->columns - j < V_LANES ? o->columns - j : V_LANES;
      matmul_depthwise_block(R, 1, T, S, false, o, &lines, i, j, left);
      j += left;
    }
  }
}

#define DEPTHWISE_FUNCTION(T, S)                                                                                       \
  OWN_FUNCTION void matmul_depthwise_##T##_##S(const dynq_depthwise *o, size_t rows, size_t i) {                       \
    const dynq_depthwise copy = *o;                                                                                    \
    if (rows == 4) {                                                                                                   \
      matmul_depthwise_rows(4, T, S, &copy, i);                                                                        \
    } else {                                                                                                           \
      matmul_depthwise_rows(3, T, S, &copy, i);                                                                        \
    }                                                                                                                  \
  }
DEPTHWISE_FUNCTION(3, 1)
DEPTHWISE_FUNCTION(3, 2)
DEPTHWISE_FUNCTION(5, 1)
DEPTHWISE_FUNCTION(5, 2)
DEPTHWISE_FUNCTION(7, 1)
DEPTHWISE_FUNCTION(7, 2)
#undef DEPTHWISE_FUNCTION

/* Makes 3 or 4 rows at a time, where the kernel is one of these. Returns how many rows it made. */
static size_t matmul_depthwise_square(const dynq_depthwise *o) {
  static void (*const functions[3][2])(const dynq_depthwise *, size_t, size_t) = {
      {matmul_depthwise_3_1, matmul_depthwise_3_2},
      {matmul_depthwise_5_1, matmul_depthwise_5_2},
      {matmul_depthwise_7_1, matmul_depthwise_7_2},
  };
  const size_t taps = o->taps[0], stride = o->stride[1];
  if (o->taps[1] != taps || (taps != 3 && taps != 5 && taps != 7) || o->step[0] != 1 || o->step[1] != 1 ||
      o->stride[0] != stride) {
    return 0;
  }
  size_t row = 0;
  while (o->rows - row >= 3) { /* 7 rows are 4 and 3, 6 are 3 and 3 */
    const size_t left = o->rows - row, rows = left % 4 == 0 || left > 6 ? (left == 9 ? 3 : 4) : 3;
    functions[taps / 2 - 1][stride - 1](o, rows, row);
    row += rows;
  }
  return row;
}
#endif

static void vector_depthwise(const dynq_depthwise *o) {
  size_t rows = 0;
#if !defined(DYNQ_VEC_SCALAR_H)
  rows = matmul_depthwise_square(o);
#endif
  if (rows < o->rows) {
    (o->stride[1] == 1 ? matmul_depthwise_any_1 : matmul_depthwise_any_2)(o, rows);
  }
}

#endif
