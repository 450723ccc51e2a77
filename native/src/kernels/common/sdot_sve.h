/*
 * Rows times panels with the byte dot product of SVE, at any vector length, for the instruction sets that have SVE.
 *
 * A panel row (16 channels of 4 k, 64 bytes) is 4 vectors at 128 bits, 2 at 256, one at 512 and more; predicates end
 * the vectors that it does not fill. The left operand's 4 bytes are broadcast by a load (ld1rw) and not taken by lane:
 * on A64FX sdot by lane takes both pipes.
 *
 * A full tile is 24 sums, rows x vectors: 6 x 4 at 128 bits, 12 x 2 at 256, from 512 on 12 x one of each of two panels.
 * A step of k is R * V sdot and R + V loads: on Neoverse V1 (256 bits) 2 and 2 a cycle, on N2 and V2 (128 bits) 2 and 4
 * sdot and 3 loads.
 *
 *   bound, MAC a cycle   neoverse-v1
 *   sve_rows(R, S, 2)    min(64, 128R / (2 + R))
 *
 *   bound, MAC a cycle   neoverse-n2              neoverse-v2
 *   sve_rows(R, S, 4)    min(32, 192R / (4 + R))  min(64, 192R / (4 + R))
 *
 * Types without a size cannot be in arrays, so the sums have names: s<slot><vector>. A slot is a row, or one of S steps
 * of k of a row: few rows have sums of their own for each step, which cover the latency.
 */
#ifndef DYNQ_SDOT_SVE_H
#define DYNQ_SDOT_SVE_H

#include "../kernels.h"
#include "inline.h"
#include "registers.h"

#include <arm_sve.h>
#include <string.h>

enum { SVE_ROWS = 12, SVE_PANELS = 2, SVE_ROW_BYTES = DYNQ_PANEL * DYNQ_GROUP };

/* The places of a tile's vectors. Vector v begins v * bytes after the weights, v * elements after acc and v * begin in
 * its panel row, of which it holds what there is. */
typedef struct sve_columns {
  size_t bytes, elements, begin;
} sve_columns;

V_INLINE svint8_t broadcast_four(const uint8_t *p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return svreinterpret_s8_s32(svdup_n_s32(four));
}

/* Keeps the compiler from loading all operands of several steps first, which takes more registers than there are. */
#define LOAD_NO_EARLIER __asm__ volatile("" ::: "memory")

#define EACH_SLOT(DO)                                                                                                  \
  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
/* Last first, each with the one before. */
#define EACH_LATER_SLOT(DO)                                                                                            \
  DO(15, 14)                                                                                                           \
  DO(14, 13)                                                                                                           \
  DO(13, 12)                                                                                                           \
  DO(12, 11) DO(11, 10) DO(10, 9) DO(9, 8) DO(8, 7) DO(7, 6) DO(6, 5) DO(5, 4) DO(4, 3) DO(3, 2) DO(2, 1) DO(1, 0)

#define DECLARE_SLOT(i) svint32_t s##i##0 = svdup_n_s32(0), s##i##1 = s##i##0, s##i##2 = s##i##0, s##i##3 = s##i##0;

/* sum += products, in assembly, since GCC 12 takes the intrinsic's sum through a second register now and then. */
#define ADD_PRODUCTS(sum, w, a) __asm__("sdot %0.s, %1.b, %2.b" : "+w"(sum) : "w"(w), "w"(a))

