/*
 * NonMaxSuppression: for each class of each image the boxes of the best scores that do not overlap a better one by more
 * than iou_threshold. Of equal scores the box that comes first is the better. A score that is NaN chooses nothing.
 */
#include "../base/interrupt.h"
#include "checks.h"
#include "heap.h"

#include <math.h>

enum { OUTPUT_COLUMNS = 3 };

static dynq_status read_scalar(const dynq_op_node *node, size_t i, dynq_dtype dtype, const dynq_op_tensor **t) {
  *t = dynq_op_input(node, i);
  if (*t == NULL) {
    return DYNQ_OK;
  }
  DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET(dtype)));
  return (*t)->count == 1 ? DYNQ_OK
                          : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu elements; expected 1",
                                      node->op->inputs[i].name, (*t)->count);
}

typedef struct settings {
  size_t most; /* boxes of a class */
  float overlap, least;
  bool has_least;
} settings;

static dynq_status read_settings(const dynq_op_node *node, settings *s) {
  const dynq_op_tensor *most, *overlap, *least;
  DYNQ_TRY(read_scalar(node, DYNQ_IN(NonMaxSuppression, max_output_boxes_per_class), DYNQ_INT64, &most));
  DYNQ_TRY(read_scalar(node, DYNQ_IN(NonMaxSuppression, iou_threshold), DYNQ_FLOAT32, &overlap));
  DYNQ_TRY(read_scalar(node, DYNQ_IN(NonMaxSuppression, score_threshold), DYNQ_FLOAT32, &least));
  const int64_t count = most != NULL ? dynq_op_value(most, 0) : 0;
  *s = (settings){.most = count > 0 ? (size_t)count : 0,
                  .overlap = overlap != NULL ? *(const float *)overlap->data : 0.0f,
                  .least = least != NULL ? *(const float *)least->data : 0.0f,
                  .has_least = least != NULL};
  if (!(s->overlap >= 0.0f && s->overlap <= 1.0f)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "iou_threshold is %g; expected 0 to 1", (double)s->overlap);
  }
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  settings s;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(NonMaxSuppression, boxes), DYNQ_SET_FLOAT));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(NonMaxSuppression, scores), DYNQ_SET_FLOAT));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(NonMaxSuppression, boxes), 3));
  DYNQ_TRY(dynq_op_expect_rank(node, DYNQ_IN(NonMaxSuppression, scores), 3));
  DYNQ_TRY(read_settings(node, &s));
  const size_t *boxes = DYNQ_INPUT(node, NonMaxSuppression, boxes)->dims;
  const size_t *scores = DYNQ_INPUT(node, NonMaxSuppression, scores)->dims;
  const int64_t center = dynq_op_int(node, DYNQ_ATTR(NonMaxSuppression, center_point_box));
  if (boxes[2] != 4 || boxes[0] != scores[0] || boxes[1] != scores[2]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "boxes (%zu, %zu, %zu) and scores (%zu, %zu, %zu); expected (images, boxes, 4) and (images, "
                     "classes, boxes)",
                     boxes[0], boxes[1], boxes[2], scores[0], scores[1], scores[2]);
  }
  if (center != 0 && center != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "center_point_box is %lld; expected 0 or 1", (long long)center);
  }
  const size_t each = s.most < boxes[1] ? s.most : boxes[1];
  const size_t dims[2] = {dynq_size_mul(dynq_size_mul(scores[0], scores[1]), each), OUTPUT_COLUMNS}; /* at the most */
  dynq_op_set_output(node, 0, DYNQ_INT64, 2, dims);
  node->scratch_bytes = dynq_size_mul(boxes[1], sizeof(int64_t));
  return DYNQ_OK;
}

typedef struct box {
  float low[2], high[2];
} box;

