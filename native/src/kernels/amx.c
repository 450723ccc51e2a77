/*
 * amx: 8 tiles of 16 rows of 64 bytes, multiplied whole (Sapphire Rapids).
 *
 *   instruction              latency  cycles each   (Intel 64 and IA-32 Architectures Optimization Reference Manual,
 *                                                    chapter on Intel AMX)
 *   tdpbusd                  52       16            16 384 products u8 * s8, added by fours to int32: exact
 *   tileloadd                45       8             16 rows of a cache line
 *   tilestored                        16
 *   tilezero                          0
 *   ldtilecfg                204                    also zeroes the tiles
 *
 * 16 panel rows (16 channels of 64 k) are one tile as they lie in memory, and 16 rows of 64 bytes of the left operand
 * another, so nothing is packed or copied.
 *   17 to 32 rows: 2 x 2 tiles of sums, 2 of the left operand, 2 of weights: all 8. A step of 64 k is 4 tdpbusd (64
 *     cycles) for 4 tileloadd (32 cycles), so the bound is 1024 MAC a cycle; what a step reads is 4 KB in 64 cycles.
 *   2 to 16 rows: 1 x 4 tiles of sums; the tile of weights bounds 4 tdpbusd by 5 tileloadd (40 cycles). A tile that is
 *     mostly empty takes as long as a full one and yet less than vpdpbusd. Measured on a Xeon with weights in L2, a panel
 *     row takes 0.47 ns with 2 to 12 rows, in few_rows 0.38 with 1 row, 0.44 with 2, 0.5 with 3 and 0.7 with 4.
 *   1 row: the few_rows of avx512vnni.c.
 * Ragged rows are shapes of tiles. If K is no multiple of 64, the last step takes the last 64 k again, with zeros on
 * the left for those that were multiplied before. So one configuration serves the whole K: another would cost as much
 * as three steps. K below 64 is a shape, too.
 *
 * The bounds of the loops below, for whole tiles, whose multiplications outlast the loads:
 *
 *   bound, MAC a cycle   sapphirerapids
 *   step_two(P)          1024
 *   step_one(P)          1024
 *
 * The configuration is that of the thread until leave(): a caller never finds tiles in use.
 * The vector kernels are those of the next instruction set in the list.
 */
#include "kernels.h"

#include "common/inline.h"
#include "common/stream_avx512vnni.h"

enum {
  TILE_ROWS = 16, /* of a tile; of weights: groups */
  LINE = 64,      /* bytes of a tile's row */
  TILE_BYTES = TILE_ROWS * LINE
};

/* In assembly, since the compilers' intrinsics do not tell that memory is read or written. */
#define LOAD(t, p, stride)                                                                                             \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(p), "r"((size_t)(stride)) : "memory")
#define STORE(t, p, stride)                                                                                            \
  __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(p), "r"((size_t)(stride)) : "memory")
#define ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define MULTIPLY(sum, left, weights) __asm__ volatile("tdpbusd %%tmm" #weights ", %%tmm" #left ", %%tmm" #sum : :)

/* The bytes that ldtilecfg reads (Intel SDM volume 2, LDTILECFG). */
typedef struct tile_configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_configuration;
_Static_assert(sizeof(tile_configuration) == 64, "ldtilecfg reads 64 bytes");

/* m * 32 + groups of the configuration that this thread has loaded; 0: none. */
static _Thread_local size_t loaded;

/* Tiles 0 to 3 are sums, 4 the left operand. Up to 16 rows, 5 to 7 are weights; beyond, 5 is the left operand's other
 * rows, whose sums are 2 and 3. */
static void configure(size_t m, size_t groups) {
  if (loaded == m * 32 + groups) {
    return;
  }
  loaded = m * 32 + groups;
  const bool two = m > TILE_ROWS;
  const uint8_t first = (uint8_t)(two ? TILE_ROWS : m), other = (uint8_t)(two ? m - TILE_ROWS : m);
  tile_configuration c = {.palette = 1};
  for (size_t t = 0; t < 8; t++) {
    const bool left = t == 4 || (t == 5 && two);
    c.row_bytes[t] = (uint16_t)(left ? groups * DYNQ_GROUP : LINE);
    c.rows[t] = t < 2 || t == 4 ? first : t < 4 || left ? other : (uint8_t)groups;
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(c));
}

