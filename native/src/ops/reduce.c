/*
 * ReduceSum and its kin. What is reduced for one output, over one axis or several, is one row in row-major order, which
 * the reduction of docs/numerics.md takes in.
 */
#include "../base/alloc.h"
#include "../base/interrupt.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "checks.h"
#include "layer_attributes.h"

#include <math.h>
#include <string.h>

enum { TOGETHER = 16 }; /* neighbouring outputs whose rows are gathered together: a cache line */

/* From L1 on, what is left where nothing is reduced is not the input: its square, its logarithm. */
typedef enum reduce_kind { SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP } reduce_kind;

/* Dimensions and how far apart their elements lie. */
typedef struct dimensions {
  size_t rank, count, dims[DYNQ_MAX_RANK], strides[DYNQ_MAX_RANK];
} dimensions;

typedef struct reduction {
  const dynq_op_node *node;
  reduce_kind kind;
  bool copies;     /* nothing is reduced */
  bool contiguous; /* the row of output i is x[i * n ...] */
  bool is_reduced[DYNQ_MAX_RANK];
  dimensions kept, reduced;
  size_t n, parts;
  size_t *offsets; /* of the row's elements, from its first */
  float *rows;     /* TOGETHER of them for each part */
} reduction;

static void add_dimension(dimensions *d, size_t size, size_t stride) {
  d->dims[d->rank] = size;
  d->strides[d->rank++] = stride;
  d->count = dynq_size_mul(d->count, size);
}

static size_t offset_of(const dimensions *d, size_t index) {
  size_t at = 0;
  for (size_t i = d->rank; i-- > 0; index /= d->dims[i]) {
    at += index % d->dims[i] * d->strides[i];
  }
  return at;
}

static dynq_status find_axes(reduction *r) {
  const dynq_op_node *node = r->node;
  const dynq_op_tensor *x = DYNQ_INPUT(node, ReduceSum, data), *axes = DYNQ_GIVEN(node, ReduceSum, axes);
  const bool none = axes == NULL || axes->count == 0;
  const bool noop = none && dynq_op_int(node, DYNQ_ATTR(ReduceSum, noop_with_empty_axes)) != 0;
  r->copies = noop && r->kind <= PROD;
  for (size_t i = 0; i < x->rank; i++) {
    r->is_reduced[i] = none && !noop;
  }
  for (size_t i = 0; !none && i < axes->count; i++) {
    size_t axis;
    DYNQ_TRY(dynq_op_axis(dynq_op_value(axes, i), x->rank, &axis));
    r->is_reduced[axis] = true;
  }
  return DYNQ_OK;
}

static dynq_status find_reduction(const dynq_op_node *node, reduce_kind kind, reduction *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ReduceSum, data);
  *r = (reduction){.node = node, .kind = kind, .kept = {.count = 1}, .reduced = {.count = 1}};
  DYNQ_TRY(find_axes(r));
  size_t strides[DYNQ_MAX_RANK], stride = 1;
  bool behind = true; /* all kept dimensions come before those that are reduced */
  for (size_t i = x->rank; i-- > 0; stride = dynq_size_mul(stride, x->dims[i])) {
    strides[i] = stride;
  }
  for (size_t i = 0; i < x->rank; i++) {
    if (x->dims[i] != 1) {
      behind &= r->is_reduced[i] || r->reduced.rank == 0;
      add_dimension(r->is_reduced[i] ? &r->reduced : &r->kept, x->dims[i], strides[i]);
    }
  }
  r->n = r->reduced.count;
  r->contiguous = behind;
  r->parts = dynq_work_parts(node->thread_count, r->kept.count, x->count / 2);
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node, reduce_kind kind) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ReduceSum, data), *axes = DYNQ_GIVEN(node, ReduceSum, axes);
  const bool has_integers = kind == SUM || kind == MAX || kind == MIN || kind == PROD;
  size_t dims[DYNQ_MAX_RANK], rank = 0;
  reduction r;
  const bool is_wide = x->dtype == DYNQ_INT64 || x->dtype == DYNQ_INT32, orders = kind == MAX || kind == MIN;
  if (x->dtype != DYNQ_FLOAT32 && !(is_wide && has_integers) && !(!is_wide && orders)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "data is %s; expected float32%s%s", dynq_dtype_name(x->dtype),
                     has_integers ? ", int64, int32" : "", orders ? ", uint8, int8 or bool" : "");
  }
  if (axes != NULL && (axes->dtype != DYNQ_INT64 || axes->rank > 1)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axes is %s of %zu dimensions; expected int64 of 1",
                     dynq_dtype_name(axes->dtype), axes->rank);
  }
  DYNQ_TRY(find_reduction(node, kind, &r));
  for (size_t i = 0; i < x->rank; i++) {
    if (!r.is_reduced[i] || dynq_op_int(node, DYNQ_ATTR(ReduceSum, keepdims)) != 0) {
      dims[rank++] = r.is_reduced[i] ? 1 : x->dims[i];
    }
  }
  dynq_op_set_output(node, 0, x->dtype, rank, dims);
  if (!r.copies && (!r.contiguous || x->dtype != DYNQ_FLOAT32)) {
    const size_t rows = dynq_size_mul(dynq_size_mul(r.parts, TOGETHER), dynq_size_mul(r.n, sizeof(float)));
    node->scratch_bytes = dynq_size_add(dynq_size_mul(r.n, sizeof(size_t)), x->dtype == DYNQ_FLOAT32 ? rows : 0);
  }
  return DYNQ_OK;
}

