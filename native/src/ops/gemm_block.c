/*
 * A block of outputs, tile by tile: GEMM kernel into a small buffer, then epilogue, while it is in the cache.
 */
#include "gemm.h"

#include <string.h>

enum {
  BUFFER = 2048,                           /* accumulators of a tile: 8 KB of int32 */
  CHUNK_GROUPS = DYNQ_EXACT_K / DYNQ_GROUP /* k of a wide sum that still fit int32 */
};
_Static_assert(DYNQ_MAX_TILE_ROWS * DYNQ_PANEL * 4 <= BUFFER, "a full tile of up to 4 panels fits the buffer");

/* Rows and columns of the outputs that a tile covers. */
typedef struct tile {
  size_t lhs_row, row, rows, panel, panels, column, columns;
} tile;

static void multiply(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, size_t group, size_t groups,
                     int32_t *acc) {
  const dynq_weight *w = g->weight;
  g->kernels->gemm->tile(t->rows, t->panels, groups, lhs->data + t->lhs_row * lhs->stride + group * DYNQ_GROUP,
                         lhs->stride, w->info.data + t->panel * w->panel_stride + group * DYNQ_PANEL * DYNQ_GROUP,
                         w->panel_stride, acc, t->panels * DYNQ_PANEL);
}

/* Sums to float32 outputs; `acc` or `acc_f32`. */
static void write_f32(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, const int32_t *acc,
                      const float *acc_f32) {
  const dynq_weight_info *w = &g->weight->info;
  const dynq_epilogue *e = &g->epilogue;
  const dynq_epilogue_tile epilogue = {
      .m = t->rows,
      .n = t->columns,
      .acc = acc,
      .acc_f32 = acc_f32,
      .acc_stride = t->panels * DYNQ_PANEL,
      .row_scale = lhs->scale + t->lhs_row,
      .row_zero_point = lhs->zero_point + t->lhs_row,
      .row_sum = lhs->sum != NULL ? lhs->sum + t->lhs_row : NULL,
      .column_scale = w->scale + t->column,
      .column_sum = w->column_sum + t->column,
      .column_zero_point = w->zero_point != NULL ? w->zero_point + t->column : NULL,
      .bias = e->bias != NULL ? e->bias + t->column : NULL,
      .residual = e->residual != NULL ? e->residual + t->row * e->residual_stride + t->column : NULL,
      .residual_stride = e->residual_stride,
      .activation = e->activation,
      .min = e->min,
      .max = e->max,
      .y = g->y + t->row * g->y_stride + t->column,
      .y_stride = g->y_stride,
  };
  g->kernels->vector.epilogue(&epilogue);
}

/* What is left to subtract from a sum of q * w, exact. */
static int64_t correction(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, size_t i, size_t j) {
  const dynq_weight_info *w = &g->weight->info;
  const size_t row = t->lhs_row + i, column = t->column + j;
  const int64_t of_lhs = (int64_t)lhs->zero_point[row] * w->column_sum[column];
  return of_lhs + (w->zero_point != NULL ? (int64_t)w->zero_point[column] * lhs->sum[row] : 0);
}

static void write_s32(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, const int32_t *acc) {
  for (size_t i = 0; i < t->rows; i++) {
    for (size_t j = 0; j < t->columns; j++) {
      const int64_t sum = acc[i * t->panels * DYNQ_PANEL + j] - correction(g, lhs, t, i, j);
      g->acc[(t->row + i) * g->acc_stride + t->column + j] = (int32_t)sum;
    }
  }
}

/* A K too large for int32: sums of 65 536 k at a time, combined in int64. */
static bool wide_tile(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t) {
  _Alignas(64) int32_t part[BUFFER / 4];
  int64_t sums[BUFFER / 4];
  float rounded[BUFFER / 4];
  const size_t columns = t->panels * DYNQ_PANEL;
  bool fits = true;
  memset(sums, 0, t->rows * columns * sizeof *sums);
  for (size_t group = 0; group < g->weight->groups; group += CHUNK_GROUPS) {
    const size_t left = g->weight->groups - group;
    multiply(g, lhs, t, group, left < CHUNK_GROUPS ? left : CHUNK_GROUPS, part);
    for (size_t i = 0; i < t->rows * columns; i++) {
      sums[i] += part[i];
    }
  }
  for (size_t i = 0; i < t->rows; i++) {
    for (size_t j = 0; j < t->columns; j++) {
      const int64_t sum = sums[i * columns + j] - correction(g, lhs, t, i, j);
      if (g->y != NULL) {
        rounded[i * columns + j] = (float)sum;
      } else if (sum < INT32_MIN || sum > INT32_MAX) {
        fits = false;
      } else {
        g->acc[(t->row + i) * g->acc_stride + t->column + j] = (int32_t)sum;
      }
    }
  }
  if (g->y != NULL) {
    write_f32(g, lhs, t, NULL, rounded);
  }
  return fits;
}

static bool run_tile(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t) {
  if (dynq_weight_is_wide(g->weight)) {
    return wide_tile(g, lhs, t);
  }
  _Alignas(64) int32_t acc[BUFFER];
  multiply(g, lhs, t, 0, g->weight->groups, acc);
  if (g->y != NULL) {
    write_f32(g, lhs, t, acc, NULL);
  } else {
    write_s32(g, lhs, t, acc);
  }
  return true;
}

bool dynq_gemm_block(const dynq_gemm *gemm, const dynq_lhs *lhs, size_t row, size_t rows, size_t panel,
                     size_t panel_end) {
  const dynq_gemm_kernels *kernels = gemm->kernels->gemm;
  const size_t tiles = (rows + kernels->rows - 1) / kernels->rows;
  bool fits = true;
  /* Several tiles of rows share the panels of one step, which stay in the nearest cache; a single tile
   * takes as many panels as the buffer holds. */
  const size_t buffer = dynq_weight_is_wide(gemm->weight) ? BUFFER / 4 : BUFFER;
  const size_t most = tiles > 0 ? buffer / DYNQ_PANEL / ((rows + tiles - 1) / tiles) : 1;
  const size_t step = tiles == 1 || most < kernels->panels ? most : kernels->panels;
  if (kernels->enter != NULL) {
    kernels->enter();
  }
  for (; panel < panel_end; panel += step) {
    tile t = {.panel = panel, .panels = panel_end - panel < step ? panel_end - panel : step};
    t.column = panel * DYNQ_PANEL;
    const size_t columns = gemm->weight->info.n - t.column;
    t.columns = columns < t.panels * DYNQ_PANEL ? columns : t.panels * DYNQ_PANEL;
    for (size_t i = 0; i < tiles; i++) { /* as even as they go: 14 rows are 7 and 7, not 12 and 2 */
      const size_t end = rows * (i + 1) / tiles;
      t.lhs_row = rows * i / tiles;
      t.rows = end - t.lhs_row;
      t.row = row + t.lhs_row;
      fits &= run_tile(gemm, lhs, &t);
    }
  }
  if (kernels->leave != NULL) {
    kernels->leave();
  }
  return fits;
}
