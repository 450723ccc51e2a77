/*
 * Blocks of positions, each by one thread.
 *
 * Depthwise convolutions have a way of their own (depthwise.c). In others positions are the lanes in float32 (planes.c)
 * and of quantization (int8.c), or outputs and the values of a row are (rows.c). The order of each sum is the same.
 */
#include "../base/interrupt.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "../gemm/gemm.h"
#include "run.h"

#include <math.h>

enum {
  LEAST_POSITIONS = 24,    /* of a block: fewer do not pay for reading the weights */
  SOME_POSITIONS = 64,     /* of one that leaves a thread with others to do */
  ROWS_ELEMENTS = 1 << 17, /* of a block's rows: they stay in L2, as do its outputs of */
  OUTPUT_ELEMENTS = 1 << 16,
  WEIGHT_ELEMENTS = 1 << 16, /* of a strip */
  LANES_LEAST = 96,          /* positions of a block where they are the lanes, */
  LANES_MOST = 16384,
  LANES_ELEMENTS = 1 << 15, /* and of the input under it */
  LANES_K = 320,            /* more leave L1 */
  FEW_OUTPUTS = 16,         /* of a group: fewer leave lanes empty, */
  FEW_POSITIONS = 64,       /* as do fewer positions, */
  WIDE_TAPS = 16,
  FEW_COLUMNS = 8, /* or, in int8, fewer in a row of the output */
  MACS_PER_NANOSECOND = 32,
  ELEMENTS_PER_NANOSECOND = 4
};

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

static size_t span_of(const dynq_conv_axis *a, size_t n) {
  return a->taps == 0
             ? 0
             : dynq_size_add(dynq_size_mul(n - 1, a->stride), dynq_size_add(dynq_size_mul(a->taps - 1, a->step), 1));
}

/* ---- What is done ---- */

/* Blocks of about `most` positions: whole rows of the output where several rows go into one, whole images where several
 * images do. */
static void choose_blocks(dynq_conv_plan *r, size_t most) {
  const size_t rows = r->c->axis[0].positions, columns = r->c->axis[1].positions;
  r->blocks[1] = dynq_conv_parts(columns, most);
  r->block[1] = dynq_conv_parts(columns, r->blocks[1]);
  r->blocks[0] = r->blocks[1] > 1 ? rows : dynq_conv_parts(rows, dynq_conv_clamp(most / columns, 1, rows));
  r->block[0] = dynq_conv_parts(rows, r->blocks[0]);
  const bool whole = r->blocks[0] * r->blocks[1] == 1 && !r->positions_are_lanes && !r->c->per_image;
  r->image_blocks =
      whole ? dynq_conv_parts(r->c->images, dynq_conv_clamp(most / (rows * columns), 1, r->c->images)) : r->c->images;
  r->block_images = dynq_conv_parts(r->c->images, r->image_blocks);
}

/* Rows of a block's positions lie in the transposed input, equally far from each other. */
static bool rows_in_place(const dynq_conv_plan *r) {
  const dynq_conv_axis *a = r->c->axis;
  const bool one_run = a[0].taps <= 1 && (a[1].taps <= 1 || a[1].step == 1);
  return one_run && r->block_images == 1 &&
         (r->block[0] == 1 || r->block[1] == 1 ||
          dynq_size_mul(a[0].stride, span_of(&a[1], r->block[1])) == dynq_size_mul(r->block[1], a[1].stride));
}

