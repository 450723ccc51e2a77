/*
 * Who computes what: a call is split by rows, where each thread quantizes its own, or by panels, after all
 * rows have been quantized.
 */
#include "gemm.h"

#include "../alloc.h"
#include "../arguments.h"
#include "../cache.h"
#include "../threads.h"

#include <stdatomic.h>

enum {
  SMALL_BYTES = 4096,               /* a left operand up to this size lives on the stack */
  MACS_PER_THREAD = 2 * 1024 * 1024 /* 10 to 20 µs of one core: several times what waking a thread costs */
};

typedef struct run {
  const dynq_gemm *gemm;
  size_t k, workers;
  size_t block_rows, row_blocks, panel_blocks;
  bool rows;       /* split by rows, not by panels */
  dynq_lhs shared; /* by panels: all rows */
  char *memory;    /* by rows: one block of rows for each worker */
  size_t memory_each, memory_bytes;
  _Atomic size_t next;
  _Atomic bool nonfinite, overflow;
} run;

static void note(run *r, bool finite, bool fits) {
  if (!finite) {
    atomic_store(&r->nonfinite, true);
  }
  if (!fits) {
    atomic_store(&r->overflow, true);
  }
}

/* By rows: blocks of rows, quantized and multiplied by all panels. */
static void rows_task(void *arg, size_t worker) {
  run *r = arg;
  const dynq_gemm *g = r->gemm;
  dynq_lhs lhs;
  dynq_lhs_place(&lhs, r->memory + worker * r->memory_each, r->block_rows, r->k, g->weight->info.zero_point != NULL);
  for (size_t i = atomic_fetch_add(&r->next, 1); i < r->row_blocks; i = atomic_fetch_add(&r->next, 1)) {
    size_t row, end;
    dynq_share(g->m, r->row_blocks, i, &row, &end);
    const bool finite = dynq_lhs_fill(&lhs, g->kernels, &g->source, row, end - row, r->k);
    note(r, finite, dynq_gemm_block(g, &lhs, row, end - row, 0, g->weight->panels));
  }
}

static dynq_lhs rows_of(const dynq_lhs *lhs, size_t row) {
  dynq_lhs part = *lhs;
  part.data += row * lhs->stride;
  part.scale += row;
  part.zero_point += row;
  part.sum = part.sum != NULL ? part.sum + row : NULL;
  return part;
}

/* By panels, first: quantize all rows, each once. */
static void fill_task(void *arg, size_t index) {
  run *r = arg;
  size_t row, end;
  dynq_share(r->gemm->m, r->row_blocks, index, &row, &end);
  dynq_lhs part = rows_of(&r->shared, row);
  note(r, dynq_lhs_fill(&part, r->gemm->kernels, &r->gemm->source, row, end - row, r->k), true);
}

/* By panels, second: blocks of rows times ranges of panels, the rows of one range after each other. */
static void panels_task(void *arg, size_t index) {
  run *r = arg;
  size_t row, row_end, panel, panel_end;
  dynq_share(r->gemm->m, r->row_blocks, index % r->row_blocks, &row, &row_end);
  dynq_share(r->gemm->weight->panels, r->panel_blocks, index / r->row_blocks, &panel, &panel_end);
  const dynq_lhs part = rows_of(&r->shared, row);
  note(r, true, dynq_gemm_block(r->gemm, &part, row, row_end - row, panel, panel_end));
}

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

/* How the work is split, and the memory that takes. */
static void plan(run *r, size_t count) {
  const dynq_gemm *g = r->gemm;
  const size_t m = g->m, n = g->weight->info.n, bytes = g->weight->info.data_bytes, tile_rows = g->kernels->gemm->rows;
  const size_t macs = dynq_size_mul(m, bytes);
  r->k = g->weight->info.k;
  r->workers = macs / MACS_PER_THREAD > 1 ? at_most(count, macs / MACS_PER_THREAD) : 1;
  const size_t fitting = dynq_cache_share() / (r->k + 1) / tile_rows * tile_rows;
  r->block_rows = at_most(fitting != 0 ? fitting : tile_rows, m);
  /* By rows saves a wake-up, but each thread reads all weights; so the weights are few or the rows many. */
  r->rows = r->workers == 1 || (m >= 2 * r->workers * tile_rows && (bytes <= 1 << 20 || m >= n));
  if (r->rows) {
    const size_t each = (m + r->workers - 1) / r->workers;
    r->block_rows = at_most(r->block_rows, each);
  }
  r->row_blocks = (m + r->block_rows - 1) / r->block_rows;
  r->memory_each = dynq_lhs_bytes(r->block_rows, r->k);
  r->memory_bytes = r->rows ? dynq_size_mul(r->workers, r->memory_each) : dynq_lhs_bytes(m, r->k);
}

static void by_rows(run *r, const dynq_threads *threads) {
  dynq_parallel(threads, r->workers, rows_task, r, r->workers);
}

static void by_panels(run *r, const dynq_threads *threads) {
  const dynq_weight *w = r->gemm->weight;
  dynq_lhs_place(&r->shared, r->memory, r->gemm->m, r->k, w->info.zero_point != NULL);
  r->panel_blocks = at_most(w->panels, r->workers * 4);
  const size_t fillers = r->gemm->m * r->k >= 65536 ? r->workers : 1;
  dynq_parallel(threads, fillers, fill_task, r, r->row_blocks);
  dynq_parallel(threads, r->workers, panels_task, r, r->row_blocks * r->panel_blocks);
}

static bool is_empty(const dynq_gemm *g) { return g->m == 0 || g->weight->info.n == 0; }

size_t dynq_gemm_memory_bytes(const dynq_gemm *gemm, size_t count) {
  run r = {.gemm = gemm};
  if (!is_empty(gemm)) {
    plan(&r, count);
  }
  return r.memory_bytes;
}

dynq_status dynq_gemm_run(const dynq_gemm *gemm, const dynq_threads *threads, size_t count) {
  _Alignas(64) char small[SMALL_BYTES];
  run r = {.gemm = gemm};
  if (is_empty(gemm)) {
    return DYNQ_OK;
  }
  plan(&r, count);
  r.memory = r.memory_bytes <= SMALL_BYTES ? small : gemm->memory;
  if (r.memory == NULL) {
    r.memory = dynq_alloc(r.memory_bytes);
    if (r.memory == NULL) {
      return dynq_fail_memory(r.memory_bytes);
    }
  }
  if (r.rows) {
    by_rows(&r, threads);
  } else {
    by_panels(&r, threads);
  }
  if (r.memory != small && r.memory != gemm->memory) {
    dynq_free(r.memory);
  }
  if (atomic_load(&r.overflow)) {
    return dynq_fail(DYNQ_ERROR_OVERFLOW, "acc: a sum over k = %zu does not fit into int32", r.k);
  }
  return atomic_load(&r.nonfinite) ? dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity") : DYNQ_OK;
}
