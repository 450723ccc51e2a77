/*
 * Ops that work on rows: softmax and norms.
 */
#include "check_ops.h"

#include <math.h>
#include <stdio.h>

typedef struct shape {
  size_t rank, dims[4];
  int64_t axis;
} shape;

/* The rows along an axis, or of all dimensions from it on where `all`. */
typedef struct rows {
  size_t outer, n, inner;
} rows;

static rows rows_of(const shape *s, bool all) {
  const size_t axis = (size_t)(s->axis < 0 ? s->axis + (int64_t)s->rank : s->axis);
  rows r = {1, 1, 1};
  for (size_t i = 0; i < s->rank; i++) {
    *(i < axis ? &r.outer : i == axis || all ? &r.n : &r.inner) *= s->dims[i];
  }
  return r;
}

static const shape shapes[] = {
    {2, {3, 20}, -1},      {1, {33}, 0},        {3, {4, 5, 384}, 2}, {3, {4, 37, 5}, 1}, {4, {2, 3, 1, 7}, -3},
    {3, {130, 40, 20}, 0}, {2, {500, 130}, -1}, {3, {2, 0, 4}, 1},   {3, {2, 3, 0}, 1},  {2, {6, 1}, 1},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void check_softmax(const char *name, bool logarithm) {
  check_begin("", name);
  for (size_t s = 0; s < SHAPES; s++) {
    op_case c = op_case_of(name);
    const rows r = rows_of(&shapes[s], false);
    const float *x = op_case_add_f32(&c, 8.0f, shapes[s].rank, shapes[s].dims);
    op_case_int(&c, "axis", shapes[s].axis);
    check_case("shape %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t line = 0; line < r.outer * r.inner; line++) {
        const size_t at = line / r.inner * r.n * r.inner + line % r.inner;
        double sum = 0.0;
        for (size_t i = 0; i < r.n; i++) {
          sum += exp((double)x[at + i * r.inner]);
        }
        for (size_t i = 0; i < r.n; i++) {
          const double t = (double)x[at + i * r.inner];
          op_case_near(&c, 0, at + i * r.inner, logarithm ? t - log(sum) : exp(t) / sum, logarithm ? 1e-5 : 1e-6);
        }
      }
    }
    guards_release();
  }
  op_case c = op_case_of(name);
  (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 3});
  op_case_int(&c, "axis", 2);
  op_case_refused(&c, "axis is 2");
  guards_release();
  check_end();
}

static void check_layer_norm(bool layer) {
  const char *name = layer ? "LayerNormalization" : "RMSNormalization";
  check_begin("", name);
  for (size_t s = 0; s < SHAPES; s++) {
    op_case c = op_case_of(name);
    const rows r = rows_of(&shapes[s], true);
    const size_t axis = (size_t)(shapes[s].axis < 0 ? shapes[s].axis + (int64_t)shapes[s].rank : shapes[s].axis);
    const float *x = op_case_add_f32(&c, 3.0f, shapes[s].rank, shapes[s].dims), *bias = NULL;
    const float *scale = op_case_add_f32(&c, 2.0f, shapes[s].rank - axis, shapes[s].dims + axis);
    if (layer && s % 2 == 0) {
      bias = op_case_add_f32(&c, 2.0f, shapes[s].rank - axis, shapes[s].dims + axis);
    }
    op_case_int(&c, "axis", shapes[s].axis);
    op_case_float(&c, "epsilon", 1e-3f);
    c.output_count = layer ? 3 : 1;
    check_case("shape %zu", s);
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t row = 0; row < r.outer && r.n != 0; row++) {
        double mean = 0.0, variance = 0.0;
        for (size_t i = 0; i < r.n && layer; i++) {
          mean += (double)x[row * r.n + i] / (double)r.n;
        }
        for (size_t i = 0; i < r.n; i++) {
          const double d = (double)x[row * r.n + i] - mean;
          variance += d * d / (double)r.n;
        }
        for (size_t i = 0; i < r.n; i++) {
          const double d = ((double)x[row * r.n + i] - mean) / sqrt(variance + 1e-3) * (double)scale[i];
          op_case_near(&c, 0, row * r.n + i, d + (bias != NULL ? (double)bias[i] : 0.0), 1e-4);
        }
        if (layer) {
          op_case_near(&c, 1, row, mean, 1e-5);
          op_case_near(&c, 2, row, 1.0 / sqrt(variance + 1e-3), 1e-4);
        }
      }
      if (layer) {
        CHECK(c.out[1].rank == shapes[s].rank && c.out[1].dims[shapes[s].rank - 1] == 1);
      }
    }
    guards_release();
  }
  for (size_t wrong = 0; wrong < 2; wrong++) {
    op_case c = op_case_of(name);
    (void)op_case_add_f32(&c, 1.0f, 2, (const size_t[]){2, 3});
    (void)op_case_add_f32(&c, 1.0f, 1, (const size_t[]){wrong == 0 ? 2 : 3});
    op_case_int(&c, "stash_type", wrong == 0 ? 1 : 0);
    op_case_refused(&c, wrong == 0 ? "Scale" : "stash_type is 0");
    guards_release();
  }
  check_end();
}

