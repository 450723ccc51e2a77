/*
 * Convolution in int8 where a row of the output has positions enough to be the lanes of quantization.
 *
 * The input under a block is as planes.c has it. The range of a position's row is that of the channels at each place,
 * then that of the places it covers. Then each value is quantized with the scale of each position that sees it. Along a
 * row of wide windows it is quantized once for all neighbours of the same range, whose rows overlap.
 */
#include "../gemm/gemm.h"
#include "../quant/qparams.h"
#include "run.h"

#include <math.h>

enum { WIDE = 8 }; /* taps */

/* Arrays that a worker has beside the input under a block, in `rows_bytes`. */
typedef struct arrays {
  float *place_lo, *place_hi; /* of all channels, place by place, as the planes of one channel lie */
  float *lo, *hi;             /* of the rows */
  float *row;                 /* one that is written out */
  size_t *taps;               /* offsets of the first channel */
  /* Used if rows overlap: the scale and zero-point of each place, and its channels, quantized. */
  float *scale;
  int32_t *zero_point;
  uint8_t *places;
} arrays;

static size_t taps_of(const dynq_conv *c) { return c->axis[0].taps * c->axis[1].taps; }

/* A window that is wide enough, moves by one place and has its channels in whole groups: rows may overlap. */
static bool may_overlap(const dynq_conv *c) {
  const dynq_conv_axis *a = c->axis;
  return a[0].taps == 1 && a[1].taps >= WIDE && a[1].step == 1 && a[1].stride == 1 && c->channels % DYNQ_GROUP == 0;
}

static size_t place_count(const dynq_conv_plan *r) {
  const dynq_conv_planes *p = &r->planes;
  if (p->in_place) {
    return dynq_conv_places(&r->c->axis[0], r->block[0]) * p->pitch;
  }
  return p->phases[0] * p->phases[1] * p->phase;
}

/* The next `bytes` of memory, which begins at NULL if it is only counted. */
static void *take(char *memory, size_t *used, size_t bytes) {
  char *const p = memory != NULL ? memory + *used : NULL;
  *used = dynq_size_add(*used, bytes);
  return p;
}

/* Returns the bytes that they take. */
static size_t place_arrays(const dynq_conv_plan *r, char *memory, arrays *a) {
  const dynq_conv *c = r->c;
  const size_t places = dynq_conv_floats(place_count(r), 1), positions = dynq_conv_floats(r->block[0], r->block[1]);
  const size_t span = may_overlap(c) ? dynq_conv_places(&c->axis[1], r->block[1]) : 0;
  size_t used = 0;
  a->place_lo = take(memory, &used, places);
  a->place_hi = take(memory, &used, places);
  a->lo = take(memory, &used, positions);
  a->hi = take(memory, &used, positions);
  a->row = take(memory, &used, dynq_conv_floats(r->k, 1));
  a->taps = take(memory, &used, dynq_conv_round_up(dynq_size_mul(taps_of(c), sizeof(size_t))));
  a->scale = take(memory, &used, dynq_conv_floats(span, 1));
  a->zero_point = take(memory, &used, dynq_conv_floats(span, 1));
  a->places = take(memory, &used, dynq_conv_round_up(dynq_size_mul(span, c->channels)));
  return used;
}

void dynq_conv_int8_plan(dynq_conv_plan *r) {
  arrays a;
  dynq_conv_planes_plan(r);
  r->rows_bytes = place_arrays(r, NULL, &a);
}

/* Ranges of the rows; false if a value is not finite. */
static bool find_ranges(const dynq_conv_plan *r, const dynq_conv_block *b, const float *right, const size_t *offset,
                        const arrays *a) {
  const dynq_conv *c = r->c;
  const dynq_conv_planes *p = &r->planes;
  const size_t rows = dynq_conv_places(&c->axis[0], b->n[0]), columns = dynq_conv_places(&c->axis[1], b->n[1]);
  const size_t taps = taps_of(c), n = (rows - 1) * p->pitch + columns;
  bool finite = true;
  memset(a->lo, 0, b->n[0] * b->n[1] * sizeof *a->lo);
  memset(a->hi, 0, b->n[0] * b->n[1] * sizeof *a->hi);
  for (size_t phase = 0; phase < p->phases[0] * p->phases[1]; phase++) {
    float *lo = a->place_lo + phase * p->phase, *hi = a->place_hi + phase * p->phase;
    for (size_t row = 0; row < n; row += p->pitch) {
      memset(lo + row, 0, columns * sizeof *lo);
      memset(hi + row, 0, columns * sizeof *hi);
      finite &= c->kernels->vector.range_taps(columns, c->channels, right + phase * p->phase + row, offset, lo + row,
                                              hi + row);
    }
  }
  for (size_t i = 0; i < b->n[0] && finite; i++) {
    float *lo = a->lo + i * b->n[1], *hi = a->hi + i * b->n[1];
    (void)c->kernels->vector.range_taps(b->n[1], taps, a->place_lo + i * p->pitch, a->taps, lo, hi);
    (void)c->kernels->vector.range_taps(b->n[1], taps, a->place_hi + i * p->pitch, a->taps, lo, hi);
  }
  return finite;
}

/* Rows one after another, where some are not finite. */
static bool fill_each(const dynq_conv_plan *r, const dynq_conv_block *b, const float *right, const size_t *offset,
                      const arrays *a, dynq_lhs_source source, dynq_lhs lhs) {
  bool finite = true;
  source.x = a->row;
  source.x_stride = r->k;
  for (size_t i = 0; i < b->n[0]; i++) {
    for (size_t j = 0; j < b->n[1]; j++, lhs.data += lhs.stride, lhs.scale++, lhs.zero_point++) {
      for (size_t k = 0; k < r->k; k++) {
        a->row[k] = right[i * r->planes.pitch + j + offset[k]];
      }
      finite &= dynq_lhs_fill(&lhs, r->c->kernels, &source, 0, 1, r->k);
    }
  }
  return finite;
}

