/*
 * Random models over all ops, most of them nearly right: small shapes, the attributes that an op knows.
 */
#include "fuzz.h"

#include "model/op.h"
#include "plan_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TENSORS = 24, MOST_NODES = 4 };

typedef struct model {
  plan_writer w;
  uint64_t *random;
  uint32_t tensors[MOST_TENSORS]; /* that nodes can read */
  size_t count;
  uint32_t weights[3];
} model;

static size_t below(model *m, size_t n) { return fuzz_below(m->random, n); }

static size_t random_dims(model *m, size_t most_rank, int64_t *dims) {
  static const int64_t sizes[] = {1, 2, 2, 3, 4, 4, 8, 0, 17};
  const size_t rank = below(m, most_rank + 1);
  for (size_t i = 0; i < rank; i++) {
    dims[i] = sizes[below(m, below(m, 3) != 0 ? 4 : sizeof sizes / sizeof sizes[0])];
  }
  return rank;
}

static dynq_dtype random_dtype(model *m) {
  return below(m, 2) != 0 ? DYNQ_FLOAT32 : (dynq_dtype)below(m, DYNQ_INT8 + 1);
}

static int64_t random_int(model *m) {
  static const int64_t extreme[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, -9, 100, 65536};
  return below(m, 12) == 0 ? extreme[below(m, sizeof extreme / sizeof extreme[0])] : (int64_t)below(m, 6) - 2;
}

static float random_float(model *m) {
  static const float values[] = {0.0f, 1.0f, -1.0f, 0.5f, 2.0f, 1e-5f, 3e38f, -3e38f};
  return values[below(m, sizeof values / sizeof values[0])];
}

static void add_input(model *m, size_t number) {
  char name[32];
  int64_t dims[DYNQ_MAX_RANK];
  (void)snprintf(name, sizeof name, "in%zu", number);
  const size_t rank = random_dims(m, 4, dims);
  for (size_t i = 0; i < rank; i++) {
    dims[i] = below(m, 6) == 0 ? -1 : dims[i]; /* the one symbol */
  }
  m->tensors[m->count++] = plan_input(&m->w, name, random_dtype(m), rank, dims);
}

static void add_constant(model *m, size_t number) {
  static _Alignas(64) unsigned char data[17 * 17 * 17 * 17 * 8];
  char name[32];
  int64_t dims[DYNQ_MAX_RANK];
  size_t count = 1;
  const dynq_dtype dtype = below(m, 2) != 0 ? DYNQ_INT64 : random_dtype(m);
  const size_t rank = random_dims(m, dtype == DYNQ_INT64 ? 1 : 3, dims);
  for (size_t i = 0; i < rank; i++) {
    count *= (size_t)dims[i];
  }
  for (size_t i = 0; i < count; i++) {
    if (dtype == DYNQ_INT64) {
      ((int64_t *)(void *)data)[i] = random_int(m);
    } else if (dtype == DYNQ_INT32) {
      ((int32_t *)(void *)data)[i] = (int32_t)below(m, 6) - 2;
    } else if (dtype == DYNQ_FLOAT32) {
      ((float *)(void *)data)[i] = random_float(m);
    } else {
      data[i] = (unsigned char)below(m, 4);
    }
  }
  (void)snprintf(name, sizeof name, "constant%zu", number);
  m->tensors[m->count++] = plan_constant(&m->w, name, dtype, rank, dims, data);
}

static void add_weights(model *m) {
  static const size_t shapes[3][2] = {{4, 4}, {17, 2}, {3, 8}};
  static const float scale[17] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  int8_t integers[64];
  char name[32];
  for (size_t i = 0; i < 3; i++) {
    dynq_weight *weight = NULL;
    const size_t n = shapes[i][0], k = shapes[i][1];
    for (size_t j = 0; j < n * k; j++) {
      integers[j] = (int8_t)(fuzz_random(m->random) >> 57);
    }
    if (dynq_weight_pack_s8(n, k, integers, DYNQ_S8, k, 1, scale, NULL, NULL, &weight) == DYNQ_OK) {
      (void)snprintf(name, sizeof name, "weight%zu", i);
      m->weights[i] = plan_weight(&m->w, name, weight);
      dynq_weight_free(weight);
    }
  }
}

