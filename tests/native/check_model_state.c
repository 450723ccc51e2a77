/*
 * Steps of a session that keeps keys and values: they have the bits of one call and allocate nothing. Every call that
 * changes the state, with wrong arguments and with failing allocations.
 */
#include "base/alloc.h"
#include "blocks.h"
#include "check_model.h"

#include <stdlib.h>
#include <string.h>

enum { HEADS = 4, SHARED = 2, SIZE = 8, MOST = 150, ROWS = 100, SEQUENCES = 2 };

void *state_image(size_t *size) {
  plan_writer w = {0};
  const int64_t batch = -1 - (int64_t)plan_symbol(&w, "batch"), rows = -1 - (int64_t)plan_symbol(&w, "rows");
  const int64_t wide[3] = {batch, rows, HEADS * SIZE}, thin[3] = {batch, rows, SHARED * SIZE};
  const int64_t kept[3] = {SHARED, MOST, SIZE};
  const uint32_t q = plan_input(&w, "q", DYNQ_FLOAT32, 3, wide), k = plan_input(&w, "k", DYNQ_FLOAT32, 3, thin),
                 v = plan_input(&w, "v", DYNQ_FLOAT32, 3, thin);
  const uint32_t keys = plan_state(&w, "keys", DYNQ_FLOAT32, 3, kept),
                 values = plan_state(&w, "values", DYNQ_FLOAT32, 3, kept);
  const uint32_t y = plan_computed(&w, "y");
  plan_node(&w, "attention", "dynq.CachedAttention", 5, (const uint32_t[]){q, k, v, keys, values}, 1, &y);
  plan_int(&w, "heads", HEADS);
  plan_output(&w, "y", y);
  return plan_finish(&w, size);
}

/* q, k and v of all rows, [row][sequence]: of one row they lie side by side. */
static float q[ROWS * SEQUENCES * HEADS * SIZE], k[ROWS * SEQUENCES * SHARED * SIZE],
    v[ROWS * SEQUENCES * SHARED * SIZE];

/* One row of each sequence. */
static dynq_status step(dynq_session *session, size_t row, float *y) {
  const size_t wide[3] = {SEQUENCES, 1, HEADS * SIZE}, thin[3] = {SEQUENCES, 1, SHARED * SIZE};
  const dynq_tensor in[3] = {tensor_of(DYNQ_FLOAT32, 3, wide, q + row * SEQUENCES * HEADS * SIZE),
                             tensor_of(DYNQ_FLOAT32, 3, thin, k + row * SEQUENCES * SHARED * SIZE),
                             tensor_of(DYNQ_FLOAT32, 3, thin, v + row * SEQUENCES * SHARED * SIZE)};
  dynq_tensor out;
  const dynq_status status = dynq_model_run(session, in, &out);
  if (status == DYNQ_OK) {
    memcpy(y, out.data, SEQUENCES * HEADS * SIZE * sizeof *y);
  }
  return status;
}

