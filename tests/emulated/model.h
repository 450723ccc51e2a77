/*
 * Plain models of the products, written from what the instructions are for and not from the emulator.
 */
#ifndef MODEL_H
#define MODEL_H

#include "check.h"

/* sum[n] += left (u8) * right (s8) over groups of 4, modulo 2^32. */
void model_dot(uint8_t *sum, const uint8_t *left, const uint8_t *right, size_t bytes);

/* Rows of a matrix with guards all around: nothing past the last byte of the last row may be touched. */
typedef struct matrix {
  uint8_t *at;
  size_t rows, bytes, stride, span;
} matrix;

matrix random_matrix(size_t rows, size_t bytes);

/* c[i][j] += the sum over all bytes k of a[i][k] * b[k / 4][4 j + k % 4], modulo 2^32. */
void model_tiles(bool a_signed, bool b_signed, const matrix *c, const matrix *a, const matrix *b);

#endif
