/*
 * LSTM, GRU and RNN as ONNX has them, and dynq.LSTM, dynq.GRU and dynq.RNN, whose inputs are projected already (by
 * dynq.Linear or dynq.LinearFloat, for all steps and both directions at once) and whose weights are packed.
 */
#include "../base/alloc.h"
#include "../base/status.h"
#include "../gemm/float_matmul.h"
#include "../recurrent/layer.h"
#include "checks.h"
#include "layer_attributes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Inputs, outputs and attributes are read by the places of LSTM and dynq.LSTM: the other cells have fewer of them. */
#define SAME_CELL(onnx, own)                                                                                           \
  DYNQ_SAME_IN(LSTM, X, own, projected);                                                                               \
  DYNQ_SAME_IN(LSTM, initial_h, onnx, initial_h);                                                                      \
  DYNQ_SAME_IN(dynq_LSTM, R_panels, own, R_panels);                                                                    \
  DYNQ_SAME_IN(dynq_LSTM, initial_h, own, initial_h);                                                                  \
  DYNQ_SAME_ATTR(LSTM, onnx, layout);                                                                                  \
  DYNQ_SAME_ATTR(LSTM, own, direction);                                                                                \
  DYNQ_SAME_ATTR(LSTM, own, hidden_size);                                                                              \
  DYNQ_SAME_ATTR(LSTM, own, activations);                                                                              \
  DYNQ_SAME_ATTR(LSTM, own, activation_alpha);                                                                         \
  DYNQ_SAME_ATTR(LSTM, own, activation_beta);                                                                          \
  DYNQ_SAME_ATTR(LSTM, own, clip);                                                                                     \
  DYNQ_SAME_ATTR(LSTM, own, layout);                                                                                   \
  DYNQ_SAME_ATTR(dynq_LSTM, own, scheme)
SAME_CELL(LSTM, dynq_LSTM);
SAME_CELL(GRU, dynq_GRU);
SAME_CELL(RNN, dynq_RNN);

/* An op's node as a layer. */
typedef struct layer {
  const dynq_op_node *node;
  bool own; /* dynq's op */
  size_t input;
  const dynq_op_tensor *w, *r, *b;
  dynq_recurrent recurrent;
  dynq_float_matmul projection;
  /* Parts of the scratch, in this order; only the last if `own`. */
  size_t projected_bytes, bias_bytes, panel_bytes, matmul_bytes, recurrent_bytes;
} layer;

static size_t floats(size_t count) { return dynq_size_add(dynq_size_mul(count, sizeof(float)), 63) / 64 * 64; }

/* ---- Attributes ---- */

/* The activations by ONNX's names, with the alpha and beta of their operators. */
typedef struct named_function {
  const char *name;
  dynq_gate_function function;
  bool alpha, beta; /* takes them */
} named_function;

static const named_function functions[] = {
    {"Relu", {.kind = DYNQ_GATE_ACTIVATION, .activation = DYNQ_ACTIVATION_RELU}, false, false},
    {"Tanh", {.kind = DYNQ_GATE_ACTIVATION, .activation = DYNQ_ACTIVATION_TANH}, false, false},
    {"Sigmoid", {.kind = DYNQ_GATE_ACTIVATION, .activation = DYNQ_ACTIVATION_SIGMOID}, false, false},
    {"Affine", {.kind = DYNQ_GATE_AFFINE, .alpha = 1.0f, .beta = 0.0f}, true, true},
    {"LeakyRelu", {.kind = DYNQ_GATE_UNARY, .unary = DYNQ_UNARY_LeakyRelu, .alpha = 0.01f}, true, false},
    {"ThresholdedRelu", {.kind = DYNQ_GATE_UNARY, .unary = DYNQ_UNARY_ThresholdedRelu, .alpha = 1.0f}, true, false},
    {"ScaledTanh", {.kind = DYNQ_GATE_SCALED_TANH, .alpha = 1.0f, .beta = 1.0f}, true, true},
    {"HardSigmoid",
     {.kind = DYNQ_GATE_UNARY, .unary = DYNQ_UNARY_HardSigmoid, .alpha = 0.2f, .beta = 0.5f},
     true,
     true},
    {"Elu", {.kind = DYNQ_GATE_UNARY, .unary = DYNQ_UNARY_Elu, .alpha = 1.0f}, true, false},
    {"Softsign", {.kind = DYNQ_GATE_UNARY, .unary = DYNQ_UNARY_Softsign}, false, false},
    {"Softplus", {.kind = DYNQ_GATE_UNARY, .unary = DYNQ_UNARY_Softplus}, false, false},
};

