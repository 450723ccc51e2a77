/*
 * Elementwise ops, ops that move data, windows and integers: the same bits on every instruction set and number of
 * threads, in place too, nothing outside of the buffers, and what is refused. Their values are checked against NumPy by
 * tests/python/graph/test_ops_*.py; a few are here.
 */
#include "check_ops.h"

#include <math.h>
#include <string.h>

#define DIMS(...)                                                                                                      \
  (const size_t[]) { __VA_ARGS__ }
#define RANK(...) (sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t))
#define SHAPE(...) RANK(__VA_ARGS__), DIMS(__VA_ARGS__)

/* An input of any dtype, filled with numbers that no op refuses. */
static void *add_any(op_case *c, dynq_dtype dtype, size_t rank, const size_t *dims) {
  void *p = dtype == DYNQ_FLOAT32 ? op_case_add_f32(c, 9.0f, rank, dims) : op_case_add(c, dtype, rank, dims);
  for (size_t i = 0; i < c->in[c->input_count - 1].count; i++) {
    const int value = (int)random_between(1, 100);
    switch (dtype) {
    case DYNQ_INT64:
      ((int64_t *)p)[i] = value;
      break;
    case DYNQ_INT32:
      ((int32_t *)p)[i] = value;
      break;
    case DYNQ_BOOL:
      ((uint8_t *)p)[i] = value & 1;
      break;
    case DYNQ_UINT8:
    case DYNQ_INT8:
      ((uint8_t *)p)[i] = (uint8_t)value;
      break;
    case DYNQ_FLOAT32:
      break;
    }
  }
  return p;
}

static void add_ints(op_case *c, size_t count, const int64_t *values) {
  memcpy(op_case_add(c, DYNQ_INT64, 1, &count), values, count * sizeof *values);
}
#define INTS(...)                                                                                                      \
  sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]) { __VA_ARGS__ }

/* Runs it everywhere and gives the buffers back. */
static void run(op_case *c, const char *what) {
  check_case("%s", what);
  (void)op_case_run(c, DYNQ_OK);
  guards_release();
}

/* run() itself refuses the values; what the output holds then does not matter. */
static void fail(op_case *c, const char *what) {
  dynq_op_operand inputs[CASE_INPUTS];
  dynq_op alone = *c->op;
  for (size_t i = 0; i < alone.input_count; i++) {
    inputs[i] = alone.inputs[i];
    inputs[i].flags &= ~(uint32_t)DYNQ_OPERAND_IN_PLACE;
  }
  alone.inputs = inputs;
  c->op = &alone;
  check_case("%s", what);
  (void)op_case_run(c, DYNQ_ERROR_INVALID_ARGUMENT);
  guards_release();
}

static void refuse(op_case *c, const char *text) {
  op_case_refused(c, text);
  guards_release();
}

/* ---- Two inputs ---- */

static const char *const arithmetic[] = {"Add", "Sub", "Mul", "Div", "Min", "Max", "Equal", "Less", "GreaterOrEqual"};
static const dynq_dtype numbers[] = {DYNQ_FLOAT32, DYNQ_INT64, DYNQ_INT32, DYNQ_UINT8, DYNQ_INT8};

static void check_pairs(void) {
  static const struct {
    size_t a_rank, a[4], b_rank, b[4];
  } shapes[] = {
      {1, {1}, 1, {1}},          {0, {0}, 2, {3, 5}},      {2, {7, 33}, 2, {7, 33}},
      {2, {300, 700}, 1, {700}}, {2, {40, 9}, 2, {40, 1}}, {3, {2, 1, 5}, 2, {4, 1}},
      {2, {300, 700}, 0, {0}},   {2, {0, 5}, 2, {1, 5}},   {4, {3, 1, 300, 200}, 4, {1, 2, 300, 200}},
  };
  for (size_t op = 0; op < sizeof arithmetic / sizeof arithmetic[0]; op++) {
    check_begin("", arithmetic[op]);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
      for (size_t d = 0; d < sizeof numbers / sizeof numbers[0]; d++) {
        op_case c = op_case_of(arithmetic[op]);
        (void)add_any(&c, numbers[d], shapes[s].a_rank, shapes[s].a);
        (void)add_any(&c, numbers[d], shapes[s].b_rank, shapes[s].b);
        check_case("shapes %zu of %s", s, dynq_dtype_name(numbers[d]));
        (void)op_case_run(&c, DYNQ_OK);
        guards_release();
      }
    }
    op_case c = op_case_of(arithmetic[op]);
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3));
    (void)add_any(&c, DYNQ_INT32, SHAPE(2, 3));
    refuse(&c, "input 1 is int32; expected one of: float32");
    c = op_case_of(arithmetic[op]);
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3));
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 4));
    refuse(&c, "do not go together");
    check_end();
  }
}

