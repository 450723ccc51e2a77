/*
 * Depthwise convolution in float32, one channel at a time, which reads the input and writes the output in place.
 *
 * A task is bands of planes: some rows of the output, or some of its positions if it is one row.
 */
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "run.h"

enum {
  TASK_NANOSECONDS = 1 << 16, /* of a task, at most, about: so long an interrupt may have to wait */
  MACS_PER_NANOSECOND = 16,
  PLANE_NANOSECONDS = 32,
  PLANES_FLOATS = 2048 /* of the input of several planes that are taken at once: they stay in L1 */
};

bool dynq_conv_is_depthwise(const dynq_conv *c) {
  const dynq_conv_axis *a = c->axis;
  return c->packed == NULL && !c->padded && c->channels == 1 && c->outputs == 1 && a[1].stride <= 2 &&
         a[0].positions == a[0].out && a[1].positions == a[1].out;
}

/* Returns whether windows reach beyond the rows of the input. */
static bool needs_zeros(const dynq_conv_axis *a) {
  const size_t last = (a->positions - 1) * a->stride + (a->taps != 0 ? (a->taps - 1) * a->step : 0);
  return a->first < 0 || (size_t)a->first + last >= a->in;
}

void dynq_conv_depthwise_plan(dynq_conv_plan *r, size_t threads) {
  const dynq_conv *c = r->c;
  const dynq_conv_axis *a = c->axis;
  const size_t planes = dynq_size_mul(c->images, c->groups), positions = dynq_size_mul(a[0].positions, a[1].positions);
  const size_t macs = dynq_size_mul(dynq_size_mul(planes, positions), r->k);
  const size_t time = dynq_size_add(macs / MACS_PER_NANOSECOND, dynq_size_mul(planes, PLANE_NANOSECONDS));
  const size_t lines = a[0].positions != 1 ? a[0].positions : dynq_conv_parts(a[1].positions, 16 * DYNQ_PANEL);
  r->workers = dynq_work_parts(threads, dynq_size_mul(planes, lines), time);
  const size_t wanted = dynq_conv_clamp(time / TASK_NANOSECONDS, r->workers > 1 ? 4 * r->workers : 1, SIZE_MAX);
  r->bands = dynq_conv_clamp(dynq_conv_parts(wanted, planes), 1, lines);
  r->tasks = dynq_conv_clamp(wanted, 1, dynq_size_mul(planes, r->bands));
  r->workers = r->workers < r->tasks ? r->workers : r->tasks;
  r->memory_each = needs_zeros(&a[0]) ? dynq_conv_floats(a[1].in, 1) : 0;
}

void dynq_conv_depthwise_begin(const dynq_conv_plan *r, char *memory) { memset(memory, 0, r->memory_each); }

void dynq_conv_depthwise_run(const dynq_conv_plan *r, size_t task, const char *memory) {
  const dynq_conv *c = r->c;
  const dynq_conv_axis *a = c->axis;
  const size_t along = a[0].positions != 1 ? 0 : 1; /* what bands are parts of */
  const bool finishes = dynq_conv_finishes(c);
  size_t begin, end;
  dynq_depthwise d = {.in = {a[0].in, a[1].in},
                      .stride = {a[0].stride, a[1].stride},
                      .taps = {a[0].taps, a[1].taps},
                      .step = {a[0].step, a[1].step},
                      .zeros = (const float *)(const void *)memory,
                      .relu = c->activation == DYNQ_ACTIVATION_RELU,
                      .y_plane = a[0].out * a[1].out,
                      .y_stride = a[1].out};
  dynq_share(c->images * c->groups * r->bands, r->tasks, task, &begin, &end);
  const size_t most = r->bands > 1 ? 1 : dynq_conv_clamp(PLANES_FLOATS / (a[0].in * a[1].in + 1), 1, c->groups);
  for (size_t i = begin; i < end; i += d.planes) {
    const size_t plane = i / r->bands, group = plane % c->groups, left = c->groups - group;
    d.planes = dynq_conv_clamp(end - i, 1, left < most ? left : most);
    size_t from[2] = {0, 0}, to[2] = {a[0].positions, a[1].positions};
    dynq_share(a[along].positions, r->bands, i % r->bands, &from[along], &to[along]);
    d.rows = to[0] - from[0];
    d.columns = to[1] - from[1];
    for (size_t axis = 0; axis < 2; axis++) {
      d.first[axis] = a[axis].first + (ptrdiff_t)(from[axis] * a[axis].stride);
    }
    d.x = c->x + plane * (a[0].in * a[1].in);
    d.w = c->weight + group * r->k;
    d.bias = c->bias != NULL ? c->bias + group : NULL;
    d.y = c->y + plane * d.y_plane + from[0] * d.y_stride + from[1];
    c->kernels->vector.depthwise(&d);
    if (finishes) { /* one run: several rows are whole, and so are several planes */
      dynq_conv_finish(c, d.planes * d.rows * d.columns, d.y);
    }
  }
}
