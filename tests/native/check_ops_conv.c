/*
 * Convolutions: float against the chain of multiply-adds that the numerics state, bit for bit; int8 against
 * dynq_linear_f32 on rows that are written out.
 */
#include "check_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct geometry {
  size_t rank, images, channels, in[2], outputs, kernel[2]; /* of rank 3: in[1] and kernel[1] alone */
  int64_t group, strides[2], dilations[2], pads[4];
} geometry;

static const geometry geometries[] = {
    {4, 2, 3, {9, 11}, 5, {3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {4, 1, 20, {7, 6}, 40, {3, 2}, 1, {2, 1}, {1, 2}, {2, 0, 1, 3}},
    {4, 1, 64, {14, 14}, 64, {3, 3}, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {4, 2, 33, {5, 17}, 130, {1, 1}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {4, 1, 24, {8, 9}, 17, {1, 1}, 1, {2, 3}, {1, 1}, {0, 0, 0, 0}},
    {4, 2, 12, {10, 40}, 12, {3, 5}, 12, {1, 2}, {2, 1}, {2, 2, 2, 2}},
    {4, 1, 48, {6, 6}, 96, {2, 2}, 3, {1, 1}, {1, 1}, {0, 1, 1, 0}},
    {3, 1, 1, {1, 700}, 258, {1, 256}, 1, {1, 128}, {1, 1}, {0, 64}},
    {3, 50, 129, {1, 4}, 128, {1, 3}, 1, {1, 1}, {1, 1}, {1, 1}},
    {4, 9, 20, {3, 4}, 24, {2, 2}, 1, {1, 2}, {1, 1}, {0, 1, 1, 0}},
    {3, 1, 16, {1, 300}, 48, {1, 3}, 1, {1, 2}, {1, 1}, {1, 1}},
    {3, 1, 16, {1, 300}, 48, {1, 3}, 1, {1, 1}, {1, 7}, {7, 7}},
    {3, 3, 40, {1, 600}, 40, {1, 5}, 40, {1, 1}, {1, 2}, {4, 4}},
    {3, 1, 40, {1, 600}, 1, {1, 1}, 1, {1, 1}, {1, 1}, {0, 0}},
    {3, 1, 2, {1, 5}, 4, {1, 2}, 2, {1, 1}, {1, 1}, {9, 9}},
    {4, 1, 5, {40, 1}, 32, {3, 1}, 1, {2, 1}, {1, 1}, {1, 0, 1, 0}},
    {4, 2, 8, {70, 1}, 16, {9, 1}, 1, {2, 1}, {1, 1}, {4, 0, 4, 0}},
    {3, 2, 8, {1, 80}, 20, {1, 24}, 1, {1, 1}, {1, 1}, {12, 11}},
    {3, 1, 6, {1, 150}, 17, {1, 16}, 1, {1, 1}, {1, 1}, {8, 8}},
    {4, 1, 20, {9, 40}, 40, {3, 3}, 1, {2, 2}, {1, 1}, {1, 1, 1, 1}},
    {4, 2, 6, {20, 50}, 24, {3, 3}, 1, {2, 3}, {2, 3}, {2, 3, 2, 3}},
    {4, 1, 9, {12, 33}, 16, {3, 3}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {4, 1, 3, {25, 70}, 33, {7, 7}, 1, {2, 2}, {1, 1}, {3, 3, 3, 3}},
    {4, 1, 7, {3, 41}, 30, {3, 4}, 1, {3, 4}, {3, 4}, {4, 5, 4, 5}},
    {3, 0, 4, {1, 5}, 20, {1, 2}, 1, {1, 1}, {1, 1}, {0, 0}},
    {4, 2, 20, {14, 14}, 20, {3, 3}, 20, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {4, 1, 70, {7, 7}, 70, {5, 5}, 70, {1, 1}, {1, 1}, {2, 2, 2, 2}},
    {4, 1, 5, {40, 41}, 5, {3, 3}, 5, {2, 2}, {1, 1}, {1, 1, 1, 1}},
    {4, 1, 3, {30, 50}, 3, {7, 7}, 3, {1, 1}, {1, 1}, {3, 3, 3, 3}},
    {4, 2, 3, {9, 30}, 3, {5, 5}, 3, {2, 2}, {1, 1}, {2, 1, 1, 2}},
    {4, 1, 4, {12, 13}, 4, {3, 3}, 4, {1, 3}, {2, 2}, {2, 2, 2, 2}},
    {4, 1, 6, {10, 11}, 12, {3, 3}, 6, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {4, 1, 30, {5, 5}, 102, {3, 3}, 6, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {3, 2, 33, {1, 500}, 33, {1, 7}, 33, {1, 2}, {1, 3}, {9, 9}},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static void set_ints(op_case *c, const char *name, size_t count, const int64_t *values) {
  for (size_t i = 0; i < c->op->attribute_count; i++) {
    if (strcmp(c->op->attributes[i].name, name) == 0) {
      c->attributes[i] = (dynq_attribute){.present = true, .count = count, .ints = values};
      return;
    }
  }
  CHECK(false);
}

static size_t spatial_of(const geometry *g) { return g->rank - 2; }

static void set_windows(op_case *c, const geometry *g) {
  const size_t spatial = spatial_of(g);
  set_ints(c, "strides", spatial, g->strides + 2 - spatial);
  set_ints(c, "dilations", spatial, g->dilations + 2 - spatial);
  set_ints(c, "pads", 2 * spatial, g->pads);
}

/* Rows and columns, the way the axes lie in attributes of rank 3. */
static geometry plain(const geometry *g) {
  geometry p = *g;
  if (g->rank == 3) {
    p.strides[0] = p.dilations[0] = 1;
    p.strides[1] = g->strides[1];
    p.pads[0] = p.pads[2] = 0;
    p.pads[1] = g->pads[0];
    p.pads[3] = g->pads[1];
  }
  return p;
}

static float *add_images(op_case *c, const geometry *g) {
  const size_t two[4] = {g->images, g->channels, g->in[0], g->in[1]}, one[3] = {g->images, g->channels, g->in[1]};
  return op_case_add_f32(c, 2.0f, g->rank, g->rank == 3 ? one : two);
}

/* Value k of the row of a position: tap by tap, channel by channel. */
static float value_at(const geometry *g, const float *x, size_t image, size_t group, size_t row, size_t column,
                      size_t k) {
  const size_t each = g->channels / (size_t)g->group, tap = k / each;
  const int64_t i = (int64_t)row * g->strides[0] + (int64_t)(tap / g->kernel[1]) * g->dilations[0] - g->pads[0];
  const int64_t j = (int64_t)column * g->strides[1] + (int64_t)(tap % g->kernel[1]) * g->dilations[1] - g->pads[1];
  if (i < 0 || j < 0 || i >= (int64_t)g->in[0] || j >= (int64_t)g->in[1]) {
    return 0.0f;
  }
  const size_t channel = group * each + k % each;
  return x[((image * g->channels + channel) * g->in[0] + (size_t)i) * g->in[1] + (size_t)j];
}

static size_t out_size(const geometry *g, size_t d) {
  const int64_t padded = (int64_t)g->in[d] + g->pads[d] + g->pads[2 + d];
  return (size_t)((padded - (int64_t)(g->kernel[d] - 1) * g->dilations[d] - 1) / g->strides[d] + 1);
}

/* w (outputs, channels of a group, kernel) at output and k. */
static float weight_at(const geometry *g, const float *w, size_t output, size_t k) {
  const size_t each = g->channels / (size_t)g->group, taps = g->kernel[0] * g->kernel[1];
  return w[(output * each + k % each) * taps + k / each];
}

static void expect_convolution(const op_case *c, const geometry *given, const float *x, const float *w,
                               const float *bias, bool relu) {
  const geometry g = plain(given);
  const size_t rows = out_size(&g, 0), columns = out_size(&g, 1), each = g.channels / (size_t)g.group;
  const size_t k = each * g.kernel[0] * g.kernel[1];
  CHECK(c->out[0].rank == g.rank && c->out[0].count == g.images * g.outputs * rows * columns);
  for (size_t i = 0; i < c->out[0].count; i++) {
    const size_t output = i / (rows * columns) % g.outputs, image = i / (rows * columns) / g.outputs;
    float y = 0.0f;
    for (size_t p = 0; p < k; p++) {
      y = fmaf(value_at(&g, x, image, output / (g.outputs / (size_t)g.group), i / columns % rows, i % columns, p),
               weight_at(&g, w, output, p), y);
    }
    y = bias != NULL ? y + bias[output] : y;
    op_case_near(c, 0, i, (double)(relu && y < 0.0f ? 0.0f : y), 0.0);
  }
}

/* Strides as large as a plan can say: two windows along each axis, the first of them far before the input. */
static void check_conv_strides(void) {
  static const int64_t far[2] = {INT32_MAX, INT32_MAX}, pads[4] = {INT32_MAX, INT32_MAX, 0, 0};
  check_begin("", "Conv, the largest strides");
  op_case c = op_case_of("Conv");
  const float *x = op_case_add_f32(&c, 1.0f, 4, (const size_t[]){1, 5, 1, 1});
  const float *w = op_case_add_f32(&c, 1.0f, 4, (const size_t[]){1, 5, 1, 1});
  float y = 0.0f;
  for (size_t i = 0; i < 5; i++) {
    y = fmaf(x[i], w[i], y);
  }
  set_ints(&c, "strides", 2, far);
  set_ints(&c, "pads", 4, pads);
  check_case("5 channels");
  if (op_case_run(&c, DYNQ_OK)) {
    CHECK(c.out[0].count == 4);
    for (size_t i = 0; i < 4; i++) {
      op_case_near(&c, 0, i, i == 3 ? (double)y : 0.0, 0.0);
    }
  }
  guards_release();
  check_end();
}

static void check_conv(void) {
  check_begin("", "Conv");
  for (size_t s = 0; s < GEOMETRIES; s++) {
    const geometry *g = &geometries[s];
    const size_t each = g->channels / (size_t)g->group;
    const size_t two[4] = {g->outputs, each, g->kernel[0], g->kernel[1]}, one[3] = {g->outputs, each, g->kernel[1]};
    op_case c = op_case_of("Conv");
    const float *x = add_images(&c, g), *w = op_case_add_f32(&c, 1.0f, g->rank, g->rank == 3 ? one : two);
    const float *bias = s % 3 != 0 ? op_case_add_f32(&c, 1.0f, 1, &g->outputs) : NULL;
    set_windows(&c, g);
    op_case_int(&c, "group", g->group);
    check_case("geometry %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      expect_convolution(&c, g, x, w, bias, false);
    }
    guards_release();
  }
  for (size_t wrong = 0; wrong < 4; wrong++) {
    op_case c = op_case_of("Conv");
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 4, 9});
    (void)op_case_add_f32(&c, 1.0f, wrong == 0 ? 4 : 3,
                          (const size_t[]){6, wrong == 1 ? 3 : 4, wrong == 2 ? 10 : 3, 1});
    (void)op_case_add_f32(&c, 1.0f, 1, (const size_t[]){wrong == 3 ? 5 : 6});
    op_case_refused(&c, wrong == 0 ? "W 4" : wrong == 1 ? "do not go together" : wrong == 2 ? "does not fit" : "bias");
    guards_release();
  }
  check_end();
}

/* The panels of dynq.ConvFloat, written plainly; in every third case as files of earlier versions have them. */
static void check_conv_float(void) {
  check_begin("", "dynq.ConvFloat");
  for (size_t s = 0; s < GEOMETRIES; s++) {
    const geometry *g = &geometries[s];
    const size_t each = g->channels / (size_t)g->group, k = each * g->kernel[0] * g->kernel[1];
    const size_t outputs = g->outputs / (size_t)g->group, panels = (outputs + 15) / 16;
    float *w = guarded_f32(g->outputs * k);
    for (size_t i = 0; i < g->outputs * k; i++) {
      w[i] = random_unit();
    }
    op_case c = op_case_of("dynq.ConvFloat");
    const float *x = add_images(&c, g);
    const bool padded = s % 3 == 2;
    const size_t old[4] = {(size_t)g->group, panels, k, 16}, dims[2] = {(size_t)g->group, outputs * k};
    float *packed = op_case_add_f32(&c, 0.0f, padded ? 4 : 2, padded ? old : dims);
    for (size_t group = 0; group < (size_t)g->group; group++) {
      for (size_t panel = 0; panel < panels; panel++) {
        const size_t left = outputs - panel * 16, width = padded || left > 16 ? 16 : left;
        for (size_t i = 0; i < k * width; i++) {
          const size_t output = panel * 16 + i % width;
          *packed++ = output < outputs ? weight_at(g, w, group * outputs + output, i / width) : 0.0f;
        }
      }
    }
    const float *bias = s % 2 != 0 ? op_case_add_f32(&c, 1.0f, 1, &g->outputs) : NULL;
    const int64_t kernel[2] = {(int64_t)g->kernel[0], (int64_t)g->kernel[1]};
    set_windows(&c, g);
    set_ints(&c, "kernel_shape", spatial_of(g), kernel + 2 - spatial_of(g));
    op_case_int(&c, "group", g->group);
    op_case_int(&c, "channels", (int64_t)g->outputs);
    op_case_string(&c, "activation", "relu");
    check_case("geometry %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      expect_convolution(&c, g, x, w, bias, true);
    }
    guards_release();
  }
  op_case c = op_case_of("dynq.ConvFloat");
  (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 4, 9});
  (void)op_case_add_f32(&c, 1.0f, 4, (const size_t[]){1, 1, 11, 16});
  set_ints(&c, "kernel_shape", 1, (const int64_t[]){3});
  op_case_refused(&c, "attribute channels is left out");
  op_case_int(&c, "channels", 6);
  op_case_refused(&c, "(1, 72)");
  guards_release();
  check_end();
}

/* Weights of 8 bits with a scale for each output: those of the float ones that they stand for. */
static void check_conv_narrow(void) {
  check_begin("", "dynq.ConvFloat, int8 weights");
  for (size_t s = 0; s < GEOMETRIES; s++) {
    const geometry *g = &geometries[s];
    const size_t each = g->channels / (size_t)g->group, k = each * g->kernel[0] * g->kernel[1];
    const size_t outputs = g->outputs / (size_t)g->group, taps = g->kernel[0] * g->kernel[1];
    float *w = guarded_f32(g->outputs * k);
    op_case c = op_case_of("dynq.ConvFloat");
    const float *x = add_images(&c, g);
    int8_t *q = op_case_add(&c, DYNQ_INT8, 2, (const size_t[]){(size_t)g->group, outputs * k});
    const float *bias = s % 2 != 0 ? op_case_add_f32(&c, 1.0f, 1, &g->outputs) : NULL;
    if (bias == NULL) {
      op_case_skip(&c);
    }
    const float *scale = op_case_add_f32(&c, 1.0f, 1, &g->outputs);
    for (size_t output = 0; output < g->outputs; output++) {
      const size_t of_group = output % outputs, first = of_group / 16 * 16;
      const size_t width = outputs - first < 16 ? outputs - first : 16;
      for (size_t i = 0; i < k; i++) {
        const int8_t value = (int8_t)((int)random_below(255) - 127);
        q[(output / outputs * outputs + first) * k + i * width + of_group % 16] = value;
        w[(output * each + i % each) * taps + i / each] = (float)value * scale[output];
      }
    }
    const int64_t kernel[2] = {(int64_t)g->kernel[0], (int64_t)g->kernel[1]};
    set_windows(&c, g);
    set_ints(&c, "kernel_shape", spatial_of(g), kernel + 2 - spatial_of(g));
    op_case_int(&c, "group", g->group);
    op_case_int(&c, "channels", (int64_t)g->outputs);
    check_case("geometry %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      expect_convolution(&c, g, x, w, bias, false);
    }
    guards_release();
  }
  op_case c = op_case_of("dynq.ConvFloat");
  (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 4, 9});
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){1, 72});
  op_case_skip(&c);
  (void)op_case_add_f32(&c, 1.0f, 1, (const size_t[]){6});
  set_ints(&c, "kernel_shape", 1, (const int64_t[]){3});
  op_case_int(&c, "channels", 6);
  op_case_refused(&c, "expected int8 (1, 72)");
  guards_release();
  check_end();
}

/* Every position's row, and behind them the images where a range of all is wanted. */
static float *rows_of(const geometry *g, const float *x, size_t image, size_t rows, size_t columns, bool whole,
                      size_t *count) {
  const size_t k = g->channels * g->kernel[0] * g->kernel[1], plane = g->channels * g->in[0] * g->in[1];
  *count = rows * columns + (whole ? (plane + k - 1) / k : 0);
  float *matrix = guarded_f32(*count * k);
  for (size_t i = 0; i < *count * k; i++) {
    const size_t p = i / k, behind = i - rows * columns * k;
    matrix[i] = p < rows * columns ? value_at(g, x, image, 0, p / columns, p % columns, i % k)
                : behind < plane   ? x[image * plane + behind]
                                   : 0.0f;
  }
  return matrix;
}

static void check_conv_int8(void) {
  check_begin("", "dynq.Conv");
  for (size_t s = 0; s < 2 * GEOMETRIES; s++) {
    const geometry *given = &geometries[s / 2], g = plain(given);
    const bool whole = s % 2 != 0;
    if (g.group != 1) {
      continue;
    }
    const size_t k = g.channels * g.kernel[0] * g.kernel[1], rows = out_size(&g, 0), columns = out_size(&g, 1);
    float *w = guarded_f32(g.outputs * k);
    for (size_t i = 0; i < g.outputs * k; i++) {
      w[i] = random_unit();
    }
    dynq_weight *packed;
    CHECK(dynq_weight_pack_f32(g.outputs, k, w, k, 1, NULL, &packed) == DYNQ_OK);
    op_case c = op_case_of("dynq.Conv");
    float *x = add_images(&c, &g);
    c.in[1] = (dynq_op_tensor){.weight = packed};
    c.given[c.input_count++] = true;
    const float *bias = s % 3 != 0 ? op_case_add_f32(&c, 1.0f, 1, &g.outputs) : NULL;
    const int64_t kernel[2] = {(int64_t)g.kernel[0], (int64_t)g.kernel[1]};
    const bool nonfinite = s % 5 == 4 && c.in[0].count != 0;
    if (nonfinite) {
      x[0] = NAN;
    }
    set_windows(&c, given);
    set_ints(&c, "kernel_shape", spatial_of(&g), kernel + 2 - spatial_of(&g));
    op_case_string(&c, "activation", "sigmoid");
    op_case_string(&c, "granularity", whole ? "image" : "row");
    op_case_string(&c, "scheme", s % 4 < 2 ? "asymmetric" : "symmetric");
    const bool fixed = s % 7 == 6;
    if (fixed) {
      op_case_float(&c, "lo", -0.5f);
      op_case_float(&c, "hi", 0.25f);
    }
    check_case("geometry %zu, %s%s", s / 2, whole ? "image" : "row", fixed ? ", fixed" : "");
    if (op_case_run(&c, nonfinite ? DYNQ_NONFINITE : DYNQ_OK) &&
        !fixed) { /* of which the Python tests tell the numbers */
      CHECK(c.out[0].count == g.images * g.outputs * rows * columns);
      const dynq_epilogue epilogue = {.bias = bias, .activation = DYNQ_ACTIVATION_SIGMOID};
      for (size_t image = 0; image < g.images; image++) {
        const size_t mark = guards_mark();
        size_t count;
        const float *matrix = rows_of(&g, x, image, rows, columns, whole, &count);
        float *y = guarded_f32(count * g.outputs);
        (void)dynq_linear_f32(packed, count, matrix, k, s % 4 < 2 ? DYNQ_ASYMMETRIC : DYNQ_SYMMETRIC,
                              whole ? DYNQ_PER_TENSOR : DYNQ_PER_ROW, &epilogue, NULL, y, g.outputs);
        for (size_t p = 0; p < rows * columns; p++) {
          for (size_t output = 0; output < g.outputs; output++) {
            op_case_near(&c, 0, (image * g.outputs + output) * rows * columns + p, (double)y[p * g.outputs + output],
                         0.0);
          }
        }
        guards_release_to(mark);
      }
    }
    dynq_weight_free(packed);
    guards_release();
  }
  check_end();
}

/* ---- ConvTranspose ---- */

static size_t transposed_size(const geometry *g, size_t d, size_t padding) {
  return (size_t)(g->strides[d] * ((int64_t)g->in[d] - 1) + (int64_t)(g->kernel[d] - 1) * g->dilations[d] + 1 -
                  g->pads[d] - g->pads[2 + d]) +
         padding;
}

static float transposed_at(const geometry *g, const float *x, const float *w, size_t image, size_t output, size_t row,
                           size_t column) {
  const size_t inputs = g->channels / (size_t)g->group, outputs = g->outputs / (size_t)g->group;
  const size_t first = output / outputs * inputs;
  float y = 0.0f;
  for (size_t i = 0; i < g->in[0]; i++) {
    for (size_t j = 0; j < g->in[1]; j++) {
      const int64_t a = (int64_t)row + g->pads[0] - (int64_t)i * g->strides[0];
      const int64_t b = (int64_t)column + g->pads[1] - (int64_t)j * g->strides[1];
      if (a < 0 || b < 0 || a % g->dilations[0] != 0 || b % g->dilations[1] != 0 ||
          a / g->dilations[0] >= (int64_t)g->kernel[0] || b / g->dilations[1] >= (int64_t)g->kernel[1]) {
        continue;
      }
      const size_t tap = (size_t)(a / g->dilations[0]) * g->kernel[1] + (size_t)(b / g->dilations[1]);
      for (size_t channel = first; channel < first + inputs; channel++) {
        y = fmaf(x[((image * g->channels + channel) * g->in[0] + i) * g->in[1] + j],
                 w[(channel * outputs + output % outputs) * g->kernel[0] * g->kernel[1] + tap], y);
      }
    }
  }
  return y;
}

static void check_conv_transpose(void) {
  static const geometry cases[] = {
      {4, 2, 3, {5, 6}, 4, {3, 3}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
      {4, 1, 20, {5, 6}, 24, {3, 4}, 1, {2, 2}, {1, 1}, {1, 1, 1, 0}},
      {4, 1, 6, {4, 5}, 6, {2, 3}, 3, {3, 2}, {1, 2}, {0, 1, 0, 1}},
      {3, 2, 32, {1, 40}, 16, {1, 16}, 1, {1, 8}, {1, 1}, {4, 4}},
      {3, 1, 7, {1, 30}, 2, {1, 2}, 1, {1, 5}, {1, 1}, {0, 0}}, /* holes between the windows */
      {3, 1, 4, {1, 9}, 20, {1, 5}, 1, {1, 4}, {1, 6}, {3, 2}},
      /* Windows far wider than the input, which are taken in pieces; strides that leave phases without taps. */
      {4, 2, 2, {1, 3}, 3, {127, 9}, 1, {1, 1}, {3, 2}, {0, 0, 0, 0}},
      {4, 1, 3, {2, 2}, 18, {3, 200}, 1, {1, 1}, {1, 1}, {0, 150, 1, 0}},
      {4, 1, 2, {3, 2}, 17, {150, 2}, 1, {2, 3}, {3, 5}, {200, 0, 3, 1}},
      {3, 1, 2, {1, 20}, 3, {1, 400}, 1, {1, 3}, {1, 2}, {390, 390}},
      {4, 1, 2, {2, 2}, 3, {1, 2}, 1, {37, 64}, {1, 7}, {0, 0, 0, 0}},
  };
  check_begin("", "ConvTranspose");
  for (size_t s = 0; s < sizeof cases / sizeof cases[0]; s++) {
    const geometry *given = &cases[s], g = plain(given);
    const size_t outputs = g.outputs / (size_t)g.group, padding = s % 2;
    const size_t two[4] = {g.channels, outputs, g.kernel[0], g.kernel[1]}, one[3] = {g.channels, outputs, g.kernel[1]};
    op_case c = op_case_of("ConvTranspose");
    const float *x = add_images(&c, &g), *w = op_case_add_f32(&c, 1.0f, g.rank, g.rank == 3 ? one : two);
    const float *bias = s % 3 != 0 ? op_case_add_f32(&c, 1.0f, 1, &g.outputs) : NULL;
    set_windows(&c, given);
    op_case_int(&c, "group", g.group);
    set_ints(&c, "output_padding", spatial_of(&g), (const int64_t[]){(int64_t)padding, (int64_t)padding});
    check_case("geometry %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      const size_t rows = transposed_size(&g, 0, g.rank == 4 ? padding : 0), columns = transposed_size(&g, 1, padding);
      CHECK(c.out[0].rank == g.rank && c.out[0].count == g.images * g.outputs * rows * columns);
      for (size_t i = 0; i < c.out[0].count; i++) {
        const size_t output = i / (rows * columns) % g.outputs;
        const float y =
            transposed_at(&g, x, w, i / (rows * columns) / g.outputs, output, i / columns % rows, i % columns);
        op_case_near(&c, 0, i, (double)(bias != NULL ? y + bias[output] : y), 0.0);
      }
    }
    guards_release();
  }
  for (size_t wrong = 0; wrong < 3; wrong++) {
    op_case c = op_case_of("ConvTranspose");
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){1, 4, wrong == 2 ? 0 : 9});
    (void)op_case_add_f32(&c, 1.0f, 3, (const size_t[]){wrong == 0 ? 3 : 4, 5, 3});
    set_ints(&c, "pads", 2, (const int64_t[]){wrong == 1 ? 11 : 0, 0});
    op_case_refused(&c, wrong == 0 ? "do not go together" : wrong == 1 ? "would have size 0" : "an axis of size 0");
    guards_release();
  }
  check_end();
}

void check_conv_ops(void) {
  check_conv();
  check_conv_strides();
  check_conv_float();
  check_conv_narrow();
  check_conv_int8();
  check_conv_transpose();
}
