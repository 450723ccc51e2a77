/*
 * dynq.Attention: softmax(q k^T scale + mask) v, for each head. A query to which a bool mask leaves no key gets zeros.
 * With a softcap c it is softmax(c tanh(q k^T scale / c) + mask) v. Several heads of q may share one of k and v.
 *
 * A task is one head of one sequence, or some of its queries: k and v are packed once, then blocks of queries go through
 * both products while their scores are in the nearest cache.
 */
#include "../base/alloc.h"
#include "../base/interrupt.h"
#include "../base/status.h"
#include "../base/threads.h"
#include "../base/work.h"
#include "../gemm/float_matmul.h"
#include "../gemm/gemm.h"
#include "../quant/pack.h"
#include "heads.h"
#include "layer_attributes.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
  BLOCK_ROWS = 24,       /* queries at a time: whole tiles on every instruction set */
  ROWS_OF_A_TASK = 96,   /* at least, where the queries of a head are split */
  PACKED_FROM_ROWS = 24, /* fewer queries do not pay for packing v */
  MACS_PER_NANOSECOND = 16
};

typedef struct attention {
  const dynq_op_node *node;
  size_t batch, heads, s, t, d, e; /* sequences, heads, queries, keys, sizes of a key and of a value */
  size_t y_stride;                 /* from row to row of y: all heads */
  dynq_heads q, k, v;
  size_t t_padded;
  float scale, softcap; /* softcap 0: none */
  bool quantize;
  bool v_packed;
  size_t splits, tasks, workers;
  /* Parts of one worker's scratch, in this order. */
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
  const dynq_op_tensor *mask = DYNQ_GIVEN(a->node, dynq_Attention, mask);
  const size_t sizes[4] = {a->batch, a->heads, a->s, a->t};
  if (mask == NULL || dynq_heads_mask(mask, sizes, a->mask_steps)) {
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
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
  a->mask_bytes = DYNQ_GIVEN(a->node, dynq_Attention, mask) != NULL ? floats(1, a->t_padded) : 0;
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

/* q, k and v side by side in q. */
static dynq_status find_parts(attention *a, const dynq_op_tensor *q) {
  const size_t width = q->rank == 3 ? q->dims[2] / 3 : 0;
  if (q->rank != 3 || q->dims[2] % 3 != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "q has %zu columns; without k and v it holds all three, of equal widths", q->dims[q->rank - 1]);
  }
  a->q = dynq_heads_of(q, a->heads);
  a->q.size = a->q.of_head = width / a->heads;
  a->k = a->v = a->q;
  if (q->data != NULL) {
    a->k.data = a->q.data + width;
    a->v.data = a->q.data + 2 * width;
  }
  return width % a->heads == 0 ? DYNQ_OK
                               : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                                           "heads is %zu; q has %zu columns: expected a divisor", a->heads, width);
}

/* q, k and v, each with its own rows, or all three side by side in q. */
static dynq_status find_operands(attention *a) {
  const dynq_op_node *node = a->node;
  const dynq_op_tensor *q = DYNQ_INPUT(node, dynq_Attention, q), *k = DYNQ_GIVEN(node, dynq_Attention, k),
                       *v = DYNQ_GIVEN(node, dynq_Attention, v);
  if (k == NULL && v == NULL) {
    return find_parts(a, q);
  }
  if (k == NULL || v == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is left out alone", k == NULL ? "k" : "v");
  }
  a->q = dynq_heads_of(q, a->heads);
  if (a->q.heads != a->heads || (q->rank == 3 && q->dims[2] % a->heads != 0)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "heads is %zu; q has %zu %s: expected %s", a->heads,
                     q->dims[q->rank == 4 ? 1 : 2], q->rank == 4 ? "heads" : "columns",
                     q->rank == 4 ? "as many" : "a divisor");
  }
  const size_t shared = k->rank == 4 ? k->dims[1] : a->q.size != 0 ? k->dims[2] / a->q.size : a->heads;
  a->k = dynq_heads_of(k, shared);
  a->v = dynq_heads_of(v, shared);
  const bool fits = k->dims[0] == a->batch && v->dims[0] == a->batch && a->k.rows == a->v.rows;
  const bool whole = (k->rank == 4 || k->dims[2] == shared * a->q.size) && a->k.size == a->q.size &&
                     (v->rank == 4 || (shared != 0 && v->dims[2] % shared == 0)) && a->v.heads == shared;
  if (!fits || !whole || shared == 0 || a->heads % shared != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "q is %zu x %zu x %zu, k %zu x %zu x %zu, v %zu x %zu x %zu (sequences, rows, columns of all "
                     "heads): expected the same sequences, heads of q and k of the same width, a whole number of heads "
                     "of q for each of k, and as many rows and heads of k as of v",
                     q->dims[0], a->q.rows, q->rank == 4 ? q->dims[1] * q->dims[3] : q->dims[2], k->dims[0], a->k.rows,
                     k->rank == 4 ? k->dims[1] * k->dims[3] : k->dims[2], v->dims[0], a->v.rows,
                     v->rank == 4 ? v->dims[1] * v->dims[3] : v->dims[2]);
  }
  return DYNQ_OK;
}