static void check_pairs_special(void) {
  check_begin("", "division by zero, powers, PRelu, Where");
  op_case c = op_case_of("Div");
  (void)add_any(&c, DYNQ_INT32, SHAPE(4));
  ((int32_t *)add_any(&c, DYNQ_INT32, SHAPE(4)))[2] = 0;
  fail(&c, "a zero");
  c = op_case_of("And");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(4));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(4));
  refuse(&c, "input 0 is float32; expected one of: bool");
  for (int e = -2; e < 4; e++) {
    c = op_case_of("Pow");
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(300, 400));
    *(float *)add_any(&c, DYNQ_FLOAT32, 0, NULL) = (float)e;
    run(&c, "a power");
  }
  c = op_case_of("Pow");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(5));
  *(float *)add_any(&c, DYNQ_FLOAT32, 0, NULL) = 0.3f;
  run(&c, "a power that is neither whole nor a half");
  c = op_case_of("Pow");
  (void)add_any(&c, DYNQ_INT32, SHAPE(5));
  *(float *)add_any(&c, DYNQ_FLOAT32, 0, NULL) = 0.5f;
  fail(&c, "a root of an integer");
  c = op_case_of("PRelu");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 30, 4000));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(30, 1));
  run(&c, "PRelu");
  c = op_case_of("Where");
  (void)add_any(&c, DYNQ_BOOL, SHAPE(1, 300));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(400, 300));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(400, 1));
  run(&c, "Where");
  c = op_case_of("Mod");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(40));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(40));
  op_case_int(&c, "fmod", 2);
  refuse(&c, "fmod is 2");
  c = op_case_of("Mean");
  for (size_t i = 0; i < 4; i++) {
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(i % 2 == 0 ? 300 : 1, 500));
  }
  run(&c, "Mean");
  check_end();
}

/* ---- Casts ---- */

static void check_cast(void) {
  static const int64_t types[] = {1, 2, 3, 6, 7, 9};
  check_begin("", "Cast");
  for (size_t from = 0; from <= DYNQ_INT8; from++) {
    for (size_t to = 0; to < sizeof types / sizeof types[0]; to++) {
      op_case c = op_case_of("Cast");
      (void)add_any(&c, (dynq_dtype)from, SHAPE(700, 301));
      op_case_int(&c, "to", types[to]);
      run(&c, "a cast");
    }
  }
  op_case c = op_case_of("Cast");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(3));
  op_case_int(&c, "to", 10);
  refuse(&c, "ONNX type 10 is not supported");
  c = op_case_of("Cast");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(3));
  refuse(&c, "attribute to is left out");
  check_end();
}

/* ---- Moving data ---- */

static void check_transpose(void) {
  static const int64_t perms[][4] = {{0, 2, 1, 3}, {0, 1, 3, 2}, {3, 2, 1, 0},
                                     {1, 2, 3, 0}, {0, 3, 1, 2}, {1, 0, 2, 3}};
  static const dynq_dtype dtypes[] = {DYNQ_FLOAT32, DYNQ_INT64, DYNQ_UINT8};
  check_begin("", "Transpose");
  for (size_t p = 0; p < sizeof perms / sizeof perms[0]; p++) {
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
      op_case c = op_case_of("Transpose");
      const size_t dims[4] = {2, 37, 19, 65}, size = dynq_dtype_size(dtypes[d]);
      const uint8_t *x = add_any(&c, dtypes[d], 4, dims);
      c.attributes[0] = (dynq_attribute){.present = true, .count = 4, .ints = perms[p]};
      check_case("perm %zu of %s", p, dynq_dtype_name(dtypes[d]));
      const bool ran = op_case_run(&c, DYNQ_OK);
      for (size_t i = 0; i < (ran ? c.out[0].count : 0); i += 97) {
        size_t place[4], rest = i, from = 0;
        for (size_t axis = 4; axis-- > 0; rest /= c.out[0].dims[axis]) {
          place[perms[p][axis]] = rest % c.out[0].dims[axis];
        }
        for (size_t axis = 0; axis < 4; axis++) {
          from = from * dims[axis] + place[axis];
        }
        CHECK(memcmp((const uint8_t *)c.out[0].data + i * size, x + from * size, size) == 0);
      }
      guards_release();
    }
  }
  check_end();
}

