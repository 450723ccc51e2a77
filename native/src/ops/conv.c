/*
 * Blocks of positions, each by one thread.
 *
 * Where a group has many outputs they are the lanes: the input under a block is transposed, so that the channels of a
 * place lie together, a position's row is a few runs of it (one run where the kernel has one row and no holes: then
 * rows overlap and none is written out), and the products, a row of outputs for each position, are transposed back.
 * Where it has few, depthwise among them, positions are the lanes: row k of the right operand holds value k of every
 * position. The order of each sum is the same.
 */
#include "conv.h"

#include "../alloc.h"
#include "../status.h"
#include "../threads.h"
#include "../work.h"
#include "gemm.h"
#include "walk.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
  POSITIONS = 128,         /* of a block, at most, where outputs are the lanes */
  LEAST_POSITIONS = 24,    /* of a block: fewer do not pay for reading the weights */
  ROWS_ELEMENTS = 1 << 17, /* of a block's rows: they stay in L2, as do its outputs of */
  OUTPUT_ELEMENTS = 1 << 16,
  STRIP = 128,               /* outputs that are transposed at a time */
  WEIGHT_ELEMENTS = 1 << 16, /* of a strip */
  LANES_MOST = 512,          /* positions of a block where they are the lanes */
  LANES_ELEMENTS = 1 << 14,
  PIECE = 64,       /* places that are transposed at a time */
  FEW_OUTPUTS = 16, /* of a group: fewer leave lanes empty */
  MACS_PER_NANOSECOND = 32,
  ELEMENTS_PER_NANOSECOND = 4
};

typedef struct run {
  const dynq_conv *c;
  size_t k, panels;
  bool positions_are_lanes, copied;  /* copied: rows are written out */
  size_t block[2], blocks[2];        /* positions of the largest block; blocks */
  size_t block_images, image_blocks; /* several images where they are small */
  size_t parts, strip;               /* of the outputs */
  size_t tasks, workers;
  size_t window_bytes, rows_bytes, y_bytes, tile_bytes, lhs_bytes; /* of a worker's memory, in this order */
  size_t memory_each, image_bytes;
  char *memory;
  dynq_lhs_source *images; /* per image: its scale and zero-point */
  dynq_lhs_source fixed;   /* those of a fixed range */
  _Atomic size_t next;
  _Atomic bool nonfinite;
} run;

/* Positions [begin, begin + n) of each axis, of images [image, image + images), one group, times panels [panel,
 * panel_end). */
typedef struct block {
  size_t image, images, group, begin[2], n[2], panel, panel_end;
  ptrdiff_t place[2]; /* the first place of the input that they see */
  size_t span[2];     /* places from there on */
} block;

void dynq_conv_flatten(dynq_conv *c) {
  const dynq_conv_axis columns = c->axis[1];
  if (columns.in == 1 && columns.out == 1 && columns.taps == 1 && columns.first == 0) {
    c->axis[1] = c->axis[0];
    c->axis[0] = columns;
  }
}

size_t dynq_conv_k(const dynq_conv *c) {
  return dynq_size_mul(dynq_size_mul(c->axis[0].taps, c->axis[1].taps), c->channels);
}

static size_t round_up(size_t bytes) { return dynq_size_add(bytes, 63) / 64 * 64; }
static size_t floats(size_t a, size_t b) { return round_up(dynq_size_mul(dynq_size_mul(a, b), sizeof(float))); }
static size_t clamp(size_t x, size_t least, size_t most) { return x < least ? least : x > most ? most : x; }
static size_t parts_of(size_t total, size_t each) { return (total + each - 1) / each; }

static size_t span_of(const dynq_conv_axis *a, size_t n) {
  return a->taps == 0
             ? 0
             : dynq_size_add(dynq_size_mul(n - 1, a->stride), dynq_size_add(dynq_size_mul(a->taps - 1, a->step), 1));
}

/* ---- What is done ---- */

/* Blocks of about `most` positions: whole rows of the output where several rows go into one, whole images where several
 * images do. */
