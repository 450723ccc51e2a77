/*
 * The states of recurrent layers, from the integer sums of their gates on, written once over the abstraction of
 * vec_<isa>.h, which is included first. One pass: nothing is written but the states. docs/numerics.md has the order.
 */
#ifndef DYNQ_CELL_H
#define DYNQ_CELL_H

#include "../kernels.h"

#include "activations.h"

/* Vectors of columns at a time, whose chains of operations take turns. */
enum { CELL_VECTORS = 2 };

/* Values of a row that serve all of its columns. */
typedef struct cell_row {
  const int32_t *acc;
  const float *projected;
  vf scale;
  vi zero_point;
} cell_row;

V_INLINE cell_row cell_row_of(const dynq_cell_tile *t, size_t i) {
  return (cell_row){.acc = t->acc + i * t->acc_stride,
                    .projected = t->projected + i * t->projected_stride,
                    .scale = vf_set1(t->row_scale[i]),
                    .zero_point = vi_set1(t->row_zero_point[i])};
}

/* h R + bias of a gate, columns from j on. */
V_INLINE vf cell_sum(const dynq_cell_tile *t, const cell_row *row, size_t gate, size_t j) {
  const size_t at = gate * t->stride + j;
  const vi acc = vi_load(row->acc + gate * t->acc_gate + j);
  vf y = vf_from_i(vi_sub(acc, vi_mul(row->zero_point, vi_load(t->column_sum + at))));
  y = vf_mul(y, vf_mul(row->scale, vf_load(t->column_scale + at)));
  return t->bias != NULL ? vf_add(y, vf_load(t->bias + at)) : y;
}

/* The same and what is projected. */
V_INLINE vf cell_gate(const dynq_cell_tile *t, const cell_row *row, size_t gate, size_t j) {
  return vf_add(cell_sum(t, row, gate, j), vf_load(row->projected + gate * t->stride + j));
}

/* W vectors of columns from j on. */
V_INLINE void lstm_vectors(const size_t W, const dynq_cell_tile *t, const cell_row *row, size_t j, float *h, float *c) {
  const vf nan = vi_as_f(vi_set1(V_NAN));
  vf gates[V_MOST], cell[V_MOST]; /* i, o, f, for each vector */
  EACH_OF(3 * W) { gates[w] = cell_gate(t, row, w / W, j + w % W * V_LANES); }
  EACH_OF(W) { cell[w] = cell_gate(t, row, 3, j + w * V_LANES); }
  v_sigmoid_of(3 * W, gates);
  v_tanh_of(W, cell);
  EACH_OF(W) {
    float *const to = c + j + w * V_LANES;
    cell[w] = vf_replace_nan(vf_add(vf_mul(gates[2 * W + w], vf_load(to)), vf_mul(gates[w], cell[w])), nan);
    vf_store(to, cell[w]);
  }
  v_tanh_of(W, cell);
  EACH_OF(W) { vf_store(h + j + w * V_LANES, vf_replace_nan(vf_mul(gates[W + w], cell[w]), nan)); }
}

static void vector_lstm(const dynq_cell_tile *tile) {
  const dynq_cell_tile t = *tile; /* what is written cannot overlap a copy, so nothing of it is loaded again */
  for (size_t i = 0; i < t.m; i++) {
    const cell_row row = cell_row_of(&t, i);
    size_t j = 0;
    for (; j + CELL_VECTORS * V_LANES <= t.n; j += CELL_VECTORS * V_LANES) {
      lstm_vectors(CELL_VECTORS, &t, &row, j, t.to + i * t.stride, t.c + i * t.stride);
    }
    for (; j < t.n; j += V_LANES) {
      lstm_vectors(1, &t, &row, j, t.to + i * t.stride, t.c + i * t.stride);
    }
  }
}

V_INLINE void gru_vectors(const size_t W, const dynq_cell_tile *t, const cell_row *row, size_t j, const float *h,
                          float *to) {
  const vf nan = vi_as_f(vi_set1(V_NAN)), one = vf_set1(1.0f);
  vf gates[V_MOST], candidate[V_MOST]; /* z, r, for each vector */
  EACH_OF(2 * W) { gates[w] = cell_gate(t, row, w / W, j + w % W * V_LANES); }
  EACH_OF(W) { candidate[w] = cell_sum(t, row, 2, j + w * V_LANES); }
  v_sigmoid_of(2 * W, gates);
  EACH_OF(W) {
    const vf x = vf_load(row->projected + 2 * t->stride + j + w * V_LANES);
    candidate[w] = vf_add(x, vf_mul(gates[W + w], candidate[w]));
  }
  v_tanh_of(W, candidate);
  EACH_OF(W) {
    const size_t at = j + w * V_LANES;
    const vf y = vf_add(vf_mul(vf_sub(one, gates[w]), candidate[w]), vf_mul(gates[w], vf_load(h + at)));
    vf_store(to + at, vf_replace_nan(y, nan));
  }
}

static void vector_gru(const dynq_cell_tile *tile) {
  const dynq_cell_tile t = *tile;
  for (size_t i = 0; i < t.m; i++) {
    const cell_row row = cell_row_of(&t, i);
    size_t j = 0;
    for (; j + CELL_VECTORS * V_LANES <= t.n; j += CELL_VECTORS * V_LANES) {
      gru_vectors(CELL_VECTORS, &t, &row, j, t.h + i * t.stride, t.to + i * t.stride);
    }
    for (; j < t.n; j += V_LANES) {
      gru_vectors(1, &t, &row, j, t.h + i * t.stride, t.to + i * t.stride);
    }
  }
}

#endif
