/*
 * Resize by any number of neighbours: cubic, antialiased, and of a crop. One axis after another, from the first; an
 * output is the sum of weight * element in float32 from the first neighbour on. The weights of an output are computed in
 * float64 and rounded once. A neighbour outside of the input is the element at the border, unless exclude_outside leaves
 * it out. Places that a crop has outside of the input have the extrapolation value.
 */
#include "../base/elements.h"
#include "resize.h"
#include "walk.h"

#include <math.h>
#include <string.h>

/* The neighbours of all outputs of an axis: `count` each, of which the first is at first[i]; weights of zero count. */
typedef struct taps {
  size_t count;
  int64_t *first;
  bool *outside;
  float *weights;
} taps;

static double reach_of(const dynq_resize *r) { return r->mode == DYNQ_CUBIC ? 2.0 : 1.0; }

/* Returns the scale by which the filter is stretched: that of an axis that shrinks, with antialias. */
static double stretch_of(const dynq_resize *r, size_t d) {
  return r->antialias && r->mode != DYNQ_NEAREST && r->scale[d] < 1.0 ? r->scale[d] : 1.0;
}

/* Counts neighbours before the place, but for the one on it or next to it. More than any memory holds are cut off. */
static double before_of(const dynq_resize *r, size_t d) {
  const double reach = ceil(reach_of(r) / stretch_of(r, d));
  return (reach < 1e15 ? reach : 1e15) - 1.0;
}

static size_t count_of(const dynq_resize *r, size_t d) {
  return r->mode == DYNQ_NEAREST || r->out[d] == 0 ? 1 : 2 * (size_t)before_of(r, d) + 2;
}

static double weight_at(const dynq_resize *r, double distance) {
  const double a = r->cubic_coefficient, x = fabs(distance);
  if (r->mode == DYNQ_NEAREST) {
    return 1.0;
  }
  if (r->mode == DYNQ_LINEAR) {
    return x < 1.0 ? 1.0 - x : 0.0;
  }
  return x <= 1.0  ? ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
         : x < 2.0 ? ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
                   : 0.0;
}

static void fill_taps(const dynq_resize *r, size_t d, const taps *t) {
  const double stretch = stretch_of(r, d), limit = (double)r->in[d];
  const bool normalizes = stretch != 1.0 || r->exclude_outside;
  for (size_t i = 0; i < r->out[d]; i++) {
    const double place = dynq_resize_source(r, d, (double)i);
    double low = floor(place), sum = 0.0;
    if (r->mode == DYNQ_NEAREST && dynq_resize_rounds_up(r, place - low)) {
      low += 1.0;
    }
    const double first = r->mode == DYNQ_NEAREST ? low : low - before_of(r, d);
    float *weights = t->weights + i * t->count;
    t->outside[i] = r->coordinates == DYNQ_CROP && !(place >= 0.0 && place <= limit - 1.0);
    /* Far outside all neighbours are the border's element, however far: their places fit into int64. */
    t->first[i] = (int64_t)(first < -1e15 ? -1e15 : first > 1e15 ? 1e15 : first);
    for (size_t pass = 0; pass < 2; pass++) { /* the sum, then each weight's part of it */
      for (size_t k = 0; k < t->count; k++) {
        const double at = first + (double)k;
        const bool counts = !r->exclude_outside || (at >= 0.0 && at < limit);
        const double weight = counts ? weight_at(r, (at - place) * stretch) : 0.0;
        sum += pass == 0 ? weight : 0.0;
        weights[k] = (float)(normalizes && sum != 0.0 ? weight / sum : weight);
      }
    }
  }
}

static bool is_active(const dynq_resize *r, size_t d) {
  return r->out[d] != r->in[d] || r->scale[d] != 1.0 ||
         (r->coordinates == DYNQ_CROP && (r->start[d] != 0.0 || r->end[d] != 1.0));
}

bool dynq_resize_has_taps(const dynq_resize *r) {
  return r->mode == DYNQ_CUBIC || r->coordinates == DYNQ_CROP || (r->mode == DYNQ_LINEAR && r->antialias);
}

static size_t round_up(size_t bytes) { return dynq_size_add(bytes, 63) / 64 * 64; }

