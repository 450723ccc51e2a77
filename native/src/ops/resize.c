/*
 * Resize: its attributes and sizes, nearest and linear. resize_taps.c has what takes more than two neighbours.
 *
 * The place of an output in the input is computed for each axis by itself, in float64, as ONNX's reference does. It
 * becomes a table: two neighbours and the weight of the second. Linear: an output is a sum in float32 of weight * ((1 -
 * f) * left + f * right), over the rows that it lies between, in the order of their axes. A row's weight is the product
 * of those of its axes from the first on; neighbours of weight 0 are left out.
 */
#include "resize.h"
#include "pairs.h"

#include <math.h>
#include <string.h>

enum { MOST_ROWS = 1 << (DYNQ_MAX_RANK - 1), LARGEST = INT32_MAX, COLUMNS = 512 };

/* A place of an axis of the output: it lies between two of the input, or on `low`, with weight 0 of `high`. */
typedef struct neighbours {
  int32_t low, high;
  float weight;
} neighbours;

/* ---- Attributes and sizes ---- */

/* Finds which of `count` names an attribute is. */
static dynq_status one_of(const dynq_op_node *node, size_t attribute, size_t count, const char *const *names,
                          size_t *which) {
  *which = dynq_op_choice(node, attribute, count, names);
  return *which < count ? DYNQ_OK
                        : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is '%.40s', which is not supported",
                                    node->op->attributes[attribute].name, dynq_op_string(node, attribute));
}

static dynq_status read_modes(const dynq_op_node *node, dynq_resize *r, size_t *policy) {
  static const char *const modes[] = {"nearest", "linear", "cubic"};
  static const char *const all[] = {"half_pixel",    "half_pixel_symmetric", "pytorch_half_pixel",
                                    "align_corners", "asymmetric",           "tf_crop_and_resize"};
  static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
  size_t which;
  DYNQ_TRY(one_of(node, DYNQ_ATTR(Resize, mode), 3, modes, &which));
  r->mode = (dynq_resize_mode)which;
  DYNQ_TRY(one_of(node, DYNQ_ATTR(Resize, coordinate_transformation_mode), 6, all, &which));
  r->coordinates = (dynq_coordinates)which;
  DYNQ_TRY(one_of(node, DYNQ_ATTR(Resize, nearest_mode), 4, nearest, &which));
  r->nearest = (dynq_nearest)which;
  DYNQ_TRY(one_of(node, DYNQ_ATTR(Resize, keep_aspect_ratio_policy), 3, policies, policy));
  r->antialias = dynq_op_int(node, DYNQ_ATTR(Resize, antialias)) != 0;
  r->exclude_outside = r->mode == DYNQ_CUBIC && dynq_op_int(node, DYNQ_ATTR(Resize, exclude_outside)) != 0;
  r->cubic_coefficient = (double)dynq_op_float(node, DYNQ_ATTR(Resize, cubic_coeff_a));
  r->extrapolation = dynq_op_float(node, DYNQ_ATTR(Resize, extrapolation_value));
  if (r->antialias && r->mode == DYNQ_NEAREST) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "antialias is set with mode nearest; expected linear or cubic");
  }
  return DYNQ_OK;
}

static bool is_given(const dynq_op_node *node, size_t i) {
  return dynq_op_input(node, i) != NULL && node->inputs[i]->count != 0;
}

/* Scales of the axes `at` by the input `scales`. */
static dynq_status use_scales(const dynq_op_node *node, dynq_resize *r, size_t count, const size_t *at) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Resize, X), *scales = DYNQ_INPUT(node, Resize, scales);
  if (scales->count != count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scales has %zu elements; expected %zu", scales->count, count);
  }
  for (size_t i = 0; i < count; i++) {
    const double scale = (double)((const float *)scales->data)[i];
    const double out = scale * (double)x->dims[at[i]]; /* of a crop, too, as all that implement it have it */
    if (!(scale > 0.0 && out >= 0.0 && out <= (double)LARGEST)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scale %zu is %g; expected one over 0, and at most %d elements", i,
                       scale, (int)LARGEST);
    }
    r->scale[at[i]] = scale;
    r->out[at[i]] = (size_t)out;
  }
  return DYNQ_OK;
}

