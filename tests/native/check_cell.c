/*
 * The kernels of recurrent layers of one ISA, bit for bit, against plain loops and the portable activations.
 */
#include "check_kernels.h"

#include <math.h>
#include <string.h>

enum { MOST_COLUMNS = 80, MOST_HIDDEN = MOST_COLUMNS + 64, MOST_ROWS = 5, GATES = 4 };

static const dynq_kernels *portable;

static float activated(dynq_activation activation, float x) {
  float y;
  portable->vector.activate(activation, 0.0f, 0.0f, 1, &x, &y);
  return y;
}

static float sigmoid(float x) { return activated(DYNQ_ACTIVATION_SIGMOID, x); }
static float tangent(float x) { return activated(DYNQ_ACTIVATION_TANH, x); }
static float one_nan(float x) { return x != x ? float_of_bits(0x7fc00000) : x; }

/* Gate `gate` of row i, column j, without what is projected. */
static float sum_of(const dynq_cell_tile *t, size_t gate, size_t i, size_t j) {
  const size_t at = gate * t->stride + j;
  const uint32_t acc = (uint32_t)t->acc[gate * t->acc_gate + i * t->acc_stride + j] -
                       (uint32_t)t->row_zero_point[i] * (uint32_t)t->column_sum[at];
  const float scale = t->row_scale[i] * t->column_scale[at], y = (float)(int32_t)acc * scale;
  return t->bias != NULL ? y + t->bias[at] : y;
}

static float projected_of(const dynq_cell_tile *t, size_t gate, size_t i, size_t j) {
  return t->projected[i * t->projected_stride + gate * t->stride + j];
}

static float gate_of(const dynq_cell_tile *t, size_t gate, size_t i, size_t j) {
  return sum_of(t, gate, i, j) + projected_of(t, gate, i, j);
}

static void reference_lstm(const dynq_cell_tile *t) {
  for (size_t i = 0; i < t->m; i++) {
    for (size_t j = 0; j < t->n; j++) {
      float *c = &t->c[i * t->stride + j];
      const float kept = sigmoid(gate_of(t, 2, i, j)) * *c;
      const float taken = sigmoid(gate_of(t, 0, i, j)) * tangent(gate_of(t, 3, i, j));
      *c = one_nan(kept + taken);
      t->to[i * t->stride + j] = one_nan(sigmoid(gate_of(t, 1, i, j)) * tangent(*c));
    }
  }
}

static void reference_gru(const dynq_cell_tile *t) {
  for (size_t i = 0; i < t->m; i++) {
    for (size_t j = 0; j < t->n; j++) {
      const float z = sigmoid(gate_of(t, 0, i, j));
      const float product = sigmoid(gate_of(t, 1, i, j)) * sum_of(t, 2, i, j);
      const float candidate = tangent(projected_of(t, 2, i, j) + product);
      const float taken = (1.0f - z) * candidate, kept = z * t->h[i * t->stride + j];
      t->to[i * t->stride + j] = one_nan(taken + kept);
    }
  }
}

static float *floats(size_t n, fill kind) {
  float *x = guarded_f32(n);
  fill_f32(kind, x, n);
  return x;
}

static float *scales(size_t n) {
  float *x = guarded_f32(n);
  for (size_t i = 0; i < n; i++) {
    x[i] = (1.0f + fabsf(random_unit())) * 1e-2f;
  }
  return x;
}

/* All but the states. */
static dynq_cell_tile random_tile(size_t gates) {
  static const fill kinds[] = {FILL_UNIT, FILL_INTEGERS, FILL_HUGE, FILL_DENORMAL, FILL_OUTLIER};
  dynq_cell_tile t = {.m = random_below(MOST_ROWS + 1), .n = DYNQ_PANEL * random_below(MOST_COLUMNS / DYNQ_PANEL + 1)};
  t.stride = t.n + random_below(MOST_HIDDEN - MOST_COLUMNS);
  t.acc_stride = t.n + DYNQ_PANEL * random_below(2);
  t.acc_gate = t.m * t.acc_stride + DYNQ_PANEL * random_below(3);
  t.projected_stride = gates * t.stride + random_below(9);
  const size_t columns = (gates - 1) * t.stride + t.n;
  t.acc = random_s32((gates - 1) * t.acc_gate + t.m * t.acc_stride, random_below(4) != 0 ? 60000 : INT32_MAX);
  float *row_scale = scales(t.m);
  if (t.m != 0 && random_below(6) == 0) {
    row_scale[random_below(t.m)] = NAN;
  }
  t.row_scale = row_scale;
  t.row_zero_point = random_s32(t.m, 255);
  t.column_scale = scales(columns);
  t.column_sum = random_s32(columns, random_below(4) != 0 ? 3000 : 127 * 65536);
  const fill kind = kinds[random_below(sizeof kinds / sizeof kinds[0])];
  t.bias = random_below(2) != 0 ? floats(columns, kind) : NULL;
  t.projected = floats(span(t.m, columns, t.projected_stride), kind);
  return t;
}

typedef void cell_kernel(const dynq_cell_tile *tile);

static void check_cell(const char *isa, const char *name, cell_kernel *kernel, cell_kernel *reference, bool lstm) {
  static float states[MOST_ROWS * MOST_HIDDEN], cells[MOST_ROWS * MOST_HIDDEN];
  check_begin(isa, name);
  for (size_t repeat = 0; repeat < 1500; repeat++) {
    dynq_cell_tile t = random_tile(lstm ? 4 : 3);
    const size_t size = span(t.m, t.n, t.stride);
    const fill kind = random_below(4) != 0 ? FILL_UNIT : FILL_BITS;
    const bool apart = random_below(2) != 0;
    float *h = floats(size, kind), *c = floats(size, kind), *to = apart ? floats(size, FILL_UNIT) : h;
    check_case("m %zu, n %zu, stride %zu%s%s", t.m, t.n, t.stride, t.bias != NULL ? ", bias" : "",
               apart ? "" : ", in place");
    memcpy(states, to, size * sizeof *to);
    memcpy(cells, c, size * sizeof *c);
    dynq_cell_tile expected = t;
    expected.h = apart ? h : states;
    expected.to = states;
    expected.c = cells;
    reference(&expected);
    t.h = h;
    t.to = to;
    t.c = c;
    kernel(&t);
    check_same("state", CHECK_F32, states, to, size);
    check_same("cell", CHECK_F32, cells, c, size);
    guards_release();
  }
  check_end();
}

void check_cell_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar) {
  portable = scalar;
  check_cell(kernels->name, "lstm", kernels->vector.lstm, reference_lstm, true);
  check_cell(kernels->name, "gru", kernels->vector.gru, reference_gru, false);
}
