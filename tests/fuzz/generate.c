/*
 * Random models over all ops, most of them nearly right: small shapes, the attributes that an op knows.
 */
#include "fuzz.h"

#include "ops/op.h"
#include "plan_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TENSORS = 40, MOST_NODES = 4, WEIGHTS = 7, RECIPE_INPUTS = 12 };

typedef struct model {
  plan_writer w;
  uint64_t *random;
  uint32_t tensors[MOST_TENSORS]; /* that nodes can read */
  uint32_t state;                 /* the newest of them */
  size_t states;
  size_t count;
  uint32_t weights[WEIGHTS];
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
  static const size_t shapes[WEIGHTS][2] = {{4, 4}, {17, 2}, {3, 40}, {64, 16}, {16, 16}, {6, 36}, {48, 16}};
  float scale[64];
  int8_t integers[1024];
  char name[32];
  for (size_t i = 0; i < sizeof scale / sizeof scale[0]; i++) {
    scale[i] = 1.0f;
  }
  for (size_t i = 0; i < WEIGHTS; i++) {
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
  case DYNQ_ATTRIBUTE_BODY:
    plan_body(&m->w, a->name, ints[0]);
    return;
  case DYNQ_ATTRIBUTE_INTS:
    plan_ints(&m->w, a->name, (uint32_t)count, ints);
    return;
  case DYNQ_ATTRIBUTE_FLOATS:
    plan_floats(&m->w, a->name, (uint32_t)count, floats);
    return;
  }
}

/* A state, whose sizes nodes may fit; the same one may come twice. */
static uint32_t add_state(model *m, size_t number) {
  char name[32];
  if (m->states == 0 || below(m, 8) != 0) {
    const int64_t dims[3] = {1 + (int64_t)below(m, 2), 1 + (int64_t)below(m, 40), 1 + (int64_t)below(m, 4)};
    (void)snprintf(name, sizeof name, "state%zu", number);
    m->state = plan_state(&m->w, name, DYNQ_FLOAT32, 3, dims);
    m->states++;
  }
  return m->state;
}

