/*
 * Convolution with outputs as the lanes: int8, and float32 where positions are few.
 *
 * The input under a block is transposed, so that the channels of a place lie together. A position's row is a few runs
 * of it. It is one run if the kernel has one row and no holes: then rows overlap and none is written out. The products,
 * a row of outputs for each position, are transposed back.
 */
#include "../gemm/gemm.h"
#include "run.h"

enum { PIECE = 64 }; /* places that are transposed at a time */

/* Outputs [column, column + columns): rows of positions in, channels of positions out. */
static void write_transposed(const dynq_conv_plan *r, const dynq_conv_block *b, const float *y, size_t stride,
                             size_t column, size_t columns, float *tile) {
  const dynq_conv *c = r->c;
  const size_t each = b->n[0] * b->n[1], positions = b->images * each, plane = c->axis[0].out * c->axis[1].out;
  const bool one_run = b->images == 1 && dynq_conv_is_run(c, b);
  float line[DYNQ_CONV_POSITIONS];
  c->kernels->vector.pack_transposed(positions, columns, y, stride, tile);
  float *to = dynq_conv_output(c, b) + column * plane;
  for (size_t i = 0; i < columns; i++, to += plane) {
    float *values = one_run ? dynq_conv_first_output(c, b, to) : line;
    const float *from = tile + i * DYNQ_PANEL;
    size_t p = 0;
    for (; p + DYNQ_PANEL <= positions; p += DYNQ_PANEL, from += columns * DYNQ_PANEL) {
      memcpy(values + p, from, DYNQ_PANEL * sizeof *values);
    }
    memcpy(values + p, from, (p < positions ? positions - p : 0) * sizeof *values);
    for (size_t image = 0; image < b->images && !one_run; image++) {
      dynq_conv_put(c, b, line + image * each, b->n[1], to + image * c->groups * c->outputs * plane);
    }
  }
}

/* `n` places of all channels, `plane` apart, transposed. */
static void transpose(const dynq_conv *c, size_t n, const float *from, size_t plane, float *to) {
  _Alignas(64) float tile[PIECE * DYNQ_PANEL];
  if (c->channels == 1) {
    memcpy(to, from, n * sizeof *to);
    return;
  }
  for (size_t channel = 0; channel < c->channels; channel += DYNQ_PANEL) {
    const size_t width = c->channels - channel < DYNQ_PANEL ? c->channels - channel : DYNQ_PANEL;
    for (size_t i = 0; i < n; i += PIECE) {
      const size_t count = n - i < PIECE ? n - i : PIECE;
      float *at = to + i * c->channels + channel;
      c->kernels->vector.pack_transposed(width, count, from + channel * plane + i, plane, tile);
      for (size_t j = 0; j < count; j++, at += c->channels) {
        if (width == DYNQ_PANEL) {
          memcpy(at, tile + j * DYNQ_PANEL, DYNQ_PANEL * sizeof *at);
        } else {
          memcpy(at, tile + j * DYNQ_PANEL, width * sizeof *at);
        }
      }
    }
  }
}

/* The input under the block in one of its images, (span, span, channels). */
static void fill_window(const dynq_conv *c, const dynq_conv_block *b, size_t image, float *to) {
  const size_t plane = c->axis[0].in * c->axis[1].in, row_size = b->span[1] * c->channels;
  const float *input = dynq_conv_input(c, b) + image * c->groups * c->channels * plane;
  size_t above, rows, left, columns;
  dynq_conv_inside(b->place[0], b->span[0], c->axis[0].in, &above, &rows);
  dynq_conv_inside(b->place[1], b->span[1], c->axis[1].in, &left, &columns);
  for (size_t i = 0; i < b->span[0]; i++, to += row_size) {
    if (i < above || i >= above + rows || columns == 0) {
      memset(to, 0, row_size * sizeof *to);
      continue;
    }
    const size_t row = (size_t)(b->place[0] + (ptrdiff_t)i), column = (size_t)(b->place[1] + (ptrdiff_t)left);
    memset(to, 0, left * c->channels * sizeof *to);
    transpose(c, columns, input + row * c->axis[1].in + column, plane, to + left * c->channels);
    memset(to + (left + columns) * c->channels, 0, (b->span[1] - left - columns) * c->channels * sizeof *to);
  }
}

