/*
 * dynq.CachedAttention: attention of new rows to all positions of their sequences, which the session keeps.
 *
 * k and v are appended first: keys in panels of 16 positions, values in rows, as the float multiply reads them. Then a
 * task is a block of queries that share a head of keys. Each query has a softmax over its own keys, so that its bits do
 * not depend on what is computed beside it.
 */
#include "../base/alloc.h"
#include "../base/interrupt.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "checks.h"
#include "heads.h"
#include "layer_attributes.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
  BLOCK_ROWS = 24, /* queries at a time */
  MACS_PER_NANOSECOND = 8,
  APPEND_ALONE = 1 << 15 /* floats that one thread appends as fast */
};

typedef struct attention {
  const dynq_op_node *node;
  size_t batch, heads, shared, group; /* shared: heads of keys; group: heads of q for each of them */
  size_t s, t, d, e;                  /* rows of q, new ones of k; sizes of a key and of a value */
  dynq_heads q, k, v;
  float scale, softcap; /* softcap 0: none */
  bool of_source, causal;
  size_t window; /* 0: none */
  size_t block, blocks, tasks, workers;
  size_t q_bytes, each; /* of one worker's scratch */
  size_t mask_steps[4];
  _Atomic size_t next;
} attention;

/* ---- Shapes ---- */

static dynq_status find_operand(const dynq_op_node *node, size_t i, size_t heads, dynq_heads *o) {
  const dynq_op_tensor *t = node->inputs[i];
  DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET_FLOAT));
  if ((t->rank == 4 && t->dims[1] == heads) || (t->rank == 3 && t->dims[2] % heads == 0)) {
    *o = dynq_heads_of(t, heads);
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu dimensions; expected rows of %zu heads, or these heads",
                   node->op->inputs[i].name, t->rank, heads);
}

static dynq_status check_sizes(const attention *a) {
  const dynq_op_tensor *keys = DYNQ_INPUT(a->node, dynq_CachedAttention, keys),
                       *values = DYNQ_INPUT(a->node, dynq_CachedAttention, values);
  const size_t batch = a->node->inputs[1]->dims[0];
  if (!keys->is_state || !values->is_state) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "keys and values are no states");
  }
  if (batch != a->batch || a->node->inputs[2]->dims[0] != a->batch || (a->k.rows != a->s && !a->of_source) ||
      a->v.rows != a->k.rows || a->k.size != a->d || keys->dims[2] != a->d || values->dims[2] != a->e ||
      values->dims[0] != a->shared) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "q is %zu x %zu x %zu x %zu, k %zu x %zu x %zu x %zu, v %zu x %zu x %zu x %zu (sequences, rows, "
                     "heads, sizes), the states %zu x %zu and %zu x %zu (heads, sizes): they do not fit",
                     a->batch, a->s, a->heads, a->d, batch, a->k.rows, a->k.heads, a->k.size,
                     a->node->inputs[2]->dims[0], a->v.rows, a->v.heads, a->v.size, keys->dims[0], keys->dims[2],
                     values->dims[0], values->dims[2]);
  }
  return DYNQ_OK;
}

static dynq_status find_mask(attention *a) {
  const dynq_op_tensor *mask = DYNQ_GIVEN(a->node, dynq_CachedAttention, mask);
  const size_t sizes[4] = {a->batch, a->heads, a->s, SIZE_MAX};
  if (mask == NULL || dynq_heads_mask(mask, sizes, a->mask_steps)) {
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                   "mask is %s of %zu dimensions; expected float32 or bool that broadcasts to %zu x %zu x %zu x the "
                   "positions",
                   dynq_dtype_name(mask->dtype), mask->rank, sizes[0], sizes[1], sizes[2]);
}

static dynq_status check_per_head(const attention *a, size_t i) {
  const dynq_op_tensor *t = dynq_op_input(a->node, i);
  if (t == NULL || (t->dtype == DYNQ_FLOAT32 && t->count == a->heads)) {
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is %s of %zu elements; expected float32, one for each of %zu heads",
                   a->node->op->inputs[i].name, dynq_dtype_name(t->dtype), t->count, a->heads);
}

