/*
 * Keeps sequences between runs: for each of the batch a length, and memory for the states of the model.
 *
 * A run appends behind the lengths, which move when it has ended well. Memory is a block for each state,
 * [sequence][head][position][width], that grows to twice its positions when they do not suffice.
 */
#include "../base/alloc.h"
#include "model.h"

#include <string.h>

enum { FIRST = 64 }; /* positions: capacities are whole panels, and begin with FIRST */

static const dynq_plan_tensor *state_of(const dynq_session *s, size_t state) {
  return &s->model->tensors[s->model->states[state]];
}

size_t dynq_kept_heads(const dynq_session *s, size_t state) { return (size_t)state_of(s, state)->dims[0]; }
size_t dynq_kept_width(const dynq_session *s, size_t state) { return (size_t)state_of(s, state)->dims[2]; }

static size_t bytes_for(const dynq_session *s, size_t state, size_t count, size_t capacity) {
  const size_t heads = dynq_size_mul(count, dynq_kept_heads(s, state));
  return dynq_size_mul(dynq_size_mul(heads, capacity), dynq_size_mul(dynq_kept_width(s, state), sizeof(float)));
}

static size_t all_bytes(const dynq_session *s, size_t count, size_t capacity) {
  size_t bytes = dynq_size_mul(dynq_size_mul(capacity, s->kept.floats), sizeof(float));
  for (size_t i = 0; i < s->model->state_count; i++) {
    bytes = dynq_size_add(bytes, bytes_for(s, i, count, capacity));
  }
  return bytes;
}

size_t dynq_kept_bytes(const dynq_session *s) { return all_bytes(s, s->kept.room, s->kept.sequences.capacity); }

void dynq_kept_free(dynq_session *s) {
  for (size_t i = 0; i < s->model->state_count; i++) {
    dynq_free(s->kept.data[i]);
    s->kept.data[i] = NULL;
  }
  dynq_free(s->kept.sequences.lengths);
  dynq_free(s->kept.sequences.scores);
  s->kept.sequences = (dynq_sequences){0};
  s->kept.room = s->kept.floats = 0;
}

/* ---- Memory ---- */

/* Copies the positions of all sequences that are kept from one block of a state into another. */
static void copy_state(const dynq_session *s, size_t state, float *to, size_t capacity) {
  const dynq_sequences *q = &s->kept.sequences;
  const size_t heads = dynq_kept_heads(s, state), width = dynq_kept_width(s, state);
  for (size_t i = 0; i < q->count; i++) {
    const size_t floats = dynq_kept_rounded(q->lengths[i]) * width;
    for (size_t h = 0; h < heads && floats != 0; h++) {
      memcpy(to + (i * heads + h) * capacity * width, s->kept.data[state] + (i * heads + h) * q->capacity * width,
             floats * sizeof *to);
    }
  }
}

/* New blocks for everything, in `data`; they are freed if one is missing. */
static dynq_status take_blocks(const dynq_session *s, size_t count, size_t capacity, float **data, size_t **lengths,
                               float **scores) {
  const size_t states = s->model->state_count, of_lengths = dynq_size_mul(count, 2 * sizeof(size_t));
  const size_t of_scores = dynq_size_mul(dynq_size_mul(capacity, s->kept.floats), sizeof(float));
  size_t taken = 0;
  *lengths = dynq_alloc(of_lengths);
  *scores = *lengths != NULL ? dynq_alloc(of_scores) : NULL;
  while (*scores != NULL && taken < states) {
    data[taken] = dynq_alloc(bytes_for(s, taken, count, capacity));
    if (data[taken] == NULL) {
      break;
    }
    taken++;
  }
  if (*scores != NULL && taken == states) {
    memset(*lengths, 0, of_lengths);
    return DYNQ_OK;
  }
  while (taken-- != 0) {
    dynq_free(data[taken]);
  }
  dynq_free(*scores);
  dynq_free(*lengths);
  return dynq_fail_memory(all_bytes(s, count, capacity));
}