static box read_box(const float *p, bool center) {
  box b;
  for (size_t i = 0; i < 2; i++) { /* corners in any order; a centre is (x, y, width, height) */
    const float first = center ? p[i] - p[2 + i] / 2.0f : p[i], second = center ? p[i] + p[2 + i] / 2.0f : p[2 + i];
    b.low[i] = first < second ? first : second;
    b.high[i] = first < second ? second : first;
  }
  return b;
}

static bool overlaps(const box *a, const box *b, float threshold) {
  float shared[2];
  for (size_t i = 0; i < 2; i++) {
    const float low = a->low[i] > b->low[i] ? a->low[i] : b->low[i];
    const float high = a->high[i] < b->high[i] ? a->high[i] : b->high[i];
    if (!(low < high)) {
      return false;
    }
    shared[i] = high - low;
  }
  const float both = shared[0] * shared[1];
  const float of_a = (a->high[0] - a->low[0]) * (a->high[1] - a->low[1]);
  const float of_b = (b->high[0] - b->low[0]) * (b->high[1] - b->low[1]);
  const float either = of_a + of_b - both;
  return of_a > 0.0f && of_b > 0.0f && either > 0.0f && both / either > threshold;
}

static bool is_better(const void *context, int64_t a, int64_t b) {
  const float *scores = context;
  return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

/* Chooses boxes of one class; returns how many rows of three it wrote. */
static size_t choose(const dynq_op_node *node, const settings *s, size_t image, size_t class, int64_t *to) {
  const dynq_op_tensor *boxes = DYNQ_INPUT(node, NonMaxSuppression, boxes);
  const dynq_op_tensor *all_scores = DYNQ_INPUT(node, NonMaxSuppression, scores);
  const bool center = dynq_op_int(node, DYNQ_ATTR(NonMaxSuppression, center_point_box)) != 0;
  const size_t n = boxes->dims[1];
  const float *places = (const float *)boxes->data + image * n * 4;
  const float *scores = (const float *)all_scores->data + (image * all_scores->dims[1] + class) * n;
  int64_t *heap = node->scratch;
  size_t left = 0, chosen = 0;
  for (size_t i = 0; i < n; i++) {
    if (!isnan(scores[i]) && (!s->has_least || scores[i] > s->least)) {
      heap[left++] = (int64_t)i;
    }
  }
  for (size_t i = left / 2; i-- > 0;) {
    dynq_heap_sift(heap, 1, left, i, heap[i], is_better, scores);
  }
  while (left != 0 && chosen < s->most && !dynq_interrupted()) {
    const int64_t best = heap[0];
    left--;
    dynq_heap_sift(heap, 1, left, 0, heap[left], is_better, scores);
    const box candidate = read_box(places + 4 * best, center);
    bool keep = true;
    for (size_t i = 0; i < chosen && keep; i++) {
      const box other = read_box(places + 4 * to[OUTPUT_COLUMNS * i + 2], center);
      keep = !overlaps(&candidate, &other, s->overlap);
    }
    if (keep) {
      to[OUTPUT_COLUMNS * chosen] = (int64_t)image;
      to[OUTPUT_COLUMNS * chosen + 1] = (int64_t)class;
      to[OUTPUT_COLUMNS * chosen + 2] = best;
      chosen++;
    }
  }
  return chosen;
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *scores = DYNQ_INPUT(node, NonMaxSuppression, scores);
  dynq_op_tensor *out = node->outputs[0];
  settings s;
  size_t rows = 0;
  DYNQ_TRY(read_settings(node, &s));
  for (size_t image = 0; image < scores->dims[0] && out->count != 0; image++) {
    for (size_t class = 0; class < scores->dims[1] && !dynq_interrupted(); class++) {
      rows += choose(node, &s, image, class, (int64_t *)out->data + OUTPUT_COLUMNS * rows);
    }
  }
  out->dims[0] = rows;
  return DYNQ_OK;
}

const dynq_op_code dynq_op_NonMaxSuppression = {infer, run};
