/*
 * GridSample of images and volumes: reads X at places between its pixels.
 *
 * A place is computed in float64: ((g + 1) size - 1) / 2 of a coordinate g, or (g + 1) / 2 (size - 1) if corners are
 * aligned. Its neighbours along an axis are the nearest pixel (ties to even), 2 for linear, or 4 for cubic (Keys' kernel
 * with A = -0.75). Weights of an axis are rounded to float32, and a pixel's is the product over the axes from the first
 * on. An output is the sum of weight * pixel in float32 from 0 on, in the order of the pixels. A pixel outside of the image
 * is left out, or is the one that padding_mode names. A coordinate that is no number or infinite counts as one far to the
 * left or above.
 */
#include "../base/elements.h"
#include "checks.h"
#include "walk.h"

#include <math.h>

enum { MOST = 4, MOST_AXES = 3 };

typedef enum outside { ZEROS, BORDER, REFLECTION } outside;

typedef struct grid_job {
  const dynq_op_node *node;
  size_t taps; /* along an axis: 1, 2 or 4 */
  outside outside;
  bool aligned;
} grid_job;

/* The neighbours of a place along an axis: pixels, -1 for none, and their weights. */
typedef struct neighbours {
  ptrdiff_t at[MOST];
  float weight[MOST];
} neighbours;

static double clamp(double x, size_t size) { return x <= 0.0 ? 0.0 : x >= (double)(size - 1) ? (double)(size - 1) : x; }

/* Mirrors a place at the borders of the image, which go through the outer pixels if corners are aligned. */
static double reflect(double x, size_t size, bool aligned) {
  const double low = aligned ? 0.0 : -0.5, span = aligned ? (double)(size - 1) : (double)size;
  if (span == 0.0) {
    return 0.0;
  }
  const double distance = fabs(x - low), rest = fmod(distance, span);
  const bool odd = fmod(floor(distance / span), 2.0) != 0.0;
  return clamp(odd ? span - rest + low : rest + low, size);
}

static double pad(double x, const grid_job *job, size_t size) {
  return job->outside == BORDER ? clamp(x, size) : job->outside == REFLECTION ? reflect(x, size, job->aligned) : x;
}

static double cubic_weight(double distance) {
  const double a = -0.75, d = fabs(distance);
  return d <= 1.0 ? ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0 : ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
}

static neighbours find(const grid_job *job, float coordinate, size_t size) {
  const double g = (double)coordinate;
  double x = job->aligned ? (g + 1.0) / 2.0 * (double)(size - 1) : ((g + 1.0) * (double)size - 1.0) / 2.0;
  neighbours n;
  if (!(fabs(x) <= 1e9)) {
    x = -1e9;
  }
  x = job->taps == 4 ? x : pad(x, job, size);
  const double first = job->taps == 1 ? rint(x) : floor(x) - (job->taps == 4 ? 1.0 : 0.0);
  for (size_t i = 0; i < job->taps; i++) {
    const double place = first + (double)i, pixel = pad(place, job, size);
    const double weight = job->taps == 1 ? 1.0 : job->taps == 2 ? 1.0 - fabs(x - place) : cubic_weight(x - place);
    const bool inside = pixel >= 0.0 && pixel <= (double)(size - 1);
    n.at[i] = inside ? (ptrdiff_t)rint(pixel) : -1;
    n.weight[i] = (float)weight;
  }
  return n;
}

/* Sums the neighbours in a plane or volume; an image is a volume of depth 1. */
static float sum_of(const grid_job *job, const neighbours *found, size_t depth, const size_t *sizes,
                    const float *pixels) {
  float sum = 0.0f;
  for (size_t d = 0; d < depth; d++) {
    for (size_t r = 0; r < job->taps; r++) {
      for (size_t c = 0; c < job->taps; c++) {
        if (found[0].at[d] >= 0 && found[1].at[r] >= 0 && found[2].at[c] >= 0) {
          const size_t row = (size_t)found[0].at[d] * sizes[0] + (size_t)found[1].at[r];
          const float weight = found[0].weight[d] * found[1].weight[r] * found[2].weight[c];
          sum += weight * pixels[row * sizes[1] + (size_t)found[2].at[c]];
        }
      }
    }
  }
  return sum;
}

