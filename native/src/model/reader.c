/*
 * Numbers, texts and references of a plan, each checked against what is left and what there is.
 */
#include "reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ALIGN = 64 };

dynq_status dynq_read_damaged(const dynq_reader *r, const char *format, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return dynq_fail(DYNQ_ERROR_FORMAT, "damaged plan, %s %zu: %s", r->part, r->index, text);
}

/* ---- Numbers and texts ---- */

uint64_t dynq_little_endian(const unsigned char *p, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; i++) {
    value |= (uint64_t)p[i] << 8 * i;
  }
  return value;
}

static dynq_status read_bytes(dynq_reader *r, size_t count, const unsigned char **bytes) {
  if (count > (size_t)(r->end - r->at)) {
    return dynq_read_damaged(r, "truncated: %zu bytes are left; expected %zu", (size_t)(r->end - r->at), count);
  }
  *bytes = r->at;
  r->at += count;
  return DYNQ_OK;
}

dynq_status dynq_read_number(dynq_reader *r, size_t bytes, uint64_t *value) {
  const unsigned char *p = NULL;
  DYNQ_TRY(read_bytes(r, bytes, &p));
  *value = dynq_little_endian(p, bytes);
  return DYNQ_OK;
}

dynq_status dynq_read_u8(dynq_reader *r, uint32_t *value) {
  uint64_t wide = 0;
  DYNQ_TRY(dynq_read_number(r, 1, &wide));
  *value = (uint32_t)wide;
  return DYNQ_OK;
}

dynq_status dynq_read_u32(dynq_reader *r, uint32_t *value) {
  uint64_t wide = 0;
  DYNQ_TRY(dynq_read_number(r, 4, &wide));
  *value = (uint32_t)wide;
  return DYNQ_OK;
}

dynq_status dynq_read_i64(dynq_reader *r, int64_t *value) {
  uint64_t wide = 0;
  DYNQ_TRY(dynq_read_number(r, 8, &wide));
  memcpy(value, &wide, sizeof wide);
  return DYNQ_OK;
}

dynq_status dynq_read_f32(dynq_reader *r, float *value) {
  uint32_t bits = 0;
  DYNQ_TRY(dynq_read_u32(r, &bits));
  memcpy(value, &bits, sizeof bits);
  return DYNQ_OK;
}

/* A number of things that take at least `each` bytes. */
dynq_status dynq_read_count(dynq_reader *r, size_t each, const char *what, size_t *count) {
  uint32_t n = 0;
  DYNQ_TRY(dynq_read_u32(r, &n));
  if (n > (size_t)(r->end - r->at) / each) {
    return dynq_read_damaged(r, "%lu %s; the rest of the plan has no room for them", (unsigned long)n, what);
  }
  *count = n;
  return DYNQ_OK;
}

/* Bytes of the UTF-8 sequence at p, or 0 where it is none: overlong, a surrogate, above U+10FFFF or a zero. */
static size_t utf8_sequence(const unsigned char *p, size_t left) {
  static const uint32_t least[5] = {0, 1, 0x80, 0x800, 0x10000};
  const size_t bytes = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
  if (bytes == 0 || bytes > left) {
    return 0;
  }
  uint32_t code = bytes == 1 ? p[0] : p[0] & (0xffu >> (bytes + 1));
  for (size_t i = 1; i < bytes; i++) {
    if (p[i] >> 6 != 2) {
      return 0;
    }
    code = code << 6 | (p[i] & 0x3fu);
  }
  return code < least[bytes] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : bytes;
}

dynq_status dynq_read_text(dynq_reader *r, const char **text, size_t *length) {
  const unsigned char *p = NULL;
  size_t count = 0;
  char *copy;
  DYNQ_TRY(dynq_read_count(r, 1, "bytes of text", &count));
  DYNQ_TRY(read_bytes(r, count, &p));
  for (size_t i = 0; i < count;) {
    const size_t bytes = utf8_sequence(p + i, count - i);
    if (bytes == 0) {
      return dynq_read_damaged(r, "a text is not UTF-8 or holds a zero");
    }
    i += bytes;
  }
  copy = dynq_pool_take(&r->model->pool, count + 1, 1);
  if (copy == NULL) {
    return dynq_fail_memory(count + 1);
  }
  memcpy(copy, p, count);
  *text = copy;
  if (length != NULL) {
    *length = count;
  }
  return DYNQ_OK;
}

/* The `bytes` bytes of data at the offset that stands in the plan. */
dynq_status dynq_read_data(dynq_reader *r, size_t bytes, const char *what, const void **data) {
  const dynq_model *m = r->model;
  uint64_t offset = 0;
  DYNQ_TRY(dynq_read_number(r, 8, &offset));
  if (offset % ALIGN != 0 || offset > m->data_bytes || bytes > m->data_bytes - offset) {
    return dynq_read_damaged(r, "%s: %zu bytes at %llu; the data have %zu, and all begin at multiples of %d", what,
                             bytes, (unsigned long long)offset, m->data_bytes, ALIGN);
  }
  *data = m->data + offset;
  return DYNQ_OK;
}

dynq_status dynq_read_reference(dynq_reader *r, bool may_be_none, uint32_t *tensor) {
  DYNQ_TRY(dynq_read_u32(r, tensor));
  if (*tensor >= r->model->tensor_count && !(may_be_none && *tensor == DYNQ_NONE)) {
    return dynq_read_damaged(r, "refers to tensor %lu of %zu", (unsigned long)*tensor, r->model->tensor_count);
  }
  return DYNQ_OK;
}