/* By the input `sizes`; with a policy other than stretch all axes get the scale of the one that binds. */
static dynq_status use_sizes(const dynq_op_node *node, dynq_resize *r, size_t count, const size_t *at, size_t policy) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Resize, X);
  int64_t sizes[DYNQ_MAX_RANK];
  size_t given;
  double common = 0.0;
  DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Resize, sizes), DYNQ_MAX_RANK, &given, sizes));
  if (given != count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sizes has %zu elements; expected %zu", given, count);
  }
  for (size_t i = 0; i < count; i++) {
    if (sizes[i] < 0 || sizes[i] > LARGEST) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "size %zu is %lld; expected 0 to %d", i, (long long)sizes[i],
                       (int)LARGEST);
    }
    const double scale = x->dims[at[i]] != 0 ? (double)sizes[i] / (double)x->dims[at[i]] : 1.0;
    common = i == 0 || (policy == 1 ? scale < common : scale > common) ? scale : common;
    r->scale[at[i]] = scale;
    r->out[at[i]] = (size_t)sizes[i];
  }
  for (size_t i = 0; i < count && policy != 0; i++) {
    const double out = common * (double)x->dims[at[i]] + 0.5;
    if (out > (double)LARGEST) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu gets %.0f elements; at most %d are supported", at[i], out,
                       (int)LARGEST);
    }
    r->scale[at[i]] = common;
    r->out[at[i]] = (size_t)out;
  }
  return DYNQ_OK;
}

/* The crop of the axes `at`: where they start and end, in parts of them. */
static dynq_status use_roi(const dynq_op_node *node, dynq_resize *r, size_t count, const size_t *at) {
  const dynq_op_tensor *roi = DYNQ_GIVEN(node, Resize, roi);
  if (r->coordinates != DYNQ_CROP) {
    return DYNQ_OK;
  }
  if (roi == NULL || roi->dtype != DYNQ_FLOAT32 || roi->count != 2 * count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "roi: expected float32 of %zu elements with tf_crop_and_resize",
                     2 * count);
  }
  for (size_t i = 0; i < count; i++) {
    r->start[at[i]] = (double)((const float *)roi->data)[i];
    r->end[at[i]] = (double)((const float *)roi->data)[count + i];
    if (!(fabs(r->start[at[i]]) <= 1e6 && fabs(r->end[at[i]]) <= 1e6)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "roi is %g to %g on axis %zu; expected numbers up to 1e6",
                       r->start[at[i]], r->end[at[i]], at[i]);
    }
  }
  return DYNQ_OK;
}

static dynq_status find_resize(const dynq_op_node *node, dynq_resize *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Resize, X);
  const dynq_attribute *axes = &node->attributes[DYNQ_ATTR(Resize, axes)];
  size_t at[DYNQ_MAX_RANK], policy, count = axes->present ? axes->count : x->rank;
  unsigned set;
  DYNQ_TRY(read_modes(node, r, &policy));
  r->rank = x->rank;
  for (size_t d = 0; d < x->rank; d++) {
    r->scale[d] = 1.0;
    r->start[d] = 0.0;
    r->end[d] = 1.0;
    r->in[d] = r->out[d] = x->dims[d];
    at[d] = d;
    if (x->dims[d] > LARGEST) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu has size %zu; at most %d are supported", d, x->dims[d],
                       (int)LARGEST);
    }
  }
  if (axes->present) {
    if (count > x->rank) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axes has %zu elements; the tensor has %zu dimensions", count,
                       x->rank);
    }
    DYNQ_TRY(dynq_op_axes(count, axes->ints, x->rank, at, &set));
  }
  DYNQ_TRY(use_roi(node, r, count, at));
  if (is_given(node, DYNQ_IN(Resize, scales)) == is_given(node, DYNQ_IN(Resize, sizes))) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scales and sizes are both given or both left out; expected one");
  }
  DYNQ_TRY(is_given(node, DYNQ_IN(Resize, scales)) ? use_scales(node, r, count, at)
                                                   : use_sizes(node, r, count, at, policy));
  for (size_t d = 0; d < x->rank; d++) {
    if (x->dims[d] == 0 && r->out[d] != 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu has size 0 and is to have %zu elements", d, r->out[d]);
    }
  }
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  dynq_resize r;
  size_t places = 0;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Resize, X), DYNQ_SET_ANY));
  if (is_given(node, DYNQ_IN(Resize, scales))) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Resize, scales), DYNQ_SET_FLOAT));
  }
  DYNQ_TRY(find_resize(node, &r));
  if (r.mode != DYNQ_NEAREST || r.coordinates == DYNQ_CROP) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Resize, X), DYNQ_SET_FLOAT));
  }
  const dynq_op_tensor *x = DYNQ_INPUT(node, Resize, X);
  for (size_t d = 0; d < x->rank; d++) {
    places = dynq_size_add(places, r.out[d]);
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, r.out);
  node->scratch_bytes =
      dynq_resize_has_taps(&r) ? dynq_resize_taps_bytes(&r) : dynq_size_mul(places, sizeof(neighbours));
  return DYNQ_OK;
}