/* ---- float32 ---- */

static float reduce_row(const reduction *r, const float *x) {
  const dynq_vector_kernels *kernels = &r->node->kernels->vector;
  static const dynq_reduction reductions[] = {
      [SUM] = DYNQ_REDUCTION_SUM,       [MEAN] = DYNQ_REDUCTION_SUM,
      [MAX] = DYNQ_REDUCTION_MAX,       [MIN] = DYNQ_REDUCTION_MIN,
      [PROD] = DYNQ_REDUCTION_PROD,     [L1] = DYNQ_REDUCTION_SUM_ABS,
      [L2] = DYNQ_REDUCTION_SUM_SQUARE, [SUM_SQUARE] = DYNQ_REDUCTION_SUM_SQUARE,
      [LOG_SUM] = DYNQ_REDUCTION_SUM};
  if (r->kind == LOG_SUM_EXP) {
    return kernels->log_sum_exp(r->n, x);
  }
  float y = kernels->reduce(reductions[r->kind], r->n, x);
  if (r->kind == MEAN) {
    y = y / (float)r->n;
  } else if (r->kind == L2) {
    y = sqrtf(y);
  } else if (r->kind == LOG_SUM) {
    kernels->unary(DYNQ_UNARY_Log, 1, 0.0f, 0.0f, &y, &y);
  }
  return y == y ? y : NAN;
}

/* The rows of `count` neighbours, the first of which begins at x. */
static void gather(const reduction *r, const float *x, size_t count, float *rows) {
  for (size_t i = 0; i < r->n; i++) {
    const float *from = x + r->offsets[i];
    for (size_t j = 0; j < count; j++) {
      rows[j * r->n + i] = from[j];
    }
  }
}

/* Returns how many outputs from `index` on, up to `most`, have their first elements beside each other. */
static size_t neighbours(const reduction *r, size_t index, size_t most) {
  const dimensions *kept = &r->kept;
  if (kept->rank == 0 || kept->strides[kept->rank - 1] != 1) {
    return 1;
  }
  const size_t left = kept->dims[kept->rank - 1] - index % kept->dims[kept->rank - 1];
  most = most < TOGETHER ? most : TOGETHER;
  return left < most ? left : most;
}

static void task(void *arg, size_t part) {
  const reduction *r = arg;
  const float *x = DYNQ_INPUT(r->node, ReduceSum, data)->data;
  float *y = r->node->outputs[0]->data;
  size_t i, end;
  dynq_share(r->kept.count, r->parts, part, &i, &end);
  if (r->contiguous) {
    while (i < end && !dynq_interrupted()) {
      const size_t step = dynq_interrupt_step(end - i, (end - i) * r->n);
      for (const size_t stop = i + step; i < stop; i++) {
        y[i] = reduce_row(r, x + i * r->n);
      }
    }
    return;
  }
  while (i < end && !dynq_interrupted()) {
    float *rows = r->rows + part * TOGETHER * r->n;
    const size_t count = neighbours(r, i, end - i);
    gather(r, x + offset_of(&r->kept, i), count, rows);
    for (size_t j = 0; j < count; j++) {
      y[i++] = reduce_row(r, rows + j * r->n);
    }
  }
}

