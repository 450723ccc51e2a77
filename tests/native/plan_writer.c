/*
 * Writes .dynq files in memory.
 */
#include "plan_writer.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, HEAD = 32 };
static const char HEADER[] = "{\"__metadata__\":{\"dynq\":\"model 1\"}}"; /* the checks read no other tensor's entry */

/* ---- Bytes ---- */

static void put(plan_part *b, const void *p, size_t size) {
  if (b->size + size > b->room) {
    b->room = 2 * (b->size + size) + 256;
    b->p = realloc(b->p, b->room);
    if (b->p == NULL) {
      abort(); /* a check without memory has nothing to say */
    }
  }
  if (size != 0) {
    memcpy(b->p + b->size, p, size);
  }
  b->size += size;
}

static void put_number(plan_part *b, size_t bytes, uint64_t value) {
  unsigned char text[8];
  for (size_t i = 0; i < bytes; i++) {
    text[i] = (unsigned char)(value >> 8 * i);
  }
  put(b, text, bytes);
}

static void put_text(plan_part *b, const char *text) {
  put_number(b, 4, strlen(text));
  put(b, text, strlen(text));
}

static void set_number(unsigned char *p, size_t bytes, uint64_t value) {
  for (size_t i = 0; i < bytes; i++) {
    p[i] = (unsigned char)(value >> 8 * i);
  }
}

static uint64_t get_number(const unsigned char *p, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; i++) {
    value |= (uint64_t)p[i] << 8 * i;
  }
  return value;
}

static void pad(plan_part *b) {
  static const unsigned char zeros[ALIGN];
  put(b, zeros, (ALIGN - b->size % ALIGN) % ALIGN);
}

/* ---- Tensors ---- */

uint32_t plan_symbol(plan_writer *w, const char *name) {
  put_text(&w->symbols, name);
  return w->symbol_count++;
}

static uint32_t begin_tensor(plan_writer *w, const char *name, unsigned kind) {
  put_text(&w->tensors, name);
  put_number(&w->tensors, 1, kind);
  return w->tensor_count++;
}

static size_t element_size(dynq_dtype dtype) {
  return dtype == DYNQ_INT64 ? 8 : dtype == DYNQ_FLOAT32 || dtype == DYNQ_INT32 ? 4 : 1;
}

static size_t put_shape(plan_writer *w, dynq_dtype dtype, size_t rank, const int64_t *dims) {
  size_t bytes = element_size(dtype);
  put_number(&w->tensors, 1, (uint64_t)dtype);
  put_number(&w->tensors, 1, rank);
  for (size_t i = 0; i < rank; i++) {
    put_number(&w->tensors, 8, (uint64_t)dims[i]);
    bytes *= dims[i] >= 0 ? (size_t)dims[i] : 0;
  }
  return bytes;
}

static void put_data(plan_writer *w, const void *data, size_t bytes) {
  w->fixups[w->fixup_count++] = w->tensors.size;
  put_number(&w->tensors, 8, w->data.size);
  put(&w->data, data, bytes);
  pad(&w->data);
}

uint32_t plan_input(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank, const int64_t *dims) {
  const uint32_t tensor = begin_tensor(w, name, 1);
  (void)put_shape(w, dtype, rank, dims);
  put_number(&w->inputs, 4, tensor);
  w->input_count++;
  return tensor;
}

uint32_t plan_computed(plan_writer *w, const char *name) { return begin_tensor(w, name, 0); }
uint32_t plan_parameter(plan_writer *w, const char *name) { return begin_tensor(w, name, 4); }

uint32_t plan_state(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank, const int64_t *dims) {
  const uint32_t tensor = begin_tensor(w, name, 5);
  (void)put_shape(w, dtype, rank, dims);
  w->state_count++;
  return tensor;
}

uint32_t plan_constant(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank, const int64_t *dims,
                       const void *data) {
  const uint32_t tensor = begin_tensor(w, name, 2);
  put_data(w, data, put_shape(w, dtype, rank, dims));
  return tensor;
}

