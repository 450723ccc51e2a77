/*
 * Walking strided arrays in step.
 */
#include "walk.h"

#include "../base/interrupt.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "../quant/range.h"

#include <string.h>

enum { BYTES_PER_NANOSECOND = 8 }; /* at most; what computes takes longer */

void dynq_strides(const dynq_op_tensor *t, ptrdiff_t *strides) {
  size_t stride = dynq_dtype_size(t->dtype); /* wraps, and is not used, where another axis is 0 */
  for (size_t d = t->rank; d-- > 0;) {
    strides[d] = (ptrdiff_t)stride;
    stride *= t->dims[d];
  }
}

void dynq_walk_begin(dynq_walk *walk, const dynq_op_tensor *out) {
  ptrdiff_t strides[DYNQ_MAX_RANK];
  dynq_strides(out, strides);
  dynq_walk_begin_strided(walk, out->rank, out->dims, out->data, strides);
}

void dynq_walk_begin_strided(dynq_walk *walk, size_t rank, const size_t *dims, void *base, const ptrdiff_t *strides) {
  *walk = (dynq_walk){.rank = rank};
  memcpy(walk->dims, dims, rank * sizeof *dims);
  dynq_walk_add_strided(walk, base, strides);
}

void dynq_walk_add(dynq_walk *walk, const dynq_op_tensor *t) {
  ptrdiff_t own[DYNQ_MAX_RANK], strides[DYNQ_MAX_RANK] = {0};
  dynq_strides(t, own);
  const size_t missing = walk->rank - t->rank;
  for (size_t d = 0; d < t->rank; d++) {
    strides[missing + d] = t->dims[d] == 1 ? 0 : own[d];
  }
  dynq_walk_add_strided(walk, t->data, strides);
}

void dynq_walk_add_strided(dynq_walk *walk, const void *base, const ptrdiff_t *strides) {
  walk->base[walk->operands] = (char *)base;
  memcpy(walk->strides[walk->operands], strides, walk->rank * sizeof *strides);
  walk->operands++;
}

/* Axis d is the outer one of a pair that every operand steps through as one axis. */
static bool joins(const dynq_walk *w, size_t d, size_t next) {
  for (size_t o = 0; o < w->operands; o++) {
    if (w->strides[o][d] != w->strides[o][next] * (ptrdiff_t)w->dims[next]) {
      return false;
    }
  }
  return true;
}

void dynq_walk_collapse(dynq_walk *w) {
  size_t kept = 0; /* axes [0, kept) are finished, but for the last one, which more may join */
  for (size_t d = 0; d < w->rank; d++) {
    if (w->dims[d] == 1) {
      continue;
    }
    const bool join = kept != 0 && joins(w, kept - 1, d);
    const size_t to = join ? kept - 1 : kept;
    w->dims[to] = join ? w->dims[to] * w->dims[d] : w->dims[d];
    for (size_t o = 0; o < w->operands; o++) {
      w->strides[o][to] = w->strides[o][d];
    }
    kept = to + 1;
  }
  if (kept == 0) {
    w->dims[0] = 1;
    for (size_t o = 0; o < w->operands; o++) {
      w->strides[o][0] = 0;
    }
    kept = 1;
  }
  w->rank = kept;
}

/* Elements [begin, end) of the walk. */
static void walk_range(const void *arg, size_t begin, size_t end) {
  const dynq_walk *w = arg;
  const size_t last = w->rank - 1;
  size_t at[DYNQ_WALK_RANK], rest = begin;
  ptrdiff_t offset[DYNQ_WALK_OPERANDS] = {0}, stride[DYNQ_WALK_OPERANDS] = {0};
  char *p[DYNQ_WALK_OPERANDS] = {NULL};
  for (size_t d = w->rank; d-- > 0;) {
    at[d] = rest % w->dims[d];
    rest /= w->dims[d];
  }
  for (size_t o = 0; o < w->operands; o++) {
    stride[o] = w->strides[o][last];
    for (size_t d = 0; d < w->rank; d++) {
      offset[o] += (ptrdiff_t)at[d] * w->strides[o][d];
    }
  }
  while (begin < end) {
    const size_t left = w->dims[last] - at[last], n = left < end - begin ? left : end - begin;
    for (size_t o = 0; o < w->operands; o++) {
      p[o] = w->base[o] + offset[o];
      offset[o] -= (ptrdiff_t)at[last] * stride[o];
    }
    w->inner(w->context, n, p, stride);
    begin += n;
    at[last] = 0;
    for (size_t d = last; d-- > 0;) {
      const bool wraps = ++at[d] == w->dims[d];
      for (size_t o = 0; o < w->operands; o++) {
        offset[o] += w->strides[o][d] - (wraps ? (ptrdiff_t)w->dims[d] * w->strides[o][d] : 0);
      }
      if (!wraps) {
        break;
      }
      at[d] = 0;
    }
  }
}

/* The number of elements, collapsed where there are any. */
static size_t walk_prepare(dynq_walk *walk) {
  size_t count = 1;
  for (size_t d = 0; d < walk->rank; d++) {
    count *= walk->dims[d];
  }
  if (count != 0) {
    dynq_walk_collapse(walk);
  }
  return count;
}

void dynq_walk_run(const dynq_op_node *node, dynq_walk *walk) {
  const size_t count = walk_prepare(walk);
  dynq_op_parallel(node, count, count * sizeof(float), walk_range, walk);
}

