/*
 * The bytes of a plan, read from front to back. Every function fails with DYNQ_ERROR_FORMAT where the bytes are not
 * what it reads, and sets nothing then.
 */
#ifndef DYNQ_READER_H
#define DYNQ_READER_H

#include "model.h"

typedef struct dynq_reader {
  dynq_model *model;
  const unsigned char *at, *end;
  const char *part; /* for messages: what is read, and which of them */
  size_t index;
} dynq_reader;

/* Fails: "damaged plan, node 5: ...". */
dynq_status dynq_read_damaged(const dynq_reader *r, const char *format, ...) DYNQ_PRINTF(2, 3);

uint64_t dynq_little_endian(const unsigned char *p, size_t bytes);
dynq_status dynq_read_number(dynq_reader *r, size_t bytes, uint64_t *value);
dynq_status dynq_read_u8(dynq_reader *r, uint32_t *value);
dynq_status dynq_read_u32(dynq_reader *r, uint32_t *value);
dynq_status dynq_read_i64(dynq_reader *r, int64_t *value);
dynq_status dynq_read_f32(dynq_reader *r, float *value);
/* A number of things that take at least `each` bytes, so that memory for them is bounded by the plan's size. */
dynq_status dynq_read_count(dynq_reader *r, size_t each, const char *what, size_t *count);
/* UTF-8 without zeros, copied into the model's pool; ends with a zero. `length` may be NULL. */
dynq_status dynq_read_text(dynq_reader *r, const char **text, size_t *length);
/* An offset, where `bytes` bytes of the data lie. */
dynq_status dynq_read_data(dynq_reader *r, size_t bytes, const char *what, const void **data);
/* The number of a tensor. */
dynq_status dynq_read_reference(dynq_reader *r, bool may_be_none, uint32_t *tensor);

/* The section of nodes. */
dynq_status dynq_read_nodes(dynq_reader *r);

#endif
