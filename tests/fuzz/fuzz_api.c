/*
 * The functions on arrays under hostile callers: any sizes, strides, flags and NULL. A call that returns DYNQ_OK stays
 * within arrays of just the size that its arguments say, which the address sanitizer watches.
 */
#include "fuzz.h"

#include "base/alloc.h"
#include "dynq/dynq.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, CALLS = 10 };

const char fuzz_name[] = "fuzz_api";
char fuzz_doing[256];
static unsigned long long calls, went_well;

static bool refuse(size_t bytes) { return bytes > 4 * MOST_BYTES; }

/* Arrays of one call. */
typedef struct arrays {
  void *p[12];
  size_t count;
  bool all; /* false: one would be too large, so that the call is left out */
} arrays;

static size_t times(size_t a, size_t b) { return dynq_size_mul(a, b); }

/* Bytes of rows of `columns` elements; a row of no elements takes none. */
static size_t matrix(size_t rows, size_t columns, size_t stride, size_t element) {
  return rows == 0 || columns == 0 ? 0 : times(dynq_size_add(times(rows - 1, stride), columns), element);
}

static float next_float(fuzz_source *s) {
  static const float values[] = {0.0f, 1.0f, -1.0f, 1e30f, -1e30f, 1e-40f, INFINITY, NAN, 0.5f, 127.0f};
  const uint8_t byte = fuzz_byte(s);
  return byte < 20 ? values[byte % 10] : ((float)byte - 128.0f) / 9.0f;
}

/* NULL now and then. `is_float`: numbers from the input; else its bytes. */
static void *array(fuzz_source *s, arrays *a, size_t bytes, bool is_float) {
  if (bytes > MOST_BYTES) {
    a->all = false;
    return NULL;
  }
  if (fuzz_byte(s) >= 252) {
    return NULL;
  }
  unsigned char *p = malloc(bytes != 0 ? bytes : 1);
  a->p[a->count++] = p;
  for (size_t i = 0; p != NULL && i < bytes; i++) {
    p[i] = (unsigned char)(i < 64 && s->left != 0 ? fuzz_byte(s) : i * 37);
  }
  for (size_t i = 0; p != NULL && is_float && i < bytes / 4; i++) {
    const float value = s->left != 0 && i < 64 ? next_float(s) : (float)(i % 13) - 6.0f;
    memcpy(p + 4 * i, &value, 4);
  }
  return p;
}

static void release(arrays *a) {
  for (size_t i = 0; i < a->count; i++) {
    free(a->p[i]);
  }
}

static dynq_scheme scheme(fuzz_source *s) { return (dynq_scheme)(fuzz_byte(s) % 16 / 7); }
static dynq_granularity granularity(fuzz_source *s) { return (dynq_granularity)(fuzz_byte(s) % 16 / 7); }
static dynq_type type(fuzz_source *s) { return (dynq_type)(fuzz_byte(s) % 16 / 7); }
static size_t stride(fuzz_source *s, size_t columns) {
  const uint8_t byte = fuzz_byte(s);
  return byte < 200 ? columns : byte < 240 ? dynq_size_add(columns, byte % 5) : fuzz_size(s);
}

static dynq_status on_rows(fuzz_source *s, arrays *a) {
  const size_t m = fuzz_size(s), k = fuzz_size(s), x_stride = stride(s, k), q_stride = stride(s, k);
  const uint8_t which = fuzz_byte(s) % 5;
  const dynq_granularity g = granularity(s);
  const size_t blocks = g == DYNQ_PER_ROW ? m : 1;
  float *x = array(s, a, matrix(m, k, x_stride, 4), true), *scale = array(s, a, times(blocks, 4), true);
  int32_t *zero_point = array(s, a, times(blocks, 4), false);
  void *q = array(s, a, matrix(m, k, q_stride, 1), false);
  float *lo = array(s, a, times(blocks, 4), true);
  if (!a->all) {
    return DYNQ_ERROR_OUT_OF_MEMORY;
  }
  switch (which) {
  case 0:
    return dynq_minmax_f32(m, k, x, x_stride, g, NULL, lo, scale);
  case 1:
    return dynq_choose_qparams(blocks, lo, scale, scheme(s), type(s), lo, zero_point);
  case 2:
    return dynq_quantize_f32(m, k, x, x_stride, scheme(s), g, type(s), scale, zero_point, NULL, q, q_stride);
  case 3:
    return dynq_quantize_dynamic_f32(m, k, x, x_stride, scheme(s), g, type(s), NULL, q, q_stride, scale, zero_point);
  default:
    return dynq_dequantize_f32(m, k, q, q_stride, g, type(s), scale, zero_point, NULL, x, x_stride);
  }
}

static dynq_status pack(fuzz_source *s, arrays *a, size_t n, size_t k, dynq_weight **weight) {
  const bool transposed = fuzz_byte(s) % 2 != 0, integers = fuzz_byte(s) % 2 != 0;
  const size_t rows = transposed ? k : n, columns = transposed ? n : k, step = stride(s, columns);
  void *w = array(s, a, matrix(rows, columns, step, integers ? 1 : 4), !integers);
  float *scale = array(s, a, times(n, 4), true);
  int32_t *zero_point = fuzz_byte(s) % 2 != 0 ? array(s, a, times(n, 4), false) : NULL;
  for (size_t i = 0; a->all && scale != NULL && zero_point != NULL && i < n && fuzz_byte(s) < 250; i++) {
    zero_point[i] = (int32_t)(i % 100);
    scale[i] = fabsf(scale[i]) + 0.01f;
  }
  if (!a->all) {
    return DYNQ_ERROR_OUT_OF_MEMORY;
  }
  const size_t row_stride = transposed ? 1 : step, column_stride = transposed ? step : 1;
  return integers ? dynq_weight_pack_s8(n, k, w, type(s), row_stride, column_stride, scale, zero_point, NULL, weight)
                  : dynq_weight_pack_f32(n, k, w, row_stride, column_stride, NULL, weight);
}

