/*
 * Keeps sequences between runs: for each of the batch a length, and memory for the states of the model.
 *
 * A run appends behind the lengths, which move when it has ended well. Memory is a block for each state,
 * [sequence][head][position][width], that grows to twice its positions when they do not suffice. A decoder that looks at a
 * source has two tracks: the states of the source have lengths of their own.
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

size_t dynq_kept_track(const dynq_session *s, size_t state) {
  return state_of(s, state)->of_source ? DYNQ_SOURCE : DYNQ_TEXT;
}

/* Floats of one head of one sequence. */
static size_t floats_of_head(const dynq_session *s, size_t state, const size_t capacity[DYNQ_TRACKS]) {
  return dynq_size_mul(capacity[dynq_kept_track(s, state)], dynq_kept_width(s, state));
}

static size_t bytes_for(const dynq_session *s, size_t state, size_t count, const size_t capacity[DYNQ_TRACKS]) {
  const size_t heads = dynq_size_mul(count, dynq_kept_heads(s, state));
  return dynq_size_mul(dynq_size_mul(heads, floats_of_head(s, state, capacity)), sizeof(float));
}

static size_t bytes_of_scores(const dynq_session *s, size_t track, const size_t capacity[DYNQ_TRACKS]) {
  return dynq_size_mul(dynq_size_mul(capacity[track], s->kept.floats[track]), sizeof(float));
}

static size_t all_bytes(const dynq_session *s, size_t count, const size_t capacity[DYNQ_TRACKS]) {
  size_t bytes = 0;
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    bytes = dynq_size_add(bytes, bytes_of_scores(s, t, capacity));
  }
  for (size_t i = 0; i < s->model->state_count; i++) {
    bytes = dynq_size_add(bytes, bytes_for(s, i, count, capacity));
  }
  return bytes;
}

static void capacities_of(const dynq_session *s, size_t capacity[DYNQ_TRACKS]) {
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    capacity[t] = s->kept.sequences[t].capacity;
  }
}

size_t dynq_kept_bytes(const dynq_session *s) {
  size_t capacity[DYNQ_TRACKS];
  capacities_of(s, capacity);
  return all_bytes(s, s->kept.room, capacity);
}

/* The lengths of all tracks lie in one block, which the first one has. */
static void free_blocks(dynq_sequences sequences[DYNQ_TRACKS], size_t states, float **data) {
  for (size_t i = 0; i < states; i++) {
    dynq_free(data[i]);
    data[i] = NULL;
  }
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    dynq_free(sequences[t].scores);
  }
  dynq_free(sequences[0].lengths);
}

void dynq_kept_free(dynq_session *s) {
  free_blocks(s->kept.sequences, s->model->state_count, s->kept.data);
  memset(s->kept.sequences, 0, sizeof s->kept.sequences);
  memset(s->kept.floats, 0, sizeof s->kept.floats);
  s->kept.room = 0;
}

/* ---- Memory ---- */

/* New blocks for everything, in `sequences` and `data`. */
static dynq_status take_blocks(const dynq_session *s, size_t room, const size_t capacity[DYNQ_TRACKS],
                               dynq_sequences sequences[DYNQ_TRACKS], float **data) {
  const size_t of_lengths = dynq_size_mul(room, 2 * DYNQ_TRACKS * sizeof(size_t));
  size_t *lengths = dynq_alloc(of_lengths);
  bool complete = lengths != NULL;
  if (complete) {
    memset(lengths, 0, of_lengths);
  }
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    sequences[t] = (dynq_sequences){.capacity = capacity[t]};
    if (complete) {
      sequences[t].lengths = lengths + 2 * t * room;
      sequences[t].appended = sequences[t].lengths + room;
      sequences[t].scores = dynq_alloc(bytes_of_scores(s, t, capacity));
      complete = sequences[t].scores != NULL;
    }
  }
  for (size_t i = 0; i < s->model->state_count; i++) {
    data[i] = complete ? dynq_alloc(bytes_for(s, i, room, capacity)) : NULL;
    complete = complete && data[i] != NULL;
  }
  if (complete) {
    return DYNQ_OK;
  }
  free_blocks(sequences, s->model->state_count, data);
  return dynq_fail_memory(all_bytes(s, room, capacity));
}

/* Copies sequences into blocks: sequence i is what from[i] was, or i where `from` is NULL. In a run, what nodes have
 * appended so far goes along. */
