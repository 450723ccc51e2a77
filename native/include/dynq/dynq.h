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
  DYNQ_CANCELLED = 2, /* dynq_session_cancel, or a session's poll(), ended the run */
  DYNQ_ERROR_INVALID_ARGUMENT = 10,
  DYNQ_ERROR_OUT_OF_MEMORY = 11,
  DYNQ_ERROR_OVERFLOW = 12,         /* an exact integer result does not fit into int32 */
  DYNQ_ERROR_FORMAT = 13,           /* a file is damaged, truncated, of a newer format, or not one of dynq's */
  DYNQ_ERROR_SYSTEM = 14,           /* the operating system refused: a file cannot be opened or mapped */
  DYNQ_ERROR_ISA_UNKNOWN = 20,      /* no instruction set of that name */
  DYNQ_ERROR_ISA_NOT_BUILT = 21,    /* not part of this build of the library */
  DYNQ_ERROR_ISA_NOT_SUPPORTED = 22 /* built, but this CPU or its operating system lacks it */
} dynq_status;

/* Returns a short English text for a status; never NULL. */
const char *dynq_status_string(dynq_status status);
/* Returns the message of the last call in this thread that did not return DYNQ_OK, or "" before the first. It is valid
 * until this thread's next such call. */
const char *dynq_last_error(void);
/* Returns the version of the library that runs as "major.minor.patch": DYNQ_VERSION of the header that it was built
 * with. */
const char *dynq_version(void);

/* ---- Instruction sets ------------------------------------------------------------------------ */

/* Returns how many instruction sets dynq knows, built or not. */
size_t dynq_isa_count(void);
/* Returns the name of an instruction set, best first; the last is "scalar". It is NULL if index >= dynq_isa_count().
 * Names stay valid for ever. */
const char *dynq_isa_name(size_t index);
/* Returns DYNQ_OK if the instruction set `name` can run here, otherwise one of the three DYNQ_ERROR_ISA_*. */
dynq_status dynq_isa_supported(const char *name);
/* Returns the names of the CPU features that `name` needs and this machine lacks, separated by spaces. The text says if
 * the operating system withholds them from a CPU that has them. It is "" if none is lacking or the name is unknown. */
const char *dynq_isa_missing(const char *name);
/* Chooses the instruction set of the whole process; NULL chooses the best again. Calls under way finish as they began.
 * Before the first call the environment variable DYNQ_ISA chooses. Fails with one of the three DYNQ_ERROR_ISA_* if
 * `name` cannot run here. */
dynq_status dynq_isa_select(const char *name);
/* Writes the name of the instruction set in use. Fails if DYNQ_ISA names one that cannot run and none was selected
 * since. */
dynq_status dynq_isa_selected(const char **name);

/* ---- Threads --------------------------------------------------------------------------------- */

/* A pool of threads of the caller. run() calls task(arg, i) once for each i in [0, count), from any threads, in any
 * order, and returns when all have returned. It may be called from several threads at once. */
typedef struct dynq_threads {
  size_t count; /* threads that may work at the same time, at least 1 */
  void (*run)(void *context, void (*task)(void *arg, size_t index), void *arg, size_t count);
  void *context;
} dynq_threads;

/* Sets how many threads calls use whose `threads` is NULL, those of the built-in pool: at most 512. At first there are
 * as many as the environment variable DYNQ_NUM_THREADS says, else OMP_NUM_THREADS (its first number, if it has several),
 * else as the CPU affinity and the cgroup's quota allow; 0 restores that. A DYNQ_NUM_THREADS that is no number from 1 to
 * 512 is an error of every call. OMP_NUM_THREADS is for many libraries: what is no number over 0 there counts as not set,
 * and more than 512 as 512. */
dynq_status dynq_set_num_threads(size_t count);
/* Writes how many threads such calls use. */
dynq_status dynq_get_num_threads(size_t *count);
/* Returns what the number comes from: "program" (dynq_set_num_threads), "DYNQ_NUM_THREADS", "OMP_NUM_THREADS",
 * "affinity" or "cgroup". */
const char *dynq_num_threads_from(void);

/* ---- Quantization ---------------------------------------------------------------------------- */

typedef enum dynq_scheme {
  DYNQ_ASYMMETRIC = 0, /* scale = (hi - lo) / 255, zero-point from lo */
  DYNQ_SYMMETRIC = 1   /* scale = max |x| / 127, zero-point 0 as int8 */
} dynq_scheme;

