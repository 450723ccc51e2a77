/*
 * ConvTranspose: a convolution for each residue of the output's places modulo the strides, with the taps that meet it.
 * Places that no tap meets are the bias alone.
 */
#include "../base/interrupt.h"
#include "../conv/conv.h"
#include "checks.h"
#include "layer_attributes.h"
#include "walk.h"
#include "window.h"

#include <string.h>

enum { LARGEST = INT32_MAX, LARGEST_STRIDE = 1024 };

typedef struct transposed {
  dynq_conv conv;
  size_t kernel[2], stride[2], dilation[2], before[2], in[2], out[2];
  const float *weight;
} transposed;

/* The output's size and the pad before it. */
static dynq_status place(const int64_t *sizes, const int64_t *paddings, const int64_t *pads, size_t spatial, size_t i,
                         dynq_auto_pad pad, transposed *t) {
  const size_t d = i + 2 - spatial;
  const bool upper = pad == DYNQ_PAD_SAME_UPPER, lower = pad == DYNQ_PAD_SAME_LOWER, valid = pad == DYNQ_PAD_VALID;
  const int64_t in = (int64_t)t->in[d], stride = (int64_t)t->stride[d];
  const int64_t whole = stride * (in - 1) + paddings[i] + (int64_t)((t->kernel[d] - 1) * t->dilation[d]) + 1;
  int64_t before = valid ? 0 : pads[i], out = whole - (valid ? 0 : pads[i] + pads[spatial + i]);
  if (sizes != NULL || upper || lower) {
    out = sizes != NULL ? sizes[i] : in * stride;
    const int64_t all = whole > out ? whole - out : 0;
    before = upper ? all / 2 : all - all / 2;
  }
  if (out < 1 || out > LARGEST) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "an axis of the output would have size %lld; expected 1 to %d",
                     (long long)out, (int)LARGEST);
  }
  t->before[d] = (size_t)before;
  t->out[d] = (size_t)out;
  return DYNQ_OK;
}

static dynq_status read_axes(const dynq_op_node *node, transposed *t) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ConvTranspose, X), *w = DYNQ_INPUT(node, ConvTranspose, W);
  const size_t spatial = x->rank - 2;
  const bool has_kernel = node->attributes[DYNQ_ATTR(ConvTranspose, kernel_shape)].present;
  const bool has_sizes = node->attributes[DYNQ_ATTR(ConvTranspose, output_shape)].present;
  int64_t strides[2], dilations[2], paddings[2], kernels[2], sizes[2], pads[4];
  dynq_auto_pad pad;
  DYNQ_TRY(dynq_window_auto_pad(node, DYNQ_ATTR(ConvTranspose, auto_pad), &pad));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(ConvTranspose, strides), spatial, 1, 1, LARGEST_STRIDE, strides));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(ConvTranspose, dilations), spatial, 1, 1, LARGEST, dilations));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(ConvTranspose, output_padding), spatial, 0, 0, LARGEST, paddings));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(ConvTranspose, kernel_shape), spatial, 1, 1, LARGEST, kernels));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(ConvTranspose, output_shape), spatial, 1, 1, LARGEST, sizes));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(ConvTranspose, pads), 2 * spatial, 0, 0, LARGEST, pads));
  for (size_t d = 0; d < 2; d++) {
    t->kernel[d] = t->stride[d] = t->dilation[d] = t->in[d] = t->out[d] = 1;
    t->before[d] = 0;
  }
  for (size_t i = 0; i < spatial; i++) {
    const size_t d = i + 2 - spatial;
    t->in[d] = x->dims[2 + i];
    t->kernel[d] = w->dims[2 + i];
    t->stride[d] = (size_t)strides[i];
    t->dilation[d] = (size_t)dilations[i];
    if (has_kernel && (size_t)kernels[i] != t->kernel[d]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "kernel_shape holds %lld; the weights have %zu",
                       (long long)kernels[i], t->kernel[d]);
    }
    if (t->in[d] == 0 || t->in[d] > LARGEST || t->kernel[d] == 0 || t->kernel[d] > LARGEST) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "an axis of size %zu and a kernel of %zu; expected 1 to %d of both",
                       t->in[d], t->kernel[d], (int)LARGEST);
    }
    DYNQ_TRY(place(has_sizes ? sizes : NULL, paddings, pads, spatial, i, pad, t));
  }
  return DYNQ_OK;
}