static void copy_sequences(const dynq_session *s, size_t count, const size_t *from, dynq_sequences to[DYNQ_TRACKS],
                           float **data) {
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    const dynq_sequences *q = &s->kept.sequences[t];
    for (size_t i = 0; i < count; i++) {
      to[t].lengths[i] = q->lengths[from != NULL ? from[i] : i];
      to[t].appended[i] = q->appended[from != NULL ? from[i] : i];
    }
    to[t].count = count;
  }
  for (size_t k = 0; k < s->model->state_count; k++) {
    const size_t heads = dynq_kept_heads(s, k), width = dynq_kept_width(s, k), track = dynq_kept_track(s, k);
    const dynq_sequences *q = &s->kept.sequences[track];
    for (size_t i = 0; i < count; i++) {
      const size_t at = from != NULL ? from[i] : i, added = s->kept.begun[track] ? q->appended[at] : 0;
      const size_t floats = dynq_kept_rounded(q->lengths[at] + added) * width;
      for (size_t h = 0; h < heads && floats != 0; h++) {
        memcpy(data[k] + (i * heads + h) * to[track].capacity * width,
               s->kept.data[k] + (at * heads + h) * q->capacity * width, floats * sizeof(float));
      }
    }
  }
}

/* Moves what there is into new blocks; sequence i becomes what from[i] was. */
static dynq_status move_to(dynq_session *s, size_t room, const size_t capacity[DYNQ_TRACKS], size_t count,
                           const size_t *from) {
  const size_t states = s->model->state_count, bytes = dynq_size_mul(states, sizeof(float *));
  dynq_sequences sequences[DYNQ_TRACKS];
  float **data = dynq_alloc(bytes);
  if (data == NULL) {
    return dynq_fail_memory(bytes);
  }
  const dynq_status status = take_blocks(s, room, capacity, sequences, data);
  if (status == DYNQ_OK) {
    copy_sequences(s, count, from, sequences, data);
    free_blocks(s->kept.sequences, states, s->kept.data);
    memcpy(s->kept.sequences, sequences, sizeof sequences);
    memcpy(s->kept.data, data, bytes);
    s->kept.room = room;
  }
  dynq_free(data);
  return status;
}

dynq_status dynq_kept_reserve(dynq_session *s, size_t count, const size_t positions[DYNQ_TRACKS], size_t max_bytes) {
  size_t capacity[DYNQ_TRACKS];
  bool enough = count <= s->kept.room;
  capacities_of(s, capacity);
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    const size_t most = dynq_kept_rounded(s->model->most_positions[t]), needed = dynq_kept_rounded(positions[t]);
    if (needed > capacity[t] || (capacity[t] == 0 && most != 0 && count != 0)) {
      const size_t wanted = capacity[t] != 0 ? 2 * capacity[t] : FIRST;
      capacity[t] = wanted < needed ? needed : wanted < most ? wanted : most;
      enough = false;
    }
  }
  if (enough) {
    return DYNQ_OK;
  }
  const size_t room = count < s->kept.room ? s->kept.room : count, bytes = all_bytes(s, room, capacity);
  return bytes <= max_bytes ? move_to(s, room, capacity, s->kept.sequences[DYNQ_TEXT].count, NULL)
                            : dynq_fail_limit(bytes, "with its state it takes", max_bytes);
}

/* Memory for the scores of a node that needs more of it than those before. */
static dynq_status reserve_scores(dynq_session *s, size_t track, size_t floats, size_t max_bytes) {
  dynq_sequences *q = &s->kept.sequences[track];
  if (floats <= s->kept.floats[track] && q->scores != NULL) {
    return DYNQ_OK;
  }
  const size_t bytes = dynq_size_mul(dynq_size_mul(q->capacity, floats), sizeof(float));
  if (dynq_size_add(dynq_kept_bytes(s), bytes) > max_bytes) {
    return dynq_fail_limit(dynq_size_add(dynq_kept_bytes(s), bytes), "with its state it takes", max_bytes);
  }
  float *scores = dynq_alloc(bytes);
  if (scores == NULL) {
    return dynq_fail_memory(bytes);
  }
  dynq_free(q->scores);
  q->scores = scores;
  s->kept.floats[track] = floats;
  return DYNQ_OK;
}

/* ---- A run ---- */

static void bind(const dynq_session *s, dynq_shape_plan *plan) {
  for (size_t i = 0; i < s->model->state_count; i++) {
    plan->tensors[s->model->states[i]].data = s->kept.data[i];
  }
}

void dynq_kept_begin(dynq_session *s, dynq_shape_plan *plan) {
  memset(s->kept.begun, 0, sizeof s->kept.begun);
  bind(s, plan);
}