/* The values that share one scale and one zero-point: all, or those of a row. */
typedef enum dynq_granularity { DYNQ_PER_TENSOR = 0, DYNQ_PER_ROW = 1 } dynq_granularity;

/* The integers of a quantized left operand. In both schemes the uint8 numbers are the int8 ones plus 128. */
typedef enum dynq_type { DYNQ_U8 = 0, DYNQ_S8 = 1 } dynq_type;

/* Writes the range of each block of x (M, K): lo = min(0, min x), hi = max(0, max x). lo and hi have M elements with
 * DYNQ_PER_ROW, 1 with DYNQ_PER_TENSOR. A block with a NaN or an infinity gets NaN, and the call returns
 * DYNQ_NONFINITE. */
dynq_status dynq_minmax_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_granularity granularity,
                            const dynq_threads *threads, float *lo, float *hi);

/* Writes scale and zero_point of `count` ranges with lo <= 0 <= hi. Returns DYNQ_NONFINITE if a range is not finite. */
dynq_status dynq_choose_qparams(size_t count, const float *lo, const float *hi, dynq_scheme scheme, dynq_type type,
                                float *scale, int32_t *zero_point);

/* Writes q (M, K) = clamp(rint(x / scale) + zero_point) of x (M, K). scale and zero_point have M elements with
 * DYNQ_PER_ROW, 1 with DYNQ_PER_TENSOR. Scales are finite and over 0; zero-points lie in the type's range. The clamp is
 * to the type's range, in the symmetric scheme to [-127, 127] as int8. Returns DYNQ_NONFINITE if x holds a NaN or an
 * infinity. */
dynq_status dynq_quantize_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_scheme scheme,
                              dynq_granularity granularity, dynq_type type, const float *scale,
                              const int32_t *zero_point, const dynq_threads *threads, void *q, size_t q_stride);

/* Writes scale, zero_point and q of x (M, K) in one call, chosen from the ranges of x as dynq_linear_f32 does it to its
 * input. Sizes and errors are those of dynq_quantize_f32. */
dynq_status dynq_quantize_dynamic_f32(size_t m, size_t k, const float *x, size_t x_stride, dynq_scheme scheme,
                                      dynq_granularity granularity, dynq_type type, const dynq_threads *threads,
                                      void *q, size_t q_stride, float *scale, int32_t *zero_point);

/* Writes x (M, K) = float32(q - zero_point) * scale of q (M, K). Sizes of scale and zero_point are as in
 * dynq_quantize_f32. */
dynq_status dynq_dequantize_f32(size_t m, size_t k, const void *q, size_t q_stride, dynq_granularity granularity,
                                dynq_type type, const float *scale, const int32_t *zero_point,
                                const dynq_threads *threads, float *x, size_t x_stride);

/* ---- Weights --------------------------------------------------------------------------------- */

/* Packed weights of N output channels and K inputs, K at most 8 388 608. They never change, and threads may share them.
 */
typedef struct dynq_weight dynq_weight;

/* The contents of a packed weight, in panel layout. Pointers stay valid as long as the weight. */
typedef struct dynq_weight_info {
  size_t n, k;
  size_t n_padded;           /* n rounded up to 16: the length of the arrays below */
  size_t data_bytes;         /* ceil(n / 16) * ceil(k / 4) * 64 */
  const int8_t *data;        /* [ceil(n / 16)][ceil(k / 4)][16][4], aligned to 64 bytes, zero padded */
  const float *scale;        /* per channel, finite, over 0 */
  const int32_t *column_sum; /* sum over k of (w - zero_point) */
  const int32_t *zero_point; /* per channel, in [-128, 127]; NULL where all are 0 */
} dynq_weight_info;

/* Quantizes and packs w[n * row_stride + k * column_stride], float32: symmetric per channel, scale = max |w| / 127. The
 * two strides take a matrix (N, K) as torch.nn.Linear keeps it, or (K, N) as ONNX MatMul does. Returns DYNQ_NONFINITE,
 * and no weight, if w holds a NaN or an infinity. */
dynq_status dynq_weight_pack_f32(size_t n, size_t k, const float *w, size_t row_stride, size_t column_stride,
                                 const dynq_threads *threads, dynq_weight **weight);
/* Packs w[n * row_stride + k * column_stride], int8 or uint8 as `type` says, with its own scales (N). zero_point (N) is
 * in the same integers as w, or NULL: 0 for int8, 128 for uint8. */
