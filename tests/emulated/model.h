/*
 * Plain models of the products, written from what the instructions are for and not from the emulator.
 */
#ifndef MODEL_H
#define MODEL_H

#include "check.h"
#include "encode.h"

/* sum[n] += left (u8) * right (s8) over groups of 4, modulo 2^32. */
void model_dot(uint8_t *sum, const uint8_t *left, const uint8_t *right, size_t bytes);
/* The same of signed words in pairs. */
void model_dot_words(uint8_t *sum, const uint8_t *left, const uint8_t *right, size_t bytes);
/* All that `p` reads as its right operand, of vectors or of what it reads of memory. */
void model_right(const vector_product *p, uint8_t vectors[][VECTOR_BYTES], const uint8_t *memory, uint8_t *right);
/* Computes what `p` leaves in all vectors. */
void model_product(const vector_product *p, uint8_t vectors[][VECTOR_BYTES], const uint8_t *memory);

/* Rows of a matrix with guards all around: nothing past the last byte of the last row may be touched. */
typedef struct matrix {
  uint8_t *at;
  size_t rows, bytes, stride, span;
} matrix;

matrix random_matrix(size_t rows, size_t bytes);

/* c[i][j] += the sum over all bytes k of a[i][k] * b[k / 4][4 j + k % 4], modulo 2^32. */
void model_tiles(bool a_signed, bool b_signed, const matrix *c, const matrix *a, const matrix *b);

#endif
