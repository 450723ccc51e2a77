/*
 * Reads the plan, as docs/model-format.md describes it. The bytes may be anything: every count, offset, size and
 * number is checked before it is used, and what is taken in memory is bounded by a multiple of the plan's own size.
 */
#include "../base/alloc.h"
#include "reader.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 3, HEAD_BYTES = 32, CHECKED_FROM = 16 };

/* ---- Tensors ---- */

static dynq_status read_shape(dynq_reader *r, dynq_plan_tensor *t) {
  uint32_t dtype = 0, rank = 0;
  DYNQ_TRY(dynq_read_u8(r, &dtype));
  DYNQ_TRY(dynq_read_u8(r, &rank));
  if (dynq_dtype_size((dynq_dtype)dtype) == 0) {
    return dynq_read_damaged(r, "dtype %lu; expected 0 to 5", (unsigned long)dtype);
  }
  if (rank > DYNQ_MAX_RANK) {
    return dynq_read_damaged(r, "%lu dimensions; expected %d at most", (unsigned long)rank, DYNQ_MAX_RANK);
  }
  t->dtype = (dynq_dtype)dtype;
  t->rank = rank;
  for (size_t i = 0; i < rank; i++) {
    DYNQ_TRY(dynq_read_i64(r, &t->dims[i]));
    const bool symbol = t->kind == DYNQ_INPUT && t->dims[i] < 0;
    if (symbol ? (uint64_t)-1 - (uint64_t)t->dims[i] >= r->model->symbol_count : t->dims[i] < 0) {
      return dynq_read_damaged(r, "size %lld of dimension %zu", (long long)t->dims[i], i);
    }
  }
  return DYNQ_OK;
}

static dynq_status read_constant(dynq_reader *r, dynq_plan_tensor *t) {
  size_t dims[DYNQ_MAX_RANK];
  DYNQ_TRY(read_shape(r, t));
  for (size_t i = 0; i < t->rank; i++) {
    dims[i] = (uint64_t)t->dims[i] <= PTRDIFF_MAX ? (size_t)t->dims[i] : SIZE_MAX;
  }
  const size_t bytes = dynq_size_mul(dynq_dims_count(t->dtype, t->rank, dims), dynq_dtype_size(t->dtype));
  return dynq_read_data(r, bytes, "constant", &t->data);
}

static dynq_status read_weight(dynq_reader *r, dynq_plan_tensor *t) {
  dynq_weight_info info = {0};
  const void *data = NULL, *scale = NULL, *column_sum = NULL, *zero_point = NULL;
  uint64_t n = 0, k = 0;
  DYNQ_TRY(dynq_read_number(r, 8, &n));
  DYNQ_TRY(dynq_read_number(r, 8, &k));
  if (n > PTRDIFF_MAX || k > DYNQ_MAX_K) {
    return dynq_read_damaged(r, "packed weight of n %llu and k %llu; k is at most %d", (unsigned long long)n,
                             (unsigned long long)k, DYNQ_MAX_K);
  }
  info.n = (size_t)n;
  info.k = (size_t)k;
  info.n_padded = dynq_weight_padded(info.n);
  info.data_bytes = dynq_weight_data_bytes(info.n, info.k);
  const size_t array_bytes = dynq_size_mul(info.n_padded, 4);
  DYNQ_TRY(dynq_read_data(r, info.data_bytes, "packed weight", &data));
  DYNQ_TRY(dynq_read_data(r, array_bytes, "scales of a packed weight", &scale));
  DYNQ_TRY(dynq_read_data(r, array_bytes, "column sums of a packed weight", &column_sum));
  if (r->end - r->at >= 8 && dynq_little_endian(r->at, 8) == UINT64_MAX) {
    r->at += 8;
  } else {
    DYNQ_TRY(dynq_read_data(r, array_bytes, "zero-points of a packed weight", &zero_point));
  }
  info.data = data;
  info.scale = scale;
  info.column_sum = column_sum;
  info.zero_point = zero_point;
  const dynq_status status = dynq_weight_view(&info, &t->weight);
  return status == DYNQ_ERROR_INVALID_ARGUMENT ? dynq_read_damaged(r, "packed weight: %s", dynq_last_error()) : status;
}

