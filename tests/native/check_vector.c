/*
 * The vector kernels of one ISA, bit for bit: range, quantize, dequantize, activate, epilogue.
 */
#include "check_kernels.h"
#include "reference.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- range ---- */

static void range_case(const dynq_kernels *k, const float *x, size_t n, float lo, float hi) {
  float want_lo = lo, want_hi = hi;
  const bool want = reference_range(n, x, &want_lo, &want_hi), got = k->vector.range(n, x, &lo, &hi);
  if (got != want) {
    check_fail("range returned %d; expected %d", got, want);
  } else if (want && (lo != want_lo || hi != want_hi)) { /* a zero's sign is free */
    check_fail("range is %.9g, %.9g; expected %.9g, %.9g", (double)lo, (double)hi, (double)want_lo, (double)want_hi);
  }
  guards_check();
}

static void check_range(const dynq_kernels *k) {
  static const float spoils[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX};
  check_begin(k->name, "range");
  for (size_t l = 0; l < LENGTHS; l++) {
    const size_t n = length_of(l);
    for (int kind = 0; kind < FILL_KINDS; kind++) {
      float *x = guarded_f32(n);
      fill_f32((fill)kind, x, n);
      check_case("n %zu, %s", n, fill_name((fill)kind));
      range_case(k, x, n, 0.0f, 0.0f);
      range_case(k, x, n, -fabsf(random_finite()), fabsf(random_unit()));
      for (size_t i = 0; i < n && kind == (int)(n % FILL_KINDS); i++) { /* each position */
        const float kept = x[i];
        x[i] = spoils[random_below(6)];
        check_case("n %zu, %s, %g at %zu", n, fill_name((fill)kind), (double)x[i], i);
        range_case(k, x, n, 0.0f, 0.0f);
        x[i] = kept;
      }
      guards_release();
    }
  }
  check_end();
}

/* ---- quantize, dequantize ---- */

static float random_scale(void) {
  switch (random_below(4)) {
  case 0:
    return exp2f((float)random_below(276) - 148.0f); /* powers of two: exact ties */
  case 1:
    return float_of_bits(1 + (uint32_t)random_below(0x7f7fffff)); /* any, denormals and huge ones too */
  default:
    return (1.0f + fabsf(random_unit())) * exp2f((float)random_below(40) - 20.0f);
  }
}

/* A value whose quotient by `scale` is near a half, within a few ulp, or exactly there. */
static float near_tie(float scale) {
  const float x = ((float)((int)random_below(700) - 350) + 0.5f) * scale;
  if (!isfinite(x) || x == 0.0f) {
    return 0.0f;
  }
  const uint32_t bits = bits_of_float(x) + (uint32_t)random_below(5) - 2;
  return isfinite(float_of_bits(bits)) ? float_of_bits(bits) : x;
}

enum { TAPS_K = 300, TAPS_N = 70 };

static void check_range_taps(const dynq_kernels *k) {
  size_t offset[TAPS_K];
  check_begin(k->name, "range_taps");
  for (size_t repeat = 0; repeat < 300; repeat++) {
    const size_t n = random_below(TAPS_N), depth = random_below(repeat % 8 == 0 ? TAPS_K : 20);
    const size_t size = random_offsets(n, depth, offset);
    const int kind = (int)random_below(FILL_KINDS);
    float *b = guarded_f32(size), *lo = guarded_f32(n), *hi = guarded_f32(n), x[TAPS_K];
    float low[TAPS_N], high[TAPS_N];
    bool finite = true;
    fill_f32((fill)kind, b, size);
    if (size != 0 && repeat % 4 == 3) {
      b[random_below(size)] = repeat % 8 == 3 ? NAN : -INFINITY;
    }
    for (size_t j = 0; j < n; j++) {
      lo[j] = low[j] = repeat % 2 != 0 ? -fabsf(random_unit()) : 0.0f;
      hi[j] = high[j] = repeat % 2 != 0 ? fabsf(random_unit()) : 0.0f;
      for (size_t i = 0; i < depth; i++) {
        x[i] = b[offset[i] + j];
      }
      finite &= reference_range(depth, x, &low[j], &high[j]);
    }
    check_case("n %zu, k %zu, %s", n, depth, fill_name((fill)kind));
    CHECK(k->vector.range_taps(n, depth, b, offset, lo, hi) == finite);
    for (size_t j = 0; j < n && finite; j++) {
      CHECK(lo[j] == low[j] && hi[j] == high[j]);
    }
    guards_release();
  }
  check_end();
}