static dynq_status move_to(dynq_session *s, size_t count, size_t capacity) {
  dynq_sequences *q = &s->kept.sequences;
  const size_t states = s->model->state_count;
  size_t *lengths = NULL;
  float *scores = NULL, **data = dynq_alloc(dynq_size_mul(states, sizeof *data));
  if (data == NULL) {
    return dynq_fail_memory(states * sizeof *data);
  }
  const dynq_status status = take_blocks(s, count, capacity, data, &lengths, &scores);
  if (status != DYNQ_OK) {
    dynq_free(data);
    return status;
  }
  for (size_t i = 0; i < states; i++) {
    copy_state(s, i, data[i], capacity);
    dynq_free(s->kept.data[i]);
    s->kept.data[i] = data[i];
  }
  for (size_t i = 0; i < q->count; i++) {
    lengths[i] = q->lengths[i];
    lengths[count + i] = q->appended[i];
  }
  dynq_free(data);
  dynq_free(q->lengths);
  dynq_free(q->scores);
  *q = (dynq_sequences){q->count, capacity, lengths, lengths + count, scores};
  s->kept.room = count;
  return DYNQ_OK;
}

dynq_status dynq_kept_reserve(dynq_session *s, size_t count, size_t positions, size_t max_bytes) {
  const size_t most = dynq_kept_rounded(s->model->most_positions), needed = dynq_kept_rounded(positions);
  size_t capacity = s->kept.sequences.capacity;
  if (count <= s->kept.room && needed <= capacity && (capacity != 0 || most == 0 || count == 0)) {
    return DYNQ_OK;
  }
  if (needed > capacity || capacity == 0) {
    const size_t wanted = capacity != 0 ? 2 * capacity : FIRST;
    capacity = wanted < needed ? needed : wanted < most ? wanted : most;
  }
  count = count < s->kept.room ? s->kept.room : count;
  const size_t bytes = all_bytes(s, count, capacity);
  return bytes <= max_bytes ? move_to(s, count, capacity)
                            : dynq_fail_limit(bytes, "with its state it takes", max_bytes);
}

/* Memory for the scores of a node that needs more of it than those before. */
static dynq_status reserve_scores(dynq_session *s, size_t floats, size_t max_bytes) {
  if (floats <= s->kept.floats && s->kept.sequences.scores != NULL) {
    return DYNQ_OK;
  }
  const size_t bytes = dynq_size_mul(dynq_size_mul(s->kept.sequences.capacity, floats), sizeof(float));
  if (dynq_size_add(dynq_kept_bytes(s), bytes) > max_bytes) {
    return dynq_fail_limit(dynq_size_add(dynq_kept_bytes(s), bytes), "with its state it takes", max_bytes);
  }
  float *scores = dynq_alloc(bytes);
  if (scores == NULL) {
    return dynq_fail_memory(bytes);
  }
  dynq_free(s->kept.sequences.scores);
  s->kept.sequences.scores = scores;
  s->kept.floats = floats;
  return DYNQ_OK;
}

/* ---- A run ---- */

static void bind(const dynq_session *s, dynq_shape_plan *plan) {
  for (size_t i = 0; i < s->model->state_count; i++) {
    plan->tensors[s->model->states[i]].data = s->kept.data[i];
  }
}

void dynq_kept_begin(dynq_session *s, dynq_shape_plan *plan) {
  s->kept.begun = false;
  bind(s, plan);
}

void dynq_kept_commit(dynq_session *s) {
  dynq_sequences *q = &s->kept.sequences;
  for (size_t i = 0; s->kept.begun && i < q->count; i++) {
    q->lengths[i] += q->appended[i];
  }
}

/* Counts the rows of a sequence that the node appends; SIZE_MAX if its length is out of range. */
static size_t appended(const dynq_op_append *append, size_t sequence) {
  if (append->lengths == NULL) {
    return append->rows;
  }
  const int64_t length = ((const int64_t *)append->lengths->data)[sequence];
  return length >= 0 && (uint64_t)length <= append->rows ? (size_t)length : SIZE_MAX;
}

static dynq_status fail_length(const dynq_op_append *append, size_t sequence) {
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "lengths[%zu] is %lld; the run brings %zu positions", sequence,
                   (long long)((const int64_t *)append->lengths->data)[sequence], append->rows);
}

