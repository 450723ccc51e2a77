/*
 * The float kernels of one ISA: bit for bit those of scalar, which themselves are within a stated distance of double
 * precision.
 */
#include "check_kernels.h"
#include "exact.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool is_scalar(const dynq_kernels *k) { return strcmp(k->name, "scalar") == 0; }

/* Values near 1, then of each adversarial kind, the last with NaNs and infinities among them. */
enum { KINDS = FILL_KINDS + 1 };
static float *values(int kind, size_t n) {
  static const float specials[] = {NAN, -NAN, INFINITY, -INFINITY, -INFINITY, 0.0f, -0.0f, FLT_MAX};
  float *x = guarded_f32(n);
  fill_f32(kind < FILL_KINDS ? (fill)kind : FILL_UNIT, x, n);
  for (size_t i = 0; i < n && kind == FILL_KINDS; i++) {
    x[i] = random_below(8) == 0 ? specials[random_below(8)] : x[i] * 8.0f;
  }
  return x;
}

static const char *kind_name(int kind) { return kind < FILL_KINDS ? fill_name((fill)kind) : "specials"; }

/* |got - expected| <= bound, or both of one kind of non-finite. */
static void near(const char *what, double expected, float got, double bound) {
  if (isnan(expected) || isinf(expected) || fabs(expected) > FLT_MAX) {
    if (isnan(expected) ? bits_of_float(got) != 0x7fc00000 : (double)got != copysign(INFINITY, expected)) {
      check_fail("%s is %.9g; expected %.9g", what, (double)got, expected);
    }
  } else if (!(fabs((double)got - expected) <= bound)) {
    check_fail("%s is %.9g; expected %.9g within %.3g", what, (double)got, expected, bound);
  }
}

/* ---- matmul ---- */

static void check_matmul(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[40 * 200];
  check_begin(k->name, "matmul");
  for (size_t repeat = 0; repeat < 600; repeat++) {
    const size_t m = random_below(repeat % 8 == 0 ? 30 : 8), n = random_below(repeat % 4 == 0 ? 170 : 50);
    const size_t depth = random_below(repeat % 16 == 0 ? 300 : 20), columns = (n + 15) / 16 * 16;
    const bool panels = random_below(2) != 0;
    const int kind = (int)random_below(KINDS);
    const size_t a_stride = depth + random_below(5), y_stride = n + random_below(5);
    const size_t b_row = panels ? 16 : n + random_below(9), b_panel = panels ? depth * 16 : 16;
    const size_t y_size = span(m, n, y_stride);
    const size_t a_size = span(m, depth, a_stride);
    const size_t b_size = panels ? columns * depth : span(depth, n, b_row);
    const float *a = values(kind, a_size), *b = values(kind == FILL_KINDS ? (int)random_below(KINDS) : kind, b_size);
    float *y = guarded_f32(y_size);
    check_case("m %zu, n %zu, k %zu, %s, %s", m, n, depth, panels ? "panels" : "rows", kind_name(kind));
    memcpy(expected, y, y_size * sizeof *y);
    scalar->vector.matmul(m, n, depth, a, a_stride, b, b_row, b_panel, expected, y_stride);
    k->vector.matmul(m, n, depth, a, a_stride, b, b_row, b_panel, y, y_stride);
    check_same("y", CHECK_F32, expected, y, y_size);
    for (size_t i = 0; i < m && is_scalar(k); i++) {
      for (size_t j = 0; j < n; j++) {
        float sum = 0.0f;
        for (size_t p = 0; p < depth; p++) {
          sum = fmaf(a[i * a_stride + p], b[panels ? (j / 16 * depth + p) * 16 + j % 16 : p * b_row + j], sum);
        }
        near("y", (double)sum, y[i * y_stride + j], 0.0);
      }
    }
    guards_release();
  }
  check_end();
}

