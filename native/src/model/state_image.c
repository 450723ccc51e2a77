/*
 * Saves the sequences of a session as bytes, and restores them in another session of the same model.
 *
 *   "dynqkept"  u32 version  u32 model  u64 bytes  u64 sequences  u64 lengths  then, for each state, sequence and head,
 *   the positions in use, rounded up to 16, as the session has them; u32 checksum of all before it
 *
 * The version is 1; it is 2 if the model has states of a source, whose lengths come behind the others.
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

static size_t tracks_of(const dynq_session *s) { return s->model->most_positions[DYNQ_SOURCE] != 0 ? 2 : 1; }

/* Bytes for sequences of these lengths, [track][sequence]; SIZE_MAX if they overflow. */
static size_t bytes_of(const dynq_session *s, size_t count, const size_t *lengths) {
  size_t positions[DYNQ_TRACKS] = {0}, floats = 0;
  for (size_t i = 0; i < tracks_of(s) * count; i++) {
    positions[i / count] = dynq_size_add(positions[i / count], dynq_kept_rounded(lengths[i]));
  }
  for (size_t i = 0; i < s->model->state_count; i++) {
    const size_t of_position = dynq_size_mul(dynq_kept_heads(s, i), dynq_kept_width(s, i));
    floats = dynq_size_add(floats, dynq_size_mul(positions[dynq_kept_track(s, i)], of_position));
  }
  const size_t bytes = dynq_size_add(dynq_size_mul(floats, sizeof(float)), HEAD + TAIL);
  return dynq_size_add(bytes, dynq_size_mul(tracks_of(s) * count, 8));
}

dynq_status dynq_session_saved_bytes(const dynq_session *s, size_t *bytes) {
  DYNQ_TRY(dynq_kept_check(s, bytes, "bytes"));
  const size_t count = s->kept.sequences[DYNQ_TEXT].count, taken = dynq_size_mul(DYNQ_TRACKS * count, sizeof(size_t));
  size_t *lengths = dynq_alloc(taken);
  if (lengths == NULL) {
    return dynq_fail_memory(taken);
  }
  for (size_t i = 0; i < tracks_of(s) * count; i++) {
    lengths[i] = s->kept.sequences[i / count].lengths[i % count];
  }
  *bytes = bytes_of(s, count, lengths);
  dynq_free(lengths);
  return DYNQ_OK;
}

typedef void (*mover)(float *kept, unsigned char *bytes, size_t count);
static void save_part(float *kept, unsigned char *bytes, size_t count) { memcpy(bytes, kept, count); }
static void restore_part(float *kept, unsigned char *bytes, size_t count) { memcpy(kept, bytes, count); }

/* Goes through all that is kept, and through its bytes. */
static void move_all(const dynq_session *s, unsigned char *bytes, mover move) {
  for (size_t k = 0; k < s->model->state_count; k++) {
    const dynq_sequences *q = &s->kept.sequences[dynq_kept_track(s, k)];
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
  const size_t count = s->kept.sequences[DYNQ_TEXT].count, listed = tracks_of(s) * count;
  memcpy(p, "dynqkept", 8);
  put(p + 8, 4, tracks_of(s));
  put(p + 12, 4, model_of(s));
  put(p + 16, 8, bytes);
  put(p + 24, 8, count);
  for (size_t i = 0; i < listed; i++) {
    put(p + HEAD + 8 * i, 8, s->kept.sequences[i / count].lengths[i % count]);
  }
  move_all(s, p + HEAD + 8 * listed, save_part);
  put(p + bytes - TAIL, 4, checksum(0, p, bytes - TAIL));
  return DYNQ_OK;
}

static dynq_status damaged(const char *what) { return dynq_fail(DYNQ_ERROR_FORMAT, "damaged state: %s", what); }

/* The lengths in the bytes of a state, whose head is there, and the longest of each track. */
static dynq_status read_lengths(const dynq_session *s, const unsigned char *p, size_t size, size_t count,
                                size_t *lengths, size_t longest[DYNQ_TRACKS]) {
  for (size_t i = 0; i < tracks_of(s) * count; i++) {
    const uint64_t length = dynq_little_endian(p + HEAD + 8 * i, 8);
    if (length > s->model->most_positions[i / count]) {
      return damaged("a sequence is longer than the model allows");
    }
    lengths[i] = (size_t)length;
    longest[i / count] = lengths[i] > longest[i / count] ? lengths[i] : longest[i / count];
  }
  return bytes_of(s, count, lengths) == size ? DYNQ_OK : damaged("its size does not fit its lengths");
}

static dynq_status restore(dynq_session *s, const unsigned char *p, size_t size) {
  if (size < HEAD + TAIL || memcmp(p, "dynqkept", 8) != 0) {
    return damaged("it does not begin as one");
  }
  const uint64_t version = dynq_little_endian(p + 8, 4), count = dynq_little_endian(p + 24, 8);
  if (version != 1 && version != 2) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the state is of version %lu; dynq %s reads versions 1 and 2",
                     (unsigned long)version, DYNQ_VERSION);
  }
  if (version != tracks_of(s) || dynq_little_endian(p + 12, 4) != model_of(s)) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the state is of another model");
  }
  if (dynq_little_endian(p + 16, 8) != size || count > (size - HEAD - TAIL) / (8 * tracks_of(s))) {
    return damaged("its size is not what it says");
  }
  if (dynq_little_endian(p + size - TAIL, 4) != checksum(0, p, size - TAIL)) {
    return damaged("its checksum differs");
  }
  const size_t n = (size_t)count, listed = tracks_of(s) * n, bytes = dynq_size_mul(listed, sizeof(size_t));
  size_t *lengths = dynq_alloc(bytes), longest[DYNQ_TRACKS] = {0};
  if (lengths == NULL) {
    return dynq_fail_memory(bytes);
  }
  dynq_status status = read_lengths(s, p, size, n, lengths, longest);
  status = status == DYNQ_OK ? dynq_kept_reserve(s, n, longest, s->max_bytes != 0 ? s->max_bytes : SIZE_MAX) : status;
  if (status == DYNQ_OK) {
    for (size_t t = 0; t < DYNQ_TRACKS; t++) {
      s->kept.sequences[t].count = n;
      for (size_t i = 0; i < n; i++) {
        s->kept.sequences[t].lengths[i] = t < tracks_of(s) ? lengths[t * n + i] : 0;
      }
    }
    move_all(s, (unsigned char *)(uintptr_t)p + HEAD + 8 * listed, restore_part);
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