static void sample(const void *arg, size_t begin, size_t end) {
  const grid_job *job = arg;
  const dynq_op_tensor *x = DYNQ_INPUT(job->node, GridSample, X), *grid = DYNQ_INPUT(job->node, GridSample, grid);
  const size_t axes = x->rank - 2, channels = x->dims[1], pixels = dynq_op_product(x, 2, x->rank);
  const size_t places = dynq_op_product(grid, 1, grid->rank - 1);
  for (size_t i = begin; i < end; i++) {
    const float *coordinates = (const float *)grid->data + axes * i; /* of the last axis first */
    neighbours found[MOST_AXES] = {{.at = {0}, .weight = {1.0f}}};
    for (size_t axis = 0; axis < axes; axis++) {
      found[MOST_AXES - 1 - axis] = find(job, coordinates[axis], x->dims[x->rank - 1 - axis]);
    }
    for (size_t c = 0; c < channels; c++) {
      const size_t plane = i / places * channels + c;
      const float sum =
          sum_of(job, found, axes == 2 ? 1 : job->taps, x->dims + x->rank - 2, (const float *)x->data + plane * pixels);
      ((float *)job->node->outputs[0]->data)[plane * places + i % places] = dynq_one_nan(sum);
    }
  }
}

static dynq_status read_attributes(const dynq_op_node *node, grid_job *job) {
  static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear", "bicubic"}; /* the last of opset 16 */
  static const char *const paddings[] = {"zeros", "border", "reflection"};
  static const size_t taps[] = {1, 2, 4, 2, 4};
  const size_t mode = dynq_op_choice(node, DYNQ_ATTR(GridSample, mode), 5, modes);
  const size_t padding = dynq_op_choice(node, DYNQ_ATTR(GridSample, padding_mode), 3, paddings);
  if (mode == 5 || padding == 3) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "mode is '%.40s' and padding_mode '%.40s', which is not supported",
                     dynq_op_string(node, DYNQ_ATTR(GridSample, mode)),
                     dynq_op_string(node, DYNQ_ATTR(GridSample, padding_mode)));
  }
  *job = (grid_job){.node = node,
                    .taps = taps[mode],
                    .outside = (outside)padding,
                    .aligned = dynq_op_int(node, DYNQ_ATTR(GridSample, align_corners)) != 0};
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  grid_job job;
  DYNQ_TRY(dynq_op_expect_same(node, DYNQ_IN(GridSample, X), DYNQ_SET_FLOAT));
  DYNQ_TRY(read_attributes(node, &job));
  const dynq_op_tensor *x = DYNQ_INPUT(node, GridSample, X), *grid = DYNQ_INPUT(node, GridSample, grid);
  if (x->rank < 4 || x->rank > 2 + MOST_AXES) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X has rank %zu; expected 4 or 5", x->rank);
  }
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(GridSample, grid), x->rank));
  if (grid->dims[0] != x->dims[0] || grid->dims[x->rank - 1] != x->rank - 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "grid is (%zu, ..., %zu); expected (%zu, ..., %zu)", grid->dims[0],
                     grid->dims[x->rank - 1], x->dims[0], x->rank - 2);
  }
  if (grid->count != 0 && dynq_op_product(x, 2, x->rank) == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "X has no pixels");
  }
  size_t dims[DYNQ_MAX_RANK] = {x->dims[0], x->dims[1]};
  for (size_t i = 2; i < x->rank; i++) {
    dims[i] = grid->dims[i - 1];
  }
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, dims);
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  grid_job job;
  DYNQ_TRY(read_attributes(node, &job));
  const dynq_op_tensor *y = node->outputs[0];
  if (y->count != 0) {
    const size_t places = y->count / y->dims[1];
    dynq_op_parallel_work(node, places, y->count * (y->rank == 4 ? 1 : job.taps) * job.taps * job.taps, sample, &job);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_GridSample = {infer, run};
