/*
 * Ops on each element, and reductions.
 */
#include "check_ops.h"
#include "exact.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Functions of each element ---- */

/* Checks the op with its default attributes, or with others if `set`. */
static void check_function(const exact_function *function, bool set) {
  static const size_t shapes[][3] = {{2, 3, 5}, {1, 1, 0}, {40, 50, 60}};
  for (size_t s = 0; s < 3; s++) {
    op_case c = op_case_of(function->op);
    const float *x = op_case_add_f32(&c, 6.0f, 3, shapes[s]);
    double parameters[DYNQ_OP_MAX_ATTRIBUTES] = {0};
    for (size_t i = 0; i < c.op->attribute_count; i++) {
      const dynq_op_attribute *a = &c.op->attributes[i];
      CHECK(i < 2 && a->type == DYNQ_ATTRIBUTE_FLOAT && a->has_default);
      if (set) {
        op_case_float(&c, a->name, 0.3f - 0.05f * (float)i);
      }
      parameters[i] = set ? (double)(0.3f - 0.05f * (float)i) : (double)a->f;
    }
    check_case("shape %zu%s", s, set ? ", with attributes" : "");
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].rank == 3 && memcmp(c.out[0].dims, shapes[s], sizeof shapes[s]) == 0);
      for (size_t i = 0; i < c.out[0].count; i++) {
        const double y = function->y((double)x[i], parameters[0], parameters[1]);
        op_case_near(&c, 0, i, y, 4e-7 * (1.0 + fabs(y) + fabs((double)x[i])));
      }
    }
    guards_release();
  }
}

static void check_functions(void) {
  static const exact_function activations[] = {
      {"Relu", exact_Relu, NULL}, {"Sigmoid", exact_Sigmoid, NULL}, {"Tanh", exact_Tanh, NULL}};
  enum { LISTS = 3 };
  static const struct {
    const exact_function *functions;
    size_t count;
  } lists[LISTS] = {{exact_functions, EXACT_FUNCTIONS}, {exact_doubles, EXACT_DOUBLES}, {activations, 3}};
  for (size_t l = 0; l < LISTS; l++) {
    for (size_t f = 0; f < lists[l].count; f++) {
      const exact_function *function = &lists[l].functions[f];
      check_begin("", function->op);
      for (int set = 0; set < 2 && dynq_op_find(function->op)->input_count == 1; set++) { /* not Clip */
        check_function(function, set != 0);
      }
      check_end();
    }
  }
}

static void check_gelu(void) {
  static const char *const approximations[] = {NULL, "none", "tanh"};
  check_begin("", "Gelu");
  for (size_t a = 0; a < 3; a++) {
    op_case c = op_case_of("Gelu");
    const float *x = op_case_add_f32(&c, 6.0f, 1, (const size_t[]){1000});
    if (approximations[a] != NULL) {
      op_case_string(&c, "approximate", approximations[a]);
    }
    check_case("approximation %zu", a);
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < c.out[0].count; i++) {
        const double y = (a < 2 ? exact_Gelu : exact_GeluTanh)((double)x[i], 0.0, 0.0);
        op_case_near(&c, 0, i, y, 4e-7 * (1.0 + fabs(y) + fabs((double)x[i])));
      }
    }
    guards_release();
  }
  op_case c = op_case_of("Gelu");
  (void)op_case_add_f32(&c, 1.0f, 1, (const size_t[]){2});
  op_case_string(&c, "approximate", "erf");
  op_case_refused(&c, "approximate is 'erf'");
  guards_release();
  c = op_case_of("Erf");
  (void)op_case_add(&c, DYNQ_INT64, 1, (const size_t[]){2});
  op_case_refused(&c, "int64");
  guards_release();
  check_end();
}

