/*
 * TopK: the k largest or smallest values along an axis and where they are, the best first. Of equal values the one that
 * comes first is the better; a NaN counts as the largest of all.
 *
 * A heap of k places, its worst at the root, takes the values one after another and is then sorted in place.
 */
#include "checks.h"
#include "heap.h"
#include "walk.h"

#include <string.h>

typedef struct topk_job {
  const dynq_op_tensor *x;
  void *values;    /* or NULL */
  int64_t *places; /* the output, or scratch of the same shape */
  size_t n, k, inner;
  bool largest;
} topk_job;

/* Returns whether a comes before b in ascending order; NaN is last. */
static bool is_less(const dynq_op_tensor *x, size_t a, size_t b) {
  switch (x->dtype) {
  case DYNQ_FLOAT32: {
    const float p = ((const float *)x->data)[a], q = ((const float *)x->data)[b];
    return p < q || (q != q && p == p);
  }
  case DYNQ_INT64:
    return ((const int64_t *)x->data)[a] < ((const int64_t *)x->data)[b];
  case DYNQ_INT32:
    return ((const int32_t *)x->data)[a] < ((const int32_t *)x->data)[b];
  case DYNQ_UINT8:
    return ((const uint8_t *)x->data)[a] < ((const uint8_t *)x->data)[b];
  case DYNQ_INT8:
  case DYNQ_BOOL:
    break;
  }
  return ((const int8_t *)x->data)[a] < ((const int8_t *)x->data)[b];
}

/* One line of x, from element `base` on, and its heap of places, `inner` elements apart. */
typedef struct line {
  const topk_job *job;
  size_t base;
  int64_t *heap;
} line;

static bool is_worse(const void *context, int64_t a, int64_t b) {
  const line *l = context;
  const size_t inner = l->job->inner, at_a = l->base + (size_t)a * inner, at_b = l->base + (size_t)b * inner;
  if (is_less(l->job->x, at_a, at_b)) {
    return l->job->largest;
  }
  if (is_less(l->job->x, at_b, at_a)) {
    return !l->job->largest;
  }
  return a > b;
}

/* The worst place is at the root. */
static void sift(const line *l, size_t count, size_t i, int64_t place) {
  dynq_heap_sift(l->heap, l->job->inner, count, i, place, is_worse, l);
}

static void select_line(const line *l) {
  const size_t k = l->job->k, inner = l->job->inner;
  for (size_t i = 0; i < k; i++) {
    l->heap[i * inner] = (int64_t)i;
  }
  for (size_t i = k / 2; i-- > 0;) {
    sift(l, k, i, l->heap[i * inner]);
  }
  for (size_t i = k; i < l->job->n; i++) {
    if (is_worse(l, l->heap[0], (int64_t)i)) {
      sift(l, k, 0, (int64_t)i);
    }
  }
  for (size_t left = k; left-- > 1;) { /* the worst of what is left goes to its end */
    const int64_t place = l->heap[left * inner];
    l->heap[left * inner] = l->heap[0];
    sift(l, left, 0, place);
  }
}

static void select_lines(const void *arg, size_t begin, size_t end) {
  const topk_job *job = arg;
  const size_t size = dynq_dtype_size(job->x->dtype);
  for (size_t i = begin; i < end; i++) {
    const size_t outer = i / job->inner, column = i % job->inner, to = outer * job->k * job->inner + column;
    const line l = {job, outer * job->n * job->inner + column, job->places + to};
    select_line(&l);
    for (size_t j = 0; j < job->k && job->values != NULL; j++) {
      const size_t from = l.base + (size_t)l.heap[j * job->inner] * job->inner;
      memcpy((char *)job->values + (to + j * job->inner) * size, (const char *)job->x->data + from * size, size);
    }
  }
}

static dynq_status infer(dynq_op_node *node) {
  size_t axis, dims[DYNQ_MAX_RANK];
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(TopK, X), DYNQ_SET_NUMERIC));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(TopK, K), DYNQ_SET_INDEX));
  const dynq_op_tensor *x = DYNQ_INPUT(node, TopK, X);
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(TopK, axis), x->rank, &axis));
  const dynq_op_tensor *number = DYNQ_INPUT(node, TopK, K);
  const int64_t k = number->count == 1 ? dynq_op_value(number, 0) : -1;
  if (k < 0 || (uint64_t)k > x->dims[axis]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "k is %lld; expected one number, at most the %zu elements of axis %zu", (long long)k,
                     x->dims[axis], axis);
  }
  memcpy(dims, x->dims, sizeof dims);
  dims[axis] = (size_t)k;
  dynq_op_set_output(node, DYNQ_OUT(TopK, Values), x->dtype, x->rank, dims);
  dynq_op_set_output(node, DYNQ_OUT(TopK, Indices), DYNQ_INT64, x->rank, dims);
  if (DYNQ_OUTPUT(node, TopK, Indices) == NULL) {
    dynq_op_tensor places = *x;
    places.dims[axis] = (size_t)k;
    node->scratch_bytes = dynq_size_mul(dynq_op_product(&places, 0, x->rank), sizeof(int64_t));
  }
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, TopK, X), *values = DYNQ_OUTPUT(node, TopK, Values);
  const dynq_op_tensor *places = DYNQ_OUTPUT(node, TopK, Indices);
  const dynq_op_tensor *out = values != NULL ? values : places;
  size_t axis;
  DYNQ_TRY(dynq_op_axis_attribute(node, DYNQ_ATTR(TopK, axis), x->rank, &axis));
  if (out->count == 0) {
    return DYNQ_OK;
  }
  const topk_job job = {x,
                        values != NULL ? values->data : NULL,
                        places != NULL ? places->data : node->scratch,
                        x->dims[axis],
                        out->dims[axis],
                        dynq_op_product(x, axis + 1, x->rank),
                        dynq_op_int(node, DYNQ_ATTR(TopK, largest)) != 0};
  dynq_op_parallel(node, x->count / x->dims[axis], x->count * sizeof(int64_t), select_lines, &job);
  return DYNQ_OK;
}

/* If `sorted` is 0 any order will do, and this is one. */
const dynq_op_code dynq_op_TopK = {infer, run};