/* Value of a place of a plane; 0 outside. */
static float place_of(const dynq_depthwise *d, size_t plane, ptrdiff_t row, ptrdiff_t column) {
  const bool inside = row >= 0 && column >= 0 && row < (ptrdiff_t)d->in[0] && column < (ptrdiff_t)d->in[1];
  return inside ? d->x[(plane * d->in[0] + (size_t)row) * d->in[1] + (size_t)column] : 0.0f;
}

/* An output, as kernels.h states it. */
static float depthwise_of(const dynq_depthwise *d, size_t plane, size_t i, size_t j) {
  float sum = 0.0f;
  for (size_t t = 0; t < d->taps[0] * d->taps[1]; t++) {
    const ptrdiff_t row = d->first[0] + (ptrdiff_t)(i * d->stride[0] + t / d->taps[1] * d->step[0]);
    const ptrdiff_t column = d->first[1] + (ptrdiff_t)(j * d->stride[1] + t % d->taps[1] * d->step[1]);
    sum = fmaf(d->w[plane * d->taps[0] * d->taps[1] + t], place_of(d, plane, row, column), sum);
  }
  sum = d->bias != NULL ? sum + d->bias[plane] : sum;
  return d->relu && sum < 0.0f ? 0.0f : sum;
}

static void check_depthwise(const dynq_kernels *k, const dynq_kernels *scalar) {
  check_begin(k->name, "depthwise");
  for (size_t repeat = 0; repeat < 500; repeat++) {
    static const size_t squares[] = {3, 5, 7};
    const bool square = repeat % 4 != 0, wide = repeat % 8 == 0; /* wide: rows of many vectors */
    dynq_depthwise d = {.planes = 1 + random_below(3), .relu = random_below(2) != 0};
    const size_t side = squares[random_below(3)], stride = 1 + random_below(2);
    for (size_t axis = 0; axis < 2; axis++) {
      d.taps[axis] = square ? side : 1 + random_below(6);
      d.stride[axis] = square ? stride : 1 + random_below(axis == 0 ? 3 : 2);
      d.step[axis] = square ? 1 : 1 + random_below(3);
      d.in[axis] = 1 + random_below(axis == 0 ? 12 : wide ? 300 : 40);
      d.first[axis] = (ptrdiff_t)random_below(6) - 4;
    }
    d.rows = 1 + random_below(10);
    d.columns = 1 + random_below(d.in[1] + 4);
    d.y_stride = d.columns + random_below(4);
    d.y_plane = d.rows * d.y_stride + random_below(5);
    const int kind = (int)random_below(KINDS);
    const size_t taps = d.taps[0] * d.taps[1], y_size = span(d.planes, span(d.rows, d.columns, d.y_stride), d.y_plane);
    d.x = values(kind, d.planes * d.in[0] * d.in[1]);
    d.w = values(kind == FILL_KINDS ? (int)random_below(KINDS) : kind, d.planes * taps);
    d.bias = random_below(2) != 0 ? values(kind, d.planes) : NULL;
    float *zeros = guarded_f32(d.in[1]), *y = guarded_f32(y_size), *expected = guarded_f32(y_size);
    memset(zeros, 0, d.in[1] * sizeof *zeros);
    memcpy(expected, y, y_size * sizeof *y);
    d.zeros = zeros;
    check_case("%zu planes of %zu x %zu, kernel %zu x %zu, stride %zu, %zu, step %zu, %zu, %zu x %zu outputs, %s",
               d.planes, d.in[0], d.in[1], d.taps[0], d.taps[1], d.stride[0], d.stride[1], d.step[0], d.step[1], d.rows,
               d.columns, kind_name(kind));
    d.y = expected;
    scalar->vector.depthwise(&d);
    d.y = y;
    k->vector.depthwise(&d);
    check_same("y", CHECK_F32, expected, y, y_size);
    for (size_t at = 0; at < d.planes * d.rows * d.columns && is_scalar(k); at++) {
      const size_t j = at % d.columns, i = at / d.columns % d.rows, plane = at / d.columns / d.rows;
      near("y", (double)depthwise_of(&d, plane, i, j), y[plane * d.y_plane + i * d.y_stride + j], 0.0);
    }
    guards_release();
  }
  check_end();
}