/* Functions of one direction: f, g, h of an LSTM, f, g of a GRU, f of an RNN. */
static size_t function_count(dynq_cell cell) { return cell == DYNQ_CELL_LSTM ? 3 : cell == DYNQ_CELL_GRU ? 2 : 1; }

/* The next name of a list with commas between; false at its end. */
static bool next_name(const char **list, const char **name, size_t *length) {
  if (**list == '\0') {
    return false;
  }
  *name = *list;
  *length = strcspn(*list, ",");
  *list += *length + ((*list)[*length] == ',' ? 1 : 0);
  return true;
}

/* The value of alpha or beta that is next in the node's list. */
static void next_parameter(const dynq_attribute *values, size_t *used, bool takes, float *to) {
  if (takes && values->present && *used < values->count) {
    *to = values->floats[(*used)++];
  }
}

static dynq_status find_functions(const dynq_op_node *node, dynq_recurrent *r) {
  static const char *const defaults[] = {"Sigmoid,Tanh,Tanh", "Sigmoid,Tanh", "Tanh"};
  const dynq_attribute *given = &node->attributes[DYNQ_ATTR(LSTM, activations)];
  const dynq_attribute *alpha = &node->attributes[DYNQ_ATTR(LSTM, activation_alpha)];
  const dynq_attribute *beta = &node->attributes[DYNQ_ATTR(LSTM, activation_beta)];
  const size_t each = function_count(r->cell), wanted = each * r->directions;
  const char *list = given->present ? given->string : "", *name;
  size_t count = 0, length, alphas = 0, betas = 0;
  for (size_t d = 0; !given->present && d < r->directions; d++) {
    const char *of_direction = defaults[r->cell];
    for (size_t i = 0; next_name(&of_direction, &name, &length); i++) {
      r->functions[d][i] = functions[name[0] == 'S' ? 2 : 1].function;
    }
  }
  while (next_name(&list, &name, &length)) {
    size_t i = 0;
    while (i < sizeof functions / sizeof functions[0] &&
           (strlen(functions[i].name) != length || memcmp(functions[i].name, name, length) != 0)) {
      i++;
    }
    if (i == sizeof functions / sizeof functions[0]) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "activations: '%.*s' is no activation of a recurrent layer",
                       length < 40 ? (int)length : 40, name);
    }
    if (count < wanted) {
      dynq_gate_function *f = &r->functions[count / each][count % each];
      *f = functions[i].function;
      next_parameter(alpha, &alphas, functions[i].alpha, &f->alpha);
      next_parameter(beta, &betas, functions[i].beta, &f->beta);
    }
    count++;
  }
  if (given->present && count != wanted) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "activations: %zu names; expected %zu", count, wanted);
  }
  if ((alpha->present && alphas < alpha->count) || (beta->present && betas < beta->count)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "activation_alpha has %zu values and activation_beta %zu; the activations take %zu and %zu",
                     alpha->present ? alpha->count : 0, beta->present ? beta->count : 0, alphas, betas);
  }
  return DYNQ_OK;
}

static dynq_status find_flag(const dynq_op_node *node, size_t attribute, bool *flag) {
  const int64_t value = dynq_op_int(node, attribute);
  *flag = value != 0;
  return value == 0 || value == 1 ? DYNQ_OK
                                  : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is %lld; expected 0 or 1",
                                              node->op->attributes[attribute].name, (long long)value);
}