static void choose_blocks(run *r, size_t most) {
  const size_t rows = r->c->axis[0].positions, columns = r->c->axis[1].positions;
  r->blocks[1] = parts_of(columns, most);
  r->block[1] = parts_of(columns, r->blocks[1]);
  r->blocks[0] = r->blocks[1] > 1 ? rows : parts_of(rows, clamp(most / columns, 1, rows));
  r->block[0] = parts_of(rows, r->blocks[0]);
  const bool whole = r->blocks[0] * r->blocks[1] == 1 && !r->positions_are_lanes && !r->c->per_image;
  r->image_blocks = whole ? parts_of(r->c->images, clamp(most / (rows * columns), 1, r->c->images)) : r->c->images;
  r->block_images = parts_of(r->c->images, r->image_blocks);
}

/* Rows of a block's positions lie in the transposed input, equally far from each other. */
static bool rows_in_place(const run *r) {
  const dynq_conv_axis *a = r->c->axis;
  const bool one_run = a[0].taps <= 1 && (a[1].taps <= 1 || a[1].step == 1);
  return one_run && r->block_images == 1 &&
         (r->block[0] == 1 || r->block[1] == 1 ||
          dynq_size_mul(a[0].stride, span_of(&a[1], r->block[1])) == dynq_size_mul(r->block[1], a[1].stride));
}

static void plan_memory(run *r) {
  const dynq_conv *c = r->c;
  const size_t positions = r->block_images * r->block[0] * r->block[1];
  if (r->positions_are_lanes) {
    r->window_bytes = floats(c->outputs, r->k);
    r->rows_bytes = floats(positions, r->k);
    r->y_bytes = floats(positions, c->outputs);
  } else {
    r->window_bytes =
        floats(dynq_size_mul(span_of(&c->axis[0], r->block[0]), span_of(&c->axis[1], r->block[1])), c->channels);
    r->rows_bytes = r->copied ? floats(positions, r->k) : 0;
    r->y_bytes = floats(positions, c->packed != NULL ? c->outputs : r->strip);
    r->tile_bytes = floats(parts_of(positions, DYNQ_PANEL) * DYNQ_PANEL, r->strip);
    r->lhs_bytes = c->packed != NULL ? dynq_lhs_bytes(positions, r->k) : 0;
  }
  const size_t inputs = dynq_size_add(r->window_bytes, r->rows_bytes),
               outputs = dynq_size_add(r->y_bytes, r->tile_bytes);
  r->memory_each = dynq_size_add(dynq_size_add(inputs, outputs), r->lhs_bytes);
  r->image_bytes = c->packed != NULL && c->per_image ? round_up(dynq_size_mul(c->images, sizeof *r->images)) : 0;
}

/* False where there is nothing to write. */
static bool plan(run *r, const dynq_conv *c, size_t threads) {
  *r = (run){.c = c, .k = dynq_conv_k(c), .panels = parts_of(c->outputs, DYNQ_PANEL)};
  const size_t positions = dynq_size_mul(c->axis[0].positions, c->axis[1].positions);
  const size_t all = dynq_size_mul(dynq_size_mul(c->images, c->groups), positions);
  if (all == 0 || c->outputs == 0) {
    return false;
  }
  const size_t speed = c->packed != NULL ? c->kernels->gemm->macs_per_nanosecond : MACS_PER_NANOSECOND;
  const size_t elements = dynq_size_mul(all, r->k), macs = dynq_size_mul(elements, c->outputs);
  const size_t worth = dynq_work_parts(threads, dynq_size_mul(all, r->panels),
                                       dynq_size_add(macs / speed, elements / ELEMENTS_PER_NANOSECOND));
  const size_t share = worth > 1 ? clamp(all / (4 * worth), LEAST_POSITIONS, LANES_MOST) : LANES_MOST;
  r->positions_are_lanes = c->packed == NULL && c->outputs < FEW_OUTPUTS && positions > c->outputs;
  if (r->positions_are_lanes) {
    const size_t most = clamp(LANES_ELEMENTS / (r->k + 1), 4 * DYNQ_PANEL, LANES_MOST);
    choose_blocks(r, most < share ? most : share);
    r->parts = 1;
  } else {
    size_t most = clamp(ROWS_ELEMENTS / (r->k + 1), LEAST_POSITIONS, POSITIONS);
    if (c->packed != NULL) {
      most = clamp(OUTPUT_ELEMENTS / c->outputs, LEAST_POSITIONS, most);
    }
    choose_blocks(r, most < share ? most : share);
    r->copied = !rows_in_place(r);
    r->strip = clamp(WEIGHT_ELEMENTS / (r->k + 1) / DYNQ_PANEL * DYNQ_PANEL, 2 * DYNQ_PANEL, STRIP);
    const size_t blocks = dynq_size_mul(dynq_size_mul(r->image_blocks, c->groups), r->blocks[0] * r->blocks[1]);
    r->parts = blocks >= worth ? 1 : clamp(parts_of(worth, blocks), 1, r->panels);
  }
  r->tasks =
      dynq_size_mul(dynq_size_mul(dynq_size_mul(r->image_blocks, c->groups), r->blocks[0] * r->blocks[1]), r->parts);
  r->workers = worth < r->tasks ? worth : r->tasks;
  plan_memory(r);
  return true;
}