static void check_quantize_taps(const dynq_kernels *k) {
  size_t offset[TAPS_K];
  check_begin(k->name, "quantize_taps");
  for (size_t repeat = 0; repeat < 600; repeat++) {
    const size_t n = random_below(TAPS_N), depth = random_below(repeat % 8 == 0 ? TAPS_K : 90);
    const size_t size = random_offsets(n, depth, offset), padded = (depth + 3) / 4 * 4;
    const size_t stride = padded + 4 * random_below(3), bytes = span(n, padded, stride);
    const dynq_scheme scheme = random_below(2) != 0 ? DYNQ_SYMMETRIC : DYNQ_ASYMMETRIC;
    const dynq_type type = random_below(2) != 0 ? DYNQ_S8 : DYNQ_U8;
    const int kind = (int)random_below(FILL_KINDS);
    float *b = guarded_f32(size), *scale = guarded_f32(n);
    int32_t *zero_point = guarded_s32(n), low, high;
    uint8_t *q = guarded(bytes, 4), expected[TAPS_N * (TAPS_K + 12)];
    fill_f32((fill)kind, b, size);
    for (size_t j = 0; j < n; j++) {
      scale[j] = repeat % 3 == 0 ? random_scale() : 0.01f * (1.1f + random_unit());
      zero_point[j] = (int32_t)random_below(256) - (type == DYNQ_S8 ? 128 : 0);
    }
    for (size_t i = 0; i < size && repeat % 3 == 1 && n != 0; i++) {
      b[i] = near_tie(scale[random_below(n)]);
    }
    check_case("n %zu, k %zu, %s, scheme %d, type %d", n, depth, fill_name((fill)kind), scheme, type);
    reference_limits(scheme, type, &low, &high);
    memcpy(expected, q, bytes);
    for (size_t j = 0; j < n && depth != 0; j++) {
      for (size_t i = 0; i < padded; i++) {
        expected[j * stride + i] =
            i >= depth ? 0 : (uint8_t)reference_quantize(b[offset[i] + j], scale[j], zero_point[j], low, high);
      }
    }
    const dynq_quantize_taps taps = {n, depth, b, offset, scale, zero_point, low, high, q, stride};
    k->vector.quantize_taps(&taps);
    check_same("q", CHECK_BYTES, expected, q, bytes);
    guards_release();
  }
  check_end();
}

static void check_quantize(const dynq_kernels *k) {
  check_begin(k->name, "quantize");
  for (size_t repeat = 0; repeat < 60; repeat++) {
    for (size_t l = 0; l < LENGTHS; l++) {
      const size_t n = length_of(l);
      const dynq_scheme scheme = random_below(2) != 0 ? DYNQ_SYMMETRIC : DYNQ_ASYMMETRIC;
      const dynq_type type = random_below(2) != 0 ? DYNQ_S8 : DYNQ_U8;
      const int32_t zero_point = (int32_t)random_below(256) - (type == DYNQ_S8 ? 128 : 0);
      const int kind = (int)random_below(FILL_KINDS);
      float *x = guarded_f32(n), scale = random_scale();
      uint8_t *q = guarded(n, 1), expected[1000];
      int32_t low, high;
      fill_f32((fill)kind, x, n);
      if (repeat % 3 == 0) { /* the scale that fits the data, as in dynq_linear_f32 */
        float lo = 0.0f, hi = 0.0f;
        int32_t unused;
        (void)reference_range(n, x, &lo, &hi);
        reference_qparams(lo, hi, scheme, type, &scale, &unused);
      } else if (repeat % 3 == 1) {
        for (size_t i = 0; i < n; i++) {
          x[i] = near_tie(scale);
        }
      }
      check_case("n %zu, %s, scale %.9g (0x%08x), zero-point %d, scheme %d, type %d", n, fill_name((fill)kind),
                 (double)scale, bits_of_float(scale), zero_point, scheme, type);
      reference_limits(scheme, type, &low, &high);
      for (size_t i = 0; i < n; i++) {
        expected[i] = (uint8_t)reference_quantize(x[i], scale, zero_point, low, high);
      }
      k->vector.quantize(n, x, scale, zero_point, low, high, q);
      check_same("q", CHECK_BYTES, expected, q, n);
      memset(q, 0, n);
      CHECK(k->vector.quantize_checked(n, x, scale, zero_point, low, high, q));
      check_same("q of quantize_checked", CHECK_BYTES, expected, q, n);
      if (n != 0) {
        x[random_below(n)] = random_below(3) == 0 ? NAN : random_below(2) != 0 ? INFINITY : -INFINITY;
        CHECK(!k->vector.quantize_checked(n, x, scale, zero_point, low, high, q));
      }
      guards_release();
    }
  }
  check_end();
}

