/*
 * Conv, and with weights that are prepared: dynq.Conv (int8) and dynq.ConvFloat.
 */
#include "checks.h"
#include "conv.h"
#include "model_linear.h"
#include "window.h"

#include <string.h>

/* ---- What they share ---- */

enum { BIAS = 2 };

static dynq_status read_images(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_op_tensor *x = node->inputs[0];
  DYNQ_TRY(dynq_op_check_f32(node, 0, "x", 3));
  if (x->rank > 4) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "x has %zu dimensions; expected 3 (N, C, W) or 4 (N, C, H, W)",
                     x->rank);
  }
  *conv = (dynq_conv){.kernels = node->kernels,
                      .images = x->dims[0],
                      .groups = 1,
                      .channels = x->dims[1],
                      .x = x->data,
                      .y = node->outputs[0]->data};
  return DYNQ_OK;
}

/* Splits x's channels and the outputs among the groups; a group takes w_channels. */
static dynq_status set_groups(const dynq_op_node *node, size_t attribute, size_t w_channels, size_t outputs,
                              dynq_conv *conv) {
  const int64_t group = dynq_op_int(node, attribute, 1);
  if (group < 1 || outputs % (size_t)group != 0 || dynq_size_mul(w_channels, (size_t)group) != conv->channels) {
    return dynq_fail(
        DYNQ_ERROR_INVALID_ARGUMENT,
        "x has %zu channels, the weight %zu outputs of %zu channels, group is %lld; they do not go together",
        conv->channels, outputs, w_channels, (long long)group);
  }
  conv->groups = (size_t)group;
  conv->channels = w_channels;
  conv->outputs = outputs / (size_t)group;
  return DYNQ_OK;
}

static dynq_status set_windows(const dynq_op_node *node, const size_t *kernel, dynq_conv *conv) {
  dynq_window w;
  DYNQ_TRY(dynq_window_of(node, kernel, false, &w));
  for (size_t d = 0; d < 2; d++) {
    conv->axis[d] = (dynq_conv_axis){.in = w.in[d],
                                     .positions = w.out[d],
                                     .stride = w.stride[d],
                                     .taps = w.kernel[d],
                                     .step = w.dilation[d],
                                     .first = -(ptrdiff_t)w.before[d],
                                     .out = w.out[d],
                                     .out_stride = 1};
  }
  return DYNQ_OK;
}

static dynq_status set_bias(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_op_tensor *bias = dynq_op_input(node, BIAS);
  const size_t outputs = conv->groups * conv->outputs;
  if (bias != NULL) {
    DYNQ_TRY(dynq_op_check_shape(bias, "bias", 1, &outputs));
    conv->bias = bias->data;
  }
  return DYNQ_OK;
}

static void set_output(dynq_op_node *node, const dynq_conv *conv) {
  const size_t rank = node->inputs[0]->rank, rows = conv->axis[0].out, columns = conv->axis[1].out;
  const size_t dims[4] = {conv->images, conv->groups * conv->outputs, rank == 3 ? columns : rows, columns};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, rank, dims);
}

/* ---- Conv ---- */

enum { GROUP = DYNQ_WINDOW_ATTRIBUTE_COUNT };

static dynq_status find_conv(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_op_tensor *w = node->inputs[1];
  DYNQ_TRY(read_images(node, conv));
  DYNQ_TRY(dynq_op_check_f32(node, 1, "W", 3));
  if (w->rank != node->inputs[0]->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "x has %zu dimensions and W %zu; expected as many",
                     node->inputs[0]->rank, w->rank);
  }
  DYNQ_TRY(set_groups(node, GROUP, w->dims[1], w->dims[0], conv));
  DYNQ_TRY(set_windows(node, w->dims + 2, conv));
  return set_bias(node, conv);
}

static dynq_status infer_conv(dynq_op_node *node) {
  dynq_conv conv;
  DYNQ_TRY(find_conv(node, &conv));
  set_output(node, &conv);
  dynq_conv_flatten(&conv);
  node->scratch_bytes = dynq_size_add(dynq_conv_panel_bytes(&conv), dynq_conv_bytes(&conv, node->thread_count));
  return DYNQ_OK;
}

static dynq_status run_conv(const dynq_op_node *node) {
  dynq_conv conv;
  DYNQ_TRY(find_conv(node, &conv));
  dynq_conv_flatten(&conv);
  if (node->outputs[0]->count == 0) {
    return DYNQ_OK;
  }
  const size_t columns = conv.axis[1].taps, kernel = conv.axis[0].taps * columns;
  const dynq_conv_weights weights = {
      .from = node->inputs[1]->data,
      .strides = {conv.outputs * conv.channels * kernel, conv.channels * kernel, kernel},
      .columns = columns,
      .tap_step = {1, 1},
  };
  dynq_conv_pack(node, &conv, &weights, node->scratch);
  conv.weight = node->scratch;
  return dynq_conv_run(&conv, (char *)node->scratch + dynq_conv_panel_bytes(&conv), node->threads, node->thread_count);
}

const dynq_op dynq_op_Conv = {.name = "Conv",
                              .min_inputs = 2,
                              .max_inputs = 3,
                              .min_outputs = 1,
                              .max_outputs = 1,
                              .attributes = {DYNQ_WINDOW_ATTRIBUTES, [GROUP] = {"group", DYNQ_ATTRIBUTE_INT}},
                              .infer = infer_conv,
                              .run = run_conv};

/* ---- dynq.ConvFloat ---- */

enum { FLOAT_GROUP = DYNQ_WINDOW_ATTRIBUTE_COUNT, FLOAT_OUTPUTS, FLOAT_ACTIVATION };

