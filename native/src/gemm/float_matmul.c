/*
 * Blocks of rows and columns, each by one thread. b's columns are packed into panels if enough rows share them. Then
 * the kernel runs over the rows, and the epilogue while the sums are in the nearest cache.
 */
#include "float_matmul.h"

#include "../base/alloc.h"
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "../base/work.h"

#include <stdatomic.h>
#include <string.h>

enum {
  COLUMNS = 128,            /* of a block: the widest tile of one row */
  ROWS_AT_ONCE = 24,        /* between the kernel and the epilogue: whole tiles on every instruction set */
  PACKED_FROM_ROWS = 24,    /* fewer do not pay for packing */
  PACKED_TO_K = 4096,       /* more would leave the cache */
  BLOCK_BYTES = 256 * 1024, /* of a, that a thread works on at a time: they stay in its L2 */
  MACS_PER_NANOSECOND = 32
};

typedef struct run {
  const dynq_float_matmul *p;
  bool packed;
  size_t count, rows, row_blocks, column_blocks, tasks, workers;
  char *memory;
  size_t memory_each;
  _Atomic size_t next;
} run;

static void plan(run *r, size_t threads) {
  const dynq_float_matmul *p = r->p;
  const size_t fitting = BLOCK_BYTES / sizeof(float) / (p->k + 1) / ROWS_AT_ONCE * ROWS_AT_ONCE;
  const size_t macs = dynq_size_mul(dynq_size_mul(p->m, p->n), dynq_size_mul(p->k + 1, r->count));
  r->packed = p->k != 0 && (p->b_transposed || (p->m >= PACKED_FROM_ROWS && p->k <= PACKED_TO_K));
  r->column_blocks = (p->n + COLUMNS - 1) / COLUMNS;
  r->rows = fitting != 0 ? fitting : ROWS_AT_ONCE;
  r->row_blocks = (p->m + r->rows - 1) / r->rows;
  const size_t most_row_blocks = (p->m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const size_t others = dynq_size_mul(r->count, r->column_blocks);
  r->workers = dynq_work_parts(threads, dynq_size_mul(others, most_row_blocks), macs / MACS_PER_NANOSECOND);
  if (r->workers > 1 && dynq_size_mul(others, r->row_blocks) < 4 * r->workers) { /* some for each, of even size */
    const size_t wanted = (4 * r->workers + others - 1) / others;
    r->row_blocks = wanted < most_row_blocks ? wanted : most_row_blocks;
  }
  r->tasks = dynq_size_mul(others, r->row_blocks);
  r->memory_each = r->packed ? dynq_size_mul(p->k, COLUMNS * sizeof(float)) : 0;
}

/* Rows [row, end) times columns [column, column + columns). b and panel: where the columns begin. */
static void multiply(const dynq_float_matmul *p, size_t row, size_t end, size_t column, size_t columns, const float *a,
                     const float *b, size_t b_row, size_t b_panel, float *y) {
  static const float ones[COLUMNS] = {
#define FOUR 1.0f, 1.0f, 1.0f, 1.0f
#define SIXTEEN FOUR, FOUR, FOUR, FOUR
      SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN,
      SIXTEEN, SIXTEEN, SIXTEEN
#undef FOUR
#undef SIXTEEN
  };
  const bool plain = p->alpha == 1.0f && p->bias == NULL && p->residual == NULL &&
                     p->activation == DYNQ_ACTIVATION_NONE && !(p->min < p->max);
  if (plain) {
    p->kernels->vector.matmul(end - row, columns, p->k, a + row * p->k, p->k, b, b_row, b_panel,
                              y + row * p->n + column, p->n);
    return;
  }
  _Alignas(64) float sums[ROWS_AT_ONCE * COLUMNS];
  float alphas[ROWS_AT_ONCE];
  for (size_t i = 0; i < ROWS_AT_ONCE; i++) {
    alphas[i] = p->alpha;
  }
  for (; row < end; row += ROWS_AT_ONCE) {
    const size_t rows = end - row < ROWS_AT_ONCE ? end - row : ROWS_AT_ONCE;
    p->kernels->vector.matmul(rows, columns, p->k, a + row * p->k, p->k, b, b_row, b_panel, sums, COLUMNS);
    const dynq_epilogue_tile tile = {
        .m = rows,
        .n = columns,
        .acc_f32 = sums,
        .acc_stride = COLUMNS,
        .row_scale = alphas,
        .column_scale = ones,
        .bias = p->bias != NULL ? p->bias + column : NULL,
        .residual = p->residual != NULL ? p->residual + row * p->n + column : NULL,
        .residual_stride = p->n,
        .activation = p->activation,
        .alpha = p->activation_alpha,
        .beta = p->activation_beta,
        .min = p->min,
        .max = p->max,
        .y = y + row * p->n + column,
        .y_stride = p->n,
    };
    p->kernels->vector.epilogue(&tile);
  }
}

void dynq_pack_rows(size_t k, size_t columns, const float *b, size_t stride, float *to) {
  for (size_t j = 0; j < columns; j += DYNQ_PANEL, to += DYNQ_PANEL * k) {
    const size_t width = columns - j < DYNQ_PANEL ? columns - j : DYNQ_PANEL;
    const float *from = b + j;
    for (size_t i = 0; i < k; i++, from += stride) {
      if (width == DYNQ_PANEL) { /* a size that the compiler knows */
        memcpy(to + i * DYNQ_PANEL, from, DYNQ_PANEL * sizeof *to);
      } else {
        memcpy(to + i * DYNQ_PANEL, from, width * sizeof *to);
      }
    }
  }
}

/* The columns as panels. */
static void pack(const dynq_float_matmul *p, const float *b, size_t column, size_t columns, float *to) {
  if (p->b_transposed) {
    p->kernels->vector.pack_transposed(columns, p->k, b + column * p->k, p->k, to);
    return;
  }
  dynq_pack_rows(p->k, columns, b + column, p->n, to);
}

static void run_task(const run *r, size_t index, float *panels) {
  const dynq_float_matmul *p = r->p;
  const size_t row_block = index % r->row_blocks, rest = index / r->row_blocks;
  const size_t column = rest % r->column_blocks * COLUMNS, matrix = rest / r->column_blocks;
  const size_t columns = p->n - column < COLUMNS ? p->n - column : COLUMNS;
  static const float nothing[COLUMNS]; /* for K = 0: a and b may be NULL, to which not even 0 may be added */
  const float *a = p->k != 0 ? p->a : nothing, *b = p->k != 0 ? p->b : nothing;
  float *y = p->y;
  if (p->batch != NULL) {
    a += dynq_batch_matrix(p->batch, p->batch->a_steps, matrix) * p->m * p->k;
    b += dynq_batch_matrix(p->batch, p->batch->b_steps, matrix) * p->k * p->n;
    y += matrix * p->m * p->n;
  }
  size_t row, end;
  dynq_share(p->m, r->row_blocks, row_block, &row, &end);
  if (r->packed) {
    pack(p, b, column, columns, panels);
    multiply(p, row, end, column, columns, a, panels, DYNQ_PANEL, DYNQ_PANEL * p->k, y);
  } else {
    multiply(p, row, end, column, columns, a, p->k != 0 ? b + column : b, p->n, DYNQ_PANEL, y);
  }
}

static void task(void *arg, size_t worker) {
  run *r = arg;
  float *panels = r->packed ? (float *)(void *)(r->memory + worker * r->memory_each) : NULL;
  for (size_t i = atomic_fetch_add(&r->next, 1); i < r->tasks && !dynq_interrupted();
       i = atomic_fetch_add(&r->next, 1)) {
    run_task(r, i, panels);
  }
}

static bool start(run *r, const dynq_float_matmul *p, size_t threads) {
  *r = (run){.p = p, .count = p->batch != NULL ? p->batch->count : 1};
  if (p->m == 0 || p->n == 0 || r->count == 0) {
    return false;
  }
  plan(r, threads);
  return true;
}

size_t dynq_float_matmul_bytes(const dynq_float_matmul *p, size_t count) {
  run r;
  return start(&r, p, count) ? dynq_size_mul(r.workers, r.memory_each) : 0;
}

void dynq_float_matmul_run(const dynq_float_matmul *p, void *memory, const dynq_threads *threads, size_t count) {
  run r;
  if (start(&r, p, count)) {
    r.memory = memory;
    dynq_parallel(threads, r.workers, task, &r, r.workers);
  }
}