static void plan_memory(dynq_conv_plan *r) {
  const dynq_conv *c = r->c;
  const bool int8 = c->packed != NULL;
  const size_t positions = r->block_images * r->block[0] * r->block[1];
  if (r->positions_are_lanes && !int8) {
    dynq_conv_planes_plan(r);
    r->y_bytes = dynq_conv_floats(dynq_conv_planes_outputs(r), 1);
  } else {
    if (r->positions_are_lanes) {
      dynq_conv_int8_plan(r);
    } else {
      const size_t places = dynq_size_mul(span_of(&c->axis[0], r->block[0]), span_of(&c->axis[1], r->block[1]));
      r->window_bytes = dynq_conv_floats(places, c->channels);
      r->rows_bytes = r->copied ? dynq_conv_floats(positions, r->k) : 0;
    }
    r->y_bytes = dynq_conv_floats(positions, int8 ? c->outputs : r->strip);
    r->tile_bytes = dynq_conv_floats(dynq_conv_parts(positions, DYNQ_PANEL) * DYNQ_PANEL, r->strip);
    r->lhs_bytes = int8 ? dynq_lhs_bytes(positions, r->k) : 0;
  }
  const size_t inputs = dynq_size_add(r->offset_bytes, dynq_size_add(r->window_bytes, r->rows_bytes)),
               outputs = dynq_size_add(r->y_bytes, r->tile_bytes);
  r->memory_each = dynq_size_add(dynq_size_add(inputs, outputs), r->lhs_bytes);
  r->image_bytes = int8 && c->per_image ? dynq_conv_round_up(dynq_size_mul(c->images, sizeof *r->images)) : 0;
}

/* Returns whether positions are enough to fill the lanes. Weights with zero-points need sums of the rows, which rows.c
 * has. */
static bool positions_are_lanes(const dynq_conv_plan *r) {
  const dynq_conv *c = r->c;
  const size_t positions = c->axis[0].positions * c->axis[1].positions;
  if (c->packed != NULL) {
    const dynq_conv_axis *a = c->axis;
    const bool one_run = a[0].taps <= 1 && (a[1].taps <= 1 || a[1].step == 1); /* rows need not be written out */
    return r->k != 0 && a[1].positions >= FEW_COLUMNS && c->packed->info.zero_point == NULL &&
           (!one_run || a[1].stride == 1);
  }
  return (positions >= FEW_POSITIONS && r->k <= LANES_K) || (c->outputs < FEW_OUTPUTS && positions > c->outputs);
}