static void check_steps(const dynq_model *model) {
  static float y[SEQUENCES * HEADS * SIZE], again[SEQUENCES * HEADS * SIZE];
  dynq_session *session = NULL, *fork = NULL;
  size_t length = 0, bytes = 0, count = 0;
  check_begin("", "what a session keeps");
  CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
  CHECK_STATUS(DYNQ_OK, dynq_model_positions(model, &length));
  CHECK(length == MOST);
  for (size_t row = 0; row < ROWS; row++) {
    const size_t taken = blocks_taken();
    CHECK_STATUS(DYNQ_OK, step(session, row, y));
    CHECK(blocks_taken() == taken || row == 0 || row == 64); /* it grows to twice its positions */
  }
  CHECK_STATUS(DYNQ_OK, dynq_session_length(session, 1, &length));
  CHECK(length == ROWS);
  CHECK_STATUS(DYNQ_OK, dynq_session_fork(session, &fork));
  CHECK_STATUS(DYNQ_OK, dynq_session_saved_bytes(session, &bytes));
  void *saved = malloc(bytes), *other = malloc(bytes);
  CHECK_STATUS(DYNQ_OK, dynq_session_save(session, saved, bytes));
  CHECK_STATUS(DYNQ_OK, dynq_session_truncate(session, SIZE_MAX, ROWS - 1));
  CHECK_STATUS(DYNQ_OK, step(session, ROWS - 1, again));
  CHECK(memcmp(y, again, sizeof y) == 0);
  CHECK_STATUS(DYNQ_OK, dynq_session_save(session, other, bytes));
  CHECK(memcmp(saved, other, bytes) == 0);
  CHECK_STATUS(DYNQ_OK, dynq_session_reset(session));
  CHECK_STATUS(DYNQ_OK, dynq_session_sequences(session, &count));
  CHECK(count == 0);
  CHECK_STATUS(DYNQ_OK, dynq_session_restore(session, saved, bytes));
  CHECK_STATUS(DYNQ_OK, step(session, 0, y));
  CHECK_STATUS(DYNQ_OK, step(fork, 0, again));
  CHECK(memcmp(y, again, sizeof y) == 0);
  CHECK_STATUS(DYNQ_OK, dynq_session_reorder(session, 3, (const size_t[]){1, 0, 1}));
  CHECK_STATUS(DYNQ_OK, dynq_session_sequences(session, &count));
  CHECK(count == 3);
  CHECK_STATUS(DYNQ_ERROR_INVALID_ARGUMENT, step(session, 0, y)); /* two sequences to three */
  CHECK_STATUS(DYNQ_ERROR_INVALID_ARGUMENT, dynq_session_reorder(session, 1, (const size_t[]){3}));
  CHECK_STATUS(DYNQ_ERROR_INVALID_ARGUMENT, dynq_session_length(session, 3, &length));
  CHECK_STATUS(DYNQ_ERROR_INVALID_ARGUMENT, dynq_session_save(session, saved, bytes));
  CHECK_STATUS(DYNQ_ERROR_FORMAT, dynq_session_restore(session, saved, bytes - 1));
  CHECK_STATUS(DYNQ_ERROR_INVALID_ARGUMENT, dynq_session_fork(NULL, &fork));
  free(saved);
  free(other);
  dynq_session_free(session);
  dynq_session_free(fork);
  check_end();
}

static size_t asked, refused;
static bool refuse_one(size_t bytes) {
  (void)bytes;
  return asked++ == refused;
}

/* Runs, a fork and a new order, until none of them fails. */
static void check_refused(const dynq_model *model) {
  static float y[SEQUENCES * HEADS * SIZE], expected[SEQUENCES * HEADS * SIZE];
  check_begin("", "failing allocations leave the state as it was");
  for (refused = 0; refused < 200; refused++) {
    dynq_session *session = NULL, *fork = NULL;
    const size_t in_use = blocks_in_use();
    dynq_status status = DYNQ_OK;
    size_t rows = 0;
    CHECK_STATUS(DYNQ_OK, dynq_session_new(model, NULL, &session));
    asked = 0;
    dynq_alloc_refuse = refuse_one;
    for (; rows < 66 && status == DYNQ_OK; rows++) {
      status = step(session, rows, y);
    }
    status = status == DYNQ_OK ? dynq_session_fork(session, &fork) : status;
    status = status == DYNQ_OK ? dynq_session_reorder(session, 2, (const size_t[]){1, 0}) : status;
    dynq_alloc_refuse = NULL;
    check_case("allocation %zu fails", refused);
    CHECK(status == DYNQ_OK || status == DYNQ_ERROR_OUT_OF_MEMORY);
    for (size_t row = rows < 66 ? rows - 1 : rows; row < 70 && status != DYNQ_OK; row++) {
      CHECK_STATUS(DYNQ_OK, step(session, row, y));
    }
    if (status != DYNQ_OK && refused > 3) {
      CHECK(memcmp(y, expected, sizeof y) == 0 || refused == 4);
      memcpy(expected, y, sizeof y);
    }
    dynq_session_free(session);
    dynq_session_free(fork);
    CHECK(blocks_in_use() == in_use);
    if (status == DYNQ_OK) {
      break;
    }
  }
  CHECK(refused > 5 && refused < 200);
  check_end();
}

void check_model_state(void) {
  size_t size;
  fill_f32(FILL_UNIT, q, sizeof q / sizeof q[0]);
  fill_f32(FILL_UNIT, k, sizeof k / sizeof k[0]);
  fill_f32(FILL_UNIT, v, sizeof v / sizeof v[0]);
  void *image = state_image(&size);
  dynq_model *model = open_image(image, size);
  check_steps(model);
  check_refused(model);
  dynq_model_close(model);
  free(image);
}