/* Four bytes of the row times the panel row that w0 to w3 hold. */
#define MULTIPLY_SLOT(i)                                                                                               \
  if (i < R * S && i % S == step % S) {                                                                                \
    const svint8_t a = broadcast_four(row[i / S] + (g + step) * DYNQ_GROUP);                                           \
    ADD_PRODUCTS(s##i##0, w0, a);                                                                                      \
    if (V > 1) {                                                                                                       \
      ADD_PRODUCTS(s##i##1, w1, a);                                                                                    \
    }                                                                                                                  \
    if (V > 2) {                                                                                                       \
      ADD_PRODUCTS(s##i##2, w2, a);                                                                                    \
      ADD_PRODUCTS(s##i##3, w3, a);                                                                                    \
    }                                                                                                                  \
    LOAD_NO_EARLIER;                                                                                                   \
  }

#define MULTIPLY_GROUP(steps)                                                                                          \
  _Pragma("GCC unroll 8") for (size_t step = 0; step < (steps); step++) {                                              \
    const int8_t *w = rhs + (g + step) * SVE_ROW_BYTES;                                                                \
    const svint8_t w0 = svld1_s8(in0, w);                                                                              \
    const svint8_t w1 = V > 1 ? svld1_s8(in1, w + columns.bytes) : w0;                                                 \
    const svint8_t w2 = V > 2 ? svld1_s8(all, w + 2 * columns.bytes) : w0;                                             \
    const svint8_t w3 = V > 2 ? svld1_s8(all, w + 3 * columns.bytes) : w0;                                             \
    EACH_SLOT(MULTIPLY_SLOT)                                                                                           \
  }

/* Adds slot `i` to the one before where it is a later step of the same row. */
#define ADD_SLOT(i, before)                                                                                            \
  if (i < R * S && i % S != 0) {                                                                                       \
    s##before##0 = svadd_s32_x(all, s##before##0, s##i##0);                                                            \
    s##before##1 = svadd_s32_x(all, s##before##1, s##i##1);                                                            \
    s##before##2 = svadd_s32_x(all, s##before##2, s##i##2);                                                            \
    s##before##3 = svadd_s32_x(all, s##before##3, s##i##3);                                                            \
  }

#define STORE_SLOT(i)                                                                                                  \
  if (i < R * S && i % S == 0) {                                                                                       \
    int32_t *const to = acc + i / S * acc_stride;                                                                      \
    svst1_s32(out0, to, s##i##0);                                                                                      \
    if (V > 1) {                                                                                                       \
      svst1_s32(out1, to + columns.elements, s##i##1);                                                                 \
    }                                                                                                                  \
    if (V > 2) {                                                                                                       \
      svst1_s32(all, to + 2 * columns.elements, s##i##2);                                                              \
      svst1_s32(all, to + 3 * columns.elements, s##i##3);                                                              \
    }                                                                                                                  \
  }

/* R rows x V vectors (1, 2 or, at 128 bits, 4, all full), S steps of k at a time; R * S at most 16, R * S * V at most
 * 28. */
V_INLINE void sve_rows(const size_t R, const size_t S, const size_t V, sve_columns columns, size_t groups,
                       const uint8_t *lhs, size_t lhs_stride, const int8_t *rhs, int32_t *acc, size_t acc_stride) {
  const size_t unroll = S < 4 ? 4 : S, begin = columns.begin, channel = begin / DYNQ_GROUP;
  const svbool_t all = svptrue_b8();
  const svbool_t in0 = svwhilelt_b8_u64(0, SVE_ROW_BYTES), in1 = svwhilelt_b8_u64(begin, SVE_ROW_BYTES);
  const svbool_t out0 = svwhilelt_b32_u64(0, DYNQ_PANEL), out1 = svwhilelt_b32_u64(channel, DYNQ_PANEL);
  EACH_SLOT(DECLARE_SLOT)
  const uint8_t *row[SVE_ROWS];
#pragma GCC unroll 12
  for (size_t r = 0; r < R; r++) {
    row[r] = lhs + r * lhs_stride;
    __asm__("" : "+r"(row[r])); /* else the compiler makes offsets of them, and adds one before each load */
  }
  size_t g = 0;
  for (const size_t whole = groups / unroll * unroll; g < whole; g += unroll) {
    MULTIPLY_GROUP(unroll)
  }
#pragma GCC unroll 1
  for (; g < groups; g++) {
    MULTIPLY_GROUP(1)
  }
  EACH_LATER_SLOT(ADD_SLOT)
  EACH_SLOT(STORE_SLOT)
}

/* A tile of this shape. */
#define SVE_ROWS_FUNCTION(R, S, V)                                                                                     \
  OWN_FUNCTION void sve_rows_##R##_of_##V(sve_columns columns, size_t groups, const uint8_t *lhs, size_t lhs_stride,   \
                                          const int8_t *rhs, int32_t *acc, size_t acc_stride) {                        \
    sve_rows(R, S, V, columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);                                         \
  }
SVE_ROWS_FUNCTION(1, 8, 1)
SVE_ROWS_FUNCTION(2, 8, 1)
SVE_ROWS_FUNCTION(3, 4, 1)
SVE_ROWS_FUNCTION(4, 4, 1)
SVE_ROWS_FUNCTION(1, 8, 2)
SVE_ROWS_FUNCTION(2, 4, 2)
SVE_ROWS_FUNCTION(3, 4, 2)
SVE_ROWS_FUNCTION(4, 2, 2)
SVE_ROWS_FUNCTION(1, 4, 4)
SVE_ROWS_FUNCTION(2, 2, 4)
SVE_ROWS_FUNCTION(3, 1, 4)
SVE_ROWS_FUNCTION(4, 1, 4)

/* m rows, 1 to 4, one panel at a time, so that the weights are one stream of memory. */
static inline void sve_few_rows(size_t m, size_t panels, size_t groups, const uint8_t *lhs, size_t lhs_stride,
                                const int8_t *rhs, size_t panel_stride, int32_t *acc, size_t acc_stride) {
  const sve_columns columns = {.bytes = svcntb(), .elements = svcntw(), .begin = svcntb()};
  const size_t vectors = (SVE_ROW_BYTES + svcntb() - 1) / svcntb();
  for (; panels != 0; panels--, rhs += panel_stride, acc += DYNQ_PANEL) {
#define SHAPE(m, vectors) ((m) * 8 + (vectors))
    switch (SHAPE(m, vectors)) {
#define FEW(R, V)                                                                                                      \
  case SHAPE(R, V):                                                                                                    \
    sve_rows_##R##_of_##V(columns, groups, lhs, lhs_stride, rhs, acc, acc_stride);                                     \
    break;
      FEW(1, 1)
      FEW(2, 1)
      FEW(3, 1)
      FEW(4, 1)
      FEW(1, 2)
      FEW(2, 2)
      FEW(3, 2)
      FEW(4, 2)
      FEW(1, 4)
      FEW(2, 4)
      FEW(3, 4)
      FEW(4, 4)
#undef FEW
#undef SHAPE
    }
  }
}

#endif