/* ---- Integers ---- */

static int64_t combine(reduce_kind kind, int64_t a, int64_t b) {
  switch (kind) {
  case MAX:
    return b > a ? b : a;
  case MIN:
    return b < a ? b : a;
  case PROD:
    return (int64_t)((uint64_t)a * (uint64_t)b);
  default:
    return (int64_t)((uint64_t)a + (uint64_t)b);
  }
}

static int64_t neutral_of(reduce_kind kind, dynq_dtype dtype) {
  static const int64_t limits[][2] = {
      [DYNQ_INT64] = {INT64_MIN, INT64_MAX}, [DYNQ_INT32] = {INT32_MIN, INT32_MAX}, [DYNQ_BOOL] = {0, 1},
      [DYNQ_UINT8] = {0, UINT8_MAX},         [DYNQ_INT8] = {INT8_MIN, INT8_MAX},
  };
  return kind == MAX ? limits[dtype][0] : kind == MIN ? limits[dtype][1] : kind == PROD ? 1 : 0;
}

static void reduce_integers(const reduction *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(r->node, ReduceSum, data), *y = r->node->outputs[0];
  for (size_t i = 0; i < r->kept.count && !dynq_interrupted(); i++) {
    const size_t at = offset_of(&r->kept, i);
    int64_t value = neutral_of(r->kind, x->dtype);
    for (size_t j = 0; j < r->n; j++) {
      value = combine(r->kind, value, dynq_op_integer(x, at + r->offsets[j]));
    }
    dynq_op_set_integer(y, i, value);
  }
}

static dynq_status run(const dynq_op_node *node, reduce_kind kind) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, ReduceSum, data);
  reduction r;
  DYNQ_TRY(find_reduction(node, kind, &r));
  if (r.copies) {
    if (x->count != 0) {
      memcpy(node->outputs[0]->data, x->data, x->count * dynq_dtype_size(x->dtype));
    }
    return DYNQ_OK;
  }
  if (node->scratch_bytes != 0) {
    r.offsets = node->scratch;
    r.rows = (float *)(void *)(r.offsets + r.n);
    for (size_t i = 0; i < r.n; i++) {
      r.offsets[i] = offset_of(&r.reduced, i);
    }
  }
  if (r.kept.count == 0) {
    return DYNQ_OK;
  }
  if (x->dtype != DYNQ_FLOAT32) {
    reduce_integers(&r);
  } else {
    dynq_parallel(node->threads, r.parts, task, &r, r.parts);
  }
  return DYNQ_OK;
}

#define REDUCE_OP(op_name, kind)                                                                                       \
  static dynq_status infer_##op_name(dynq_op_node *node) { return infer(node, kind); }                                 \
  static dynq_status run_##op_name(const dynq_op_node *node) { return run(node, kind); }                               \
  const dynq_op_code dynq_op_##op_name = {infer_##op_name, run_##op_name};                                             \
  DYNQ_SAME_IN(ReduceSum, data, op_name, data);                                                                        \
  DYNQ_SAME_IN(ReduceSum, axes, op_name, axes);                                                                        \
  DYNQ_SAME_ATTR(ReduceSum, op_name, keepdims);                                                                        \
  DYNQ_SAME_ATTR(ReduceSum, op_name, noop_with_empty_axes);

REDUCE_OP(ReduceSum, SUM)
REDUCE_OP(ReduceMean, MEAN)
REDUCE_OP(ReduceMax, MAX)
REDUCE_OP(ReduceMin, MIN)
REDUCE_OP(ReduceProd, PROD)
REDUCE_OP(ReduceL1, L1)
REDUCE_OP(ReduceL2, L2)
REDUCE_OP(ReduceSumSquare, SUM_SQUARE)
REDUCE_OP(ReduceLogSum, LOG_SUM)
REDUCE_OP(ReduceLogSumExp, LOG_SUM_EXP)
