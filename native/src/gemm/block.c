/*
 * A block of outputs, tile by tile: GEMM kernel into a small buffer, then epilogue, while it is in the cache.
 */
#include "tile.h"

#include "../base/alloc.h"
#include "../base/interrupt.h"
#include "lhs_fine.h"

#include <string.h>

enum {
  BUFFER = DYNQ_TILE_SUMS,
  STRIP = 8192,         /* accumulators of the tiles that share a block of k: 32 KB */
  LONG_ELEMENTS = 65536 /* of the left operand, from which on a step of panels is worth a look at interrupts */
};
_Static_assert(DYNQ_MAX_TILE_ROWS *DYNQ_PANEL <= DYNQ_TILE_SUMS_WIDE, "a full tile of a panel fits any buffer");
_Static_assert(DYNQ_MAX_TILE_ROWS * DYNQ_PANEL * 4 <= BUFFER, "a full tile of up to 4 panels fits the buffer");
_Static_assert(BUFFER <= STRIP, "so it does a strip");

typedef dynq_tile tile;

static void multiply(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, size_t group, size_t groups, bool add,
                     int32_t *acc) {
  dynq_tile_multiply(g, t, t->rows, lhs->data + t->lhs_row * lhs->stride + group * DYNQ_GROUP, lhs->stride, group,
                     groups, add, acc);
}

/* Sums to float32 outputs; `acc` or `acc_f32`. */
static void write_f32(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, const int32_t *acc,
                      const float *acc_f32) {
  const dynq_weight_info *w = &g->weight->info;
  dynq_epilogue_tile epilogue = dynq_tile_epilogue(g, t);
  epilogue.acc = acc;
  epilogue.acc_f32 = acc_f32;
  epilogue.row_scale = lhs->scale + t->lhs_row;
  epilogue.row_zero_point = lhs->zero_point + t->lhs_row;
  epilogue.row_sum = lhs->sum != NULL ? lhs->sum + t->lhs_row : NULL;
  epilogue.column_scale = w->scale + t->column;
  epilogue.column_sum = w->column_sum + t->column;
  epilogue.column_zero_point = w->zero_point != NULL ? w->zero_point + t->column : NULL;
  g->kernels->vector.epilogue(&epilogue);
}

/* Returns what has to be subtracted from a sum of q * w, exact. */
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

static void write(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t, const int32_t *acc) {
  if (g->y != NULL) {
    write_f32(g, lhs, t, acc, NULL);
  } else {
    write_s32(g, lhs, t, acc);
  }
}

