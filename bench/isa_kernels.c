/*
 * Each kernel of an instruction set as the benchmark runs it: in units, one after the other through a level of memory.
 *
 * A unit is what a call gets in real work: of the vector kernels a row of up to 4096 elements, of the epilogue, the norms and
 * softmax 4 rows of up to 512, of the GEMM a panel of K = 512, several of them a call.
 */
#include "isa_kernels.h"

#include "levels.h"

enum {
  LONGEST_ROW = 4096,
  ROW_STEP = 256, /* 1024 bytes of float32, as bench_loop asks */
  TILE_ROWS = 4,  /* with 512 columns as many sums as the library's buffer has */
  LONGEST_TILE = 512,
  K = 512,
  PANEL_BYTES = DYNQ_PANEL * K,
  FEW_ROWS_PANELS = 128 /* panels of a call with one row: as many as the library's buffer has room for */
};

_Static_assert((size_t)TILE_ROWS * ROW_STEP * 8 <= (size_t)BENCH_LEAST_BYTES, "a tile of 4 bytes in and 4 out");
_Static_assert((size_t)PANEL_BYTES <= (size_t)BENCH_LEAST_BYTES, "a panel");

static const void *input(const bench_work *work, size_t unit) { return (const char *)work->in + unit * work->in_bytes; }

static void *output(const bench_work *work, size_t unit) { return (char *)work->out + unit * work->out_bytes; }

static size_t next(const bench_work *work, size_t unit) { return unit + 1 < work->units ? unit + 1 : 0; }

static void run_range(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                      size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    float lo = 0.0f, hi = 0.0f;
    (void)kernels->vector.range(work->length, input(work, u), &lo, &hi);
  }
}

static void run_quantize(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                         size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.quantize(work->length, input(work, u), 8.0f / 255.0f, 128, 0, 255, output(work, u));
  }
}

static void run_dequantize(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work,
                           size_t first, size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.dequantize(work->length, input(work, u), false, 8.0f / 255.0f, 128, output(work, u));
  }
}

static void run_activate(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                         size_t count) {
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.activate(kernel->activation, work->length, input(work, u), output(work, u));
  }
}

static void run_sum(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                    size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    (void)kernels->vector.reduce(DYNQ_REDUCTION_SUM, work->length, input(work, u));
  }
}

static void run_softmax(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                        size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.softmax(TILE_ROWS, work->length, input(work, u), work->length, 1.0f, NULL, output(work, u),
                            work->length);
  }
}

static const float *ones(void) {
  static float scale[LONGEST_TILE];
  for (size_t i = 0; scale[LONGEST_TILE - 1] == 0.0f && i < LONGEST_TILE; i++) {
    scale[i] = 1.0f;
  }
  return scale;
}

static void run_layer_norm(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work,
                           size_t first, size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.layer_norm(TILE_ROWS, work->length, input(work, u), 1e-5f, ones(), ones(), output(work, u), NULL,
                               NULL);
  }
}

static void run_rms_norm(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                         size_t count) {
  (void)kernel;
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.rms_norm(TILE_ROWS, work->length, input(work, u), 1e-5f, ones(), output(work, u));
  }
}

static void run_unary(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                      size_t count) {
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    kernels->vector.unary(kernel->function, work->length, 0.0f, 0.0f, input(work, u), output(work, u));
  }
}

/* The integers are the bits of floats, up to 2^31: the scales bring them to [-4, 4]. */
static void run_epilogue(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                         size_t count) {
  static const float row_scale[TILE_ROWS] = {0x1p-15f, 0x1p-15f, 0x1p-15f, 0x1p-15f};
  static const int32_t row_zero_point[TILE_ROWS] = {128, 127, 126, 125};
  static float column_scale[LONGEST_TILE];
  static int32_t column_sum[LONGEST_TILE];
  for (size_t i = 0; column_scale[LONGEST_TILE - 1] == 0.0f && i < LONGEST_TILE; i++) {
    column_scale[i] = 0x1p-14f;
    column_sum[i] = (int32_t)i * 31 - 8000;
  }
  for (size_t u = first; count-- > 0; u = next(work, u)) {
    const dynq_epilogue_tile tile = {.m = TILE_ROWS,
                                     .n = work->length,
                                     .acc = input(work, u),
                                     .acc_stride = work->length,
                                     .row_scale = row_scale,
                                     .row_zero_point = row_zero_point,
                                     .column_scale = column_scale,
                                     .column_sum = column_sum,
                                     .bias = column_scale,
                                     .activation = kernel->activation,
                                     .y = output(work, u),
                                     .y_stride = work->length};
    kernels->vector.epilogue(&tile);
  }
}

static size_t rows_of(const bench_kernel *kernel, const dynq_kernels *kernels) {
  return kernel->rows != 0 ? kernel->rows : kernels->gemm->rows;
}

