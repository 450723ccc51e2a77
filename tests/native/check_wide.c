/*
 * Long sums: at each K where int32 stops being enough, extreme values are exact, or refused if they do not fit.
 */
#include "check_kernels.h"
#include "pools.h"
#include "reference.h"

#include <stdlib.h>
#include <string.h>

enum { M = 2, N = 17, MAX_K = 200001 };

/* The operand that gives the products their sign. */
typedef enum signs { ALL_ONE_SIGN, ALTERNATING, RANDOM_SIGNS } signs;

static void fill_extremes(signs kind, size_t k, int32_t low, int32_t high, uint8_t *row) {
  for (size_t i = 0; i < k; i++) {
    const bool up = kind == ALL_ONE_SIGN || (kind == ALTERNATING ? i % 2 == 0 : random_below(2) != 0);
    row[i] = (uint8_t)(up ? high : low);
  }
}

/* Weights as int8 at both ends, with a zero-point at the other end or none. */
static dynq_weight *make_weight(signs kind, size_t k, bool zero_points, int8_t *w, reference_weight *want) {
  float scale[N];
  int32_t zero_point[N];
  dynq_weight *weight = NULL;
  for (size_t n = 0; n < N; n++) {
    const bool negative = n % 2 != 0; /* ±128 or 127, and 255 away from the zero-point */
    scale[n] = 1e-4f;
    zero_point[n] = negative ? 127 : -128;
    fill_extremes(kind, k, negative ? 127 : -128, negative ? -128 : 127, (uint8_t *)w + n * k);
  }
  const int32_t *zp = zero_points ? zero_point : NULL;
  reference_weight_s8(want, N, k, w, k, 1, scale, zp);
  CHECK_STATUS(DYNQ_OK, dynq_weight_pack_s8(N, k, w, DYNQ_S8, k, 1, scale, zp, NULL, &weight));
  return weight;
}

static void gemm_case(const dynq_weight *weight, const reference_weight *want, size_t k, bool q_zero_points,
                      const dynq_threads *threads) {
  static int16_t row[MAX_K];
  uint8_t *q = guarded(M * k, 1);
  int32_t *acc = guarded_s32(M * N), *want_acc = guarded_s32(M * N);
  const int32_t zero_point[M] = {0, q_zero_points ? 255 : 0};
  bool fits = true;
  fill_extremes(ALL_ONE_SIGN, k, 0, 255, q);
  fill_extremes(ALL_ONE_SIGN, k, 255, q_zero_points ? 0 : 255, q + k);
  for (size_t i = 0; i < M; i++) {
    for (size_t j = 0; j < k; j++) {
      row[j] = (int16_t)(q[i * k + j] - zero_point[i]);
    }
    for (size_t j = 0; j < N; j++) {
      const int64_t sum = reference_dot(k, row, want->values + j * k);
      fits &= sum >= INT32_MIN && sum <= INT32_MAX;
      want_acc[i * N + j] = (int32_t)sum;
    }
  }
  CHECK_STATUS(fits ? DYNQ_OK : DYNQ_ERROR_OVERFLOW,
               dynq_gemm_s32(weight, M, q, k, DYNQ_U8, DYNQ_PER_ROW, zero_point, threads, acc, N));
  if (fits) {
    check_same("acc", CHECK_S32, want_acc, acc, M * N);
  }
}

static void linear_case(const dynq_weight *weight, const reference_weight *want, size_t k,
                        const dynq_threads *threads) {
  float *x = guarded_f32(M * k), *y = guarded_f32(M * N), *want_y = guarded_f32(M * N), *bias = guarded_f32(N);
  const dynq_epilogue e = {.bias = bias, .activation = DYNQ_ACTIVATION_RELU};
  fill_f32(FILL_UNIT, bias, N);
  for (size_t i = 0; i < k; i++) { /* all at the upper end, and at both */
    x[i] = 1.0f;
    x[k + i] = random_below(8) != 0 ? -3.0f : 1.0f;
  }
  for (int scheme = DYNQ_ASYMMETRIC; scheme <= DYNQ_SYMMETRIC; scheme++) {
    (void)reference_linear(want, M, x, k, (dynq_scheme)scheme, DYNQ_PER_ROW, &e, want_y, N);
    CHECK_STATUS(DYNQ_OK, dynq_linear_f32(weight, M, x, k, (dynq_scheme)scheme, DYNQ_PER_ROW, &e, threads, y, N));
    check_same("y", CHECK_F32, want_y, y, M * N);
  }
}