static dynq_status with_weight(fuzz_source *s, arrays *a, const dynq_weight *weight, size_t n, size_t k) {
  const size_t m = fuzz_size(s), x_stride = stride(s, k), y_stride = stride(s, n);
  const uint8_t which = fuzz_byte(s) % 5;
  const bool floats = which != 1;
  dynq_epilogue e = {.activation = (dynq_activation)(fuzz_byte(s) % 9), .min = next_float(s), .max = next_float(s)};
  e.bias = fuzz_byte(s) % 2 != 0 ? array(s, a, times(n, 4), true) : NULL;
  e.residual_stride = stride(s, n);
  e.residual = fuzz_byte(s) % 2 != 0 ? array(s, a, matrix(m, n, e.residual_stride, 4), true) : NULL;
  void *x = array(s, a, matrix(m, k, x_stride, floats ? 4 : 1), floats);
  int32_t *zero_point = fuzz_byte(s) % 2 != 0 ? array(s, a, times(m != 0 ? m : 1, 4), false) : NULL;
  void *y = array(s, a, matrix(m, n, y_stride, 4), floats);
  const size_t w_stride = stride(s, k);
  void *w = array(s, a, matrix(n, k, w_stride, 4), true);
  dynq_weight_info info;
  dynq_weight *view = NULL;
  if (!a->all) {
    return DYNQ_ERROR_OUT_OF_MEMORY;
  }
  switch (which) {
  case 0:
    return dynq_linear_f32(weight, m, x, x_stride, scheme(s), granularity(s), fuzz_byte(s) % 2 != 0 ? &e : NULL, NULL,
                           y, y_stride);
  case 1:
    return dynq_gemm_s32(weight, m, x, x_stride, type(s), granularity(s), zero_point, NULL, y, y_stride);
  case 2:
    return dynq_weight_dequantize_f32(weight, NULL, w, w_stride);
  case 3:
    return dynq_weight_unpack_s8(weight, NULL, w, w_stride);
  default:
    dynq_weight_describe(weight, &info);
    info.data_bytes += fuzz_byte(s) == 1;
    info.n_padded += fuzz_byte(s) == 1;
    const dynq_status status = dynq_weight_view(&info, &view);
    dynq_weight_free(view);
    return status;
  }
}

static dynq_status on_weight(fuzz_source *s, arrays *a) {
  const size_t n = fuzz_size(s), k = fuzz_size(s);
  dynq_weight *weight = NULL;
  dynq_status status = pack(s, a, n, k, &weight);
  if (status == DYNQ_OK && weight != NULL) {
    status = with_weight(s, a, weight, n, k);
  }
  dynq_weight_free(weight);
  return status;
}

static dynq_status on_matmul(fuzz_source *s, arrays *a) {
  const size_t batch = fuzz_byte(s) % 4, m = fuzz_size(s), n = fuzz_size(s), k = fuzz_size(s);
  const size_t x_stride = stride(s, k), w_stride = stride(s, n), y_stride = stride(s, n);
  const size_t x_all = matrix(m, k, x_stride, 1), w_all = matrix(k, n, w_stride, 1), y_all = matrix(m, n, y_stride, 1);
  const bool shared = fuzz_byte(s) % 2 != 0;
  float *x = array(s, a, times(times(batch, x_all), 4), true), *y = array(s, a, times(times(batch, y_all), 4), true);
  float *w = array(s, a, times(times(shared ? batch != 0 : batch, w_all), 4), true);
  if (!a->all) {
    return DYNQ_ERROR_OUT_OF_MEMORY;
  }
  return dynq_matmul_f32(batch, m, n, k, x, x_all, x_stride, w, shared ? 0 : w_all, w_stride, 1, scheme(s),
                         granularity(s), NULL, y, y_all, y_stride);
}

static void on_process(fuzz_source *s) {
  const char *name;
  size_t count;
  dynq_op_description description;
  (void)dynq_isa_select(dynq_isa_name(fuzz_byte(s) % 12));
  (void)dynq_isa_selected(&name);
  (void)dynq_isa_supported(dynq_isa_name(fuzz_byte(s) % 12) != NULL ? "avx9" : NULL);
  (void)dynq_set_num_threads(fuzz_byte(s) % 4);
  (void)dynq_get_num_threads(&count);
  (void)dynq_num_threads_from();
  (void)dynq_op_describe(fuzz_size(s), &description);
  (void)dynq_status_string((dynq_status)fuzz_byte(s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_source s = {data, size};
  dynq_alloc_refuse = refuse;
  for (size_t i = 0; i < CALLS && s.left != 0; i++) {
    arrays a = {.all = true};
    const uint8_t what = fuzz_byte(&s) % 16;
    dynq_status status = DYNQ_OK;
    (void)snprintf(fuzz_doing, sizeof fuzz_doing, " call %zu of kind %u", i, what);
    if (what == 0) {
      on_process(&s);
    } else {
      status = what < 6 ? on_rows(&s, &a) : what < 13 ? on_weight(&s, &a) : on_matmul(&s, &a);
    }
    calls++;
    went_well += status == DYNQ_OK;
    release(&a);
  }
  dynq_alloc_refuse = NULL;
  return 0;
}

uint8_t *fuzz_make(uint64_t *state, const fuzz_bytes *file, size_t *size) {
  return fuzz_any_bytes(state, file, 32 + fuzz_below(state, 600), size);
}

void fuzz_summary(void) { printf("%llu calls, %llu of them went well", calls, went_well); }
void fuzz_report(void) {}
