/*
 * Reads the plan, as docs/model-format.md describes it. The bytes may be anything: every count, offset, size and
 * number is checked before it is used, and what is taken in memory is bounded by a multiple of the plan's own size.
 */
#include "../alloc.h"
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, ALIGN = 64, HEAD_BYTES = 32, CHECKED_FROM = 16 };

typedef struct reader {
  dynq_model *model;
  const unsigned char *at, *end;
  const char *part; /* for messages: what is read, and which of them */
  size_t index;
} reader;

static dynq_status damaged(const reader *r, const char *format, ...) DYNQ_PRINTF(2, 3);
static dynq_status damaged(const reader *r, const char *format, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return dynq_fail(DYNQ_ERROR_FORMAT, "damaged plan, %s %zu: %s", r->part, r->index, text);
}

/* ---- Numbers and texts ---- */

static uint64_t little_endian(const unsigned char *p, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; i++) {
    value |= (uint64_t)p[i] << 8 * i;
  }
  return value;
}

static dynq_status read_bytes(reader *r, size_t count, const unsigned char **bytes) {
  if (count > (size_t)(r->end - r->at)) {
    return damaged(r, "truncated: %zu bytes are left; expected %zu", (size_t)(r->end - r->at), count);
  }
  *bytes = r->at;
  r->at += count;
  return DYNQ_OK;
}

static dynq_status read_number(reader *r, size_t bytes, uint64_t *value) {
  const unsigned char *p = NULL;
  DYNQ_TRY(read_bytes(r, bytes, &p));
  *value = little_endian(p, bytes);
  return DYNQ_OK;
}

static dynq_status read_u8(reader *r, uint32_t *value) {
  uint64_t wide = 0;
  DYNQ_TRY(read_number(r, 1, &wide));
  *value = (uint32_t)wide;
  return DYNQ_OK;
}

static dynq_status read_u32(reader *r, uint32_t *value) {
  uint64_t wide = 0;
  DYNQ_TRY(read_number(r, 4, &wide));
  *value = (uint32_t)wide;
  return DYNQ_OK;
}

static dynq_status read_i64(reader *r, int64_t *value) {
  uint64_t wide = 0;
  DYNQ_TRY(read_number(r, 8, &wide));
  memcpy(value, &wide, sizeof wide);
  return DYNQ_OK;
}

static dynq_status read_f32(reader *r, float *value) {
  uint32_t bits = 0;
  DYNQ_TRY(read_u32(r, &bits));
  memcpy(value, &bits, sizeof bits);
  return DYNQ_OK;
}