static block block_of(const run *r, size_t index) {
  const dynq_conv *c = r->c;
  block b;
  dynq_share(r->panels, r->parts, index % r->parts, &b.panel, &b.panel_end);
  index /= r->parts;
  for (size_t d = 2; d-- > 0;) {
    size_t end;
    dynq_share(c->axis[d].positions, r->blocks[d], index % r->blocks[d], &b.begin[d], &end);
    b.n[d] = end - b.begin[d];
    b.place[d] = c->axis[d].first + (ptrdiff_t)(b.begin[d] * c->axis[d].stride);
    b.span[d] = span_of(&c->axis[d], b.n[d]);
    index /= r->blocks[d];
  }
  b.group = index % c->groups;
  dynq_share(c->images, r->image_blocks, index / c->groups, &b.image, &b.images);
  b.images -= b.image;
  return b;
}

static const float *input_of(const dynq_conv *c, const block *b) {
  return c->x + (b->image * c->groups + b->group) * c->channels * (c->axis[0].in * c->axis[1].in);
}

static float *output_of(const dynq_conv *c, const block *b) {
  return c->y + (b->image * c->groups + b->group) * c->outputs * (c->axis[0].out * c->axis[1].out);
}

/* ---- Outputs ---- */

/* The block's positions of a plane of the output are one run. */
static bool is_run(const dynq_conv *c, const block *b) {
  const dynq_conv_axis *a = c->axis;
  return a[1].out_stride == 1 && (b->n[0] == 1 || (a[0].out_stride == 1 && b->n[1] == a[1].out));
}

static float *first_output(const dynq_conv *c, const block *b, float *plane) {
  const dynq_conv_axis *a = c->axis;
  return plane + (a[0].out_first + b->begin[0] * a[0].out_stride) * a[1].out + a[1].out_first +
         b->begin[1] * a[1].out_stride;
}

/* The outputs of one channel, position after position. */
static void put(const dynq_conv *c, const block *b, const float *from, float *plane) {
  const size_t step = c->axis[1].out_stride;
  float *to = first_output(c, b, plane);
  for (size_t i = 0; i < b->n[0]; i++, from += b->n[1], to += c->axis[0].out_stride * c->axis[1].out) {
    if (step == 1) {
      memcpy(to, from, b->n[1] * sizeof *to);
    } else {
      for (size_t j = 0; j < b->n[1]; j++) {
        to[j * step] = from[j];
      }
    }
  }
}

/* Outputs [column, column + columns): rows of positions in, channels of positions out. */
static void write_transposed(const run *r, const block *b, const float *y, size_t stride, size_t column, size_t columns,
                             float *tile) {
  const dynq_conv *c = r->c;
  const size_t each = b->n[0] * b->n[1], positions = b->images * each, plane = c->axis[0].out * c->axis[1].out;
  const bool one_run = b->images == 1 && is_run(c, b);
  float line[POSITIONS];
  c->kernels->vector.pack_transposed(positions, columns, y, stride, tile);
  float *to = output_of(c, b) + column * plane;
  for (size_t i = 0; i < columns; i++, to += plane) {
    float *values = one_run ? first_output(c, b, to) : line;
    const float *from = tile + i * DYNQ_PANEL;
    size_t p = 0;
    for (; p + DYNQ_PANEL <= positions; p += DYNQ_PANEL, from += columns * DYNQ_PANEL) {
      memcpy(values + p, from, DYNQ_PANEL * sizeof *values);
    }
    memcpy(values + p, from, (p < positions ? positions - p : 0) * sizeof *values);
    for (size_t image = 0; image < b->images && !one_run; image++) {
      put(c, b, line + image * each, to + image * c->groups * c->outputs * plane);
    }
  }
}