/* The rows of the positions, one after another. */
static void copy_rows(const dynq_conv *c, const dynq_conv_block *b, const float *window, float *to) {
  const dynq_conv_axis *a = c->axis;
  const bool one_run = a[1].step == 1;
  const size_t runs = one_run ? 1 : a[1].taps, length = (one_run ? a[1].taps : 1) * c->channels;
  for (size_t i = 0; i < b->n[0]; i++) {
    for (size_t j = 0; j < b->n[1]; j++) {
      for (size_t row = 0; row < a[0].taps; row++) {
        const size_t line = (i * a[0].stride + row * a[0].step) * b->span[1] + j * a[1].stride;
        for (size_t s = 0; s < runs; s++, to += length) {
          memcpy(to, window + (line + s * a[1].step) * c->channels, length * sizeof *to);
        }
      }
    }
  }
}

/* Bias and activation of `rows` rows, in place. */
static void finish_rows(const dynq_conv *c, size_t rows, size_t columns, const float *bias, float *y, size_t stride) {
#define FOUR 1.0f, 1.0f, 1.0f, 1.0f
#define SIXTEEN FOUR, FOUR, FOUR, FOUR
  static const float ones[DYNQ_CONV_STRIP] = {SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN};
#undef FOUR
#undef SIXTEEN
  if (bias == NULL && c->activation == DYNQ_ACTIVATION_NONE && !(c->min < c->max)) {
    return;
  }
  for (size_t i = 0; i < rows; i += DYNQ_MAX_TILE_ROWS) {
    const dynq_epilogue_tile tile = {.m = rows - i < DYNQ_MAX_TILE_ROWS ? rows - i : DYNQ_MAX_TILE_ROWS,
                                     .n = columns,
                                     .acc_f32 = y + i * stride,
                                     .acc_stride = stride,
                                     .row_scale = ones,
                                     .column_scale = ones,
                                     .bias = bias,
                                     .activation = c->activation,
                                     .alpha = c->alpha,
                                     .beta = c->beta,
                                     .min = c->min,
                                     .max = c->max,
                                     .y = y + i * stride,
                                     .y_stride = stride};
    c->kernels->vector.epilogue(&tile);
  }
}

static void multiply_float(const dynq_conv_plan *r, const dynq_conv_block *b, const float *rows, size_t stride,
                           float *y, float *tile) {
  const dynq_conv *c = r->c;
  const size_t end = dynq_conv_clamp(b->panel_end * DYNQ_PANEL, 0, c->outputs),
               positions = b->images * b->n[0] * b->n[1];
  const float *panels = c->weight + b->group * dynq_conv_group_weights(c, r->k);
  for (size_t column = b->panel * DYNQ_PANEL; column < end; column += r->strip) {
    const size_t columns = end - column < r->strip ? end - column : r->strip;
    const size_t whole = c->padded ? columns : columns / DYNQ_PANEL * DYNQ_PANEL; /* in panels of 16 */
    const float *panel = panels + column * r->k;
    c->kernels->vector.matmul(positions, whole, r->k, rows, stride, panel, DYNQ_PANEL, DYNQ_PANEL * r->k, y, r->strip);
    c->kernels->vector.matmul(positions, columns - whole, r->k, rows, stride, panel + whole * r->k, columns - whole,
                              DYNQ_PANEL, y + whole, r->strip);
    const float *bias = c->bias != NULL ? c->bias + b->group * c->outputs + column : NULL;
    finish_rows(c, positions, columns, bias, y, r->strip);
    write_transposed(r, b, y, r->strip, column, columns, tile);
  }
}

