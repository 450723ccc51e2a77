/*
 * dynq: neural networks on CPUs with dynamic INT8 quantization.
 *
 * Weights are int8 ahead of time; the scale and the zero-point of each activation are computed while
 * the model runs. Every function gives the same bits on every instruction set and thread count; the
 * rule is written in docs/numerics.md.
 *
 * Conventions
 *   - A fallible call returns dynq_status; outputs come last. After an error dynq_last_error() tells
 *     what came and what was expected.
 *   - Matrices are row-major. A stride is the number of elements between the starts of two rows.
 *   - Pointers to float and int32_t are aligned to 4 bytes. Outputs overlap no input and no other output.
 *   - M: rows of the left operand. K: its columns. N: output channels. Each may be 0.
 *   - No call aborts or prints. All are safe from several threads at once.
 *
 * Plain C11. Between the two "cffi" lines there is no preprocessor directive: the Python binding is
 * made from that text as it is.
 */
#ifndef DYNQ_DYNQ_H
#define DYNQ_DYNQ_H

#include <stddef.h>
#include <stdint.h>

/* The one place where the version is written; CMake and pyproject.toml read it here. */
#define DYNQ_VERSION "0.1.0"

#if defined(__GNUC__) || defined(__clang__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* ---- Status ---------------------------------------------------------------------------------- */

/* Values are fixed: a new one gets a new number. */
typedef enum dynq_status {
  DYNQ_OK = 0,
  /* The input holds a NaN or an infinity. Functions that write float have done their work and every
   * output that depends on a block with such a value is NaN; functions that write integers have not. */
  DYNQ_NONFINITE = 1,
  DYNQ_ERROR_INVALID_ARGUMENT = 10,
  DYNQ_ERROR_OUT_OF_MEMORY = 11,
  DYNQ_ERROR_OVERFLOW = 12,         /* an exact integer result does not fit into int32 */
  DYNQ_ERROR_FORMAT = 13,           /* a file is damaged, truncated, of a newer format, or not one of dynq's */
  DYNQ_ERROR_SYSTEM = 14,           /* the operating system refused: a file cannot be opened or mapped */
  DYNQ_ERROR_ISA_UNKNOWN = 20,      /* no instruction set of that name */
  DYNQ_ERROR_ISA_NOT_BUILT = 21,    /* not part of this build of the library */
  DYNQ_ERROR_ISA_NOT_SUPPORTED = 22 /* built, but this CPU or its operating system lacks it */
} dynq_status;

/* A short English text; never NULL. */
const char *dynq_status_string(dynq_status status);
/* The message of the last call in this thread that did not return DYNQ_OK; "" before the first.
 * Valid until this thread's next such call. */
const char *dynq_last_error(void);
/* "major.minor.patch" of the library that runs; equals DYNQ_VERSION of the header it was built with. */
const char *dynq_version(void);

/* ---- Instruction sets ------------------------------------------------------------------------ */

/* Instruction sets that dynq knows, best first; the last is "scalar". Names stay valid for ever. */
size_t dynq_isa_count(void);
/* NULL where index >= dynq_isa_count(). */
const char *dynq_isa_name(size_t index);
/* DYNQ_OK where `name` can run here, else which of the three DYNQ_ERROR_ISA_* it is. */
dynq_status dynq_isa_supported(const char *name);
/* Space-separated names of the CPU features that `name` needs and this machine lacks, and whether the operating system
 * withholds them from a CPU that has them; "" where it lacks none or the name is unknown. */
const char *dynq_isa_missing(const char *name);
/* Choose for the whole process. NULL chooses the best again. Calls under way finish as they began.
 * Before the first call the environment variable DYNQ_ISA chooses. */
dynq_status dynq_isa_select(const char *name);
/* Writes the name in use. Fails where DYNQ_ISA names one that cannot run and none was selected since. */
dynq_status dynq_isa_selected(const char **name);

/* ---- Threads --------------------------------------------------------------------------------- */

/* The caller's own pool. run() calls task(arg, i) once for each i in [0, count), from any threads, in
 * any order, and returns when all have returned. It may be called from several threads at once. */
typedef struct dynq_threads {
  size_t count; /* threads that may work at the same time, at least 1 */
  void (*run)(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count);
  void *context;
} dynq_threads;

