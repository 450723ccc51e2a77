/*
 * Products of quantized rows and packed weights. A call is split by rows, where each thread quantizes its own; or by
 * panels, where few rows are quantized by each thread for itself, many once for all.
 *
 * The pieces of a call are shared out among its workers beforehand, so that a thread meets the same weights again in
 * its own cache when the same call comes again. A worker that has done its pieces takes those that others have not
 * begun.
 */
#include "gemm.h"

#include "../base/alloc.h"
#include "../base/arguments.h"
#include "../base/cache.h"
#include "../base/interrupt.h"
#include "../base/threads.h"
#include "lhs_fine.h"

#include <stdatomic.h>

/*
 * The cost model, in nanoseconds. Measured on a Xeon with AVX-512 VNNI and AMX (Granite Rapids, 2 cores, 2026-11): a
 * thread that spins begins 0.7 µs after it was given work. Weights come from L2 at 150, from L3 at 30 bytes a
 * nanosecond. A core quantizes 7 elements in one; what another core has written comes at 1.
 */
enum {
  WORTH_A_THREAD = 4000,
  FROM_L2 = 150,
  FROM_L3 = 30,
  QUANTIZE = 7,
  FROM_ANOTHER_CORE = 1,
  MEETING = 3000 /* all threads once more, and what the slowest is late */
};
enum {
  SMALL_BYTES = 4096 + 64,   /* memory up to this size lives on the stack */
  OWN_ELEMENTS = 128 * 1024, /* of the left operand, up to which each thread quantizes all rows for itself */
  PIECES_OF_WORKER = 4,      /* ranges of panels: a thread that comes late leaves some to the others */
  PANELS_TOGETHER = 4        /* panels of a piece are a multiple of this, where there are enough: no tile is cut */
};

typedef enum split { BY_ROWS, BY_PANELS_OWN, BY_PANELS_SHARED } split;

/* Pieces of one worker that have been taken. */
typedef struct turn {
  _Alignas(64) _Atomic size_t next;
} turn;