/* The chain of one output of pooling. */
static float pool_of(const dynq_pooling *p, size_t j, float y) {
  for (size_t i = 0; i < p->lines * p->taps; i++) {
    const ptrdiff_t place = p->first + (ptrdiff_t)(j * p->stride + i % p->taps * p->step);
    if (place >= 0 && place < (ptrdiff_t)p->in) {
      const float x = p->x[i / p->taps * p->x_stride + (size_t)place];
      y = p->sum ? x + y : x != x || y != y ? NAN : x > y ? x : y;
    }
  }
  return y;
}

static void check_pool(const dynq_kernels *k, const dynq_kernels *scalar) {
  check_begin(k->name, "pool");
  for (size_t repeat = 0; repeat < 500; repeat++) {
    dynq_pooling p = {.columns = 1 + random_below(repeat % 8 == 0 ? 300 : 40),
                      .in = 1 + random_below(repeat % 8 == 0 ? 600 : 60),
                      .stride = 1 + random_below(4),
                      .taps = 1 + random_below(9),
                      .step = 1 + random_below(3),
                      .first = (ptrdiff_t)random_below(20) - 16,
                      .lines = random_below(4),
                      .sum = random_below(2) != 0};
    const int kind = (int)random_below(KINDS);
    p.x_stride = p.in + random_below(3);
    p.x = values(kind, span(p.lines, p.in, p.x_stride));
    float *y = guarded_f32(p.columns), *expected = guarded_f32(p.columns);
    for (size_t j = 0; j < p.columns; j++) {
      y[j] = expected[j] = p.sum ? 0.0f : -INFINITY;
    }
    check_case("%zu columns of %zu rows of %zu, %zu taps, stride %zu, step %zu, from %td, %s, %s", p.columns, p.lines,
               p.in, p.taps, p.stride, p.step, p.first, p.sum ? "sum" : "largest", kind_name(kind));
    p.y = expected;
    scalar->vector.pool(&p);
    p.y = y;
    k->vector.pool(&p);
    check_same("y", CHECK_F32, expected, y, p.columns);
    for (size_t j = 0; j < p.columns && is_scalar(k); j++) {
      near("y", (double)pool_of(&p, j, p.sum ? 0.0f : -INFINITY), y[j], 0.0);
    }
    guards_release();
  }
  check_end();
}

static void check_matmul_taps(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[16 * 320];
  enum { MOST_K = 300 };
  size_t offset[MOST_K];
  check_begin(k->name, "matmul_taps");
  for (size_t repeat = 0; repeat < 600; repeat++) {
    const size_t m = random_below(17), n = random_below(repeat % 4 == 0 ? 300 : 50), y_stride = n + random_below(5);
    const size_t depth = random_below(repeat % 16 == 0 ? MOST_K : 20), y_size = span(m, n, y_stride);
    const bool relu = random_below(2) != 0, biased = random_below(2) != 0;
    const int kind = (int)random_below(KINDS);
    const size_t b_size = random_offsets(n, depth, offset);
    const size_t a_stride = m + (random_below(2) != 0 ? random_below(17 - m) : 0);
    const float *a = values(kind, span(depth, m, a_stride)), *bias = biased ? values(kind, m) : NULL;
    const float *b = values(kind == FILL_KINDS ? (int)random_below(KINDS) : kind, b_size);
    float *y = guarded_f32(y_size);
    check_case("m %zu, n %zu, k %zu, bias %d, relu %d, %s", m, n, depth, biased, relu, kind_name(kind));
    memcpy(expected, y, y_size * sizeof *y);
    dynq_taps_tile tile = {m, n, depth, a, a_stride, b, offset, bias, relu, expected, y_stride};
    scalar->vector.matmul_taps(&tile);
    tile.y = y;
    k->vector.matmul_taps(&tile);
    check_same("y", CHECK_F32, expected, y, y_size);
    for (size_t i = 0; i < m && is_scalar(k); i++) {
      for (size_t j = 0; j < n; j++) {
        float sum = 0.0f;
        for (size_t p = 0; p < depth; p++) {
          sum = fmaf(a[p * a_stride + i], b[offset[p] + j], sum);
        }
        sum = biased ? sum + bias[i] : sum;
        near("y", (double)(relu && sum < 0.0f ? 0.0f : sum), y[i * y_stride + j], 0.0);
      }
    }
    guards_release();
  }
  check_end();
}