/* ---- Tables ---- */

/* The place in the input of place `at` of the output, as ONNX's text has it. Its reference implementation differs in
 * align_corners where a scale gives no whole size, as its text does not, nor PyTorch, nor ONNX Runtime. */
double dynq_resize_source(const dynq_resize *r, size_t d, double at) {
  const double scale = r->scale[d], size = (double)r->in[d], out = (double)r->out[d];
  switch (r->coordinates) {
  case DYNQ_ALIGN_CORNERS:
    return r->out[d] == 1 ? 0.0 : at * (size - 1.0) / (out - 1.0);
  case DYNQ_FROM_CORNER:
    return at / scale;
  case DYNQ_PYTORCH_HALF_PIXEL:
    return r->out[d] == 1 ? 0.0 : (at + 0.5) / scale - 0.5;
  case DYNQ_HALF_PIXEL_SYMMETRIC:
    return size / 2.0 * (1.0 - out / (scale * size)) + (at + 0.5) / scale - 0.5;
  case DYNQ_CROP:
    return r->out[d] == 1 ? 0.5 * (r->start[d] + r->end[d]) * (size - 1.0)
                          : r->start[d] * (size - 1.0) + at * (r->end[d] - r->start[d]) * (size - 1.0) / (out - 1.0);
  case DYNQ_HALF_PIXEL:
    break;
  }
  return (at + 0.5) / scale - 0.5;
}

bool dynq_resize_rounds_up(const dynq_resize *r, double part) {
  return part != 0.0 && (r->nearest == DYNQ_PREFER_FLOOR  ? part > 0.5
                         : r->nearest == DYNQ_PREFER_CEIL ? part >= 0.5
                                                          : r->nearest == DYNQ_CEIL);
}

static int32_t clamp_place(double place, size_t in) {
  return place<0.0 ? 0 : place>(double)(in - 1) ? (int32_t)(in - 1) : (int32_t)place;
}

static void fill_table(const dynq_resize *r, size_t d, neighbours *table) {
  const size_t in = r->in[d];
  for (size_t i = 0; i < r->out[d]; i++) {
    const double place = dynq_resize_source(r, d, (double)i), low = floor(place), part = place - low;
    if (r->mode == DYNQ_LINEAR) {
      const int32_t a = clamp_place(low, in), b = clamp_place(low + 1.0, in);
      const float weight = a == b ? 0.0f : (float)part;
      table[i] = (neighbours){a, weight == 0.0f ? a : b, weight};
    } else {
      const int32_t a = clamp_place(dynq_resize_rounds_up(r, part) ? low + 1.0 : low, in);
      table[i] = (neighbours){a, a, 0.0f};
    }
  }
}

/* ---- Rows along the last axis ---- */

typedef struct resize_job {
  const dynq_op_tensor *x, *out;
  bool linear;
  const neighbours *tables[DYNQ_MAX_RANK];
} resize_job;

/* The rows of the input that a row of the output lies between; their number. */
static size_t find_rows(const resize_job *job, size_t row, size_t *rows, float *weights) {
  const size_t last = job->x->rank - 1;
  size_t at[DYNQ_MAX_RANK], count = 1;
  for (size_t d = last; d-- > 0;) {
    at[d] = row % job->out->dims[d];
    row /= job->out->dims[d];
  }
  rows[0] = 0;
  weights[0] = 1.0f;
  for (size_t d = 0; d < last; d++) {
    const neighbours n = job->tables[d][at[d]];
    const size_t step = n.weight != 0.0f ? 2 : 1;
    for (size_t i = count; i-- > 0;) { /* from the last, so that none is overwritten before it is read */
      const size_t base = rows[i] * job->x->dims[d];
      const float weight = weights[i];
      rows[i * step] = base + (size_t)n.low;
      weights[i * step] = step == 2 ? weight * (1.0f - n.weight) : weight;
      if (step == 2) {
        rows[i * 2 + 1] = base + (size_t)n.high;
        weights[i * 2 + 1] = weight * n.weight;
      }
    }
    count *= step;
  }
  return count;
}

/* n elements of `size` bytes, a constant, from their places. */
static inline void copy_places(size_t n, const neighbours *table, const size_t size, const char *from, char *to) {
  for (size_t i = 0; i < n; i++) {
    memcpy(to + i * size, from + (size_t)table[i].low * size, size);
  }
}

static void nearest_row(const resize_job *job, const char *from, char *to) {
  const size_t last = job->x->rank - 1, n = job->out->dims[last];
  const neighbours *table = job->tables[last];
  switch (dynq_dtype_size(job->x->dtype)) {
  case 4:
    copy_places(n, table, 4, from, to);
    break;
  case 8:
    copy_places(n, table, 8, from, to);
    break;
  default:
    copy_places(n, table, 1, from, to);
  }
}

