/*
 * A step of a quantized LSTM or GRU in one pass. For some columns of the state it computes the sums of all gates, tile
 * by tile, then the states while these are in the nearest cache. The gates themselves are never written.
 */
#include "../gemm/lhs.h"
#include "../quant/weight.h"
#include "layer.h"

#include <math.h>

enum {
  SUMS = 8192,    /* of all gates and rows at a time: 32 KB */
  MOST_PANELS = 4 /* of a gate: the kernels take four at a time */
};
_Static_assert(SUMS >= DYNQ_STEP_ROWS * 4 * DYNQ_PANEL, "one panel of each gate fits");

static bool is_activation(const dynq_gate_function *f, dynq_activation activation) {
  return f->kind == DYNQ_GATE_ACTIVATION && f->activation == activation;
}

static bool has_usual_functions(const dynq_recurrent *r) {
  for (size_t d = 0; d < r->directions; d++) {
    const dynq_gate_function *f = r->functions[d];
    if (!is_activation(&f[0], DYNQ_ACTIVATION_SIGMOID) || !is_activation(&f[1], DYNQ_ACTIVATION_TANH) ||
        (r->cell == DYNQ_CELL_LSTM && !is_activation(&f[2], DYNQ_ACTIVATION_TANH))) {
      return false;
    }
  }
  return true;
}

static bool has_plain_weights(const dynq_recurrent *r) {
  for (size_t d = 0; d < r->directions; d++) {
    if (r->weights[d]->info.zero_point != NULL || dynq_weight_is_wide(r->weights[d])) {
      return false;
    }
  }
  return true;
}

bool dynq_recurrent_is_fused(const dynq_recurrent *r) {
  const bool plain = r->cell == DYNQ_CELL_LSTM  ? r->peepholes == NULL && !r->input_forget
                     : r->cell == DYNQ_CELL_GRU ? r->linear_before_reset
                                                : false;
  return plain && r->panels == NULL && r->hidden % DYNQ_PANEL == 0 && r->clip == INFINITY && has_usual_functions(r) &&
         has_plain_weights(r);
}

/* Sums of one gate, `panels` of it from `panel` of the weight on: acc (rows, panels * 16). Tiles are as even as they
 * go. */
static void multiply(const dynq_step *s, const dynq_lhs *lhs, size_t panel, size_t panels, int32_t *acc) {
  const dynq_gemm_kernels *gemm = s->layer->kernels->gemm;
  const dynq_weight *w = s->layer->weights[s->direction];
  const size_t tiles = (s->rows + gemm->rows - 1) / gemm->rows, stride = panels * DYNQ_PANEL;
  for (size_t i = 0; i < tiles; i++) {
    const size_t row = s->rows * i / tiles, end = s->rows * (i + 1) / tiles;
    gemm->tile(end - row, panels, w->groups, lhs->data + row * lhs->stride, lhs->stride,
               w->info.data + panel * w->panel_stride, w->panel_stride, acc + row * stride, stride);
  }
}

/* The states of columns [column, column + panels * 16). */
static void finish(const dynq_step *s, const dynq_lhs *lhs, size_t column, size_t panels, const int32_t *acc) {
  const dynq_recurrent *r = s->layer;
  const dynq_weight_info *w = &r->weights[s->direction]->info;
  const dynq_cell_tile tile = {.m = s->rows,
                               .n = panels * DYNQ_PANEL,
                               .acc = acc,
                               .acc_stride = panels * DYNQ_PANEL,
                               .acc_gate = s->rows * panels * DYNQ_PANEL,
                               .row_scale = lhs->scale,
                               .row_zero_point = lhs->zero_point,
                               .stride = r->hidden,
                               .column_scale = w->scale + column,
                               .column_sum = w->column_sum + column,
                               .bias = s->bias != NULL ? s->bias + column : NULL,
                               .projected = s->projected + column,
                               .projected_stride = s->stride,
                               .h = r->cell == DYNQ_CELL_GRU ? s->h + column : NULL,
                               .to = s->to + column,
                               .c = s->c + column};
  if (r->cell == DYNQ_CELL_LSTM) {
    r->kernels->vector.lstm(&tile);
  } else {
    r->kernels->vector.gru(&tile);
  }
}

void dynq_fused_step(const dynq_step *s, const dynq_lhs *lhs) {
  _Alignas(64) int32_t acc[SUMS];
  const dynq_recurrent *r = s->layer;
  const dynq_gemm_kernels *gemm = r->kernels->gemm;
  const size_t most = SUMS / (s->rows * r->gates * DYNQ_PANEL), together = most < MOST_PANELS ? most : MOST_PANELS;
  const size_t of_gate = r->hidden / DYNQ_PANEL, end = (s->column + s->columns) / DYNQ_PANEL;
  if (gemm->enter != NULL) {
    gemm->enter();
  }
  for (size_t panel = s->column / DYNQ_PANEL; panel < end; panel += together) {
    const size_t panels = end - panel < together ? end - panel : together;
    for (size_t gate = 0; gate < r->gates; gate++) {
      multiply(s, lhs, gate * of_gate + panel, panels, acc + gate * s->rows * panels * DYNQ_PANEL);
    }
    finish(s, lhs, panel * DYNQ_PANEL, panels, acc);
  }
  if (gemm->leave != NULL) {
    gemm->leave();
  }
}