static dynq_status find_attributes(const dynq_op_node *node, bool own, dynq_recurrent *r) {
  static const char *const directions[] = {"forward", "reverse", "bidirectional"};
  const size_t direction = dynq_op_choice(node, DYNQ_ATTR(LSTM, direction), 3, directions);
  const dynq_attribute *clip = &node->attributes[DYNQ_ATTR(LSTM, clip)];
  if (direction == 3) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "direction is '%.40s'; expected forward, reverse or bidirectional",
                     dynq_op_string(node, DYNQ_ATTR(LSTM, direction)));
  }
  r->reverse = direction == 1;
  r->directions = direction == 2 ? 2 : 1;
  r->clip = clip->present ? clip->f : INFINITY;
  if (!(r->clip > 0.0f)) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "clip is %g; expected more than 0", (double)r->clip);
  }
  DYNQ_TRY(find_flag(node, DYNQ_ATTR(LSTM, layout), &r->batch_first));
  if (r->cell == DYNQ_CELL_LSTM) {
    const size_t attribute = own ? DYNQ_ATTR(dynq_LSTM, input_forget) : DYNQ_ATTR(LSTM, input_forget);
    DYNQ_TRY(find_flag(node, attribute, &r->input_forget));
  } else if (r->cell == DYNQ_CELL_GRU) {
    const size_t attribute = own ? DYNQ_ATTR(dynq_GRU, linear_before_reset) : DYNQ_ATTR(GRU, linear_before_reset);
    DYNQ_TRY(find_flag(node, attribute, &r->linear_before_reset));
  }
  DYNQ_TRY(find_functions(node, r));
  return own ? dynq_op_scheme(node, DYNQ_ATTR(dynq_LSTM, scheme), &r->scheme) : DYNQ_OK;
}

/* ---- Shapes ---- */

enum { SHAPE_TEXT = 22 * DYNQ_MAX_RANK };

/* Sizes with commas between. */
static const char *dims_text(size_t rank, const size_t *dims, char to[SHAPE_TEXT]) {
  size_t length = 0;
  to[0] = '\0';
  for (size_t d = 0; d < rank; d++) {
    length += (size_t)snprintf(to + length, SHAPE_TEXT - length, "%s%zu", d != 0 ? ", " : "", dims[d]);
  }
  return to;
}

/* Input `i`, where there, is float32 of this shape. */
static dynq_status check_input(const dynq_op_node *node, size_t i, const char *name, size_t rank, const size_t *dims) {
  const dynq_op_tensor *t = dynq_op_input(node, i);
  if (t == NULL || (t->dtype == DYNQ_FLOAT32 && t->rank == rank && memcmp(t->dims, dims, rank * sizeof *dims) == 0)) {
    return DYNQ_OK;
  }
  char shape[SHAPE_TEXT], got[SHAPE_TEXT];
  return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is %s (%s); expected float32 (%s)", name, dynq_dtype_name(t->dtype),
                   dims_text(t->rank, t->dims, got), dims_text(rank, dims, shape));
}

static dynq_status check_lengths(const dynq_op_tensor *t, size_t batch) {
  if (t != NULL && ((t->dtype != DYNQ_INT32 && t->dtype != DYNQ_INT64) || t->rank != 1 || t->dims[0] != batch)) {
    char got[SHAPE_TEXT];
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "sequence_lens is %s (%s); expected int32 (%zu)",
                     dynq_dtype_name(t->dtype), dims_text(t->rank, t->dims, got), batch);
  }
  return DYNQ_OK;
}

/* Attribute hidden_size, or what a weight says: more than 0, and both the same. */
static dynq_status find_hidden(const dynq_op_node *node, size_t of_weight, size_t *hidden) {
  const dynq_attribute *attribute = &node->attributes[DYNQ_ATTR(LSTM, hidden_size)];
  const int64_t given = attribute->present ? attribute->i : (int64_t)of_weight;
  if (given <= 0 || (size_t)given != of_weight) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "hidden_size is %lld and R's %zu; expected the same, more than 0",
                     (long long)given, of_weight);
  }
  *hidden = of_weight;
  return DYNQ_OK;
}