/* Sizes of a state: each is 1 or more, and a session can count its bytes. */
static dynq_status read_state(dynq_reader *r, dynq_plan_tensor *t) {
  size_t floats = 1;
  DYNQ_TRY(read_shape(r, t));
  if (t->dtype != DYNQ_FLOAT32 || t->rank != 3) {
    return dynq_read_damaged(r, "a state is %s of %zu dimensions; expected float32 of 3", dynq_dtype_name(t->dtype),
                             t->rank);
  }
  for (size_t i = 0; i < t->rank; i++) {
    floats =
        t->dims[i] < 1 || (uint64_t)t->dims[i] > PTRDIFF_MAX ? SIZE_MAX : dynq_size_mul(floats, (size_t)t->dims[i]);
  }
  return floats <= PTRDIFF_MAX / 8 ? DYNQ_OK
                                   : dynq_read_damaged(r, "a state of %lld x %lld x %lld", (long long)t->dims[0],
                                                       (long long)t->dims[1], (long long)t->dims[2]);
}

static dynq_status read_tensor(dynq_reader *r, dynq_plan_tensor *t) {
  uint32_t kind = 0;
  DYNQ_TRY(dynq_read_text(r, &t->name, NULL));
  DYNQ_TRY(dynq_read_u8(r, &kind));
  t->last_reader = DYNQ_NONE;
  t->kind = (dynq_tensor_kind)kind;
  switch (kind) {
  case DYNQ_COMPUTED:
  case DYNQ_PARAMETER:
    return DYNQ_OK;
  case DYNQ_INPUT:
    return read_shape(r, t);
  case DYNQ_CONSTANT:
    return read_constant(r, t);
  case DYNQ_PACKED_WEIGHT:
    return read_weight(r, t);
  case DYNQ_STATE:
    return read_state(r, t);
  }
  return dynq_read_damaged(r, "'%.80s' is of kind %lu; expected 0 to 5", t->name, (unsigned long)kind);
}

static dynq_status read_tensors(dynq_reader *r) {
  dynq_model *m = r->model;
  size_t count = 0;
  r->part = "tensors";
  DYNQ_TRY(dynq_read_count(r, 5, "tensors", &count));
  DYNQ_TRY(dynq_pool_array(&m->pool, count, sizeof *m->tensors, &m->tensors));
  r->part = "tensor";
  for (r->index = 0; r->index < count; r->index++) {
    m->tensor_count = r->index + 1; /* so that its weight is freed whatever comes after */
    DYNQ_TRY(read_tensor(r, &m->tensors[r->index]));
  }
  return DYNQ_OK;
}

/* ---- Inputs and outputs ---- */

static dynq_status read_inputs(dynq_reader *r) {
  dynq_model *m = r->model;
  size_t declared = 0;
  r->part = "inputs";
  r->index = 0;
  DYNQ_TRY(dynq_read_count(r, 4, "inputs", &m->input_count));
  DYNQ_TRY(dynq_pool_array(&m->pool, m->input_count, sizeof *m->inputs, &m->inputs));
  r->part = "input";
  for (r->index = 0; r->index < m->input_count; r->index++) {
    DYNQ_TRY(dynq_read_reference(r, false, &m->inputs[r->index]));
    dynq_plan_tensor *t = &m->tensors[m->inputs[r->index]];
    if (t->kind != DYNQ_INPUT || t->written) {
      return dynq_read_damaged(r, "'%.80s' %s", t->name, t->written ? "is listed twice" : "is no input");
    }
    t->written = true;
  }
  for (size_t i = 0; i < m->tensor_count; i++) {
    declared += m->tensors[i].kind == DYNQ_INPUT;
  }
  return declared == m->input_count
             ? DYNQ_OK
             : dynq_read_damaged(r, "%zu tensors are inputs; the list has %zu", declared, m->input_count);
}