static void leave(void) {
  if (loaded != 0) {
    __asm__ volatile("tilerelease" : :);
    loaded = 0;
  }
}

/* The way of one call through K. */
typedef struct steps {
  size_t count;        /* whole steps, LINE bytes of the left operand apart */
  const uint8_t *last; /* left operand of a ragged step after them, rows LINE bytes apart; NULL: there is none */
  size_t last_weights; /* where its weights begin in a panel */
} steps;

/* 2 x P tiles. */
V_INLINE void step_two(const size_t P, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs, size_t panel_stride) {
  LOAD(4, lhs, lhs_stride);
  LOAD(6, rhs, LINE);
  MULTIPLY(0, 4, 6);
  LOAD(5, lhs + TILE_ROWS * lhs_stride, lhs_stride);
  MULTIPLY(2, 5, 6);
  if (P == 2) {
    LOAD(7, rhs + panel_stride, LINE);
    MULTIPLY(1, 4, 7);
    MULTIPLY(3, 5, 7);
  }
}

V_INLINE void tiles_two(const size_t P, bool add, const steps *k, const uint8_t *lhs, size_t lhs_stride,
                        const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  int32_t *const other = acc + TILE_ROWS * acc_stride;
  const size_t stride = acc_stride * sizeof *acc;
  if (!add) {
    ZERO(0);
    ZERO(1);
    ZERO(2);
    ZERO(3);
  } else {
    LOAD(0, acc, stride);
    LOAD(2, other, stride);
    if (P == 2) {
      LOAD(1, acc + DYNQ_PANEL, stride);
      LOAD(3, other + DYNQ_PANEL, stride);
    }
  }
  for (size_t s = 0; s < k->count; s++) {
    step_two(P, lhs + s * LINE, lhs_stride, rhs + s * TILE_BYTES, panel_stride);
  }
  if (k->last != NULL) {
    step_two(P, k->last, LINE, rhs + k->last_weights, panel_stride);
  }
  STORE(0, acc, stride);
  STORE(2, other, stride);
  if (P == 2) {
    STORE(1, acc + DYNQ_PANEL, stride);
    STORE(3, other + DYNQ_PANEL, stride);
  }
}

/* 1 x P tiles. */
V_INLINE void step_one(const size_t P, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs, size_t panel_stride) {
  LOAD(4, lhs, lhs_stride);
  LOAD(5, rhs, LINE);
  MULTIPLY(0, 4, 5);
  if (P >= 2) {
    LOAD(6, rhs + panel_stride, LINE);
    MULTIPLY(1, 4, 6);
  }
  if (P >= 3) {
    LOAD(7, rhs + 2 * panel_stride, LINE);
    MULTIPLY(2, 4, 7);
  }
  if (P >= 4) {
    LOAD(5, rhs + 3 * panel_stride, LINE);
    MULTIPLY(3, 4, 5);
  }
}

V_INLINE void tiles_one(const size_t P, bool add, const steps *k, const uint8_t *lhs, size_t lhs_stride,
                        const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const size_t stride = acc_stride * sizeof *acc;
  if (!add) {
    ZERO(0);
    ZERO(1);
    ZERO(2);
    ZERO(3);
  } else {
    LOAD(0, acc, stride);
    if (P >= 2) {
      LOAD(1, acc + DYNQ_PANEL, stride);
    }
    if (P >= 3) {
      LOAD(2, acc + 2 * DYNQ_PANEL, stride);
    }
    if (P >= 4) {
      LOAD(3, acc + 3 * DYNQ_PANEL, stride);
    }
  }
  for (size_t s = 0; s < k->count; s++) {
    step_one(P, lhs + s * LINE, lhs_stride, rhs + s * TILE_BYTES, panel_stride);
  }
  if (k->last != NULL) {
    step_one(P, k->last, LINE, rhs + k->last_weights, panel_stride);
  }
  STORE(0, acc, stride);
  if (P >= 2) {
    STORE(1, acc + DYNQ_PANEL, stride);
  }
  if (P >= 3) {
    STORE(2, acc + 2 * DYNQ_PANEL, stride);
  }
  if (P >= 4) {
    STORE(3, acc + 3 * DYNQ_PANEL, stride);
  }
}

