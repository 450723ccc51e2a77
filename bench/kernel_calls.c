/*
 * Calls of each kernel of an instruction set.
 *
 * A call gets what it gets in real work. Vector kernels get a row of up to 4096 elements; the epilogue, the norms and
 * softmax 4 rows of up to 512; the GEMM panels of K = 512; the others the size in the list.
 */
#include "kernel_calls.h"

#include "levels.h"
#include "timing.h"

#include <stddef.h>
#include <string.h>

enum {
  LONGEST_ROW = 4096,
  ROW_STEP = 256, /* 1024 bytes of float32, as bench_loop asks */
  TILE_ROWS = 4,  /* with 512 columns as many sums as the library's buffer has */
  LONGEST_TILE = 512,
  K = 512,
  PANEL_BYTES = DYNQ_PANEL * K,
  MOST_PANELS = sizeof bench_result.sums / sizeof bench_result.sums[0] / DYNQ_PANEL, /* of a call with one row */
  COLUMNS = 64,                                                                      /* of what has a fixed size */
  DEPTH = 64,
  TAPS_SIZE = (DEPTH - 1) * DYNQ_PANEL + COLUMNS, /* floats that taps reach */
  DEPTHWISE_ROWS = 8,
  GATES = 4,
  STATES = TILE_ROWS * COLUMNS
};

_Static_assert((size_t)TILE_ROWS * ROW_STEP * 8 <= (size_t)BENCH_LEAST_BYTES, "a tile of 4 bytes in and 4 out");
_Static_assert((size_t)PANEL_BYTES <= (size_t)BENCH_LEAST_BYTES, "a panel");

bench_results bench_result;

/* Arguments of calls beside `in`, the same for each row or column. */
static struct {
  _Alignas(64) uint8_t lhs[DYNQ_MAX_TILE_ROWS * K]; /* the same as int8 and as uint8 */
  float ones[LONGEST_TILE], steps[LONGEST_TILE];
  float row_scale[TILE_ROWS], column_scale[LONGEST_TILE]; /* bring bits of floats, up to 2^31, to [-4, 4] */
  int32_t zero_point[LONGEST_TILE], sums[LONGEST_TILE];
  size_t offset[DEPTH];
} given;

static void fill_given(void) {
  for (size_t i = 0; i < sizeof given.lhs; i++) { /* multiplying by zeros would take less power */
    given.lhs[i] = (uint8_t)((i * 37 + 11) & 127);
  }
  for (size_t i = 0; i < LONGEST_TILE; i++) {
    given.ones[i] = 1.0f;
    given.steps[i] = 8.0f / 255.0f;
    given.column_scale[i] = 0x1p-14f;
    given.zero_point[i] = 128 - (int32_t)i % 4;
    given.sums[i] = (int32_t)i * 31 - 8000;
  }
  for (size_t i = 0; i < TILE_ROWS; i++) {
    given.row_scale[i] = 0x1p-15f;
  }
  for (size_t i = 0; i < DEPTH; i++) {
    given.offset[i] = i * DYNQ_PANEL;
  }
}

/* ---- Calls */

static void call_range(const bench_call *c) {
  float lo = 0.0f, hi = 0.0f;
  (void)c->kernels->vector.range(c->length, c->in, &lo, &hi);
  bench_result.numbers[0] = lo;
  bench_result.numbers[1] = hi;
}

static void call_quantize(const bench_call *c) {
  c->kernels->vector.quantize(c->length, c->in, 8.0f / 255.0f, 128, 0, 255, c->out);
}

static void call_quantize_checked(const bench_call *c) {
  (void)c->kernels->vector.quantize_checked(LONGEST_ROW / 2, c->in, 8.0f / 255.0f, 128, 0, 255, c->out);
}

static void call_quantize_16(const bench_call *c) {
  uint8_t *high = c->out;
  c->kernels->vector.quantize_16(LONGEST_ROW / 2, c->in, 8.0f / 65535.0f, 32768, 0, 0, high, high + LONGEST_ROW / 2);
}

static void call_add_8(const bench_call *c) {
  c->kernels->vector.add_8(LONGEST_TILE, given.sums, 3, given.sums, 0x1p-9f, given.ones, c->out);
}

static void call_add_16(const bench_call *c) {
  c->kernels->vector.add_16(LONGEST_TILE, given.sums, given.sums, 3, given.sums, 0x1p-9f, given.ones, c->out);
}

static void call_range_taps(const bench_call *c) {
  float *lo = c->out;
  (void)c->kernels->vector.range_taps(COLUMNS, DEPTH, c->in, given.offset, lo, lo + COLUMNS);
}