static dynq_status find(const dynq_op_node *node, transposed *t) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ConvTranspose, X), *w = DYNQ_INPUT(node, ConvTranspose, W),
                       *bias = DYNQ_GIVEN(node, ConvTranspose, B);
  const int64_t group = dynq_op_int(node, DYNQ_ATTR(ConvTranspose, group));
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(ConvTranspose, X), "X", 3));
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(ConvTranspose, W), "W", 3));
  if (x->rank > 4 || w->rank != x->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "X has %zu dimensions and W %zu; expected both 3 (N, C, W) or 4 (N, C, H, W)", x->rank, w->rank);
  }
  if (group < 1 || w->dims[0] != x->dims[1] || w->dims[0] % (size_t)group != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "X has %zu channels, W takes %zu, group is %lld; they do not go together", x->dims[1], w->dims[0],
                     (long long)group);
  }
  const size_t outputs = dynq_size_mul(w->dims[1], (size_t)group);
  DYNQ_TRY(bias != NULL ? dynq_op_check_shape(bias, "B", 1, &outputs) : DYNQ_OK);
  t->weight = w->data;
  t->conv = (dynq_conv){.kernels = node->kernels,
                        .images = x->dims[0],
                        .groups = (size_t)group,
                        .channels = x->dims[1] / (size_t)group,
                        .outputs = w->dims[1],
                        .x = x->data,
                        .bias = bias != NULL ? bias->data : NULL,
                        .y = node->outputs[0]->data};
  return read_axes(node, t);
}

static size_t phases_of(const transposed *t, size_t d) { return t->stride[d] < t->out[d] ? t->stride[d] : t->out[d]; }

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