static dynq_status find_attention(const dynq_op_node *node, attention *a) {
  const dynq_op_tensor *q = DYNQ_INPUT(node, dynq_Attention, q);
  const int64_t heads = dynq_op_int(node, DYNQ_ATTR(dynq_Attention, heads)),
                quantize = dynq_op_int(node, DYNQ_ATTR(dynq_Attention, quantize));
  *a = (attention){.node = node, .batch = q->dims[0], .heads = (size_t)heads};
  if (heads <= 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "heads is %lld; expected 1 or more", (long long)heads);
  }
  DYNQ_TRY(find_operands(a));
  if (quantize != 0 && quantize != 1) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "quantize is %lld; expected 0 or 1", (long long)quantize);
  }
  a->quantize = quantize == 1;
  a->s = a->q.rows;
  a->t = a->k.rows;
  a->d = a->q.size;
  a->e = a->v.size;
  a->y_stride = dynq_size_mul(a->heads, a->e);
  DYNQ_TRY(dynq_heads_scale(node, DYNQ_ATTR(dynq_Attention, scale), DYNQ_ATTR(dynq_Attention, softcap), a->d, &a->scale,
                            &a->softcap));
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
  attention a;
  for (size_t i = DYNQ_IN(dynq_Attention, q); i <= DYNQ_IN(dynq_Attention, v); i++) {
    const dynq_op_tensor *t = dynq_op_input(node, i);
    const char *name = node->op->inputs[i].name;
    if (t == NULL) {
      continue;
    }
    DYNQ_TRY(dynq_op_check_f32(node, i, name, 3));
    if (t->rank != 3 && t->rank != 4) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu dimensions; expected 3 or 4", name, t->rank);
    }
  }
  DYNQ_TRY(find_attention(node, &a));
  const size_t dims[3] = {a.batch, a.s, a.y_stride};
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, 3, dims);
  node->scratch_bytes = dynq_size_mul(a.workers, a.each);
  return DYNQ_OK;
}

/* ---- One head ---- */

/* A worker's scratch and the head at hand. */
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
  const size_t shared = h.head / (a->heads / a->k.heads);
  h.q = a->q.data + h.batch * a->q.of_batch + h.head * a->q.of_head;
  h.k = a->k.data + h.batch * a->k.of_batch + shared * a->k.of_head;
  h.v = a->v.data + h.batch * a->v.of_batch + shared * a->v.of_head;
  h.y = (float *)a->node->outputs[0]->data + h.batch * a->s * a->y_stride + h.head * a->e;
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
    h->finite &= dynq_pack_f32(h->k_weight, kernels, a->d != 0 ? h->k : NULL, a->k.of_row, 1, NULL, 1) == DYNQ_OK;
    h->finite &= dynq_pack_f32(h->v_weight, kernels, a->t != 0 ? h->v : NULL, 1, a->v.of_row, NULL, 1) == DYNQ_OK;
    return;
  }
  kernels->vector.pack_transposed(a->t, a->d, h->k, a->k.of_row, h->k_panels);
  if (a->v_packed) {
    dynq_pack_rows(a->t, a->e, h->v, a->v.of_row, h->v_panels);
  }
}

/* The mask of a query as floats to add; NULL: none. */
static const float *mask_of(head *h, size_t row) {
  const attention *a = h->a;
  const dynq_op_tensor *mask = DYNQ_GIVEN(a->node, dynq_Attention, mask);
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
  const float *q = h->q + row * a->q.of_row;
  float *y = h->y + row * a->y_stride;
  if (a->quantize) {
    multiply_quantized(h, h->k_weight, rows, q, a->q.of_row, h->scores, a->t_padded);
  } else {
    kernels->matmul(rows, a->t, a->d, q, a->q.of_row, h->k_panels, DYNQ_PANEL, DYNQ_PANEL * a->d, h->scores,
                    a->t_padded);
  }
  const float scale = a->softcap > 0.0f ? a->softcap : a->scale;
  for (size_t i = 0; a->softcap > 0.0f && i < rows; i++) {
    dynq_heads_cap(kernels, a->scale, a->softcap, a->t, h->scores + i * a->t_padded);
  }
  const size_t alike = a->mask_steps[2] == 0 ? rows : 1; /* with one row of the mask */
  for (size_t i = 0; i < rows; i += alike) {
    float *scores = h->scores + i * a->t_padded;
    const float *mask = mask_of(h, row + i);
    if (h->blind) {
      memset(scores, 0, ((alike - 1) * a->t_padded + a->t) * sizeof *scores);
    } else {
      kernels->softmax(alike, a->t, scores, a->t_padded, scale, mask, scores, a->t_padded);
    }
  }
  if (a->quantize) {
    multiply_quantized(h, h->v_weight, rows, h->scores, a->t_padded, y, a->y_stride);
  } else if (a->v_packed) {
    kernels->matmul(rows, a->e, a->t, h->scores, a->t_padded, h->v_panels, DYNQ_PANEL, DYNQ_PANEL * a->t, y,
                    a->y_stride);
  } else {
    kernels->matmul(rows, a->e, a->t, h->scores, a->t_padded, h->v, a->v.of_row, DYNQ_PANEL, y, a->y_stride);
  }
}

static void task(void *arg, size_t worker) {
  attention *a = arg;
  head packed = {.a = NULL};
  for (size_t i = atomic_fetch_add(&a->next, 1); i < a->tasks; i = atomic_fetch_add(&a->next, 1)) {
    head h = place_head(a, i / a->splits, (char *)a->node->scratch + worker * a->each);
    size_t row, end;
    dynq_share(a->s, a->splits, i % a->splits, &row, &end);
    if (packed.a != NULL && packed.k == h.k && packed.v == h.v) { /* by the head before, or by its part */
      h.k_weight = packed.k_weight;
      h.v_weight = packed.v_weight;
    } else {
      pack(&h);
    }
    for (; row < end && !dynq_interrupted(); row += BLOCK_ROWS) {
      run_block(&h, row, end - row < BLOCK_ROWS ? end - row : BLOCK_ROWS);
    }
    if (!h.finite) {
      atomic_store(&a->nonfinite, true);
    }
    packed = h;
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

const dynq_op_code dynq_op_dynq_Attention = {infer, run};