/* Checks an op on numbers of every size, beside multiples of pi / 2, where most cancels, and from -1 to 1. */
static void check_double(const exact_function *function) {
  enum { COUNT = 200000 };
  static const float some[] = {INFINITY, -INFINITY, NAN,     -NAN,    -0.0f,          0.0f,          1.0f,    -1.0f,
                               FLT_MAX,  -FLT_MAX,  0x1p20f, FLT_MIN, 0x1.fffffep-1f, 0x1.000002p0f, -1e-40f, 1e-7f};
  op_case c = op_case_of(function->op);
  float *x = op_case_add(&c, DYNQ_FLOAT32, 1, (const size_t[]){COUNT});
  for (size_t i = 0; i < COUNT; i++) {
    const double multiple = ldexp(1.0 + (double)random_below(1 << 20), (int)random_below(60) - 20);
    x[i] = i % 4 == 0   ? (float)(rint(multiple) * 1.57079632679489661923)
           : i % 4 == 1 ? random_unit()
           : i % 4 == 2 ? random_unit() * 100.0f
                        : random_finite();
  }
  memcpy(x, some, sizeof some);
  check_case("all sizes");
  if (op_case_run(&c, DYNQ_OK)) {
    const float *got = c.out[0].data;
    for (size_t i = 0; i < COUNT; i++) {
      const double y = function->y((double)x[i], 0.0, 0.0);
      op_case_near(&c, 0, i, fabs(y) > FLT_MAX ? copysign(INFINITY, y) : y, function->bound((double)x[i], y));
      CHECK(y != 0.0 || (signbit(got[i]) != 0) == (signbit(y) != 0));
    }
  }
  guards_release();
}

static void check_doubles(void) {
  for (size_t f = 0; f < EXACT_DOUBLES; f++) {
    check_begin("every size", exact_doubles[f].op);
    check_double(&exact_doubles[f]);
    check_end();
  }
}

/* ---- Integers, bools ---- */

static int64_t integer_at(const dynq_op_tensor *t, size_t i) {
  return t->dtype == DYNQ_INT8                             ? ((const int8_t *)t->data)[i]
         : t->dtype == DYNQ_UINT8 || t->dtype == DYNQ_BOOL ? ((const uint8_t *)t->data)[i]
                                                           : dynq_op_value(t, i);
}

static void fill_integers(op_case *c, size_t input) {
  const dynq_op_tensor *t = &c->in[input];
  for (size_t i = 0; i < t->count; i++) {
    const int64_t value = (int64_t)random_below(21) - 10;
    if (dynq_dtype_size(t->dtype) == 1) {
      ((uint8_t *)t->data)[i] = (uint8_t)(t->dtype == DYNQ_BOOL ? value & 1 : value);
      continue;
    }
    if (t->dtype == DYNQ_INT64) {
      ((int64_t *)t->data)[i] = value;
    } else {
      ((int32_t *)t->data)[i] = (int32_t)value;
    }
  }
}

static void check_integers(void) {
  static const char *const names[] = {"Abs", "Neg", "Sign", "Clip"};
  check_begin("", "integers");
  static const dynq_dtype dtypes[] = {DYNQ_INT64, DYNQ_INT32, DYNQ_INT8};
  for (size_t repeat = 0; repeat < 24; repeat++) {
    const dynq_dtype dtype = dtypes[repeat % 3];
    const size_t which = repeat / 3 % 4;
    const char *name = names[which];
    op_case c = op_case_of(name);
    (void)op_case_add(&c, dtype, 2, (const size_t[]){3, 7});
    fill_integers(&c, 0);
    const bool clips = which == 3, from_below = clips && repeat < 12;
    if (clips && !from_below) { /* max alone */
      op_case_skip(&c);
    }
    if (clips) {
      (void)op_case_add(&c, dtype, 0, NULL);
      const int64_t limit = 3;
      memcpy(c.in[c.input_count - 1].data, &limit, dynq_dtype_size(dtype)); /* little-endian */
    }
    check_case("%s, %s", name, dynq_dtype_name(dtype));
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < 21; i++) {
        const int64_t x = integer_at(&c.in[0], i), y = integer_at(&c.out[0], i);
        const int64_t clipped = from_below ? (x < 3 ? 3 : x) : (x > 3 ? 3 : x);
        const int64_t functions_of_x[] = {x < 0 ? -x : x, -x, (x > 0) - (x < 0), clipped};
        CHECK(y == functions_of_x[which]);
      }
    }
    guards_release();
  }
  check_end();
}

static void check_clip(void) {
  check_begin("", "Clip");
  for (size_t given = 0; given < 4; given++) {
    op_case c = op_case_of("Clip");
    const float *x = op_case_add_f32(&c, 3.0f, 2, (const size_t[]){5, 9});
    ((float *)c.in[0].data)[4] = NAN;
    if ((given & 1) != 0) {
      *(float *)op_case_add(&c, DYNQ_FLOAT32, 0, NULL) = -1.0f;
    } else if (given == 2) {
      op_case_skip(&c);
    }
    if ((given & 2) != 0) {
      *(float *)op_case_add(&c, DYNQ_FLOAT32, 1, (const size_t[]){1}) = 0.5f;
    }
    check_case("limits %zu", given);
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < c.out[0].count; i++) {
        const double low = (given & 1) != 0 ? -1.0 : -INFINITY, high = (given & 2) != 0 ? 0.5 : INFINITY;
        op_case_near(&c, 0, i, i == 4 ? (double)NAN : fmin(high, fmax(low, (double)x[i])), 0.0);
      }
    }
    guards_release();
  }
  op_case c = op_case_of("Clip");
  (void)op_case_add_f32(&c, 1.0f, 1, (const size_t[]){3});
  (void)op_case_add(&c, DYNQ_INT64, 0, NULL);
  op_case_refused(&c, "min");
  check_end();
}

