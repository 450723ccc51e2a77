/*
 * MatMulInteger and ConvInteger, of int8 and uint8 on both sides: sums of (a - zero point) * (b - zero point) in int32,
 * which wraps where a sum does not fit.
 *
 * Both sides become int16 with their zero-points taken away, so that each product is one of two 16-bit numbers and the
 * inner loop, along a row of the output, is one that a compiler vectorises.
 */
#include "matrices.h"
#include "walk.h"
#include "window.h"

#include <string.h>

static size_t bytes_of_widened(const dynq_op_tensor *t) {
  return dynq_size_add(dynq_size_mul(t->count, sizeof(int16_t)), 63) / 64 * 64;
}

static int16_t byte_at(const dynq_op_tensor *t, size_t i) {
  return t->dtype == DYNQ_UINT8 ? ((const uint8_t *)t->data)[i] : ((const int8_t *)t->data)[i];
}

/* A tensor without its zero-points, of which there is one for all, or one for each place i / inner % count. */
typedef struct widen_job {
  const dynq_op_tensor *from, *zero_point; /* NULL: 0 */
  size_t inner, count;
  int16_t *to;
} widen_job;

static void widen(const void *arg, size_t begin, size_t end) {
  const widen_job *job = arg;
  size_t n;
  for (size_t i = begin; i < end; i += n) {
    const size_t left = job->count == 1 ? end - i : job->inner - i % job->inner;
    const int16_t zero = job->zero_point != NULL ? byte_at(job->zero_point, i / job->inner % job->count) : 0;
    n = left < end - i ? left : end - i;
    if (job->from->dtype == DYNQ_UINT8) {
      const uint8_t *from = (const uint8_t *)job->from->data + i;
      for (size_t j = 0; j < n; j++) {
        job->to[i + j] = (int16_t)(from[j] - zero);
      }
    } else {
      const int8_t *from = (const int8_t *)job->from->data + i;
      for (size_t j = 0; j < n; j++) {
        job->to[i + j] = (int16_t)(from[j] - zero);
      }
    }
  }
}

static void widen_input(const dynq_op_node *node, size_t input, size_t zero_point, size_t inner, int16_t *to) {
  const dynq_op_tensor *z = dynq_op_input(node, zero_point);
  const widen_job job = {node->inputs[input], z, inner, z != NULL ? z->count : 1, to};
  dynq_op_parallel(node, job.from->count, job.from->count * sizeof(int16_t), widen, &job);
}

/* to[j] += x * y[j * step], modulo 2^32. */
static void add_products(size_t n, int16_t x, const int16_t *y, size_t step, uint32_t *to) {
  if (step == 1) {
    for (size_t j = 0; j < n; j++) {
      to[j] += (uint32_t)((int32_t)x * (int32_t)y[j]);
    }
  } else {
    for (size_t j = 0; j < n; j++) {
      to[j] += (uint32_t)((int32_t)x * (int32_t)y[j * step]);
    }
  }
}

/* A zero-point of input `i` is of its dtype and has one element, or `many` (a row of them). */
static dynq_status check_zero_point(const dynq_op_node *node, size_t i, size_t of, size_t many) {
  const dynq_op_tensor *z = dynq_op_input(node, i);
  if (z == NULL) {
    return DYNQ_OK;
  }
  DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET(node->inputs[of]->dtype)));
  return z->rank <= 1 && (z->count == 1 || z->count == many)
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                         "the zero-point, input %zu, has rank %zu and %zu elements; "
                         "expected rank 0 or 1 and 1 element%s",
                         i, z->rank, z->count,
                         many > 1 ? ", or one for each row, "
                                    "column or channel"
                                  : "");
}

/* ---- MatMulInteger ---- */

typedef struct matmul_job {
  const dynq_op_node *node;
  dynq_batch batch;
  dynq_op_tensor a, b; /* of rank 2 or more */
  int16_t *wide_a, *wide_b;
} matmul_job;

