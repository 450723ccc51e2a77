/*
 * RoiAlign: the mean, or the largest, of samples in each cell of a region. A region's corners and the size of its cells
 * are computed in float32, on which the number of samples depends, and the places of samples in float64. A sample is the
 * sum of weight * pixel in float32 over four pixels, row by row; with mode max it is the largest of the four products.
 * Beyond one pixel outside of the image it is 0.
 */
#include "../base/elements.h"
#include "checks.h"
#include "gather.h"
#include "walk.h"

#include <math.h>

enum { MOST_SAMPLES = 4096 }; /* along an axis of a cell */

typedef struct roi_job {
  const dynq_op_node *node;
  size_t rows, columns;
  int64_t samples; /* 0: as many as a cell has pixels */
  float scale, offset;
  bool largest, aligned;
} roi_job;

/* The place of a sample along an axis: between `low` and `high`, this part of the way. */
typedef struct spot {
  bool inside;
  size_t low, high;
  double part;
} spot;

static spot find_spot(double place, size_t size) {
  if (!(place >= -1.0 && place <= (double)size)) {
    return (spot){.inside = false};
  }
  const double at = place > 0.0 ? place : 0.0;
  const size_t low = (size_t)at;
  return low + 1 >= size ? (spot){true, size - 1, size - 1, 0.0} : (spot){true, low, low + 1, at - (double)low};
}

static float largest_of(float a, float b) { return a != a || b != b ? NAN : a > b ? a : b; }

static float sample(const roi_job *job, const float *plane, size_t width, spot y, spot x) {
  if (!y.inside || !x.inside) {
    return 0.0f;
  }
  const float *upper = plane + y.low * width, *lower = plane + y.high * width;
  const float a = (float)((1.0 - y.part) * (1.0 - x.part)) * upper[x.low];
  const float b = (float)((1.0 - y.part) * x.part) * upper[x.high];
  const float c = (float)(y.part * (1.0 - x.part)) * lower[x.low];
  const float d = (float)(y.part * x.part) * lower[x.high];
  return job->largest ? largest_of(largest_of(a, b), largest_of(c, d)) : a + b + c + d;
}

static size_t samples_of(const roi_job *job, double cell) {
  const double wanted = job->samples > 0 ? (double)job->samples : ceil(cell);
  return wanted > 0.0 ? wanted < (double)MOST_SAMPLES ? (size_t)wanted : (size_t)MOST_SAMPLES : 0;
}

/* Planes of the output: region i / channels, channel i % channels. */
static void align(const void *arg, size_t begin, size_t end) {
  const roi_job *job = arg;
  const dynq_op_tensor *x = DYNQ_INPUT(job->node, RoiAlign, X);
  const size_t channels = x->dims[1], height = x->dims[2], width = x->dims[3];
  for (size_t i = begin; i < end; i++) {
    const size_t region = i / channels;
    const float *corners = (const float *)DYNQ_INPUT(job->node, RoiAlign, rois)->data + region * 4;
    const size_t image =
        dynq_wrapped_index(dynq_op_value(DYNQ_INPUT(job->node, RoiAlign, batch_indices), region), x->dims[0]);
    const float *plane = (const float *)x->data + (image * channels + i % channels) * height * width;
    double first[2], cell[2];
    size_t count[2];
    for (size_t axis = 0; axis < 2; axis++) { /* 0: x */
      const float corner = corners[axis] * job->scale - job->offset;
      const float size = corners[axis + 2] * job->scale - job->offset - corner;
      first[axis] = (double)corner;
      cell[axis] =
          (double)((job->aligned || size > 1.0f ? size : 1.0f) / (float)(axis == 0 ? job->columns : job->rows));
      count[axis] = samples_of(job, cell[axis]);
    }
    float *y = (float *)job->node->outputs[0]->data + i * job->rows * job->columns;
    for (size_t at = 0; at < job->rows * job->columns; at++) {
      const double top = first[1] + (double)(at / job->columns) * cell[1];
      const double left = first[0] + (double)(at % job->columns) * cell[0];
      float all = 0.0f;
      for (size_t r = 0; r < count[1]; r++) {
        const spot row = find_spot(top + ((double)r + 0.5) * cell[1] / (double)count[1], height);
        for (size_t c = 0; c < count[0]; c++) {
          const spot column = find_spot(left + ((double)c + 0.5) * cell[0] / (double)count[0], width);
          const float value = sample(job, plane, width, row, column);
          all = r + c == 0 ? value : job->largest ? largest_of(all, value) : all + value;
        }
      }
      const size_t samples = count[0] * count[1];
      y[at] = dynq_one_nan(job->largest || samples == 0 ? all : all / (float)samples);
    }
  }
}

