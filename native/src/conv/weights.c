/*
 * Float weights of convolutions in panels, made of a caller's or of 8 bits.
 */
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "../quant/range.h"
#include "run.h"

size_t dynq_conv_panels(const dynq_conv *c) {
  return dynq_size_mul(c->groups, dynq_conv_group_weights(c, dynq_conv_k(c)));
}

size_t dynq_conv_panel_bytes(const dynq_conv *conv) { return dynq_conv_floats(dynq_conv_panels(conv), 1); }

/* Panels that several threads make, of a caller's weights or of narrow ones. */
typedef struct panel_job {
  const dynq_conv *c;
  const dynq_conv_weights *weights;
  const dynq_conv_narrow *narrow;
  size_t panels, parts;
  float *to;
} panel_job;

static void make_panels(panel_job job, void (*make)(void *arg, size_t part), const dynq_threads *threads,
                        size_t count) {
  const size_t all = dynq_conv_panels(job.c);
  if (all == 0) {
    return;
  }
  job.panels = dynq_conv_parts(job.c->outputs, DYNQ_PANEL);
  job.parts = dynq_pass_workers(count, job.c->groups * job.panels, dynq_size_mul(all, sizeof *job.to));
  dynq_parallel(threads, job.parts, make, &job, job.parts);
}

static void pack_part(void *arg, size_t part) {
  const panel_job *job = arg;
  const dynq_conv *c = job->c;
  const dynq_conv_weights *w = job->weights;
  const size_t k = dynq_conv_k(c);
  size_t begin, end;
  dynq_share(c->groups * job->panels, job->parts, part, &begin, &end);
  for (size_t i = begin; i < end && !dynq_interrupted(); i++) {
    const size_t output = i % job->panels * DYNQ_PANEL;
    const size_t width = c->outputs - output < DYNQ_PANEL ? c->outputs - output : DYNQ_PANEL;
    const float *group = w->from + i / job->panels * w->strides[0] + output * w->strides[1];
    float *to = job->to + (i / job->panels * c->outputs + output) * k;
    for (size_t row = 0; row < c->axis[0].taps; row++) {
      const size_t line = (w->tap_first[0] + row * (size_t)w->tap_step[0]) * w->columns;
      for (size_t column = 0; column < c->axis[1].taps; column++) {
        const float *tap = group + (line + w->tap_first[1] + column * (size_t)w->tap_step[1]);
        for (size_t channel = 0; channel < c->channels; channel++, to += width) {
          for (size_t j = 0; j < width; j++) {
            to[j] = tap[channel * w->strides[2] + j * w->strides[1]];
          }
        }
      }
    }
  }
}

void dynq_conv_pack(const dynq_conv *conv, const dynq_conv_weights *weights, const dynq_threads *threads, size_t count,
                    float *to) {
  make_panels((panel_job){.c = conv, .weights = weights, .to = to}, pack_part, threads, count);
}

static void widen_part(void *arg, size_t part) {
  const panel_job *job = arg;
  const dynq_conv *c = job->c;
  const size_t k = dynq_conv_k(c);
  size_t begin, end;
  dynq_share(c->groups * job->panels, job->parts, part, &begin, &end);
  for (size_t i = begin; i < end && !dynq_interrupted(); i++) {
    const size_t output = i % job->panels * DYNQ_PANEL, first = i / job->panels * c->outputs + output;
    const size_t width = c->outputs - output < DYNQ_PANEL ? c->outputs - output : DYNQ_PANEL;
    const int8_t *from = job->narrow->from + first * k;
    const float *scale = job->narrow->scale + first;
    float *to = job->to + first * k;
    if (width == 1) {
      c->kernels->vector.dequantize(k, (const uint8_t *)from, true, *scale, 0, to);
      continue;
    }
    for (size_t row = 0; row < k; row++, from += width, to += width) {
      for (size_t j = 0; j < width; j++) {
        to[j] = (float)from[j] * scale[j];
      }
    }
  }
}

void dynq_conv_widen(const dynq_conv *conv, const dynq_conv_narrow *narrow, const dynq_threads *threads, size_t count,
                     float *to) {
  make_panels((panel_job){.c = conv, .narrow = narrow, .to = to}, widen_part, threads, count);
}