/* The places of both tables, relative to the lengths. */
#define AFTER_LENGTHS(name) (DYNQ_IN(LSTM, name) - DYNQ_IN(LSTM, sequence_lens))
#define SAME_AFTER_LENGTHS(name)                                                                                       \
  _Static_assert(AFTER_LENGTHS(name) == DYNQ_IN(dynq_LSTM, name) - DYNQ_IN(dynq_LSTM, sequence_lens), "the same")
SAME_AFTER_LENGTHS(initial_h);
SAME_AFTER_LENGTHS(initial_c);
SAME_AFTER_LENGTHS(P);

/* Lengths, which are input `first`, initial states and peepholes. */
static dynq_status find_states(const dynq_op_node *node, size_t first, dynq_recurrent *r) {
  const size_t outer = r->batch_first ? r->batch : r->directions, inner = r->batch_first ? r->directions : r->batch;
  const size_t of_h[3] = {outer, inner, r->state}, of_c[3] = {outer, inner, r->hidden};
  const size_t peepholes[2] = {r->directions, dynq_size_mul(3, r->hidden)};
  const dynq_op_tensor *h = dynq_op_input(node, first + AFTER_LENGTHS(initial_h)),
                       *c = dynq_op_input(node, first + AFTER_LENGTHS(initial_c)),
                       *p = dynq_op_input(node, first + AFTER_LENGTHS(P));
  const dynq_op_tensor *lengths = dynq_op_input(node, first);
  DYNQ_TRY(check_lengths(lengths, r->batch));
  DYNQ_TRY(check_input(node, first + AFTER_LENGTHS(initial_h), "initial_h", 3, of_h));
  DYNQ_TRY(check_input(node, first + AFTER_LENGTHS(initial_c), "initial_c", 3, of_c));
  DYNQ_TRY(check_input(node, first + AFTER_LENGTHS(P), "P", 2, peepholes));
  r->initial_h = h != NULL ? h->data : NULL;
  r->initial_c = c != NULL ? c->data : NULL;
  static const float any = 0.0f; /* infer() has no values, and yet needs to know that there are some */
  r->peepholes = p == NULL ? NULL : p->data != NULL ? p->data : &any;
  if (lengths != NULL) {
    r->lengths = lengths->data != NULL ? lengths->data : &any;
    r->lengths_dtype = lengths->dtype;
  }
  return DYNQ_OK;
}

/* Steps and sequences of the first input; the names of what it is. */
static dynq_status find_sequences(const dynq_op_node *node, const char *name, dynq_recurrent *r) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, LSTM, X);
  DYNQ_TRY(dynq_op_check_f32(node, DYNQ_IN(LSTM, X), name, 3));
  if (x->rank != 3) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu dimensions; expected 3", name, x->rank);
  }
  r->steps = x->dims[r->batch_first ? 1 : 0];
  r->batch = x->dims[r->batch_first ? 0 : 1];
  return DYNQ_OK;
}

static dynq_status find_onnx(layer *l) {
  const dynq_op_node *node = l->node;
  dynq_recurrent *r = &l->recurrent;
  l->w = DYNQ_INPUT(node, LSTM, W);
  l->r = DYNQ_INPUT(node, LSTM, R);
  l->b = DYNQ_GIVEN(node, LSTM, B);
  DYNQ_TRY(find_sequences(node, "X", r));
  l->input = DYNQ_INPUT(node, LSTM, X)->dims[2];
  DYNQ_TRY(find_hidden(node, l->r->rank == 3 ? l->r->dims[2] : 0, &r->hidden));
  r->state = r->hidden;
  const size_t width = dynq_size_mul(r->gates, r->hidden);
  DYNQ_TRY(check_input(node, DYNQ_IN(LSTM, W), "W", 3, (const size_t[]){r->directions, width, l->input}));
  DYNQ_TRY(check_input(node, DYNQ_IN(LSTM, R), "R", 3, (const size_t[]){r->directions, width, r->hidden}));
  DYNQ_TRY(check_input(node, DYNQ_IN(LSTM, B), "B", 2, (const size_t[]){r->directions, dynq_size_mul(2, width)}));
  DYNQ_TRY(find_states(node, DYNQ_IN(LSTM, sequence_lens), r));
  const size_t columns = r->directions * width, panels = dynq_recurrent_panel_floats(r);
  l->projection = (dynq_float_matmul){.kernels = node->kernels,
                                      .m = dynq_size_mul(r->steps, r->batch),
                                      .n = columns,
                                      .k = l->input,
                                      .a = DYNQ_INPUT(node, LSTM, X)->data,
                                      .b = l->w->data,
                                      .b_transposed = true,
                                      .alpha = 1.0f};
  l->projected_bytes = floats(dynq_size_mul(l->projection.m, columns));
  l->bias_bytes = l->b != NULL ? floats(columns) : 0;
  l->panel_bytes = floats(dynq_size_mul(r->directions, panels));
  l->matmul_bytes = dynq_float_matmul_bytes(&l->projection, node->thread_count);
  l->matmul_bytes = dynq_size_add(l->matmul_bytes, 63) / 64 * 64;
  static const float any = 0.0f;
  r->panels = &any; /* float; run() says where */
  return DYNQ_OK;
}