void dynq_walk_run_in_order(dynq_walk *walk) {
  const size_t count = walk_prepare(walk), step = dynq_interrupt_step(count, count);
  for (size_t i = 0; i < count && !dynq_interrupted(); i += step) {
    walk_range(walk, i, count - i < step ? count : i + step);
  }
}

typedef struct part_job {
  size_t total, parts, step;
  dynq_op_body *body;
  const void *arg;
} part_job;

static void run_part(void *arg, size_t index) {
  const part_job *j = arg;
  size_t begin, end;
  dynq_share(j->total, j->parts, index, &begin, &end);
  while (begin < end) {
    const size_t stop = end - begin < j->step ? end : begin + j->step;
    j->body(j->arg, begin, stop);
    begin = stop;
    if (begin < end && dynq_interrupted()) {
      break;
    }
  }
}

static void run_parts(const dynq_op_node *node, part_job job) {
  if (job.total != 0) {
    dynq_parallel(node->threads, job.parts, run_part, &job, job.parts);
  }
}

void dynq_op_parallel(const dynq_op_node *node, size_t total, size_t bytes, dynq_op_body *body, const void *arg) {
  const size_t parts = dynq_pass_workers(node->thread_count, total, bytes);
  run_parts(node, (part_job){total, parts, dynq_interrupt_step(total, bytes / BYTES_PER_NANOSECOND), body, arg});
}

void dynq_op_parallel_work(const dynq_op_node *node, size_t total, size_t nanoseconds, dynq_op_body *body,
                           const void *arg) {
  const size_t parts = dynq_work_parts(node->thread_count, total, nanoseconds);
  run_parts(node, (part_job){total, parts, dynq_interrupt_step(total, nanoseconds), body, arg});
}

/* ---- Copies ---- */

#define COPY(name, SIZE)                                                                                               \
  static void name(size_t n, char *to, ptrdiff_t to_stride, const char *from, ptrdiff_t from_stride) {                 \
    for (size_t i = 0; i < n; i++) {                                                                                   \
      memcpy(to + (ptrdiff_t)i * to_stride, from + (ptrdiff_t)i * from_stride, SIZE);                                  \
    }                                                                                                                  \
  }
COPY(copy_1, 1)
COPY(copy_4, 4)
COPY(copy_8, 8)
#undef COPY

void dynq_walk_copy(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {
  const size_t size = *(const size_t *)context;
  if (stride[0] == (ptrdiff_t)size && stride[1] == (ptrdiff_t)size) {
    memcpy(at[0], at[1], n * size);
  } else if (size == 4) {
    copy_4(n, at[0], stride[0], at[1], stride[1]);
  } else if (size == 8) {
    copy_8(n, at[0], stride[0], at[1], stride[1]);
  } else {
    copy_1(n, at[0], stride[0], at[1], stride[1]);
  }
}

void dynq_walk_copy_input(const dynq_op_node *node) {
  const size_t size = dynq_dtype_size(node->inputs[0]->dtype);
  dynq_walk walk;
  dynq_walk_begin(&walk, node->outputs[0]);
  dynq_walk_add(&walk, node->inputs[0]);
  walk.inner = dynq_walk_copy;
  walk.context = &size;
  dynq_walk_run(node, &walk);
}

/* Runs of so many bytes, which the context points to: shorter than what a call of memcpy takes. */
#define COPY_RUNS(SIZE)                                                                                                \
  case SIZE:                                                                                                           \
    for (size_t i = 0; i < n; i++) {                                                                                   \
      memcpy(at[0] + (ptrdiff_t)i * stride[0], at[1] + (ptrdiff_t)i * stride[1], SIZE);                                \
    }                                                                                                                  \
    break;
static void copy_runs(const void *context, size_t n, char *const *at, const ptrdiff_t *stride) {
  const size_t size = *(const size_t *)context;
  switch (size) {
    COPY_RUNS(8)
    COPY_RUNS(12)
    COPY_RUNS(16)
    COPY_RUNS(24)
    COPY_RUNS(32)
  default:
    for (size_t i = 0; i < n; i++) {
      memcpy(at[0] + (ptrdiff_t)i * stride[0], at[1] + (ptrdiff_t)i * stride[1], size);
    }
  }
}
#undef COPY_RUNS

void dynq_copy_box(const dynq_op_node *node, size_t size, size_t rank, const size_t *dims, void *to,
                   const ptrdiff_t *to_strides, const void *from, const ptrdiff_t *from_strides) {
  enum { SHORT = 64 }; /* bytes */
  dynq_walk walk;
  dynq_walk_begin_strided(&walk, rank, dims, to, to_strides);
  dynq_walk_add_strided(&walk, from, from_strides);
  walk.inner = dynq_walk_copy;
  walk.context = &size;
  size_t count = walk_prepare(&walk), run = size;
  const size_t last = walk.rank - 1;
  if (count != 0 && walk.rank > 1 && walk.strides[0][last] == (ptrdiff_t)size &&
      walk.strides[1][last] == (ptrdiff_t)size && walk.dims[last] * size <= SHORT) {
    run *= walk.dims[last];
    count /= walk.dims[last];
    walk.rank--;
    walk.inner = copy_runs;
    walk.context = &run;
  }
  dynq_op_parallel(node, count, count * run, walk_range, &walk);
}