/* Threads of the built-in pool, used where a call's `threads` is NULL. At first as many as the
 * environment variable DYNQ_NUM_THREADS says, else as the CPU affinity and the cgroup's quota allow.
 * 0 restores that. At most 512. */
dynq_status dynq_set_num_threads(size_t count);
dynq_status dynq_get_num_threads(size_t *count);

/* ---- Quantization ---------------------------------------------------------------------------- */

typedef enum dynq_scheme {
  DYNQ_ASYMMETRIC = 0, /* scale = (hi - lo) / 255, zero-point from lo */
  DYNQ_SYMMETRIC = 1   /* scale = max |x| / 127, zero-point 0 as int8 */
} dynq_scheme;

/* Which values share one scale and one zero-point. */
typedef enum dynq_granularity { DYNQ_PER_TENSOR = 0, DYNQ_PER_ROW = 1 } dynq_granularity;

/* The integers of a quantized left operand. uint8 numbers are the int8 ones plus 128, both schemes. */
typedef enum dynq_type { DYNQ_U8 = 0, DYNQ_S8 = 1 } dynq_type;

/* Range of each block of x (M, K): lo = min(0, min x), hi = max(0, max x). lo and hi have M elements
 * per row, 1 per tensor. A block with a NaN or an infinity gets NaN and the call returns DYNQ_NONFINITE. */
dynq_status dynq_minmax_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_granularity granularity,
                            const dynq_threads *threads, float *lo, float *hi);

/* scale and zero_point of `count` ranges with lo <= 0 <= hi. DYNQ_NONFINITE where a range is not finite. */
dynq_status dynq_choose_qparams(size_t count, const float *lo, const float *hi, dynq_scheme scheme, dynq_type type,
                                float *scale, int32_t *zero_point);

/* q = clamp(rint(x / scale) + zero_point) of x (M, K). scale and zero_point have M elements per row,
 * 1 per tensor. Scales are finite and over 0; zero-points lie in the type's range. The clamp is to the
 * type's range, symmetric: to [-127, 127] as int8. */
dynq_status dynq_quantize_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_scheme scheme,
                              dynq_granularity granularity, dynq_type type, const float *scale,
                              const int32_t *zero_point, const dynq_threads *threads, void *q, size_t q_stride);

/* Range, scale, zero-point and integers of x (M, K) in one call: what dynq_linear_f32 does to its input. */
dynq_status dynq_quantize_dynamic_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_scheme scheme,
                                      dynq_granularity granularity, dynq_type type, const dynq_threads *threads,
                                      void *q, size_t q_stride, float *scale, int32_t *zero_point);

/* x = float32(q - zero_point) * scale of q (M, K). */
dynq_status dynq_dequantize_f32(size_t m, size_t k, const void *q, size_t q_stride, dynq_granularity granularity,
                                dynq_type type, const float *scale, const int32_t *zero_point,
                                const dynq_threads *threads, float *x, size_t x_stride);

/* ---- Weights --------------------------------------------------------------------------------- */

/* Packed weights of N output channels and K inputs, K at most 8 388 608. Immutable, shared by threads. */
typedef struct dynq_weight dynq_weight;

/* What a packed weight holds: the panel layout. Pointers stay valid as long as the weight. */
typedef struct dynq_weight_info {
  size_t n, k;
  size_t n_padded;           /* n rounded up to 16: the length of the arrays below */
  size_t data_bytes;         /* ceil(n / 16) * ceil(k / 4) * 64 */
  const int8_t *data;        /* [ceil(n / 16)][ceil(k / 4)][16][4], aligned to 64 bytes, zero padded */
  const float *scale;        /* per channel, finite, over 0 */
  const int32_t *column_sum; /* sum over k of (w - zero_point) */
  const int32_t *zero_point; /* per channel, in [-128, 127]; NULL where all are 0 */
} dynq_weight_info;

/* w[n * row_stride + k * column_stride], float32: symmetric per channel, scale = max |w| / 127. The two
 * strides take a matrix (N, K) as torch.nn.Linear keeps it, or (K, N) as ONNX MatMul does. */
dynq_status dynq_weight_pack_f32(size_t n, size_t k, const float *w, size_t row_stride, size_t column_stride,
                                 const dynq_threads *threads, dynq_weight **weight);