/* A packed weight (n, k) of each direction at input `first` and the next, or float panels of all at `panels`; k may be
 * any where it is 0, and is told. */
static dynq_status find_weights(const dynq_op_node *node, size_t first, size_t panels_at, const char *name, size_t n,
                                size_t *k, const dynq_recurrent *r, const dynq_weight **weights, const float **panels) {
  const dynq_op_tensor *given = dynq_op_input(node, panels_at);
  for (size_t d = 0; d < r->directions && given == NULL; d++) {
    weights[d] = dynq_op_input(node, first + d)->weight;
    const dynq_weight_info *info = &weights[d]->info;
    *k = *k != 0 ? *k : info->k;
    if (info->n != n || info->k != *k) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s_%s is a weight (%zu, %zu); expected (%zu, %zu)", name,
                       d == 0 ? "forward" : "backward", info->n, info->k, n, *k);
    }
  }
  if (given == NULL) {
    return DYNQ_OK;
  }
  *k = *k != 0 ? *k : given->rank == 4 ? given->dims[2] : 0;
  char panels_name[40];
  (void)snprintf(panels_name, sizeof panels_name, "%s_panels", name);
  const size_t dims[4] = {r->directions, dynq_size_add(n, DYNQ_PANEL - 1) / DYNQ_PANEL, *k, DYNQ_PANEL};
  DYNQ_TRY(check_input(node, panels_at, panels_name, 4, dims));
  static const float any = 0.0f;
  *panels = given->data != NULL ? given->data : &any;
  return DYNQ_OK;
}

/* Returns whether there are a packed weight of each direction at input `first` and the next, or float panels at
 * `panels`. */
static bool has_weights(const dynq_op_node *node, size_t first, size_t panels, const dynq_recurrent *r) {
  const bool forward = dynq_op_input(node, first) != NULL, backward = dynq_op_input(node, first + 1) != NULL;
  return (dynq_op_input(node, panels) == NULL) == forward && (forward && r->directions == 2) == backward;
}

static bool has_projection(const dynq_op_node *node) {
  bool any = false;
  for (size_t i = DYNQ_IN(dynq_LSTM, projection_forward); i <= DYNQ_IN(dynq_LSTM, projection_panels); i++) {
    any = any || dynq_op_input(node, i) != NULL;
  }
  return any;
}

