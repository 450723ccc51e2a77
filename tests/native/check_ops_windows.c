/*
 * Pools whose windows reach far beyond the input: the elements that lie in it, in their order, in little time.
 */
#include "check_ops.h"

#include <math.h>
#include <string.h>

typedef struct axis {
  int64_t in, kernel, stride, dilation, before, after;
} axis;

static size_t windows_of(const axis *a) {
  return (size_t)((a->in + a->before + a->after - (a->kernel - 1) * a->dilation - 1) / a->stride + 1);
}

/* Returns whether window `index` covers place `at` of the input. */
static bool covers(const axis *a, size_t index, int64_t at) {
  const int64_t distance = at + a->before - (int64_t)index * a->stride;
  return distance >= 0 && distance % a->dilation == 0 && distance / a->dilation < a->kernel;
}

static float pool_at(const axis *rows, const axis *columns, const float *plane, size_t row, size_t column, bool max) {
  float y = max ? -INFINITY : 0.0f;
  size_t count = 0;
  for (int64_t i = 0; i < rows->in; i++) {
    for (int64_t j = 0; j < columns->in; j++) {
      if (covers(rows, row, i) && covers(columns, column, j)) {
        const float x = plane[i * columns->in + j];
        y = !max ? y + x : x > y ? x : y;
        count++;
      }
    }
  }
  return max ? y : y / (float)count;
}

static void set_ints(op_case *c, const char *name, size_t count, const int64_t *values) {
  for (size_t i = 0; i < c->op->attribute_count; i++) {
    if (strcmp(c->op->attributes[i].name, name) == 0) {
      c->attributes[i] = (dynq_attribute){.present = true, .count = count, .ints = values};
    }
  }
}

static void check_pool(const axis *rows, const axis *columns, bool max) {
  enum { PLANES = 2 };
  op_case c = op_case_of(max ? "MaxPool" : "AveragePool");
  const float *x = op_case_add_f32(&c, 2.0f, 4, (const size_t[]){1, PLANES, (size_t)rows->in, (size_t)columns->in});
  const int64_t kernel[2] = {rows->kernel, columns->kernel}, strides[2] = {rows->stride, columns->stride};
  const int64_t dilations[2] = {rows->dilation, columns->dilation};
  const int64_t pads[4] = {rows->before, columns->before, rows->after, columns->after};
  set_ints(&c, "kernel_shape", 2, kernel);
  set_ints(&c, "strides", 2, strides);
  set_ints(&c, "dilations", 2, dilations);
  set_ints(&c, "pads", 4, pads);
  if (op_case_run(&c, DYNQ_OK)) {
    const size_t out[2] = {windows_of(rows), windows_of(columns)};
    CHECK(c.out[0].count == PLANES * out[0] * out[1]);
    for (size_t i = 0; i < c.out[0].count; i++) {
      const float *plane = x + i / (out[0] * out[1]) * (size_t)(rows->in * columns->in);
      op_case_near(&c, 0, i, (double)pool_at(rows, columns, plane, i / out[1] % out[0], i % out[1], max), 0.0);
    }
  }
  guards_release();
}

static int64_t any_of(const int64_t *values, size_t count) { return values[random_below(count)]; }

/* Pads so that there are a few windows. */
static axis any_axis(void) {
  static const int64_t kernels[] = {1, 2, 3, 9, 1000, 100003, INT32_MAX};
  static const int64_t steps[] = {1, 1, 2, 3, 7, 40, 1009, INT32_MAX};
  axis a = {.in = (int64_t)(1 + random_below(9))};
  do {
    a.kernel = any_of(kernels, sizeof kernels / sizeof kernels[0]);
    a.dilation = any_of(steps, sizeof steps / sizeof steps[0]);
    a.stride = any_of(steps, sizeof steps / sizeof steps[0]);
    const int64_t padded = (a.kernel - 1) * a.dilation + 1 + (int64_t)random_below(5) * a.stride;
    const int64_t pads = padded > a.in ? padded - a.in : 0;
    a.before = pads / (int64_t)(1 + random_below(3));
    a.after = pads - a.before;
  } while (a.before > INT32_MAX || a.after > INT32_MAX || windows_of(&a) > 200);
  return a;
}

static void check_wide_windows(void) {
  check_begin("", "pools that are mostly pads");
  for (size_t i = 0; i < 300; i++) {
    const axis rows = any_axis(), columns = any_axis();
    check_case("in %lld kernel %lld stride %lld dilation %lld pad %lld; %lld %lld %lld %lld %lld", (long long)rows.in,
               (long long)rows.kernel, (long long)rows.stride, (long long)rows.dilation, (long long)rows.before,
               (long long)columns.in, (long long)columns.kernel, (long long)columns.stride, (long long)columns.dilation,
               (long long)columns.before);
    check_pool(&rows, &columns, i % 2 == 0);
  }
  check_end();
}

/* Windows of 2^31 - 1 columns, further apart than the row is long: together they would take minutes. */
static void check_far_windows(void) {
  check_begin("", "windows far from each other");
  const axis rows = {.in = 2, .kernel = 1, .stride = 1, .dilation = 1};
  axis columns = {.in = 5, .kernel = INT32_MAX, .stride = 1000003, .dilation = 1};
  const int64_t pads = columns.kernel + 4 * columns.stride - columns.in;
  columns.before = pads / 2;
  columns.after = pads - columns.before;
  for (int max = 0; max < 2; max++) {
    check_case(max ? "MaxPool" : "AveragePool");
    check_pool(&rows, &columns, max != 0);
  }
  check_end();
}

/* A kernel of 2^31 - 1 columns over 32: the mean of two whole rows everywhere. */
static void check_widest(void) {
  check_begin("", "the widest window");
  op_case c = op_case_of("AveragePool");
  const float *x = op_case_add_f32(&c, 2.0f, 4, (const size_t[]){1, 3, 32, 32});
  set_ints(&c, "kernel_shape", 2, (const int64_t[]){2, INT32_MAX});
  op_case_string(&c, "auto_pad", "SAME_UPPER");
  check_case("same");
  if (op_case_run(&c, DYNQ_OK)) {
    CHECK(c.out[0].count == 3 * 32 * 32);
    for (size_t i = 0; i < c.out[0].count; i++) {
      const size_t row = i / 32 % 32, count = row + 1 < 32 ? 64 : 32;
      float y = 0.0f;
      for (size_t j = 0; j < count; j++) {
        y += x[i / 32 * 32 + j];
      }
      op_case_near(&c, 0, i, (double)(y / (float)count), 0.0);
    }
  }
  guards_release();
  check_end();
}

void check_window_ops(void) {
  check_wide_windows();
  check_far_windows();
  check_widest();
}