/* w[n * row_stride + k * column_stride] as int8 or uint8 with its own scales (N). zero_point (N) is of the
 * same integers as w, or NULL: 0 for int8, 128 for uint8. */
dynq_status dynq_weight_pack_s8(size_t n, size_t k, const void *w, dynq_type type, size_t row_stride,
                                size_t column_stride, const float *scale, const int32_t *zero_point,
                                const dynq_threads *threads, dynq_weight **weight);
/* A weight over memory that stays the caller's (a mapped file): nothing is copied. info->data_bytes and
 * info->n_padded must be what n and k give; data and the arrays stay valid until dynq_weight_free. */
dynq_status dynq_weight_view(const dynq_weight_info *info, dynq_weight **weight);
/* Never fails; `weight` is not NULL. */
void dynq_weight_describe(const dynq_weight *weight, dynq_weight_info *info);
/* w (N, K) = float32(w - zero_point) * scale. */
dynq_status dynq_weight_dequantize_f32(const dynq_weight *weight, const dynq_threads *threads, float *w,
                                       size_t w_stride);
/* w (N, K): the integers as they were packed, as int8. */
dynq_status dynq_weight_unpack_s8(const dynq_weight *weight, const dynq_threads *threads, int8_t *w, size_t w_stride);
/* NULL is allowed. */
void dynq_weight_free(dynq_weight *weight);

/* ---- Linear ---------------------------------------------------------------------------------- */

typedef enum dynq_activation {
  DYNQ_ACTIVATION_NONE = 0,
  DYNQ_ACTIVATION_RELU = 1,
  DYNQ_ACTIVATION_SIGMOID = 2,
  DYNQ_ACTIVATION_TANH = 3,
  DYNQ_ACTIVATION_SILU = 4,     /* y * sigmoid(y) */
  DYNQ_ACTIVATION_GELU = 5,     /* y / 2 * (1 + erf(y / sqrt(2))) */
  DYNQ_ACTIVATION_GELU_TANH = 6 /* y / 2 * (1 + tanh(sqrt(2 / pi) * (y + 0.044715 y^3))) */
} dynq_activation;

/* What happens to an output, in this order; a struct of zeros does nothing. */
typedef struct dynq_epilogue {
  const float *bias;     /* (N) or NULL */
  const float *residual; /* (M, N) or NULL */
  size_t residual_stride;
  dynq_activation activation;
  float min, max; /* clamp, where min < max; 0, 0 is none */
} dynq_epilogue;

/* y (M, N) = activation(x w^T + bias + residual): x (M, K) is quantized as `scheme` and `granularity` say,
 * multiplied exactly in integers, and brought back to float32. `epilogue` may be NULL. y may be
 * epilogue->residual itself with the same stride, and otherwise overlaps nothing. */
dynq_status dynq_linear_f32(const dynq_weight *weight, size_t m, const float *x, size_t x_stride, dynq_scheme scheme,
                            dynq_granularity granularity, const dynq_epilogue *epilogue, const dynq_threads *threads,
                            float *y, size_t y_stride);

/* acc (M, N) = sum over k of (q - zero_point) * (w - w_zero_point), exact. q (M, K) is of `type`; zero_point
 * has M elements per row, 1 per tensor, or is NULL: all 0. DYNQ_ERROR_OVERFLOW where a result does not
 * fit, which takes a K over 65 536 (over 32 768 where the weight has zero-points). */
dynq_status dynq_gemm_s32(const dynq_weight *weight, size_t m, const void *q, size_t q_stride, dynq_type type,
                          dynq_granularity granularity, const int32_t *zero_point, const dynq_threads *threads,
                          int32_t *acc, size_t acc_stride);

/* y (M, N) = a b for each of `batch` pairs, a (M, K) and b (K, N) both quantized while it runs: a as
 * dynq_linear_f32's input, b symmetric per column. `*_batch_stride` elements lie between two matrices;
 * 0 uses the same one for all. b[k * b_row_stride + n * b_column_stride]. */
dynq_status dynq_matmul_f32(size_t batch, size_t m, size_t n, size_t k, const float *a, size_t a_batch_stride,
                            size_t a_stride, const float *b, size_t b_batch_stride, size_t b_row_stride,
                            size_t b_column_stride, dynq_scheme scheme, dynq_granularity granularity,
                            const dynq_threads *threads, float *y, size_t y_batch_stride, size_t y_stride);

