/*
 * Conv, and with weights that are prepared: dynq.Conv (int8) and dynq.ConvFloat.
 */
#include "../conv/conv.h"
#include "checks.h"
#include "layer_attributes.h"
#include "window.h"

#include <string.h>

/* ---- What they share ---- */

DYNQ_PARAMETERS_FOLLOW(dynq_Conv);
DYNQ_PARAMETERS_FOLLOW(dynq_ConvFloat);

DYNQ_SAME_IN(Conv, X, dynq_Conv, x);
DYNQ_SAME_IN(Conv, B, dynq_Conv, bias);
DYNQ_SAME_IN(Conv, X, dynq_ConvFloat, x);
DYNQ_SAME_IN(Conv, B, dynq_ConvFloat, bias);

static dynq_status read_images(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Conv, X);
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Conv, X), "x", 3));
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
  const int64_t group = dynq_op_int(node, attribute);
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
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, Conv, B);
  const size_t outputs = conv->groups * conv->outputs;
  if (bias != NULL) {
    DYNQ_TRY(dynq_op_check_shape(bias, "bias", 1, &outputs));
    conv->bias = bias->data;
  }
  return DYNQ_OK;
}

static void set_output(dynq_op_node *node, const dynq_conv *conv) {
  const size_t rank = DYNQ_INPUT(node, Conv, X)->rank, rows = conv->axis[0].out, columns = conv->axis[1].out;
  const size_t dims[4] = {conv->images, conv->groups * conv->outputs, rank == 3 ? columns : rows, columns};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, rank, dims);
}

/* ---- Conv ---- */

static dynq_status find_conv(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Conv, X), *w = DYNQ_INPUT(node, Conv, W);
  DYNQ_TRY(read_images(node, conv));
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(Conv, W), "W", 3));
  if (w->rank != x->rank) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "x has %zu dimensions and W %zu; expected as many", x->rank, w->rank);
  }
  DYNQ_TRY(set_groups(node, DYNQ_ATTR(Conv, group), w->dims[1], w->dims[0], conv));
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
      .from = DYNQ_INPUT(node, Conv, W)->data,
      .strides = {conv.outputs * conv.channels * kernel, conv.channels * kernel, kernel},
      .columns = columns,
      .tap_step = {1, 1},
  };
  dynq_conv_pack(&conv, &weights, node->threads, node->thread_count, node->scratch);
  conv.weight = node->scratch;
  return dynq_conv_run(&conv, (char *)node->scratch + dynq_conv_panel_bytes(&conv), node->threads, node->thread_count);
}

const dynq_op_code dynq_op_Conv = {infer_conv, run_conv};

/* ---- dynq.ConvFloat ---- */

/* Sets `narrow` if the weight has 8 bits; the conv's weight is then left open. */
static dynq_status find_float(const dynq_op_node *node, dynq_conv *conv, dynq_conv_narrow *narrow) {
  const dynq_op_tensor *w = DYNQ_INPUT(node, dynq_ConvFloat, weight), *scale = DYNQ_GIVEN(node, dynq_ConvFloat, scale);
  const int64_t group = dynq_op_int(node, DYNQ_ATTR(dynq_ConvFloat, group));
  const int64_t outputs = dynq_op_int(node, DYNQ_ATTR(dynq_ConvFloat, channels));
  DYNQ_TRY(read_images(node, conv));
  if (!node->attributes[DYNQ_ATTR(dynq_ConvFloat, channels)].present) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "attribute channels is left out; expected the number of outputs");
  }
  if (group < 1 || outputs < 0 || conv->channels % (size_t)group != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "group is %lld and channels %lld, x has %zu channels",
                     (long long)group, (long long)outputs, conv->channels);
  }
  DYNQ_TRY(set_groups(node, DYNQ_ATTR(dynq_ConvFloat, group), conv->channels / (size_t)group, (size_t)outputs, conv));
  DYNQ_TRY(set_windows(node, NULL, conv));
  /* Files of earlier versions have the last panel of a group filled up with zeros. */
  const size_t dims[2] = {conv->groups, dynq_size_mul(conv->outputs, dynq_conv_k(conv))};
  const size_t old[4] = {conv->groups, (conv->outputs + DYNQ_PANEL - 1) / DYNQ_PANEL, dynq_conv_k(conv), DYNQ_PANEL};
  const dynq_dtype dtype = scale != NULL ? DYNQ_INT8 : DYNQ_FLOAT32;
  conv->padded = w->rank == 4 && scale == NULL;
  if (w->dtype != dtype || w->rank != (conv->padded ? 4 : 2) ||
      memcmp(w->dims, conv->padded ? old : dims, w->rank * sizeof dims[0]) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the weight: expected %s (%zu, %zu)", dynq_dtype_name(dtype), dims[0],
                     dims[1]);
  }
  *narrow = (dynq_conv_narrow){0};
  if (scale != NULL) {
    const size_t all = dynq_size_mul(conv->groups, conv->outputs);
    DYNQ_TRY(dynq_op_check_shape(scale, "scale", 1, &all));
    *narrow = (dynq_conv_narrow){w->data, scale->data};
  } else {
    conv->weight = w->data;
  }
  DYNQ_TRY(
      dynq_op_activation(node, DYNQ_ATTR(dynq_ConvFloat, activation), &conv->activation, &conv->alpha, &conv->beta));
  DYNQ_TRY(dynq_op_clamp(node, DYNQ_ATTR(dynq_ConvFloat, min), &conv->min, &conv->max));
  return set_bias(node, conv);
}

