/*
 * Pad: elements added before and after along each axis, or taken away where the number is negative.
 */
#include "checks.h"
#include "walk.h"

#include <string.h>

typedef enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } pad_mode;

enum { FAR = INT32_MAX }; /* no pad is larger: sums of sizes and pads stay far from int64's end */

static dynq_status mode_of(const dynq_op_node *node, pad_mode *mode) {
  static const char *const names[] = {"constant", "reflect", "edge", "wrap"};
  const size_t index = dynq_op_choice(node, DYNQ_ATTR(Pad, mode), sizeof names / sizeof names[0], names);
  *mode = (pad_mode)index;
  return index < sizeof names / sizeof names[0]
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "mode is '%.40s'; expected constant, reflect, edge or wrap",
                         dynq_op_string(node, DYNQ_ATTR(Pad, mode)));
}

/* Finds how much is added before and after each axis of input 0. */
static dynq_status find_pads(const dynq_op_node *node, int64_t *before, int64_t *after) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Pad, data);
  int64_t pads[2 * DYNQ_MAX_RANK], axes[DYNQ_MAX_RANK];
  size_t count, axis_count = x->rank, at[DYNQ_MAX_RANK];
  unsigned set;
  DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Pad, pads), 2 * x->rank, &count, pads));
  for (size_t d = 0; d < x->rank; d++) {
    axes[d] = (int64_t)d;
    before[d] = after[d] = 0;
  }
  if (DYNQ_GIVEN(node, Pad, axes) != NULL) {
    DYNQ_TRY(dynq_op_static_values(node, DYNQ_IN(Pad, axes), x->rank, &axis_count, axes));
  }
  if (count != 2 * axis_count) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "pads has %zu elements; expected two for each of %zu axes", count,
                     axis_count);
  }
  DYNQ_TRY(dynq_op_axes(axis_count, axes, x->rank, at, &set));
  for (size_t i = 0; i < axis_count; i++) {
    before[at[i]] = pads[i];
    after[at[i]] = pads[axis_count + i];
  }
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  int64_t before[DYNQ_MAX_RANK], after[DYNQ_MAX_RANK];
  size_t dims[DYNQ_MAX_RANK];
  pad_mode mode;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Pad, data), DYNQ_SET_ANY));
  DYNQ_TRY(mode_of(node, &mode));
  DYNQ_TRY(find_pads(node, before, after));
  const dynq_op_tensor *x = DYNQ_INPUT(node, Pad, data);
  for (size_t d = 0; d < x->rank; d++) {
    if (x->dims[d] > INT64_MAX / 2 || before[d] < -FAR || before[d] > FAR || after[d] < -FAR || after[d] > FAR) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the pads of axis %zu are %lld and %lld; at most %d are supported",
                       d, (long long)before[d], (long long)after[d], (int)FAR);
    }
    const int64_t size = (int64_t)x->dims[d] + before[d] + after[d];
    if (size < 0 || (mode != PAD_CONSTANT && x->dims[d] == 0 && size != 0)) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "axis %zu of size %zu cannot be padded by %lld and %lld", d,
                       x->dims[d], (long long)before[d], (long long)after[d]);
    }
    dims[d] = (size_t)size;
  }
  const dynq_op_tensor *value = DYNQ_GIVEN(node, Pad, constant_value);
  if (value != NULL) {
    DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Pad, constant_value), DYNQ_SET(x->dtype)));
    if (value->count != 1) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "constant_value has %zu elements; expected 1", value->count);
    }
  }
  dynq_op_set_output(node, 0, x->dtype, x->rank, dims);
  return DYNQ_OK;
}

typedef struct pad_job {
  pad_mode mode;
  const dynq_op_tensor *x, *out;
  size_t rank, from[DYNQ_MAX_RANK], to[DYNQ_MAX_RANK]; /* of x and out */
  int64_t before[DYNQ_MAX_RANK];
  ptrdiff_t strides[DYNQ_MAX_RANK]; /* of x */
  const char *value;
  size_t size;
} pad_job;

/* The place in an axis of `size` that place `at`, counted from its first element, shows; -1: the constant. */
static int64_t source_of(pad_mode mode, int64_t at, int64_t size) {
  if (at >= 0 && at < size) {
    return at;
  }
  switch (mode) {
  case PAD_EDGE:
    return at < 0 ? 0 : size - 1;
  case PAD_WRAP:
    at %= size;
    return at < 0 ? at + size : at;
  case PAD_REFLECT: {
    if (at < 0 ? -at < size : at < 2 * size - 1) { /* reflected once, as most are */
      return at < 0 ? -at : 2 * (size - 1) - at;
    }
    const int64_t period = size > 1 ? 2 * (size - 1) : 1;
    at %= period;
    at = at < 0 ? at + period : at;
    return at < size ? at : period - at;
  }
  case PAD_CONSTANT:
    break;
  }
  return -1;
}

