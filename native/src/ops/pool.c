/*
 * MaxPool, AveragePool, GlobalMaxPool and GlobalAveragePool. A window's elements are taken row by row: the sum of an
 * average is built in this order; of equal values the first is the largest, and a NaN is larger than all. A window of
 * pads alone has the least value of its type, the index -1, and the average NaN. A global average is that of
 * ReduceMean.
 */
#include "../base/interrupt.h"
#include "pairs.h"
#include "window.h"

#include <string.h>

typedef struct pool_job {
  dynq_window window;
  const dynq_kernels *kernels;
  const void *x;
  void *y;
  int64_t *index;
  bool column_major, include_pads;
} pool_job;

enum { LONG_ROW = 65536 }; /* values for a row of windows that are worth a look at interrupts */

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

/* Row `row` of all planes of the output. One kernel element after another is taken into the whole row, which is the
 * order of each of its outputs. */
#define TAKE_IN(name, T, STATEMENT)                                                                                    \
  static void name(const pool_job *job, size_t row) {                                                                  \
    const dynq_window *w = &job->window;                                                                               \
    const T *plane = (const T *)job->x + row / w->out[0] * (w->in[0] * w->in[1]);                                      \
    T *out = (T *)job->y + row * w->out[1];                                                                            \
    const size_t step = w->stride[1];                                                                                  \
    size_t r, last_row, line;                                                                                          \
    const bool takes_long = w->out[1] * at_most(w->kernel[1], w->in[1]) >= LONG_ROW;                                   \
    dynq_window_range(w, 0, row % w->out[0], &r, &last_row, &line);                                                    \
    for (; r < last_row && !(takes_long && dynq_interrupted()); r++, line += w->dilation[0]) {                         \
      size_t begin, end, place, c = dynq_window_next(w, 1, 0, &begin, &end, &place);                                   \
      for (; c < w->kernel[1]; c = dynq_window_next(w, 1, c + 1, &begin, &end, &place)) {                              \
        DYNQ_INDEPENDENT for (size_t i = begin; i < end; i++) {                                                        \
          const T a = plane[line * w->in[1] + place + (i - begin) * step], b = out[i];                                 \
          out[i] = STATEMENT;                                                                                          \
        }                                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
  }
TAKE_IN(take_uint8, uint8_t, (a > b ? a : b))
TAKE_IN(take_int8, int8_t, (a > b ? a : b))

/* Returns whether rows one after another, of one plane and the next, are one long row: windows are one row high, and columns lie
 * in windows of their own rows alone. */
static bool is_one_row(const dynq_window *w) {
  return w->kernel[0] == 1 && w->stride[0] == 1 && w->out[0] == w->in[0] && w->before[0] == 0 && w->before[1] == 0 &&
         w->in[1] == w->out[1] * w->stride[1] && (w->kernel[1] - 1) * w->dilation[1] < w->stride[1];
}

/* Rows [begin, end) of all planes of a float output. */
static void pool_rows(const pool_job *job, size_t begin, size_t end, bool sum) {
  const dynq_window *w = &job->window;
  const size_t most = is_one_row(w) ? LONG_ROW / w->out[1] : 1;
  const bool takes_long = w->out[1] * at_most(w->kernel[1], w->in[1]) >= LONG_ROW;
  for (size_t row = begin, n; row < end; row += n) {
    size_t first, last, line;
    n = at_most(most > 0 ? most : 1, end - row);
    dynq_window_range(w, 0, row % w->out[0], &first, &last, &line);
    dynq_pooling p = {.columns = n * w->out[1],
                      .in = n * w->in[1],
                      .stride = w->stride[1],
                      .taps = w->kernel[1],
                      .step = w->dilation[1],
                      .first = -(ptrdiff_t)w->before[1],
                      .x = (const float *)job->x + (row / w->out[0] * w->in[0] + line) * w->in[1],
                      .x_stride = w->dilation[0] * w->in[1],
                      .sum = sum,
                      .y = (float *)job->y + row * w->out[1]};
    for (; first < last && !(takes_long && dynq_interrupted()); first += p.lines, p.x += p.lines * p.x_stride) {
      p.lines = takes_long ? 1 : last - first;
      job->kernels->vector.pool(&p);
    }
  }
}

static void max_float32(const void *arg, size_t begin, size_t end) {
  const pool_job *job = arg;
  const size_t n = job->window.out[1];
  for (size_t i = begin * n; i < end * n; i++) {
    ((float *)job->y)[i] = -INFINITY;
  }
  pool_rows(job, begin, end, false);
}

#define MAX_ROWS(name, T, LEAST, take)                                                                                 \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const pool_job *job = arg;                                                                                         \
    const size_t n = job->window.out[1];                                                                               \
    for (size_t row = begin; row < end; row++) {                                                                       \
      for (size_t i = 0; i < n; i++) {                                                                                 \
        ((T *)job->y)[row * n + i] = LEAST;                                                                            \
      }                                                                                                                \
      take(job, row);                                                                                                  \
    }                                                                                                                  \
  }
MAX_ROWS(max_uint8, uint8_t, 0, take_uint8)
MAX_ROWS(max_int8, int8_t, INT8_MIN, take_int8)

/* Finds where the largest are: whole planes, one output after another. */
#define MAX_PLACES(name, T, IS_LARGER)                                                                                 \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const pool_job *job = arg;                                                                                         \
    const dynq_window *w = &job->window;                                                                               \
    for (size_t at = begin; at < end; at++) {                                                                          \
      const size_t plane = at / (w->out[0] * w->out[1]) * (w->in[0] * w->in[1]);                                       \
      const T *x = (const T *)job->x + plane;                                                                          \
      size_t r, last_row, row, first_column, last_column, first;                                                       \
      int64_t best_row = -1, best_column = -1;                                                                         \
      T best = 0;                                                                                                      \
      dynq_window_range(w, 0, at / w->out[1] % w->out[0], &r, &last_row, &row);                                        \
      dynq_window_range(w, 1, at % w->out[1], &first_column, &last_column, &first);                                    \
      for (; r < last_row; r++, row += w->dilation[0]) {                                                               \
        size_t column = first;                                                                                         \
        for (size_t c = first_column; c < last_column; c++, column += w->dilation[1]) {                                \
          const T a = x[row * w->in[1] + column];                                                                      \
          if (best_row < 0 || (IS_LARGER)) {                                                                           \
            best = a;                                                                                                  \
            best_row = (int64_t)row;                                                                                   \
            best_column = (int64_t)column;                                                                             \
          }                                                                                                            \
        }                                                                                                              \
      }                                                                                                                \
      const int64_t place =                                                                                            \
          job->column_major ? best_column * (int64_t)w->in[0] + best_row : best_row * (int64_t)w->in[1] + best_column; \
      job->index[at] = best_row < 0 ? -1 : (int64_t)plane + place;                                                     \
    }                                                                                                                  \
  }