/* 16 bits in two bytes, and the sums of products that are scaled and added up. */
static void check_finer(const dynq_kernels *k) {
  check_begin(k->name, "quantize_16, add_8, add_16");
  for (size_t repeat = 0; repeat < 20; repeat++) {
    for (size_t l = 0; l < LENGTHS; l++) {
      const size_t n = length_of(l);
      const int kind = (int)random_below(FILL_KINDS);
      const int32_t zero_point = (int32_t)random_below(65536), least = (int32_t)random_below(2);
      const uint8_t flip = random_below(2) != 0 ? 0x80 : 0;
      float *x = guarded_f32(n), scale = random_scale();
      uint8_t *high = guarded(n, 1), *low = guarded(n, 1);
      fill_f32((fill)kind, x, n);
      for (size_t i = 0; i < n && repeat % 2 != 0; i++) {
        x[i] = near_tie(scale);
      }
      check_case("n %zu, %s, scale %.9g, zero-point %d", n, fill_name((fill)kind), (double)scale, zero_point);
      k->vector.quantize_16(n, x, scale, zero_point, least, flip, high, low);
      for (size_t i = 0; i < n; i++) {
        const int32_t q = reference_quantize(x[i], scale, zero_point, least, 65535);
        CHECK((high[i] ^ flip) == q >> 8 && (low[i] ^ flip) == (q & 255));
      }
      guards_release();

      int32_t *acc = guarded_s32(n), *other = guarded_s32(n), *column_sum = guarded_s32(n);
      float *column_scale = guarded_f32(n), *y = guarded_f32(n), expected[1000];
      const bool wide = repeat % 2 != 0;
      const int32_t zero = wide ? zero_point - (int32_t)random_below(65536) : zero_point % 256 - 128;
      const int64_t limit = wide ? 255LL * 127 * 65536 : 255LL * 127 * 256;
      const float row_scale = fabsf(random_unit());
      for (size_t i = 0; i < n; i++) {
        acc[i] = (int32_t)((double)random_unit() * (double)limit);
        other[i] = (int32_t)((double)random_unit() * (double)limit);
        column_sum[i] = (int32_t)((double)random_unit() * (double)(limit / 255));
        column_scale[i] = fabsf(random_unit());
        y[i] = random_unit();
        const int64_t sum = (wide ? 256LL * acc[i] + other[i] : acc[i]) - (int64_t)zero * column_sum[i];
        expected[i] = y[i] + (float)sum * (row_scale * column_scale[i]);
      }
      check_case("n %zu, %s, zero-point %d", n, wide ? "add_16" : "add_8", zero);
      if (wide) {
        k->vector.add_16(n, acc, other, zero, column_sum, row_scale, column_scale, y);
      } else {
        k->vector.add_8(n, acc, zero, column_sum, row_scale, column_scale, y);
      }
      check_same("y", CHECK_F32, expected, y, n);
      guards_release();
    }
  }
  check_end();
}

static void check_dequantize(const dynq_kernels *k) {
  check_begin(k->name, "dequantize");
  for (size_t repeat = 0; repeat < 6; repeat++) {
    for (size_t l = 0; l < LENGTHS; l++) {
      const size_t n = length_of(l);
      const bool is_signed = random_below(2) != 0;
      const int32_t zero_point = (int32_t)random_below(256) - (is_signed ? 128 : 0);
      const float scale = random_scale();
      uint8_t *q = guarded(n, 1);
      float *x = guarded_f32(n), expected[1000];
      fill_bytes((int)random_below(BYTES_KINDS), q, n);
      check_case("n %zu, scale %.9g, zero-point %d, %s", n, (double)scale, zero_point, is_signed ? "s8" : "u8");
      for (size_t i = 0; i < n; i++) {
        expected[i] = (float)((is_signed ? (int8_t)q[i] : q[i]) - zero_point) * scale;
      }
      k->vector.dequantize(n, q, is_signed, scale, zero_point, x);
      check_same("x", CHECK_F32, expected, x, n);
      guards_release();
    }
  }
  check_end();
}

