/*
 * MaxPool, AveragePool, GlobalMaxPool and GlobalAveragePool. A window's elements are taken row by row: the sum of an
 * average is built in this order; of equal values the first is the largest, and a NaN is larger than all. A window of
 * pads alone has the least value of its type, the index -1, and the average NaN. A global average is that of ReduceMean.
 */
#include "pairs.h"
#include "window.h"

#include <string.h>

enum {
  CEIL_MODE = DYNQ_WINDOW_ATTRIBUTE_COUNT,
  COUNT_INCLUDE_PAD,                 /* AveragePool */
  STORAGE_ORDER = COUNT_INCLUDE_PAD, /* MaxPool */
};

typedef struct pool_job {
  dynq_window window;
  const void *x;
  void *y;        /* or NULL */
  int64_t *index; /* or NULL */
  bool column_major, include_pads;
} pool_job;

/* What output `i` of a plane of outputs covers: elements [begin, end) of the kernel along each axis. */
typedef struct window_box {
  size_t begin[2], end[2], first[2];
} window_box;

static window_box box_of(const dynq_window *w, size_t i) {
  window_box b;
  dynq_window_range(w, 0, i / w->out[1], &b.begin[0], &b.end[0], &b.first[0]);
  dynq_window_range(w, 1, i % w->out[1], &b.begin[1], &b.end[1], &b.first[1]);
  return b;
}

/* ---- Max ---- */

#define MAX_PLANES(name, T, LEAST, IS_LARGER, RESULT)                                                                  \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const pool_job *job = arg;                                                                                         \
    const dynq_window *w = &job->window;                                                                               \
    const size_t in_plane = w->in[0] * w->in[1], out_plane = w->out[0] * w->out[1];                                    \
    for (size_t at = begin; at < end; at++) {                                                                          \
      const size_t plane = at / out_plane;                                                                             \
      const T *x = (const T *)job->x + plane * in_plane;                                                               \
      const window_box b = box_of(w, at % out_plane);                                                                  \
      T best = LEAST;                                                                                                  \
      int64_t row_of_best = -1, column_of_best = -1;                                                                   \
      size_t row = b.first[0];                                                                                         \
      for (size_t i = b.begin[0]; i < b.end[0]; i++, row += w->dilation[0]) {                                          \
        size_t column = b.first[1];                                                                                    \
        for (size_t j = b.begin[1]; j < b.end[1]; j++, column += w->dilation[1]) {                                     \
          const T a = x[row * w->in[1] + column];                                                                      \
          if (IS_LARGER || row_of_best < 0) {                                                                          \
            best = a;                                                                                                  \
            row_of_best = (int64_t)row;                                                                                \
            column_of_best = (int64_t)column;                                                                          \
          }                                                                                                            \
        }                                                                                                              \
      }                                                                                                                \
      if (job->y != NULL) {                                                                                            \
        ((T *)job->y)[at] = RESULT;                                                                                    \
      }                                                                                                                \
      if (job->index != NULL) {                                                                                        \
        const int64_t place = job->column_major ? column_of_best * (int64_t)w->in[0] + row_of_best                     \
                                                : row_of_best * (int64_t)w->in[1] + column_of_best;                    \
        job->index[at] = row_of_best < 0 ? -1 : (int64_t)(plane * in_plane) + place;                                   \
      }                                                                                                                \
    }                                                                                                                  \
  }
MAX_PLANES(max_float32, float, -INFINITY, (best == best && !(a <= best)), dynq_one_nan(best))
MAX_PLANES(max_uint8, uint8_t, 0, (a > best), best)
MAX_PLANES(max_int8, int8_t, INT8_MIN, (a > best), best)

/* ---- Average ---- */

static void average_planes(const void *arg, size_t begin, size_t end) {
  const pool_job *job = arg;
  const dynq_window *w = &job->window;
  const size_t in_plane = w->in[0] * w->in[1], out_plane = w->out[0] * w->out[1];
  for (size_t at = begin; at < end; at++) {
    const float *x = (const float *)job->x + at / out_plane * in_plane;
    const size_t window[2] = {at % out_plane / w->out[1], at % w->out[1]};
    const window_box b = box_of(w, at % out_plane);
    size_t count = (b.end[0] - b.begin[0]) * (b.end[1] - b.begin[1]);
    float sum = 0.0f;
    size_t row = b.first[0];
    for (size_t i = b.begin[0]; i < b.end[0]; i++, row += w->dilation[0]) {
      size_t column = b.first[1];
      for (size_t j = b.begin[1]; j < b.end[1]; j++, column += w->dilation[1]) {
        sum += x[row * w->in[1] + column];
      }
    }
    if (job->include_pads) { /* those that were asked for; with ceil_mode a window may reach beyond them */
      count = 1;
      for (size_t d = 0; d < 2; d++) {
        const size_t left = w->before[d] + w->in[d] + w->after[d] - window[d] * w->stride[d];
        const size_t fits = (left + w->dilation[d] - 1) / w->dilation[d];
        count *= fits < w->kernel[d] ? fits : w->kernel[d];
      }
    }
    ((float *)job->y)[at] = dynq_one_nan(sum / (float)count);
  }
}

/* ---- Windows ---- */

static dynq_status read_pool(const dynq_op_node *node, pool_job *job) {
  const int64_t ceil_mode = dynq_op_int(node, CEIL_MODE, 0);
  *job = (pool_job){.x = node->inputs[0]->data};
  return dynq_window_of(node, NULL, ceil_mode != 0, &job->window);
}