static dynq_status find_float(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_op_tensor *w = node->inputs[1];
  const int64_t group = dynq_op_int(node, FLOAT_GROUP, 1), outputs = dynq_op_int(node, FLOAT_OUTPUTS, 0);
  DYNQ_TRY(read_images(node, conv));
  if (group < 1 || outputs < 0 || conv->channels % (size_t)group != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "group is %lld and channels %lld, x has %zu channels",
                     (long long)group, (long long)outputs, conv->channels);
  }
  DYNQ_TRY(set_groups(node, FLOAT_GROUP, conv->channels / (size_t)group, (size_t)outputs, conv));
  DYNQ_TRY(set_windows(node, NULL, conv));
  const size_t dims[4] = {conv->groups, (conv->outputs + DYNQ_PANEL - 1) / DYNQ_PANEL, dynq_conv_k(conv), DYNQ_PANEL};
  if (w->dtype != DYNQ_FLOAT32 || w->rank != 4 || memcmp(w->dims, dims, sizeof dims) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the weight: expected float32 (%zu, %zu, %zu, %zu)", dims[0], dims[1],
                     dims[2], dims[3]);
  }
  conv->weight = w->data;
  DYNQ_TRY(dynq_op_activation(node, FLOAT_ACTIVATION, &conv->activation));
  return set_bias(node, conv);
}

static dynq_status infer_float(dynq_op_node *node) {
  dynq_conv conv;
  DYNQ_TRY(find_float(node, &conv));
  set_output(node, &conv);
  dynq_conv_flatten(&conv);
  node->scratch_bytes = dynq_conv_bytes(&conv, node->thread_count);
  return DYNQ_OK;
}

static dynq_status run_float(const dynq_op_node *node) {
  dynq_conv conv;
  DYNQ_TRY(find_float(node, &conv));
  dynq_conv_flatten(&conv);
  return dynq_conv_run(&conv, node->scratch, node->threads, node->thread_count);
}

const dynq_op dynq_op_ConvFloat = {.name = "dynq.ConvFloat",
                                   .min_inputs = 2,
                                   .max_inputs = 3,
                                   .min_outputs = 1,
                                   .max_outputs = 1,
                                   .attributes = {DYNQ_WINDOW_ATTRIBUTES, [FLOAT_GROUP] = {"group", DYNQ_ATTRIBUTE_INT},
                                                  [FLOAT_OUTPUTS] = {"channels", DYNQ_ATTRIBUTE_INT},
                                                  [FLOAT_ACTIVATION] = {"activation", DYNQ_ATTRIBUTE_STRING}},
                                   .infer = infer_float,
                                   .run = run_float};

/* ---- dynq.Conv ---- */

enum { INT8_ACTIVATION = DYNQ_WINDOW_ATTRIBUTE_COUNT, INT8_SCHEME, INT8_GRANULARITY, INT8_LO, INT8_HI };

static dynq_status find_int8(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_weight *w = node->inputs[1]->weight;
  DYNQ_TRY(read_images(node, conv));
  DYNQ_TRY(set_windows(node, NULL, conv));
  if (dynq_conv_k(conv) != w->info.k) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "x has %zu channels and the kernel %zu x %zu places; the weight has K = %zu", conv->channels,
                     conv->axis[0].taps, conv->axis[1].taps, w->info.k);
  }
  conv->packed = w;
  conv->outputs = w->info.n;
  conv->per_image = dynq_op_string_is(node, INT8_GRANULARITY, "image");
  if (node->attributes[INT8_GRANULARITY].present && !conv->per_image &&
      !dynq_op_string_is(node, INT8_GRANULARITY, "row")) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "granularity is '%.40s'; expected row or image",
                     node->attributes[INT8_GRANULARITY].string);
  }
  DYNQ_TRY(dynq_op_range(node, INT8_LO, &conv->fixed, &conv->lo, &conv->hi));
  conv->per_image = conv->per_image && !conv->fixed;
  DYNQ_TRY(dynq_op_activation(node, INT8_ACTIVATION, &conv->activation));
  DYNQ_TRY(dynq_op_scheme(node, INT8_SCHEME, &conv->scheme));
  return set_bias(node, conv);
}

static dynq_status infer_int8(dynq_op_node *node) {
  dynq_conv conv;
  DYNQ_TRY(find_int8(node, &conv));
  set_output(node, &conv);
  dynq_conv_flatten(&conv);
  node->scratch_bytes = dynq_conv_bytes(&conv, node->thread_count);
  return DYNQ_OK;
}

static dynq_status run_int8(const dynq_op_node *node) {
  dynq_conv conv;
  DYNQ_TRY(find_int8(node, &conv));
  dynq_conv_flatten(&conv);
  return dynq_conv_run(&conv, node->scratch, node->threads, node->thread_count);
}

const dynq_op dynq_op_ConvInt8 = {
    .name = "dynq.Conv",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .weight_inputs = 1 << 1,
    .attributes = {DYNQ_WINDOW_ATTRIBUTES, [INT8_ACTIVATION] = {"activation", DYNQ_ATTRIBUTE_STRING},
                   [INT8_SCHEME] = {"scheme", DYNQ_ATTRIBUTE_STRING},
                   [INT8_GRANULARITY] = {"granularity", DYNQ_ATTRIBUTE_STRING},
                   [INT8_LO] = {"lo", DYNQ_ATTRIBUTE_FLOAT}, [INT8_HI] = {"hi", DYNQ_ATTRIBUTE_FLOAT}},
    .infer = infer_int8,
    .run = run_int8};