/* ---- activate ---- */

static void check_activate(const dynq_kernels *k, const dynq_kernels *scalar) {
  static const float specials[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 88.8f, -104.0f, 9.1f, FLT_MIN};
  check_begin(k->name, "activate");
  for (int activation = DYNQ_ACTIVATION_NONE; activation <= DYNQ_ACTIVATION_LEAKY_RELU; activation++) {
    for (size_t l = 0; l < LENGTHS; l++) {
      for (int kind = 0; kind < FILL_KINDS; kind++) {
        const size_t n = length_of(l);
        const bool in_place = random_below(2) != 0;
        float *x = guarded_f32(n), *y = in_place ? x : guarded_f32(n), expected[1000];
        fill_f32((fill)kind, x, n);
        for (size_t i = 0; i < n; i++) {
          if (kind == FILL_UNIT) {
            x[i] = random_unit() * 12.0f;
          } else if (random_below(8) == 0) {
            x[i] = specials[random_below(sizeof specials / sizeof specials[0])];
          } else if (random_below(16) == 0) { /* a signalling NaN */
            const uint32_t bits = 0x7f800001u | ((uint32_t)check_random() & 0x803fffffu);
            memcpy(&x[i], &bits, sizeof bits);
          }
        }
        check_case("n %zu, activation %d, %s%s", n, activation, fill_name((fill)kind), in_place ? ", in place" : "");
        scalar->vector.activate((dynq_activation)activation, -0.25f, 0.5f, n, x, expected);
        for (size_t i = 0; i < n && activation <= DYNQ_ACTIVATION_RELU; i++) {
          expected[i] = reference_finish(x[i], NULL, NULL, (dynq_activation)activation, -0.25f, 0.5f, 0.0f, 0.0f);
        }
        k->vector.activate((dynq_activation)activation, -0.25f, 0.5f, n, x, y);
        check_same("y", CHECK_F32, expected, y, n);
        guards_release();
      }
    }
  }
  check_end();
}

/* ---- epilogue ---- */

static float *filled_f32(size_t n) {
  float *x = guarded_f32(n);
  const size_t kind = random_below(3);
  fill_f32(kind == 0 ? FILL_BITS : kind == 1 ? FILL_UNIT : FILL_INTEGERS, x, n);
  if (n != 0 && random_below(16) == 0) {
    x[random_below(n)] = random_below(2) != 0 ? NAN : -INFINITY;
  }
  return x;
}

static float *filled_scales(size_t n) {
  float *scale = guarded_f32(n);
  const size_t kind = random_below(4);
  for (size_t i = 0; i < n; i++) {
    scale[i] = kind == 0 ? random_scale() : (1.0f + fabsf(random_unit())) * 1e-3f;
  }
  return scale;
}

static uint32_t product(int32_t a, int32_t b) { return (uint32_t)a * (uint32_t)b; }

static void reference_epilogue(const dynq_epilogue_tile *t) {
  for (size_t i = 0; i < t->m; i++) {
    for (size_t j = 0; j < t->n; j++) {
      float y;
      if (t->acc != NULL) {
        uint32_t acc = (uint32_t)t->acc[i * t->acc_stride + j] - product(t->row_zero_point[i], t->column_sum[j]);
        acc -= t->column_zero_point != NULL ? product(t->row_sum[i], t->column_zero_point[j]) : 0;
        y = (float)(int32_t)acc;
      } else {
        y = t->acc_f32[i * t->acc_stride + j];
      }
      const float *residual = t->residual != NULL ? &t->residual[i * t->residual_stride + j] : NULL;
      const float scale = t->row_scale[i] * t->column_scale[j];
      t->y[i * t->y_stride + j] = reference_finish(y * scale, t->bias != NULL ? &t->bias[j] : NULL, residual,
                                                   t->activation, t->alpha, t->beta, t->min, t->max);
    }
  }
}