/* False if there is nothing to write. */
static bool plan(dynq_conv_plan *r, const dynq_conv *c, size_t threads) {
  *r = (dynq_conv_plan){
      .c = c, .k = dynq_conv_k(c), .panels = dynq_conv_parts(c->outputs, DYNQ_PANEL), .group_blocks = c->groups};
  const size_t positions = dynq_size_mul(c->axis[0].positions, c->axis[1].positions);
  const size_t all = dynq_size_mul(dynq_size_mul(c->images, c->groups), positions);
  if (all == 0 || c->outputs == 0) {
    return false;
  }
  r->depthwise = dynq_conv_is_depthwise(c);
  if (r->depthwise) {
    dynq_conv_depthwise_plan(r, threads);
    return true;
  }
  const size_t speed = c->packed != NULL ? c->kernels->gemm->macs_per_nanosecond : MACS_PER_NANOSECOND;
  const size_t elements = dynq_size_mul(all, r->k), macs = dynq_size_mul(elements, c->outputs);
  const size_t worth = dynq_work_parts(threads, dynq_size_mul(all, r->panels),
                                       dynq_size_add(macs / speed, elements / ELEMENTS_PER_NANOSECOND));
  r->positions_are_lanes = positions_are_lanes(r);
  const size_t share = worth > 1 ? all / (4 * worth) : all; /* of each block, so that no thread waits long */
  if (r->positions_are_lanes && c->packed == NULL) {
    const size_t each = dynq_size_mul(c->channels, c->axis[0].stride * c->axis[1].stride);
    const size_t inputs = dynq_conv_clamp(LANES_ELEMENTS / dynq_size_add(each, 1), LANES_LEAST, LANES_MOST);
    const size_t outputs = dynq_conv_clamp(OUTPUT_ELEMENTS / c->outputs, LANES_LEAST, LANES_MOST);
    const size_t most = inputs < outputs ? inputs : outputs;
    choose_blocks(r, dynq_conv_clamp(share, LANES_LEAST, most));
    r->parts = 1;
    if (r->blocks[0] * r->blocks[1] == 1) {
      r->group_blocks = dynq_conv_parts(c->groups, dynq_conv_clamp(share / positions, 1, c->groups));
    }
  } else {
    size_t most = dynq_conv_clamp(ROWS_ELEMENTS / (r->k + 1), LEAST_POSITIONS, DYNQ_CONV_POSITIONS);
    if (c->packed != NULL) {
      most = dynq_conv_clamp(OUTPUT_ELEMENTS / c->outputs, LEAST_POSITIONS, most);
    }
    if (r->positions_are_lanes) { /* whole vectors; many of those whose windows overlap by far, which are one block's */
      most = c->axis[1].taps >= WIDE_TAPS ? dynq_conv_clamp(most, 4 * DYNQ_PANEL, DYNQ_CONV_POSITIONS) : most;
      most = (most + DYNQ_PANEL - 1) / DYNQ_PANEL * DYNQ_PANEL;
    }
    const size_t even = all / worth < SOME_POSITIONS ? all / worth : SOME_POSITIONS; /* each block reads the weights */
    choose_blocks(r, dynq_conv_clamp(share > even ? share : even, LEAST_POSITIONS, most));
    r->copied = !rows_in_place(r);
    r->strip = dynq_conv_clamp(WEIGHT_ELEMENTS / (r->k + 1) / DYNQ_PANEL * DYNQ_PANEL, 2 * DYNQ_PANEL, DYNQ_CONV_STRIP);
    const size_t blocks = dynq_size_mul(dynq_size_mul(r->image_blocks, r->group_blocks), r->blocks[0] * r->blocks[1]);
    r->parts = blocks >= worth ? 1 : dynq_conv_clamp(dynq_conv_parts(worth, blocks), 1, r->panels);
  }
  r->tasks = dynq_size_mul(dynq_size_mul(dynq_size_mul(r->image_blocks, r->group_blocks), r->blocks[0] * r->blocks[1]),
                           r->parts);
  r->workers = worth < r->tasks ? worth : r->tasks;
  plan_memory(r);
  return true;
}

static dynq_conv_block block_of(const dynq_conv_plan *r, size_t index) {
  const dynq_conv *c = r->c;
  dynq_conv_block b;
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
  dynq_share(c->groups, r->group_blocks, index % r->group_blocks, &b.group, &b.groups);
  b.groups -= b.group;
  dynq_share(c->images, r->image_blocks, index / r->group_blocks, &b.image, &b.images);
  b.images -= b.image;
  return b;
}

/* ---- All of it ---- */

static void task(void *arg, size_t worker) {
  dynq_conv_plan *r = arg;
  char *memory = r->memory + worker * r->memory_each;
  if (r->depthwise) {
    dynq_conv_depthwise_begin(r, memory);
  } else if (r->positions_are_lanes) {
    dynq_conv_planes_begin(r, memory);
  }
  for (size_t i = atomic_fetch_add(&r->next, 1); i < r->tasks && !dynq_interrupted();
       i = atomic_fetch_add(&r->next, 1)) {
    if (r->depthwise) {
      dynq_conv_depthwise_run(r, i, memory);
      continue;
    }
    const dynq_conv_block b = block_of(r, i);
    if (r->positions_are_lanes && r->c->packed == NULL) {
      dynq_conv_planes_run(r, &b, memory);
    } else if (!(r->positions_are_lanes ? dynq_conv_int8_run : dynq_conv_rows)(r, &b, memory)) {
      atomic_store(&r->nonfinite, true);
    }
  }
}

size_t dynq_conv_bytes(const dynq_conv *conv, size_t count) {
  dynq_conv_plan r;
  return plan(&r, conv, count) ? dynq_size_add(r.image_bytes, dynq_size_mul(r.workers, r.memory_each)) : 0;
}

dynq_status dynq_conv_run(const dynq_conv *c, void *memory, const dynq_threads *threads, size_t count) {
  dynq_conv_plan r;
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
