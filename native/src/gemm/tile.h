/*
 * Code that the forms of a tile share.
 */
#ifndef DYNQ_GEMM_TILE_H
#define DYNQ_GEMM_TILE_H

#include "gemm.h"

enum {
  DYNQ_TILE_SUMS = 2048,                             /* accumulators of a tile: 8 KB of int32 */
  DYNQ_TILE_SUMS_WIDE = 512,                         /* of one whose sums are combined in wider types */
  DYNQ_TILE_CHUNK_GROUPS = DYNQ_EXACT_K / DYNQ_GROUP /* k of a wide sum that still fit int32 */
};

/* Rows and columns of the outputs that a tile covers. */
typedef struct dynq_tile {
  size_t lhs_row, row, rows, panel, panels, column, columns;
} dynq_tile;

/* Rows of bytes, `stride` apart, times groups [group, group + groups) of the tile's panels. */
static inline void dynq_tile_multiply(const dynq_gemm *g, const dynq_tile *t, size_t rows, const uint8_t *data,
                                      size_t stride, size_t group, size_t groups, bool add, int32_t *acc) {
  const dynq_weight *w = g->weight;
  (add ? g->kernels->gemm->add
       : g->kernels->gemm->tile)(rows, t->panels, groups, data, stride,
                                 w->info.data + t->panel * w->panel_stride + group * DYNQ_PANEL * DYNQ_GROUP,
                                 w->panel_stride, acc, t->panels * DYNQ_PANEL);
}

/* The epilogue, with all that it needs but the sums and the scales. */
static inline dynq_epilogue_tile dynq_tile_epilogue(const dynq_gemm *g, const dynq_tile *t) {
  const dynq_epilogue *e = &g->epilogue;
  return (dynq_epilogue_tile){
      .m = t->rows,
      .n = t->columns,
      .acc_stride = t->panels * DYNQ_PANEL,
      .bias = e->bias != NULL ? e->bias + t->column : NULL,
      .residual = e->residual != NULL ? e->residual + t->row * e->residual_stride + t->column : NULL,
      .residual_stride = e->residual_stride,
      .activation = e->activation,
      .alpha = e->alpha,
      .beta = e->beta,
      .min = e->min,
      .max = e->max,
      .y = g->y + t->row * g->y_stride + t->column,
      .y_stride = g->y_stride,
  };
}

/* A tile of a fine left operand (lhs_fine.h), of at most DYNQ_TILE_SUMS_WIDE sums. */
void dynq_gemm_fine_tile(const dynq_gemm *gemm, const dynq_lhs *lhs, const dynq_tile *tile);

#endif