void dynq_kept_commit(dynq_session *s) {
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    dynq_sequences *q = &s->kept.sequences[t];
    for (size_t i = 0; s->kept.begun[t] && i < q->count; i++) {
      q->lengths[i] += q->appended[i];
    }
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

/* Returns whether the session has positions, or a node of this run has said how many sequences there are. */
static bool has_sequences(const dynq_session *s) {
  bool any = false;
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    const dynq_sequences *q = &s->kept.sequences[t];
    any |= s->kept.begun[t];
    for (size_t i = 0; i < q->count; i++) {
      any |= q->lengths[i] != 0;
    }
  }
  return any;
}

/* The longest that a sequence becomes by what the node appends. */
static dynq_status count_positions(const dynq_session *s, size_t track, bool known, const dynq_op_append *append,
                                   size_t *positions) {
  const size_t most = s->model->most_positions[track];
  for (size_t i = 0; i < append->sequences; i++) {
    const size_t rows = appended(append, i), length = known ? s->kept.sequences[track].lengths[i] : 0;
    if (rows == SIZE_MAX) {
      return fail_length(append, i);
    }
    if (length > most || rows > most - length) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                       "sequence %zu has %zu positions%s, and the run brings %zu more; the model has %zu", i, length,
                       track == DYNQ_SOURCE ? " of its source" : "", rows, most);
    }
    *positions = length + rows > *positions ? length + rows : *positions;
  }
  return DYNQ_OK;
}

/* The first node of a run on a track says what the run appends there. */
static dynq_status begin(dynq_session *s, size_t track, size_t max_bytes, const dynq_op_append *append) {
  const bool known = has_sequences(s);
  size_t positions[DYNQ_TRACKS] = {0};
  if (known && s->kept.sequences[track].count != append->sequences) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "the run brings %zu sequences; the session keeps %zu: reset it for others", append->sequences,
                     s->kept.sequences[track].count);
  }
  DYNQ_TRY(count_positions(s, track, known, append, &positions[track]));
  for (size_t t = 0; t < DYNQ_TRACKS && !known; t++) {
    s->kept.sequences[t].count = 0;
  }
  DYNQ_TRY(dynq_kept_reserve(s, append->sequences, positions, max_bytes));
  for (size_t t = 0; t < DYNQ_TRACKS && !known; t++) {
    dynq_sequences *q = &s->kept.sequences[t];
    q->count = append->sequences;
    for (size_t i = 0; i < q->count; i++) {
      q->lengths[i] = q->appended[i] = 0;
    }
  }
  for (size_t i = 0; i < append->sequences; i++) {
    s->kept.sequences[track].appended[i] = appended(append, i);
  }
  s->kept.begun[track] = true;
  s->kept.rows[track] = append->rows;
  return DYNQ_OK;
}

dynq_status dynq_kept_prepare(dynq_session *s, dynq_shape_plan *plan, const dynq_op_node *node) {
  const dynq_op_append *append = &node->append;
  const size_t track = (node->op->flags & DYNQ_OP_SOURCE) != 0 ? DYNQ_SOURCE : DYNQ_TEXT;
  const size_t used = dynq_size_add(plan->arena_bytes, plan->static_bytes);
  const size_t max_bytes = used < plan->max_bytes ? plan->max_bytes - used : 0;
  const dynq_sequences *q = &s->kept.sequences[track];
  if (!s->kept.begun[track]) {
    DYNQ_TRY(begin(s, track, max_bytes, append));
    bind(s, plan);
  }
  if (append->sequences != q->count || append->rows != s->kept.rows[track]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "it appends %zu x %zu positions; nodes before it %zu x %zu",
                     append->sequences, append->rows, q->count, s->kept.rows[track]);
  }
  for (size_t i = 0; append->lengths != NULL && i < q->count; i++) {
    if (appended(append, i) != q->appended[i]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "its lengths are not those of the nodes before it");
    }
  }
  return append->floats != 0 ? reserve_scores(s, track, append->floats, max_bytes) : DYNQ_OK;
}

/* ---- The public functions ---- */

dynq_status dynq_session_enter(dynq_session *s) {
  return atomic_exchange(&s->busy, true)
             ? dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the session is at work in another thread: each needs its own")
             : DYNQ_OK;
}

void dynq_session_leave(dynq_session *s) {
  memset(s->kept.begun, 0, sizeof s->kept.begun); /* however the run has ended */
  atomic_store(&s->busy, false);
}

dynq_status dynq_kept_check(const void *session, const void *other, const char *what) {
  if (session != NULL && other != NULL) {
    return DYNQ_OK;
  }
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", session == NULL ? "session" : what);
}

static dynq_status positions_of(const dynq_model *model, size_t track, size_t *most) {
  if (model == NULL || most == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", model == NULL ? "model" : "most");
  }
  *most = model->most_positions[track];
  return DYNQ_OK;
}

dynq_status dynq_model_positions(const dynq_model *model, size_t *most) { return positions_of(model, DYNQ_TEXT, most); }