static dynq_status list_states(dynq_reader *r, bool any) {
  dynq_model *m = r->model;
  r->part = "states";
  r->index = 0;
  for (size_t i = 0; i < m->tensor_count; i++) {
    m->state_count += m->tensors[i].kind == DYNQ_STATE;
  }
  if (any != (m->state_count != 0)) {
    return dynq_read_damaged(r, "%zu states in a plan of version %s", m->state_count, any ? "3" : "1 or 2");
  }
  DYNQ_TRY(dynq_pool_array(&m->pool, m->state_count, sizeof *m->states, &m->states));
  for (size_t i = 0, at = 0; i < m->tensor_count; i++) {
    if (m->tensors[i].kind == DYNQ_STATE) {
      const size_t given = (size_t)m->tensors[i].dims[1];
      size_t *most = &m->most_positions[m->tensors[i].of_source ? DYNQ_SOURCE : DYNQ_TEXT];
      *most = *most == 0 || given < *most ? given : *most;
      m->states[at++] = (uint32_t)i;
    }
  }
  return DYNQ_OK;
}

static dynq_status read_outputs(dynq_reader *r) {
  dynq_model *m = r->model;
  r->part = "outputs";
  r->index = 0;
  DYNQ_TRY(dynq_read_count(r, 8, "outputs", &m->output_count));
  DYNQ_TRY(dynq_pool_array(&m->pool, m->output_count, sizeof *m->outputs, &m->outputs));
  r->part = "output";
  for (r->index = 0; r->index < m->output_count; r->index++) {
    dynq_plan_output *output = &m->outputs[r->index];
    DYNQ_TRY(dynq_read_text(r, &output->name, NULL));
    DYNQ_TRY(dynq_read_reference(r, false, &output->tensor));
    DYNQ_TRY(dynq_read_result(r, output->tensor));
  }
  return DYNQ_OK;
}

/* ---- Names ---- */

typedef struct named {
  const char *name;
  uint32_t index;
} named;

static int compare_names(const void *a, const void *b) {
  return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

/* Sorts; fails where two are equal. */
static dynq_status sort_names(dynq_reader *r, const char *part, named *names, size_t count) {
  qsort(names, count, sizeof *names, compare_names);
  r->part = part;
  for (size_t i = 1; i < count; i++) {
    if (strcmp(names[i - 1].name, names[i].name) == 0) {
      r->index = names[i].index;
      return dynq_read_damaged(r, "another has the name '%.80s' too", names[i].name);
    }
  }
  return DYNQ_OK;
}

static dynq_status index_names(dynq_reader *r) {
  dynq_model *m = r->model;
  const size_t most = m->tensor_count > m->all_node_count ? m->tensor_count : m->all_node_count;
  named *names = dynq_alloc(dynq_size_mul(most, sizeof *names));
  if (names == NULL) {
    return dynq_fail_memory(dynq_size_mul(most, sizeof *names));
  }
  for (size_t i = 0; i < m->all_node_count; i++) {
    names[i] = (named){dynq_model_node_at(m, i)->name, (uint32_t)i};
  }
  dynq_status status = sort_names(r, "node", names, m->all_node_count);
  for (size_t i = 0; i < m->tensor_count; i++) {
    names[i] = (named){m->tensors[i].name, (uint32_t)i};
  }
  status = status == DYNQ_OK ? sort_names(r, "tensor", names, m->tensor_count) : status;
  status = status == DYNQ_OK ? dynq_pool_array(&m->pool, m->tensor_count, sizeof *m->by_name, &m->by_name) : status;
  for (size_t i = 0; i < m->tensor_count && status == DYNQ_OK; i++) {
    m->by_name[i] = names[i].index;
  }
  dynq_free(names);
  return status;
}

const dynq_plan_node *dynq_model_node_at(const dynq_model *model, size_t index) {
  size_t low = 0, high = model->body_count;
  if (index < model->node_count) {
    return &model->nodes[index];
  }
  while (high - low > 1) { /* the last body that begins at the node or before has it: those before may be empty */
    const size_t middle = low + (high - low) / 2;
    low = model->bodies[middle].first <= index ? middle : low;
    high = model->bodies[middle].first <= index ? high : middle;
  }
  return &model->bodies[low].nodes[index - model->bodies[low].first];
}

uint32_t dynq_model_find(const dynq_model *model, const char *name) {
  size_t low = 0, high = model->tensor_count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    const int order = strcmp(name, model->tensors[model->by_name[middle]].name);
    if (order == 0) {
      return model->by_name[middle];
    }
    low = order > 0 ? middle + 1 : low;
    high = order < 0 ? middle : high;
  }
  return DYNQ_NONE;
}