dynq_lhs_source dynq_conv_source(const dynq_conv_plan *r, const dynq_conv_block *b) {
  if (r->c->fixed) {
    return r->fixed;
  }
  return r->c->per_image ? r->images[b->image] : (dynq_lhs_source){.scheme = r->c->scheme, .per_row = true};
}

dynq_gemm dynq_conv_gemm(const dynq_conv_plan *r, const dynq_conv_block *b, float *y) {
  const dynq_conv *c = r->c;
  return (dynq_gemm){.kernels = c->kernels,
                     .weight = c->packed,
                     .m = b->images * b->n[0] * b->n[1],
                     .epilogue = {.bias = c->bias,
                                  .activation = c->activation,
                                  .alpha = c->alpha,
                                  .beta = c->beta,
                                  .min = c->min,
                                  .max = c->max},
                     .y = y,
                     .y_stride = c->outputs};
}

void dynq_conv_write(const dynq_conv_plan *r, const dynq_conv_block *b, const float *y, float *tile) {
  const size_t end = dynq_conv_clamp(b->panel_end * DYNQ_PANEL, 0, r->c->outputs);
  for (size_t column = b->panel * DYNQ_PANEL; column < end; column += r->strip) {
    write_transposed(r, b, y + column, r->c->outputs, column, end - column < r->strip ? end - column : r->strip, tile);
  }
}

void dynq_conv_multiply_int8(const dynq_conv_plan *r, const dynq_conv_block *b, const dynq_lhs *lhs, float *y,
                             float *tile) {
  const dynq_gemm gemm = dynq_conv_gemm(r, b, y);
  (void)dynq_gemm_block(&gemm, lhs, 0, gemm.m, b->panel, b->panel_end);
  dynq_conv_write(r, b, y, tile);
}

/* False if a row was not finite. */
static bool multiply_int8(const dynq_conv_plan *r, const dynq_conv_block *b, const float *rows, size_t stride, float *y,
                          float *tile, void *memory) {
  const dynq_conv *c = r->c;
  dynq_lhs lhs;
  dynq_lhs_source source = dynq_conv_source(r, b);
  source.x = rows;
  source.x_stride = stride;
  dynq_lhs_place(&lhs, memory, r->block_images * r->block[0] * r->block[1], r->k, c->packed->info.zero_point != NULL);
  const bool finite = dynq_lhs_fill(&lhs, c->kernels, &source, 0, b->images * b->n[0] * b->n[1], r->k);
  dynq_conv_multiply_int8(r, b, &lhs, y, tile);
  return finite;
}

bool dynq_conv_rows(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory) {
  const dynq_conv *c = r->c;
  float *window = (float *)(void *)memory, *rows = window;
  float *y = (float *)(void *)(memory + r->window_bytes + r->rows_bytes);
  float *tile = (float *)(void *)(memory + r->window_bytes + r->rows_bytes + r->y_bytes);
  size_t stride = c->axis[1].stride * c->channels;
  if (r->block[1] == 1) { /* a position is a row of the output */
    stride = c->axis[0].stride * b->span[1] * c->channels;
  }
  if (r->copied) {
    rows = (float *)(void *)(memory + r->window_bytes);
    stride = r->k;
  }
  for (size_t image = 0; image < b->images; image++) { /* rows that are not written out are those of one image */
    fill_window(c, b, image, window);
    if (r->copied) {
      copy_rows(c, b, window, rows + image * b->n[0] * b->n[1] * r->k);
    }
  }
  if (c->packed == NULL) {
    multiply_float(r, b, rows, stride, y, tile);
    return true;
  }
  return multiply_int8(r, b, rows, stride, y, tile,
                       memory + r->window_bytes + r->rows_bytes + r->y_bytes + r->tile_bytes);
}