dynq_status dynq_weight_pack_s8(size_t n, size_t k, const void *w, dynq_type type, size_t row_stride,
                                size_t column_stride, const float *scale, const int32_t *zero_point,
                                const dynq_threads *threads, dynq_weight **weight);
/* Makes a weight over memory that stays the caller's, such as a mapped file: nothing is copied. info->data_bytes and
 * info->n_padded must be what n and k give. data and the arrays must stay valid until dynq_weight_free. */
dynq_status dynq_weight_view(const dynq_weight_info *info, dynq_weight **weight);
/* Writes what a weight holds. Never fails; `weight` is not NULL. */
void dynq_weight_describe(const dynq_weight *weight, dynq_weight_info *info);
/* Writes the weight in float32: w (N, K) = float32(w - zero_point) * scale. */
dynq_status dynq_weight_dequantize_f32(const dynq_weight *weight, const dynq_threads *threads, float *w,
                                       size_t w_stride);
/* Writes the integers of the weight as they were packed, as int8: w (N, K). */
dynq_status dynq_weight_unpack_s8(const dynq_weight *weight, const dynq_threads *threads, int8_t *w, size_t w_stride);
/* Frees a weight. NULL is allowed. */
void dynq_weight_free(dynq_weight *weight);

/* ---- Linear ---------------------------------------------------------------------------------- */

typedef enum dynq_activation {
  DYNQ_ACTIVATION_NONE = 0,
  DYNQ_ACTIVATION_RELU = 1,
  DYNQ_ACTIVATION_SIGMOID = 2,
  DYNQ_ACTIVATION_TANH = 3,
  DYNQ_ACTIVATION_SILU = 4,         /* y * sigmoid(y) */
  DYNQ_ACTIVATION_GELU = 5,         /* y / 2 * (1 + erf(y / sqrt(2))) */
  DYNQ_ACTIVATION_GELU_TANH = 6,    /* y / 2 * (1 + tanh(sqrt(2 / pi) * (y + 0.044715 y^3))) */
  DYNQ_ACTIVATION_HARD_SWISH = 7,   /* y * clamp(y / 6 + 1 / 2, 0, 1) */
  DYNQ_ACTIVATION_MISH = 8,         /* y * tanh(log(1 + e^y)) */
  DYNQ_ACTIVATION_HARD_SIGMOID = 9, /* clamp(alpha y + beta, 0, 1) */
  DYNQ_ACTIVATION_LEAKY_RELU = 10   /* y, or alpha y where y < 0 */
} dynq_activation;

/* Steps that an output goes through, in this order; a struct of zeros does nothing. */
typedef struct dynq_epilogue {
  const float *bias;     /* (N) or NULL */
  const float *residual; /* (M, N) or NULL */
  size_t residual_stride;
  dynq_activation activation;
  float min, max;    /* clamp, where min < max; 0, 0 is none */
  float alpha, beta; /* of the activations that have them */
} dynq_epilogue;

/* Writes y (M, N) = activation(x w^T + bias + residual). x (M, K) is quantized as `scheme` and `granularity` say,
 * multiplied exactly in integers, and brought back to float32. Returns DYNQ_NONFINITE if x holds a NaN or an infinity;
 * the outputs of its block are NaN then. `epilogue` may be NULL. y may be epilogue->residual itself with the same
 * stride, and otherwise overlaps nothing. */
dynq_status dynq_linear_f32(const dynq_weight *weight, size_t m, const float *x, size_t x_stride, dynq_scheme scheme,
                            dynq_granularity granularity, const dynq_epilogue *epilogue, const dynq_threads *threads,
                            float *y, size_t y_stride);

/* Writes acc (M, N) = sum over k of (q - zero_point) * (w - w_zero_point), exact. q (M, K) is of `type`. zero_point has
 * M elements with DYNQ_PER_ROW, 1 with DYNQ_PER_TENSOR, or is NULL: all 0. Returns DYNQ_ERROR_OVERFLOW if a result does
 * not fit, which takes a K over 65 536, or over 32 768 if the weight has zero-points. */
dynq_status dynq_gemm_s32(const dynq_weight *weight, size_t m, const void *q, size_t q_stride, dynq_type type,
                          dynq_granularity granularity, const int32_t *zero_point, const dynq_threads *threads,
                          int32_t *acc, size_t acc_stride);