/* Fills all of the tile but y; returns how large y and a residual in its place are. */
static size_t make_epilogue(dynq_epilogue_tile *t) {
  const size_t m = t->m, n = t->n;
  t->acc_stride = (n + 15) / 16 * 16 + 16 * random_below(2);
  t->y_stride = n + random_below(2) * random_below(9);
  if (random_below(4) != 0) {
    t->acc = random_s32(span(m, n, t->acc_stride), random_below(2) != 0 ? INT32_MAX : 100000);
    t->row_zero_point = random_s32(m, 255);
    static const int32_t largest_sums[] = {127 * 65536, (1 << 22) + 1, 1 << 22, 10000};
    int32_t *sums = random_s32(n, largest_sums[random_below(4)]);
    if (n != 0 && random_below(2) != 0) { /* alone among its neighbours */
      sums[random_below(n)] = random_below(2) != 0 ? 1 << 22 : -(1 << 22) - 1;
    }
    t->column_sum = sums;
    t->column_zero_point = random_below(2) != 0 ? random_s32(n, 128) : NULL;
    t->row_sum = t->column_zero_point != NULL ? random_s32(m, 255 * 32768) : NULL;
  } else {
    t->acc_f32 = filled_f32(span(m, n, t->acc_stride));
  }
  float *row_scale = filled_scales(m);
  if (m != 0 && random_below(8) == 0) {
    row_scale[random_below(m)] = NAN;
  }
  t->row_scale = row_scale;
  t->column_scale = filled_scales(n);
  t->bias = random_below(2) != 0 ? filled_f32(n) : NULL;
  t->activation = (dynq_activation)random_below(DYNQ_ACTIVATION_LEAKY_RELU + 1);
  t->alpha = -0.25f;
  t->beta = 0.5f;
  const size_t clamp = random_below(4);
  t->min = clamp == 0 ? -0.5f : clamp == 1 ? 0.0f : clamp == 2 ? -INFINITY : 0.0f;
  t->max = clamp == 0 ? 1.0f : clamp == 1 ? INFINITY : clamp == 2 ? -1e-3f : 0.0f;
  return span(m, n, t->y_stride);
}

static void check_epilogue(const dynq_kernels *k) {
  static float expected[32 * 1100];
  check_begin(k->name, "epilogue");
  for (size_t repeat = 0; repeat < 40; repeat++) {
    for (size_t l = 0; l < LENGTHS - 4; l++) {
      dynq_epilogue_tile t = {.m = random_below(4) != 0 ? random_below(5) : random_below(DYNQ_MAX_TILE_ROWS + 1),
                              .n = length_of(l)};
      const size_t size = make_epilogue(&t), where = random_below(3);
      float *y = guarded_f32(size);
      if (where == 0) { /* the residual is y */
        fill_f32(FILL_UNIT, y, size);
        t.residual = y;
        t.residual_stride = t.y_stride;
      } else if (where == 1) {
        t.residual_stride = t.n + random_below(5);
        t.residual = filled_f32(span(t.m, t.n, t.residual_stride));
      }
      check_case("m %zu, n %zu, %s%s%s, residual %s, activation %d, clamp %g..%g", t.m, t.n,
                 t.acc != NULL ? "int32" : "float32", t.column_zero_point != NULL ? ", column zero-points" : "",
                 t.bias != NULL ? ", bias" : "",
                 where == 0   ? "in y"
                 : where == 1 ? "given"
                              : "none",
                 t.activation, (double)t.min, (double)t.max);
      dynq_epilogue_tile r = t;
      memcpy(expected, y, size * sizeof *y);
      r.y = expected;
      r.residual = where == 0 ? expected : t.residual;
      reference_epilogue(&r);
      t.y = y;
      k->vector.epilogue(&t);
      check_same("y", CHECK_F32, expected, y, size);
      guards_release();
    }
  }
  check_end();
}

void check_vector_kernels(const dynq_kernels *kernels, const dynq_kernels *scalar) {
  check_range(kernels);
  check_quantize(kernels);
  check_finer(kernels);
  check_range_taps(kernels);
  check_quantize_taps(kernels);
  check_dequantize(kernels);
  check_activate(kernels, scalar);
  check_epilogue(kernels);
}
