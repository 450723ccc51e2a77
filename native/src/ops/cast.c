/*
 * Cast and CastLike. From float32 to an integer: towards zero, clamped to the integer's range, NaN becomes 0. From an
 * integer to a smaller one: the low bits. To bool: whether it is not 0, NaN included.
 */
#include "checks.h"
#include "walk.h"

static inline int64_t int64_of_float(float x) {
  return x >= 0x1p63f ? INT64_MAX : x < -0x1p63f ? INT64_MIN : x != x ? 0 : (int64_t)x;
}
static inline int32_t int32_of_float(float x) {
  return x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : x != x ? 0 : (int32_t)x;
}
static inline uint8_t uint8_of_float(float x) { return x >= 255.0f ? 255 : x > 0.0f ? (uint8_t)x : 0; }
static inline int8_t int8_of_float(float x) { return x >= 127.0f ? 127 : x <= -128.0f ? -128 : x != x ? 0 : (int8_t)x; }

typedef struct cast_job {
  const void *from;
  void *to;
} cast_job;

#define CAST(name, FROM, TO, EXPRESSION)                                                                               \
  static void name(const void *arg, size_t begin, size_t end) {                                                        \
    const cast_job *job = arg;                                                                                         \
    const FROM *from = job->from;                                                                                      \
    TO *to = job->to;                                                                                                  \
    for (size_t i = begin; i < end; i++) {                                                                             \
      const FROM x = from[i];                                                                                          \
      to[i] = EXPRESSION;                                                                                              \
    }                                                                                                                  \
  }
CAST(float_to_int64, float, int64_t, int64_of_float(x))
CAST(float_to_int32, float, int32_t, int32_of_float(x))
CAST(float_to_uint8, float, uint8_t, uint8_of_float(x))
CAST(float_to_int8, float, int8_t, int8_of_float(x))
CAST(float_to_bool, float, uint8_t, x != 0.0f)
/* A bool is read as a uint8. */
#define FROM_INTEGER(name, FROM)                                                                                       \
  CAST(name##_to_float, FROM, float, (float)x)                                                                         \
  CAST(name##_to_int64, FROM, int64_t, (int64_t)x)                                                                     \
  CAST(name##_to_int32, FROM, int32_t, (int32_t)x)                                                                     \
  CAST(name##_to_8, FROM, uint8_t, (uint8_t)x)                                                                         \
  CAST(name##_to_bool, FROM, uint8_t, x != 0)
FROM_INTEGER(int64, int64_t)
FROM_INTEGER(int32, int32_t)
FROM_INTEGER(uint8, uint8_t)
FROM_INTEGER(int8, int8_t)
#undef FROM_INTEGER

typedef void (*cast_body)(const void *arg, size_t begin, size_t end);

#define OF_INTEGER(name)                                                                                               \
  {                                                                                                                    \
      [DYNQ_FLOAT32] = name##_to_float, [DYNQ_INT64] = name##_to_int64, [DYNQ_INT32] = name##_to_int32,                \
      [DYNQ_BOOL] = name##_to_bool,     [DYNQ_UINT8] = name##_to_8,     [DYNQ_INT8] = name##_to_8,                     \
  }
/* [from][to]; float32 to float32 is a copy of the bits. */
static const cast_body casts[DYNQ_INT8 + 1][DYNQ_INT8 + 1] = {
    [DYNQ_FLOAT32] = {[DYNQ_FLOAT32] = int32_to_int32,
                      [DYNQ_INT64] = float_to_int64,
                      [DYNQ_INT32] = float_to_int32,
                      [DYNQ_BOOL] = float_to_bool,
                      [DYNQ_UINT8] = float_to_uint8,
                      [DYNQ_INT8] = float_to_int8},
    [DYNQ_INT64] = OF_INTEGER(int64),
    [DYNQ_INT32] = OF_INTEGER(int32),
    [DYNQ_BOOL] = OF_INTEGER(uint8),
    [DYNQ_UINT8] = OF_INTEGER(uint8),
    [DYNQ_INT8] = OF_INTEGER(int8),
};

DYNQ_SAME_IN(Cast, input, CastLike, input);

static dynq_status run(const dynq_op_node *node) {
  const dynq_op_tensor *x = DYNQ_INPUT(node, Cast, input), *out = node->outputs[0];
  const cast_job job = {x->data, out->data};
  dynq_op_parallel(node, out->count, out->count * sizeof(float), casts[x->dtype][out->dtype], &job);
  return DYNQ_OK;
}

/* `saturate` is about 8-bit floats and `round_mode` about one of them, which dynq does not have. */
static dynq_status infer_cast(dynq_op_node *node) {
  dynq_dtype dtype;
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(Cast, input), DYNQ_SET_ANY));
  if (!node->attributes[DYNQ_ATTR(Cast, to)].present) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "attribute to is left out; expected the number of an ONNX type");
  }
  DYNQ_TRY(dynq_op_dtype_of_onnx(node->attributes[DYNQ_ATTR(Cast, to)].i, &dtype));
  dynq_op_set_output(node, 0, dtype, DYNQ_INPUT(node, Cast, input)->rank, DYNQ_INPUT(node, Cast, input)->dims);
  return DYNQ_OK;
}

static dynq_status infer_cast_like(dynq_op_node *node) {
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(CastLike, input), DYNQ_SET_ANY));
  DYNQ_TRY(dynq_op_expect(node, DYNQ_IN(CastLike, target_type), DYNQ_SET_ANY));
  const dynq_op_tensor *x = DYNQ_INPUT(node, CastLike, input);
  dynq_op_set_output(node, 0, DYNQ_INPUT(node, CastLike, target_type)->dtype, x->rank, x->dims);
  return DYNQ_OK;
}

const dynq_op_code dynq_op_Cast = {infer_cast, run};

const dynq_op_code dynq_op_CastLike = {infer_cast_like, run};