/* Writes y (M, N) = a b for each of `batch` pairs. a (M, K) and b (K, N) are both quantized while it runs: a as
 * dynq_linear_f32's input, b symmetric per column. `*_batch_stride` elements lie between two matrices; 0 uses the same
 * one for all. Element (k, n) of b is b[k * b_row_stride + n * b_column_stride]. */
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

/* A whole network from one file. It never changes, and threads may share it. */
typedef struct dynq_model dynq_model;
/* The memory that running a model takes: the places of its tensors, an arena, the shapes it was planned for. One thread
 * at a time may use it; any number of sessions run one model at once. */
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
 * must stay as it is until dynq_model_close. Returns DYNQ_ERROR_FORMAT if it is damaged, truncated or of a newer
 * format. */
dynq_status dynq_model_open(const char *path, dynq_model **model);
/* Opens a model from the file's bytes in memory that stays the caller's, aligned to 64 bytes. */
dynq_status dynq_model_open_memory(const void *bytes, size_t size, dynq_model **model);
/* Closes a model, whose sessions have been freed. NULL is allowed. */
void dynq_model_close(dynq_model *model);

/* Returns the bytes of the file, which stay until dynq_model_close. */
dynq_status dynq_model_bytes(const dynq_model *model, const void **bytes, size_t *size);
/* These three return how many inputs, outputs and nodes a model has. */
size_t dynq_model_input_count(const dynq_model *model);
size_t dynq_model_output_count(const dynq_model *model);
size_t dynq_model_node_count(const dynq_model *model);
/* Describes an input. */
dynq_status dynq_model_input(const dynq_model *model, size_t index, dynq_model_value *value);
/* Names an output. Its dtype and shape are known after a run. */
dynq_status dynq_model_output_name(const dynq_model *model, size_t index, const char **name);
/* Names a node and its op. Nodes are numbered in the order in which they run; those of bodies come behind all others. */
dynq_status dynq_model_node(const dynq_model *model, size_t index, const char **name, const char **op);

/* ---- The ops of models ---- */

/* Bits that say what an input or an output of an op is. */
typedef enum dynq_operand_flags {
  DYNQ_OPERAND_OPTIONAL = 1,  /* an input: a node may leave it out; an output: an op need not have it */
  DYNQ_OPERAND_VARIADIC = 2,  /* it stands for one or more of them */
  DYNQ_OPERAND_STATIC = 4,    /* sizes depend on its value; where only a run has it, planning ends before the node */
  DYNQ_OPERAND_PACKED = 8,    /* a packed weight, and no tensor */
  DYNQ_OPERAND_IN_PLACE = 16, /* output 0 may take its memory if both have equally many bytes */
  DYNQ_OPERAND_FLOAT32 = 32,  /* it is float32 */
  DYNQ_OPERAND_STATE = 64     /* a state of the session, which the op appends to */
} dynq_operand_flags;

typedef struct dynq_op_operand {
  const char *name;
  uint32_t flags; /* of dynq_operand_flags */
} dynq_op_operand;

/* The numbers are those of a model's file. */
typedef enum dynq_attribute_type {
  DYNQ_ATTRIBUTE_INT = 1,
  DYNQ_ATTRIBUTE_FLOAT = 2,
  DYNQ_ATTRIBUTE_STRING = 3,
  DYNQ_ATTRIBUTE_INTS = 4,
  DYNQ_ATTRIBUTE_FLOATS = 5,
  DYNQ_ATTRIBUTE_BODY = 6 /* the number of a body: a graph that the node runs */
} dynq_attribute_type;

typedef struct dynq_op_attribute {
  const char *name;
  dynq_attribute_type type;
  int required;       /* 1: each node has it; else 0 */
  int has_default;    /* 1: a node without it counts as one with the value below; else 0 */
  int64_t i;          /* the default if type is DYNQ_ATTRIBUTE_INT, */
  float f;            /* DYNQ_ATTRIBUTE_FLOAT */
  const char *string; /* or DYNQ_ATTRIBUTE_STRING; 0 and NULL otherwise */
} dynq_op_attribute;

