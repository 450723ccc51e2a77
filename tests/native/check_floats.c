/*
 * The float kernels of one ISA: bit for bit those of scalar, which themselves are within a stated distance of double
 * precision.
 */
#include "check_kernels.h"

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
    const size_t y_size = m != 0 && n != 0 ? (m - 1) * y_stride + n : 0;
    const size_t a_size = m != 0 && depth != 0 ? (m - 1) * a_stride + depth : 0;
    const size_t b_size = depth == 0 || n == 0 ? 0 : panels ? columns * depth : (depth - 1) * b_row + n;
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

static void check_matmul_taps(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[16 * 320];
  enum { MOST_K = 300, REACH = 40 };
  size_t offset[MOST_K];
  check_begin(k->name, "matmul_taps");
  for (size_t repeat = 0; repeat < 600; repeat++) {
    const size_t m = random_below(17), n = random_below(repeat % 4 == 0 ? 300 : 50), y_stride = n + random_below(5);
    const size_t depth = random_below(repeat % 16 == 0 ? MOST_K : 20), y_size = m != 0 ? (m - 1) * y_stride + n : 0;
    const bool relu = random_below(2) != 0, biased = random_below(2) != 0;
    const int kind = (int)random_below(KINDS);
    for (size_t i = 0; i < depth; i++) {
      offset[i] = i == 0 ? REACH : random_below(REACH);
    }
    const float *a = values(kind, depth * 16), *bias = biased ? values(kind, m) : NULL;
    const float *b = values(kind == FILL_KINDS ? (int)random_below(KINDS) : kind, depth != 0 ? REACH + n : 0);
    float *y = guarded_f32(y_size);
    check_case("m %zu, n %zu, k %zu, bias %d, relu %d, %s", m, n, depth, biased, relu, kind_name(kind));
    memcpy(expected, y, y_size * sizeof *y);
    dynq_taps_tile tile = {m, n, depth, a, b, offset, bias, relu, expected, y_stride};
    scalar->vector.matmul_taps(&tile);
    tile.y = y;
    k->vector.matmul_taps(&tile);
    check_same("y", CHECK_F32, expected, y, y_size);
    for (size_t i = 0; i < m && is_scalar(k); i++) {
      for (size_t j = 0; j < n; j++) {
        float sum = 0.0f;
        for (size_t p = 0; p < depth; p++) {
          sum = fmaf(a[p * 16 + i], b[offset[p] + j], sum);
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
    const size_t stride = n + random_below(9), size = n != 0 ? (parts - 1) * stride + n : 0;
    const float *from = values(FILL_BITS, n != 0 ? (n - 1) * step + parts : 0);
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
    const float *from = values(FILL_BITS, n != 0 && depth != 0 ? (n - 1) * stride + depth : 0);
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

static double exact_unary(dynq_unary function, double x, double alpha, double beta) {
  switch (function) {
  case DYNQ_UNARY_ABS:
    return fabs(x);
  case DYNQ_UNARY_NEG:
    return -x;
  case DYNQ_UNARY_SIGN:
    return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x;
  case DYNQ_UNARY_FLOOR:
    return floor(x);
  case DYNQ_UNARY_CEIL:
    return ceil(x);
  case DYNQ_UNARY_ROUND:
    return rint(x);
  case DYNQ_UNARY_SQRT:
    return sqrt(x);
  case DYNQ_UNARY_RECIPROCAL:
    return 1.0 / x;
  case DYNQ_UNARY_EXP:
    return exp(x);
  case DYNQ_UNARY_LOG:
    return log(x);
  case DYNQ_UNARY_ERF:
    return erf(x);
  case DYNQ_UNARY_SOFTPLUS:
    return isnan(x) ? x : fmax(x, 0.0) + log1p(exp(-fabs(x)));
  case DYNQ_UNARY_SOFTSIGN:
    return x / (1.0 + fabs(x));
  case DYNQ_UNARY_SWISH:
    return x / (1.0 + exp(-alpha * x));
  case DYNQ_UNARY_LEAKY_RELU:
    return x < 0.0 ? alpha * x : x;
  case DYNQ_UNARY_ELU:
    return x < 0.0 ? alpha * expm1(x) : x;
  case DYNQ_UNARY_HARD_SIGMOID:
    return isnan(x) ? x : fmin(1.0, fmax(0.0, alpha * x + beta));
  case DYNQ_UNARY_HARD_SWISH:
    return isnan(x) ? x : x * fmin(1.0, fmax(0.0, alpha * x + beta));
  case DYNQ_UNARY_CLAMP:
    return isnan(x) ? x : fmin(beta, fmax(alpha, x));
  case DYNQ_UNARY_SELU:
    return beta * (x < 0.0 ? alpha * expm1(x) : x);
  case DYNQ_UNARY_CELU:
    return x < 0.0 ? alpha * expm1(x / alpha) : x;
  case DYNQ_UNARY_MISH:
    return isnan(x) ? x : x * tanh(x > 40.0 ? x : log1p(exp(x)));
  case DYNQ_UNARY_THRESHOLD:
    return isnan(x) || x > alpha ? x : 0.0;
  }
  return x;
}

/* Bounds in ulp of max(|y|, least): docs/activations.md. */
static const struct {
  const char *name;
  double ulps, least;
} unaries[] = {
    [DYNQ_UNARY_ABS] = {"abs", 0, 0},
    [DYNQ_UNARY_NEG] = {"neg", 0, 0},
    [DYNQ_UNARY_SIGN] = {"sign", 0, 0},
    [DYNQ_UNARY_FLOOR] = {"floor", 0, 0},
    [DYNQ_UNARY_CEIL] = {"ceil", 0, 0},
    [DYNQ_UNARY_ROUND] = {"round", 0, 0},
    [DYNQ_UNARY_SQRT] = {"sqrt", 0.5, 0},
    [DYNQ_UNARY_RECIPROCAL] = {"reciprocal", 0.5, 0},
    [DYNQ_UNARY_EXP] = {"exp", 1, 0},
    [DYNQ_UNARY_LOG] = {"log", 1, 0},
    [DYNQ_UNARY_ERF] = {"erf", 2, 0},
    [DYNQ_UNARY_SOFTPLUS] = {"softplus", 3, 0},
    [DYNQ_UNARY_SOFTSIGN] = {"softsign", 2, 0},
    [DYNQ_UNARY_SWISH] = {"swish", 200, 0x1p-100}, /* a rounding of alpha x counts x-fold */
    [DYNQ_UNARY_LEAKY_RELU] = {"leaky_relu", 0.5, 0},
    [DYNQ_UNARY_ELU] = {"elu", 3, 0},
    [DYNQ_UNARY_HARD_SIGMOID] = {"hard_sigmoid", 1, 0.5},
    [DYNQ_UNARY_HARD_SWISH] = {"hard_swish", 2, 0.5}, /* times |x|, see below */
    [DYNQ_UNARY_CLAMP] = {"clamp", 0, 0},
    [DYNQ_UNARY_SELU] = {"selu", 4, 0},
    [DYNQ_UNARY_CELU] = {"celu", 100, 0}, /* a rounding of x / alpha counts that often */
    [DYNQ_UNARY_MISH] = {"mish", 6, 0x1p-100},
    [DYNQ_UNARY_THRESHOLD] = {"threshold", 0, 0},
};
enum { UNARIES = sizeof unaries / sizeof unaries[0] };

static void judge_unary(dynq_unary function, float x, float alpha, float beta, float y) {
  const double exact = exact_unary(function, (double)x, (double)alpha, (double)beta);
  double size = fmax(fabs(exact), unaries[function].least);
  if (function == DYNQ_UNARY_HARD_SWISH) {
    size = fmax(fabs(exact), 0.5 * fabs((double)x));
  }
  int exponent;
  (void)frexp(fmax(size, 0x1p-126), &exponent);
  const bool zero_times_infinity =
      isinf(x) && (function == DYNQ_UNARY_SOFTSIGN || function == DYNQ_UNARY_SWISH ||
                   function == DYNQ_UNARY_HARD_SWISH || function == DYNQ_UNARY_ELU || function == DYNQ_UNARY_SELU ||
                   function == DYNQ_UNARY_CELU || function == DYNQ_UNARY_MISH || function == DYNQ_UNARY_LEAKY_RELU);
  if (!zero_times_infinity) { /* as IEEE has it; the ISAs agree */
    near(unaries[function].name, exact, y, unaries[function].ulps * ldexp(1.0, exponent - 24));
  }
}

static void check_unary(const dynq_kernels *k, const dynq_kernels *scalar) {
  static float expected[LONGEST];
  for (int function = 0; function < UNARIES; function++) {
    check_begin(k->name, unaries[function].name);
    for (size_t l = 0; l < LENGTHS; l++) {
      for (int kind = 0; kind < KINDS; kind++) {
        const size_t n = length_of(l);
        const bool in_place = random_below(2) != 0;
        float *x = values(kind, n), *y = in_place ? x : guarded_f32(n), before[LONGEST];
        const float alpha = function == DYNQ_UNARY_CLAMP ? -1.0f : 0.2f;
        const float beta = function == DYNQ_UNARY_CLAMP ? 2.0f : 0.5f;
        for (size_t i = 0; i < n && kind == FILL_UNIT; i++) {
          x[i] = random_unit() * (l % 2 == 0 ? 12.0f : 100.0f);
        }
        memcpy(before, x, n * sizeof *x);
        check_case("n %zu, %s%s", n, kind_name(kind), in_place ? ", in place" : "");
        scalar->vector.unary((dynq_unary)function, n, alpha, beta, before, expected);
        k->vector.unary((dynq_unary)function, n, alpha, beta, x, y);
        check_same("y", CHECK_F32, expected, y, n);
        for (size_t i = 0; i < n && is_scalar(k); i++) {
          judge_unary((dynq_unary)function, before[i], alpha, beta, y[i]);
        }
        guards_release();
      }
    }
    check_end();
  }
}

void check_float_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar) {
  check_matmul(kernels, scalar);
  check_matmul_taps(kernels, scalar);
  check_pack_transposed(kernels);
  check_split(kernels);
  check_reduce(kernels);
  check_softmax(kernels, scalar);
  check_log_softmax(kernels, scalar);
  check_norms(kernels, scalar);
  check_unary(kernels, scalar);
}
