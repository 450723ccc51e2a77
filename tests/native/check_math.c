/*
 * The activations: within their stated error of the double-precision function, and the same bits on every ISA.
 *
 * check_math [--stride N] [--isa NAME]: every N-th float32 (a prime by default), both signs, and all around the
 * points where a function changes its path, its sign or its result's kind. NAME must be able to run here.
 */
#include "base/cpu.h"
#include "base/dispatch.h"

#include "kernels/common/vec_scalar.h"

#include "exact.h"
#include "kernels/common/activations.h" /* v_exp and v_erf, which no kernel slot offers alone */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 };

/* Errors are in ulp of max(|y|, |x| * share, least). */
static const struct {
  const char *name;
  dynq_activation activation;
  double (*exact)(double x, double alpha, double beta);
  double bound, share, least;
} functions[] = {
    {"relu", DYNQ_ACTIVATION_RELU, exact_Relu, 0.0, 0.0, 0.0},
    {"sigmoid", DYNQ_ACTIVATION_SIGMOID, exact_Sigmoid, 3.0, 0.0, 0.0},
    {"tanh", DYNQ_ACTIVATION_TANH, exact_Tanh, 2.0, 0.0, 0.0},
    {"silu", DYNQ_ACTIVATION_SILU, exact_Silu, 4.0, 0.0, 0x1p-120},
    {"gelu", DYNQ_ACTIVATION_GELU, exact_Gelu, 4.0, 0.25, 0.0},
    {"gelu_tanh", DYNQ_ACTIVATION_GELU_TANH, exact_GeluTanh, 4.0, 0.25, 0.0},
    {"hard_swish", DYNQ_ACTIVATION_HARD_SWISH, exact_HardSwish, 2.0, 0.5, 0.0},
    {"mish", DYNQ_ACTIVATION_MISH, exact_Mish, 6.0, 0.0, 0x1p-100},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static int failures;

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* Distance in units of the last place of a float32 of that size. */
static double ulps(float y, double exact, double size) {
  if (isnan(y)) {
    return INFINITY;
  }
  if (isinf(exact) || fabs(exact) > 3.4028235677973366e38) { /* rounds to infinity */
    return isinf(y) && (y > 0) == (exact > 0) ? 0.0 : INFINITY;
  }
  int exponent;
  (void)frexp(fmax(size, 0x1p-126), &exponent);
  return fabs((double)y - exact) / ldexp(1.0, exponent - 24);
}

static void judge(const char *name, float x, float y, double exact, double bound, double least, double *worst) {
  const double error = ulps(y, exact, fmax(fabs(exact), least));
  if (error > bound && *worst <= bound) { /* the first one; the worst is told at the end */
    (void)printf("%s(%a) is %a; expected %a: %.2f ulp, bound %.2f\n", name, (double)x, (double)y, exact, error, bound);
    failures++;
  }
  *worst = fmax(*worst, error);
}

/* Floats where something happens. NEAR floats on each side of each, with both signs, are always tried. */
static const float turns[] = {
    0.0f,           /* the sign changes */
    0x1p-126f,      /* the first normal number */
    0.34657359f,    /* ln 2 / 2: exp's n changes */
    0.625f,         /* tanh: polynomial or exp */
    1.0f,           /* erf: polynomial or exp */
    1.41421356f,    /* gelu: the same */
    4.0f,           /* erf is 1 */
    5.65685425f,    /* gelu: the same */
    9.01091290f,    /* tanh is 1 */
    17.3286795f,    /* 1 + exp(-x) is 1 */
    87.3365448f,    /* exp becomes denormal */
    88.7228391f,    /* exp overflows */
    103.972077f,    /* exp becomes 0 */
    1.84467441e19f, /* x^2 overflows */
    3.40282347e38f, /* the last finite number; infinity and the first NaNs follow */
};
enum { NEAR = 256, TURNS = sizeof turns / sizeof turns[0], INPUTS_NEAR = TURNS * 2 * (2 * NEAR + 1) };

/* The `index`-th input: those near the turns, then every stride-th bit pattern. */
static float input(uint64_t index, uint64_t stride) {
  if (index < INPUTS_NEAR) {
    const uint32_t i = (uint32_t)index, around = i / 2 % (2 * NEAR + 1);
    const uint32_t bits = bits_of(turns[i / 2 / (2 * NEAR + 1)]) + around - NEAR; /* below 0 come NaNs */
    return from_bits(bits ^ (i % 2) << 31);
  }
  return from_bits((uint32_t)((index - INPUTS_NEAR) * stride));
}

static uint64_t inputs(uint64_t stride) { return INPUTS_NEAR + UINT32_MAX / stride + 1; }

static size_t next_block(uint64_t *index, uint64_t stride, float *x) {
  size_t count = 0;
  for (; count < BLOCK && *index < inputs(stride); ++*index) {
    x[count++] = input(*index, stride);
  }
  return count;
}

/* After an infinite error, such as this one, a function is not complained about again. */
static void judge_nan(const char *name, float x, float y, bool is_right, double *worst) {
  if (!is_right && *worst < INFINITY) {
    *worst = INFINITY;
    (void)printf("%s(NaN %08x) is %08x; expected the NaN 7fc00000\n", name, bits_of(x), bits_of(y));
    failures++;
  }
}

static void check_error(dynq_vector_kernels scalar, uint64_t stride) {
  static float x[BLOCK], y[BLOCK];
  for (size_t f = 0; f < FUNCTIONS; f++) {
    double worst = 0;
    uint64_t index = 0;
    for (size_t count; (count = next_block(&index, stride, x)) != 0;) {
      scalar.activate(functions[f].activation, 0.0f, 0.0f, count, x, y);
      for (size_t i = 0; i < count; i++) {
        if (isnan(x[i])) {
          judge_nan(functions[f].name, x[i], y[i], bits_of(y[i]) == 0x7fc00000, &worst);
        } else if (isfinite(x[i])) {
          judge(functions[f].name, x[i], y[i], functions[f].exact((double)x[i], 0.0, 0.0), functions[f].bound,
                fmax(fabs((double)x[i]) * functions[f].share, functions[f].least), &worst);
        }
      }
    }
    (void)printf("%-10s error %.3f ulp, stated %.0f\n", functions[f].name, worst, functions[f].bound);
  }
  double worst_exp = 0, worst_erf = 0;
  for (uint64_t index = 0; index < inputs(stride); index++) {
    const float value = input(index, stride);
    if (isfinite(value)) {
      judge("exp", value, v_exp(value), exp((double)value), 1.0, 0.0, &worst_exp);
      judge("erf", value, v_erf(value), erf((double)value), 2.0, 0.0, &worst_erf);
    } else if (isnan(value)) { /* the kernels that call them write the one NaN */
      judge_nan("exp", value, v_exp(value), isnan(v_exp(value)), &worst_exp);
      judge_nan("erf", value, v_erf(value), isnan(v_erf(value)), &worst_erf);
    }
  }
  (void)printf("%-10s error %.3f ulp, stated 1\n%-10s error %.3f ulp, stated 2\n", "exp", worst_exp, "erf", worst_erf);
}

static void check_special(dynq_vector_kernels scalar) {
  static const struct {
    dynq_activation activation;
    float x;
    uint32_t y;
  } cases[] = {
      {DYNQ_ACTIVATION_RELU, -0.0f, 0x80000000},
      {DYNQ_ACTIVATION_RELU, -INFINITY, 0},
      {DYNQ_ACTIVATION_RELU, INFINITY, 0x7f800000},
      {DYNQ_ACTIVATION_SIGMOID, -INFINITY, 0},
      {DYNQ_ACTIVATION_SIGMOID, INFINITY, 0x3f800000},
      {DYNQ_ACTIVATION_SIGMOID, 0.0f, 0x3f000000},
      {DYNQ_ACTIVATION_TANH, -0.0f, 0x80000000},
      {DYNQ_ACTIVATION_TANH, -INFINITY, 0xbf800000},
      {DYNQ_ACTIVATION_TANH, INFINITY, 0x3f800000},
      {DYNQ_ACTIVATION_SILU, INFINITY, 0x7f800000},
      {DYNQ_ACTIVATION_SILU, -INFINITY, 0x7fc00000},
      {DYNQ_ACTIVATION_GELU, INFINITY, 0x7f800000},
      {DYNQ_ACTIVATION_GELU, -INFINITY, 0},
      {DYNQ_ACTIVATION_GELU_TANH, INFINITY, 0x7f800000},
      {DYNQ_ACTIVATION_GELU_TANH, -INFINITY, 0x7fc00000},
      {DYNQ_ACTIVATION_GELU, 0.0f, 0},
      {DYNQ_ACTIVATION_SILU, -0.0f, 0x80000000},
      {DYNQ_ACTIVATION_GELU, -0.0f, 0x80000000},
      {DYNQ_ACTIVATION_GELU_TANH, -0.0f, 0x80000000},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    float y;
    scalar.activate(cases[i].activation, 0.0f, 0.0f, 1, &cases[i].x, &y);
    if (bits_of(y) != cases[i].y) {
      (void)printf("activation %d of %g is %08x; expected %08x\n", (int)cases[i].activation, (double)cases[i].x,
                   bits_of(y), cases[i].y);
      failures++;
    }
  }
  if (bits_of(v_exp(-INFINITY)) != 0 || bits_of(v_exp(INFINITY)) != 0x7f800000 || v_exp(0.0f) != 1.0f ||
      v_erf(INFINITY) != 1.0f || v_erf(-INFINITY) != -1.0f || bits_of(v_erf(-0.0f)) != 0x80000000) {
    (void)printf("exp or erf is wrong at 0 or infinity\n");
    failures++;
  }
}

static void check_same_bits(const dynq_kernels *isa, dynq_vector_kernels scalar, uint64_t stride) {
  static float x[BLOCK], y[BLOCK], expected[BLOCK];
  for (size_t f = 0; f < FUNCTIONS; f++) {
    uint64_t index = 0;
    for (size_t count; (count = next_block(&index, stride, x)) != 0;) {
      isa->vector.activate(functions[f].activation, 0.0f, 0.0f, count, x, y);
      scalar.activate(functions[f].activation, 0.0f, 0.0f, count, x, expected);
      for (size_t i = 0; i < count; i++) {
        if (bits_of(y[i]) != bits_of(expected[i])) {
          (void)printf("%s %s(%a): %a; scalar %a\n", isa->name, functions[f].name, (double)x[i], (double)y[i],
                       (double)expected[i]);
          failures++;
          return;
        }
      }
    }
  }
  (void)printf("%-10s same bits as scalar\n", isa->name);
}

int main(int argc, char **argv) {
  uint64_t stride = 4099;
  const char *only = NULL;
  for (int i = 1; i < argc; i += 2) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(argv[i], "--stride") == 0) {
      stride = strtoull(value, NULL, 10);
    } else if (strcmp(argv[i], "--isa") == 0) {
      only = value;
    } else {
      stride = 0;
    }
    if (stride == 0 || stride > UINT32_MAX) {
      (void)fprintf(stderr, "usage: check_math [--stride N] [--isa NAME], N from 1 on\n");
      return 2;
    }
  }
  dynq_cpu_facts facts;
  dynq_kernels scalar, isa;
  dynq_cpu_read(&facts);
  (void)dynq_isa_resolve(dynq_isa_count() - 1, 0, 0, &scalar);
  check_special(scalar.vector);
  check_error(scalar.vector, stride);
  if (only != NULL && dynq_isa_find(only) == dynq_isa_count()) {
    (void)printf("--isa %s: no instruction set of that name\n", only);
    failures++;
  }
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    if (only != NULL && strcmp(only, dynq_isa_name(i)) != 0) {
      continue;
    }
    if (dynq_isa_resolve(i, dynq_cpu_features(&facts), 0, &isa) == DYNQ_OK) {
      check_same_bits(&isa, scalar.vector, stride);
    } else {
      (void)printf("%-10s not run: %s\n", dynq_isa_name(i), dynq_last_error());
      failures += only != NULL;
    }
  }
  (void)printf("%s\n", failures == 0 ? "math: ok" : "math: FAILED");
  return failures != 0;
}