uint32_t plan_weight(plan_writer *w, const char *name, const dynq_weight *weight) {
  const uint32_t tensor = begin_tensor(w, name, 3);
  dynq_weight_info info;
  dynq_weight_describe(weight, &info);
  put_number(&w->tensors, 8, info.n);
  put_number(&w->tensors, 8, info.k);
  put_data(w, info.data, info.data_bytes);
  put_data(w, info.scale, info.n_padded * sizeof *info.scale);
  put_data(w, info.column_sum, info.n_padded * sizeof *info.column_sum);
  if (info.zero_point != NULL) {
    put_data(w, info.zero_point, info.n_padded * sizeof *info.zero_point);
  } else {
    put_number(&w->tensors, 8, UINT64_MAX);
  }
  return tensor;
}

/* ---- Nodes ---- */

void plan_node(plan_writer *w, const char *name, const char *op, size_t input_count, const uint32_t *inputs,
               size_t output_count, const uint32_t *outputs) {
  put_text(&w->nodes, name);
  put_text(&w->nodes, op);
  put_number(&w->nodes, 4, input_count);
  for (size_t i = 0; i < input_count; i++) {
    put_number(&w->nodes, 4, inputs[i]);
  }
  put_number(&w->nodes, 4, output_count);
  for (size_t i = 0; i < output_count; i++) {
    put_number(&w->nodes, 4, outputs[i]);
  }
  w->attributes_at = w->nodes.size;
  put_number(&w->nodes, 4, 0);
  w->node_count++;
}

static void begin_attribute(plan_writer *w, const char *name, unsigned type) {
  unsigned char *count = w->nodes.p + w->attributes_at;
  set_number(count, 4, get_number(count, 4) + 1);
  put_text(&w->nodes, name);
  put_number(&w->nodes, 1, type);
}

static void put_f32(plan_part *b, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  put_number(b, 4, bits);
}

void plan_int(plan_writer *w, const char *name, int64_t value) {
  begin_attribute(w, name, 1);
  put_number(&w->nodes, 8, (uint64_t)value);
}

void plan_body(plan_writer *w, const char *name, int64_t body) {
  begin_attribute(w, name, 6);
  put_number(&w->nodes, 8, (uint64_t)body);
}

void plan_float(plan_writer *w, const char *name, float value) {
  begin_attribute(w, name, 2);
  put_f32(&w->nodes, value);
}

void plan_string(plan_writer *w, const char *name, const char *value) {
  begin_attribute(w, name, 3);
  put_text(&w->nodes, value);
}

void plan_ints(plan_writer *w, const char *name, uint32_t count, const int64_t *values) {
  begin_attribute(w, name, 4);
  put_number(&w->nodes, 4, count);
  for (uint32_t i = 0; i < count; i++) {
    put_number(&w->nodes, 8, (uint64_t)values[i]);
  }
}

void plan_floats(plan_writer *w, const char *name, uint32_t count, const float *values) {
  begin_attribute(w, name, 5);
  put_number(&w->nodes, 4, count);
  for (uint32_t i = 0; i < count; i++) {
    put_f32(&w->nodes, values[i]);
  }
}

void plan_output(plan_writer *w, const char *name, uint32_t tensor) {
  put_text(&w->outputs, name);
  put_number(&w->outputs, 4, tensor);
  w->output_count++;
}

static void put_list(plan_part *b, size_t count, const uint32_t *list) {
  put_number(b, 4, count);
  for (size_t i = 0; i < count; i++) {
    put_number(b, 4, list[i]);
  }
}

void plan_begin_body(plan_writer *w, size_t input_count, const uint32_t *inputs) {
  if (w->body_count == 0) {
    w->own_nodes = w->nodes;
    w->own_node_count = w->node_count;
    w->nodes = (plan_part){0};
  }
  w->node_count = 0;
  put_list(&w->bodies, input_count, inputs);
}

void plan_end_body(plan_writer *w, size_t output_count, const uint32_t *outputs) {
  put_number(&w->bodies, 4, w->node_count);
  put(&w->bodies, w->nodes.p, w->nodes.size);
  w->nodes.size = 0;
  put_list(&w->bodies, output_count, outputs);
  w->body_count++;
}