static size_t common_divisor(size_t a, size_t b) {
  while (b != 0) {
    const size_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* Parts of an axis of the output, each a convolution of its own: the places of a phase, or some of them. */
typedef struct part {
  size_t phase, begin; /* where the next part begins; begin counts places of the phase */
  dynq_conv_axis axis;
  size_t tap_first;
  ptrdiff_t tap_step;
} part;

/* Output places phase, phase + stride, ... of axis d. Kernel element e adds input place q to output place
 * q * stride + e * dilation - before; the taps are the elements that meet this phase, by rising q. */
static void set_phase(const transposed *t, size_t d, part *p) {
  const size_t stride = t->stride[d], dilation = t->dilation[d], divisor = common_divisor(stride, dilation);
  const size_t step = stride / divisor, target = p->phase + t->before[d];
  size_t element = 0;
  while (element < t->kernel[d] && element < step && element * dilation % stride != target % stride) {
    element++;
  }
  const bool any = element < t->kernel[d] && element < step;
  const size_t taps = any ? (t->kernel[d] - 1 - element) / step + 1 : 0;
  const size_t last = any ? element + (taps - 1) * step : 0;
  p->axis = (dynq_conv_axis){
      .in = t->in[d],
      .positions = (t->out[d] - p->phase + stride - 1) / stride,
      .stride = 1,
      .taps = taps,
      .step = dilation / divisor,
      .first = any ? ((ptrdiff_t)target - (ptrdiff_t)(last * dilation)) / (ptrdiff_t)stride : 0,
      .out = t->out[d],
      .out_first = p->phase,
      .out_stride = stride,
  };
  p->tap_first = last;
  p->tap_step = -(ptrdiff_t)step;
}

/* Leaves out the taps that meet no place of the input at any position: they would add zeros. */
static void clip_taps(part *p) {
  dynq_conv_axis *a = &p->axis;
  const ptrdiff_t in = (ptrdiff_t)a->in, step = (ptrdiff_t)a->step, last = a->first + (ptrdiff_t)a->positions - 1;
  const size_t begin = last < 0 ? (size_t)((step - 1 - last) / step) : 0;
  const size_t end = a->first < in ? at_most((size_t)((in - a->first + step - 1) / step), a->taps) : 0;
  a->taps = begin < end ? end - begin : 0;
  a->first += a->taps != 0 ? (ptrdiff_t)begin * step : 0;
  p->tap_first = a->taps != 0 ? (size_t)((ptrdiff_t)p->tap_first + (ptrdiff_t)begin * p->tap_step) : 0;
}

/* The next part of axis d that has taps; false after the last. A phase whose windows are far wider than the input is
 * taken in pieces, each of which meets few of the taps. */
static bool next_part(const transposed *t, size_t d, part *p) {
  enum { LEAST = 16, WIDE = 4 };
  while (p->phase < phases_of(t, d)) {
    part whole = {.phase = p->phase};
    set_phase(t, d, &whole);
    const size_t positions = whole.axis.positions, most = t->in[d] > LEAST ? t->in[d] : LEAST;
    const bool wide = whole.axis.taps * whole.axis.step > WIDE * most;
    const size_t begin = p->begin, count = wide ? at_most(most, positions - begin) : positions;
    p->axis = whole.axis;
    p->axis.positions = count;
    p->axis.first += (ptrdiff_t)begin;
    p->axis.out_first += begin * t->stride[d];
    p->tap_first = whole.tap_first;
    p->tap_step = whole.tap_step;
    clip_taps(p);
    p->begin = begin + count;
    if (p->begin == positions || whole.axis.taps == 0) {
      p->begin = 0;
      p->phase++;
    }
    if (p->axis.taps != 0) {
      return true;
    }
  }
  return false;
}

/* Calls work() for the product of the parts of both axes. Returns the first status that is not DYNQ_OK. */
static dynq_status
each_part(transposed *t, dynq_status (*work)(transposed *t, const dynq_conv_weights *weights, void *arg), void *arg) {
  const size_t kernel = t->kernel[0] * t->kernel[1];
  for (part rows = {0}; next_part(t, 0, &rows);) {
    for (part columns = {0}; next_part(t, 1, &columns);) {
      const dynq_conv_weights weights = {
          .from = t->weight,
          .strides = {t->conv.channels * t->conv.outputs * kernel, kernel, t->conv.outputs * kernel},
          .columns = t->kernel[1],
          .tap_first = {rows.tap_first, columns.tap_first},
          .tap_step = {rows.tap_step, columns.tap_step}};
      t->conv.axis[0] = rows.axis;
      t->conv.axis[1] = columns.axis;
      DYNQ_TRY(work(t, &weights, arg));
    }
  }
  return DYNQ_OK;
}

/* Memory that each part needs, and the places of the output that all of them write. */
typedef struct sizes {
  size_t threads, panels, bytes, places;
} sizes;

static dynq_status measure(transposed *t, const dynq_conv_weights *weights, void *arg) {
  sizes *s = arg;
  const size_t panels = dynq_conv_panel_bytes(&t->conv), bytes = dynq_conv_bytes(&t->conv, s->threads);
  (void)weights;
  s->panels = panels > s->panels ? panels : s->panels;
  s->bytes = bytes > s->bytes ? bytes : s->bytes;
  s->places += t->conv.axis[0].positions * t->conv.axis[1].positions;
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  transposed t;
  DYNQ_TRY(find(node, &t));
  const size_t rank = DYNQ_INPUT(node, ConvTranspose, X)->rank;
  const size_t dims[4] = {t.conv.images, dynq_size_mul(t.conv.groups, t.conv.outputs), t.out[rank == 3 ? 1 : 0],
                          t.out[1]};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, rank, dims);
  sizes s = {.threads = node->thread_count};
  DYNQ_TRY(each_part(&t, measure, &s));
  node->scratch_bytes = dynq_size_add(s.panels, s.bytes);
  return DYNQ_OK;
}

/* Writes the bias to planes [begin, end): what stands where no input comes. */
static void fill_planes(const void *arg, size_t begin, size_t end) {
  const transposed *t = arg;
  const size_t n = t->out[0] * t->out[1], planes = t->conv.groups * t->conv.outputs;
  for (size_t i = begin; i < end; i++) {
    const float value = t->conv.bias != NULL ? 0.0f + t->conv.bias[i % planes] : 0.0f;
    for (size_t j = 0; j < n; j++) {
      t->conv.y[i * n + j] = value;
    }
  }
}

static dynq_status run_part(transposed *t, const dynq_conv_weights *weights, void *arg) {
  const dynq_op_node *node = arg;
  if (dynq_interrupted()) {
    return DYNQ_CANCELLED;
  }
  dynq_conv_pack(&t->conv, weights, node->threads, node->thread_count, node->scratch);
  void *const memory = (char *)node->scratch + dynq_conv_panel_bytes(&t->conv);
  return dynq_conv_run(&t->conv, memory, node->threads, node->thread_count);
}

static dynq_status run(const dynq_op_node *node) {
  transposed t;
  sizes s = {.threads = node->thread_count};
  DYNQ_TRY(find(node, &t));
  if (node->outputs[0]->count == 0) {
    return DYNQ_OK;
  }
  t.conv.weight = node->scratch;
  DYNQ_TRY(each_part(&t, measure, &s));
  if (s.places != t.out[0] * t.out[1]) {
    const size_t count = node->outputs[0]->count;
    dynq_op_parallel(node, count / (t.out[0] * t.out[1]), count * sizeof(float), fill_planes, &t);
  }
  return each_part(&t, run_part, (void *)(uintptr_t)node);
}

const dynq_op_code dynq_op_ConvTranspose = {infer, run};