/* The first node of a run says what the run appends. */
static dynq_status begin(dynq_session *s, size_t max_bytes, const dynq_op_append *append) {
  dynq_sequences *q = &s->kept.sequences;
  const size_t most = s->model->most_positions;
  size_t kept = 0, positions = 0;
  for (size_t i = 0; i < q->count; i++) {
    kept += q->lengths[i] != 0;
  }
  if (kept != 0 && q->count != append->sequences) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "the run brings %zu sequences; the session keeps %zu: reset it for others", append->sequences,
                     q->count);
  }
  for (size_t i = 0; i < append->sequences; i++) {
    const size_t rows = appended(append, i), length = kept != 0 ? q->lengths[i] : 0;
    if (rows == SIZE_MAX) {
      return fail_length(append, i);
    }
    if (length > most || rows > most - length) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                       "sequence %zu has %zu positions, and the run brings %zu more; the model has %zu", i, length,
                       rows, most);
    }
    positions = length + rows > positions ? length + rows : positions;
  }
  if (kept == 0) {
    q->count = 0;
  }
  DYNQ_TRY(dynq_kept_reserve(s, append->sequences, positions, max_bytes));
  for (size_t i = q->count; i < append->sequences; i++) {
    q->lengths[i] = 0;
  }
  q->count = append->sequences;
  for (size_t i = 0; i < q->count; i++) {
    q->appended[i] = appended(append, i);
  }
  s->kept.begun = true;
  s->kept.rows = append->rows;
  return DYNQ_OK;
}

dynq_status dynq_kept_prepare(dynq_session *s, dynq_shape_plan *plan, const dynq_op_node *node) {
  const dynq_op_append *append = &node->append;
  const size_t used = dynq_size_add(plan->arena_bytes, plan->static_bytes);
  const size_t max_bytes = used < plan->max_bytes ? plan->max_bytes - used : 0;
  const dynq_sequences *q = &s->kept.sequences;
  if (!s->kept.begun) {
    DYNQ_TRY(begin(s, max_bytes, append));
    bind(s, plan);
  }
  if (append->sequences != q->count || append->rows != s->kept.rows) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "it appends %zu x %zu positions; nodes before it %zu x %zu",
                     append->sequences, append->rows, q->count, s->kept.rows);
  }
  for (size_t i = 0; append->lengths != NULL && i < q->count; i++) {
    if (appended(append, i) != q->appended[i]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "its lengths are not those of the nodes before it");
    }
  }
  return append->floats != 0 ? reserve_scores(s, append->floats, max_bytes) : DYNQ_OK;
}

/* ---- The public functions ---- */

dynq_status dynq_session_enter(dynq_session *s) {
  return atomic_exchange(&s->busy, true)
             ? dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the session is at work in another thread: each needs its own")
             : DYNQ_OK;
}

void dynq_session_leave(dynq_session *s) { atomic_store(&s->busy, false); }

dynq_status dynq_kept_check(const void *session, const void *other, const char *what) {
  if (session != NULL && other != NULL) {
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", session == NULL ? "session" : what);
}

dynq_status dynq_model_positions(const dynq_model *model, size_t *most) {
  if (model == NULL || most == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", model == NULL ? "model" : "most");
  }
  *most = model->most_positions;
  return DYNQ_OK;
}

dynq_status dynq_session_reset(dynq_session *s) {
  DYNQ_TRY(dynq_kept_check(s, s, "session"));
  DYNQ_TRY(dynq_session_enter(s));
  s->kept.sequences.count = 0;
  dynq_session_leave(s);
  return DYNQ_OK;
}

dynq_status dynq_session_sequences(const dynq_session *s, size_t *count) {
  DYNQ_TRY(dynq_kept_check(s, count, "count"));
  *count = s->kept.sequences.count;
  return DYNQ_OK;
}

static dynq_status check_sequence(const dynq_session *s, size_t sequence) {
  return sequence < s->kept.sequences.count
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sequence is %zu; the session keeps %zu", sequence,
                         s->kept.sequences.count);
}

dynq_status dynq_session_length(const dynq_session *s, size_t sequence, size_t *length) {
  DYNQ_TRY(dynq_kept_check(s, length, "length"));
  DYNQ_TRY(check_sequence(s, sequence));
  *length = s->kept.sequences.lengths[sequence];
  return DYNQ_OK;
}