dynq_status dynq_model_source_positions(const dynq_model *model, size_t *most) {
  return positions_of(model, DYNQ_SOURCE, most);
}

dynq_status dynq_session_reset(dynq_session *s) {
  DYNQ_TRY(dynq_kept_check(s, s, "session"));
  DYNQ_TRY(dynq_session_enter(s));
  for (size_t t = 0; t < DYNQ_TRACKS; t++) {
    s->kept.sequences[t].count = 0;
  }
  dynq_session_leave(s);
  return DYNQ_OK;
}

dynq_status dynq_session_sequences(const dynq_session *s, size_t *count) {
  DYNQ_TRY(dynq_kept_check(s, count, "count"));
  *count = s->kept.sequences[DYNQ_TEXT].count;
  return DYNQ_OK;
}

static dynq_status check_sequence(const dynq_session *s, size_t sequence) {
  return sequence < s->kept.sequences[DYNQ_TEXT].count
             ? DYNQ_OK
             : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sequence is %zu; the session keeps %zu", sequence,
                         s->kept.sequences[DYNQ_TEXT].count);
}

dynq_status dynq_session_length(const dynq_session *s, size_t sequence, size_t *length) {
  DYNQ_TRY(dynq_kept_check(s, length, "length"));
  DYNQ_TRY(check_sequence(s, sequence));
  *length = s->kept.sequences[DYNQ_TEXT].lengths[sequence];
  return DYNQ_OK;
}

dynq_status dynq_session_truncate(dynq_session *s, size_t sequence, size_t length) {
  DYNQ_TRY(dynq_kept_check(s, s, "session"));
  if (sequence != SIZE_MAX) {
    DYNQ_TRY(check_sequence(s, sequence));
  }
  DYNQ_TRY(dynq_session_enter(s));
  dynq_sequences *q = &s->kept.sequences[DYNQ_TEXT];
  for (size_t i = 0; i < q->count; i++) {
    if ((sequence == SIZE_MAX || sequence == i) && q->lengths[i] > length) {
      q->lengths[i] = length;
    }
  }
  dynq_session_leave(s);
  return DYNQ_OK;
}

dynq_status dynq_session_fork(const dynq_session *s, dynq_session **copy) {
  DYNQ_TRY(dynq_kept_check(s, copy, "copy"));
  const size_t count = s->kept.sequences[DYNQ_TEXT].count, max_bytes = s->max_bytes != 0 ? s->max_bytes : SIZE_MAX;
  const dynq_session_options options = {.threads = s->threads,
                                        .max_bytes = s->max_bytes,
                                        .poll = s->interrupt.poll,
                                        .poll_context = s->interrupt.context};
  dynq_session *made = NULL;
  size_t capacity[DYNQ_TRACKS];
  capacities_of(s, capacity);
  DYNQ_TRY(dynq_session_new_with(s->model, &options, &made));
  memcpy(made->kept.floats, s->kept.floats, sizeof made->kept.floats);
  const dynq_status status = count != 0 ? dynq_kept_reserve(made, count, capacity, max_bytes) : DYNQ_OK;
  if (status != DYNQ_OK) {
    dynq_session_free(made);
    return status;
  }
  copy_sequences(s, count, NULL, made->kept.sequences, made->kept.data);
  *copy = made;
  return DYNQ_OK;
}

static bool stays(const dynq_session *s, size_t count, const size_t *from) {
  size_t same = 0;
  while (same < count && from[same] == same) {
    same++;
  }
  return same == count && count == s->kept.sequences[DYNQ_TEXT].count;
}

/* Beams: new blocks get the sequences where they belong. */
static dynq_status reorder(dynq_session *s, size_t count, const size_t *from) {
  const size_t room = count < s->kept.room ? s->kept.room : count;
  size_t capacity[DYNQ_TRACKS];
  if (stays(s, count, from)) {
    return DYNQ_OK;
  }
  capacities_of(s, capacity);
  const size_t bytes = all_bytes(s, room, capacity);
  return s->max_bytes == 0 || bytes <= s->max_bytes ? move_to(s, room, capacity, count, from)
                                                    : dynq_fail_limit(bytes, "with its state it takes", s->max_bytes);
}

dynq_status dynq_session_reorder(dynq_session *s, size_t count, const size_t *from) {
  DYNQ_TRY(dynq_kept_check(s, count != 0 ? from : (const void *)s, "from"));
  for (size_t i = 0; i < count; i++) {
    DYNQ_TRY(check_sequence(s, from[i]));
  }
  DYNQ_TRY(dynq_session_enter(s));
  const dynq_status status = reorder(s, count, from);
  dynq_session_leave(s);
  return status;
}