static void check_movement(void) {
  check_begin("", "Concat, Split, Slice, Pad, Tile, Expand");
  for (size_t d = 0; d < sizeof numbers / sizeof numbers[0]; d++) {
    op_case c = op_case_of("Concat");
    (void)add_any(&c, numbers[d], SHAPE(300, 5, 40));
    (void)add_any(&c, numbers[d], SHAPE(300, 0, 40));
    (void)add_any(&c, numbers[d], SHAPE(300, 3, 40));
    op_case_int(&c, "axis", -2);
    run(&c, "Concat");
    c = op_case_of("Split");
    (void)add_any(&c, numbers[d], SHAPE(300, 11, 17));
    add_ints(&c, INTS(4, 0, 7));
    op_case_int(&c, "axis", 1);
    c.output_count = 3;
    run(&c, "Split");
    c = op_case_of("Slice");
    (void)add_any(&c, numbers[d], SHAPE(200, 50, 33));
    add_ints(&c, INTS(-1, 3));
    add_ints(&c, INTS(INT64_MIN, 30));
    add_ints(&c, INTS(2, 0));
    add_ints(&c, INTS(-2, 3));
    run(&c, "Slice");
    c = op_case_of("Pad");
    (void)add_any(&c, numbers[d], SHAPE(20, 50, 33));
    add_ints(&c, INTS(1, -2, 3, 0, 5, -30));
    op_case_string(&c, "mode", d % 2 == 0 ? "constant" : "edge");
    run(&c, "Pad");
    c = op_case_of("Tile");
    (void)add_any(&c, numbers[d], SHAPE(20, 7, 33));
    add_ints(&c, INTS(2, 5, 3));
    run(&c, "Tile");
    c = op_case_of("Expand");
    (void)add_any(&c, numbers[d], SHAPE(20, 1, 33));
    add_ints(&c, INTS(3, 1, 50, 1));
    run(&c, "Expand");
  }
  op_case c = op_case_of("Concat");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 4));
  op_case_int(&c, "axis", 0);
  refuse(&c, "input 1 has size 4 in axis 1; expected 3");
  c = op_case_of("Slice");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3));
  add_ints(&c, INTS(0));
  add_ints(&c, INTS(1));
  add_ints(&c, INTS(0));
  add_ints(&c, INTS(0));
  refuse(&c, "step 0 is 0");
  c = op_case_of("Tile");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3));
  add_ints(&c, INTS(-1, 1));
  refuse(&c, "repeat 0 is -1");
  c = op_case_of("Pad");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2));
  add_ints(&c, INTS(INT64_MAX, INT64_MAX));
  refuse(&c, "the pads of axis 0");
  check_end();
}