/* ---- The whole ---- */

/* By a table: the fuzzers repair each input, and would spend most of their time here. */
static uint32_t crc32(const unsigned char *p, size_t count) {
  static uint32_t table[16];
  uint32_t crc = UINT32_MAX;
  for (uint32_t i = 0; table[15] == 0 && i < 16; i++) {
    table[i] = i;
    for (int bit = 0; bit < 4; bit++) {
      table[i] = table[i] >> 1 ^ (0xedb88320u & (0u - (table[i] & 1)));
    }
  }
  for (size_t i = 0; i < count; i++) {
    crc ^= p[i];
    crc = table[crc & 15] ^ crc >> 4;
    crc = table[crc & 15] ^ crc >> 4;
  }
  return ~crc;
}

static void append_section(plan_part *plan, uint32_t count, plan_part *section) {
  put_number(plan, 4, count);
  put(plan, section->p, section->size);
}

void *plan_finish(plan_writer *w, size_t *size) {
  plan_part plan = {0};
  put(&plan, "dynqplan", 8);
  put_number(&plan, 4, w->state_count != 0 ? 3 : w->body_count != 0 ? 2 : 1);
  put_number(&plan, 4, 0);
  put_number(&plan, 8, 0);
  put_number(&plan, 8, 0);
  append_section(&plan, w->symbol_count, &w->symbols);
  const size_t tensors_at = plan.size + 4;
  append_section(&plan, w->tensor_count, &w->tensors);
  append_section(&plan, w->input_count, &w->inputs);
  append_section(&plan, w->body_count != 0 ? w->own_node_count : w->node_count,
                 w->body_count != 0 ? &w->own_nodes : &w->nodes);
  append_section(&plan, w->output_count, &w->outputs);
  if (w->body_count != 0 || w->state_count != 0) {
    append_section(&plan, w->body_count, &w->bodies);
  }
  const size_t plan_end = plan.size;
  pad(&plan);
  for (size_t i = 0; i < w->fixup_count; i++) {
    unsigned char *p = plan.p + tensors_at + w->fixups[i];
    set_number(p, 8, get_number(p, 8) + plan.size);
  }
  const size_t header = (8 + sizeof HEADER - 1 + ALIGN - 1) / ALIGN * ALIGN;
  *size = header + plan.size + w->data.size;
  set_number(plan.p + 16, 8, plan_end);
  set_number(plan.p + 24, 8, plan.size + w->data.size);
  unsigned char *image = aligned_alloc(ALIGN, *size);
  if (image != NULL) {
    memset(image, ' ', header);
    set_number(image, 8, header - 8);
    memcpy(image + 8, HEADER, sizeof HEADER - 1);
    memcpy(image + header, plan.p, plan.size);
    if (w->data.size != 0) {
      memcpy(image + header + plan.size, w->data.p, w->data.size);
    }
    plan_repair(image, *size);
  }
  plan_part *const all[] = {&plan,       &w->symbols, &w->tensors,   &w->inputs, &w->nodes,
                            &w->outputs, &w->data,    &w->own_nodes, &w->bodies};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    free(all[i]->p);
  }
  *w = (plan_writer){0};
  return image;
}

unsigned char *plan_of(void *image, size_t size, size_t *plan_size) {
  unsigned char *bytes = image;
  *plan_size = 0;
  if (size < 8 || get_number(bytes, 8) > size - 8 || size - 8 - get_number(bytes, 8) < HEAD) {
    return NULL;
  }
  unsigned char *plan = bytes + 8 + get_number(bytes, 8);
  const size_t left = (size_t)(bytes + size - plan);
  const uint64_t said = get_number(plan + 16, 8);
  if (said < HEAD || said > left) {
    return NULL;
  }
  *plan_size = (size_t)said;
  return plan;
}

void plan_repair(void *image, size_t size) {
  size_t plan_size;
  unsigned char *plan = plan_of(image, size, &plan_size);
  if (plan != NULL) {
    set_number(plan + 12, 4, crc32(plan + 16, plan_size - 16));
  }
}