/* Checks the table of what a score gets by the distance back to its position. */
static dynq_status check_distances(const attention *a) {
  const dynq_op_tensor *t = DYNQ_GIVEN(a->node, dynq_CachedAttention, distances);
  const size_t most = DYNQ_INPUT(a->node, dynq_CachedAttention, keys)->dims[1];
  if (t == NULL ||
      (a->causal && t->dtype == DYNQ_FLOAT32 && t->rank == 2 && t->dims[0] == a->heads && t->dims[1] >= most)) {
    return DYNQ_OK;
  }
  return dynq_fail(
      DYNQ_ERROR_INVALID_ARGUMENT,
      "distances is %s of %zu dimensions, causal is %d; expected float32 of %zu heads and %zu positions or "
      "more, and 1",
      dynq_dtype_name(t->dtype), t->rank, (int)a->causal, a->heads, most);
}

static dynq_status find_attributes(attention *a) {
  if (a->of_source) { /* every row looks at the whole source */
    return dynq_heads_scale(a->node, DYNQ_ATTR(dynq_CrossAttention, scale), DYNQ_ATTR(dynq_CrossAttention, softcap),
                            a->d, &a->scale, &a->softcap);
  }
  const int64_t causal = dynq_op_int(a->node, DYNQ_ATTR(dynq_CachedAttention, causal)),
                window = dynq_op_int(a->node, DYNQ_ATTR(dynq_CachedAttention, window));
  DYNQ_TRY(dynq_heads_scale(a->node, DYNQ_ATTR(dynq_CachedAttention, scale), DYNQ_ATTR(dynq_CachedAttention, softcap),
                            a->d, &a->scale, &a->softcap));
  if ((causal != 0 && causal != 1) || window < 0 || (uint64_t)window > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "causal is %lld and window %lld; expected 0 or 1, and 0 or more",
                     (long long)causal, (long long)window);
  }
  a->causal = causal == 1;
  a->window = (size_t)window;
  return check_distances(a);
}

/* Rows that share a head of keys are cut into blocks: smaller ones where there are too few for the threads. */
static void find_split(attention *a) {
  const size_t threads = a->node->thread_count, rows = dynq_size_mul(a->s, a->group);
  const size_t heads = dynq_size_mul(a->batch, a->shared);
  a->block = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
  while (a->block > 1 && dynq_size_mul(heads, (rows + a->block - 1) / a->block) < threads) {
    a->block = (a->block + 1) / 2;
  }
  a->blocks = a->block != 0 ? (rows + a->block - 1) / a->block : 0;
  a->tasks = dynq_size_mul(heads, a->blocks);
  a->workers = threads < a->tasks ? threads : a->tasks;
  a->q_bytes = dynq_size_mul(dynq_size_mul(a->block, a->d), sizeof(float));
  a->q_bytes = dynq_size_add(a->q_bytes, 63) / 64 * 64;
  const size_t y_bytes = dynq_size_mul(dynq_size_mul(a->block, a->e), sizeof(float));
  a->each = dynq_size_add(a->q_bytes, dynq_size_add(y_bytes, 63) / 64 * 64);
}

static dynq_status find_attention(const dynq_op_node *node, attention *a) {
  const dynq_op_tensor *q = DYNQ_INPUT(node, dynq_CachedAttention, q),
                       *keys = DYNQ_INPUT(node, dynq_CachedAttention, keys);
  const int64_t heads = dynq_op_int(node, DYNQ_ATTR(dynq_CachedAttention, heads));
  *a = (attention){.node = node, .batch = q->dims[0], .shared = keys->dims[0]};
  a->of_source = (node->op->flags & DYNQ_OP_SOURCE) != 0;
  if (heads <= 0 || keys->rank != 3 || a->shared == 0 || (uint64_t)heads % a->shared != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "heads is %lld, the keys have %zu: expected a whole number of heads of q for each of these",
                     (long long)heads, a->shared);
  }
  a->heads = (size_t)heads;
  a->group = a->heads / a->shared;
  DYNQ_TRY(find_operand(node, DYNQ_IN(dynq_CachedAttention, q), a->heads, &a->q));
  DYNQ_TRY(find_operand(node, DYNQ_IN(dynq_CachedAttention, k), a->shared, &a->k));
  DYNQ_TRY(find_operand(node, DYNQ_IN(dynq_CachedAttention, v), a->shared, &a->v));
  a->s = a->q.rows;
  a->t = a->k.rows;
  a->d = a->q.size;
  a->e = a->v.size;
  DYNQ_TRY(check_sizes(a));
  DYNQ_TRY(find_attributes(a));
  DYNQ_TRY(find_mask(a));
  DYNQ_TRY(check_per_head(a, DYNQ_IN(dynq_CachedAttention, slopes)));
  DYNQ_TRY(check_per_head(a, DYNQ_IN(dynq_CachedAttention, sinks)));
  find_split(a);
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  attention a;
  DYNQ_TRY(find_attention(node, &a));
  const dynq_op_tensor *lengths = DYNQ_GIVEN(node, dynq_CachedAttention, lengths);
  const size_t dims[3] = {a.batch, a.s, dynq_size_mul(a.heads, a.e)};
  if (a.of_source && a.t == 0) { /* it has been brought before */
    lengths = NULL;
  } else {
    DYNQ_TRY(dynq_op_check_lengths(node, DYNQ_IN(dynq_CachedAttention, lengths), a.batch));
  }
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, 3, dims);
  node->scratch_bytes = dynq_size_mul(a.workers, a.each);
  /* a row of scores for each query of a block, one that holds the mask, and the sinks behind the last position */
  node->append = (dynq_op_append){a.batch, a.t, lengths, dynq_size_mul(a.workers, a.block + 2)};
  return DYNQ_OK;
}