/* Columns [column, column + n) of the output, of row `row` of the input alone. */
static void stretch(const resize_job *job, size_t row, size_t column, size_t n, float *to) {
  const size_t last = job->x->rank - 1;
  const neighbours *table = job->tables[last] + column;
  const float *from = (const float *)job->x->data + row * job->x->dims[last];
  for (size_t i = 0; i < n; i++) {
    const float f = table[i].weight, left = from[table[i].low];
    to[i] = f == 0.0f ? left : (1.0f - f) * left + f * from[table[i].high];
  }
}

/* Rows of the input that are stretched: rows of the output next to each other lie between the same two. */
typedef struct stretched {
  float at[2][COLUMNS];
  size_t row[2];
} stretched;

/* Returns a row of the input, stretched. Another one than `keep` gives its place to it. */
static const float *stretched_row(const resize_job *job, stretched *s, size_t row, size_t keep, size_t column,
                                  size_t n) {
  size_t i = s->row[0] == row ? 0 : 1;
  if (s->row[i] != row) {
    i = s->row[0] == keep ? 1 : 0;
    stretch(job, row, column, n, s->at[i]);
    s->row[i] = row;
  }
  return s->at[i];
}

static void linear_columns(const resize_job *job, size_t begin, size_t end, size_t column, size_t n) {
  const size_t width = job->out->dims[job->x->rank - 1];
  size_t rows[MOST_ROWS];
  float weights[MOST_ROWS], more[COLUMNS];
  stretched s = {.row = {SIZE_MAX, SIZE_MAX}};
  for (size_t row = begin; row < end; row++) {
    const size_t count = find_rows(job, row, rows, weights);
    float *to = (float *)job->out->data + row * width + column;
    const float *first = stretched_row(job, &s, rows[0], rows[count > 1 ? 1 : 0], column, n);
    if (count == 2) {
      const float *second = stretched_row(job, &s, rows[1], rows[0], column, n);
      DYNQ_INDEPENDENT for (size_t i = 0; i < n; i++) {
        to[i] = dynq_one_nan(weights[0] * first[i] + weights[1] * second[i]);
      }
      continue;
    }
    for (size_t i = 0; i < n; i++) {
      to[i] = weights[0] * first[i];
    }
    for (size_t j = 1; j < count; j++) {
      stretch(job, rows[j], column, n, more);
      for (size_t i = 0; i < n; i++) {
        to[i] += weights[j] * more[i];
      }
    }
    for (size_t i = 0; i < n; i++) {
      to[i] = dynq_one_nan(to[i]);
    }
  }
}

static void resize_rows(const void *arg, size_t begin, size_t end) {
  const resize_job *job = arg;
  const size_t last = job->x->rank - 1, n = job->out->dims[last], width = job->x->dims[last];
  const size_t size = dynq_dtype_size(job->x->dtype);
  size_t rows[MOST_ROWS];
  float weights[MOST_ROWS];
  if (job->linear) {
    for (size_t column = 0; column < n; column += COLUMNS) {
      linear_columns(job, begin, end, column, n - column < COLUMNS ? n - column : COLUMNS);
    }
    return;
  }
  size_t before = SIZE_MAX;
  for (size_t row = begin; row < end; row++) {
    char *const to = (char *)job->out->data + row * n * size;
    find_rows(job, row, rows, weights);
    if (rows[0] == before) {
      memcpy(to, to - n * size, n * size);
    } else {
      nearest_row(job, (const char *)job->x->data + rows[0] * width * size, to);
    }
    before = rows[0];
  }
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Resize, X), *out = node->outputs[0];
  resize_job job = {.x = x, .out = out};
  dynq_resize r;
  neighbours *table = node->scratch;
  DYNQ_TRY(find_resize(node, &r));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  if (x->rank == 0) {
    memcpy(out->data, x->data, dynq_dtype_size(x->dtype));
    return DYNQ_OK;
  }
  if (dynq_resize_has_taps(&r)) {
    dynq_resize_taps_run(node, &r, x->data, out->data, node->scratch);
    return DYNQ_OK;
  }
  job.linear = r.mode == DYNQ_LINEAR;
  for (size_t d = 0; d < x->rank; d++) {
    fill_table(&r, d, table);
    job.tables[d] = table;
    table += r.out[d];
  }
  dynq_op_parallel(node, out->count / out->dims[x->rank - 1], out->count * sizeof(int64_t), resize_rows, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Resize = {infer, run};