/* The ways in which dtype and shape of output 0 follow from the inputs. "Broadcast" is as NumPy does it. */
typedef enum dynq_shape_rule {
  DYNQ_SHAPE_OWN = 0,        /* a rule of this op, which its documentation has */
  DYNQ_SHAPE_SAME = 1,       /* those of input 0 */
  DYNQ_SHAPE_SAME_BOOL = 2,  /* bool, the shape of input 0 */
  DYNQ_SHAPE_SAME_FLOAT = 3, /* float32, the shape of input 0 */
  DYNQ_SHAPE_BROADCAST = 4,  /* the dtype of input 0, the shape that all inputs are broadcast to */
  DYNQ_SHAPE_COMPARE = 5,    /* bool, the shape that all inputs are broadcast to */
  DYNQ_SHAPE_CHOOSE = 6,     /* the dtype of input 1, the shape that all inputs are broadcast to */
  DYNQ_SHAPE_REDUCE = 7,     /* input 0 without the axes in input 1; if that is left out or empty, without any axis, or,
                                  if the attribute noop_with_empty_axes is not 0, with all. The attribute keepdims, if it
                                  is not 0, leaves 1 in their place */
  DYNQ_SHAPE_ARG_REDUCE = 8, /* int64; input 0 without the axis of the attribute axis; keepdims as above */
  DYNQ_SHAPE_MATMUL = 9,     /* the dtype of input 0, the shape of the matrix product of inputs 0 and 1, whose leading
                                  dimensions are broadcast; a vector is a row on the left and a column on the right, and
                                  leaves out its 1 */
  DYNQ_SHAPE_MATMUL_INT32 = 10 /* int32, the shape as above */
} dynq_shape_rule;

/* Bits that say what an op does. */
typedef enum dynq_op_flags {
  DYNQ_OP_VIEW = 1,         /* output 0 is input 0 with another shape */
  DYNQ_OP_MOVES = 2,        /* the elements of the outputs are elements of the inputs, or constants */
  DYNQ_OP_ELEMENTWISE = 4,  /* each element is computed from those of the inputs at its place, broadcast */
  DYNQ_OP_SHAPES_ALONE = 8, /* the output depends on the shapes of the inputs alone */
  DYNQ_OP_EXACT = 16,       /* each element is exact, or rounded once as IEEE 754 says: another program that follows the
                               op's definition gets the same, but for the bits of a NaN */
  DYNQ_OP_CONTROL = 32,     /* it runs bodies */
  DYNQ_OP_STATEFUL = 64,    /* what it computes depends on what the session has kept */
  DYNQ_OP_SOURCE = 128      /* of what it keeps, the positions are those of the source that a decoder looks at */
} dynq_op_flags;

/* An op of models. Without "dynq." before its name it is the ONNX operator of the newest opset, with the same names of
 * inputs, outputs and attributes. All pointers stay valid for ever. */
typedef struct dynq_op_description {
  const char *name;
  size_t input_count, output_count, attribute_count;
  const dynq_op_operand *inputs; /* the required ones come first */
  const dynq_op_operand *outputs;
  const dynq_op_attribute *attributes;
  dynq_shape_rule shape_rule;
  uint32_t flags; /* of dynq_op_flags */
} dynq_op_description;

/* Returns how many ops there are. */
size_t dynq_op_count(void);
/* Returns the name of op `index`, in the library's order; NULL past the last. */
const char *dynq_op_name(size_t index);
/* Describes op `index`. Fails if there is none. */
dynq_status dynq_op_describe(size_t index, dynq_op_description *description);

/* ---- Running models ---- */

/* Options of dynq_session_new_with. A struct of zeros stands for what dynq_session_new does. */
typedef struct dynq_session_options {
  const dynq_threads *threads; /* NULL: the built-in pool; it must stay valid */
  /* Bytes that the tensors of a session may take: those in its arena and those that are computed while it is planned. A
   * run that would take more returns DYNQ_ERROR_OUT_OF_MEMORY before it takes them. 0: half of the machine's memory or
   * of what its control group allows, and no more than 512 MiB and 256 bytes for each byte of the file and the inputs.
   * SIZE_MAX: any number. */
  size_t max_bytes;
  /* NULL, or what the thread that runs the session calls about every 30 ms while it runs. If it does not return 0, the
   * run ends as by dynq_session_cancel. */
  int (*poll)(void *context);
  void *poll_context;
} dynq_session_options;

/* Makes a session of a model. `threads` must stay valid as long as it; NULL stands for the built-in pool. */
dynq_status dynq_session_new(const dynq_model *model, const dynq_threads *threads, dynq_session **session);
/* Makes a session with more options, which are copied; NULL stands for a struct of zeros. */
dynq_status dynq_session_new_with(const dynq_model *model, const dynq_session_options *options, dynq_session **session);
/* Frees a session. NULL is allowed. */
void dynq_session_free(dynq_session *session);