static void check_bools(void) {
  check_begin("", "Not, IsNaN, IsInf");
  for (size_t kind = 0; kind < 4; kind++) {
    op_case c = op_case_of(kind == 0 ? "Not" : kind == 1 ? "IsNaN" : "IsInf");
    const float values[4] = {NAN, INFINITY, -INFINITY, 1.0f};
    if (kind == 0) {
      memcpy(op_case_add(&c, DYNQ_BOOL, 1, (const size_t[]){4}), (const uint8_t[]){1, 0, 1, 0}, 4);
    } else {
      memcpy(op_case_add(&c, DYNQ_FLOAT32, 1, (const size_t[]){4}), values, sizeof values);
    }
    if (kind == 3) {
      op_case_int(&c, "detect_negative", 0);
    }
    check_case("kind %zu", kind);
    static const uint8_t expected[][4] = {{0, 1, 0, 1}, {1, 0, 0, 0}, {0, 1, 1, 0}, {0, 1, 0, 0}};
    if (op_case_run(&c, DYNQ_OK)) {
      CHECK(c.out[0].dtype == DYNQ_BOOL);
      check_same("y", CHECK_BYTES, expected[kind], c.out[0].data, 4);
    }
    guards_release();
  }
  check_end();
}

/* ---- Reductions ---- */

static const char *const reductions[] = {"ReduceSum",    "ReduceMean",     "ReduceMax", "ReduceMin",
                                         "ReduceProd",   "ReduceL1",       "ReduceL2",  "ReduceSumSquare",
                                         "ReduceLogSum", "ReduceLogSumExp"};
enum { INTEGER_REDUCTIONS = 5 }; /* of the first, all but the mean */

static double neutral_of(size_t kind) { return kind == 2 ? -INFINITY : kind == 3 ? INFINITY : kind == 4 ? 1.0 : 0.0; }

static double take(size_t kind, double y, double x) {
  switch (kind) {
  case 2:
    return fmax(y, x);
  case 3:
    return fmin(y, x);
  case 4:
    return y * x;
  case 5:
    return y + fabs(x);
  case 6:
  case 7:
    return y + x * x;
  case 9:
    return y + exp(x);
  default:
    return y + x;
  }
}

static double finish(size_t kind, double y, size_t n) {
  return kind == 1 ? y / (double)n : kind == 6 ? sqrt(y) : kind == 8 || kind == 9 ? log(y) : y;
}

static void check_reduction(size_t kind, dynq_dtype dtype, size_t rank, const size_t *dims, size_t axis_count,
                            const int64_t *axes, bool keep) {
  op_case c = op_case_of(reductions[kind]);
  bool reduced[4] = {axis_count == 0, axis_count == 0, axis_count == 0, axis_count == 0};
  static double expected[20000];
  static size_t counts[20000];
  size_t y_dims[4], y_rank = 0, outputs = 1;
  if (dtype == DYNQ_FLOAT32) {
    float *x = op_case_add_f32(&c, 1.0f, rank, dims);
    for (size_t i = 0; kind == 8 && i < c.in[0].count; i++) {
      x[i] = fabsf(x[i]) + 0.1f;
    }
  } else {
    (void)op_case_add(&c, dtype, rank, dims);
    fill_integers(&c, 0);
  }
  if (axis_count != 0) {
    memcpy(op_case_add(&c, DYNQ_INT64, 1, &axis_count), axes, axis_count * sizeof *axes);
  }
  op_case_int(&c, "keepdims", keep);
  for (size_t i = 0; i < axis_count; i++) {
    reduced[axes[i] < 0 ? (size_t)(axes[i] + (int64_t)rank) : (size_t)axes[i]] = true;
  }
  for (size_t i = 0; i < rank; i++) {
    outputs *= reduced[i] ? 1 : dims[i];
    if (!reduced[i] || keep) {
      y_dims[y_rank++] = reduced[i] ? 1 : dims[i];
    }
  }
  check_case("%s, %s, rank %zu, %zu axes from %lld on, keepdims %d", reductions[kind], dynq_dtype_name(dtype), rank,
             axis_count, axis_count != 0 ? (long long)axes[0] : 0, keep);
  if (!op_case_run(&c, DYNQ_OK)) {
    return;
  }
  CHECK(c.out[0].rank == y_rank && memcmp(c.out[0].dims, y_dims, y_rank * sizeof *y_dims) == 0);
  for (size_t i = 0; i < outputs; i++) {
    expected[i] = neutral_of(kind);
    counts[i] = 0;
  }
  for (size_t i = 0; i < c.in[0].count; i++) {
    size_t at = 0, rest = i, coordinates[4];
    for (size_t d = rank; d-- > 0; rest /= dims[d]) {
      coordinates[d] = rest % dims[d];
    }
    for (size_t d = 0; d < rank; d++) {
      at = reduced[d] ? at : at * dims[d] + coordinates[d];
    }
    const double x = dtype == DYNQ_FLOAT32 ? (double)((float *)c.in[0].data)[i] : (double)integer_at(&c.in[0], i);
    expected[at] = take(kind, expected[at], x);
    counts[at]++;
  }
  for (size_t i = 0; i < outputs; i++) {
    const double y = finish(kind, expected[i], counts[i]);
    if (dtype == DYNQ_FLOAT32) {
      op_case_near(&c, 0, i, y, 1e-6 * (1.0 + (double)counts[i]));
    } else {
      CHECK((double)integer_at(&c.out[0], i) == y);
    }
  }
}