static void call_quantize_taps(const bench_call *c) {
  const dynq_quantize_taps taps = {COLUMNS,          DEPTH, c->in, given.offset, given.steps,
                                   given.zero_point, 0,     255,   c->out,       DEPTH};
  c->kernels->vector.quantize_taps(&taps);
}

static void call_dequantize(const bench_call *c) {
  c->kernels->vector.dequantize(c->length, c->in, false, 8.0f / 255.0f, 128, c->out);
}

static void call_activate(const bench_call *c) {
  c->kernels->vector.activate(c->kernel->activation, 0.0f, 0.0f, c->length, c->in, c->out);
}

static void call_epilogue(const bench_call *c) {
  const dynq_epilogue_tile tile = {.m = TILE_ROWS,
                                   .n = c->length,
                                   .acc = c->in,
                                   .acc_stride = c->length,
                                   .row_scale = given.row_scale,
                                   .row_zero_point = given.zero_point,
                                   .column_scale = given.column_scale,
                                   .column_sum = given.sums,
                                   .bias = given.column_scale,
                                   .y = c->out,
                                   .y_stride = c->length};
  c->kernels->vector.epilogue(&tile);
}

static void call_matmul(const bench_call *c) {
  const float *a = c->in, *b = a + TILE_ROWS * DEPTH;
  c->kernels->vector.matmul(TILE_ROWS, COLUMNS, DEPTH, a, DEPTH, b, DYNQ_PANEL, DYNQ_PANEL * DEPTH, c->out, COLUMNS);
}

static void call_matmul_taps(const bench_call *c) {
  const float *a = c->in, *b = a + DYNQ_PANEL * DEPTH;
  const dynq_taps_tile tile = {DYNQ_PANEL,   COLUMNS,    DEPTH, a,      DYNQ_PANEL, b,
                               given.offset, given.ones, true,  c->out, COLUMNS};
  c->kernels->vector.matmul_taps(&tile);
}

static void call_depthwise(const bench_call *c) {
  const size_t in[2] = {DEPTHWISE_ROWS + 2, COLUMNS + 2};
  const float *w = c->in;
  const dynq_depthwise rows = {.planes = 1,
                               .rows = DEPTHWISE_ROWS,
                               .columns = COLUMNS,
                               .in = {in[0], in[1]},
                               .stride = {1, 1},
                               .taps = {3, 3},
                               .step = {1, 1},
                               .x = w + DYNQ_PANEL,
                               .w = w,
                               .bias = given.ones,
                               .relu = true,
                               .y = c->out,
                               .y_plane = DEPTHWISE_ROWS * COLUMNS,
                               .y_stride = COLUMNS};
  c->kernels->vector.depthwise(&rows);
}

static void call_pool(const bench_call *c) {
  const dynq_pooling row = {.columns = COLUMNS,
                            .in = 2 * COLUMNS + 1,
                            .stride = 2,
                            .taps = 3,
                            .step = 1,
                            .lines = 3,
                            .x = c->in,
                            .x_stride = 2 * COLUMNS + 1,
                            .y = c->out};
  c->kernels->vector.pool(&row);
}

static void call_pack_transposed(const bench_call *c) {
  c->kernels->vector.pack_transposed(COLUMNS, DEPTH, c->in, DEPTH, c->out);
}

static void call_split(const bench_call *c) {
  c->kernels->vector.split(2, 2, LONGEST_TILE, c->in, c->out, LONGEST_TILE);
}

static void call_reduce(const bench_call *c) {
  bench_result.numbers[0] = c->kernels->vector.reduce(DYNQ_REDUCTION_SUM, c->length, c->in);
}

static void call_log_sum_exp(const bench_call *c) {
  bench_result.numbers[0] = c->kernels->vector.log_sum_exp(LONGEST_TILE, c->in);
}

static void call_softmax(const bench_call *c) {
  c->kernels->vector.softmax(TILE_ROWS, c->length, c->in, c->length, 1.0f, NULL, c->out, c->length);
}

static void call_log_softmax(const bench_call *c) { c->kernels->vector.log_softmax(LONGEST_TILE, c->in, c->out); }

static void call_layer_norm(const bench_call *c) {
  c->kernels->vector.layer_norm(TILE_ROWS, c->length, c->in, 1e-5f, given.ones, given.ones, c->out, NULL, NULL);
}

static void call_rms_norm(const bench_call *c) {
  c->kernels->vector.rms_norm(TILE_ROWS, c->length, c->in, 1e-5f, given.ones, c->out);
}

static void call_unary(const bench_call *c) {
  c->kernels->vector.unary(c->kernel->function, c->length, 0.0f, 0.0f, c->in, c->out);
}

