/*
 * dynq.Attention: softmax(q k^T scale + mask) v, for each head. A query to which a bool mask leaves no key gets zeros.
 *
 * A task is one head of one sequence, or some of its queries: k and v are packed once, then blocks of queries go through
 * both products while their scores are in the nearest cache.
 */
#include "../alloc.h"
#include "../quant/pack.h"
#include "../status.h"
#include "../threads.h"
#include "../work.h"
#include "float_matmul.h"
#include "gemm.h"
#include "model_linear.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { HEADS, SCALE, QUANTIZE };
enum { QUERY, KEY, VALUE, MASK };
enum {
  BLOCK_ROWS = 24,       /* queries at a time: whole tiles on every instruction set */
  ROWS_OF_A_TASK = 96,   /* at least, where the queries of a head are split */
  PACKED_FROM_ROWS = 24, /* fewer queries do not pay for packing v */
  MACS_PER_NANOSECOND = 16
};

typedef struct attention {
  const dynq_op_node *node;
  size_t batch, heads, s, t, d, e; /* sequences, heads, queries, keys, sizes of a key and of a value */
  size_t width, v_width;           /* of all heads */
  const float *q, *k, *v;
  size_t q_stride, k_stride, v_stride; /* from row to row */
  size_t t_padded;
  float scale;
  bool quantize;
  bool v_packed;
  size_t splits, tasks, workers;
  /* Of one worker's scratch, in this order. */
  size_t k_bytes, v_bytes, score_bytes, mask_bytes, lhs_bytes, each;
  /* In steps of the mask: batch, head, query, key. */
  size_t mask_steps[4];
  _Atomic size_t next;
  _Atomic bool nonfinite;
} attention;

static size_t round_up(size_t bytes) { return dynq_size_add(bytes, 63) / 64 * 64; }
static size_t floats(size_t rows, size_t columns) {
  return round_up(dynq_size_mul(dynq_size_mul(rows, columns), sizeof(float)));
}

/* ---- Shapes ---- */

static dynq_status find_mask(attention *a) {
  const dynq_op_tensor *mask = dynq_op_input(a->node, MASK);
  const size_t sizes[4] = {a->batch, a->heads, a->s, a->t};
  if (mask == NULL) {
    return DYNQ_OK;
  }
  bool fits = mask->rank <= 4 && (mask->dtype == DYNQ_FLOAT32 || mask->dtype == DYNQ_BOOL);
  size_t step = 1;
  for (size_t i = 0; fits && i < mask->rank; i++) { /* from the last dimension on */
    const size_t size = mask->dims[mask->rank - 1 - i];
    fits = size == 1 || size == sizes[3 - i];
    a->mask_steps[3 - i] = size != 1 ? step : 0;
    step = dynq_size_mul(step, size);
  }
  return fits ? DYNQ_OK
              : dynq_fail(
                    DYNQ_ERROR_INVALID_ARGUMENT,
                    "mask is %s of %zu dimensions; expected float32 or bool that broadcasts to %zu x %zu x %zu x %zu",
                    dynq_dtype_name(mask->dtype), mask->rank, sizes[0], sizes[1], sizes[2], sizes[3]);
}

static void find_split(attention *a) {
  const size_t heads = dynq_size_mul(a->batch, a->heads), threads = a->node->thread_count;
  const size_t macs = dynq_size_mul(dynq_size_mul(heads, a->s), dynq_size_mul(a->t, dynq_size_add(a->d, a->e)));
  a->workers = dynq_work_parts(threads, dynq_size_mul(heads, a->s), macs / MACS_PER_NANOSECOND);
  a->splits = 1;
  if (heads != 0 && heads < 3 * a->workers && a->workers > 1) {
    const size_t most = a->s / ROWS_OF_A_TASK, wanted = (3 * a->workers + heads - 1) / heads;
    a->splits = most == 0 ? 1 : wanted < most ? wanted : most;
  }
  a->tasks = dynq_size_mul(heads, a->splits);
  a->workers = a->workers < a->tasks ? a->workers : a->tasks;
}