/* Mean and deviation alone, of which the first output is a by-product. */
static void check_unread_layer_norm(void) {
  check_begin("", "LayerNormalization whose first output nobody reads");
  for (size_t s = 0; s < SHAPES; s++) {
    op_case all = op_case_of("LayerNormalization");
    const size_t axis = (size_t)(shapes[s].axis < 0 ? shapes[s].axis + (int64_t)shapes[s].rank : shapes[s].axis);
    (void)op_case_add_f32(&all, 3.0f, shapes[s].rank, shapes[s].dims);
    (void)op_case_add_f32(&all, 2.0f, shapes[s].rank - axis, shapes[s].dims + axis);
    op_case_int(&all, "axis", shapes[s].axis);
    all.output_count = 3;
    op_case some = all;
    some.unread[0] = true;
    check_case("shape %zu", s);
    if (op_case_run(&all, DYNQ_OK) && op_case_run(&some, DYNQ_OK)) {
      for (size_t i = 1; i < 3; i++) {
        CHECK(some.out[i].count == all.out[i].count);
        check_same("output", CHECK_BYTES, all.out[i].data, some.out[i].data, all.out[i].count * sizeof(float));
      }
    }
    guards_release();
  }
  check_end();
}

static void check_batch_norm(void) {
  check_begin("", "BatchNormalization");
  for (size_t s = 0; s < 2; s++) {
    const size_t dims[4] = {3, 40, 5, 7}, rank = s == 0 ? 4 : 2, n = s == 0 ? 35 : 1;
    op_case c = op_case_of("BatchNormalization");
    const float *x = op_case_add_f32(&c, 3.0f, rank, dims), *p[4];
    for (size_t i = 0; i < 4; i++) {
      float *values = op_case_add_f32(&c, 1.0f, 1, &dims[1]);
      for (size_t j = 0; i == 3 && j < dims[1]; j++) {
        values[j] = fabsf(values[j]);
      }
      p[i] = values;
    }
    check_case("%zu dimensions", rank);
    if (op_case_run(&c, DYNQ_OK)) {
      for (size_t i = 0; i < c.out[0].count; i++) {
        const size_t channel = i / n % dims[1];
        const double d = ((double)x[i] - (double)p[2][channel]) / sqrt((double)p[3][channel] + 1e-5);
        op_case_near(&c, 0, i, d * (double)p[0][channel] + (double)p[1][channel], 1e-5 * (1.0 + fabs(d)));
      }
    }
    op_case_int(&c, "training_mode", 1);
    op_case_refused(&c, "training_mode");
    guards_release();
  }
  check_end();
}

void check_row_ops(void) {
  check_softmax("Softmax", false);
  check_softmax("LogSoftmax", true);
  check_layer_norm(true);
  check_layer_norm(false);
  check_unread_layer_norm();
  check_batch_norm();
}