static bool has_scale(const dynq_op_node *node) { return DYNQ_GIVEN(node, dynq_ConvFloat, scale) != NULL; }

static dynq_status infer_float(dynq_op_node *node) {
  dynq_conv conv;
  dynq_conv_narrow narrow;
  DYNQ_TRY(find_float(node, &conv, &narrow));
  set_output(node, &conv);
  dynq_conv_flatten(&conv);
  node->scratch_bytes =
      dynq_size_add(has_scale(node) ? dynq_conv_panel_bytes(&conv) : 0, dynq_conv_bytes(&conv, node->thread_count));
  return DYNQ_OK;
}

static dynq_status run_float(const dynq_op_node *node) {
  dynq_conv conv;
  dynq_conv_narrow narrow;
  DYNQ_TRY(find_float(node, &conv, &narrow));
  dynq_conv_flatten(&conv);
  if (!has_scale(node)) {
    return dynq_conv_run(&conv, node->scratch, node->threads, node->thread_count);
  }
  if (node->outputs[0]->count == 0) {
    return DYNQ_OK;
  }
  dynq_conv_widen(&conv, &narrow, node->threads, node->thread_count, node->scratch);
  conv.weight = node->scratch;
  return dynq_conv_run(&conv, (char *)node->scratch + dynq_conv_panel_bytes(&conv), node->threads, node->thread_count);
}

const dynq_op_code dynq_op_dynq_ConvFloat = {infer_float, run_float};

/* ---- dynq.Conv ---- */

_Static_assert(DYNQ_ATTR(dynq_Conv, hi) == DYNQ_ATTR(dynq_Conv, lo) + 1, "as dynq_op_range has them");

static dynq_status find_int8(const dynq_op_node *node, dynq_conv *conv) {
  const dynq_weight *w = DYNQ_INPUT(node, dynq_Conv, weight)->weight;
  DYNQ_TRY(read_images(node, conv));
  DYNQ_TRY(set_windows(node, NULL, conv));
  if (dynq_conv_k(conv) != w->info.k) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "x has %zu channels and the kernel %zu x %zu places; the weight has K = %zu", conv->channels,
                     conv->axis[0].taps, conv->axis[1].taps, w->info.k);
  }
  conv->packed = w;
  conv->outputs = w->info.n;
  static const char *const granularities[] = {"row", "image"};
  const size_t granularity = dynq_op_choice(node, DYNQ_ATTR(dynq_Conv, granularity), 2, granularities);
  conv->per_image = granularity == 1;
  if (granularity == 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "granularity is '%.40s'; expected row or image",
                     dynq_op_string(node, DYNQ_ATTR(dynq_Conv, granularity)));
  }
  DYNQ_TRY(dynq_op_range(node, DYNQ_ATTR(dynq_Conv, lo), &conv->fixed, &conv->lo, &conv->hi));
  conv->per_image = conv->per_image && !conv->fixed;
  DYNQ_TRY(dynq_op_activation(node, DYNQ_ATTR(dynq_Conv, activation), &conv->activation, &conv->alpha, &conv->beta));
  DYNQ_TRY(dynq_op_clamp(node, DYNQ_ATTR(dynq_Conv, min), &conv->min, &conv->max));
  DYNQ_TRY(dynq_op_scheme(node, DYNQ_ATTR(dynq_Conv, scheme), &conv->scheme));
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

const dynq_op_code dynq_op_dynq_Conv = {infer_int8, run_int8};