static void set_shapes(dynq_op_node *node, const dynq_window *w) {
  const dynq_op_tensor *x = node->inputs[0];
  const size_t dims[4] = {x->dims[0], x->dims[1], w->spatial == 1 ? w->out[1] : w->out[0], w->out[1]};
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  dynq_op_set_output(node, 1, DYNQ_INT64, x->rank, dims);
}

static dynq_status infer_max(dynq_op_node *node) {
  pool_job job;
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT | DYNQ_SET_BYTES));
  DYNQ_TRY(read_pool(node, &job));
  set_shapes(node, &job.window);
  return DYNQ_OK;
}

static dynq_status infer_average(dynq_op_node *node) {
  pool_job job;
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT));
  DYNQ_TRY(read_pool(node, &job));
  set_shapes(node, &job.window);
  return DYNQ_OK;
}

/* Bytes of float32 that all windows read, as a measure of the work. */
static size_t work_of(const dynq_window *w, size_t count) {
  return dynq_size_mul(count, dynq_size_mul(sizeof(float), dynq_size_mul(w->kernel[0], w->kernel[1])));
}

static dynq_status run_max(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *y = dynq_op_output(node, 0), *index = dynq_op_output(node, 1);
  pool_job job;
  DYNQ_TRY(read_pool(node, &job));
  job.y = y != NULL ? y->data : NULL;
  job.index = index != NULL ? index->data : NULL;
  job.column_major = dynq_op_int(node, STORAGE_ORDER, 0) != 0;
  const size_t count = y != NULL ? y->count : index->count;
  dynq_op_parallel(node, count, work_of(&job.window, count),
                   x->dtype == DYNQ_FLOAT32 ? max_float32
                   : x->dtype == DYNQ_UINT8 ? max_uint8
                                            : max_int8,
                   &job);
  return DYNQ_OK;
}

static dynq_status run_average(const dynq_op_node *node) {
  const dynq_op_tensor *y = node->outputs[0];
  pool_job job;
  DYNQ_TRY(read_pool(node, &job));
  job.y = y->data;
  job.include_pads = dynq_op_int(node, COUNT_INCLUDE_PAD, 0) != 0;
  dynq_op_parallel(node, y->count, work_of(&job.window, y->count), average_planes, &job);
  return DYNQ_OK;
}

const dynq_op dynq_op_MaxPool = {
    .name = "MaxPool",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 2,
    .attributes = {DYNQ_WINDOW_ATTRIBUTES, {"ceil_mode", DYNQ_ATTRIBUTE_INT}, {"storage_order", DYNQ_ATTRIBUTE_INT}},
    .infer = infer_max,
    .run = run_max};

const dynq_op dynq_op_AveragePool = {.name = "AveragePool",
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .min_outputs = 1,
                                     .max_outputs = 1,
                                     .attributes = {DYNQ_WINDOW_ATTRIBUTES,
                                                    {"ceil_mode", DYNQ_ATTRIBUTE_INT},
                                                    {"count_include_pad", DYNQ_ATTRIBUTE_INT}},
                                     .infer = infer_average,
                                     .run = run_average};

/* ---- Whole planes ---- */

static dynq_status infer_global(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT));
  const dynq_op_tensor *x = node->inputs[0];
  size_t dims[DYNQ_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  if (x->rank < 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input 0 has rank %zu; expected 2 or more", x->rank);
  }
  memcpy(dims, x->dims, 2 * sizeof dims[0]);
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  return DYNQ_OK;
}

static void reduce_planes(const dynq_op_node *node, dynq_reduction reduction, size_t begin, size_t end) {
  const dynq_op_tensor *x = node->inputs[0];
  const size_t n = dynq_op_product(x, 2, x->rank);
  float *y = node->outputs[0]->data;
  for (size_t i = begin; i < end; i++) {
    const float all = node->kernels->vector.reduce(reduction, n, (const float *)x->data + i * n);
    y[i] = dynq_one_nan(reduction == DYNQ_REDUCTION_SUM ? all / (float)n : all);
  }
}

static void reduce_average(const void *arg, size_t begin, size_t end) {
  reduce_planes(arg, DYNQ_REDUCTION_SUM, begin, end);
}

static void reduce_max(const void *arg, size_t begin, size_t end) {
  reduce_planes(arg, DYNQ_REDUCTION_MAX, begin, end);
}

static dynq_status run_global_average(const dynq_op_node *node) {
  dynq_op_parallel(node, node->outputs[0]->count, node->inputs[0]->count * sizeof(float), reduce_average, node);
  return DYNQ_OK;
}

static dynq_status run_global_max(const dynq_op_node *node) {
  dynq_op_parallel(node, node->outputs[0]->count, node->inputs[0]->count * sizeof(float), reduce_max, node);
  return DYNQ_OK;
}

const dynq_op dynq_op_GlobalAveragePool = {.name = "GlobalAveragePool",
                                           .min_inputs = 1,
                                           .max_inputs = 1,
                                           .min_outputs = 1,
                                           .max_outputs = 1,
                                           .infer = infer_global,
                                           .run = run_global_average};

const dynq_op dynq_op_GlobalMaxPool = {.name = "GlobalMaxPool",
                                       .min_inputs = 1,
                                       .max_inputs = 1,
                                       .min_outputs = 1,
                                       .max_outputs = 1,
                                       .infer = infer_global,
                                       .run = run_global_max};
