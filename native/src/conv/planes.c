/*
 * Convolution in float32 with positions as the lanes: the input stays as it is, planes of one channel each.
 *
 * Value k of a row lies, for the positions of a row of the output, in a run of one channel's plane. So the left operand
 * is the weights, the right one the input, whose row k begins wherever the tap and the channel say. If the input has to
 * be padded, or windows move by more than one place, the part under a block is copied first. Each row that is left of
 * the stride then becomes a run. Positions of several rows of the output are multiplied as one run, with those between
 * them, of which nothing is kept.
 */
#include "run.h"

#include "../base/alloc.h"

/* Elements of a run of the right operand, which stays in L1 while all outputs pass over it. */
enum {
  RUN_ELEMENTS = 6144,
  RUN_LEAST = 48 /* positions: whole tiles on every instruction set */
};

static size_t phases_of(const dynq_conv_axis *a) { return a->taps <= 1 || a->step % a->stride == 0 ? 1 : a->stride; }

static bool in_place(const dynq_conv *c) {
  for (size_t d = 0; d < 2; d++) {
    const dynq_conv_axis *a = &c->axis[d];
    const size_t last = a->positions - 1 + (a->taps != 0 ? (a->taps - 1) * a->step : 0);
    if (a->stride != 1 || a->first < 0 || (size_t)a->first + last >= a->in) {
      return false;
    }
  }
  return true;
}

/* Returns the length of the run that covers `rows` rows of `columns` positions. */
static size_t run_length(const dynq_conv_planes *p, size_t rows, size_t columns) {
  return (rows - 1) * p->pitch + columns;
}

void dynq_conv_planes_plan(dynq_conv_plan *r) {
  const dynq_conv *c = r->c;
  dynq_conv_planes *p = &r->planes;
  *p = (dynq_conv_planes){.in_place = in_place(c), .phases = {1, 1}, .pitch = c->axis[1].in};
  p->channel = c->axis[0].in * c->axis[1].in;
  r->window_bytes = 0;
  if (!p->in_place) {
    p->phases[0] = phases_of(&c->axis[0]);
    p->phases[1] = phases_of(&c->axis[1]);
    p->pitch = dynq_conv_places(&c->axis[1], r->block[1]);
    p->phase = dynq_size_mul(dynq_conv_places(&c->axis[0], r->block[0]), p->pitch);
    p->channel = dynq_conv_round_up(dynq_size_mul(p->phase, p->phases[0] * p->phases[1])); /* floats */
    p->channel += p->channel % 128 == 0 ? 64 : 0; /* channels do not meet in the same sets of the cache */
    r->window_bytes = dynq_conv_floats(p->channel, c->channels);
  }
  p->pitch = p->pitch > r->block[1] ? p->pitch : r->block[1]; /* of a kernel without places */
  r->offset_bytes = dynq_conv_round_up(dynq_size_mul(r->k, sizeof(size_t)));
}

size_t dynq_conv_planes_outputs(const dynq_conv_plan *r) {
  return dynq_size_mul(run_length(&r->planes, r->block[0], r->block[1]), r->c->outputs);
}

void dynq_conv_planes_begin(const dynq_conv_plan *r, char *memory) {
  const dynq_conv *c = r->c;
  const dynq_conv_planes *p = &r->planes;
  size_t *offset = (size_t *)(void *)memory, at[2];
  for (size_t tap = 0; tap < c->axis[0].taps * c->axis[1].taps; tap++) {
    const size_t place[2] = {tap / c->axis[1].taps * c->axis[0].step, tap % c->axis[1].taps * c->axis[1].step};
    for (size_t d = 0; d < 2; d++) { /* the phase, times its size, and the line of it */
      const size_t stride = c->axis[d].stride;
      at[d] = place[d] % stride * (d == 0 ? p->phases[1] * p->phase : p->phase) +
              place[d] / stride * (d == 0 ? p->pitch : 1);
    }
    for (size_t channel = 0; channel < c->channels; channel++) {
      *offset++ = channel * p->channel + at[0] + at[1];
    }
  }
}

/* One row of the input, from place `first` on, which may lie before it: `n` columns of each phase. */
static void fill_row(const dynq_conv_plan *r, ptrdiff_t first, size_t n, const float *from, float *to) {
  const dynq_conv_axis *a = &r->c->axis[1];
  const dynq_conv_planes *p = &r->planes;
  const size_t phases = p->phases[1], in = a->in;
  size_t before, within;
  if (a->stride == 1) {
    dynq_conv_inside(first, n, in, &before, &within);
    dynq_conv_zero(before, to);
    if (within != 0) {
      dynq_conv_copy(within, from + (first + (ptrdiff_t)before), to + before);
    }
    dynq_conv_zero(n - before - within, to + before + within);
    return;
  }
  /* Columns of which all phases lie in the input, from `before` to `end`, are split at once. */
  const size_t skipped = first < 0 ? (size_t)-first : 0;
  const ptrdiff_t last = (ptrdiff_t)in - first - (ptrdiff_t)phases; /* a column begins at most here, from first on */
  before = dynq_conv_clamp(dynq_conv_parts(skipped, a->stride), 0, n);
  const size_t end = last < 0 ? before : dynq_conv_clamp((size_t)last / a->stride + 1, before, n);
  if (before < end) {
    const float *at = from + (first + (ptrdiff_t)(before * a->stride));
    r->c->kernels->vector.split(a->stride, phases, end - before, at, to + before, p->phase);
  }
  for (size_t phase = 0; phase < phases; phase++) {
    for (size_t i = before != 0 ? 0 : end; i < n; i = i + 1 == before ? end : i + 1) {
      const ptrdiff_t place = first + (ptrdiff_t)(i * a->stride + phase);
      to[phase * p->phase + i] = place >= 0 && place < (ptrdiff_t)in ? from[place] : 0.0f;
    }
  }
}

