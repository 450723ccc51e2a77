/*
 * Resize, nearest and linear.
 *
 * Where an element of the output lies in the input is computed for each axis by itself, in float64, as ONNX's reference
 * does, and becomes a table: two neighbours and the weight of the second. Linear: an output is the sum, in float32, over
 * the rows that it lies between, in the order of their axes, of weight * ((1 - f) * left + f * right), where a row's
 * weight is the product of those of its axes from the first on; neighbours of weight 0 are left out.
 */
#include "checks.h"
#include "pairs.h"

#include <string.h>

enum { SCALES_INPUT = 2, SIZES_INPUT };
enum {
  ANTIALIAS,
  AXES,
  COORDINATES,
  CUBIC_COEFF,
  EXCLUDE_OUTSIDE,
  EXTRAPOLATION,
  POLICY,
  MODE,
  NEAREST_MODE,
};
enum { MOST_ROWS = 1 << (DYNQ_MAX_RANK - 1), LARGEST = INT32_MAX };

typedef enum coordinates {
  HALF_PIXEL,
  HALF_PIXEL_SYMMETRIC,
  PYTORCH_HALF_PIXEL,
  ALIGN_CORNERS,
  ASYMMETRIC
} coordinates;
typedef enum nearest_mode { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL } nearest_mode;

/* Where one place of an axis of the output lies: between two of the input, or on `low`, with weight 0 of `high`. */
typedef struct neighbours {
  int32_t low, high;
  float weight;
} neighbours;

typedef struct resize {
  bool linear;
  coordinates coordinates;
  nearest_mode nearest;
  double scale[DYNQ_MAX_RANK];
  size_t out[DYNQ_MAX_RANK];
} resize;

/* ---- Attributes and sizes ---- */

/* Which of `count` names an attribute is; the first where it is left out. */
static dynq_status one_of(const dynq_op_node *node, size_t attribute, size_t count, const char *const *names,
                          size_t *which) {
  *which = 0;
  for (size_t i = 0; i < count && node->attributes[attribute].present; i++) {
    if (dynq_op_string_is(node, attribute, names[i])) {
      *which = i;
      return DYNQ_OK;
    }
  }
  return node->attributes[attribute].present
             ? dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is '%.40s', which is not supported",
                         node->op->attributes[attribute].name, node->attributes[attribute].string)
             : DYNQ_OK;
}

static dynq_status read_modes(const dynq_op_node *node, resize *r, size_t *policy) {
  static const char *const modes[] = {"nearest", "linear"};
  static const char *const all[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                    "asymmetric"};
  static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
  size_t which;
  DYNQ_TRY(one_of(node, MODE, 2, modes, &which));
  r->linear = which == 1;
  DYNQ_TRY(one_of(node, COORDINATES, 5, all, &which));
  r->coordinates = (coordinates)which;
  DYNQ_TRY(one_of(node, NEAREST_MODE, 4, nearest, &which));
  r->nearest = (nearest_mode)which;
  DYNQ_TRY(one_of(node, POLICY, 3, policies, policy));
  if (dynq_op_int(node, ANTIALIAS, 0) != 0 || dynq_op_int(node, EXCLUDE_OUTSIDE, 0) != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "antialias is %lld, exclude_outside %lld; only 0 is supported",
                     (long long)dynq_op_int(node, ANTIALIAS, 0), (long long)dynq_op_int(node, EXCLUDE_OUTSIDE, 0));
  }
  return DYNQ_OK;
}

static bool is_given(const dynq_op_node *node, size_t i) {
  return dynq_op_input(node, i) != NULL && node->inputs[i]->count != 0;
}

/* Scales of the axes `at` by the input `scales`. */
static dynq_status use_scales(const dynq_op_node *node, resize *r, size_t count, const size_t *at) {
  const dynq_op_tensor *x = node->inputs[0], *scales = node->inputs[SCALES_INPUT];
  if (scales->count != count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scales has %zu elements; expected %zu", scales->count, count);
  }
  for (size_t i = 0; i < count; i++) {
    const double scale = (double)((const float *)scales->data)[i], out = scale * (double)x->dims[at[i]];
    if (!(scale > 0.0 && out <= (double)LARGEST)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scale %zu is %g; expected one over 0, and at most %d elements", i,
                       scale, (int)LARGEST);
    }
    r->scale[at[i]] = scale;
    r->out[at[i]] = (size_t)out;
  }
  return DYNQ_OK;
}

