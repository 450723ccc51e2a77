/*
 * The left operand as the GEMM kernels read it: quantized rows, padded, with what the epilogue needs of each.
 */
#ifndef DYNQ_LHS_H
#define DYNQ_LHS_H

#include "../base/dispatch.h"

typedef struct dynq_lhs {
  uint8_t *data;       /* (rows, stride): u8 or s8 as the ISA asks, zero after K up to a multiple of 4 */
  size_t stride;       /* bytes */
  float *scale;        /* (rows); NaN: the row was not finite */
  int32_t *zero_point; /* (rows), in the integers of data */
  int32_t *sum;        /* (rows) sums of data over k; NULL if no one asks */
  /* lhs_fine.h alone: */
  uint8_t *low;  /* (rows, stride) the lower bytes of 16 bits, where data has the upper ones; NULL: 8 bits */
  size_t blocks; /* scales and zero-points of each row */
} dynq_lhs;

/* Bytes of a left operand of `rows` rows, with its arrays; a multiple of 64, SIZE_MAX on overflow. */
size_t dynq_lhs_bytes(size_t rows, size_t k);
/* Lays it out in `memory`, which is 64-byte aligned. */
void dynq_lhs_place(dynq_lhs *lhs, void *memory, size_t rows, size_t k, bool sums);

/* Rows and how to quantize them. */
typedef struct dynq_lhs_source {
  const float *x; /* float32, or ... */
  size_t x_stride;
  dynq_scheme scheme;
  bool per_row;
  bool fixed;         /* not per_row, and from a range that was given: whether rows are finite is not known yet */
  bool bits16;        /* 16 bits instead of 8 */
  size_t group;       /* values of a row that share a scale, a multiple of 4 up to 256; 0: all */
  float scale;        /* used if not per_row; NaN: the tensor was not finite */
  int32_t zero_point; /* as the ISA's integers */
  const uint8_t *q;   /* ... integers of `type`, with zero-points (or NULL: all 0), per row or one */
  size_t q_stride;
  dynq_type type;
  const int32_t *q_zero_point;
} dynq_lhs_source;

/* Per tensor: one range over all m rows of source->x for all of them. */
void dynq_lhs_use_tensor_range(dynq_lhs_source *source, const dynq_kernels *kernels, const dynq_threads *threads,
                               size_t count, size_t m, size_t k);

/* One range, given by the caller, for all rows; values outside are clamped to it. */
void dynq_lhs_use_range(dynq_lhs_source *source, const dynq_kernels *kernels, float lo, float hi);

/* Fills rows [0, rows) of `lhs` from rows [row, row + rows) of the source; false if one was not finite. */
bool dynq_lhs_fill(dynq_lhs *lhs, const dynq_kernels *kernels, const dynq_lhs_source *source, size_t row, size_t rows,
                   size_t k);

static inline dynq_type dynq_lhs_type(const dynq_kernels *kernels) {
  return kernels->gemm->lhs_signed ? DYNQ_S8 : DYNQ_U8;
}

#endif