static void add_node(model *m, size_t number) {
  const dynq_op *op = &dynq_op_list[below(m, dynq_op_count())];
  uint32_t inputs[8], outputs[4];
  char name[32];
  const size_t most = op->max_inputs < 8 ? op->max_inputs : op->min_inputs < 4 ? 4 : op->min_inputs;
  const size_t input_count = op->min_inputs + below(m, most - op->min_inputs + 1);
  const size_t most_outputs = op->max_outputs < 4 ? op->max_outputs : 4;
  const size_t output_count = 1 + below(m, most_outputs);
  for (size_t i = 0; i < input_count && i < 8; i++) {
    const bool weight = (dynq_op_input_flags(op, i) & DYNQ_OPERAND_PACKED) != 0;
    inputs[i] = weight ? m->weights[below(m, WEIGHTS)] : m->tensors[below(m, m->count)];
    if ((dynq_op_input_flags(op, i) & DYNQ_OPERAND_STATE) != 0) {
      inputs[i] = add_state(m, 4 * number + i);
    }
    inputs[i] = i >= op->min_inputs && below(m, 4) == 0 ? PLAN_NONE : inputs[i];
  }
  for (size_t i = 0; i < output_count && i < 4; i++) {
    (void)snprintf(name, sizeof name, "value%zu.%zu", number, i);
    outputs[i] = output_count > 1 && below(m, 4) == 0 ? PLAN_NONE : plan_computed(&m->w, name);
  }
  (void)snprintf(name, sizeof name, "node%zu", number);
  plan_node(&m->w, name, op->name, input_count, inputs, output_count, outputs);
  for (size_t i = 0; i < op->attribute_count; i++) {
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

/* ---- Ops that random shapes seldom fit: inputs that do ---- */

/* f float32, i int64, j int32, b bool, u uint8, s int8 and sizes: an input. C int64, F float32 and values: a constant
 * vector; S a value: a scalar one. w: which packed weight. T and sizes: a state. -: left out. */
static const struct recipe {
  const char *op, *inputs[RECIPE_INPUTS];
} recipes[] = {
    {"dynq.Linear", {"f2,3,4", "w0", "f4", "f2,3,4"}},
    {"dynq.Linear", {"f37,2", "w1", "f17"}},
    {"dynq.Linear", {"f3,40", "w2", "f3"}},
    {"dynq.MatMulIntegerPacked", {"u3,40", "w2", "u1"}},
    {"dynq.MatMulIntegerPacked", {"s2,3,4", "w0"}},
    {"dynq.MatMulDynamic", {"f2,3,4", "f4,19"}},
    {"dynq.MatMulDynamic", {"f2,1,3,4", "f3,4,5"}},
    {"dynq.QuantizeRows", {"f3,40"}},
    {"dynq.QuantizeRows", {"f2,3,0"}},
    {"dynq.Embedding", {"s8,5", "f8", "i2,3"}},
    {"dynq.Embedding", {"s300,5", "f300", "j4"}},
    {"dynq.LinearFloat", {"f2,3,4", "f4,5", "f5"}},
    {"dynq.Attention", {"f2,3,8", "f2,5,8", "f2,5,8"}},
    {"dynq.Attention", {"f2,3,8", "f2,5,8", "f2,5,4", "f5"}},
    {"dynq.Attention", {"f2,3,8", "f2,5,8", "f2,5,4", "b2,1,3,5"}},
    {"dynq.Attention", {"f2,4,3,2", "f2,2,5,2", "f2,2,5,3"}},
    {"dynq.Attention", {"f2,3,24"}},
    {"dynq.Attention", {"f2,3,24", "-", "-", "f2,1,1,3"}},
    {"dynq.CachedAttention", {"f2,3,8", "f2,3,8", "f2,3,8", "T2,40,4", "T2,40,4"}},
    {"dynq.CachedAttention", {"f1,20,8", "f1,20,4", "f1,20,3", "T1,19,4", "T1,40,3", "C9"}},
    {"dynq.CachedAttention", {"f2,2,5,4", "f2,1,5,4", "f2,1,5,3", "T1,70,4", "T1,90,3", "C5,2", "f5", "f2", "f2"}},
    {"dynq.Positions", {"i2,3", "C1,3"}},
    {"dynq.Rotary", {"f2,2,3,8", "f2,1,3,4", "f2,1,3,4"}},
    {"MatMul", {"f2,3,4", "f4,19"}},
    {"MatMul", {"f33", "f33,20"}},
    {"Gemm", {"f3,4", "f4,18", "f18"}},
    {"LayerNormalization", {"f2,3,20", "f20", "f20"}},
    {"RMSNormalization", {"f2,3,20", "f20"}},
    {"BatchNormalization", {"f2,3,5", "f3", "f3", "f3", "f3"}},
    {"InstanceNormalization", {"f2,3,5", "f3", "f3"}},
    {"GroupNormalization", {"f2,4,5", "f4", "f4"}},
    {"Gather", {"f3,4", "i2,2"}},
    {"GatherElements", {"f3,4", "i3,4"}},
    {"GatherND", {"f3,4", "i2,1"}},
    {"ScatterElements", {"f3,4", "i2,4", "f2,4"}},
    {"ScatterND", {"f3,4", "i2,1", "f2,4"}},
    {"Reshape", {"f2,3,4", "C-1,4"}},
    {"Slice", {"f5,6", "C0,1", "C4,9", "C0,1", "C2,1"}},
    {"Slice", {"f5,6", "C-1,-2", "C-9,-5", "C1,0", "C-1,-3"}},
    {"Pad", {"f3,4", "C1,0,2,1", "S0"}},
    {"Pad", {"f3,4", "C1,0,-1,1"}},
    {"Expand", {"f3,1", "C2,1,4"}},
    {"Tile", {"f2,3", "C2,3"}},
    {"Range", {"S0", "S7", "S2"}},
    {"OneHot", {"i3", "C4", "F0,1"}},
    {"CumSum", {"f3,4", "S1"}},
    {"TopK", {"f3,8", "C2"}},
    {"ConstantOfShape", {"C2,3"}},
    {"Where", {"b2,3", "f2,3", "f3"}},
    {"NonZero", {"f2,3,4"}},
    {"Compress", {"f2,3,4", "b3"}},
    {"Unique", {"i3,4"}},
    {"NonMaxSuppression", {"f2,5,4", "f2,3,5", "C3", "F0", "F0"}},
    {"And", {"b2,3", "b3"}},
    {"Or", {"b2,3", "b3"}},
    {"Xor", {"b2,3", "b3"}},
    {"DepthToSpace", {"f1,8,2,3"}},
    {"SpaceToDepth", {"f1,2,4,6"}},
    {"ReverseSequence", {"f4,3,2", "C2,1,4"}},
    {"Concat", {"f2,3,4", "f2,3,4", "f2,3,4"}},
    {"Split", {"f4,6", "C1,3"}},
    {"Conv", {"f1,4,9,8", "f6,4,3,3", "f6"}},
    {"ConvInteger", {"u1,4,9,8", "s6,4,3,3", "u", "s"}},
    {"ConvInteger", {"u1,4,9,8", "u6,4,3,3", "u", "u6"}},
    {"ConvTranspose", {"f1,4,5,5", "f4,3,3,3"}},
    {"dynq.Conv", {"f1,4,9,20", "w5", "f6"}},
    {"dynq.ConvFloat", {"f1,4,9,12", "f1,216", "f6"}},
    {"dynq.ConvFloat", {"f1,4,9,12", "f1,1,36,16", "f6"}},
    {"dynq.ConvFloat", {"f1,4,9,12", "s1,216", "f6", "f6"}},
    {"dynq.LSTM", {"f2,3,64", "w3", "-", "-", "f1,64", "-", "f1,3,16", "f1,3,16", "f1,48", "w4"}},
    {"dynq.LSTM", {"f2,3,64", "w3", "-", "-", "-", "j3", "-", "-", "f1,48"}},
    {"dynq.LSTM", {"f2,3,64", "-", "-", "f1,4,5,16", "f1,64", "-", "f1,3,5", "f1,3,16", "-", "-", "-", "f1,1,16,16"}},
    {"dynq.GRU", {"f2,3,48", "w6", "-", "-", "f1,48", "-", "f1,3,16"}},
    {"dynq.RNN", {"f2,3,16", "w4", "-", "-", "f1,16", "j3", "f1,3,16"}},
    {"LSTM", {"f2,3,4", "f1,20,4", "f1,20,5", "f1,40", "-", "f1,3,5", "f1,3,5", "f1,15"}},
    {"GRU", {"f2,3,4", "f1,15,4", "f1,15,5", "f1,30", "j3", "f1,3,5"}},
    {"RNN", {"f2,3,4", "f1,5,4", "f1,5,5", "f1,10", "-", "f1,3,5"}},
    {"MaxPool", {"f1,3,9,8"}},
    {"AveragePool", {"f1,3,9,8"}},
    {"GlobalAveragePool", {"f1,3,9,8"}},
    {"GlobalMaxPool", {"f1,3,9,8"}},
    {"Resize", {"f1,2,4,5", "-", "F1,1,2,2"}},
    {"Resize", {"f1,2,4,5", "-", "-", "C1,2,7,3"}},
};

static uint32_t add_by_recipe(model *m, const char *spec, size_t number) {
  static const char types[] = "fijbus";
  static const dynq_dtype dtypes[] = {DYNQ_FLOAT32, DYNQ_INT64, DYNQ_INT32, DYNQ_BOOL, DYNQ_UINT8, DYNQ_INT8};
  int64_t values[8];
  float floats[8];
  char name[32];
  size_t count = 0;
  if (spec[0] == 'T') { /* a state: heads, the most positions, width */
    int64_t dims[3];
    (void)sscanf(spec + 1, "%" SCNd64 ",%" SCNd64 ",%" SCNd64, &dims[0], &dims[1], &dims[2]);
    (void)snprintf(name, sizeof name, "state%zu", number);
    return plan_state(&m->w, name, DYNQ_FLOAT32, 3, dims);
  }
  if (spec[0] == '-' || spec[0] == 'w') {
    return spec[0] == 'w' ? m->weights[(spec[1] - '0') % WEIGHTS] : PLAN_NONE;
  }
  for (const char *p = spec + 1; *p != '\0' && count < 8; count++) {
    char *end;
    values[count] = strtoll(p, &end, 10);
    values[count] = below(m, 24) == 0 ? random_int(m) : values[count];
    floats[count] = (float)values[count];
    p = *end == ',' ? end + 1 : end;
  }
  (void)snprintf(name, sizeof name, "%c%zu", spec[0], number);
  if (spec[0] == 'C' || spec[0] == 'S' || spec[0] == 'F') {
    const int64_t size = (int64_t)count;
    return plan_constant(&m->w, name, spec[0] == 'F' ? DYNQ_FLOAT32 : DYNQ_INT64, spec[0] == 'S' ? 0 : 1, &size,
                         spec[0] == 'F' ? (const void *)floats : values);
  }
  for (size_t i = 0; i < count; i++) {
    values[i] = values[i] < 0 ? 0 : values[i];
  }
  return plan_input(&m->w, name, dtypes[strchr(types, spec[0]) - types], count, values);
}

/* One node of that op, and all the attributes that random ones would be. */
static void follow(model *m, const struct recipe *recipe) {
  const dynq_op *op = dynq_op_find(recipe->op);
  uint32_t inputs[RECIPE_INPUTS], outputs[4];
  size_t input_count = 0, output_count = 1;
  char name[32];
  while (input_count < RECIPE_INPUTS && recipe->inputs[input_count] != NULL) {
    inputs[input_count] = add_by_recipe(m, recipe->inputs[input_count], input_count);
    input_count++;
  }
  while (input_count > op->min_inputs && below(m, 4) == 0) {
    input_count--;
  }
  output_count += op->max_outputs > output_count && output_count < 4 ? below(m, 2) : 0;
  for (size_t i = 0; i < output_count; i++) {
    (void)snprintf(name, sizeof name, "result%zu", i);
    outputs[i] = plan_computed(&m->w, name);
    m->tensors[m->count++] = outputs[i];
  }
  plan_node(&m->w, "recipe", op->name, input_count, inputs, output_count, outputs);
  const bool many_attributes = op->attribute_count > 6; /* one that is wrong hides what the others do */
  for (size_t i = 0; i < op->attribute_count; i++) {
    if (strcmp(op->attributes[i].name, "heads") == 0 || strcmp(op->attributes[i].name, "blocksize") == 0) {
      plan_int(&m->w, op->attributes[i].name, 2);
    } else if (strcmp(op->name, "dynq.Linear") == 0 && op->attributes[i].type == DYNQ_ATTRIBUTE_INT) {
      if (below(m, 2) != 0) {
        plan_int(&m->w, op->attributes[i].name, strcmp(op->attributes[i].name, "bits") == 0 ? 16 : 32);
      }
    } else if (strcmp(op->attributes[i].name, "hidden_size") == 0) {
      if (strncmp(op->name, "dynq.", 5) == 0) {
        plan_int(&m->w, "hidden_size", 16);
      }
    } else if (strcmp(op->attributes[i].name, "channels") == 0) {
      plan_int(&m->w, "channels", 6);
    } else if (strcmp(op->attributes[i].name, "kernel_shape") == 0) {
      plan_ints(&m->w, "kernel_shape", 2, (const int64_t[]){3, 3});
    } else if (below(m, many_attributes ? 16 : 4) == 0) {
      add_attribute(m, &op->attributes[i]);
    }
  }
}

/* dynq.Loop around a dynq.If: the numbers of the bodies, of what is passed on and of captures are nearly right. */
static void *generate_bodies(model *m, size_t *size) {
  const int64_t trips = random_int(m), limit = trips < 8 ? trips : 8;
  const uint32_t x = plan_input(&m->w, "x", DYNQ_FLOAT32, 2, (const int64_t[]){2, 3});
  const uint32_t n = plan_constant(&m->w, "n", DYNQ_INT64, 0, NULL, &limit);
  const uint32_t y = plan_computed(&m->w, "y"), z = plan_computed(&m->w, "z");
  const uint32_t inputs[4] = {plan_parameter(&m->w, "i"), plan_parameter(&m->w, "c"), plan_parameter(&m->w, "v"),
                              plan_parameter(&m->w, "captured")};
  const uint32_t chosen = plan_computed(&m->w, "chosen"), a = plan_parameter(&m->w, "a");
  const uint32_t b = plan_parameter(&m->w, "b"), sum = plan_computed(&m->w, "sum");
  const uint32_t all[] = {x, n, inputs[0], inputs[1], inputs[2], inputs[3], chosen, a, b, sum};
  static const char *const ops[] = {"Neg", "Identity", "NonZero", "Exp", "Shape", "Not"};
  plan_node(&m->w, "loop", "dynq.Loop", 4, (const uint32_t[]){n, PLAN_NONE, x, x}, 1 + below(m, 2),
            (const uint32_t[]){y, z});
  plan_body(&m->w, "body", below(m, 8) == 0 ? random_int(m) : 0);
  plan_int(&m->w, "carried", below(m, 4) == 0 ? (int64_t)below(m, 4) : 1);
  plan_ints(&m->w, "scan_types", 4, (const int64_t[]){below(m, 6) == 0 ? random_int(m) : 0, 2, 2, 3});
  plan_output(&m->w, "y", y);
  plan_begin_body(&m->w, 4, inputs);
  plan_node(&m->w, "if", "dynq.If", 2, (const uint32_t[]){inputs[below(m, 2)], inputs[2 + below(m, 2)]}, 1, &chosen);
  plan_body(&m->w, "then_branch", below(m, 8) == 0 ? random_int(m) : 1);
  plan_body(&m->w, "else_branch", below(m, 8) == 0 ? random_int(m) : 2);
  plan_end_body(&m->w, 3, (const uint32_t[]){inputs[1], chosen, below(m, 2) != 0 ? chosen : all[below(m, 10)]});
  plan_begin_body(&m->w, 1, &a);
  plan_node(&m->w, "node", ops[below(m, sizeof ops / sizeof ops[0])], 1, below(m, 6) == 0 ? &all[below(m, 10)] : &a, 1,
            &sum);
  plan_end_body(&m->w, 1, &sum);
  plan_begin_body(&m->w, 1, &b);
  plan_end_body(&m->w, 1, below(m, 6) == 0 ? &all[below(m, 10)] : &b);
  return plan_finish(&m->w, size);
}

void *generate_model(uint64_t *state, size_t *size) {
  model m = {.random = state};
  if (below(&m, 12) == 0) {
    return generate_bodies(&m, size);
  }
  const struct recipe *recipe = &recipes[below(&m, sizeof recipes / sizeof recipes[0])];
  (void)plan_symbol(&m.w, "open");
  add_weights(&m);
  if (below(&m, 2) != 0 && dynq_op_find(recipe->op) != NULL) {
    follow(&m, recipe);
  } else {
    const size_t inputs = 1 + below(&m, 3), constants = below(&m, 4);
    for (size_t i = 0; i < inputs; i++) {
      add_input(&m, i);
    }
    for (size_t i = 0; i < constants; i++) {
      add_constant(&m, i);
    }
    add_node(&m, 0);
  }
  for (size_t i = 1; i < MOST_NODES && below(&m, 6) == 0; i++) {
    add_node(&m, i);
  }
  plan_output(&m.w, "out", m.tensors[m.count - 1]);
  return plan_finish(&m.w, size);
}