/* By the input `sizes`; with a policy other than stretch all axes get the scale of the one that binds. */
static dynq_status use_sizes(const dynq_op_node *node, resize *r, size_t count, const size_t *at, size_t policy) {
  const dynq_op_tensor *x = node->inputs[0];
  int64_t sizes[DYNQ_MAX_RANK];
  size_t given;
  double common = 0.0;
  DYNQ_TRY(dynq_op_static_values(node, SIZES_INPUT, DYNQ_MAX_RANK, &given, sizes));
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

static dynq_status find_resize(const dynq_op_node *node, resize *r) {
  const dynq_op_tensor *x = node->inputs[0];
  const dynq_attribute *axes = &node->attributes[AXES];
  size_t at[DYNQ_MAX_RANK], policy, count = axes->present ? axes->count : x->rank;
  unsigned set;
  DYNQ_TRY(read_modes(node, r, &policy));
  for (size_t d = 0; d < x->rank; d++) {
    r->scale[d] = 1.0;
    r->out[d] = x->dims[d];
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
  if (is_given(node, SCALES_INPUT) == is_given(node, SIZES_INPUT)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scales and sizes are both given or both left out; expected one");
  }
  DYNQ_TRY(is_given(node, SCALES_INPUT) ? use_scales(node, r, count, at) : use_sizes(node, r, count, at, policy));
  for (size_t d = 0; d < x->rank; d++) {
    if (x->dims[d] == 0 && r->out[d] != 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu has size 0 and is to have %zu elements", d, r->out[d]);
    }
  }
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  resize r;
  size_t places = 0;
  DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_ANY));
  if (is_given(node, SCALES_INPUT)) {
    DYNQ_TRY(dynq_op_expect(node, SCALES_INPUT, DYNQ_SET_FLOAT));
  }
  DYNQ_TRY(find_resize(node, &r));
  if (r.linear) {
    DYNQ_TRY(dynq_op_expect(node, 0, DYNQ_SET_FLOAT));
  }
  const dynq_op_tensor *x = node->inputs[0];
  for (size_t d = 0; d < x->rank; d++) {
    places = dynq_size_add(places, r.out[d]);
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, r.out);
  node->scratch_bytes = dynq_size_mul(places, sizeof(neighbours));
  return DYNQ_OK;
}

/* ---- Tables ---- */

/* The place in the input of place `at` of the output. `width`: of the output, as the scale says, not rounded. */
static double source_of(const resize *r, size_t d, size_t in, double at) {
  const double scale = r->scale[d], size = (double)in, width = scale * size;
  switch (r->coordinates) {
  case ALIGN_CORNERS:
    return width == 1.0 ? 0.0 : at * (size - 1.0) / (width - 1.0);
  case ASYMMETRIC:
    return at / scale;
  case PYTORCH_HALF_PIXEL:
    return width == 1.0 ? -0.5 : (at + 0.5) / scale - 0.5;
  case HALF_PIXEL_SYMMETRIC:
    return size / 2.0 * (1.0 - (double)r->out[d] / width) + (at + 0.5) / scale - 0.5;
  case HALF_PIXEL:
    break;
  }
  return (at + 0.5) / scale - 0.5;
}

static int32_t clamp_place(double place, size_t in) {
  return place<0.0 ? 0 : place>(double)(in - 1) ? (int32_t)(in - 1) : (int32_t)place;
}