/* ---- The whole ---- */

/* zlib's: polynomial 0xedb88320, reflected. */
static uint32_t crc32(const unsigned char *p, size_t count) {
  static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                     0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                     0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < count; i++) {
    crc ^= p[i];
    crc = table[crc & 15] ^ crc >> 4;
    crc = table[crc & 15] ^ crc >> 4;
  }
  return ~crc;
}

static dynq_status check_head(const dynq_model *m, size_t *plan_bytes) {
  if (m->data_bytes < HEAD_BYTES || memcmp(m->data, "dynqplan", 8) != 0) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "not a model of dynq: its first tensor is no plan");
  }
  const uint64_t version = dynq_little_endian(m->data + 8, 4), bytes = dynq_little_endian(m->data + 16, 8),
                 data_bytes = dynq_little_endian(m->data + 24, 8);
  if (version < 1 || version > VERSION) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the plan is of version %lu; dynq %s reads versions 1 to %d%s",
                     (unsigned long)version, DYNQ_VERSION, VERSION, version > VERSION ? ": install a newer dynq" : "");
  }
  if (bytes < HEAD_BYTES || bytes > m->data_bytes) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "truncated: the plan takes %llu bytes; the file holds %zu",
                     (unsigned long long)bytes, m->data_bytes);
  }
  if (crc32(m->data + CHECKED_FROM, (size_t)bytes - CHECKED_FROM) != dynq_little_endian(m->data + 12, 4)) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "damaged: the plan's checksum differs");
  }
  if (data_bytes != m->data_bytes) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "%s: %zu bytes of data; expected %llu",
                     data_bytes > m->data_bytes ? "truncated" : "longer than its plan says", m->data_bytes,
                     (unsigned long long)data_bytes);
  }
  *plan_bytes = (size_t)bytes;
  return DYNQ_OK;
}

dynq_status dynq_plan_read(dynq_model *model) {
  size_t bytes = 0;
  DYNQ_TRY(check_head(model, &bytes));
  const uint64_t version = dynq_little_endian(model->data + 8, 4);
  dynq_reader r = {.model = model, .at = model->data + HEAD_BYTES, .end = model->data + bytes, .part = "symbols"};
  DYNQ_TRY(dynq_read_count(&r, 4, "symbols", &model->symbol_count));
  DYNQ_TRY(dynq_pool_array(&model->pool, model->symbol_count, sizeof *model->symbols, &model->symbols));
  for (; r.index < model->symbol_count; r.index++) {
    DYNQ_TRY(dynq_read_text(&r, &model->symbols[r.index], NULL));
  }
  r.index = 0;
  DYNQ_TRY(read_tensors(&r));
  DYNQ_TRY(read_inputs(&r));
  DYNQ_TRY(dynq_read_nodes(&r, &model->nodes, &model->node_count));
  DYNQ_TRY(list_states(&r, version > 2));
  model->all_node_count = model->node_count;
  DYNQ_TRY(read_outputs(&r));
  DYNQ_TRY(dynq_read_bodies(&r, version > 1));
  DYNQ_TRY(dynq_check_written(&r));
  DYNQ_TRY(index_names(&r));
  r.part = "byte";
  r.index = (size_t)(r.at - model->data);
  return r.at == r.end ? DYNQ_OK
                       : dynq_read_damaged(&r, "the plan goes on for %zu bytes after its end", (size_t)(r.end - r.at));
}