static void find_memory(attention *a) {
  a->t_padded = dynq_size_add(a->t, DYNQ_PANEL - 1) / DYNQ_PANEL * DYNQ_PANEL;
  a->v_packed = a->s >= PACKED_FROM_ROWS;
  a->score_bytes = floats(BLOCK_ROWS, a->t_padded);
  a->mask_bytes = dynq_op_input(a->node, MASK) != NULL ? floats(1, a->t_padded) : 0;
  if (a->quantize) {
    const size_t of_q = dynq_lhs_bytes(BLOCK_ROWS, a->d), of_scores = dynq_lhs_bytes(BLOCK_ROWS, a->t);
    a->k_bytes = round_up(dynq_weight_bytes(a->t, a->d, false));
    a->v_bytes = round_up(dynq_weight_bytes(a->e, a->t, false));
    a->lhs_bytes = of_q > of_scores ? of_q : of_scores;
  } else {
    a->k_bytes = floats(a->t_padded, a->d);
    a->v_bytes = a->v_packed ? floats(dynq_size_add(a->e, DYNQ_PANEL - 1) / DYNQ_PANEL * DYNQ_PANEL, a->t) : 0;
  }
  a->each = dynq_size_add(
      dynq_size_add(dynq_size_add(a->k_bytes, a->v_bytes), dynq_size_add(a->score_bytes, a->mask_bytes)), a->lhs_bytes);
}

/* q, k and v, each with its own rows, or all three side by side in q. */
static dynq_status find_operands(attention *a) {
  const dynq_op_node *node = a->node;
  const dynq_op_tensor *q = node->inputs[QUERY], *k = dynq_op_input(node, KEY), *v = dynq_op_input(node, VALUE);
  if (k == NULL && v == NULL) {
    a->width = q->dims[2] / 3;
    a->v_width = a->width;
    a->q_stride = a->k_stride = a->v_stride = q->dims[2];
    a->q = q->data;
    a->k = q->data != NULL ? a->q + a->width : NULL;
    a->v = q->data != NULL ? a->q + 2 * a->width : NULL;
    return q->dims[2] % 3 == 0
               ? DYNQ_OK
               : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                           "q has %zu columns; without k and v it holds all three, of equal widths", q->dims[2]);
  }
  if (k == NULL || v == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is left out alone", k == NULL ? "k" : "v");
  }
  if (k->dims[0] != a->batch || v->dims[0] != a->batch || k->dims[2] != q->dims[2] || v->dims[1] != k->dims[1]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "q is %zu x %zu x %zu, k %zu x %zu x %zu, v %zu x %zu x %zu: expected "
                     "the same sequences, q and k of the same width, k and v of the same length",
                     q->dims[0], q->dims[1], q->dims[2], k->dims[0], k->dims[1], k->dims[2], v->dims[0], v->dims[1],
                     v->dims[2]);
  }
  a->t = k->dims[1];
  a->width = a->q_stride = a->k_stride = q->dims[2];
  a->v_width = a->v_stride = v->dims[2];
  a->q = q->data;
  a->k = k->data;
  a->v = v->data;
  return DYNQ_OK;
}

static dynq_status find_attention(const dynq_op_node *node, attention *a) {
  const dynq_op_tensor *q = node->inputs[QUERY];
  const int64_t heads = dynq_op_int(node, HEADS, 0), quantize = dynq_op_int(node, QUANTIZE, 0);
  *a = (attention){.node = node, .batch = q->dims[0], .heads = (size_t)heads, .s = q->dims[1], .t = q->dims[1]};
  DYNQ_TRY(find_operands(a));
  if (heads <= 0 || a->width % a->heads != 0 || a->v_width % a->heads != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "heads is %lld; q has %zu columns and v %zu: expected a divisor of both", (long long)heads,
                     a->width, a->v_width);
  }
  if (quantize != 0 && quantize != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "quantize is %lld; expected 0 or 1", (long long)quantize);
  }
  a->quantize = quantize == 1;
  a->d = a->width / a->heads;
  a->e = a->v_width / a->heads;
  a->scale = dynq_op_float(node, SCALE, 1.0f / sqrtf((float)a->d));
  if (a->quantize && (a->d > DYNQ_MAX_K || a->t > DYNQ_MAX_K)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%zu keys of %zu: at most %d of each are quantized", a->t, a->d,
                     DYNQ_MAX_K);
  }
  DYNQ_TRY(find_mask(a));
  find_split(a);
  find_memory(a);
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  static const char *const names[] = {"q", "k", "v"};
  attention a;
  for (size_t i = QUERY; i <= VALUE; i++) {
    if (dynq_op_input(node, i) == NULL) {
      continue;
    }
    DYNQ_TRY(dynq_op_check_f32(node, i, names[i], 3));
    if (node->inputs[i]->rank != 3) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu dimensions; expected 3", names[i],
                       node->inputs[i]->rank);
    }
  }
  DYNQ_TRY(find_attention(node, &a));
  const size_t dims[3] = {a.batch, a.s, a.v_width};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, 3, dims);
  node->scratch_bytes = dynq_size_mul(a.workers, a.each);
  return DYNQ_OK;
}

