/*
 * The gemm tile of one ISA against a plain triple loop, bit for bit.
 */
#include "check_kernels.h"

#include <string.h>

typedef struct tile_case {
  size_t m, panels, groups, lhs_stride, panel_stride, acc_stride;
} tile_case;

static void reference_tile(const dynq_gemm_kernels *gemm, const tile_case *c, const uint8_t *lhs, const int8_t *rhs,
                           int32_t *acc) {
  for (size_t i = 0; i < c->m; i++) {
    for (size_t j = 0; j < c->panels * DYNQ_PANEL; j++) {
      const int8_t *w = rhs + j / DYNQ_PANEL * c->panel_stride + j % DYNQ_PANEL * DYNQ_GROUP;
      uint32_t sum = 0;
      for (size_t k = 0; k < c->groups * DYNQ_GROUP; k++) {
        const uint8_t byte = lhs[i * c->lhs_stride + k];
        const int32_t a = gemm->lhs_signed ? (int8_t)byte : byte;
        sum += (uint32_t)(a * w[k / DYNQ_GROUP * DYNQ_PANEL * DYNQ_GROUP + k % DYNQ_GROUP]);
      }
      memcpy(&acc[i * c->acc_stride + j], &sum, sizeof sum);
    }
  }
}

/* add: the products of `expected`, onto sums that were there. */
static void add_case(const dynq_gemm_kernels *gemm, const tile_case *c, const uint8_t *lhs, const int8_t *rhs,
                     int32_t *expected, int32_t *acc, size_t acc_count) {
  fill_bytes(BYTES_RANDOM, acc, acc_count * sizeof *acc);
  for (size_t i = 0; i < c->m; i++) {
    for (size_t j = 0; j < c->acc_stride && i * c->acc_stride + j < acc_count; j++) {
      const size_t at = i * c->acc_stride + j;
      const uint32_t sum = (uint32_t)acc[at] + (j < c->panels * DYNQ_PANEL ? (uint32_t)expected[at] : 0);
      memcpy(&expected[at], &sum, sizeof sum);
    }
  }
  gemm->add(c->m, c->panels, c->groups, lhs, c->lhs_stride, rhs, c->panel_stride, acc, c->acc_stride);
  check_same("acc, added to", CHECK_S32, expected, acc, acc_count);
}

static void run_case(const dynq_gemm_kernels *gemm, tile_case c, int lhs_fill, int rhs_fill) {
  static int32_t expected[DYNQ_MAX_TILE_ROWS * 12 * DYNQ_PANEL];
  const size_t row_bytes = c.groups * DYNQ_GROUP, panel_bytes = c.groups * DYNQ_PANEL * DYNQ_GROUP;
  c.lhs_stride = row_bytes + random_below(3) * random_below(20) * 4;
  c.panel_stride = panel_bytes + random_below(2) * random_below(5) * 64;
  c.acc_stride = (c.panels + random_below(2) * random_below(3)) * DYNQ_PANEL;
  const size_t lhs_bytes = span(c.m, row_bytes, c.lhs_stride);
  const size_t rhs_bytes = span(c.panels, panel_bytes, c.panel_stride);
  const size_t acc_count = span(c.m, c.panels * DYNQ_PANEL, c.acc_stride);
  uint8_t *lhs = guarded(lhs_bytes, 4);
  int8_t *rhs = guarded(rhs_bytes, 64);
  int32_t *acc = guarded(acc_count * sizeof *acc, 64);
  fill_bytes(lhs_fill, lhs, lhs_bytes);
  fill_bytes(rhs_fill, rhs, rhs_bytes);
  check_case("m %zu, panels %zu, groups %zu, lhs_stride %zu, panel_stride %zu, acc_stride %zu, fills %d and %d", c.m,
             c.panels, c.groups, c.lhs_stride, c.panel_stride, c.acc_stride, lhs_fill, rhs_fill);
  memcpy(expected, acc, acc_count * sizeof *acc);
  reference_tile(gemm, &c, lhs, rhs, expected);
  gemm->tile(c.m, c.panels, c.groups, lhs, c.lhs_stride, rhs, c.panel_stride, acc, c.acc_stride);
  check_same("acc", CHECK_S32, expected, acc, acc_count);
  if (gemm->add != NULL && c.m >= gemm->rows / 2) {
    add_case(gemm, &c, lhs, rhs, expected, acc, acc_count);
  }
  guards_release();
}

void check_gemm_kernels(const dynq_kernels *kernels, bool quick) {
  const dynq_gemm_kernels *gemm = kernels->gemm;
  static const int pairs[][2] = {
      {BYTES_255, BYTES_127},      {BYTES_255, BYTES_NEGATIVE_128},  {BYTES_NEGATIVE_128, BYTES_NEGATIVE_128},
      {BYTES_127, BYTES_127},      {BYTES_EXTREMES, BYTES_EXTREMES}, {BYTES_SPARSE, BYTES_SPARSE},
      {BYTES_RANDOM, BYTES_RANDOM}};
  enum { PAIRS = sizeof pairs / sizeof pairs[0] };
  check_begin(kernels->name, "gemm_tile");
  CHECK(gemm->rows >= 1 && gemm->rows <= DYNQ_MAX_TILE_ROWS && gemm->panels >= 1);
  CHECK((gemm->add != NULL) == (gemm->block_groups != 0) && gemm->block_groups % 16 == 0);
  if (gemm->enter != NULL) {
    gemm->enter();
  }
  for (size_t m = 1; m <= gemm->rows; m++) {
    for (size_t groups = 0; groups <= (quick ? 20 : 70); groups++) {
      const size_t pair = random_below(PAIRS);
      run_case(gemm, (tile_case){.m = m, .panels = random_between(1, 5), .groups = groups}, pairs[pair][0],
               pairs[pair][1]);
      run_case(gemm, (tile_case){.m = m, .panels = random_between(1, 3), .groups = groups}, BYTES_RANDOM, BYTES_RANDOM);
    }
    for (size_t pair = 0; !quick && pair < PAIRS; pair++) {
      run_case(gemm, (tile_case){.m = m, .panels = random_between(1, 9), .groups = random_between(71, 150)},
               pairs[pair][0], pairs[pair][1]);
    }
    if (!quick) {
      run_case(gemm, (tile_case){.m = m, .panels = 2, .groups = random_between(200, 600)}, BYTES_RANDOM, BYTES_RANDOM);
    }
  }
  if (!quick) {
    /* The longest sum that fits, and one that wraps around. */
    run_case(gemm, (tile_case){.m = 1, .panels = 1, .groups = 16384}, BYTES_255, BYTES_NEGATIVE_128);
    run_case(gemm, (tile_case){.m = gemm->rows, .panels = 2, .groups = 17000}, BYTES_255, BYTES_127);
    run_case(gemm, (tile_case){.m = 1, .panels = 1, .groups = 33000}, BYTES_255, BYTES_NEGATIVE_128);
  }
  if (gemm->leave != NULL) {
    gemm->leave();
  }
  check_end();
}
