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
  uint32_t graph; /* whose nodes are read: 0 for the model's, 1 + b for those of body b */
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

/* A list of nodes; nothing but `*nodes` and `*count` is set, and what tensors say of them. */
dynq_status dynq_read_nodes(dynq_reader *r, dynq_plan_node **nodes, size_t *count);
/* Makes a tensor an output of the graph that is read. */
dynq_status dynq_read_result(const dynq_reader *r, uint32_t tensor);
/* The section of bodies, if the plan has one, and whether they fit the nodes that run them. */
dynq_status dynq_read_bodies(dynq_reader *r, bool any);
/* Fails if a tensor is computed by no node. */
dynq_status dynq_check_written(dynq_reader *r);

#endif