static void fill_window(const dynq_conv_plan *r, const dynq_conv_block *b, float *window) {
  const dynq_conv *c = r->c;
  const dynq_conv_planes *p = &r->planes;
  const size_t rows = dynq_conv_places(&c->axis[0], b->n[0]), columns = dynq_conv_places(&c->axis[1], b->n[1]);
  const size_t in_plane = c->axis[0].in * c->axis[1].in;
  for (size_t channel = 0; channel < c->channels; channel++) {
    const float *plane = dynq_conv_input(c, b) + channel * in_plane;
    for (size_t phase = 0; phase < p->phases[0]; phase++) {
      float *to = window + channel * p->channel + phase * p->phases[1] * p->phase;
      for (size_t i = 0; i < rows; i++, to += p->pitch) {
        const ptrdiff_t row = b->place[0] + (ptrdiff_t)(i * c->axis[0].stride + phase);
        if (row >= 0 && row < (ptrdiff_t)c->axis[0].in) {
          fill_row(r, b->place[1], columns, plane + (size_t)row * c->axis[1].in, to);
          continue;
        }
        for (size_t q = 0; q < p->phases[1]; q++) {
          dynq_conv_zero(columns, to + q * p->phase);
        }
      }
    }
  }
}

/* `n` positions from `right` on, of all outputs. */
static void multiply(const dynq_conv_plan *r, const dynq_conv_block *b, size_t n, const float *right,
                     const size_t *offset, float *y, size_t y_stride) {
  const dynq_conv *c = r->c;
  const float *panels = c->weight + b->group * dynq_conv_group_weights(c, r->k);
  const float *bias = c->bias != NULL ? c->bias + b->group * c->outputs : NULL;
  const bool relu = c->activation == DYNQ_ACTIVATION_RELU, finishes = dynq_conv_finishes(c);
  const size_t fitting = RUN_ELEMENTS / (r->k + 1) / RUN_LEAST * RUN_LEAST;
  const size_t each = r->panels == 1 ? n : fitting > RUN_LEAST ? fitting : RUN_LEAST;
  for (size_t j = 0; j < n; j += each) {
    const size_t columns = n - j < each ? n - j : each;
    for (size_t output = 0; output < c->outputs; output += DYNQ_PANEL) {
      const dynq_taps_tile tile = {.m = c->outputs - output < DYNQ_PANEL ? c->outputs - output : DYNQ_PANEL,
                                   .n = columns,
                                   .k = r->k,
                                   .a = panels + output * r->k,
                                   .a_stride = dynq_conv_pitch(c, output),
                                   .b = right + j,
                                   .offset = offset,
                                   .bias = bias != NULL ? bias + output : NULL,
                                   .relu = relu,
                                   .y = y + output * y_stride + j,
                                   .y_stride = y_stride};
      c->kernels->vector.matmul_taps(&tile);
      for (size_t i = 0; finishes && i < tile.m; i++) {
        dynq_conv_finish(c, columns, tile.y + i * y_stride);
      }
    }
  }
}

const float *dynq_conv_planes_input(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory) {
  const dynq_conv_planes *p = &r->planes;
  if (p->in_place) {
    return dynq_conv_input(r->c, b) + (size_t)b->place[0] * p->pitch + (size_t)b->place[1];
  }
  float *window = (float *)(void *)(memory + r->offset_bytes);
  fill_window(r, b, window);
  return window;
}

static void run_group(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory) {
  const dynq_conv *c = r->c;
  const dynq_conv_planes *p = &r->planes;
  const size_t *offset = (const size_t *)(const void *)memory;
  const float *right = dynq_conv_planes_input(r, b, memory);
  float *buffer = (float *)(void *)(memory + r->offset_bytes + r->window_bytes), *to = dynq_conv_output(c, b);
  const size_t n = run_length(p, b->n[0], b->n[1]), plane = c->axis[0].out * c->axis[1].out;
  if (dynq_conv_is_run(c, b) && (b->n[0] == 1 || p->pitch == b->n[1])) {
    multiply(r, b, n, right, offset, dynq_conv_first_output(c, b, to), plane);
    return;
  }
  multiply(r, b, n, right, offset, buffer, n);
  for (size_t i = 0; i < c->outputs; i++) {
    dynq_conv_put(c, b, buffer + i * n, p->pitch, to + i * plane);
  }
}

void dynq_conv_planes_run(const dynq_conv_plan *r, const dynq_conv_block *b, char *memory) {
  dynq_conv_block one = *b;
  for (; one.groups != 0; one.group++, one.groups--) {
    run_group(r, &one, memory);
  }
}