static void check_reductions(void) {
  static const struct {
    size_t rank, dims[4], count;
    int64_t axes[4];
  } shapes[] = {
      {3, {4, 5, 33}, 1, {-1}},      {3, {4, 50, 37}, 1, {1}},     {3, {4, 5, 33}, 1, {0}}, {3, {4, 5, 33}, 2, {2, 0}},
      {4, {3, 4, 5, 6}, 2, {1, -1}}, {4, {3, 4, 5, 6}, 2, {0, 2}}, {2, {7, 9}, 0, {0}},     {0, {0}, 0, {0}},
      {3, {2, 1, 300}, 2, {1, 2}},   {2, {0, 3}, 1, {1}},          {3, {2, 0, 3}, 1, {1}},  {3, {300, 20, 40}, 1, {0}},
  };
  for (size_t kind = 0; kind < sizeof reductions / sizeof reductions[0]; kind++) {
    check_begin("", reductions[kind]);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
      for (int keep = 0; keep < 2; keep++) {
        check_reduction(kind, DYNQ_FLOAT32, shapes[s].rank, shapes[s].dims, shapes[s].count, shapes[s].axes, keep != 0);
        guards_release();
        static const dynq_dtype orderable[] = {DYNQ_INT64, DYNQ_INT32, DYNQ_BOOL, DYNQ_UINT8, DYNQ_INT8};
        if (kind < INTEGER_REDUCTIONS && kind != 1 && kind != 4 && s != 10) {
          check_reduction(kind, orderable[s % (kind == 0 ? 2 : 5)], shapes[s].rank, shapes[s].dims, shapes[s].count,
                          shapes[s].axes, keep != 0);
          guards_release();
        }
      }
    }
    check_end();
  }
  check_begin("", "reductions: none, refused");
  op_case c = op_case_of("ReduceSumSquare");
  const float *x = op_case_add_f32(&c, 2.0f, 2, (const size_t[]){3, 4});
  op_case_int(&c, "noop_with_empty_axes", 1);
  check_case("no axis is reduced: each element is squared all the same");
  if (op_case_run(&c, DYNQ_OK)) {
    float squares[12];
    for (size_t i = 0; i < 12; i++) {
      squares[i] = x[i] * x[i];
    }
    check_same("y", CHECK_F32, squares, c.out[0].data, 12);
  }
  guards_release();
  c = op_case_of("ReduceMean");
  (void)op_case_add(&c, DYNQ_INT64, 1, (const size_t[]){2});
  op_case_refused(&c, "data is int64");
  guards_release();
  c = op_case_of("ReduceMean");
  (void)op_case_add_f32(&c, 1.0f, 1, (const size_t[]){2});
  *(int64_t *)op_case_add(&c, DYNQ_INT64, 1, (const size_t[]){1}) = 1;
  op_case_refused(&c, "axis is 1");
  guards_release();
  check_end();
}

void check_element_ops(void) {
  check_functions();
  check_gelu();
  check_doubles();
  check_integers();
  check_clip();
  check_bools();
  check_reductions();
}