typedef struct run {
  const dynq_gemm *gemm;
  size_t k, workers;
  split split;
  size_t block_rows, row_blocks; /* rows that are worked on at a time */
  size_t panels_together, panel_blocks;
  size_t pieces;
  turn *turns;  /* one for each worker */
  char *memory; /* the left operand: of each worker, or of all */
  size_t memory_each, memory_bytes;
  dynq_lhs shared; /* BY_PANELS_SHARED: all rows */
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

/* The next piece for `worker`: of its own, then of the others. */
static bool take(run *r, size_t worker, size_t *piece) {
  for (size_t i = 0; i < r->workers; i++) {
    const size_t owner = worker + i < r->workers ? worker + i : worker + i - r->workers;
    size_t begin, end;
    dynq_share(r->pieces, r->workers, owner, &begin, &end);
    if (atomic_load(&r->turns[owner].next) < end - begin) {
      *piece = begin + atomic_fetch_add(&r->turns[owner].next, 1);
      if (*piece < end) {
        return true;
      }
    }
  }
  return false;
}

static size_t lhs_bytes(const run *r, size_t rows) {
  const dynq_lhs_source *source = &r->gemm->source;
  return dynq_lhs_is_fine(source) ? dynq_lhs_fine_bytes(source, rows, r->k) : dynq_lhs_bytes(rows, r->k);
}

static dynq_lhs place(const run *r, void *memory, size_t rows) {
  const dynq_lhs_source *source = &r->gemm->source;
  dynq_lhs lhs;
  if (dynq_lhs_is_fine(source)) {
    dynq_lhs_fine_place(&lhs, source, memory, rows, r->k);
  } else {
    dynq_lhs_place(&lhs, memory, rows, r->k, r->gemm->weight->info.zero_point != NULL);
  }
  return lhs;
}

static dynq_lhs own_lhs(const run *r, size_t worker, size_t rows) {
  return place(r, r->memory + worker * r->memory_each, rows);
}

static bool fill(const run *r, dynq_lhs *lhs, size_t row, size_t rows) {
  const dynq_gemm *g = r->gemm;
  return (dynq_lhs_is_fine(&g->source) ? dynq_lhs_fine_fill : dynq_lhs_fill)(lhs, g->kernels, &g->source, row, rows,
                                                                             r->k);
}

static dynq_lhs rows_of(const dynq_lhs *lhs, size_t row) {
  dynq_lhs part = *lhs;
  part.data += row * lhs->stride;
  part.low = part.low != NULL ? part.low + row * lhs->stride : NULL;
  part.scale += row * lhs->blocks;
  part.zero_point += row * lhs->blocks;
  part.sum = part.sum != NULL ? part.sum + row : NULL;
  return part;
}

/* Panels of range `index`. */
static void range_of_panels(const run *r, size_t index, size_t *panel, size_t *end) {
  const size_t panels = r->gemm->weight->panels, together = r->panels_together;
  dynq_share((panels + together - 1) / together, r->panel_blocks, index, panel, end);
  *panel *= together;
  *end = *end * together < panels ? *end * together : panels;
}

/* Blocks of rows, quantized and multiplied by all panels. */
static void rows_task(void *arg, size_t worker) {
  run *r = arg;
  const dynq_gemm *g = r->gemm;
  dynq_lhs lhs = own_lhs(r, worker, r->block_rows);
  for (size_t piece; take(r, worker, &piece) && !dynq_interrupted();) {
    size_t row, end;
    dynq_share(g->m, r->row_blocks, piece, &row, &end);
    const bool finite = fill(r, &lhs, row, end - row);
    note(r, finite, dynq_gemm_block(g, &lhs, row, end - row, 0, g->weight->panels));
  }
}

/* All rows, quantized where this worker has anything to do, multiplied by ranges of panels. */
static void own_panels_task(void *arg, size_t worker) {
  run *r = arg;
  const dynq_gemm *g = r->gemm;
  size_t piece, panel, end;
  if (!take(r, worker, &piece)) {
    return;
  }
  dynq_lhs lhs = own_lhs(r, worker, g->m);
  note(r, fill(r, &lhs, 0, g->m), true);
  do {
    range_of_panels(r, piece, &panel, &end);
    note(r, true, dynq_gemm_block(g, &lhs, 0, g->m, panel, end));
  } while (take(r, worker, &piece) && !dynq_interrupted());
}

/* Quantizes a share of the rows for all. */
static void fill_task(void *arg, size_t worker) {
  run *r = arg;
  size_t row, end;
  dynq_share(r->gemm->m, r->workers, worker, &row, &end);
  dynq_lhs part = rows_of(&r->shared, row);
  note(r, fill(r, &part, row, end - row), true);
}

/* Blocks of these rows times ranges of panels, the blocks of one range after each other. */
static void shared_panels_task(void *arg, size_t worker) {
  run *r = arg;
  for (size_t piece; take(r, worker, &piece) && !dynq_interrupted();) {
    size_t row, row_end, panel, end;
    dynq_share(r->gemm->m, r->row_blocks, piece % r->row_blocks, &row, &row_end);
    range_of_panels(r, piece / r->row_blocks, &panel, &end);
    const dynq_lhs part = rows_of(&r->shared, row);
    note(r, true, dynq_gemm_block(r->gemm, &part, row, row_end - row, panel, end));
  }
}

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

/* Time to read all weights once. */
static size_t reading(const dynq_gemm *g) {
  const size_t bytes = g->weight->info.data_bytes;
  return bytes / (g->in_model || bytes > dynq_cache_share() ? FROM_L3 : FROM_L2);
}

static size_t threads_worth_it(const dynq_gemm *g) {
  const size_t rows = dynq_size_mul(g->m, g->source.bits16 ? 2 : 1);
  const size_t multiplying = dynq_size_mul(rows, g->weight->info.data_bytes) / g->kernels->gemm->macs_per_nanosecond;
  const size_t least = reading(g);
  return (multiplying > least ? multiplying : least) / WORTH_A_THREAD;
}

/* By rows each worker reads all weights; by panels all rows must come to each. */
static split choose(const dynq_gemm *g, size_t workers, size_t k) {
  const size_t elements = g->m * k;
  const bool own = elements <= OWN_ELEMENTS;
  const size_t others = g->in_model ? elements / 2 / FROM_ANOTHER_CORE : 0; /* rows that other threads computed */
  const size_t by_panels = own ? elements / QUANTIZE + others : elements / FROM_ANOTHER_CORE + MEETING;
  const bool fill_tiles = g->m >= workers * g->kernels->gemm->rows / 2;
  if (workers == 1 || (fill_tiles && reading(g) <= by_panels)) {
    return BY_ROWS;
  }
  return own ? BY_PANELS_OWN : BY_PANELS_SHARED;
}

/* Splits the work, and finds the memory that this takes. */
static void plan(run *r, size_t count) {
  const dynq_gemm *g = r->gemm;
  const size_t m = g->m, panels = g->weight->panels, tile_rows = g->kernels->gemm->rows;
  const size_t threads = threads_worth_it(g);
  r->k = g->weight->info.k;
  r->workers = threads > 1 ? at_most(count, threads) : 1;
  r->split = choose(g, r->workers, r->k);
  const size_t fitting = dynq_cache_share() / (r->k + 1) / tile_rows * tile_rows;
  r->block_rows = at_most(fitting != 0 ? fitting : tile_rows, m);
  r->row_blocks = (m + r->block_rows - 1) / r->block_rows;
  if (r->split == BY_ROWS) { /* as many for each worker */
    r->row_blocks = at_most((r->row_blocks + r->workers - 1) / r->workers * r->workers, m);
    r->block_rows = (m + r->row_blocks - 1) / r->row_blocks;
    r->pieces = r->row_blocks;
  } else {
    r->panels_together = panels >= 2 * PANELS_TOGETHER * r->workers ? PANELS_TOGETHER : 1;
    r->panel_blocks = at_most((panels + r->panels_together - 1) / r->panels_together, r->workers * PIECES_OF_WORKER);
    r->pieces = r->panel_blocks * (r->split == BY_PANELS_SHARED ? r->row_blocks : 1);
  }
  const bool own = r->split != BY_PANELS_SHARED;
  r->memory_each = lhs_bytes(r, r->split == BY_ROWS ? r->block_rows : m);
  r->memory_bytes = dynq_size_add(dynq_size_mul(own ? r->workers : 1, r->memory_each), r->workers * sizeof *r->turns);
}

static void go(run *r, const dynq_threads *threads) {
  for (size_t i = 0; i < r->workers; i++) {
    atomic_init(&r->turns[i].next, 0);
  }
  switch (r->split) {
  case BY_ROWS:
    dynq_parallel(threads, r->workers, rows_task, r, r->workers);
    break;
  case BY_PANELS_OWN:
    dynq_parallel(threads, r->workers, own_panels_task, r, r->workers);
    break;
  case BY_PANELS_SHARED:
    r->shared = place(r, r->memory, r->gemm->m);
    dynq_parallel(threads, r->workers, fill_task, r, r->workers);
    dynq_parallel(threads, r->workers, shared_panels_task, r, r->workers);
    break;
  }
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
  char *memory = r.memory_bytes <= SMALL_BYTES ? small : gemm->memory;
  if (memory == NULL) {
    memory = dynq_alloc(r.memory_bytes);
    if (memory == NULL) {
      return dynq_fail_memory(r.memory_bytes);
    }
  }
  r.turns = (turn *)(void *)memory;
  r.memory = memory + r.workers * sizeof *r.turns;
  go(&r, threads);
  if (memory != small && memory != gemm->memory) {
    dynq_free(memory);
  }
  if (atomic_load(&r.overflow)) {
    return dynq_fail(DYNQ_ERROR_OVERFLOW, "acc: a sum over k = %zu does not fit into int32", r.k);
  }
  return atomic_load(&r.nonfinite) ? dynq_fail(DYNQ_NONFINITE, "x holds a NaN or an infinity") : DYNQ_OK;
}
