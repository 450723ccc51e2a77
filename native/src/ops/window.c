/*
 * Windows that move over spatial axes: reading the attributes.
 */
#include "window.h"

enum { LARGEST = INT32_MAX }; /* of any number here: sums and products stay far from int64's end */

dynq_status dynq_window_ints(const dynq_op_node *node, size_t attribute, size_t count, int64_t otherwise, int64_t least,
                             int64_t most, int64_t *values) {
  DYNQ_TRY(dynq_op_ints(node, attribute, count, otherwise, values));
  for (size_t i = 0; i < count; i++) {
    if (values[i] < least || values[i] > most) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s holds %lld; expected %lld to %lld",
                       node->op->attributes[attribute].name, (long long)values[i], (long long)least, (long long)most);
    }
  }
  return DYNQ_OK;
}

dynq_status dynq_window_auto_pad(const dynq_op_node *node, size_t attribute, dynq_auto_pad *pad) {
  static const char *const names[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
  const size_t index = dynq_op_choice(node, attribute, sizeof names / sizeof names[0], names);
  *pad = (dynq_auto_pad)index;
  return index < sizeof names / sizeof names[0]
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                         "auto_pad is '%.40s'; expected NOTSET, VALID, SAME_UPPER or SAME_LOWER",
                         dynq_op_string(node, attribute));
}

/* dynq_window_of() reads each by the places of MaxPool. */
#define SAME_WINDOW(op, input)                                                                                         \
  DYNQ_SAME_IN(MaxPool, X, op, input);                                                                                 \
  DYNQ_SAME_ATTR(MaxPool, op, auto_pad);                                                                               \
  DYNQ_SAME_ATTR(MaxPool, op, dilations);                                                                              \
  DYNQ_SAME_ATTR(MaxPool, op, kernel_shape);                                                                           \
  DYNQ_SAME_ATTR(MaxPool, op, pads);                                                                                   \
  DYNQ_SAME_ATTR(MaxPool, op, strides)
SAME_WINDOW(AveragePool, X);
SAME_WINDOW(Conv, X);
SAME_WINDOW(ConvInteger, x);
SAME_WINDOW(dynq_Conv, x);
SAME_WINDOW(dynq_ConvFloat, x);

/* Pads and the number of windows of axis d. */
static dynq_status place_windows(dynq_window *w, size_t d, dynq_auto_pad pad, bool ceil_mode) {
  const size_t width = (w->kernel[d] - 1) * w->dilation[d] + 1, stride = w->stride[d];
  if (pad == DYNQ_PAD_SAME_UPPER || pad == DYNQ_PAD_SAME_LOWER) {
    w->out[d] = (w->in[d] + stride - 1) / stride;
    const size_t covered = w->out[d] != 0 ? (w->out[d] - 1) * stride + width : 0;
    const size_t all = covered > w->in[d] ? covered - w->in[d] : 0;
    w->before[d] = pad == DYNQ_PAD_SAME_UPPER ? all / 2 : all - all / 2;
    w->after[d] = all - w->before[d];
    return DYNQ_OK;
  }
  const size_t padded = w->in[d] + w->before[d] + w->after[d];
  if (padded < width) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "a window of %zu places does not fit into %zu, pads included", width,
                     padded);
  }
  w->out[d] = (padded - width + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (w->out[d] - 1) * stride >= w->in[d] + w->before[d]) {
    w->out[d]--; /* it would begin behind the input */
  }
  return DYNQ_OK;
}