static void fill_table(const resize *r, size_t d, size_t in, neighbours *table) {
  for (size_t i = 0; i < r->out[d]; i++) {
    const double place = source_of(r, d, in, (double)i), low = floor(place), part = place - low;
    if (r->linear) {
      const int32_t a = clamp_place(low, in), b = clamp_place(low + 1.0, in);
      const float weight = a == b ? 0.0f : (float)part;
      table[i] = (neighbours){a, weight == 0.0f ? a : b, weight};
    } else {
      const bool up = part != 0.0 && (r->nearest == PREFER_FLOOR  ? part > 0.5
                                      : r->nearest == PREFER_CEIL ? part >= 0.5
                                                                  : r->nearest == CEIL);
      const int32_t a = clamp_place(up ? low + 1.0 : low, in);
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

static void nearest_row(const resize_job *job, const char *from, char *to) {
  const size_t last = job->x->rank - 1, size = dynq_dtype_size(job->x->dtype), n = job->out->dims[last];
  const neighbours *table = job->tables[last];
  for (size_t i = 0; i < n; i++) {
    const char *p = from + (size_t)table[i].low * size;
    switch (size) {
    case 4:
      memcpy(to + i * 4, p, 4);
      break;
    case 8:
      memcpy(to + i * 8, p, 8);
      break;
    default:
      to[i] = *p;
    }
  }
}

static void resize_rows(const void *arg, size_t begin, size_t end) {
  const resize_job *job = arg;
  const size_t last = job->x->rank - 1, n = job->out->dims[last], width = job->x->dims[last];
  const size_t size = dynq_dtype_size(job->x->dtype);
  const neighbours *table = job->tables[last];
  size_t rows[MOST_ROWS];
  float weights[MOST_ROWS];
  for (size_t row = begin; row < end; row++) {
    const size_t count = find_rows(job, row, rows, weights);
    if (!job->linear) {
      nearest_row(job, (const char *)job->x->data + rows[0] * width * size, (char *)job->out->data + row * n * size);
      continue;
    }
    float *to = (float *)job->out->data + row * n;
    for (size_t i = 0; i < n; i++) {
      const float f = table[i].weight;
      float sum = 0.0f;
      for (size_t j = 0; j < count; j++) {
        const float *from = (const float *)job->x->data + rows[j] * width;
        const float left = from[table[i].low];
        const float value = weights[j] * (f == 0.0f ? left : (1.0f - f) * left + f * from[table[i].high]);
        sum = j == 0 ? value : sum + value;
      }
      to[i] = dynq_one_nan(sum);
    }
  }
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0], *out = node->outputs[0];
  resize_job job = {.x = x, .out = out};
  resize r;
  neighbours *table = node->scratch;
  DYNQ_TRY(find_resize(node, &r));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  if (x->rank == 0) {
    memcpy(out->data, x->data, dynq_dtype_size(x->dtype));
    return DYNQ_OK;
  }
  job.linear = r.linear;
  for (size_t d = 0; d < x->rank; d++) {
    fill_table(&r, d, x->dims[d], table);
    job.tables[d] = table;
    table += r.out[d];
  }
  dynq_op_parallel(node, out->count / out->dims[x->rank - 1], out->count * sizeof(int64_t), resize_rows, &job);
  return DYNQ_OK;
}

/* `cubic_coeff_a` is about the mode cubic, `extrapolation_value` and roi about tf_crop_and_resize, which are refused. */
const dynq_op dynq_op_Resize = {
    .name = "Resize",
    .min_inputs = 1,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .static_inputs = 1u << SCALES_INPUT | 1u << SIZES_INPUT,
    .attributes = {[ANTIALIAS] = {"antialias", DYNQ_ATTRIBUTE_INT},
                   [AXES] = {"axes", DYNQ_ATTRIBUTE_INTS},
                   [COORDINATES] = {"coordinate_transformation_mode", DYNQ_ATTRIBUTE_STRING},
                   [CUBIC_COEFF] = {"cubic_coeff_a", DYNQ_ATTRIBUTE_FLOAT},
                   [EXCLUDE_OUTSIDE] = {"exclude_outside", DYNQ_ATTRIBUTE_INT},
                   [EXTRAPOLATION] = {"extrapolation_value", DYNQ_ATTRIBUTE_FLOAT},
                   [POLICY] = {"keep_aspect_ratio_policy", DYNQ_ATTRIBUTE_STRING},
                   [MODE] = {"mode", DYNQ_ATTRIBUTE_STRING},
                   [NEAREST_MODE] = {"nearest_mode", DYNQ_ATTRIBUTE_STRING}},
    .infer = infer,
    .run = run};
