/*
 * A tile of a left operand of 16 bits or with several scales a row: the exact sums of each block of k become float32,
 * are scaled and added up in the order of k.
 */
#include "gemm_tile.h"

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

static void add(size_t columns, float scale, const float *restrict sums, const float *restrict column_scale,
                float *restrict y) {
  for (size_t j = 0; j < columns; j++) {
    y[j] = y[j] + sums[j] * (scale * column_scale[j]);
  }
}

/* 8 bits: a block has at most 256 k, so that |sum of q * w| and |zero_point * sum of w| are below 2^23 and float32 holds
 * them and their difference. */
static void add_8(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, const block *b, float *y) {
  const size_t columns = t->panels * DYNQ_PANEL;
  _Alignas(64) int32_t acc[DYNQ_TILE_SUMS_WIDE], of_ones[DYNQ_TILE_SUMS_WIDE];
  float sums[DYNQ_TILE_SUMS_WIDE];
  const int32_t *of_columns = column_sums(g, lhs, t, b, of_ones);
  dynq_tile_multiply(g, t, t->rows, lhs->data + t->lhs_row * lhs->stride + b->group * DYNQ_GROUP, lhs->stride, b->group,
                     b->groups, false, acc);
  for (size_t i = 0; i < t->rows; i++) {
    const size_t at = (t->lhs_row + i) * lhs->blocks + b->index;
    const float zero_point = (float)lhs->zero_point[at];
    for (size_t j = 0; j < columns; j++) {
      sums[j] = (float)acc[i * columns + j] - zero_point * (float)of_columns[j];
    }
    add(columns, lhs->scale[at], sums, g->weight->info.scale + t->column, y + i * columns);
  }
}

/* 16 bits: 256 times the sum of the upper bytes and that of the lower ones, in float64, which holds them all. */
static void add_16(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t, const block *b, float *y) {
  const size_t columns = t->panels * DYNQ_PANEL, count = t->rows * columns;
  _Alignas(64) int32_t high[DYNQ_TILE_SUMS_WIDE], low[DYNQ_TILE_SUMS_WIDE], of_ones[DYNQ_TILE_SUMS_WIDE];
  double wide[DYNQ_TILE_SUMS_WIDE];
  float sums[DYNQ_TILE_SUMS_WIDE];
  memset(wide, 0, count * sizeof *wide);
  for (size_t group = 0; group < b->groups; group += DYNQ_TILE_CHUNK_GROUPS) {
    const size_t left = b->groups - group, groups = left < DYNQ_TILE_CHUNK_GROUPS ? left : DYNQ_TILE_CHUNK_GROUPS;
    const size_t at = t->lhs_row * lhs->stride + (b->group + group) * DYNQ_GROUP;
    dynq_tile_multiply(g, t, t->rows, lhs->data + at, lhs->stride, b->group + group, groups, false, high);
    dynq_tile_multiply(g, t, t->rows, lhs->low + at, lhs->stride, b->group + group, groups, false, low);
    for (size_t i = 0; i < count; i++) {
      wide[i] += 256.0 * high[i] + low[i];
    }
  }
  const int32_t *of_columns = column_sums(g, lhs, t, b, of_ones);
  for (size_t i = 0; i < t->rows; i++) {
    const size_t at = (t->lhs_row + i) * lhs->blocks + b->index;
    const double zero_point = lhs->zero_point[at];
    for (size_t j = 0; j < columns; j++) {
      sums[j] = (float)(wide[i * columns + j] - zero_point * of_columns[j]);
    }
    add(columns, lhs->scale[at], sums, g->weight->info.scale + t->column, y + i * columns);
  }
}

void dynq_gemm_fine_tile(const dynq_gemm *g, const dynq_lhs *lhs, const dynq_tile *t) {
  _Alignas(64) float y[DYNQ_TILE_SUMS_WIDE], ones[DYNQ_TILE_SUMS_WIDE];
  const size_t groups = g->weight->groups, each = lhs->blocks > 1 ? g->source.group / DYNQ_GROUP : groups;
  for (size_t i = 0; i < DYNQ_TILE_SUMS_WIDE; i++) {
    y[i] = -0.0f; /* adding the first product gives that product, -0 among them */
    ones[i] = 1.0f;
  }
  for (size_t i = 0; i < lhs->blocks; i++) {
    const size_t left = groups - i * each;
    const block b = {.index = i, .group = i * each, .groups = left < each ? left : each};
    (lhs->low != NULL ? add_16 : add_8)(g, lhs, t, &b, y);
  }
  dynq_epilogue_tile epilogue = dynq_tile_epilogue(g, t);
  epilogue.acc_f32 = y;
  epilogue.row_scale = epilogue.column_scale = ones; /* they are in the sums */
  g->kernels->vector.epilogue(&epilogue);
}
