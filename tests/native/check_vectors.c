/*
 * check_vectors: every instruction set that can run here gives the bytes of the conformance set, with 1 thread and
 * with 3.
 *
 *   check_vectors FOLDER [--isa NAME] [--expect "scalar avx2 ..."]    FOLDER: tests/vectors; --expect: see check_kernels
 */
#include "check.h"
#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- One case ---- */

/* A case with its buffers: inputs filled, room for outputs. */
typedef struct problem {
  const vectors *set;
  const vectors_case *c;
  void *buffers[VECTORS_MAX_ARRAYS]; /* guarded, one for each array of the case */
  dynq_scheme scheme;
  dynq_granularity granularity;
  dynq_type type;
} problem;

/* Index of an option's value in `names`, the first where the case has no such option. */
static int option(const vectors_case *c, const char *name, const char *const *names, int count) {
  const char *value = vectors_option(c, name);
  for (int i = 0; value != NULL && i < count; i++) {
    if (strlen(names[i]) == strcspn(value, " ") && strncmp(names[i], value, strlen(names[i])) == 0) {
      return i;
    }
  }
  if (value != NULL) {
    check_fail("unknown %s", value);
  }
  return 0;
}
#define OPTION(c, name, ...)                                                                                           \
  option((c), (name), (const char *const[]){__VA_ARGS__},                                                              \
         (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

static dynq_status expected_status(const vectors_case *c) {
  static const dynq_status values[] = {DYNQ_OK, DYNQ_NONFINITE, DYNQ_ERROR_OVERFLOW};
  return values[OPTION(c, "status", "ok", "nonfinite", "overflow")];
}

/* The buffer of an array, NULL if the case has none of that name. */
static void *buffer(const problem *p, const char *name) {
  const vectors_array *array = vectors_find(p->c, name);
  return array != NULL ? p->buffers[array - p->c->arrays] : NULL;
}

static size_t dim(const problem *p, const char *name, size_t index) {
  const vectors_array *array = vectors_find(p->c, name);
  if (array == NULL || index >= array->rank) {
    check_fail("no %s of %zu dimensions", name, index + 1);
    return 0;
  }
  return array->dims[index];
}

static float clamp_end(const vectors_case *c, const char *name) {
  const char *text = vectors_option(c, name);
  return text != NULL ? float_of_bits((uint32_t)strtoul(text, NULL, 16)) : 0.0f;
}

static dynq_weight *pack(const problem *p) {
  const vectors_array *w = vectors_find(p->c, "w");
  const size_t n = dim(p, "w", 0), k = dim(p, "w", 1);
  dynq_weight *weight = NULL;
  if (w != NULL && w->type == VECTORS_F32) {
    CHECK_STATUS(DYNQ_OK, dynq_weight_pack_f32(n, k, buffer(p, "w"), k, 1, NULL, &weight));
  } else if (w != NULL) {
    CHECK_STATUS(DYNQ_OK, dynq_weight_pack_s8(n, k, buffer(p, "w"), w->type == VECTORS_S8 ? DYNQ_S8 : DYNQ_U8, k, 1,
                                              buffer(p, "w_scale"), buffer(p, "w_zero_point"), NULL, &weight));
  }
  return weight;
}

static dynq_status run_minmax(const problem *p) {
  const size_t k = dim(p, "x", 1);
  return dynq_minmax_f32(dim(p, "x", 0), k, buffer(p, "x"), k, p->granularity, NULL, buffer(p, "lo"), buffer(p, "hi"));
}

static dynq_status run_choose_qparams(const problem *p) {
  return dynq_choose_qparams(dim(p, "lo", 0), buffer(p, "lo"), buffer(p, "hi"), p->scheme, p->type, buffer(p, "scale"),
                             buffer(p, "zero_point"));
}

static dynq_status run_quantize(const problem *p) {
  const size_t k = dim(p, "x", 1);
  return dynq_quantize_f32(dim(p, "x", 0), k, buffer(p, "x"), k, p->scheme, p->granularity, p->type, buffer(p, "scale"),
                           buffer(p, "zero_point"), NULL, buffer(p, "q"), k);
}

/* A case that is refused has no outputs; the function wants room for them all the same. */
static dynq_status run_quantize_dynamic(const problem *p) {
  const size_t m = dim(p, "x", 0), k = dim(p, "x", 1);
  const bool refused = vectors_find(p->c, "q") == NULL;
  return dynq_quantize_dynamic_f32(
      m, k, buffer(p, "x"), k, p->scheme, p->granularity, p->type, NULL, refused ? guarded(m * k, 1) : buffer(p, "q"),
      k, refused ? guarded_f32(m) : buffer(p, "scale"), refused ? guarded_s32(m) : buffer(p, "zero_point"));
}

static dynq_status run_dequantize(const problem *p) {
  const size_t k = dim(p, "q", 1);
  return dynq_dequantize_f32(dim(p, "q", 0), k, buffer(p, "q"), k, p->granularity, p->type, buffer(p, "scale"),
                             buffer(p, "zero_point"), NULL, buffer(p, "x"), k);
}

static dynq_status run_weight(const problem *p) {
  dynq_weight *weight = pack(p);
  if (weight != NULL) {
    dynq_weight_info info;
    dynq_weight_describe(weight, &info);
    CHECK(info.data_bytes == dim(p, "panels", 0));
    if (info.data_bytes != 0) {
      memcpy(buffer(p, "panels"), info.data, info.data_bytes);
    }
    if (info.n != 0) {
      memcpy(buffer(p, "scale"), info.scale, info.n * sizeof *info.scale);
      memcpy(buffer(p, "column_sum"), info.column_sum, info.n * sizeof *info.column_sum);
    }
    CHECK_STATUS(DYNQ_OK, dynq_weight_dequantize_f32(weight, NULL, buffer(p, "dequantized"), info.k));
  }
  dynq_weight_free(weight);
  return DYNQ_OK;
}

static dynq_status run_gemm_s32(const problem *p) {
  const size_t m = dim(p, "q", 0), k = dim(p, "q", 1), n = dim(p, "w", 0);
  const bool refused = vectors_find(p->c, "acc") == NULL;
  dynq_weight *weight = pack(p);
  const dynq_status status =
      dynq_gemm_s32(weight, m, buffer(p, "q"), k, p->type, p->granularity, buffer(p, "zero_point"), NULL,
                    refused ? guarded_s32(m * n) : buffer(p, "acc"), n);
  dynq_weight_free(weight);
  return status;
}

static dynq_status run_linear(const problem *p) {
  const size_t n = dim(p, "w", 0), k = dim(p, "x", 1);
  const dynq_epilogue e = {
      .bias = buffer(p, "bias"),
      .residual = buffer(p, "residual"),
      .residual_stride = n,
      .activation = (dynq_activation)OPTION(p->c, "activation", "none", "relu", "sigmoid", "tanh", "silu", "gelu",
                                            "gelu_tanh", "hard_swish", "mish"),
      .min = clamp_end(p->c, "min"),
      .max = clamp_end(p->c, "max"),
  };
  dynq_weight *weight = pack(p);
  const dynq_status status = dynq_linear_f32(weight, dim(p, "x", 0), buffer(p, "x"), k, p->scheme, p->granularity, &e,
                                             NULL, buffer(p, "y"), n);
  dynq_weight_free(weight);
  return status;
}

static dynq_status run_matmul(const problem *p) {
  const size_t batch = dim(p, "y", 0), m = dim(p, "a", 1), k = dim(p, "a", 2), n = dim(p, "b", 2);
  return dynq_matmul_f32(batch, m, n, k, buffer(p, "a"), dim(p, "a", 0) == 1 ? 0 : m * k, k, buffer(p, "b"),
                         dim(p, "b", 0) == 1 ? 0 : k * n, n, 1, p->scheme, p->granularity, NULL, buffer(p, "y"), m * n,
                         n);
}

static const struct {
  const char *op;
  dynq_status (*run)(const problem *p);
} operations[] = {
    {"minmax", run_minmax},         {"choose_qparams", run_choose_qparams},
    {"quantize", run_quantize},     {"quantize_dynamic", run_quantize_dynamic},
    {"dequantize", run_dequantize}, {"weight", run_weight},
    {"gemm_s32", run_gemm_s32},     {"linear", run_linear},
    {"matmul", run_matmul},
};

static void compare(const problem *p, size_t i) {
  const vectors_array *array = &p->c->arrays[i];
  if (array->source == VECTORS_HASH) {
    const uint64_t sum = vectors_checksum(p->buffers[i], array->bytes);
    if (sum != array->number) {
      check_fail("%s has the checksum %016llx; expected %016llx", array->name, (unsigned long long)sum,
                 (unsigned long long)array->number);
    }
    return;
  }
  void *expected = guarded(array->bytes, 4);
  CHECK(vectors_value(p->set, array, expected));
  check_same(array->name,
             array->type == VECTORS_F32   ? CHECK_F32
             : array->type == VECTORS_S32 ? CHECK_S32
                                          : CHECK_BYTES,
             expected, p->buffers[i], array->count);
}

static void run_case(const vectors *set, const vectors_case *c) {
  problem p = {.set = set, .c = c};
  check_case("%s", c->text);
  p.scheme = (dynq_scheme)OPTION(c, "scheme", "asymmetric", "symmetric");
  p.granularity = (dynq_granularity)OPTION(c, "granularity", "tensor", "row");
  p.type = (dynq_type)OPTION(c, "type", "u8", "s8");
  for (size_t i = 0; i < c->arrays_count; i++) {
    const bool bytes = c->arrays[i].type == VECTORS_U8 || c->arrays[i].type == VECTORS_S8;
    p.buffers[i] = guarded(c->arrays[i].bytes, bytes ? 1 : 4);
    CHECK(c->arrays[i].output || vectors_value(set, &c->arrays[i], p.buffers[i]));
  }
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
    if (strcmp(c->op, operations[i].op) == 0) {
      CHECK_STATUS(expected_status(c), operations[i].run(&p));
      for (size_t j = 0; j < c->arrays_count; j++) {
        if (c->arrays[j].output) {
          compare(&p, j);
        }
      }
      guards_release();
      return;
    }
  }
  check_fail("no operation is named %s", c->op);
}

/* ---- All cases ---- */

static void run_all(vectors *set, const char *isa, size_t threads) {
  char title[48];
  size_t cases = 0;
  vectors_case c;
  (void)snprintf(title, sizeof title, "vectors, threads: %zu", threads);
  check_begin(isa, title);
  CHECK_STATUS(DYNQ_OK, dynq_isa_select(isa));
  CHECK_STATUS(DYNQ_OK, dynq_set_num_threads(threads));
  for (vectors_rewind(set); vectors_next(set, &c); cases++) {
    run_case(set, &c);
  }
  CHECK(cases == set->cases && set->next == set->end);
  check_end();
}

int main(int argc, char **argv) {
  const char *isa = check_argument(argc, argv, "--isa");
  const char *expected = check_argument(argc, argv, "--expect");
  vectors set;
  check_start(argc, argv);
  if (argc < 2 || argv[1][0] == '-') {
    fprintf(stderr, "usage: check_vectors FOLDER [--isa NAME] [--expect \"NAME ...\"]\n");
    return 2;
  }
  if (!vectors_open(&set, argv[1])) {
    return 2;
  }
  if (expected != NULL) {
    check_expected_isas(expected);
  }
  if (isa != NULL && dynq_isa_supported(isa) != DYNQ_OK) {
    fprintf(stderr, "check_vectors: %s\n", dynq_last_error());
    vectors_close(&set);
    return 2;
  }
  for (size_t i = dynq_isa_count(); i-- > 0;) { /* scalar first: where it is wrong the others are hard to judge */
    const char *name = dynq_isa_name(i);
    if ((isa == NULL || strcmp(isa, name) == 0) && dynq_isa_supported(name) == DYNQ_OK) {
      run_all(&set, name, 1);
      run_all(&set, name, 3);
    }
  }
  vectors_close(&set);
  return check_finish();
}