MAX_PLACES(places_float32, float, best == best && !(a <= best))
MAX_PLACES(places_uint8, uint8_t, a > best)
MAX_PLACES(places_int8, int8_t, a > best)

/* Counts the elements that window `index` of axis d covers; with pads: those that were asked for, since with ceil_mode
 * a window may reach beyond them. */
static size_t covered(const dynq_window *w, size_t d, size_t index, bool include_pads) {
  size_t begin, end, first;
  if (include_pads) {
    const size_t left = w->before[d] + w->in[d] + w->after[d] - index * w->stride[d];
    const size_t fits = (left + w->dilation[d] - 1) / w->dilation[d];
    return fits < w->kernel[d] ? fits : w->kernel[d];
  }
  dynq_window_range(w, d, index, &begin, &end, &first);
  return end - begin;
}

static void average_rows(const void *arg, size_t begin, size_t end) {
  const pool_job *job = arg;
  const dynq_window *w = &job->window;
  const size_t n = w->out[1], reach = (w->kernel[1] - 1) * w->dilation[1];
  memset((float *)job->y + begin * n, 0, (end - begin) * n * sizeof(float));
  pool_rows(job, begin, end, true);
  for (size_t row = begin; row < end; row++) {
    float *y = (float *)job->y + row * n;
    const size_t rows = covered(&job->window, 0, row % job->window.out[0], job->include_pads);
    for (size_t i = 0; i < n; i++) {
      const bool whole = i * w->stride[1] >= w->before[1] && i * w->stride[1] + reach < w->before[1] + w->in[1];
      const size_t columns = whole ? w->kernel[1] : covered(w, 1, i, job->include_pads);
      y[i] = dynq_one_nan(y[i] / (float)(rows * columns));
    }
  }
}

/* ---- Windows ---- */

static dynq_status read_pool(const dynq_op_node *node, pool_job *job) {
  const int64_t ceil_mode = dynq_op_int(node, DYNQ_ATTR(MaxPool, ceil_mode));
  *job = (pool_job){.kernels = node->kernels, .x = DYNQ_INPUT(node, MaxPool, X)->data};
  return dynq_window_of(node, NULL, ceil_mode != 0, &job->window);
}

DYNQ_SAME_ATTR(MaxPool, AveragePool, ceil_mode);