static void add_attribute(model *m, const dynq_op_attribute *a) {
  static const char *const words[] = {"none",       "relu",       "gelu",       "tanh",          "symmetric",
                                      "tensor",     "row",        "constant",   "reflect",       "edge",
                                      "wrap",       "nearest",    "linear",     "cubic",         "half_pixel",
                                      "asymmetric", "floor",      "SAME_UPPER", "align_corners", "NOTSET",
                                      "VALID",      "same_lower", "",           "forward",       "reverse"};
  int64_t ints[4];
  float floats[4];
  const size_t count = below(m, 5);
  for (size_t i = 0; i < 4; i++) {
    ints[i] = random_int(m);
    floats[i] = random_float(m);
  }
  switch (a->type) {
  case DYNQ_ATTRIBUTE_INT:
    plan_int(&m->w, a->name, ints[0]);
    return;
  case DYNQ_ATTRIBUTE_FLOAT:
    plan_float(&m->w, a->name, floats[0]);
    return;
  case DYNQ_ATTRIBUTE_STRING:
    plan_string(&m->w, a->name, words[below(m, sizeof words / sizeof words[0])]);
    return;
  case DYNQ_ATTRIBUTE_INTS:
    plan_ints(&m->w, a->name, (uint32_t)count, ints);
    return;
  case DYNQ_ATTRIBUTE_FLOATS:
    plan_floats(&m->w, a->name, (uint32_t)count, floats);
    return;
  }
}

static void add_node(model *m, size_t number) {
  const dynq_op *op = dynq_op_list[below(m, dynq_op_count)];
  uint32_t inputs[8], outputs[4];
  char name[32];
  const size_t most = op->max_inputs < 8 ? op->max_inputs : op->min_inputs < 4 ? 4 : op->min_inputs;
  const size_t input_count = op->min_inputs + below(m, most - op->min_inputs + 1);
  const size_t most_outputs = op->max_outputs < 4 ? op->max_outputs : op->min_outputs < 4 ? 4 : op->min_outputs;
  const size_t output_count = op->min_outputs + below(m, most_outputs - op->min_outputs + 1);
  for (size_t i = 0; i < input_count && i < 8; i++) {
    const bool weight = i < 32 && (op->weight_inputs >> i & 1) != 0;
    inputs[i] = weight ? m->weights[below(m, 3)] : m->tensors[below(m, m->count)];
    inputs[i] = i >= op->min_inputs && below(m, 4) == 0 ? PLAN_NONE : inputs[i];
  }
  for (size_t i = 0; i < output_count && i < 4; i++) {
    (void)snprintf(name, sizeof name, "value%zu.%zu", number, i);
    outputs[i] = output_count > 1 && below(m, 4) == 0 ? PLAN_NONE : plan_computed(&m->w, name);
  }
  (void)snprintf(name, sizeof name, "node%zu", number);
  plan_node(&m->w, name, op->name, input_count, inputs, output_count, outputs);
  for (size_t i = 0; i < DYNQ_OP_MAX_ATTRIBUTES && op->attributes[i].name != NULL; i++) {
    if (below(m, 2) != 0) {
      add_attribute(m, &op->attributes[i]);
    }
  }
  for (size_t i = 0; i < output_count && i < 4; i++) {
    if (outputs[i] != PLAN_NONE) {
      m->tensors[m->count++] = outputs[i];
    }
  }
}

void *generate_model(uint64_t *state, size_t *size) {
  model m = {.random = state};
  (void)plan_symbol(&m.w, "open");
  const size_t inputs = 1 + below(&m, 3), constants = below(&m, 4),
               nodes = 1 + below(&m, below(&m, 3) == 0 ? MOST_NODES : 1);
  add_weights(&m);
  for (size_t i = 0; i < inputs; i++) {
    add_input(&m, i);
  }
  for (size_t i = 0; i < constants; i++) {
    add_constant(&m, i);
  }
  for (size_t i = 0; i < nodes; i++) {
    add_node(&m, i);
  }
  plan_output(&m.w, "out", m.tensors[m.count - 1]);
  return plan_finish(&m.w, size);
}
