/*
 * The models.
 */
#include "model.h"

#include <string.h>

void model_dot(uint8_t *sum, const uint8_t *left, const uint8_t *right, size_t bytes) {
  for (size_t n = 0; n < bytes; n++) {
    uint32_t s;
    memcpy(&s, sum + n / 4 * 4, sizeof s);
    s = (uint32_t)((int64_t)s + (int64_t)left[n] * (int8_t)right[n]);
    memcpy(sum + n / 4 * 4, &s, sizeof s);
  }
}

void model_dot_words(uint8_t *sum, const uint8_t *left, const uint8_t *right, size_t bytes) {
  for (size_t n = 0; n < bytes; n += 2) {
    const int64_t l = (int8_t)left[n + 1] * 256 + left[n], r = (int8_t)right[n + 1] * 256 + right[n];
    uint32_t s;
    memcpy(&s, sum + n / 4 * 4, sizeof s);
    s = (uint32_t)((int64_t)s + l * r);
    memcpy(sum + n / 4 * 4, &s, sizeof s);
  }
}

void model_right(const vector_product *p, uint8_t vectors[][VECTOR_BYTES], const uint8_t *memory, uint8_t *right) {
  for (size_t n = 0; n < p->bytes; n++) {
    right[n] = !p->in_memory ? vectors[p->right][n] : p->broadcast ? memory[n % 4] : memory[n];
  }
}

void model_product(const vector_product *p, uint8_t vectors[][VECTOR_BYTES], const uint8_t *memory) {
  uint8_t sum[VECTOR_BYTES] = {0}, right[VECTOR_BYTES]; /* zero beyond `bytes` */
  model_right(p, vectors, memory, right);
  memcpy(sum, vectors[p->dest], p->bytes);
  (p->words ? model_dot_words : model_dot)(sum, vectors[p->left], right, p->bytes);
  memcpy(vectors[p->dest], sum, sizeof sum);
}

matrix random_matrix(size_t rows, size_t bytes) {
  matrix m = {.rows = rows, .bytes = bytes, .stride = bytes + random_below(2) * random_below(100)};
  m.span = (rows - 1) * m.stride + bytes;
  m.at = guarded(m.span, 1);
  fill_bytes((int)random_below(BYTES_KINDS), m.at, m.span);
  return m;
}

static int64_t value_of(uint8_t byte, bool is_signed) { return is_signed && byte >= 128 ? (int64_t)byte - 256 : byte; }

void model_tiles(bool a_signed, bool b_signed, const matrix *c, const matrix *a, const matrix *b) {
  for (size_t i = 0; i < c->rows; i++) {
    for (size_t j = 0; j < c->bytes / 4; j++) {
      uint32_t old;
      int64_t sum = 0;
      uint8_t *at = c->at + i * c->stride + 4 * j;
      for (size_t k = 0; k < a->bytes; k++) {
        sum +=
            value_of(a->at[i * a->stride + k], a_signed) * value_of(b->at[k / 4 * b->stride + 4 * j + k % 4], b_signed);
      }
      memcpy(&old, at, sizeof old);
      old = (uint32_t)((int64_t)old + sum);
      memcpy(at, &old, sizeof old);
    }
  }
}