/* ---- Outputs are the lanes ---- */

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

/* Of places [place, place + span): those before the input, in it; the rest lies behind it. */
static void inside(ptrdiff_t place, size_t span, size_t in, size_t *before, size_t *within) {
  *before = place < 0 ? clamp((size_t)-place, 0, span) : 0;
  const size_t from = place < 0 ? 0 : (size_t)place;
  *within = from < in ? clamp(in - from, 0, span - *before) : 0;
}

/* The input under the block in one of its images, (span, span, channels). */
static void fill_window(const dynq_conv *c, const block *b, size_t image, float *to) {
  const size_t plane = c->axis[0].in * c->axis[1].in, row_size = b->span[1] * c->channels;
  const float *input = input_of(c, b) + image * c->groups * c->channels * plane;
  size_t above, rows, left, columns;
  inside(b->place[0], b->span[0], c->axis[0].in, &above, &rows);
  inside(b->place[1], b->span[1], c->axis[1].in, &left, &columns);
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
static void copy_rows(const dynq_conv *c, const block *b, const float *window, float *to) {
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
  static const float ones[STRIP] = {SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN};
#undef FOUR
#undef SIXTEEN
  if (bias == NULL && c->activation == DYNQ_ACTIVATION_NONE) {
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
                                     .y = y + i * stride,
                                     .y_stride = stride};
    c->kernels->vector.epilogue(&tile);
  }
}

static void multiply_float(const run *r, const block *b, const float *rows, size_t stride, float *y, float *tile) {
  const dynq_conv *c = r->c;
  const size_t end = clamp(b->panel_end * DYNQ_PANEL, 0, c->outputs), positions = b->images * b->n[0] * b->n[1];
  const float *panels = c->weight + b->group * r->panels * r->k * DYNQ_PANEL;
  for (size_t column = b->panel * DYNQ_PANEL; column < end; column += r->strip) {
    const size_t columns = end - column < r->strip ? end - column : r->strip;
    c->kernels->vector.matmul(positions, columns, r->k, rows, stride, panels + column * r->k, DYNQ_PANEL,
                              DYNQ_PANEL * r->k, y, r->strip);
    const float *bias = c->bias != NULL ? c->bias + b->group * c->outputs + column : NULL;
    finish_rows(c, positions, columns, bias, y, r->strip);
    write_transposed(r, b, y, r->strip, column, columns, tile);
  }
}

/* False where a row was not finite. */
static bool multiply_int8(const run *r, const block *b, const float *rows, size_t stride, float *y, float *tile,
                          void *memory) {
  const dynq_conv *c = r->c;
  const size_t end = clamp(b->panel_end * DYNQ_PANEL, 0, c->outputs), positions = b->images * b->n[0] * b->n[1];
  dynq_lhs lhs;
  dynq_lhs_source source = {.scheme = c->scheme, .per_row = true};
  if (c->fixed) {
    source = r->fixed;
  } else if (c->per_image) {
    source = r->images[b->image];
  }
  source.x = rows;
  source.x_stride = stride;
  dynq_lhs_place(&lhs, memory, r->block_images * r->block[0] * r->block[1], r->k, c->packed->info.zero_point != NULL);
  const bool finite = dynq_lhs_fill(&lhs, c->kernels, &source, 0, positions, r->k);
  const dynq_gemm gemm = {.kernels = c->kernels,
                          .weight = c->packed,
                          .m = positions,
                          .epilogue = {.bias = c->bias, .activation = c->activation},
                          .y = y,
                          .y_stride = c->outputs};
  (void)dynq_gemm_block(&gemm, &lhs, 0, positions, b->panel, b->panel_end);
  for (size_t column = b->panel * DYNQ_PANEL; column < end; column += r->strip) {
    write_transposed(r, b, y + column, c->outputs, column, end - column < r->strip ? end - column : r->strip, tile);
  }
  return finite;
}