/* ---- Appending ---- */

/* The new rows of one head of one sequence. A panel is cleared when it is begun: nothing else writes what lies behind. */
static void append_task(void *arg, size_t index) {
  const attention *a = arg;
  const dynq_sequences *sequences = a->node->sequences;
  const size_t b = index / a->shared, h = index % a->shared, first = sequences->lengths[b];
  float *keys = (float *)DYNQ_INPUT(a->node, dynq_CachedAttention, keys)->data + index * sequences->capacity * a->d;
  float *values = (float *)DYNQ_INPUT(a->node, dynq_CachedAttention, values)->data + index * sequences->capacity * a->e;
  for (size_t i = 0; i < sequences->appended[b]; i++) {
    const size_t at = first + i;
    const float *k = a->k.data + b * a->k.of_batch + h * a->k.of_head + i * a->k.of_row;
    const float *v = a->v.data + b * a->v.of_batch + h * a->v.of_head + i * a->v.of_row;
    float *panel = keys + at / DYNQ_PANEL * DYNQ_PANEL * a->d;
    if (at % DYNQ_PANEL == 0) {
      memset(panel, 0, DYNQ_PANEL * a->d * sizeof *panel);
      memset(values + at * a->e, 0, DYNQ_PANEL * a->e * sizeof *values);
    }
    for (size_t j = 0; j < a->d; j++) {
      panel[j * DYNQ_PANEL + at % DYNQ_PANEL] = k[j];
    }
    memcpy(values + at * a->e, v, a->e * sizeof *v);
  }
}

static void append(attention *a) {
  const size_t heads = a->batch * a->shared;
  if (heads * a->t * (a->d + a->e) >= APPEND_ALONE) {
    dynq_parallel(a->node->threads, a->node->thread_count, append_task, a, heads);
    return;
  }
  for (size_t i = 0; i < heads; i++) {
    append_task(a, i);
  }
}

/* ---- A block of queries ---- */

typedef struct block {
  const attention *a;
  size_t batch, shared, first, rows; /* rows: of the queries that share the head, `first` the first one */
  size_t begin, end;                 /* positions that any of them looks at; begin is a multiple of 16 */
  size_t stride;                     /* of scores */
  float *q, *y, *scores, *mask_row;
} block;

/* The positions that a query looks at: [*low, *high). */
static void span(const block *b, size_t row, size_t *low, size_t *high) {
  const attention *a = b->a;
  const dynq_sequences *sequences = a->node->sequences;
  const size_t at = sequences->lengths[b->batch] + row / a->group;
  *high = a->causal ? at + 1 : sequences->lengths[b->batch] + sequences->appended[b->batch];
  *low = a->window != 0 && at + 1 > a->window ? at + 1 - a->window : 0;
}

/* Scores of one row times `scale`, with what their distance adds. */
static void bias_scores(const block *b, size_t head, size_t at, size_t low, size_t high, float scale, float *scores) {
  const attention *a = b->a;
  const dynq_op_tensor *slopes = DYNQ_GIVEN(a->node, dynq_CachedAttention, slopes);
  const dynq_op_tensor *distances = DYNQ_GIVEN(a->node, dynq_CachedAttention, distances);
  const float slope = slopes != NULL ? ((const float *)slopes->data)[head] : 0.0f;
  for (size_t i = low; i < high; i++) {
    scores[i] *= scale;
  }
  for (size_t i = low; slopes != NULL && i < high; i++) {
    scores[i] += slope * (i <= at ? -(float)(at - i) : (float)(i - at));
  }
  if (distances != NULL) {
    const float *back = (const float *)distances->data + head * distances->dims[1] + at;
    for (size_t i = low; i < high; i++) {
      scores[i] += *(back - i);
    }
  }
}