static void run_gemm(const bench_kernel *kernel, const dynq_kernels *kernels, const bench_work *work, size_t first,
                     size_t count) {
  static _Alignas(64) uint8_t lhs[DYNQ_MAX_TILE_ROWS * K];
  static _Alignas(64) int32_t acc[FEW_ROWS_PANELS * DYNQ_PANEL];
  for (size_t i = 0; lhs[0] == 0 && i < sizeof lhs; i++) { /* multiplying by zeros would take less power */
    lhs[i] = (uint8_t)(i * 37 + 11);
  }
  const size_t rows = rows_of(kernel, kernels);
  const size_t most = kernel->rows == 1 ? (size_t)FEW_ROWS_PANELS : kernels->gemm->panels;
  while (count != 0) {
    size_t panels = count < most ? count : most;
    panels = panels < work->units - first ? panels : work->units - first;
    kernels->gemm->tile(rows, panels, K / DYNQ_GROUP, lhs, K, input(work, first), PANEL_BYTES, acc,
                        panels * DYNQ_PANEL);
    count -= panels;
    first = first + panels < work->units ? first + panels : 0;
  }
}

#define HAS(slot)                                                                                                      \
  static bool has_##slot(const dynq_isa_kernels *isa) { return isa->vector.slot != NULL; }
HAS(range)
HAS(quantize)
HAS(dequantize)
HAS(epilogue)
HAS(activate)
HAS(reduce)
HAS(softmax)
HAS(layer_norm)
HAS(rms_norm)
HAS(unary)
#undef HAS

static bool has_gemm(const dynq_isa_kernels *isa) { return isa->gemm != NULL; }

#define ACTIVATION(text, which)                                                                                        \
  {.name = (text), .mix = BENCH_COPY, .activation = (which), .has = has_activate, .run = run_activate}

#define UNARY(text, which) {.name = (text), .mix = BENCH_COPY, .function = (which), .has = has_unary, .run = run_unary}

const bench_kernel bench_kernel_list[] = {
    {.name = "range", .mix = BENCH_READ, .has = has_range, .run = run_range},
    {.name = "quantize", .mix = BENCH_NARROW, .has = has_quantize, .run = run_quantize},
    {.name = "dequantize", .mix = BENCH_WIDEN, .has = has_dequantize, .run = run_dequantize},
    {.name = "gemm_tile", .gemm = true, .mix = BENCH_READ, .has = has_gemm, .run = run_gemm},
    {.name = "gemv", .gemm = true, .mix = BENCH_READ, .rows = 1, .has = has_gemm, .run = run_gemm},
    {.name = "epilogue", .tile = true, .mix = BENCH_COPY, .has = has_epilogue, .run = run_epilogue},
    ACTIVATION("relu", DYNQ_ACTIVATION_RELU),
    ACTIVATION("sigmoid", DYNQ_ACTIVATION_SIGMOID),
    ACTIVATION("tanh", DYNQ_ACTIVATION_TANH),
    ACTIVATION("silu", DYNQ_ACTIVATION_SILU),
    ACTIVATION("gelu", DYNQ_ACTIVATION_GELU),
    ACTIVATION("gelu_tanh", DYNQ_ACTIVATION_GELU_TANH),
    UNARY("exp", DYNQ_UNARY_EXP),
    UNARY("erf", DYNQ_UNARY_ERF),
    {.name = "sum", .mix = BENCH_READ, .has = has_reduce, .run = run_sum},
    {.name = "softmax", .tile = true, .mix = BENCH_COPY, .has = has_softmax, .run = run_softmax},
    {.name = "layer_norm", .tile = true, .mix = BENCH_COPY, .has = has_layer_norm, .run = run_layer_norm},
    {.name = "rms_norm", .tile = true, .mix = BENCH_COPY, .has = has_rms_norm, .run = run_rms_norm},
};
#undef UNARY
#undef ACTIVATION
const size_t bench_kernel_count = sizeof bench_kernel_list / sizeof bench_kernel_list[0];

void bench_work_cut(bench_work *work, const bench_kernel *kernel, const dynq_kernels *kernels, size_t bytes) {
  static const size_t in_size[BENCH_MIXES] = {4, 4, 1, 4}, out_size[BENCH_MIXES] = {0, 1, 4, 4};
  const size_t each = in_size[kernel->mix] + out_size[kernel->mix];
  const size_t rows = kernel->tile ? TILE_ROWS : 1, longest = kernel->tile ? LONGEST_TILE : LONGEST_ROW;
  if (kernel->gemm) {
    work->in_bytes = PANEL_BYTES;
    work->out_bytes = 0;
    work->done = (double)(rows_of(kernel, kernels) * PANEL_BYTES);
  } else {
    const size_t fitting = bytes / each / rows / ROW_STEP * ROW_STEP;
    work->length = fitting < longest ? fitting : longest;
    work->in_bytes = rows * work->length * in_size[kernel->mix];
    work->out_bytes = rows * work->length * out_size[kernel->mix];
    work->done = (double)(rows * work->length);
  }
  work->units = bytes / (work->in_bytes + work->out_bytes);
  if (work->units >= 2) { /* panels come in twos and fours */
    work->units -= work->units % (work->units >= 4 ? 4 : 2);
  }
  work->units = work->units != 0 ? work->units : 1;
}