static dynq_status find_own(layer *l) {
  const dynq_op_node *node = l->node;
  dynq_recurrent *r = &l->recurrent;
  const dynq_op_tensor *bias = DYNQ_GIVEN(node, dynq_LSTM, bias);
  DYNQ_TRY(find_sequences(node, "projected", r));
  const int64_t hidden = dynq_op_int(node, DYNQ_ATTR(dynq_LSTM, hidden_size));
  if (hidden <= 0 ||
      dynq_size_mul(r->directions * r->gates, (size_t)hidden) != DYNQ_INPUT(node, dynq_LSTM, projected)->dims[2]) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "hidden_size is %lld and projected has %zu columns; expected %zu for each, and more than 0",
                     (long long)hidden, DYNQ_INPUT(node, dynq_LSTM, projected)->dims[2], r->directions * r->gates);
  }
  r->hidden = (size_t)hidden;
  const size_t width = dynq_recurrent_width(r);
  const bool projects = r->cell == DYNQ_CELL_LSTM && has_projection(node);
  if (!has_weights(node, DYNQ_IN(dynq_LSTM, R_forward), DYNQ_IN(dynq_LSTM, R_panels), r) ||
      (projects &&
       (!has_weights(node, DYNQ_IN(dynq_LSTM, projection_forward), DYNQ_IN(dynq_LSTM, projection_panels), r) ||
        (DYNQ_GIVEN(node, dynq_LSTM, R_panels) == NULL) != (DYNQ_GIVEN(node, dynq_LSTM, projection_panels) == NULL)))) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT,
                     "expected a packed R for each direction, or float panels for all and no packed one; and a "
                     "projection in the same form, if any");
  }
  r->state = projects ? 0 : r->hidden;
  DYNQ_TRY(find_weights(node, DYNQ_IN(dynq_LSTM, R_forward), DYNQ_IN(dynq_LSTM, R_panels), "R", width, &r->state, r,
                        r->weights, &r->panels));
  if (r->state == 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "R has no inputs; expected as many as the projection has outputs");
  }
  if (projects) {
    size_t k = r->hidden;
    DYNQ_TRY(find_weights(node, DYNQ_IN(dynq_LSTM, projection_forward), DYNQ_IN(dynq_LSTM, projection_panels),
                          "projection", r->state, &k, r, r->projections, &r->projection_panels));
  }
  DYNQ_TRY(check_input(node, DYNQ_IN(dynq_LSTM, bias), "bias", 2, (const size_t[]){r->directions, width}));
  r->bias = bias != NULL ? bias->data : NULL;
  r->projected = DYNQ_INPUT(node, dynq_LSTM, projected)->data;
  return find_states(node, DYNQ_IN(dynq_LSTM, sequence_lens), r);
}

static dynq_status find_layer(const dynq_op_node *node, dynq_cell cell, layer *l) {
  *l = (layer){.node = node, .own = strncmp(node->op->name, "dynq.", 5) == 0};
  dynq_recurrent *r = &l->recurrent;
  r->cell = cell;
  r->gates = cell == DYNQ_CELL_LSTM ? 4 : cell == DYNQ_CELL_GRU ? 3 : 1;
  r->kernels = node->kernels;
  DYNQ_TRY(find_attributes(node, l->own, r));
  DYNQ_TRY(l->own ? find_own(l) : find_onnx(l));
  dynq_recurrent whole = *r;
  whole.lengths = NULL; /* as run() has it where every sequence goes through all steps */
  const size_t bytes = dynq_recurrent_bytes(r, node->thread_count),
               most = dynq_recurrent_bytes(&whole, node->thread_count);
  l->recurrent_bytes = bytes > most ? bytes : most;
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node, dynq_cell cell) {
  layer l;
  DYNQ_TRY(find_layer(node, cell, &l));
  const dynq_recurrent *r = &l.recurrent;
  const size_t outer = r->batch_first ? r->batch : r->directions, inner = r->batch_first ? r->directions : r->batch;
  const size_t all[4] = {r->batch_first ? r->batch : r->steps, r->batch_first ? r->steps : r->directions, inner,
                         r->state};
  dynq_op_set_output(node, DYNQ_OUT(LSTM, Y), DYNQ_FLOAT32, 4, all);
  dynq_op_set_output(node, DYNQ_OUT(LSTM, Y_h), DYNQ_FLOAT32, 3, (const size_t[]){outer, inner, r->state});
  dynq_op_set_output(node, DYNQ_OUT(LSTM, Y_c), DYNQ_FLOAT32, 3, (const size_t[]){outer, inner, r->hidden});
  node->scratch_bytes = dynq_size_add(dynq_size_add(l.projected_bytes, dynq_size_mul(2, l.bias_bytes)),
                                      dynq_size_add(l.panel_bytes, dynq_size_add(l.matmul_bytes, l.recurrent_bytes)));
  return DYNQ_OK;
}