/* ---- Models ---------------------------------------------------------------------------------- */

enum { DYNQ_MAX_RANK = 8 };

typedef enum dynq_dtype {
  DYNQ_FLOAT32 = 0,
  DYNQ_INT64 = 1,
  DYNQ_INT32 = 2,
  DYNQ_BOOL = 3, /* a byte, 0 or 1 */
  DYNQ_UINT8 = 4,
  DYNQ_INT8 = 5
} dynq_dtype;

/* A whole network from one file. Immutable, shared by threads. */
typedef struct dynq_model dynq_model;
/* What running a model takes: the places of its tensors, an arena, the shapes it was planned for. One thread at a time
 * may use it; any number of sessions run one model at once. */
typedef struct dynq_session dynq_session;

/* An array, row-major without gaps. */
typedef struct dynq_tensor {
  dynq_dtype dtype;
  size_t rank;
  size_t dims[8]; /* DYNQ_MAX_RANK */
  const void *data;
} dynq_tensor;

/* An input or output of a model. */
typedef struct dynq_model_value {
  const char *name;
  dynq_dtype dtype;
  size_t rank;
  int64_t dims[8];          /* -1: any size */
  const char *dim_names[8]; /* of an any-sized one: equal names stand for equal sizes; NULL: it has none */
} dynq_model_value;

/* Opens a .dynq file. It is mapped, not read: weights are paged in when first used and shared between processes, and it
 * must stay as it is until dynq_model_close. DYNQ_ERROR_FORMAT where it is damaged, truncated or of a newer format. */
dynq_status dynq_model_open(const char *path, dynq_model **model);
/* The same from the file's bytes in memory that stays the caller's, aligned to 64 bytes. */
dynq_status dynq_model_open_memory(const void *bytes, size_t size, dynq_model **model);
/* NULL is allowed. Its sessions have been freed. */
void dynq_model_close(dynq_model *model);

size_t dynq_model_input_count(const dynq_model *model);
size_t dynq_model_output_count(const dynq_model *model);
size_t dynq_model_node_count(const dynq_model *model);
dynq_status dynq_model_input(const dynq_model *model, size_t index, dynq_model_value *value);
/* Outputs: dims are -1 and rank is 0 where only a plan tells them; dtype is right after a run. */
dynq_status dynq_model_output_name(const dynq_model *model, size_t index, const char **name);
/* Name and op of a node, in the order in which they run. */
dynq_status dynq_model_node(const dynq_model *model, size_t index, const char **name, const char **op);
/* The ops that models can have, in the library's order; NULL past the last. */
const char *dynq_op_name(size_t index);

/* A session. `threads` may be NULL: the built-in pool; it must stay valid. */
dynq_status dynq_session_new(const dynq_model *model, const dynq_threads *threads, dynq_session **session);
/* NULL is allowed. */
void dynq_session_free(dynq_session *session);

/* One inference. inputs[i] is input i of the model and is copied; outputs[i] is filled with output i, whose data is the
 * session's and stays until its next run, so it cannot be an input of that. The first run of new shapes plans and may
 * allocate, and so may one after a change of threads or instruction set; others do not. An input with a NaN or an
 * infinity makes what depends on it NaN, as in dynq_linear_f32, and the call returns DYNQ_NONFINITE where a quantized
 * op met one. */
dynq_status dynq_model_run(dynq_session *session, const dynq_tensor *inputs, dynq_tensor *outputs);

/* Keep every tensor of the next runs, for dynq_session_tensor (each takes memory of its own then). */
dynq_status dynq_session_keep_all(dynq_session *session, int keep);
/* Any tensor of the last run by its name: of inputs, constants and outputs, and of the others after keep_all. */
dynq_status dynq_session_tensor(const dynq_session *session, const char *name, dynq_tensor *tensor);
/* Measure each node in the next runs. */
dynq_status dynq_session_time_nodes(dynq_session *session, int measure);
/* Nanoseconds of node `index` in the last run; 0 where it was computed while planning. */
dynq_status dynq_session_node_time(const dynq_session *session, size_t index, uint64_t *nanoseconds);
/* Bytes of the arena that the last run's shapes take. */
dynq_status dynq_session_arena_bytes(const dynq_session *session, size_t *bytes);

/* cffi: end */

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC visibility pop
#endif

#endif