static void check_split(const dynq_kernels *k) {
  static float expected[6 * 220];
  check_begin(k->name, "split");
  for (size_t repeat = 0; repeat < 300; repeat++) {
    const size_t step = 1 + random_below(5), parts = 1 + random_below(step),
                 n = random_below(repeat % 4 == 0 ? 200 : 40);
    const size_t stride = n + random_below(9), size = span(parts, n, stride);
    const float *from = values(FILL_BITS, span(n, parts, step));
    float *to = guarded_f32(size);
    check_case("step %zu, parts %zu, n %zu", step, parts, n);
    memcpy(expected, to, size * sizeof *to);
    for (size_t i = 0; i < n * parts; i++) {
      expected[i % parts * stride + i / parts] = from[i / parts * step + i % parts];
    }
    k->vector.split(step, parts, n, from, to, stride);
    check_same("to", CHECK_F32, expected, to, size);
    guards_release();
  }
  check_end();
}

static void check_pack_transposed(const dynq_kernels *k) {
  static float expected[64 * 80];
  check_begin(k->name, "pack_transposed");
  for (size_t repeat = 0; repeat < 300; repeat++) {
    const size_t n = random_below(64), depth = random_below(80), stride = depth + random_below(7);
    const size_t size = (n + 15) / 16 * 16 * depth;
    const float *from = values(FILL_BITS, span(n, depth, stride));
    float *to = size != 0 ? guarded_f32(size) : NULL;
    check_case("n %zu, k %zu, stride %zu", n, depth, stride);
    memset(expected, 0, sizeof expected);
    for (size_t j = 0; j < n; j++) {
      for (size_t i = 0; i < depth; i++) {
        expected[(j / 16 * depth + i) * 16 + j % 16] = from[j * stride + i];
      }
    }
    k->vector.pack_transposed(n, depth, from, stride, to);
    check_same("panels", CHECK_F32, expected, to, size);
    guards_release();
  }
  check_end();
}

/* ---- Rows ---- */

/* The rule of docs/numerics.md, written again. */
static float in_lanes(size_t n, const float *x, float (*value)(float), float (*two)(float, float), float neutral) {
  float lanes[16];
  for (size_t i = 0; i < 16; i++) {
    lanes[i] = neutral;
  }
  for (size_t i = 0; i < n; i++) {
    lanes[i % 16] = two(lanes[i % 16], value(x[i]));
  }
  for (size_t half = 8; half != 0; half /= 2) {
    for (size_t i = 0; i < half; i++) {
      lanes[i] = two(lanes[i], lanes[i + half]);
    }
  }
  return lanes[0];
}

static float same(float x) { return x; }
static float size_of(float x) { return fabsf(x); }
static float square(float x) { return x * x; }
static float sum_of(float a, float b) { return a + b; }
static float product_of(float a, float b) { return a * b; }
static float less_of(float a, float b) { return isnan(a) || isnan(b) ? NAN : b < a ? b : a; }
static float more_of(float a, float b) { return isnan(a) || isnan(b) ? NAN : b > a ? b : a; }

