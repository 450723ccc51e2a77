/*
 * Saves the sequences of a session as bytes, and restores them in another session of the same model.
 *
 *   "dynqkept"  u32 version 1  u32 model  u64 bytes  u64 sequences  u64 lengths  then, for each state, sequence and head,
 *   the positions in use, rounded up to 16, as the session has them; u32 checksum of all before it
 *
 * `model` is a checksum of the plan and of the beginnings of the weights. The bytes may be anything.
 */
#include "../base/alloc.h"
#include "model.h"
#include "reader.h"

#include <string.h>

enum { HEAD = 8 + 4 + 4 + 8 + 8, TAIL = 4, SAMPLE = 256 };

static void put(unsigned char *to, size_t bytes, uint64_t value) {
  for (size_t i = 0; i < bytes; i++) {
    to[i] = (unsigned char)(value >> 8 * i);
  }
}

static uint32_t checksum(uint32_t sum, const unsigned char *p, size_t count) {
  static const uint32_t prime = 0x01000193; /* FNV-1a over words of four bytes */
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    uint32_t word;
    memcpy(&word, p + i, sizeof word);
    sum = (sum ^ word) * prime;
    sum ^= sum >> 15;
  }
  for (; i < count; i++) {
    sum = (sum ^ p[i]) * prime;
  }
  return sum;
}

/* Tells models apart that have the same plan: by the beginnings of their constants and of the scales of weights. */
static uint32_t model_of(const dynq_session *s) {
  const dynq_model *m = s->model;
  uint32_t sum = checksum(0x811c9dc5, m->data + 12, 4);
  for (size_t i = 0; i < m->tensor_count; i++) {
    const dynq_plan_tensor *t = &m->tensors[i];
    const void *data = t->data;
    size_t bytes = 0;
    if (t->kind == DYNQ_PACKED_WEIGHT) {
      dynq_weight_info info;
      dynq_weight_describe(t->weight, &info);
      data = info.scale;
      bytes = info.n * sizeof *info.scale;
    } else if (t->kind == DYNQ_CONSTANT) {
      size_t dims[DYNQ_MAX_RANK];
      for (size_t d = 0; d < t->rank; d++) {
        dims[d] = (size_t)t->dims[d];
      }
      bytes = dynq_dims_count(t->dtype, t->rank, dims) * dynq_dtype_size(t->dtype);
    }
    if (data != NULL) {
      sum = checksum(sum, data, bytes < SAMPLE ? bytes : SAMPLE);
    }
  }
  return sum;
}

/* Bytes for sequences of these lengths; SIZE_MAX if they overflow. */
static size_t bytes_of(const dynq_session *s, size_t count, const size_t *lengths) {
  size_t positions = 0, floats = 0;
  for (size_t i = 0; i < count; i++) {
    positions = dynq_size_add(positions, dynq_kept_rounded(lengths[i]));
  }
  for (size_t i = 0; i < s->model->state_count; i++) {
    floats = dynq_size_add(floats, dynq_size_mul(dynq_kept_heads(s, i), dynq_kept_width(s, i)));
  }
  const size_t bytes = dynq_size_mul(dynq_size_mul(positions, floats), sizeof(float));
  return dynq_size_add(dynq_size_add(bytes, HEAD + TAIL), dynq_size_mul(count, 8));
}

dynq_status dynq_session_saved_bytes(const dynq_session *s, size_t *bytes) {
  DYNQ_TRY(dynq_kept_check(s, bytes, "bytes"));
  *bytes = bytes_of(s, s->kept.sequences.count, s->kept.sequences.lengths);
  return DYNQ_OK;
}

typedef void (*mover)(float *kept, unsigned char *bytes, size_t count);
static void save_part(float *kept, unsigned char *bytes, size_t count) { memcpy(bytes, kept, count); }
static void restore_part(float *kept, unsigned char *bytes, size_t count) { memcpy(kept, bytes, count); }