static dynq_status find_matmul(const dynq_op_node *node, matmul_job *job) {
  const dynq_op_tensor *a = DYNQ_INPUT(node, MatMulInteger, A), *b = DYNQ_INPUT(node, MatMulInteger, B);
  if (a->rank == 0 || b->rank == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "a has rank %zu and b %zu; expected 1 or more", a->rank, b->rank);
  }
  *job = (matmul_job){.node = node, .a = dynq_batch_as_matrix(a, true), .b = dynq_batch_as_matrix(b, false)};
  return dynq_batch_find(&job->a, &job->b, &job->batch);
}

static dynq_status infer_matmul(dynq_op_node *node) {
  matmul_job job;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(MatMulInteger, A), DYNQ_SET_BYTES));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(MatMulInteger, B), DYNQ_SET_BYTES));
  DYNQ_TRY(find_matmul(node, &job));
  DYNQ_TRY(check_zero_point(node, DYNQ_IN(MatMulInteger, a_zero_point), DYNQ_IN(MatMulInteger, A), job.batch.m));
  DYNQ_TRY(check_zero_point(node, DYNQ_IN(MatMulInteger, b_zero_point), DYNQ_IN(MatMulInteger, B), job.batch.n));
  dynq_batch_set_output(node, &job.batch, DYNQ_INT32);
  node->scratch_bytes = dynq_size_add(bytes_of_widened(DYNQ_INPUT(node, MatMulInteger, A)),
                                      bytes_of_widened(DYNQ_INPUT(node, MatMulInteger, B)));
  return DYNQ_OK;
}

static void multiply_rows(const void *arg, size_t begin, size_t end) {
  const matmul_job *job = arg;
  const size_t m = job->batch.m, n = job->batch.n, k = job->batch.k;
  for (size_t row = begin; row < end; row++) {
    const int16_t *a = job->wide_a + (dynq_batch_matrix(&job->batch, job->batch.a_steps, row / m) * m + row % m) * k;
    const int16_t *b = job->wide_b + dynq_batch_matrix(&job->batch, job->batch.b_steps, row / m) * k * n;
    uint32_t *to = (uint32_t *)job->node->outputs[0]->data + row * n;
    memset(to, 0, n * sizeof *to);
    for (size_t i = 0; i < k; i++) {
      add_products(n, a[i], b + i * n, 1, to);
    }
  }
}

static dynq_status run_matmul(const dynq_op_node *node) {
  matmul_job job;
  DYNQ_TRY(find_matmul(node, &job));
  job.wide_a = node->scratch;
  job.wide_b = (int16_t *)(void *)((char *)node->scratch + bytes_of_widened(DYNQ_INPUT(node, MatMulInteger, A)));
  if (node->outputs[0]->count == 0) {
    return DYNQ_OK;
  }
  widen_input(node, DYNQ_IN(MatMulInteger, A), DYNQ_IN(MatMulInteger, a_zero_point), job.batch.k, job.wide_a);
  widen_input(node, DYNQ_IN(MatMulInteger, B), DYNQ_IN(MatMulInteger, b_zero_point), 1, job.wide_b);
  const size_t rows = node->outputs[0]->count / job.batch.n;
  dynq_op_parallel(node, rows, dynq_size_mul(node->outputs[0]->count, job.batch.k), multiply_rows, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_MatMulInteger = {infer_matmul, run_matmul};

/* ---- ConvInteger ---- */

typedef struct conv_job {
  const dynq_op_node *node;
  dynq_window window;
  size_t channels, group, outputs; /* input channels of a group; groups; output channels */
  int16_t *wide_x, *wide_w;
} conv_job;

static dynq_status find_conv(const dynq_op_node *node, conv_job *job) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ConvInteger, x), *w = DYNQ_INPUT(node, ConvInteger, w);
  const int64_t group = dynq_op_int(node, DYNQ_ATTR(ConvInteger, group));
  *job = (conv_job){.node = node};
  if (w->rank != x->rank || w->rank < 3 || w->rank > 4) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "x has rank %zu and w %zu; expected both 3 (N, C, W) or 4 (N, C, H, W)", x->rank, w->rank);
  }
  if (group < 1 || w->dims[0] % (size_t)group != 0 || dynq_size_mul(w->dims[1], (size_t)group) != x->dims[1]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "group is %lld, x has %zu channels, w %zu of %zu; they do not go "
                     "together",
                     (long long)group, x->dims[1], w->dims[0], w->dims[1]);
  }
  job->channels = w->dims[1];
  job->group = (size_t)group;
  job->outputs = w->dims[0];
  return dynq_window_of(node, w->dims + 2, false, &job->window);
}