static float reference_reduce(dynq_reduction kind, size_t n, const float *x) {
  switch (kind) {
  case DYNQ_REDUCTION_SUM:
    return in_lanes(n, x, same, sum_of, 0.0f);
  case DYNQ_REDUCTION_SUM_ABS:
    return in_lanes(n, x, size_of, sum_of, 0.0f);
  case DYNQ_REDUCTION_SUM_SQUARE:
    return in_lanes(n, x, square, sum_of, 0.0f);
  case DYNQ_REDUCTION_PROD:
    return in_lanes(n, x, same, product_of, 1.0f);
  case DYNQ_REDUCTION_MIN:
    return in_lanes(n, x, same, less_of, INFINITY);
  case DYNQ_REDUCTION_MAX:
    break;
  }
  return in_lanes(n, x, same, more_of, -INFINITY);
}

static void check_reduce(const dynq_kernels *k) {
  check_begin(k->name, "reduce");
  for (size_t l = 0; l < LENGTHS; l++) {
    for (int kind = 0; kind < KINDS; kind++) {
      const size_t n = length_of(l);
      const float *x = values(kind, n);
      for (int reduction = 0; reduction <= DYNQ_REDUCTION_MAX; reduction++) {
        check_case("n %zu, reduction %d, %s", n, reduction, kind_name(kind));
        const float want = reference_reduce((dynq_reduction)reduction, n, x);
        const float expected = isnan(want) ? float_of_bits(0x7fc00000) : want;
        const float got = k->vector.reduce((dynq_reduction)reduction, n, x);
        check_same("the result", CHECK_F32, &expected, &got, 1);
      }
      guards_release();
    }
  }
  check_end();
}

/* Softmax in double precision; NaN where float32 has it. Returns the logarithm of the sum. */
static double exact_softmax(size_t n, const double *t, double *p) {
  double max = -INFINITY, sum = 0.0;
  for (size_t i = 0; i < n; i++) {
    max = t[i] > max ? t[i] : max;
  }
  for (size_t i = 0; i < n; i++) {
    p[i] = exp(t[i] - max);
    sum += p[i];
  }
  for (size_t i = 0; i < n; i++) {
    p[i] /= sum;
  }
  return max + log(sum);
}

static void check_softmax(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[6 * (LONGEST + 1)];
  static double t[LONGEST], p[LONGEST];
  check_begin(k->name, "softmax");
  for (size_t l = 0; l < LENGTHS; l++) {
    for (int kind = 0; kind < KINDS; kind++) {
      const size_t n = length_of(l), m = random_below(7), stride = n + random_below(2), size = m * stride;
      const bool in_place = random_below(2) != 0;
      float *x = values(kind, size), *y = in_place ? x : guarded_f32(size), *mask = NULL;
      const float scale = random_below(3) == 0 ? 1.0f : random_unit() * 2.0f;
      if (random_below(2) != 0) {
        mask = guarded_f32(n);
        for (size_t i = 0; i < n; i++) {
          mask[i] = random_below(3) == 0 ? -INFINITY : random_below(2) == 0 ? -10000.0f : 0.0f;
        }
      }
      for (size_t i = 0; i < size && kind == FILL_UNIT; i++) {
        x[i] = random_unit() * 20.0f;
      }
      check_case("m %zu, n %zu, scale %g, %s, %s%s", m, n, (double)scale, mask != NULL ? "mask" : "no mask",
                 kind_name(kind), in_place ? ", in place" : "");
      memcpy(expected, y, size * sizeof *y);
      for (size_t r = 0; r < m; r++) {
        scalar->vector.softmax(1, n, x + r * stride, stride, scale, mask, expected + r * stride, stride);
      }
      float before[LONGEST];
      memcpy(before, x, (m != 0 ? n : 0) * sizeof *x);
      k->vector.softmax(m, n, x, stride, scale, mask, y, stride);
      check_same("y", CHECK_F32, expected, y, size);
      for (size_t i = 0; i < n && m != 0; i++) {
        t[i] = (double)(before[i] * scale + (mask != NULL ? mask[i] : 0.0f));
      }
      const double log_sum = exact_softmax(n, t, p);
      for (size_t i = 0; i < n && m != 0 && is_scalar(k); i++) { /* x - max, each e^x, their sum, 1 / sum, times */
        const double steps = 6.0 + (double)n / 16 + 2.0 * fmin(fabs(t[i] - log_sum), 110.0);
        near("a share", p[i], y[i], p[i] * steps * 0x1p-23 + 2e-35);
      }
      guards_release();
    }
  }
  check_end();
}