/* A K too large for int32: sums of 65 536 k at a time, combined in int64. */
static bool wide_tile(const dynq_gemm *g, const dynq_lhs *lhs, const tile *t) {
  _Alignas(64) int32_t part[DYNQ_TILE_SUMS_WIDE];
  int64_t sums[DYNQ_TILE_SUMS_WIDE];
  float rounded[DYNQ_TILE_SUMS_WIDE];
  const size_t columns = t->panels * DYNQ_PANEL;
  bool fits = true;
  memset(sums, 0, t->rows * columns * sizeof *sums);
  for (size_t group = 0; group < g->weight->groups; group += DYNQ_TILE_CHUNK_GROUPS) {
    const size_t left = g->weight->groups - group;
    multiply(g, lhs, t, group, left < DYNQ_TILE_CHUNK_GROUPS ? left : DYNQ_TILE_CHUNK_GROUPS, false, part);
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
  if (dynq_lhs_is_fine(&g->source)) {
    dynq_gemm_fine_tile(g, lhs, t);
    return true;
  }
  if (dynq_weight_is_wide(g->weight)) {
    return wide_tile(g, lhs, t);
  }
  _Alignas(64) int32_t acc[BUFFER];
  multiply(g, lhs, t, 0, g->weight->groups, false, acc);
  write(g, lhs, t, acc);
  return true;
}

/* Panels from `panel` on, as many as a tile has: their columns. */
static tile tile_of_panels(const dynq_gemm *g, size_t panel, size_t panel_end, size_t step) {
  tile t = {.panel = panel, .panels = panel_end - panel < step ? panel_end - panel : step};
  t.column = panel * DYNQ_PANEL;
  const size_t columns = g->weight->info.n - t.column;
  t.columns = columns < t.panels * DYNQ_PANEL ? columns : t.panels * DYNQ_PANEL;
  return t;
}

/* Row tile `index` of `tiles`, as even as they go: 14 rows are 7 and 7, not 12 and 2. */
static void place_rows(tile *t, size_t row, size_t rows, size_t index, size_t tiles) {
  const size_t end = rows * (index + 1) / tiles;
  t->lhs_row = rows * index / tiles;
  t->rows = end - t->lhs_row;
  t->row = row + t->lhs_row;
}

/* Row tiles [first, last) of `tiles`: each block of k by all of them, before the next one. */
static void run_strip(const dynq_gemm *g, const dynq_lhs *lhs, size_t row, size_t rows, size_t first, size_t last,
                      size_t tiles, tile t) {
  _Alignas(64) int32_t acc[STRIP];
  const size_t groups = g->weight->groups, most = g->kernels->gemm->block_groups;
  const size_t blocks = (groups + most - 1) / most, each = (groups + 16 * blocks - 1) / (16 * blocks) * 16;
  const size_t tile_size = g->kernels->gemm->rows * t.panels * DYNQ_PANEL;
  for (size_t group = 0; group < groups; group += each) {
    const size_t left = groups - group;
    for (size_t i = first; i < last; i++) {
      int32_t *sums = acc + (i - first) * tile_size;
      place_rows(&t, row, rows, i, tiles);
      multiply(g, lhs, &t, group, left < each ? left : each, group != 0, sums);
      if (left <= each) {
        write(g, lhs, &t, sums);
      }
    }
  }
}

bool dynq_gemm_block(const dynq_gemm *gemm, const dynq_lhs *lhs, size_t row, size_t rows, size_t panel,
                     size_t panel_end) {
  const dynq_gemm_kernels *kernels = gemm->kernels->gemm;
  const size_t tiles = (rows + kernels->rows - 1) / kernels->rows;
  bool fits = true;
  /* Several tiles of rows share the panels of one step, which stay in the nearest cache; a single tile
   * takes as many panels as the buffer holds. */
  const bool wide = dynq_weight_is_wide(gemm->weight) || dynq_lhs_is_fine(&gemm->source);
  const size_t buffer = wide ? DYNQ_TILE_SUMS_WIDE : BUFFER;
  const size_t most = tiles > 0 ? buffer / DYNQ_PANEL / ((rows + tiles - 1) / tiles) : 1;
  const size_t step = tiles == 1 || most < kernels->panels ? most : kernels->panels;
  const bool in_blocks = tiles > 1 && kernels->add != NULL && gemm->weight->groups > kernels->block_groups && !wide;
  const size_t strip = STRIP / (kernels->rows * step * DYNQ_PANEL);
  const bool takes_long = dynq_size_mul(rows, gemm->weight->info.k) >= LONG_ELEMENTS;
  if (kernels->enter != NULL) {
    kernels->enter();
  }
  for (; panel < panel_end && !(takes_long && dynq_interrupted()); panel += step) {
    tile t = tile_of_panels(gemm, panel, panel_end, step);
    if (in_blocks) {
      for (size_t i = 0; i < tiles; i += strip) {
        run_strip(gemm, lhs, row, rows, i, i + strip < tiles ? i + strip : tiles, tiles, t);
      }
      continue;
    }
    for (size_t i = 0; i < tiles; i++) {
      place_rows(&t, row, rows, i, tiles);
      fits &= run_tile(gemm, lhs, &t);
    }
  }
  if (kernels->leave != NULL) {
    kernels->leave();
  }
  return fits;
}