dynq_status dynq_window_of(const dynq_op_node *node, const size_t *kernel, bool ceil_mode, dynq_window *w) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, MaxPool, X);
  int64_t kernels[2] = {1, 1}, strides[2], dilations[2], pads[4];
  dynq_auto_pad pad;
  if (x->rank != 3 && x->rank != 4) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input 0 has rank %zu; expected 3 (N, C, W) or 4 (N, C, H, W)",
                     x->rank);
  }
  const size_t spatial = x->rank - 2;
  if (kernel == NULL && !node->attributes[DYNQ_ATTR(MaxPool, kernel_shape)].present) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "attribute kernel_shape is left out; expected %zu sizes", spatial);
  }
  DYNQ_TRY(dynq_window_auto_pad(node, DYNQ_ATTR(MaxPool, auto_pad), &pad));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(MaxPool, kernel_shape), spatial, 1, 1, LARGEST, kernels));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(MaxPool, strides), spatial, 1, 1, LARGEST, strides));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(MaxPool, dilations), spatial, 1, 1, LARGEST, dilations));
  DYNQ_TRY(dynq_window_ints(node, DYNQ_ATTR(MaxPool, pads), 2 * spatial, 0, 0, LARGEST, pads));
  *w = (dynq_window){
      .spatial = spatial, .in = {1, 1}, .out = {1, 1}, .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
  for (size_t i = 0; i < spatial; i++) {
    const size_t d = i + 2 - spatial;
    w->in[d] = x->dims[2 + i];
    w->kernel[d] = kernel != NULL ? kernel[i] : (size_t)kernels[i];
    w->stride[d] = (size_t)strides[i];
    w->dilation[d] = (size_t)dilations[i];
    w->before[d] = pad == DYNQ_PAD_EXPLICIT ? (size_t)pads[i] : 0;
    w->after[d] = pad == DYNQ_PAD_EXPLICIT ? (size_t)pads[spatial + i] : 0;
    if (kernel != NULL && node->attributes[DYNQ_ATTR(MaxPool, kernel_shape)].present &&
        (size_t)kernels[i] != kernel[i]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "kernel_shape holds %lld; the weights have %zu",
                       (long long)kernels[i], kernel[i]);
    }
    if (w->in[d] > LARGEST || w->kernel[d] > LARGEST || w->kernel[d] == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                       "an axis of size %zu and a kernel of %zu; expected at most %d, and "
                       "a kernel of 1 or more",
                       w->in[d], w->kernel[d], (int)LARGEST);
    }
    DYNQ_TRY(place_windows(w, d, pad, ceil_mode));
  }
  return DYNQ_OK;
}

/* Counts the elements from one place to another that is `distance` further, rounded up. */
static size_t elements_to(const dynq_window *w, size_t d, size_t distance) {
  return (distance + w->dilation[d] - 1) / w->dilation[d];
}

size_t dynq_window_next(const dynq_window *w, size_t d, size_t element, size_t *begin, size_t *end, size_t *place) {
  const size_t step = w->stride[d], edge = w->before[d], limit = edge + w->in[d], kernel = w->kernel[d];
  if (w->out[d] == 0 || w->in[d] == 0) {
    return kernel;
  }
  const size_t last = (w->out[d] - 1) * step; /* of the last window, which reaches the input with its first elements */
  if (last < edge && element < elements_to(w, d, edge - last)) {
    element = elements_to(w, d, edge - last);
  }
  while (element < kernel) {
    const size_t offset = element * w->dilation[d];
    if (offset >= limit) { /* behind the input in the first window, and further behind in the others */
      return kernel;
    }
    dynq_window_places(w, d, element, begin, end, place);
    if (*begin < *end) {
      return element;
    }
    /* Between two windows: in one behind the input, in the one before it before the input. */
    const size_t after = (edge - offset + step - 1) / step;
    element += elements_to(w, d, edge - offset - (after - 1) * step);
  }
  return kernel;
}

static void swap(size_t *pair) {
  const size_t first = pair[0];
  pair[0] = pair[1];
  pair[1] = first;
}

void dynq_window_flatten(dynq_window *w) {
  if (w->in[1] == 1 && w->out[1] == 1 && w->kernel[1] == 1 && w->before[1] == 0 && w->after[1] == 0) {
    swap(w->in);
    swap(w->out);
    swap(w->kernel);
    swap(w->stride);
    swap(w->dilation);
    swap(w->before);
    swap(w->after);
  }
}