static void fill(char *to, size_t n, const char *value, size_t size) {
  for (size_t i = 0; i < n; i++) {
    memcpy(to + i * size, value, size);
  }
}

/* Places [begin, end) of a row, which x itself does not fill. */
static void pad_edge(const pad_job *job, char *to, const char *from, int64_t begin, int64_t end) {
  const size_t last = job->rank - 1, size = job->size;
  for (int64_t i = begin; i < end; i++) {
    const int64_t source = source_of(job->mode, i - job->before[last], (int64_t)job->from[last]);
    const char *element = source < 0 ? job->value : from + (size_t)source * size;
    if (size == sizeof(float)) { /* a size that the compiler knows */
      memcpy(to + (size_t)i * size, element, sizeof(float));
    } else {
      memcpy(to + (size_t)i * size, element, size);
    }
  }
}

/* One row along the last axis; from NULL: all of it is the constant. */
static void pad_row(const pad_job *job, char *to, const char *from) {
  const size_t last = job->rank - 1, size = job->size;
  const int64_t n = (int64_t)job->to[last], before = job->before[last], width = (int64_t)job->from[last];
  if (from == NULL) {
    fill(to, (size_t)n, job->value, size);
    return;
  }
  const int64_t begin = before < 0 ? 0 : before < n ? before : n; /* where x itself begins and ends */
  const int64_t until = before + width < begin ? begin : before + width < n ? before + width : n;
  if (until > begin) {
    memcpy(to + (size_t)begin * size, from + (size_t)(begin - before) * size, (size_t)(until - begin) * size);
  }
  pad_edge(job, to, from, 0, begin);
  pad_edge(job, to, from, until, n);
}

static void pad_rows(const void *arg, size_t begin, size_t end) {
  const pad_job *job = arg;
  const size_t last = job->rank - 1, bytes = job->to[last] * job->size;
  for (size_t row = begin; row < end; row++) {
    const char *from = job->x->data;
    size_t rest = row;
    for (size_t d = last; d-- > 0;) {
      const int64_t at = (int64_t)(rest % job->to[d]) - job->before[d];
      const int64_t source = source_of(job->mode, at, (int64_t)job->from[d]);
      from = source < 0 || from == NULL ? NULL : from + source * job->strides[d];
      rest /= job->to[d];
    }
    pad_row(job, (char *)job->out->data + row * bytes, from);
  }
}

/* Makes one axis of the last two while nothing is added to the last: rows are longer then. Elements that are shown
 * again have to be single ones. */
static void join_axes(pad_job *job, const int64_t *after) {
  while (job->rank > 1) {
    const size_t last = job->rank - 1, n = job->from[last];
    if (job->before[last] != 0 || after[last] != 0 || n > FAR || (job->mode != PAD_CONSTANT && n != 1)) {
      return;
    }
    job->from[last - 1] *= n;
    job->to[last - 1] *= n;
    job->before[last - 1] *= (int64_t)n;
    job->rank--;
  }
}

static dynq_status run(const dynq_op_node *node) {
  static const int64_t zero = 0;
  const dynq_op_tensor *x = DYNQ_INPUT(node, Pad, data), *out = node->outputs[0],
                       *value = DYNQ_GIVEN(node, Pad, constant_value);
  int64_t after[DYNQ_MAX_RANK];
  pad_job job = {.x = x,
                 .out = out,
                 .value = value != NULL ? value->data : (const char *)&zero,
                 .size = dynq_dtype_size(x->dtype)};
  if (out->count == 0) {
    return DYNQ_OK;
  }
  if (x->rank == 0) {
    memcpy(out->data, x->data, job.size);
    return DYNQ_OK;
  }
  DYNQ_TRY(mode_of(node, &job.mode));
  DYNQ_TRY(find_pads(node, job.before, after));
  dynq_strides(x, job.strides);
  job.rank = x->rank;
  memcpy(job.from, x->dims, x->rank * sizeof *job.from);
  memcpy(job.to, out->dims, x->rank * sizeof *job.to);
  join_axes(&job, after);
  dynq_op_parallel(node, out->count / job.to[job.rank - 1], out->count * sizeof(float), pad_rows, &job);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Pad = {infer, run};