static void quantize(const dynq_conv_plan *r, const dynq_conv_block *b, const float *right, const size_t *offset,
                     const dynq_lhs *lhs) {
  const dynq_conv *c = r->c;
  dynq_quantize_taps taps = {.n = b->n[1], .k = r->k, .offset = offset, .q_stride = lhs->stride};
  dynq_integer_range(c->scheme, dynq_lhs_type(c->kernels), &taps.q_min, &taps.q_max);
  for (size_t i = 0; i < b->n[0]; i++) {
    taps.b = right + i * r->planes.pitch;
    taps.scale = lhs->scale + i * b->n[1];
    taps.zero_point = lhs->zero_point + i * b->n[1];
    taps.q = lhs->data + i * b->n[1] * lhs->stride;
    c->kernels->vector.quantize_taps(&taps);
  }
}

/* The end of the positions from j on that have one scale and zero-point. */
static size_t end_of_alike(const dynq_lhs *lhs, size_t j, size_t n) {
  size_t end = j + 1;
  while (end < n && lhs->scale[end] == lhs->scale[j] && lhs->zero_point[end] == lhs->zero_point[j]) {
    end++;
  }
  return end;
}

/* Returns whether it pays to quantize each place once for all neighbours that are alike. */
static bool overlaps(const dynq_conv *c, const dynq_lhs *lhs, size_t n) {
  size_t alike = 0, places = 0;
  if (!may_overlap(c)) {
    return false;
  }
  for (size_t j = 0; j < n; alike++) {
    const size_t end = end_of_alike(lhs, j, n);
    places += dynq_conv_places(&c->axis[1], end - j);
    j = end;
  }
  return 4 * alike <= n && 2 * places <= n * c->axis[1].taps;
}

/* Positions of one scale after another: their places quantized, and multiplied as rows that overlap. */
static void multiply_overlapping(const dynq_conv_plan *r, const float *right, const size_t *offset, const arrays *a,
                                 const dynq_lhs *lhs, const dynq_gemm *gemm, const dynq_conv_block *b) {
  const dynq_conv *c = r->c;
  dynq_quantize_taps taps = {.k = c->channels,
                             .offset = offset,
                             .scale = a->scale,
                             .zero_point = a->zero_point,
                             .q = a->places,
                             .q_stride = c->channels};
  dynq_integer_range(c->scheme, dynq_lhs_type(c->kernels), &taps.q_min, &taps.q_max);
  for (size_t j = 0, end; j < b->n[1]; j = end) {
    end = end_of_alike(lhs, j, b->n[1]);
    taps.n = dynq_conv_places(&c->axis[1], end - j);
    taps.b = right + j;
    for (size_t i = 0; i < taps.n; i++) {
      a->scale[i] = lhs->scale[j];
      a->zero_point[i] = lhs->zero_point[j];
    }
    c->kernels->vector.quantize_taps(&taps);
    const dynq_lhs part = {.data = a->places,
                           .stride = c->channels,
                           .scale = lhs->scale + j,
                           .zero_point = lhs->zero_point + j,
                           .blocks = 1};
    (void)dynq_gemm_block(gemm, &part, j, end - j, b->panel, b->panel_end);
  }
}

bool dynq_conv_int8_run(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory) {
  const dynq_conv *c = r->c;
  const size_t positions = b->n[0] * b->n[1];
  const size_t *offset = (const size_t *)(const void *)memory;
  char *const extra = memory + r->offset_bytes + r->window_bytes, *const y = extra + r->rows_bytes;
  float *outputs = (float *)(void *)y, *tile = (float *)(void *)(y + r->y_bytes);
  const float *right = dynq_conv_planes_input(r, b, memory);
  const dynq_lhs_source source = dynq_conv_source(r, b);
  arrays a;
  dynq_lhs lhs;
  (void)place_arrays(r, extra, &a);
  dynq_lhs_place(&lhs, y + r->y_bytes + r->tile_bytes, r->block[0] * r->block[1], r->k, false);
  for (size_t tap = 0; tap < taps_of(c); tap++) {
    a.taps[tap] = offset[tap * c->channels];
  }
  const bool look = source.per_row || source.fixed;
  bool finite = (!look || find_ranges(r, b, right, offset, &a)) && (source.per_row || !isnan(source.scale));
  if (finite) {
    for (size_t i = 0; i < positions; i++) {
      lhs.scale[i] = source.scale;
      lhs.zero_point[i] = source.zero_point;
      if (source.per_row) {
        dynq_qparams(a.lo[i] + 0.0f, a.hi[i] + 0.0f, c->scheme, dynq_lhs_type(c->kernels), &lhs.scale[i],
                     &lhs.zero_point[i]);
      }
    }
    if (b->n[0] == 1 && overlaps(c, &lhs, positions)) {
      const dynq_gemm gemm = dynq_conv_gemm(r, b, outputs);
      multiply_overlapping(r, right, offset, &a, &lhs, &gemm, b);
      dynq_conv_write(r, b, outputs, tile);
      return true;
    }
    quantize(r, b, right, offset, &lhs);
  } else {
    finite = fill_each(r, b, right, offset, &a, source, lhs);
  }
  dynq_conv_multiply_int8(r, b, &lhs, outputs, tile);
  return finite;
}
