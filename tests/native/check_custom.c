/*
 * Kernels made here, put under the public functions: tile shapes, a signed left operand and hooks that no
 * instruction set of this machine may have. The results are the same bits.
 */
#include "check_kernels.h"

#include <stdatomic.h>
#include <string.h>

/* ---- A tile that keeps to its contract and complains where the caller does not ---- */

static size_t tile_rows;
static bool tile_signed;
static _Atomic size_t broken_contracts;
static _Atomic size_t entered, left;
static _Thread_local int depth;

static void enter(void) {
  atomic_fetch_add(&entered, 1);
  depth++;
}

static void leave(void) {
  atomic_fetch_add(&left, 1);
  depth--;
}

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const bool aligned = (uintptr_t)lhs % 4 == 0 && lhs_stride % 4 == 0 && (uintptr_t)rhs % 64 == 0 &&
                       panel_stride % 64 == 0 && (uintptr_t)acc % 64 == 0 && acc_stride % 16 == 0;
  if (m < 1 || m > tile_rows || panels < 1 || depth != 1 || !aligned) {
    atomic_fetch_add(&broken_contracts, 1);
  }
  for (size_t i = 0; i < m; i++) {
    for (size_t j = 0; j < panels * DYNQ_PANEL; j++) {
      const int8_t *w = rhs + j / DYNQ_PANEL * panel_stride + j % DYNQ_PANEL * DYNQ_GROUP;
      uint32_t sum = 0;
      for (size_t k = 0; k < groups * DYNQ_GROUP; k++) {
        const uint8_t byte = lhs[i * lhs_stride + k];
        sum += (uint32_t)((tile_signed ? (int8_t)byte : byte) *
                          w[k / DYNQ_GROUP * DYNQ_PANEL * DYNQ_GROUP + k % DYNQ_GROUP]);
      }
      memcpy(&acc[i * acc_stride + j], &sum, sizeof sum);
    }
  }
}

static void check_shape(const dynq_kernels *scalar, const char *name, size_t rows, size_t panels, bool lhs_signed) {
  const dynq_gemm_kernels gemm = {.rows = rows,
                                  .panels = panels,
                                  .macs_per_nanosecond = 1,
                                  .lhs_signed = lhs_signed,
                                  .enter = enter,
                                  .leave = leave,
                                  .tile = tile};
  const dynq_kernels kernels = {.name = name, .gemm = &gemm, .vector = scalar->vector};
  tile_rows = rows;
  tile_signed = lhs_signed;
  atomic_store(&broken_contracts, 0);
  dynq_kernels_override(&kernels);
  check_library(name, false);
  check_wide(name);
  check_begin(name, "hooks, tile's contract");
  check_case("entered %zu times, left %zu times", atomic_load(&entered), atomic_load(&left));
  CHECK(atomic_load(&entered) != 0 && atomic_load(&entered) == atomic_load(&left) && depth == 0);
  CHECK(atomic_load(&broken_contracts) == 0);
  check_end();
  (void)dynq_isa_select(NULL);
}

void check_custom(const dynq_kernels *scalar) {
  check_shape(scalar, "(3x1 s8)", 3, 1, true);
  check_shape(scalar, "(32x4 u8)", DYNQ_MAX_TILE_ROWS, 4, false);
  check_shape(scalar, "(1x3 s8)", 1, 3, true);
}