static bool run_outputs(const run *r, const block *b, char *memory) {
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

/* ---- Positions are the lanes ---- */

/* A row of the right operand: one tap, one channel. */
static void fill_row(const dynq_conv *c, const block *b, size_t tap_row, size_t tap_column, const float *plane,
                     float *to) {
  const dynq_conv_axis *rows = &c->axis[0], *columns = &c->axis[1];
  const ptrdiff_t first = b->place[1] + (ptrdiff_t)(tap_column * columns->step);
  const size_t step = columns->stride, n = b->n[1];
  const size_t skipped = first < 0 ? clamp(((size_t)-first + step - 1) / step, 0, n) : 0;
  const ptrdiff_t end = (ptrdiff_t)columns->in - first; /* places from `first` to the input's end */
  const size_t until = end > 0 ? clamp(((size_t)end + step - 1) / step, skipped, n) : skipped;
  for (size_t i = 0; i < b->n[0]; i++, to += n) {
    const ptrdiff_t row = b->place[0] + (ptrdiff_t)(i * rows->stride + tap_row * rows->step);
    if (row < 0 || row >= (ptrdiff_t)rows->in || skipped == until) {
      memset(to, 0, n * sizeof *to);
      continue;
    }
    const float *from = plane + (size_t)row * columns->in + (size_t)(first + (ptrdiff_t)(skipped * step));
    memset(to, 0, skipped * sizeof *to);
    if (step == 1) {
      memcpy(to + skipped, from, (until - skipped) * sizeof *to);
    } else {
      for (size_t j = skipped; j < until; j++) {
        to[j] = from[(j - skipped) * step];
      }
    }
    memset(to + until, 0, (n - until) * sizeof *to);
  }
}

/* Where the rows are in the input itself, `*stride` apart: a kernel of one place over whole rows, or one channel under
 * a kernel of one row. Else NULL. */
static const float *rows_of_input(const dynq_conv *c, const block *b, size_t *stride) {
  const dynq_conv_axis *rows = &c->axis[0], *columns = &c->axis[1];
  if (columns->stride != 1 || rows->taps != 1 || b->place[0] < 0 || b->place[1] < 0 ||
      (size_t)b->place[0] + b->span[0] > rows->in || (size_t)b->place[1] + b->span[1] > columns->in) {
    return NULL;
  }
  const bool one_run = b->n[0] == 1 || (rows->stride == 1 && b->n[1] == columns->in);
  if (!one_run || (columns->taps != 1 && c->channels != 1)) {
    return NULL;
  }
  *stride = c->channels == 1 ? columns->step : rows->in * columns->in;
  return input_of(c, b) + (size_t)b->place[0] * columns->in + (size_t)b->place[1];
}

static void run_positions(const run *r, const block *b, char *memory) {
  const dynq_conv *c = r->c;
  const size_t n = b->n[0] * b->n[1], k = r->k, plane = c->axis[0].out * c->axis[1].out;
  const size_t in_plane = c->axis[0].in * c->axis[1].in;
  const float *panel = c->weight + b->group * k * DYNQ_PANEL;
  float *weight = (float *)(void *)memory, *rows = (float *)(void *)(memory + r->window_bytes);
  float *y = (float *)(void *)(memory + r->window_bytes + r->rows_bytes), *to = output_of(c, b);
  size_t row_stride = n, y_stride = n;
  for (size_t i = 0; i < c->outputs; i++) {
    for (size_t j = 0; j < k; j++) {
      weight[i * k + j] = panel[j * DYNQ_PANEL + i];
    }
  }
  const float *right = rows_of_input(c, b, &row_stride);
  if (right == NULL) {
    right = rows;
    for (size_t tap = 0; tap < c->axis[0].taps * c->axis[1].taps; tap++) {
      for (size_t channel = 0; channel < c->channels; channel++, rows += n) {
        fill_row(c, b, tap / c->axis[1].taps, tap % c->axis[1].taps, input_of(c, b) + channel * in_plane, rows);
      }
    }
  }
  const bool one_run = is_run(c, b);
  if (one_run) {
    y = first_output(c, b, to);
    y_stride = plane;
  }
  c->kernels->vector.matmul(c->outputs, n, k, weight, k, right, row_stride, DYNQ_PANEL, y, y_stride);
  for (size_t i = 0; i < c->outputs; i++) {
    float *line = y + i * y_stride;
    if (c->bias != NULL) {
      const float bias = c->bias[b->group * c->outputs + i];
      for (size_t j = 0; j < n; j++) {
        line[j] += bias;
      }
    }
    if (c->bias != NULL || c->activation != DYNQ_ACTIVATION_NONE) {
      c->kernels->vector.activate(c->activation, n, line, line);
    }
    if (!one_run) {
      put(c, b, line, to + i * plane);
    }
  }
}

/* ---- All of it ---- */

static void task(void *arg, size_t worker) {
  run *r = arg;
  char *memory = r->memory + worker * r->memory_each;
  for (size_t i = atomic_fetch_add(&r->next, 1); i < r->tasks; i = atomic_fetch_add(&r->next, 1)) {
    const block b = block_of(r, i);
    if (r->positions_are_lanes) {
      run_positions(r, &b, memory);
    } else if (!run_outputs(r, &b, memory)) {
      atomic_store(&r->nonfinite, true);
    }
  }
}

size_t dynq_conv_bytes(const dynq_conv *conv, size_t count) {
  run r;
  return plan(&r, conv, count) ? dynq_size_add(r.image_bytes, dynq_size_mul(r.workers, r.memory_each)) : 0;
}

dynq_status dynq_conv_run(const dynq_conv *c, void *memory, const dynq_threads *threads, size_t count) {
  run r;
  if (!plan(&r, c, count)) {
    return DYNQ_OK;
  }
  r.memory = (char *)memory + r.image_bytes;
  r.images = memory;
  const size_t plane = c->axis[0].in * c->axis[1].in;
  for (size_t i = 0; r.image_bytes != 0 && i < c->images; i++) {
    r.images[i] = (dynq_lhs_source){.x = c->x + i * c->channels * plane, .x_stride = plane, .scheme = c->scheme};
    dynq_lhs_use_tensor_range(&r.images[i], c->kernels, threads, count, c->channels, plane);
  }
  if (c->fixed) {
    r.fixed.scheme = c->scheme;
    dynq_lhs_use_range(&r.fixed, c->kernels, c->lo, c->hi);
  }
  dynq_parallel(threads, r.workers, task, &r, r.workers);
  return atomic_load(&r.nonfinite) ? dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity") : DYNQ_OK;
}

/* ---- Weights ---- */

size_t dynq_conv_panels(const dynq_conv *c) {
  return dynq_size_mul(dynq_size_mul(c->groups, parts_of(c->outputs, DYNQ_PANEL) * DYNQ_PANEL), dynq_conv_k(c));
}

size_t dynq_conv_panel_bytes(const dynq_conv *conv) { return floats(dynq_conv_panels(conv), 1); }

typedef struct pack_job {
  const dynq_conv *c;
  const dynq_conv_weights *w;
  size_t panels;
  float *to;
} pack_job;

static void pack_panels(const void *arg, size_t begin, size_t end) {
  const pack_job *job = arg;
  const dynq_conv *c = job->c;
  const dynq_conv_weights *w = job->w;
  const size_t k = dynq_conv_k(c);
  for (size_t i = begin; i < end; i++) {
    const size_t output = i % job->panels * DYNQ_PANEL;
    const size_t width = c->outputs - output < DYNQ_PANEL ? c->outputs - output : DYNQ_PANEL;
    const float *group = w->from + i / job->panels * w->strides[0] + output * w->strides[1];
    float *to = job->to + i * k * DYNQ_PANEL;
    memset(to, 0, k * DYNQ_PANEL * sizeof *to);
    for (size_t row = 0; row < c->axis[0].taps; row++) {
      const size_t line = (w->tap_first[0] + row * (size_t)w->tap_step[0]) * w->columns;
      for (size_t column = 0; column < c->axis[1].taps; column++) {
        const float *tap = group + (line + w->tap_first[1] + column * (size_t)w->tap_step[1]);
        for (size_t channel = 0; channel < c->channels; channel++, to += DYNQ_PANEL) {
          for (size_t j = 0; j < width; j++) {
            to[j] = tap[channel * w->strides[2] + j * w->strides[1]];
          }
        }
      }
    }
  }
}

void dynq_conv_pack(const dynq_op_node *node, const dynq_conv *conv, const dynq_conv_weights *weights, float *to) {
  if (dynq_conv_panels(conv) == 0) {
    return;
  }
  const pack_job job = {conv, weights, parts_of(conv->outputs, DYNQ_PANEL), to};
  dynq_op_parallel(node, conv->groups * job.panels, dynq_size_mul(dynq_conv_panels(conv), sizeof *to), pack_panels,
                   &job);
}