static void check_log_softmax(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[LONGEST];
  static double t[LONGEST], p[LONGEST];
  check_begin(k->name, "log_softmax, log_sum_exp");
  for (size_t l = 0; l < LENGTHS; l++) {
    for (int kind = 0; kind < KINDS; kind++) {
      const size_t n = length_of(l);
      const bool in_place = random_below(2) != 0;
      float *x = values(kind, n), *y = in_place ? x : guarded_f32(n);
      for (size_t i = 0; i < n; i++) {
        x[i] = kind == FILL_UNIT ? random_unit() * 20.0f : x[i];
        t[i] = (double)x[i];
      }
      check_case("n %zu, %s%s", n, kind_name(kind), in_place ? ", in place" : "");
      const float want = scalar->vector.log_sum_exp(n, x), got = k->vector.log_sum_exp(n, x);
      check_same("log_sum_exp", CHECK_F32, &want, &got, 1);
      scalar->vector.log_softmax(n, x, expected);
      k->vector.log_softmax(n, x, y);
      check_same("y", CHECK_F32, expected, y, n);
      const double log_sum = exact_softmax(n, t, p);
      for (size_t i = 0; i < n && is_scalar(k) && kind == FILL_UNIT; i++) {
        near("a logarithm", t[i] - log_sum, y[i], (8.0 + fabs(t[i]) + fabs(t[i] - log_sum)) * 0x1p-22);
        near("log_sum_exp", log_sum, got, (8.0 + fabs(log_sum)) * 0x1p-22);
      }
      guards_release();
    }
  }
  check_end();
}

static double norm_of(size_t n, const float *x, double center) {
  double mean = 0.0;
  for (size_t i = 0; i < n; i++) {
    mean += ((double)x[i] - center) * ((double)x[i] - center) / (double)n;
  }
  return mean;
}