/* The mask of a query as floats to add; NULL: none. *blind: it is bool and leaves no key. */
static const float *mask_of(const block *b, size_t head, size_t row, size_t low, size_t high, bool *blind) {
  const attention *a = b->a;
  const dynq_op_tensor *mask = DYNQ_GIVEN(a->node, dynq_CachedAttention, mask);
  *blind = false;
  if (mask == NULL) {
    return NULL;
  }
  const size_t at = b->batch * a->mask_steps[0] + head * a->mask_steps[1] + row * a->mask_steps[2];
  const size_t step = a->mask_steps[3];
  bool any = mask->dtype == DYNQ_FLOAT32;
  for (size_t i = low; i < high; i++) {
    if (mask->dtype == DYNQ_FLOAT32) {
      b->mask_row[i] = ((const float *)mask->data)[at + i * step];
    } else {
      const bool seen = ((const uint8_t *)mask->data)[at + i * step] != 0;
      b->mask_row[i] = seen ? 0.0f : -INFINITY;
      any |= seen;
    }
  }
  *blind = !any;
  return b->mask_row + low;
}

/* From scores to weights; those of positions that the query does not look at are 0. */
static void weigh(const block *b, size_t i) {
  const attention *a = b->a;
  const dynq_vector_kernels *kernels = &a->node->kernels->vector;
  const dynq_op_tensor *sinks = DYNQ_GIVEN(a->node, dynq_CachedAttention, sinks);
  const size_t row = b->first + i, head = b->shared * a->group + row % a->group;
  const size_t at = a->node->sequences->lengths[b->batch] + row / a->group;
  float *scores = b->scores + i * b->stride, scale = a->scale;
  size_t low, high;
  bool blind;
  span(b, row, &low, &high);
  if (a->softcap > 0.0f) {
    dynq_heads_cap(kernels, a->scale, a->softcap, high - low, scores + low);
    scale = a->softcap;
  }
  const float *mask = mask_of(b, head, row / a->group, low, high, &blind);
  const float behind = scores[high]; /* may be the next row's first score */
  size_t count = high - low;
  if (DYNQ_GIVEN(a->node, dynq_CachedAttention, slopes) != NULL ||
      DYNQ_GIVEN(a->node, dynq_CachedAttention, distances) != NULL) {
    bias_scores(b, head, at, low, high, scale, scores);
    scale = 1.0f;
  }
  if (sinks != NULL) { /* one more score, of no position */
    for (size_t k = low; k < high && scale != 1.0f; k++) {
      scores[k] *= scale;
    }
    scale = 1.0f;
    scores[high] = ((const float *)sinks->data)[head];
    if (mask != NULL) {
      b->mask_row[high] = 0.0f;
    }
    count++;
  }
  if (blind) {
    memset(scores + low, 0, count * sizeof *scores);
  } else {
    kernels->softmax(1, count, scores + low, count, scale, mask, scores + low, count);
  }
  scores[high] = behind;
  memset(scores + b->begin, 0, (low - b->begin) * sizeof *scores);
  memset(scores + high, 0, (b->end - high) * sizeof *scores);
}

static void copy_queries(const block *b) {
  const attention *a = b->a;
  for (size_t i = 0; i < b->rows; i++) {
    const size_t row = b->first + i, head = b->shared * a->group + row % a->group;
    memcpy(b->q + i * a->d, a->q.data + b->batch * a->q.of_batch + head * a->q.of_head + row / a->group * a->q.of_row,
           a->d * sizeof *b->q);
  }
}

/* Writes the results of all heads where they belong; NULL: zeros, of rows that do not count. */
static void copy_results(const block *b, size_t first, size_t rows, const float *y) {
  const attention *a = b->a;
  const size_t width = a->heads * a->e;
  float *to = a->node->outputs[0]->data;
  for (size_t i = 0; i < rows; i++) {
    const size_t row = first + i, head = b->shared * a->group + row % a->group;
    float *place = to + (b->batch * a->s + row / a->group) * width + head * a->e;
    if (y != NULL) {
      memcpy(place, y + i * a->e, a->e * sizeof *y);
    } else {
      memset(place, 0, a->e * sizeof *place);
    }
  }
}