/* Bytes of the taps of an axis, in the order of the struct. */
static size_t table_bytes(const dynq_resize *r, size_t d, size_t *parts) {
  parts[0] = round_up(dynq_size_mul(r->out[d], sizeof(int64_t)));
  parts[1] = round_up(r->out[d]);
  parts[2] = round_up(dynq_size_mul(dynq_size_mul(r->out[d], count_of(r, d)), sizeof(float)));
  return dynq_size_add(dynq_size_add(parts[0], parts[1]), parts[2]);
}

/* Bytes of the largest tensor on the way. */
static size_t buffer_bytes(const dynq_resize *r) {
  size_t most = 0;
  for (size_t done = 1; done < r->rank; done++) {
    size_t count = sizeof(float);
    for (size_t d = 0; d < r->rank; d++) {
      count = dynq_size_mul(count, d < done ? r->out[d] : r->in[d]);
    }
    most = count > most ? count : most;
  }
  return round_up(most);
}

size_t dynq_resize_taps_bytes(const dynq_resize *r) {
  size_t tables = 0, parts[3];
  for (size_t d = 0; d < r->rank; d++) {
    const size_t bytes = table_bytes(r, d, parts);
    tables = bytes > tables ? bytes : tables;
  }
  return dynq_size_add(tables, dynq_size_mul(2, buffer_bytes(r)));
}

typedef struct pass_job {
  const float *x;
  float *y;
  size_t in, out, inner;
  taps taps;
  float extrapolation;
} pass_job;

/* Lines of `inner` outputs: those of one place of the axis. */
static void resize_lines(const void *arg, size_t begin, size_t end) {
  const pass_job *job = arg;
  for (size_t line = begin; line < end; line++) {
    const size_t i = line % job->out, n = job->inner;
    const float *plane = job->x + line / job->out * job->in * n, *weights = job->taps.weights + i * job->taps.count;
    float *y = job->y + line * n;
    for (size_t j = 0; j < n; j++) {
      y[j] = job->taps.outside[i] ? job->extrapolation : 0.0f;
    }
    for (size_t k = 0; k < job->taps.count && !job->taps.outside[i]; k++) {
      const int64_t place = job->taps.first[i] + (int64_t)k, last = (int64_t)job->in - 1;
      const float *x = plane + (size_t)(place < 0 ? 0 : place > last ? last : place) * n, weight = weights[k];
      if (weight == 0.0f) {
        continue; /* a neighbour that is not finite does not count either */
      }
      DYNQ_INDEPENDENT for (size_t j = 0; j < n; j++) { y[j] += weight * x[j]; }
    }
    for (size_t j = 0; j < n; j++) {
      y[j] = dynq_one_nan(y[j]);
    }
  }
}

void dynq_resize_taps_run(const dynq_op_node *node, const dynq_resize *r, const float *x, float *y, void *memory) {
  const size_t buffer = buffer_bytes(r);
  float *buffers[2] = {memory, (float *)(void *)((char *)memory + buffer)};
  size_t last = r->rank, outer = 1, passes = 0;
  for (size_t d = 0; d < r->rank; d++) {
    last = is_active(r, d) ? d : last;
  }
  for (size_t d = 0; d < r->rank; outer *= r->out[d], d++) {
    if (!is_active(r, d)) {
      continue;
    }
    size_t inner = 1, parts[3];
    for (size_t e = d + 1; e < r->rank; e++) {
      inner *= r->in[e];
    }
    (void)table_bytes(r, d, parts);
    char *table = (char *)memory + 2 * buffer;
    pass_job job = {.x = x,
                    .y = d == last ? y : buffers[passes++ % 2],
                    .in = r->in[d],
                    .out = r->out[d],
                    .inner = inner,
                    .taps = {.count = count_of(r, d),
                             .first = (int64_t *)(void *)table,
                             .outside = (bool *)(table + parts[0]),
                             .weights = (float *)(void *)(table + parts[0] + parts[1])},
                    .extrapolation = r->extrapolation};
    fill_taps(r, d, &job.taps);
    dynq_op_parallel(node, outer * r->out[d], dynq_size_mul(outer * r->out[d] * inner, 4 * job.taps.count),
                     resize_lines, &job);
    x = job.y;
  }
  if (last == r->rank) {
    memcpy(y, x, outer * sizeof *y);
  }
}