static void set_shapes(dynq_op_node *node, const dynq_window *w) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, MaxPool, X);
  const size_t dims[4] = {x->dims[0], x->dims[1], w->spatial == 1 ? w->out[1] : w->out[0], w->out[1]};
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  dynq_op_set_output(node, DYNQ_OUT(MaxPool, Indices), DYNQ_INT64, x->rank, dims);
}

static dynq_status infer_max(dynq_op_node *node) {
  pool_job job;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(MaxPool, X), DYNQ_SET_FLOAT | DYNQ_SET_BYTES));
  DYNQ_TRY(read_pool(node, &job));
  set_shapes(node, &job.window);
  return DYNQ_OK;
}

static dynq_status infer_average(dynq_op_node *node) {
  pool_job job;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(AveragePool, X), DYNQ_SET_FLOAT));
  DYNQ_TRY(read_pool(node, &job));
  set_shapes(node, &job.window);
  return DYNQ_OK;
}

/* Bytes of float32 that all windows read, as a measure of the work. */
static size_t work_of(const dynq_window *w, size_t count) {
  const size_t each = at_most(w->kernel[0], w->in[0]) * at_most(w->kernel[1], w->in[1]); /* both fit into 31 bits */
  return dynq_size_mul(count, dynq_size_mul(sizeof(float), each));
}

typedef void (*pool_body)(const void *arg, size_t begin, size_t end);

static dynq_status run_max(const dynq_op_node *node) {
  static const pool_body rows[] = {[DYNQ_FLOAT32] = max_float32, [DYNQ_UINT8] = max_uint8, [DYNQ_INT8] = max_int8};
  static const pool_body places[] = {
      [DYNQ_FLOAT32] = places_float32, [DYNQ_UINT8] = places_uint8, [DYNQ_INT8] = places_int8};
  const dynq_op_tensor *x = DYNQ_INPUT(node, MaxPool, X), *y = DYNQ_OUTPUT(node, MaxPool, Y);
  const dynq_op_tensor *index = DYNQ_OUTPUT(node, MaxPool, Indices);
  pool_job job;
  DYNQ_TRY(read_pool(node, &job));
  dynq_window_flatten(&job.window);
  if (y != NULL && y->count != 0) {
    job.y = y->data;
    dynq_op_parallel(node, y->count / job.window.out[1], work_of(&job.window, y->count), rows[x->dtype], &job);
  }
  if (index != NULL) {
    job.index = index->data;
    job.column_major = dynq_op_int(node, DYNQ_ATTR(MaxPool, storage_order)) != 0;
    dynq_op_parallel(node, index->count, work_of(&job.window, index->count), places[x->dtype], &job);
  }
  return DYNQ_OK;
}

static dynq_status run_average(const dynq_op_node *node) {
  const dynq_op_tensor *y = node->outputs[0];
  pool_job job;
  DYNQ_TRY(read_pool(node, &job));
  dynq_window_flatten(&job.window);
  job.y = y->data;
  job.include_pads = dynq_op_int(node, DYNQ_ATTR(AveragePool, count_include_pad)) != 0;
  if (y->count != 0) {
    dynq_op_parallel(node, y->count / job.window.out[1], work_of(&job.window, y->count), average_rows, &job);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_MaxPool = {infer_max, run_max};

const dynq_op_code dynq_op_AveragePool = {infer_average, run_average};

/* ---- Whole planes ---- */

DYNQ_SAME_IN(GlobalMaxPool, X, GlobalAveragePool, X);

static dynq_status infer_global(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(GlobalMaxPool, X), DYNQ_SET_FLOAT));
  const dynq_op_tensor *x = DYNQ_INPUT(node, GlobalMaxPool, X);
  size_t dims[DYNQ_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  if (x->rank < 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "input 0 has rank %zu; expected 2 or more", x->rank);
  }
  memcpy(dims, x->dims, 2 * sizeof dims[0]);
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  return DYNQ_OK;
}

static void reduce_planes(const dynq_op_node *node, dynq_reduction reduction, size_t begin, size_t end) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, GlobalMaxPool, X);
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
  dynq_op_parallel(node, node->outputs[0]->count, DYNQ_INPUT(node, GlobalAveragePool, X)->count * sizeof(float),
                   reduce_average, node);
  return DYNQ_OK;
}

static dynq_status run_global_max(const dynq_op_node *node) {
  dynq_op_parallel(node, node->outputs[0]->count, DYNQ_INPUT(node, GlobalMaxPool, X)->count * sizeof(float), reduce_max,
                   node);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_GlobalAveragePool = {infer_global, run_global_average};
const dynq_op_code dynq_op_GlobalMaxPool = {infer_global, run_global_max};
