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