dynq_status dynq_session_truncate(dynq_session *s, size_t sequence, size_t length) {
  DYNQ_TRY(dynq_kept_check(s, s, "session"));
  if (sequence != SIZE_MAX) {
    DYNQ_TRY(check_sequence(s, sequence));
  }
  DYNQ_TRY(dynq_session_enter(s));
  dynq_sequences *q = &s->kept.sequences;
  for (size_t i = 0; i < q->count; i++) {
    if ((sequence == SIZE_MAX || sequence == i) && q->lengths[i] > length) {
      q->lengths[i] = length;
    }
  }
  dynq_session_leave(s);
  return DYNQ_OK;
}

/* Fills the states of `to` with sequences of `s`. */
static void take_sequences(dynq_session *to, const dynq_session *s, size_t count, const size_t *from) {
  const dynq_sequences *q = &s->kept.sequences;
  for (size_t i = 0; i < count; i++) {
    const size_t at = from != NULL ? from[i] : i;
    to->kept.sequences.lengths[i] = q->lengths[at];
    for (size_t k = 0; k < s->model->state_count; k++) {
      const size_t heads = dynq_kept_heads(s, k), width = dynq_kept_width(s, k);
      const size_t floats = dynq_kept_rounded(q->lengths[at]) * width;
      for (size_t h = 0; h < heads && floats != 0; h++) {
        memcpy(to->kept.data[k] + (i * heads + h) * to->kept.sequences.capacity * width,
               s->kept.data[k] + (at * heads + h) * q->capacity * width, floats * sizeof(float));
      }
    }
  }
  to->kept.sequences.count = count;
}

static dynq_status copy_session(const dynq_session *s, size_t count, const size_t *from, dynq_session **copy) {
  const dynq_session_options options = {.threads = s->threads,
                                        .max_bytes = s->max_bytes,
                                        .poll = s->interrupt.poll,
                                        .poll_context = s->interrupt.context};
  dynq_session *made = NULL;
  DYNQ_TRY(dynq_session_new_with(s->model, &options, &made));
  const size_t max_bytes = s->max_bytes != 0 ? s->max_bytes : SIZE_MAX;
  made->kept.floats = s->kept.floats;
  const dynq_status status =
      count != 0 ? dynq_kept_reserve(made, count, s->kept.sequences.capacity, max_bytes) : DYNQ_OK;
  if (status != DYNQ_OK) {
    dynq_session_free(made);
    return status;
  }
  take_sequences(made, s, count, from);
  *copy = made;
  return DYNQ_OK;
}

dynq_status dynq_session_fork(const dynq_session *s, dynq_session **copy) {
  DYNQ_TRY(dynq_kept_check(s, copy, "copy"));
  return copy_session(s, s->kept.sequences.count, NULL, copy);
}

static bool stays(const dynq_session *s, size_t count, const size_t *from) {
  size_t same = 0;
  while (same < count && from[same] == same) {
    same++;
  }
  return same == count && count == s->kept.sequences.count;
}

dynq_status dynq_session_reorder(dynq_session *s, size_t count, const size_t *from) {
  dynq_session *other = NULL;
  DYNQ_TRY(dynq_kept_check(s, count != 0 ? from : (const void *)s, "from"));
  for (size_t i = 0; i < count; i++) {
    DYNQ_TRY(check_sequence(s, from[i]));
  }
  DYNQ_TRY(dynq_session_enter(s));
  dynq_status status = DYNQ_OK;
  if (!stays(s, count, from)) {
    status = copy_session(s, count, from, &other);
  }
  if (other != NULL) { /* what was kept goes with the other one */
    const dynq_sequences sequences = s->kept.sequences;
    const size_t room = s->kept.room, floats = s->kept.floats;
    s->kept.sequences = other->kept.sequences;
    s->kept.room = other->kept.room;
    s->kept.floats = other->kept.floats;
    other->kept.sequences = sequences;
    other->kept.room = room;
    other->kept.floats = floats;
    for (size_t i = 0; i < s->model->state_count; i++) {
      float *const data = s->kept.data[i];
      s->kept.data[i] = other->kept.data[i];
      other->kept.data[i] = data;
    }
    dynq_session_free(other);
  }
  dynq_session_leave(s);
  return status;
}