static dynq_status infer_conv(dynq_op_node *node) {
  conv_job job;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ConvInteger, x), DYNQ_SET_BYTES));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(ConvInteger, w), DYNQ_SET_BYTES));
  DYNQ_TRY(find_conv(node, &job));
  DYNQ_TRY(check_zero_point(node, DYNQ_IN(ConvInteger, x_zero_point), DYNQ_IN(ConvInteger, x), 1));
  DYNQ_TRY(check_zero_point(node, DYNQ_IN(ConvInteger, w_zero_point), DYNQ_IN(ConvInteger, w), job.outputs));
  const dynq_window *w = &job.window;
  const dynq_op_tensor *x = DYNQ_INPUT(node, ConvInteger, x);
  const size_t dims[4] = {x->dims[0], job.outputs, w->spatial == 1 ? w->out[1] : w->out[0], w->out[1]};
  dynq_op_set_output(node, 0, DYNQ_INT32, x->rank, dims);
  node->scratch_bytes = dynq_size_add(bytes_of_widened(x), bytes_of_widened(DYNQ_INPUT(node, ConvInteger, w)));
  return DYNQ_OK;
}

/* One kernel element times the places of a plane of x that it meets, which are all but those in the pads. */
static void add_element(const dynq_window *w, size_t row, size_t column, int16_t weight, const int16_t *x,
                        uint32_t *to) {
  size_t top, bottom, left, right, line, place;
  dynq_window_places(w, 0, row, &top, &bottom, &line);
  dynq_window_places(w, 1, column, &left, &right, &place);
  for (size_t i = top; i < bottom && left < right; i++, line += w->stride[0]) {
    add_products(right - left, weight, x + line * w->in[1] + place, w->stride[1], to + i * w->out[1] + left);
  }
}

/* Planes of the output: channel at % outputs of image at / outputs. */
static void convolve_planes(const void *arg, size_t begin, size_t end) {
  const conv_job *job = arg;
  const dynq_window *w = &job->window;
  const size_t in_plane = w->in[0] * w->in[1], out_plane = w->out[0] * w->out[1];
  const size_t kernel = w->kernel[0] * w->kernel[1];
  for (size_t at = begin; at < end; at++) {
    const size_t image = at / job->outputs, output = at % job->outputs;
    const size_t group = output / (job->outputs / job->group);
    const int16_t *x = job->wide_x + (image * job->group + group) * job->channels * in_plane;
    const int16_t *weights = job->wide_w + output * job->channels * kernel;
    uint32_t *to = (uint32_t *)job->node->outputs[0]->data + at * out_plane;
    memset(to, 0, out_plane * sizeof *to);
    for (size_t i = 0; i < job->channels * kernel; i++) {
      add_element(w, i % kernel / w->kernel[1], i % w->kernel[1], weights[i], x + i / kernel * in_plane, to);
    }
  }
}

static dynq_status run_conv(const dynq_op_node *node) {
  conv_job job;
  DYNQ_TRY(find_conv(node, &job));
  job.wide_x = node->scratch;
  job.wide_w = (int16_t *)(void *)((char *)node->scratch + bytes_of_widened(DYNQ_INPUT(node, ConvInteger, x)));
  const size_t kernel = job.window.kernel[0] * job.window.kernel[1], count = node->outputs[0]->count;
  if (count == 0) {
    return DYNQ_OK;
  }
  widen_input(node, DYNQ_IN(ConvInteger, x), DYNQ_IN(ConvInteger, x_zero_point), 1, job.wide_x);
  widen_input(node, DYNQ_IN(ConvInteger, w), DYNQ_IN(ConvInteger, w_zero_point), job.channels * kernel, job.wide_w);
  dynq_op_parallel(node, count / (job.window.out[0] * job.window.out[1]),
                   dynq_size_mul(count, dynq_size_mul(job.channels, kernel)), convolve_planes, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_ConvInteger = {infer_conv, run_conv};