/* Runs a model once. inputs[i] is input i of the model and is copied; outputs[i] is filled with output i, whose data is
 * the session's and stays until its next run, so it cannot be an input of that. The first run of new shapes plans and
 * may allocate, and so may one after a change of threads or instruction set; others do not. In some models sizes depend
 * on values, as those of NonZero: each of their runs may allocate, and only after it the dims of outputs are known. An
 * input with a NaN or an
 * infinity makes what depends on it NaN, as in dynq_linear_f32, and the call returns DYNQ_NONFINITE if a quantized op
 * met one. */
dynq_status dynq_model_run(dynq_session *session, const dynq_tensor *inputs, dynq_tensor *outputs);

/* Ends the run under way, within about 10 ms of work: it returns DYNQ_CANCELLED, and the session can be used as before.
 * Does nothing to runs that begin later. Any thread and any signal handler may call it while the session exists. */
dynq_status dynq_session_cancel(dynq_session *session);

/* Sets whether the next runs keep every tensor, for dynq_session_tensor. Each takes memory of its own then. */
dynq_status dynq_session_keep_all(dynq_session *session, int keep);
/* Finds a tensor of the last run by its name: an input, a constant or an output, or after keep_all any other. */
dynq_status dynq_session_tensor(const dynq_session *session, const char *name, dynq_tensor *tensor);
/* Sets whether the next runs measure each node. */
dynq_status dynq_session_time_nodes(dynq_session *session, int measure);
/* Writes the nanoseconds that node `index` took in the last run; 0 if it was computed while planning. Those of a node in
 * a body are of all times that it ran, and count for the node that runs the body, too. */
dynq_status dynq_session_node_time(const dynq_session *session, size_t index, uint64_t *nanoseconds);
/* Writes 1 if another run with inputs of the same shapes may have outputs of other sizes, since these depend on values;
 * else 0. */
dynq_status dynq_session_sizes_vary(const dynq_session *session, int *vary);
/* Writes the bytes of the arena that the shapes of the last run take. What such a model computes from values, or in
 * bodies, lies elsewhere, and counts for max_bytes too. */
dynq_status dynq_session_arena_bytes(const dynq_session *session, size_t *bytes);

/* ---- State ---- */

/* A model may keep something between runs: the keys and values of a decoder's attention. It lies in the session, for each
 * sequence of the batch. A run appends what it computes, and begins where the sequence ends; if it fails, nothing has
 * changed. Sequences are numbered by their place in the batch. */

/* Writes how many positions a sequence can have; 0 if the model has no state. */
dynq_status dynq_model_positions(const dynq_model *model, size_t *most);
/* Writes how many positions of a source each sequence can have, such as those of an encoder's output, which have lengths of
 * their own; 0 if the model looks at none. */
dynq_status dynq_model_source_positions(const dynq_model *model, size_t *most);
/* Forgets everything: the next run begins new sequences. */
dynq_status dynq_session_reset(dynq_session *session);
/* Writes how many sequences the session keeps; 0 before the first run. */
dynq_status dynq_session_sequences(const dynq_session *session, size_t *count);
/* Writes how many positions of a sequence the session keeps. */
dynq_status dynq_session_length(const dynq_session *session, size_t sequence, size_t *length);
/* Forgets all positions of a sequence from `length` on; SIZE_MAX stands for all sequences. Those that are shorter stay
 * as they are. */
dynq_status dynq_session_truncate(dynq_session *session, size_t sequence, size_t length);
/* Makes sequence i what from[i] was; `count` of them. One may come several times, or not at all. */
dynq_status dynq_session_reorder(dynq_session *session, size_t count, const size_t *from);
/* Makes another session of the same model and options, which keeps the same. */
dynq_status dynq_session_fork(const dynq_session *session, dynq_session **copy);
/* Writes the bytes that dynq_session_save needs. */
dynq_status dynq_session_saved_bytes(const dynq_session *session, size_t *bytes);
/* Writes what the session keeps into `size` bytes at `to`. */
dynq_status dynq_session_save(const dynq_session *session, void *to, size_t size);
/* Keeps what was saved by a session of the same model, which may have been another process. Fails, and changes nothing, if
 * the bytes are of another model or damaged. */
dynq_status dynq_session_restore(dynq_session *session, const void *from, size_t size);

/* cffi: end */

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC visibility pop
#endif

#endif