static void check_indices(void) {
  check_begin("", "Gather, Scatter, OneHot, TopK, ArgMax");
  for (size_t d = 0; d < sizeof numbers / sizeof numbers[0]; d++) {
    op_case c = op_case_of("Gather");
    (void)add_any(&c, numbers[d], SHAPE(300, 101, 9));
    (void)add_any(&c, DYNQ_INT64, SHAPE(7, 20));
    op_case_int(&c, "axis", 1);
    run(&c, "Gather");
    c = op_case_of("GatherElements");
    (void)add_any(&c, numbers[d], SHAPE(300, 101, 9));
    (void)add_any(&c, DYNQ_INT32, SHAPE(290, 50, 9));
    op_case_int(&c, "axis", 1);
    run(&c, "GatherElements");
    c = op_case_of("GatherND");
    (void)add_any(&c, numbers[d], SHAPE(101, 101, 9));
    (void)add_any(&c, DYNQ_INT64, SHAPE(900, 2));
    run(&c, "GatherND");
    c = op_case_of("ScatterElements");
    (void)add_any(&c, numbers[d], SHAPE(30, 101, 9));
    (void)add_any(&c, DYNQ_INT64, SHAPE(29, 50, 9));
    (void)add_any(&c, numbers[d], SHAPE(29, 50, 9));
    op_case_int(&c, "axis", 1);
    run(&c, "ScatterElements");
    c = op_case_of("ScatterND");
    (void)add_any(&c, numbers[d], SHAPE(101, 101, 9));
    (void)add_any(&c, DYNQ_INT64, SHAPE(40, 2));
    (void)add_any(&c, numbers[d], SHAPE(40, 9));
    run(&c, "ScatterND");
    c = op_case_of("OneHot");
    (void)add_any(&c, DYNQ_INT64, SHAPE(60));
    add_ints(&c, INTS(80));
    (void)add_any(&c, numbers[d], SHAPE(2));
    run(&c, "OneHot");
    c = op_case_of("TopK");
    (void)add_any(&c, numbers[d], SHAPE(40, 101, 90));
    add_ints(&c, INTS(11));
    op_case_int(&c, "axis", (int64_t)(d % 3));
    c.output_count = 2;
    run(&c, "TopK");
    c = op_case_of("ArgMax");
    (void)add_any(&c, numbers[d], SHAPE(40, 101, 90));
    op_case_int(&c, "axis", (int64_t)(d % 3));
    run(&c, "ArgMax");
  }
  op_case c = op_case_of("Gather");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(5, 2));
  add_ints(&c, INTS(4, -5, 5));
  fail(&c, "an index out of range");
  c = op_case_of("ScatterND");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(5, 2));
  add_ints(&c, INTS(0));
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2));
  op_case_string(&c, "reduction", "xor");
  refuse(&c, "reduction is 'xor'");
  c = op_case_of("TopK");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(5, 2));
  add_ints(&c, INTS(3));
  refuse(&c, "k is 3");
  check_end();
}

static void check_made(void) {
  check_begin("", "Range, EyeLike, Trilu, CumSum, ReverseSequence, DepthToSpace");
  op_case c = op_case_of("Range");
  add_ints(&c, INTS(5));
  add_ints(&c, INTS(200000));
  add_ints(&c, INTS(2));
  run(&c, "Range");
  c = op_case_of("EyeLike");
  (void)add_any(&c, DYNQ_INT32, SHAPE(30, 50));
  op_case_int(&c, "k", -3);
  run(&c, "EyeLike");
  c = op_case_of("Trilu");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(3, 200, 301));
  op_case_int(&c, "upper", 0);
  run(&c, "Trilu");
  for (size_t d = 0; d < 3; d++) {
    c = op_case_of("CumSum");
    (void)add_any(&c, numbers[d], SHAPE(30, 101, 90));
    add_ints(&c, INTS((int64_t)d - 3));
    run(&c, "CumSum");
  }
  c = op_case_of("ReverseSequence");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(101, 3, 700));
  add_ints(&c, INTS(0, 101, 50));
  run(&c, "ReverseSequence");
  c = op_case_of("DepthToSpace");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 36, 40, 41));
  op_case_int(&c, "blocksize", 3);
  run(&c, "DepthToSpace");
  check_end();
}

/* ---- Windows, images, integers ---- */

static void check_windows(void) {
  static const int64_t two[] = {2, 3}, pads[] = {1, 0, 1, 2};
  static const char *const pools[] = {"MaxPool", "AveragePool"};
  check_begin("", "pooling, Resize");
  for (size_t p = 0; p < 2; p++) {
    op_case c = op_case_of(pools[p]);
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 7, 60, 61));
    c.attributes[2] = (dynq_attribute){.present = true, .count = 2, .ints = two}; /* kernel_shape */
    c.attributes[3] = (dynq_attribute){.present = true, .count = 4, .ints = pads};
    op_case_int(&c, "ceil_mode", 1);
    run(&c, pools[p]);
    c = op_case_of(pools[p]);
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 7, 60, 61));
    refuse(&c, "kernel_shape is left out");
    c = op_case_of(pools[p]);
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 7, 1, 61));
    c.attributes[2] = (dynq_attribute){.present = true, .count = 2, .ints = two};
    refuse(&c, "a window of 2 places does not fit into 1");
  }
  for (size_t linear = 0; linear < 2; linear++) {
    op_case c = op_case_of("Resize");
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3, 40, 41));
    op_case_skip(&c);
    op_case_skip(&c);
    add_ints(&c, INTS(2, 3, 97, 130));
    op_case_string(&c, "mode", linear != 0 ? "linear" : "nearest");
    run(&c, "Resize");
    c = op_case_of("Resize");
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 3));
    refuse(&c, "both left out");
  }
  for (size_t p = 0; p < 2; p++) {
    op_case c = op_case_of(p != 0 ? "GlobalMaxPool" : "GlobalAveragePool");
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(3, 70, 33, 35));
    run(&c, "whole planes");
  }
  check_end();
}