/* m rows: those of the reference one at a time. */
static void check_norms(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[6 * LONGEST], before[6 * LONGEST];
  check_begin(k->name, "layer_norm, rms_norm");
  for (size_t l = 1; l < LENGTHS; l++) {
    for (int kind = 0; kind < KINDS; kind++) {
      const size_t n = length_of(l), m = random_below(7), size = m * n;
      const bool in_place = random_below(2) != 0, all = random_below(2) != 0;
      float *x = values(kind, size), *y = in_place ? x : guarded_f32(size), numbers[12] = {0};
      float *mean = guarded_f32(m), *inverse = guarded_f32(m);
      const float *scale = values(FILL_UNIT, n), *bias = random_below(3) != 0 ? values(FILL_UNIT, n) : NULL;
      const float epsilon = random_below(2) != 0 ? 1e-5f : 1e-12f;
      for (size_t i = 0; i < size && kind == FILL_UNIT; i++) {
        x[i] = random_unit() * 3.0f + 1.0f;
      }
      memcpy(before, x, size * sizeof *x);
      check_case("m %zu, n %zu, %s%s%s", m, n, kind_name(kind), bias != NULL ? ", bias" : "",
                 in_place ? ", in place" : "");
      for (size_t r = 0; r < m; r++) {
        scalar->vector.layer_norm(1, n, before + r * n, epsilon, scale, bias, expected + r * n, &numbers[r],
                                  &numbers[6 + r]);
      }
      k->vector.layer_norm(m, n, x, epsilon, scale, bias, y, all ? mean : NULL, all ? inverse : NULL);
      check_same("y", CHECK_F32, expected, y, size);
      if (all) {
        check_same("mean", CHECK_F32, numbers, mean, m);
        check_same("inverse", CHECK_F32, numbers + 6, inverse, m);
      }
      for (size_t i = 0; i < size && kind == FILL_UNIT && n > 1 && is_scalar(k); i++) {
        double center = 0.0;
        for (size_t c = 0; c < n; c++) {
          center += (double)before[i / n * n + c] / (double)n;
        }
        const double deviation = sqrt(norm_of(n, before + i / n * n, center) + (double)epsilon);
        const double d = ((double)before[i] - center) / deviation, s = (double)scale[i % n];
        const double b = bias != NULL ? (double)bias[i % n] : 0.0;
        near("a layer norm", d * s + b, y[i], ((2.0 + fabs(d) + 4.0 / deviation) * fabs(s) + fabs(b)) * 0x1p-20);
      }
      for (size_t r = 0; r < m; r++) {
        scalar->vector.rms_norm(1, n, before + r * n, epsilon, scale, expected + r * n);
      }
      memcpy(x, before, size * sizeof *x);
      k->vector.rms_norm(m, n, x, epsilon, scale, y);
      check_same("rms_norm", CHECK_F32, expected, y, size);
      for (size_t i = 0; i < size && kind == FILL_UNIT && is_scalar(k); i++) {
        const double root = sqrt(norm_of(n, before + i / n * n, 0.0) + (double)epsilon);
        const double d = (double)before[i] / root * (double)scale[i % n];
        near("an RMS norm", d, y[i], fabs(d) * (4.0 + (double)n / 32) * 0x1p-23 + 0x1p-140);
      }
      guards_release();
    }
  }
  check_end();
}

/* ---- Functions of one value ---- */

static void check_unary(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[LONGEST];
  for (int f = 0; f < EXACT_FUNCTIONS; f++) {
    const exact_function *exact = &exact_functions[f];
    check_begin(k->name, exact->op);
    for (size_t l = 0; l < LENGTHS; l++) {
      for (int kind = 0; kind < KINDS; kind++) {
        const size_t n = length_of(l);
        const bool in_place = random_below(2) != 0;
        float *x = values(kind, n), *y = in_place ? x : guarded_f32(n), before[LONGEST];
        const float alpha = 0.2f, beta = 0.5f;
        for (size_t i = 0; i < n && kind == FILL_UNIT; i++) {
          x[i] = random_unit() * (l % 2 == 0 ? 12.0f : 100.0f);
        }
        memcpy(before, x, n * sizeof *x);
        check_case("n %zu, %s%s", n, kind_name(kind), in_place ? ", in place" : "");
        scalar->vector.unary((dynq_unary)f, n, alpha, beta, before, expected);
        k->vector.unary((dynq_unary)f, n, alpha, beta, x, y);
        check_same("y", CHECK_F32, expected, y, n);
        for (size_t i = 0; i < n && is_scalar(k); i++) {
          const double want = exact->y((double)before[i], (double)alpha, (double)beta);
          near(exact->op, want, y[i], exact->bound((double)before[i], want));
        }
        guards_release();
      }
    }
    check_end();
  }
}

void check_float_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar) {
  check_matmul(kernels, scalar);
  check_depthwise(kernels, scalar);
  check_matmul_taps(kernels, scalar);
  check_pool(kernels, scalar);
  check_pack_transposed(kernels);
  check_split(kernels);
  check_reduce(kernels);
  check_softmax(kernels, scalar);
  check_log_softmax(kernels, scalar);
  check_norms(kernels, scalar);
  check_unary(kernels, scalar);
}