void check_longest(const char *name) {
  enum { K = 8388608 };
  float *x = malloc(K * sizeof *x), y = 0.0f, want_y = 0.0f;
  int8_t *w = malloc(K);
  uint8_t *q = malloc(K);
  const float scale = 1e-4f;
  dynq_weight *weight = NULL;
  reference_weight want;
  int32_t acc;
  check_begin(name, "library longest K");
  for (int negative = 0; negative < 2 && x != NULL && w != NULL && q != NULL; negative++) {
    const int32_t zero_point = negative ? 127 : -128, q_zero_point = 255;
    check_case("k %d, weights of %d with zero-point %d", K, negative ? -128 : 127, zero_point);
    memset(w, negative ? 0x80 : 0x7f, K);
    memset(q, 0, K);
    for (size_t i = 0; i < K; i++) {
      x[i] = i == 77 ? 1.0f : -3.0f - (float)(i % 2);
    }
    reference_weight_s8(&want, 1, K, w, K, 1, &scale, &zero_point);
    CHECK_STATUS(DYNQ_OK, dynq_weight_pack_s8(1, K, w, DYNQ_S8, K, 1, &scale, &zero_point, NULL, &weight));
    if (weight != NULL) {
      (void)reference_linear(&want, 1, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, &want_y, 1);
      CHECK_STATUS(DYNQ_OK, dynq_linear_f32(weight, 1, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, NULL, NULL, &y, 1));
      check_same("y", CHECK_F32, &want_y, &y, 1);
      CHECK_STATUS(DYNQ_ERROR_OVERFLOW,
                   dynq_gemm_s32(weight, 1, q, K, DYNQ_U8, DYNQ_PER_ROW, &q_zero_point, NULL, &acc, 1));
    }
    dynq_weight_free(weight);
    reference_weight_free(&want);
    weight = NULL;
  }
  check_end();
  free(x);
  free(w);
  free(q);
}

void check_wide(const char *name) {
  /* 32 768 and 65 536: the library's limits. 33 025 and 65 793: the last K that always fits, 2^31 / 255^2 and
   * 2^31 / (255 * 128). */
  static const size_t lengths[] = {32768, 32769, 33025, 33026, 65535, 65536, 65537, 65793, 65794, 131072, 200000};
  int8_t *w = malloc((size_t)N * MAX_K);
  check_begin(name, "library long sums");
  const size_t step = CHECK_TSAN ? 5 : 1; /* which takes minutes for all of them */
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0] && w != NULL; i += step) {
    for (int option = 0; option < 3; option++) {
      const bool zero_points = option == 1;
      const signs kind = option == 2 ? RANDOM_SIGNS : i % 4 == 3 ? ALTERNATING : ALL_ONE_SIGN;
      const size_t k = lengths[i], mode = random_below(POOL_MODES);
      reference_weight want;
      check_case("k %zu, zero-points %d, signs %d, pool %zu", k, zero_points, kind, mode);
      const dynq_threads *threads = pool_of(mode);
      dynq_weight *weight = make_weight(kind, k, zero_points, w, &want);
      if (weight != NULL) {
        gemm_case(weight, &want, k, i % 2 != 0, threads);
        linear_case(weight, &want, k, threads);
      }
      dynq_weight_free(weight);
      reference_weight_free(&want);
      guards_release();
    }
  }
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(0));
  check_end();
  free(w);
}
