/*
 * A tile of a left operand of 16 bits or with several scales a row: the exact sums of each block of k become float32,
 * are scaled and added up in the order of k.
 */
#include "tile.h"

#include "lhs_fine.h"

#include <string.h>

/* A block of k. */
typedef struct block {
  size_t index, group, groups; /* its groups of 4 k */
} block;

/* Sums of w over a block, which the zero-points are multiplied by: the product with a row of ones. */
static const int32_t *column_sums(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, const block *b,
                                  int32_t *sums) {
  _Alignas(64) uint8_t ones[DYNQ_MAX_LHS_GROUP];
  if (lhs->blocks == 1) {
    return g->weight->info.column_sum + t->column;
  }
  memset(ones, 1, sizeof ones);
  dynq_tile_multiply(g, t, 1, ones, sizeof ones, b->group, b->groups, false, sums);
  return sums;
}

static void add_8(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, const block *b,
                  const int32_t *column_sum, float *y) {
  const size_t columns = t->panels * DYNQ_PANEL;
  _Alignas(64) int32_t acc[DYNQ_TILE_SUMS_WIDE];
  dynq_tile_multiply(g, t, t->rows, lhs->data + t->lhs_row * lhs->stride + b->group * DYNQ_GROUP, lhs->stride, b->group,
                     b->groups, false, acc);
  for (size_t i = 0; i < t->rows; i++) {
    const size_t at = (t->lhs_row + i) * lhs->blocks + b->index;
    g->kernels->vector.add_8(columns, acc + i * columns, lhs->zero_point[at], column_sum, lhs->scale[at],
                             g->weight->info.scale + t->column, y + i * columns);
  }
}

static void multiply_16(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, size_t group, size_t groups,
                        int32_t *high, int32_t *low) {
  const size_t at = t->lhs_row * lhs->stride + group * DYNQ_GROUP;
  dynq_tile_multiply(g, t, t->rows, lhs->data + at, lhs->stride, group, groups, false, high);
  dynq_tile_multiply(g, t, t->rows, lhs->low + at, lhs->stride, group, groups, false, low);
}

static void add_16(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, const block *b,
                   const int32_t *column_sum, float *y) {
  const size_t columns = t->panels * DYNQ_PANEL;
  _Alignas(64) int32_t high[DYNQ_TILE_SUMS_WIDE], low[DYNQ_TILE_SUMS_WIDE];
  multiply_16(g, lhs, t, b->group, b->groups, high, low);
  for (size_t i = 0; i < t->rows; i++) {
    const size_t at = (t->lhs_row + i) * lhs->blocks + b->index;
    g->kernels->vector.add_16(columns, high + i * columns, low + i * columns, lhs->zero_point[at], column_sum,
                              lhs->scale[at], g->weight->info.scale + t->column, y + i * columns);
  }
}

/* A K whose sums do not fit int32: those of 65 536 k at a time, in float64, which holds them all. */
static void add_wide_16(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, const block *b,
                        const int32_t *column_sum, float *y) {
  const size_t columns = t->panels * DYNQ_PANEL, count = t->rows * columns;
  _Alignas(64) int32_t high[DYNQ_TILE_SUMS_WIDE], low[DYNQ_TILE_SUMS_WIDE];
  double sums[DYNQ_TILE_SUMS_WIDE];
  memset(sums, 0, count * sizeof *sums);
  for (size_t group = 0; group < b->groups; group += DYNQ_TILE_CHUNK_GROUPS) {
    const size_t left = b->groups - group;
    multiply_16(g, lhs, t, group, left < DYNQ_TILE_CHUNK_GROUPS ? left : DYNQ_TILE_CHUNK_GROUPS, high, low);
    for (size_t i = 0; i < count; i++) {
      sums[i] += 256.0 * high[i] + low[i];
    }
  }
  for (size_t i = 0; i < count; i++) {
    const size_t row = t->lhs_row + i / columns, j = i % columns;
    const float sum = (float)(sums[i] - (double)lhs->zero_point[row] * column_sum[j]);
    y[i] = y[i] + sum * (lhs->scale[row] * g->weight->info.scale[t->column + j]);
  }
}

void dynq_gemm_fine_tile(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t) {
  _Alignas(64) float y[DYNQ_TILE_SUMS_WIDE], ones[DYNQ_TILE_SUMS_WIDE];
  _Alignas(64) int32_t of_ones[DYNQ_TILE_SUMS_WIDE];
  const size_t groups = g->weight->groups, each = lhs->blocks > 1 ? g->source.group / DYNQ_GROUP : groups;
  for (size_t i = 0; i < DYNQ_TILE_SUMS_WIDE; i++) {
    y[i] = -0.0f; /* adding the first product gives that product, -0 among them */
    ones[i] = 1.0f;
  }
  for (size_t i = 0; i < lhs->blocks; i++) {
    const size_t left = groups - i * each;
    const block b = {.index = i, .group = i * each, .groups = left < each ? left : each};
    const int32_t *column_sum = column_sums(g, lhs, t, &b, of_ones);
    if (lhs->low == NULL) {
      add_8(g, lhs, t, &b, column_sum, y);
    } else if (b.groups <= DYNQ_TILE_CHUNK_GROUPS) {
      add_16(g, lhs, t, &b, column_sum, y);
    } else {
      add_wide_16(g, lhs, t, &b, column_sum, y);
    }
  }
  dynq_epilogue_tile epilogue = dynq_tile_epilogue(g, t);
  epilogue.acc_f32 = y;
  epilogue.row_scale = epilogue.column_scale = ones; /* they are in the sums */
  g->kernels->vector.epilogue(&epilogue);
}