/* ---- One head ---- */

/* Where things lie: a worker's scratch and the head at hand. */
typedef struct head {
  const attention *a;
  size_t batch, head;
  const float *q, *k, *v; /* the head's first row */
  float *y;
  float *k_panels, *v_panels, *scores, *mask_row;
  dynq_weight *k_weight, *v_weight;
  void *lhs_memory;
  const void *mask_written; /* the part of the mask that mask_row holds */
  bool blind;               /* that part is bool and leaves no key */
  bool finite;
} head;

static head place_head(const attention *a, size_t index, char *scratch) {
  head h = {.a = a, .batch = index / a->heads, .head = index % a->heads, .finite = true};
  h.q = a->q + h.batch * a->s * a->q_stride + h.head * a->d;
  h.k = a->k + h.batch * a->t * a->k_stride + h.head * a->d;
  h.v = a->v + h.batch * a->t * a->v_stride + h.head * a->e;
  h.y = (float *)a->node->outputs[0]->data + h.batch * a->s * a->v_width + h.head * a->e;
  h.k_panels = (float *)(void *)scratch;
  h.v_panels = (float *)(void *)(scratch + a->k_bytes);
  h.scores = (float *)(void *)(scratch + a->k_bytes + a->v_bytes);
  h.mask_row = (float *)(void *)(scratch + a->k_bytes + a->v_bytes + a->score_bytes);
  h.lhs_memory = scratch + a->k_bytes + a->v_bytes + a->score_bytes + a->mask_bytes;
  return h;
}

static void pack(head *h) {
  const attention *a = h->a;
  const dynq_kernels *kernels = a->node->kernels;
  if (a->quantize) { /* keys and the columns of v are the channels */
    h->k_weight = dynq_weight_place(h->k_panels, a->t, a->d, false);
    h->v_weight = dynq_weight_place(h->v_panels, a->e, a->t, false);
    h->finite &= dynq_pack_f32(h->k_weight, kernels, a->d != 0 ? h->k : NULL, a->k_stride, 1, NULL, 1) == DYNQ_OK;
    h->finite &= dynq_pack_f32(h->v_weight, kernels, a->t != 0 ? h->v : NULL, 1, a->v_stride, NULL, 1) == DYNQ_OK;
    return;
  }
  kernels->vector.pack_transposed(a->t, a->d, h->k, a->k_stride, h->k_panels);
  if (a->v_packed) {
    dynq_pack_rows(a->t, a->e, h->v, a->v_stride, h->v_panels);
  }
}

/* The mask of a query as floats to add; NULL: none. */
static const float *mask_of(head *h, size_t row) {
  const attention *a = h->a;
  const dynq_op_tensor *mask = dynq_op_input(a->node, MASK);
  if (mask == NULL) {
    return NULL;
  }
  const size_t at = h->batch * a->mask_steps[0] + h->head * a->mask_steps[1] + row * a->mask_steps[2];
  const size_t step = a->mask_steps[3];
  const float *values = (const float *)mask->data + at;
  const uint8_t *flags = (const uint8_t *)mask->data + at;
  if (mask->dtype == DYNQ_FLOAT32 && (step == 1 || a->t == 1)) {
    return values;
  }
  const void *from = mask->dtype == DYNQ_BOOL ? (const void *)flags : (const void *)values;
  if (h->mask_written != from) {
    bool any = mask->dtype == DYNQ_FLOAT32;
    for (size_t i = 0; i < a->t; i++) {
      h->mask_row[i] = mask->dtype == DYNQ_FLOAT32 ? values[i * step] : flags[i * step] != 0 ? 0.0f : -INFINITY;
      any |= mask->dtype == DYNQ_BOOL && flags[i * step] != 0;
    }
    h->blind = !any;
    h->mask_written = from;
  }
  return h->mask_row;
}