static dynq_status read_attributes(const dynq_op_node *node, roi_job *job) {
  static const char *const modes[] = {"avg", "max"}, *const places[] = {"half_pixel", "output_half_pixel"};
  const size_t mode = dynq_op_choice(node, DYNQ_ATTR(RoiAlign, mode), 2, modes);
  const size_t place = dynq_op_choice(node, DYNQ_ATTR(RoiAlign, coordinate_transformation_mode), 2, places);
  const int64_t rows = dynq_op_int(node, DYNQ_ATTR(RoiAlign, output_height));
  const int64_t columns = dynq_op_int(node, DYNQ_ATTR(RoiAlign, output_width));
  const int64_t samples = dynq_op_int(node, DYNQ_ATTR(RoiAlign, sampling_ratio));
  if (mode == 2 || place == 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "mode is '%.40s' and coordinate_transformation_mode '%.40s'",
                     dynq_op_string(node, DYNQ_ATTR(RoiAlign, mode)),
                     dynq_op_string(node, DYNQ_ATTR(RoiAlign, coordinate_transformation_mode)));
  }
  if (rows < 1 || rows > INT32_MAX || columns < 1 || columns > INT32_MAX || samples < 0 || samples > MOST_SAMPLES) {
    return dynq_fail(
        DYNQ_ERROR_INVALID_ARGUMENT,
        "output_height is %lld, output_width %lld, sampling_ratio %lld; expected 1 or more, 1 or more, and "
        "0 to %d",
        (long long)rows, (long long)columns, (long long)samples, (int)MOST_SAMPLES);
  }
  *job = (roi_job){.node = node,
                   .rows = (size_t)rows,
                   .columns = (size_t)columns,
                   .samples = samples,
                   .scale = dynq_op_float(node, DYNQ_ATTR(RoiAlign, spatial_scale)),
                   .offset = place == 0 ? 0.5f : 0.0f,
                   .largest = mode == 1,
                   .aligned = place == 0};
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  roi_job job = {0};
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(RoiAlign, X), DYNQ_SET_FLOAT));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(RoiAlign, rois), DYNQ_SET_FLOAT));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(RoiAlign, batch_indices), DYNQ_SET_INDEX));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(RoiAlign, X), 4));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(RoiAlign, rois), 2));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(RoiAlign, batch_indices), 1));
  DYNQ_TRY(read_attributes(node, &job));
  const dynq_op_tensor *x = DYNQ_INPUT(node, RoiAlign, X), *rois = DYNQ_INPUT(node, RoiAlign, rois);
  if (rois->dims[1] != 4 || DYNQ_INPUT(node, RoiAlign, batch_indices)->dims[0] != rois->dims[0]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "rois is (%zu, %zu) with %zu batch_indices; expected (n, 4) with n",
                     rois->dims[0], rois->dims[1], DYNQ_INPUT(node, RoiAlign, batch_indices)->dims[0]);
  }
  if (rois->dims[0] != 0 && dynq_op_product(x, 2, 4) == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X has no pixels");
  }
  const size_t dims[4] = {rois->dims[0], x->dims[1], job.rows, job.columns};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, 4, dims);
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  roi_job job = {0};
  DYNQ_TRY(read_attributes(node, &job));
  DYNQ_TRY(dynq_check_indices(DYNQ_INPUT(node, RoiAlign, batch_indices), DYNQ_INPUT(node, RoiAlign, X)->dims[0]));
  const size_t count = node->outputs[0]->count;
  if (count != 0) {
    dynq_op_parallel_work(node, count / (job.rows * job.columns), dynq_size_mul(count, 20), align, &job);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_RoiAlign = {infer, run};
