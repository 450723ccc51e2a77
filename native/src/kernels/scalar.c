/*
 * scalar: portable C, one value at a time. The reference that every other ISA equals bit for bit.
 */
#include "common/vec_scalar.h"

#include "common/vector.h"

static void tile(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs,
                 size_t panel_stride, int32_t *acc, size_t acc_stride) {
  for (size_t i = 0; i < m; i++) {
    const uint8_t *row = lhs + i * lhs_stride;
    for (size_t p = 0; p < panels; p++) {
      const int8_t *w = rhs + p * panel_stride;
      uint32_t sums[DYNQ_PANEL] = {0};
      for (size_t g = 0; g < groups; g++) {
        for (size_t c = 0; c < DYNQ_PANEL; c++) {
          for (size_t k = 0; k < DYNQ_GROUP; k++) {
            sums[c] += (uint32_t)(row[g * DYNQ_GROUP + k] * w[(g * DYNQ_PANEL + c) * DYNQ_GROUP + k]);
          }
        }
      }
      memcpy(acc + i * acc_stride + p * DYNQ_PANEL, sums, sizeof sums);
    }
  }
}

static const dynq_gemm_kernels gemm = {
    .rows = 4, .panels = 1, .macs_per_nanosecond = 3, .lhs_signed = false, .tile = tile};

const dynq_isa_kernels dynq_isa_scalar = {.gemm = &gemm, .vector = DYNQ_VECTOR_KERNELS};