/* ---- Runs ---- */

/* Both biases of ONNX in one, but for a candidate that is linear before its reset: its recurrent one is multiplied too. */
static void split_bias(const dynq_recurrent *r, const float *b, float *of_input, float *of_state) {
  const size_t width = dynq_recurrent_width(r);
  const size_t apart = r->cell == DYNQ_CELL_GRU && r->linear_before_reset ? 2 * r->hidden : width;
  for (size_t i = 0; i < r->directions * width; i++) {
    const size_t direction = i / width, column = i % width;
    const float *own = b + direction * 2 * width + column;
    of_input[i] = column < apart ? own[0] + own[width] : own[0];
    of_state[i] = column < apart ? 0.0f : own[width];
  }
}

/* X times W for all steps and both directions at once, and the panels of R. */
static char *project(layer *l, char *memory) {
  dynq_recurrent *r = &l->recurrent;
  const dynq_op_node *node = l->node;
  const size_t width = dynq_recurrent_width(r), panel_floats = dynq_recurrent_panel_floats(r);
  float *projected = (float *)(void *)memory;
  float *of_input = (float *)(void *)(memory += l->projected_bytes);
  float *of_state = (float *)(void *)(memory += l->bias_bytes);
  float *panels = (float *)(void *)(memory += l->bias_bytes);
  memory += l->panel_bytes;
  if (l->b != NULL) {
    split_bias(r, l->b->data, of_input, of_state);
    l->projection.bias = of_input;
    r->bias = r->cell == DYNQ_CELL_GRU && r->linear_before_reset ? of_state : NULL;
  }
  l->projection.y = projected;
  dynq_float_matmul_run(&l->projection, memory, node->threads, node->thread_count);
  for (size_t d = 0; d < r->directions; d++) {
    node->kernels->vector.pack_transposed(width, r->hidden, (const float *)l->r->data + d * width * r->hidden,
                                          r->hidden, panels + d * panel_floats);
  }
  r->projected = projected;
  r->panels = panels;
  return memory + l->matmul_bytes;
}

/* Returns whether no sequence ends before the last step. */
static bool all_whole(const dynq_recurrent *r) {
  size_t i = 0;
  while (r->lengths != NULL && i < r->batch && dynq_recurrent_length(r, i) == (int64_t)r->steps) {
    i++;
  }
  return i == r->batch;
}

static dynq_status run(const dynq_op_node *node, dynq_cell cell) {
  const dynq_op_tensor *y = DYNQ_OUTPUT(node, LSTM, Y), *y_h = DYNQ_OUTPUT(node, LSTM, Y_h);
  const dynq_op_tensor *y_c = DYNQ_OUTPUT(node, LSTM, Y_c);
  layer l;
  DYNQ_TRY(find_layer(node, cell, &l));
  if (all_whole(&l.recurrent)) {
    l.recurrent.lengths = NULL;
  }
  char *memory = node->scratch;
  if (!l.own) {
    memory = project(&l, memory);
  }
  l.recurrent.y = y != NULL ? y->data : NULL;
  l.recurrent.y_h = y_h != NULL ? y_h->data : NULL;
  l.recurrent.y_c = y_c != NULL ? y_c->data : NULL;
  return dynq_recurrent_run(&l.recurrent, memory, node->threads, node->thread_count);
}

#define RECURRENT_OP(kind)                                                                                             \
  static dynq_status infer_##kind(dynq_op_node *node) { return infer(node, DYNQ_CELL_##kind); }                        \
  static dynq_status run_##kind(const dynq_op_node *node) { return run(node, DYNQ_CELL_##kind); }                      \
  const dynq_op_code dynq_op_##kind = {infer_##kind, run_##kind};                                                      \
  const dynq_op_code dynq_op_dynq_##kind = {infer_##kind, run_##kind};

RECURRENT_OP(LSTM)
RECURRENT_OP(GRU)
RECURRENT_OP(RNN)