/* `in` holds the sums, then what is projected, then a GRU's state. */
static dynq_cell_tile cell_tile(const bench_call *c) {
  const float *projected = (const float *)c->in + GATES * STATES;
  float *to = c->out;
  return (dynq_cell_tile){.m = TILE_ROWS,
                          .n = COLUMNS,
                          .acc = c->in,
                          .acc_stride = COLUMNS,
                          .acc_gate = STATES,
                          .row_scale = given.row_scale,
                          .row_zero_point = given.zero_point,
                          .stride = COLUMNS,
                          .column_scale = given.column_scale,
                          .column_sum = given.sums,
                          .bias = given.column_scale,
                          .projected = projected,
                          .projected_stride = GATES * COLUMNS,
                          .h = projected + GATES * STATES,
                          .to = to,
                          .c = to + STATES};
}

static void call_lstm(const bench_call *c) {
  const dynq_cell_tile tile = cell_tile(c);
  c->kernels->vector.lstm(&tile);
}

static void call_gru(const bench_call *c) {
  const dynq_cell_tile tile = cell_tile(c);
  c->kernels->vector.gru(&tile);
}

/* A tile of more rows than this instruction set's is done as several. */
static void call_gemm(const bench_call *c) {
  const dynq_gemm_kernels *gemm = c->kernels->gemm;
  const size_t columns = c->panels * DYNQ_PANEL;
  for (size_t i = 0; i < c->rows; i += gemm->rows) {
    const size_t left = c->rows - i, rows = left < gemm->rows ? left : gemm->rows;
    (c->kernel->add && gemm->add != NULL ? gemm->add : gemm->tile)(rows, c->panels, K / DYNQ_GROUP, given.lhs + i * K,
                                                                   K, c->in, PANEL_BYTES,
                                                                   bench_result.sums + i * columns, columns);
  }
}

/* ---- The list */

#define CALL(which) .slot = offsetof(dynq_vector_kernels, which), .call = call_##which
#define ACTIVATION(which) CALL(activate), .mix = BENCH_COPY, .activation = DYNQ_ACTIVATION_##which
#define UNARY(which) CALL(unary), .mix = BENCH_COPY, .function = DYNQ_UNARY_##which
#define GEMM(bytes) .call = call_gemm, .gemm = true, .mix = (bytes)
/* A call of a fixed size: float32 that are read, bytes that are written, products. */
#define FIXED(which, floats, bytes, macs)                                                                              \
  CALL(which), .mix = BENCH_MIXES, .in_bytes = 4 * (floats), .out_bytes = (bytes), .products = (macs)

const bench_kernel bench_kernel_list[] = {
    {.name = "range", CALL(range), .mix = BENCH_READ},
    {.name = "quantize", CALL(quantize), .mix = BENCH_NARROW},
    {.name = "dequantize", CALL(dequantize), .mix = BENCH_WIDEN},
    {.name = "gemm_tile", GEMM(BENCH_READ)},
    {.name = "gemv", GEMM(BENCH_READ), .single = true},
    {.name = "epilogue", CALL(epilogue), .tile = true, .mix = BENCH_COPY},
    {.name = "relu", ACTIVATION(RELU)},
    {.name = "sigmoid", ACTIVATION(SIGMOID)},
    {.name = "tanh", ACTIVATION(TANH)},
    {.name = "silu", ACTIVATION(SILU)},
    {.name = "gelu", ACTIVATION(GELU)},
    {.name = "gelu_tanh", ACTIVATION(GELU_TANH)},
    {.name = "exp", UNARY(Exp)},
    {.name = "erf", UNARY(Erf)},
    {.name = "sum", CALL(reduce), .mix = BENCH_READ},
    {.name = "softmax", CALL(softmax), .tile = true, .mix = BENCH_COPY},
    {.name = "layer_norm", CALL(layer_norm), .tile = true, .mix = BENCH_COPY},
    {.name = "rms_norm", CALL(rms_norm), .tile = true, .mix = BENCH_COPY},
    {.name = "gemm_add", GEMM(BENCH_MIXES), .add = true},
    {.name = "quantize_checked", FIXED(quantize_checked, LONGEST_ROW / 2, LONGEST_ROW / 2, 0)},
    {.name = "quantize_16", FIXED(quantize_16, LONGEST_ROW / 2, LONGEST_ROW, 0)},
    {.name = "add_8", FIXED(add_8, 4 * LONGEST_TILE, 4 * LONGEST_TILE, 0)},
    {.name = "add_16", FIXED(add_16, 5 * LONGEST_TILE, 4 * LONGEST_TILE, 0)},
    {.name = "range_taps", FIXED(range_taps, TAPS_SIZE, 8 * COLUMNS, 0)},
    {.name = "quantize_taps", FIXED(quantize_taps, TAPS_SIZE, COLUMNS *DEPTH, 0)},
    {.name = "matmul", FIXED(matmul, (TILE_ROWS + COLUMNS) * DEPTH, 4 * STATES, STATES *DEPTH)},
    {.name = "matmul_taps",
     FIXED(matmul_taps, DYNQ_PANEL *DEPTH + TAPS_SIZE, 4 * DYNQ_PANEL * COLUMNS, DYNQ_PANEL * COLUMNS * DEPTH)},
    {.name = "depthwise",
     FIXED(depthwise, DYNQ_PANEL + (DEPTHWISE_ROWS + 2) * (COLUMNS + 2), 4 * DEPTHWISE_ROWS * COLUMNS,
           9 * DEPTHWISE_ROWS * COLUMNS)},
    {.name = "pool", FIXED(pool, 3 * (2 * COLUMNS + 1), 4 * COLUMNS, 0)},
    {.name = "pack_transposed", FIXED(pack_transposed, COLUMNS *DEPTH, 4 * COLUMNS * DEPTH, 0)},
    {.name = "split", FIXED(split, 2 * LONGEST_TILE, 8 * LONGEST_TILE, 0)},
    {.name = "log_sum_exp", FIXED(log_sum_exp, LONGEST_TILE, 0, 0)},
    {.name = "log_softmax", FIXED(log_softmax, LONGEST_TILE, 4 * LONGEST_TILE, 0)},
    {.name = "lstm", FIXED(lstm, 2 * GATES * STATES, 8 * STATES, 0)},
    {.name = "gru", FIXED(gru, (2 * GATES + 1) * STATES, 4 * STATES, 0)},
};
const size_t bench_kernel_count = sizeof bench_kernel_list / sizeof bench_kernel_list[0];