static void run_block(block *b) {
  const attention *a = b->a;
  const dynq_sequences *sequences = a->node->sequences;
  const dynq_vector_kernels *kernels = &a->node->kernels->vector;
  const size_t head = b->batch * a->shared + b->shared,
               counted = (a->of_source ? a->s : sequences->appended[b->batch]) * a->group;
  const size_t given = b->rows;
  b->rows = counted <= b->first ? 0 : counted - b->first < given ? counted - b->first : given;
  copy_results(b, b->first + b->rows, given - b->rows, NULL);
  if (b->rows == 0) {
    return;
  }
  size_t low, high;
  span(b, b->first, &b->begin, &high);
  span(b, b->first + b->rows - 1, &low, &b->end);
  b->begin = b->begin / DYNQ_PANEL * DYNQ_PANEL;
  const float *keys = (const float *)DYNQ_INPUT(a->node, dynq_CachedAttention, keys)->data +
                      (head * sequences->capacity + b->begin) * a->d;
  const float *values = (const float *)DYNQ_INPUT(a->node, dynq_CachedAttention, values)->data +
                        (head * sequences->capacity + b->begin) * a->e;
  const size_t count = b->end - b->begin;
  copy_queries(b);
  kernels->matmul(b->rows, count, a->d, b->q, a->d, keys, DYNQ_PANEL, DYNQ_PANEL * a->d, b->scores + b->begin,
                  b->stride);
  for (size_t i = 0; i < b->rows; i++) {
    weigh(b, i);
  }
  kernels->matmul(b->rows, a->e, count, b->scores + b->begin, b->stride, values, a->e, DYNQ_PANEL, b->y, a->e);
  copy_results(b, b->first, b->rows, b->y);
}

static void task(void *arg, size_t worker) {
  attention *a = arg;
  const dynq_sequences *sequences = a->node->sequences;
  char *scratch = (char *)a->node->scratch + worker * a->each;
  float *scores = sequences->scores + worker * (a->block + 2) * sequences->capacity;
  const size_t rows = a->s * a->group;
  for (size_t i = atomic_fetch_add(&a->next, 1); i < a->tasks && !dynq_interrupted();
       i = atomic_fetch_add(&a->next, 1)) {
    const size_t head = i / a->blocks, first = i % a->blocks * a->block;
    block b = {.a = a,
               .batch = head / a->shared,
               .shared = head % a->shared,
               .first = first,
               .rows = rows - first < a->block ? rows - first : a->block,
               .stride = sequences->capacity,
               .q = (float *)(void *)scratch,
               .y = (float *)(void *)(scratch + a->q_bytes),
               .scores = scores,
               .mask_row = scores + a->block * sequences->capacity + DYNQ_PANEL};
    run_block(&b);
  }
}

/* A row of q looks at something. */
static dynq_status check_source(const attention *a) {
  const dynq_sequences *sequences = a->node->sequences;
  for (size_t b = 0; a->of_source && a->s != 0 && b < a->batch; b++) {
    if (sequences->lengths[b] + sequences->appended[b] == 0) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sequence %zu has no source: the first run brings it", b);
    }
  }
  return DYNQ_OK;
}

/* A mask has a column for each position that is looked at. */
static dynq_status check_mask(const attention *a) {
  const dynq_op_tensor *mask = DYNQ_GIVEN(a->node, dynq_CachedAttention, mask);
  const dynq_sequences *sequences = a->node->sequences;
  const size_t columns = mask == NULL || mask->rank == 0 ? 1 : mask->dims[mask->rank - 1];
  for (size_t b = 0; columns != 1 && b < a->batch; b++) {
    if (sequences->lengths[b] + sequences->appended[b] > columns) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "mask has %zu columns; sequence %zu has %zu positions", columns, b,
                       sequences->lengths[b] + sequences->appended[b]);
    }
  }
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  attention a;
  size_t macs = 0;
  DYNQ_TRY(find_attention(node, &a));
  DYNQ_TRY(check_source(&a));
  DYNQ_TRY(check_mask(&a));
  append(&a);
  for (size_t b = 0; b < a.batch; b++) {
    const size_t positions = node->sequences->lengths[b] + node->sequences->appended[b];
    macs = dynq_size_add(macs, positions * a.heads * a.s * (a.d + a.e));
  }
  const size_t workers = dynq_work_parts(a.workers, a.tasks, macs / MACS_PER_NANOSECOND);
  if (node->outputs[0]->count != 0) {
    dynq_parallel(node->threads, workers, task, &a, workers);
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_CachedAttention = {infer, run};
const dynq_op_code dynq_op_dynq_CrossAttention = {infer, run};