/* `rows` rows of x, quantized, times a weight. */
static void multiply_quantized(head *h, const dynq_weight *weight, size_t rows, const float *x, size_t x_stride,
                               float *y, size_t y_stride) {
  static const float nothing = 0.0f; /* K = 0 */
  const size_t k = weight->info.k;
  dynq_gemm gemm = {.kernels = h->a->node->kernels, .weight = weight, .m = rows, .y = y, .y_stride = y_stride};
  gemm.source = (dynq_lhs_source){
      .x = k != 0 ? x : &nothing, .x_stride = k != 0 ? x_stride : 0, .scheme = DYNQ_ASYMMETRIC, .per_row = true};
  dynq_lhs lhs;
  dynq_lhs_place(&lhs, h->lhs_memory, BLOCK_ROWS, k, false);
  h->finite &= dynq_lhs_fill(&lhs, gemm.kernels, &gemm.source, 0, rows, k);
  (void)dynq_gemm_block(&gemm, &lhs, 0, rows, 0, weight->panels);
}

/* Queries [row, row + rows). */
static void run_block(head *h, size_t row, size_t rows) {
  const attention *a = h->a;
  const dynq_vector_kernels *kernels = &a->node->kernels->vector;
  const float *q = h->q + row * a->q_stride;
  float *y = h->y + row * a->v_width;
  if (a->quantize) {
    multiply_quantized(h, h->k_weight, rows, q, a->q_stride, h->scores, a->t_padded);
  } else {
    kernels->matmul(rows, a->t, a->d, q, a->q_stride, h->k_panels, DYNQ_PANEL, DYNQ_PANEL * a->d, h->scores,
                    a->t_padded);
  }
  const size_t alike = a->mask_steps[2] == 0 ? rows : 1; /* with one row of the mask */
  for (size_t i = 0; i < rows; i += alike) {
    float *scores = h->scores + i * a->t_padded;
    const float *mask = mask_of(h, row + i);
    if (h->blind) {
      memset(scores, 0, ((alike - 1) * a->t_padded + a->t) * sizeof *scores);
    } else {
      kernels->softmax(alike, a->t, scores, a->t_padded, a->scale, mask, scores, a->t_padded);
    }
  }
  if (a->quantize) {
    multiply_quantized(h, h->v_weight, rows, h->scores, a->t_padded, y, a->v_width);
  } else if (a->v_packed) {
    kernels->matmul(rows, a->e, a->t, h->scores, a->t_padded, h->v_panels, DYNQ_PANEL, DYNQ_PANEL * a->t, y,
                    a->v_width);
  } else {
    kernels->matmul(rows, a->e, a->t, h->scores, a->t_padded, h->v, a->v_stride, DYNQ_PANEL, y, a->v_width);
  }
}

static void task(void *arg, size_t worker) {
  attention *a = arg;
  for (size_t i = atomic_fetch_add(&a->next, 1); i < a->tasks; i = atomic_fetch_add(&a->next, 1)) {
    head h = place_head(a, i / a->splits, (char *)a->node->scratch + worker * a->each);
    size_t row, end;
    dynq_share(a->s, a->splits, i % a->splits, &row, &end);
    pack(&h);
    for (; row < end; row += BLOCK_ROWS) {
      run_block(&h, row, end - row < BLOCK_ROWS ? end - row : BLOCK_ROWS);
    }
    if (!h.finite) {
      atomic_store(&a->nonfinite, true);
    }
  }
}

static dynq_status run(const dynq_op_node *node) {
  attention a;
  DYNQ_TRY(find_attention(node, &a));
  if (node->outputs[0]->count != 0) {
    dynq_parallel(node->threads, a.workers, task, &a, a.workers);
  }
  return atomic_load(&a.nonfinite) ? dynq_fail(DYNQ_NONFINITE, "q, k, v or the scores hold a NaN or an infinity")
                                   : DYNQ_OK;
}

const dynq_op dynq_op_Attention = {
    .name = "dynq.Attention",
    .min_inputs = 1,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = {[HEADS] = {"heads", DYNQ_ATTRIBUTE_INT},
                   [SCALE] = {"scale", DYNQ_ATTRIBUTE_FLOAT},
                   [QUANTIZE] = {"quantize", DYNQ_ATTRIBUTE_INT}},
    .infer = infer,
    .run = run,
};