bool bench_kernel_of(const bench_kernel *kernel, const dynq_isa_kernels *isa) {
  if (kernel->gemm) {
    return isa->gemm != NULL && (!kernel->add || isa->gemm->add != NULL);
  }
  void (*slot)(void);
  memcpy(&slot, (const char *)&isa->vector + kernel->slot, sizeof slot);
  return slot != NULL;
}

/* ---- Units */

void bench_work_cut(bench_work *work, const bench_kernel *kernel, const dynq_kernels *kernels, size_t bytes) {
  static const size_t in_size[BENCH_MIXES] = {4, 4, 1, 4}, out_size[BENCH_MIXES] = {0, 1, 4, 4};
  fill_given();
  *work = (bench_work){.call = {.kernel = kernel, .kernels = kernels}};
  bench_call *c = &work->call;
  if (kernel->gemm) {
    const size_t tile = kernels->gemm->panels, most = kernel->single ? (size_t)MOST_PANELS : tile;
    const size_t fitting = bytes / PANEL_BYTES, panels = fitting > tile ? fitting / tile * tile : fitting;
    c->rows = kernel->single ? 1 : kernels->gemm->rows;
    c->panels = panels / ((panels + most - 1) / most); /* calls of one size */
    work->in_bytes = c->panels * PANEL_BYTES;
    work->done = (double)(c->rows * work->in_bytes);
  } else if (kernel->mix == BENCH_MIXES) {
    work->in_bytes = kernel->in_bytes;
    work->out_bytes = kernel->out_bytes;
    work->done = (double)kernel->products;
  } else {
    const size_t each = in_size[kernel->mix] + out_size[kernel->mix];
    const size_t rows = kernel->tile ? TILE_ROWS : 1, longest = kernel->tile ? LONGEST_TILE : LONGEST_ROW;
    const size_t fitting = bytes / each / rows / ROW_STEP * ROW_STEP;
    c->length = fitting < longest ? fitting : longest;
    work->in_bytes = rows * c->length * in_size[kernel->mix];
    work->out_bytes = rows * c->length * out_size[kernel->mix];
    work->done = (double)(rows * c->length);
  }
  const size_t units = bytes / (work->in_bytes + work->out_bytes);
  work->units = units != 0 ? units : 1;
}

double bench_work_time(void *work, size_t count) {
  const bench_work w = *(const bench_work *)work;
  const dynq_gemm_kernels *gemm = w.call.kernels->gemm;
  const char *in = w.call.in;
  char *out = w.call.out;
  bench_call c = w.call;
  size_t unit = w.next; /* all in registers: little comes between two calls */
  if (c.kernel->gemm && gemm->enter != NULL) {
    gemm->enter();
  }
  const double start = bench_now();
  while (count-- > 0) {
    c.in = in + unit * w.in_bytes;
    c.out = out + unit * w.out_bytes;
    w.call.kernel->call(&c);
    unit = unit + 1 < w.units ? unit + 1 : 0;
  }
  const double took = bench_now() - start;
  if (c.kernel->gemm && gemm->leave != NULL) {
    gemm->leave();
  }
  ((bench_work *)work)->next = unit;
  return took;
}
