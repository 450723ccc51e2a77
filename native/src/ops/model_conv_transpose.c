/*
 * ConvTranspose: a convolution for each residue of the output's places modulo the strides, with the taps that meet it.
 */
#include "checks.h"
#include "conv.h"
#include "model_linear.h"
#include "window.h"

#include <string.h>

enum { AUTO_PAD, DILATIONS, GROUP, KERNEL_SHAPE, OUTPUT_PADDING, OUTPUT_SHAPE, PADS, STRIDES };
enum { BIAS = 2 };
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
  const dynq_op_tensor *x = node->inputs[0], *w = node->inputs[1];
  const size_t spatial = x->rank - 2;
  int64_t strides[2], dilations[2], paddings[2], kernels[2], sizes[2], pads[4];
  dynq_auto_pad pad;
  DYNQ_TRY(dynq_window_auto_pad(node, AUTO_PAD, &pad));
  DYNQ_TRY(dynq_window_ints(node, STRIDES, spatial, 1, 1, LARGEST_STRIDE, strides));
  DYNQ_TRY(dynq_window_ints(node, DILATIONS, spatial, 1, 1, LARGEST, dilations));
  DYNQ_TRY(dynq_window_ints(node, OUTPUT_PADDING, spatial, 0, 0, LARGEST, paddings));
  DYNQ_TRY(dynq_window_ints(node, KERNEL_SHAPE, spatial, 1, 1, LARGEST, kernels));
  DYNQ_TRY(dynq_window_ints(node, OUTPUT_SHAPE, spatial, 1, 1, LARGEST, sizes));
  DYNQ_TRY(dynq_window_ints(node, PADS, 2 * spatial, 0, 0, LARGEST, pads));
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
    if (node->attributes[KERNEL_SHAPE].present && (size_t)kernels[i] != t->kernel[d]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "kernel_shape holds %lld; the weights have %zu",
                       (long long)kernels[i], t->kernel[d]);
    }
    if (t->in[d] == 0 || t->in[d] > LARGEST || t->kernel[d] == 0 || t->kernel[d] > LARGEST) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "an axis of size %zu and a kernel of %zu; expected 1 to %d of both",
                       t->in[d], t->kernel[d], (int)LARGEST);
    }
    DYNQ_TRY(place(node->attributes[OUTPUT_SHAPE].present ? sizes : NULL, paddings, pads, spatial, i, pad, t));
  }
  return DYNQ_OK;
}