/* A number of things that take at least `each` bytes. */
static dynq_status read_count(reader *r, size_t each, const char *what, size_t *count) {
  uint32_t n = 0;
  DYNQ_TRY(read_u32(r, &n));
  if (n > (size_t)(r->end - r->at) / each) {
    return damaged(r, "%lu %s; the rest of the plan has no room for them", (unsigned long)n, what);
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

static dynq_status take(reader *r, size_t count, size_t size, void *array) {
  void *p = dynq_pool_array(&r->model->pool, count, size);
  memcpy(array, &p, sizeof p);
  return p != NULL ? DYNQ_OK : dynq_fail_memory(dynq_size_mul(count, size));
}

static dynq_status read_text(reader *r, const char **text, size_t *length) {
  const unsigned char *p = NULL;
  size_t count = 0;
  char *copy;
  DYNQ_TRY(read_count(r, 1, "bytes of text", &count));
  DYNQ_TRY(read_bytes(r, count, &p));
  for (size_t i = 0; i < count;) {
    const size_t bytes = utf8_sequence(p + i, count - i);
    if (bytes == 0) {
      return damaged(r, "a text is not UTF-8 or holds a zero");
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

/* ---- Tensors ---- */

static dynq_status read_shape(reader *r, dynq_plan_tensor *t) {
  uint32_t dtype = 0, rank = 0;
  DYNQ_TRY(read_u8(r, &dtype));
  DYNQ_TRY(read_u8(r, &rank));
  if (dynq_dtype_size((dynq_dtype)dtype) == 0) {
    return damaged(r, "dtype %lu; expected 0 to 5", (unsigned long)dtype);
  }
  if (rank > DYNQ_MAX_RANK) {
    return damaged(r, "%lu dimensions; expected %d at most", (unsigned long)rank, DYNQ_MAX_RANK);
  }
  t->dtype = (dynq_dtype)dtype;
  t->rank = rank;
  for (size_t i = 0; i < rank; i++) {
    DYNQ_TRY(read_i64(r, &t->dims[i]));
    const bool symbol = t->kind == DYNQ_INPUT && t->dims[i] < 0;
    if (symbol ? (uint64_t)-1 - (uint64_t)t->dims[i] >= r->model->symbol_count : t->dims[i] < 0) {
      return damaged(r, "size %lld of dimension %zu", (long long)t->dims[i], i);
    }
  }
  return DYNQ_OK;
}

/* The `bytes` bytes of data at the offset that stands in the plan. */
static dynq_status read_data(reader *r, size_t bytes, const char *what, const void **data) {
  const dynq_model *m = r->model;
  uint64_t offset = 0;
  DYNQ_TRY(read_number(r, 8, &offset));
  if (offset % ALIGN != 0 || offset > m->data_bytes || bytes > m->data_bytes - offset) {
    return damaged(r, "%s: %zu bytes at %llu; the data have %zu, and all begin at multiples of %d", what, bytes,
                   (unsigned long long)offset, m->data_bytes, ALIGN);
  }
  *data = m->data + offset;
  return DYNQ_OK;
}

static dynq_status read_constant(reader *r, dynq_plan_tensor *t) {
  size_t dims[DYNQ_MAX_RANK];
  DYNQ_TRY(read_shape(r, t));
  for (size_t i = 0; i < t->rank; i++) {
    dims[i] = (uint64_t)t->dims[i] <= PTRDIFF_MAX ? (size_t)t->dims[i] : SIZE_MAX;
  }
  const size_t bytes = dynq_size_mul(dynq_dims_count(t->dtype, t->rank, dims), dynq_dtype_size(t->dtype));
  return read_data(r, bytes, "constant", &t->data);
}

static dynq_status read_weight(reader *r, dynq_plan_tensor *t) {
  dynq_weight_info info = {0};
  const void *data = NULL, *scale = NULL, *column_sum = NULL, *zero_point = NULL;
  uint64_t n = 0, k = 0;
  DYNQ_TRY(read_number(r, 8, &n));
  DYNQ_TRY(read_number(r, 8, &k));
  if (n > PTRDIFF_MAX || k > DYNQ_MAX_K) {
    return damaged(r, "packed weight of n %llu and k %llu; k is at most %d", (unsigned long long)n,
                   (unsigned long long)k, DYNQ_MAX_K);
  }
  info.n = (size_t)n;
  info.k = (size_t)k;
  info.n_padded = (info.n + DYNQ_PANEL - 1) / DYNQ_PANEL * DYNQ_PANEL;
  info.data_bytes = dynq_size_mul(info.n_padded, (info.k + DYNQ_GROUP - 1) / DYNQ_GROUP * DYNQ_GROUP);
  const size_t array_bytes = dynq_size_mul(info.n_padded, 4);
  DYNQ_TRY(read_data(r, info.data_bytes, "packed weight", &data));
  DYNQ_TRY(read_data(r, array_bytes, "scales of a packed weight", &scale));
  DYNQ_TRY(read_data(r, array_bytes, "column sums of a packed weight", &column_sum));
  if (r->end - r->at >= 8 && little_endian(r->at, 8) == UINT64_MAX) {
    r->at += 8;
  } else {
    DYNQ_TRY(read_data(r, array_bytes, "zero-points of a packed weight", &zero_point));
  }
  info.data = data;
  info.scale = scale;
  info.column_sum = column_sum;
  info.zero_point = zero_point;
  const dynq_status status = dynq_weight_view(&info, &t->weight);
  if (status == DYNQ_ERROR_INVALID_ARGUMENT) {
    char message[200];
    (void)strncpy(message, dynq_last_error(), sizeof message - 1);
    message[sizeof message - 1] = '\0';
    return damaged(r, "packed weight: %s", message);
  }
  return status;
}

static dynq_status read_tensor(reader *r, dynq_plan_tensor *t) {
  uint32_t kind = 0;
  DYNQ_TRY(read_text(r, &t->name, NULL));
  DYNQ_TRY(read_u8(r, &kind));
  t->kind = (dynq_tensor_kind)kind;
  switch (kind) {
  case DYNQ_COMPUTED:
    return DYNQ_OK;
  case DYNQ_INPUT:
    return read_shape(r, t);
  case DYNQ_CONSTANT:
    return read_constant(r, t);
  case DYNQ_PACKED_WEIGHT:
    return read_weight(r, t);
  }
  return damaged(r, "'%.80s' is of kind %lu; expected 0 to 3", t->name, (unsigned long)kind);
}

static dynq_status read_tensors(reader *r) {
  dynq_model *m = r->model;
  size_t count = 0;
  r->part = "tensors";
  DYNQ_TRY(read_count(r, 5, "tensors", &count));
  DYNQ_TRY(take(r, count, sizeof *m->tensors, &m->tensors));
  r->part = "tensor";
  for (r->index = 0; r->index < count; r->index++) {
    m->tensor_count = r->index + 1; /* so that its weight is freed whatever comes after */
    DYNQ_TRY(read_tensor(r, &m->tensors[r->index]));
  }
  return DYNQ_OK;
}

static dynq_status read_reference(reader *r, bool may_be_none, uint32_t *tensor) {
  DYNQ_TRY(read_u32(r, tensor));
  if (*tensor >= r->model->tensor_count && !(may_be_none && *tensor == DYNQ_NONE)) {
    return damaged(r, "refers to tensor %lu of %zu", (unsigned long)*tensor, r->model->tensor_count);
  }
  return DYNQ_OK;
}

/* ---- Inputs and outputs ---- */

static dynq_status read_inputs(reader *r) {
  dynq_model *m = r->model;
  size_t declared = 0;
  r->part = "inputs";
  r->index = 0;
  DYNQ_TRY(read_count(r, 4, "inputs", &m->input_count));
  DYNQ_TRY(take(r, m->input_count, sizeof *m->inputs, &m->inputs));
  r->part = "input";
  for (r->index = 0; r->index < m->input_count; r->index++) {
    DYNQ_TRY(read_reference(r, false, &m->inputs[r->index]));
    dynq_plan_tensor *t = &m->tensors[m->inputs[r->index]];
    if (t->kind != DYNQ_INPUT || t->written) {
      return damaged(r, "'%.80s' %s", t->name, t->written ? "is listed twice" : "is no input");
    }
    t->written = true;
  }
  for (size_t i = 0; i < m->tensor_count; i++) {
    declared += m->tensors[i].kind == DYNQ_INPUT;
  }
  return declared == m->input_count ? DYNQ_OK
                                    : damaged(r, "%zu tensors are inputs; the list has %zu", declared, m->input_count);
}

static dynq_status read_outputs(reader *r) {
  dynq_model *m = r->model;
  r->part = "outputs";
  r->index = 0;
  DYNQ_TRY(read_count(r, 8, "outputs", &m->output_count));
  DYNQ_TRY(take(r, m->output_count, sizeof *m->outputs, &m->outputs));
  r->part = "output";
  for (r->index = 0; r->index < m->output_count; r->index++) {
    dynq_plan_output *output = &m->outputs[r->index];
    DYNQ_TRY(read_text(r, &output->name, NULL));
    DYNQ_TRY(read_reference(r, false, &output->tensor));
    const dynq_plan_tensor *t = &m->tensors[output->tensor];
    if (t->kind == DYNQ_PACKED_WEIGHT) {
      return damaged(r, "'%.80s' is a packed weight", t->name);
    }
  }
  return DYNQ_OK;
}

/* ---- Nodes ---- */

static dynq_status read_list(reader *r, size_t least, size_t most, const char *what, size_t *count, uint32_t **list) {
  DYNQ_TRY(read_count(r, 4, what, count));
  if (*count < least || *count > most) {
    return damaged(r, "%zu %s; the op has %zu to %zu", *count, what, least, most);
  }
  DYNQ_TRY(take(r, *count, sizeof **list, list));
  for (size_t i = 0; i < *count; i++) {
    DYNQ_TRY(read_reference(r, true, &(*list)[i]));
  }
  return DYNQ_OK;
}

static dynq_status check_node_input(const reader *r, const dynq_op *op, size_t i, uint32_t tensor) {
  if (tensor == DYNQ_NONE) {
    return i >= op->min_inputs ? DYNQ_OK : damaged(r, "%s: input %zu is left out", op->name, i);
  }
  const dynq_plan_tensor *t = &r->model->tensors[tensor];
  if (t->kind == DYNQ_COMPUTED && !t->written) {
    return damaged(r, "%s: '%.80s' is read before it is computed", op->name, t->name);
  }
  if ((t->kind == DYNQ_PACKED_WEIGHT) != dynq_op_bit(op->weight_inputs, i)) {
    return damaged(r, "%s: input %zu, '%.80s', is %s", op->name, i, t->name,
                   t->kind == DYNQ_PACKED_WEIGHT ? "a packed weight; expected a tensor"
                                                 : "a tensor; expected a packed weight");
  }
  return DYNQ_OK;
}

static dynq_status check_node_outputs(const reader *r, const dynq_plan_node *node) {
  size_t read = 0;
  for (size_t i = 0; i < node->output_count; i++) {
    if (node->outputs[i] != DYNQ_NONE) {
      dynq_plan_tensor *t = &r->model->tensors[node->outputs[i]];
      if (t->kind != DYNQ_COMPUTED || t->written) {
        return damaged(r, "writes '%.80s', which is %s", t->name,
                       t->written && t->kind == DYNQ_COMPUTED ? "computed already" : "not computed");
      }
      t->written = true;
      read++;
    }
  }
  return read != 0 ? DYNQ_OK : damaged(r, "none of its outputs is read");
}

static dynq_status read_attribute_value(reader *r, dynq_attribute_type type, dynq_attribute *a) {
  switch (type) {
  case DYNQ_ATTRIBUTE_INT:
    return read_i64(r, &a->i);
  case DYNQ_ATTRIBUTE_FLOAT:
    return read_f32(r, &a->f);
  case DYNQ_ATTRIBUTE_STRING:
    return read_text(r, &a->string, &a->count);
  case DYNQ_ATTRIBUTE_INTS: {
    int64_t *ints = NULL;
    DYNQ_TRY(read_count(r, sizeof *ints, "integers", &a->count));
    DYNQ_TRY(take(r, a->count, sizeof *ints, &ints));
    for (size_t i = 0; i < a->count; i++) {
      DYNQ_TRY(read_i64(r, &ints[i]));
    }
    a->ints = ints;
    return DYNQ_OK;
  }
  case DYNQ_ATTRIBUTE_FLOATS: {
    float *floats = NULL;
    DYNQ_TRY(read_count(r, sizeof *floats, "floats", &a->count));
    DYNQ_TRY(take(r, a->count, sizeof *floats, &floats));
    for (size_t i = 0; i < a->count; i++) {
      DYNQ_TRY(read_f32(r, &floats[i]));
    }
    a->floats = floats;
    return DYNQ_OK;
  }
  }
  return damaged(r, "an attribute of type %d; expected 1 to 5", (int)type);
}

static size_t known_attributes(const dynq_op *op) {
  size_t count = 0;
  while (count < DYNQ_OP_MAX_ATTRIBUTES && op->attributes[count].name != NULL) {
    count++;
  }
  return count;
}

static dynq_status read_attributes(reader *r, dynq_plan_node *node) {
  const size_t known = known_attributes(node->op);
  dynq_attribute *attributes = NULL;
  size_t count = 0;
  DYNQ_TRY(read_count(r, 5, "attributes", &count));
  DYNQ_TRY(take(r, known, sizeof *attributes, &attributes));
  node->attributes = attributes;
  for (size_t i = 0; i < count; i++) {
    const char *name = NULL;
    uint32_t type = 0;
    size_t at = 0;
    DYNQ_TRY(read_text(r, &name, NULL));
    DYNQ_TRY(read_u8(r, &type));
    while (at < known && strcmp(node->op->attributes[at].name, name) != 0) {
      at++;
    }
    if (at == known || attributes[at].present) {
      return damaged(r, "%s: attribute '%.60s' is %s", node->op->name, name, at == known ? "unknown" : "there twice");
    }
    if (type != (uint32_t)node->op->attributes[at].type) {
      return damaged(r, "%s: attribute '%.60s' is of type %lu; expected %d", node->op->name, name, (unsigned long)type,
                     (int)node->op->attributes[at].type);
    }
    attributes[at].present = true;
    DYNQ_TRY(read_attribute_value(r, (dynq_attribute_type)type, &attributes[at]));
  }
  return DYNQ_OK;
}

static dynq_status read_node(reader *r, dynq_plan_node *node) {
  const char *op = NULL;
  uint32_t *inputs = NULL, *outputs = NULL;
  DYNQ_TRY(read_text(r, &node->name, NULL));
  DYNQ_TRY(read_text(r, &op, NULL));
  node->op = dynq_op_find(op);
  if (node->op == NULL) {
    return damaged(r, "'%.60s' is of op '%.60s', which dynq %s does not have", node->name, op, DYNQ_VERSION);
  }
  DYNQ_TRY(read_list(r, node->op->min_inputs, node->op->max_inputs, "inputs", &node->input_count, &inputs));
  DYNQ_TRY(read_list(r, node->op->min_outputs, node->op->max_outputs, "outputs", &node->output_count, &outputs));
  node->inputs = inputs;
  node->outputs = outputs;
  for (size_t i = 0; i < node->input_count; i++) {
    DYNQ_TRY(check_node_input(r, node->op, i, inputs[i]));
  }
  DYNQ_TRY(check_node_outputs(r, node));
  return read_attributes(r, node);
}

static dynq_status read_nodes(reader *r) {
  dynq_model *m = r->model;
  r->part = "nodes";
  r->index = 0;
  DYNQ_TRY(read_count(r, 20, "nodes", &m->node_count));
  DYNQ_TRY(take(r, m->node_count, sizeof *m->nodes, &m->nodes));
  r->part = "node";
  for (r->index = 0; r->index < m->node_count; r->index++) {
    DYNQ_TRY(read_node(r, &m->nodes[r->index]));
  }
  for (r->part = "tensor", r->index = 0; r->index < m->tensor_count; r->index++) {
    if (m->tensors[r->index].kind == DYNQ_COMPUTED && !m->tensors[r->index].written) {
      return damaged(r, "'%.80s' is computed by no node", m->tensors[r->index].name);
    }
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
static dynq_status sort_names(reader *r, const char *part, named *names, size_t count) {
  qsort(names, count, sizeof *names, compare_names);
  r->part = part;
  for (size_t i = 1; i < count; i++) {
    if (strcmp(names[i - 1].name, names[i].name) == 0) {
      r->index = names[i].index;
      return damaged(r, "another has the name '%.80s' too", names[i].name);
    }
  }
  return DYNQ_OK;
}

static dynq_status index_names(reader *r) {
  dynq_model *m = r->model;
  const size_t most = m->tensor_count > m->node_count ? m->tensor_count : m->node_count;
  named *names = dynq_alloc(dynq_size_mul(most, sizeof *names));
  if (names == NULL) {
    return dynq_fail_memory(dynq_size_mul(most, sizeof *names));
  }
  for (size_t i = 0; i < m->node_count; i++) {
    names[i] = (named){m->nodes[i].name, (uint32_t)i};
  }
  dynq_status status = sort_names(r, "node", names, m->node_count);
  for (size_t i = 0; i < m->tensor_count; i++) {
    names[i] = (named){m->tensors[i].name, (uint32_t)i};
  }
  status = status == DYNQ_OK ? sort_names(r, "tensor", names, m->tensor_count) : status;
  status = status == DYNQ_OK ? take(r, m->tensor_count, sizeof *m->by_name, &m->by_name) : status;
  for (size_t i = 0; i < m->tensor_count && status == DYNQ_OK; i++) {
    m->by_name[i] = names[i].index;
  }
  dynq_free(names);
  return status;
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
  uint32_t table[256], crc = UINT32_MAX;
  for (uint32_t i = 0; i < 256; i++) {
    table[i] = i;
    for (int bit = 0; bit < 8; bit++) {
      table[i] = table[i] >> 1 ^ ((table[i] & 1) != 0 ? 0xedb88320u : 0);
    }
  }
  for (size_t i = 0; i < count; i++) {
    crc = table[(crc ^ p[i]) & 0xff] ^ crc >> 8;
  }
  return ~crc;
}

static dynq_status check_head(const dynq_model *m, size_t *plan_bytes) {
  if (m->data_bytes < HEAD_BYTES || memcmp(m->data, "dynqplan", 8) != 0) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "not a model of dynq: its first tensor is no plan");
  }
  const uint64_t version = little_endian(m->data + 8, 4), bytes = little_endian(m->data + 16, 8),
                 data_bytes = little_endian(m->data + 24, 8);
  if (version != VERSION) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "the plan is of version %lu; dynq %s reads version %d%s",
                     (unsigned long)version, DYNQ_VERSION, VERSION, version > VERSION ? ": install a newer dynq" : "");
  }
  if (bytes < HEAD_BYTES || bytes > m->data_bytes) {
    return dynq_fail(DYNQ_ERROR_FORMAT, "truncated: the plan takes %llu bytes; the file holds %zu",
                     (unsigned long long)bytes, m->data_bytes);
  }
  if (crc32(m->data + CHECKED_FROM, (size_t)bytes - CHECKED_FROM) != little_endian(m->data + 12, 4)) {
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
  reader r = {.model = model, .at = model->data + HEAD_BYTES, .end = model->data + bytes, .part = "symbols"};
  DYNQ_TRY(read_count(&r, 4, "symbols", &model->symbol_count));
  DYNQ_TRY(take(&r, model->symbol_count, sizeof *model->symbols, &model->symbols));
  for (; r.index < model->symbol_count; r.index++) {
    DYNQ_TRY(read_text(&r, &model->symbols[r.index], NULL));
  }
  r.index = 0;
  DYNQ_TRY(read_tensors(&r));
  DYNQ_TRY(read_inputs(&r));
  DYNQ_TRY(read_nodes(&r));
  DYNQ_TRY(read_outputs(&r));
  DYNQ_TRY(index_names(&r));
  r.part = "byte";
  r.index = (size_t)(r.at - model->data);
  return r.at == r.end ? DYNQ_OK : damaged(&r, "the plan goes on for %zu bytes after its end", (size_t)(r.end - r.at));
}