/* Goes through all that is kept, and through its bytes. */
static void move_all(const dynq_session *s, unsigned char *bytes, mover move) {
  const dynq_sequences *q = &s->kept.sequences;
  for (size_t k = 0; k < s->model->state_count; k++) {
    const size_t heads = dynq_kept_heads(s, k), width = dynq_kept_width(s, k);
    for (size_t i = 0; i < q->count; i++) {
      const size_t count = dynq_kept_rounded(q->lengths[i]) * width * sizeof(float);
      for (size_t h = 0; h < heads && count != 0; h++, bytes += count) {
        move(s->kept.data[k] + (i * heads + h) * q->capacity * width, bytes, count);
      }
    }
  }
}

dynq_status dynq_session_save(const dynq_session *s, void *to, size_t size) {
  unsigned char *p = to;
  size_t bytes = 0;
  DYNQ_TRY(dynq_kept_check(s, to, "to"));
  DYNQ_TRY(dynq_session_saved_bytes(s, &bytes));
  if (size != bytes) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "size is %zu; expected %zu", size, bytes);
  }
  const dynq_sequences *q = &s->kept.sequences;
  memcpy(p, "dynqkept", 8);
  put(p + 8, 4, 1);
  put(p + 12, 4, model_of(s));
  put(p + 16, 8, bytes);
  put(p + 24, 8, q->count);
  for (size_t i = 0; i < q->count; i++) {
    put(p + HEAD + 8 * i, 8, q->lengths[i]);
  }
  move_all(s, p + HEAD + 8 * q->count, save_part);
  put(p + bytes - TAIL, 4, checksum(0, p, bytes - TAIL));
  return DYNQ_OK;
}

static dynq_status damaged(const char *what) { return dynq_fail(DYNQ_ERROR_FORMAT, "damaged state: %s", what); }

/* The lengths in the bytes of a state, whose head is there. */
static dynq_status read_lengths(const dynq_session *s, const unsigned char *p, size_t size, size_t count,
                                size_t *lengths) {
  for (size_t i = 0; i < count; i++) {
    const uint64_t length = dynq_little_endian(p + HEAD + 8 * i, 8);
    if (length > s->model->most_positions) {
      return damaged("a sequence is longer than the model allows");
    }
    lengths[i] = (size_t)length;
  }
  return bytes_of(s, count, lengths) == size ? DYNQ_OK : damaged("its size does not fit its lengths");
}

static dynq_status restore(dynq_session *s, const unsigned char *p, size_t size) {
  if (size < HEAD + TAIL || memcmp(p, "dynqkept", 8) != 0) {
    return damaged("it does not begin as one");
  }
  const uint64_t version = dynq_little_endian(p + 8, 4), count = dynq_little_endian(p + 24, 8);
  if (version != 1) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the state is of version %lu; dynq %s reads version 1", (unsigned long)version,
                     DYNQ_VERSION);
  }
  if (dynq_little_endian(p + 12, 4) != model_of(s)) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the state is of another model");
  }
  if (dynq_little_endian(p + 16, 8) != size || count > (size - HEAD - TAIL) / 8) {
    return damaged("its size is not what it says");
  }
  if (dynq_little_endian(p + size - TAIL, 4) != checksum(0, p, size - TAIL)) {
    return damaged("its checksum differs");
  }
  const size_t n = (size_t)count, bytes = dynq_size_mul(n, sizeof(size_t));
  size_t *lengths = dynq_alloc(bytes), longest = 0;
  if (lengths == NULL) {
    return dynq_fail_memory(bytes);
  }
  dynq_status status = read_lengths(s, p, size, n, lengths);
  for (size_t i = 0; status == DYNQ_OK && i < n; i++) {
    longest = lengths[i] > longest ? lengths[i] : longest;
  }
  status = status == DYNQ_OK ? dynq_kept_reserve(s, n, longest, s->max_bytes != 0 ? s->max_bytes : SIZE_MAX) : status;
  if (status == DYNQ_OK) {
    s->kept.sequences.count = n;
    for (size_t i = 0; i < n; i++) {
      s->kept.sequences.lengths[i] = lengths[i];
    }
    move_all(s, (unsigned char *)(uintptr_t)p + HEAD + 8 * n, restore_part);
  }
  dynq_free(lengths);
  return status;
}

dynq_status dynq_session_restore(dynq_session *s, const void *from, size_t size) {
  DYNQ_TRY(dynq_kept_check(s, from, "from"));
  DYNQ_TRY(dynq_session_enter(s));
  const dynq_status status = restore(s, from, size);
  dynq_session_leave(s);
  return status;
}