static dynq_status find(const dynq_op_node *node, transposed *t) {
  const dynq_op_tensor *x = node->inputs[0], *w = node->inputs[1], *bias = dynq_op_input(node, BIAS);
  const int64_t group = dynq_op_int(node, GROUP, 1);
  DYNQ_TRY(dynq_op_check_f32(node, 0, "X", 3));
  DYNQ_TRY(dynq_op_check_f32(node, 1, "W", 3));
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

static size_t common_divisor(size_t a, size_t b) {
  while (b != 0) {
    const size_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* Output places phase, phase + stride, ... of axis d. Kernel element e adds input place q to output place
 * q * stride + e * dilation - before; the taps are the elements that meet this phase, by rising q. */
static void set_phase(const transposed *t, size_t d, size_t phase, dynq_conv_axis *axis, dynq_conv_weights *weights) {
  const size_t stride = t->stride[d], dilation = t->dilation[d], divisor = common_divisor(stride, dilation);
  const size_t step = stride / divisor, target = phase + t->before[d];
  size_t element = 0;
  while (element < t->kernel[d] && element < step && element * dilation % stride != target % stride) {
    element++;
  }
  const bool any = element < t->kernel[d] && element < step;
  const size_t taps = any ? (t->kernel[d] - 1 - element) / step + 1 : 0;
  const size_t last = any ? element + (taps - 1) * step : 0;
  *axis = (dynq_conv_axis){
      .in = t->in[d],
      .positions = (t->out[d] - phase + stride - 1) / stride,
      .stride = 1,
      .taps = taps,
      .step = dilation / divisor,
      .first = any ? ((ptrdiff_t)target - (ptrdiff_t)(last * dilation)) / (ptrdiff_t)stride : 0,
      .out = t->out[d],
      .out_first = phase,
      .out_stride = stride,
  };
  weights->tap_first[d] = last;
  weights->tap_step[d] = -(ptrdiff_t)step;
}

static void set_phases(transposed *t, size_t index, dynq_conv_weights *weights) {
  const size_t kernel = t->kernel[0] * t->kernel[1], columns = phases_of(t, 1);
  *weights =
      (dynq_conv_weights){.from = t->weight,
                          .strides = {t->conv.channels * t->conv.outputs * kernel, kernel, t->conv.outputs * kernel},
                          .columns = t->kernel[1]};
  set_phase(t, 0, index / columns, &t->conv.axis[0], weights);
  set_phase(t, 1, index % columns, &t->conv.axis[1], weights);
}

/* Panels of the largest phase, and what a run of any needs. */
static void sizes_of(transposed *t, size_t threads, size_t *panels, size_t *bytes) {
  *panels = *bytes = 0;
  for (size_t i = 0; i < phases_of(t, 0) * phases_of(t, 1); i++) {
    dynq_conv_weights weights;
    set_phases(t, i, &weights);
    const size_t weight = dynq_conv_panel_bytes(&t->conv), own = dynq_conv_bytes(&t->conv, threads);
    *panels = weight > *panels ? weight : *panels;
    *bytes = own > *bytes ? own : *bytes;
  }
}

static dynq_status infer(dynq_op_node *node) {
  transposed t;
  size_t panels, bytes;
  DYNQ_TRY(find(node, &t));
  const size_t rank = node->inputs[0]->rank;
  const size_t dims[4] = {t.conv.images, dynq_size_mul(t.conv.groups, t.conv.outputs), t.out[rank == 3 ? 1 : 0],
                          t.out[1]};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, rank, dims);
  sizes_of(&t, node->thread_count, &panels, &bytes);
  node->scratch_bytes = dynq_size_add(panels, bytes);
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  transposed t;
  DYNQ_TRY(find(node, &t));
  if (node->outputs[0]->count == 0) {
    return DYNQ_OK;
  }
  t.conv.weight = node->scratch;
  for (size_t i = 0; i < phases_of(&t, 0) * phases_of(&t, 1); i++) {
    dynq_conv_weights weights;
    set_phases(&t, i, &weights);
    dynq_conv_pack(node, &t.conv, &weights, node->scratch);
    void *const memory = (char *)node->scratch + dynq_conv_panel_bytes(&t.conv);
    DYNQ_TRY(dynq_conv_run(&t.conv, memory, node->threads, node->thread_count));
  }
  return DYNQ_OK;
}

const dynq_op dynq_op_ConvTranspose = {.name = "ConvTranspose",
                                       .min_inputs = 2,
                                       .max_inputs = 3,
                                       .min_outputs = 1,
                                       .max_outputs = 1,
                                       .attributes = {[AUTO_PAD] = {"auto_pad", DYNQ_ATTRIBUTE_STRING},
                                                      [DILATIONS] = {"dilations", DYNQ_ATTRIBUTE_INTS},
                                                      [GROUP] = {"group", DYNQ_ATTRIBUTE_INT},
                                                      [KERNEL_SHAPE] = {"kernel_shape", DYNQ_ATTRIBUTE_INTS},
                                                      [OUTPUT_PADDING] = {"output_padding", DYNQ_ATTRIBUTE_INTS},
                                                      [OUTPUT_SHAPE] = {"output_shape", DYNQ_ATTRIBUTE_INTS},
                                                      [PADS] = {"pads", DYNQ_ATTRIBUTE_INTS},
                                                      [STRIDES] = {"strides", DYNQ_ATTRIBUTE_INTS}},
                                       .infer = infer,
                                       .run = run};