/* The last 64 bytes of each row, with zeros for all but the last `bytes` of them. */
static void copy_last(size_t m, size_t bytes, const uint8_t *end, size_t lhs_stride, uint8_t *to) {
  const __mmask64 kept = ~(__mmask64)0 << (LINE - bytes);
  for (size_t i = 0; i < m; i++) {
    _mm512_store_si512(to + i * LINE, _mm512_maskz_loadu_epi8(kept, end + i * lhs_stride - LINE));
  }
}

/* At least 2 rows and one group. */
static void multiply(bool add, size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                     const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  _Alignas(LINE) uint8_t last[DYNQ_MAX_TILE_ROWS * LINE];
  const size_t ragged = groups > TILE_ROWS ? groups % TILE_ROWS : 0;
  steps k = {.count = groups > TILE_ROWS ? groups / TILE_ROWS : 1};
  if (ragged != 0) {
    copy_last(m, ragged * DYNQ_GROUP, lhs + groups * DYNQ_GROUP, lhs_stride, last);
    k.last = last;
    k.last_weights = (groups - TILE_ROWS) * LINE;
  }
  configure(m, groups < TILE_ROWS ? groups : TILE_ROWS);
  size_t step;
  for (; panels != 0; panels -= step, rhs += step * panel_stride, acc += step * DYNQ_PANEL) {
    const size_t most = m > TILE_ROWS ? 2 : 4;
    step = panels < most ? panels : most;
    if (m > TILE_ROWS) {
      if (step == 2) {
        tiles_two(2, add, &k, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
      } else {
        tiles_two(1, add, &k, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
      }
      continue;
    }
    switch (step) {
    case 1:
      tiles_one(1, add, &k, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
      break;
    case 2:
      tiles_one(2, add, &k, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
      break;
    case 3:
      tiles_one(3, add, &k, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
      break;
    default:
      tiles_one(4, add, &k, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
      break;
    }
  }
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  if (m == 1) {
    stream_tile(m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  } else if (groups == 0) {
    for (size_t i = 0; i < m; i++) {
      memset(acc + i * acc_stride, 0, panels * DYNQ_PANEL * sizeof *acc);
    }
  } else {
    multiply(false, m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
}

static void add(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                size_t panel_stride, int32_t *acc, size_t acc_stride) {
  if (groups != 0) {
    multiply(true, m, panels, groups, lhs, lhs_stride, rhs, panel_stride, acc, acc_stride);
  }
}

/* 4 sums cover a latency of 52 at one in 16 cycles. */
static uint64_t peak(uint64_t rounds) {
  configure(2 * TILE_ROWS, TILE_ROWS);
  for (uint64_t r = 0; r < rounds; r++) {
    MULTIPLY(0, 4, 6);
    MULTIPLY(1, 4, 7);
    MULTIPLY(2, 5, 6);
    MULTIPLY(3, 5, 7);
  }
  leave();
  return rounds * 4 * TILE_ROWS * DYNQ_PANEL * LINE;
}

static const dynq_gemm_kernels gemm = {.rows = 2 * TILE_ROWS,
                                       .panels = 2,
                                       .macs_per_nanosecond = 1000,
                                       .lhs_signed = false,
                                       .leave = leave,
                                       .tile = tile,
                                       .add = add,
                                       .block_groups = 192,
                                       .peak = peak};

const dynq_isa_kernels dynq_isa_amx = {.gemm = &gemm};