static void check_integers(void) {
  check_begin("", "DynamicQuantizeLinear, MatMulInteger, ConvInteger");
  static const size_t sizes[] = {0, 1, 33, 4096, 300001};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    op_case c = op_case_of("DynamicQuantizeLinear");
    (void)add_any(&c, DYNQ_FLOAT32, 1, &sizes[s]);
    c.output_count = 3;
    run(&c, "DynamicQuantizeLinear");
  }
  op_case c = op_case_of("DynamicQuantizeLinear");
  ((float *)add_any(&c, DYNQ_FLOAT32, SHAPE(5000)))[4999] = NAN;
  c.output_count = 3;
  check_case("a NaN");
  if (op_case_run(&c, DYNQ_NONFINITE)) {
    CHECK(isnan(*(const float *)c.out[1].data));
  }
  guards_release();
  for (size_t s = 0; s < 2; s++) {
    c = op_case_of("dynq.QuantizeRows");
    (void)add_any(&c, DYNQ_FLOAT32, SHAPE(3, s == 0 ? 0 : 333));
    c.output_count = 3;
    run(&c, "dynq.QuantizeRows");
  }
  for (size_t s = 0; s < 4; s++) {
    const dynq_dtype a = s % 2 == 0 ? DYNQ_UINT8 : DYNQ_INT8, b = s / 2 == 0 ? DYNQ_UINT8 : DYNQ_INT8;
    c = op_case_of("MatMulInteger");
    (void)add_any(&c, a, SHAPE(2, 90, 70));
    (void)add_any(&c, b, SHAPE(70, 130));
    (void)add_any(&c, a, 0, NULL);
    (void)add_any(&c, b, SHAPE(130));
    run(&c, "MatMulInteger");
    c = op_case_of("ConvInteger");
    (void)add_any(&c, a, SHAPE(2, 6, 30, 31));
    (void)add_any(&c, b, SHAPE(8, 3, 3, 2));
    (void)add_any(&c, a, 0, NULL);
    (void)add_any(&c, b, SHAPE(8));
    op_case_int(&c, "group", 2);
    op_case_string(&c, "auto_pad", "SAME_UPPER");
    run(&c, "ConvInteger");
  }
  c = op_case_of("MatMulInteger");
  (void)add_any(&c, DYNQ_UINT8, SHAPE(9, 7));
  (void)add_any(&c, DYNQ_INT8, SHAPE(7, 5));
  (void)add_any(&c, DYNQ_UINT8, SHAPE(7));
  refuse(&c, "the zero-point, input 2");
  c = op_case_of("ConvInteger");
  (void)add_any(&c, DYNQ_UINT8, SHAPE(1, 4, 9));
  (void)add_any(&c, DYNQ_INT8, SHAPE(4, 3, 2));
  refuse(&c, "do not go together");
  c = op_case_of("QuantizeLinear");
  (void)add_any(&c, DYNQ_FLOAT32, SHAPE(2, 40, 300));
  float *scale = add_any(&c, DYNQ_FLOAT32, SHAPE(40));
  for (size_t i = 0; i < 40; i++) {
    scale[i] = 0.01f * (float)(i + 1);
  }
  (void)add_any(&c, DYNQ_INT8, SHAPE(40));
  run(&c, "QuantizeLinear");
  check_end();
}

void check_data_ops(void) {
  check_pairs();
  check_pairs_special();
  check_cast();
  check_transpose();
  check_movement();
  check_indices();
  check_made();
  check_windows();
  check_integers();
}
