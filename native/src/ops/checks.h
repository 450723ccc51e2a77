/*
 * Checks that the infer() of many ops share.
 */
#ifndef DYNQ_CHECKS_H
#define DYNQ_CHECKS_H

#include "../base/alloc.h"
#include "../base/status.h"
#include "op.h"

/* Sets of dtypes. */
#define DYNQ_SET(dtype) (1u << (unsigned)(dtype))
#define DYNQ_SET_FLOAT DYNQ_SET(DYNQ_FLOAT32)
#define DYNQ_SET_BOOL DYNQ_SET(DYNQ_BOOL)
#define DYNQ_SET_BYTES (DYNQ_SET(DYNQ_UINT8) | DYNQ_SET(DYNQ_INT8))
#define DYNQ_SET_INDEX (DYNQ_SET(DYNQ_INT64) | DYNQ_SET(DYNQ_INT32))
#define DYNQ_SET_INTEGER (DYNQ_SET_INDEX | DYNQ_SET_BYTES)
#define DYNQ_SET_NUMERIC (DYNQ_SET_FLOAT | DYNQ_SET_INTEGER)
#define DYNQ_SET_ANY (DYNQ_SET_NUMERIC | DYNQ_SET_BOOL)

/* An array of the functions name_<dtype> of the numeric dtypes, indexed by dtype. */
#define DYNQ_FOR_NUMERIC(name)                                                                                         \
  {[DYNQ_FLOAT32] = name##_float32,                                                                                    \
   [DYNQ_INT64] = name##_int64,                                                                                        \
   [DYNQ_INT32] = name##_int32,                                                                                        \
   [DYNQ_UINT8] = name##_uint8,                                                                                        \
   [DYNQ_INT8] = name##_int8}

/* Input i is there and its dtype is in the set. */
dynq_status dynq_op_expect(const dynq_op_node *node, size_t i, unsigned dtypes);
/* Inputs first to input_count are there and have the dtype of input `first`, which is in the set. */
dynq_status dynq_op_expect_same(const dynq_op_node *node, size_t first, unsigned dtypes);
/* Input i has this rank. */
dynq_status dynq_op_expect_rank(const dynq_op_node *node, size_t i, size_t rank);
/* Input i, static, int64 or int32 of rank 0 or 1 and at most `max` elements, into `values`. */
dynq_status dynq_op_static_values(const dynq_op_node *node, size_t i, size_t max, size_t *count, int64_t *values);
/* The ints of an attribute, exactly `count`; `otherwise` for all if it is left out. */
dynq_status dynq_op_ints(const dynq_op_node *node, size_t attribute, size_t count, int64_t otherwise, int64_t *values);
/* Reads an attribute that is an axis and has a default. */
dynq_status dynq_op_axis_attribute(const dynq_op_node *node, size_t attribute, size_t rank, size_t *axis);
/* `count` distinct axes, negative ones counted from the end: at[i] is axis i; a bit of *set for each. */
dynq_status dynq_op_axes(size_t count, const int64_t *axes, size_t rank, size_t *at, unsigned *set);
/* From ONNX's number of a type, as in Cast's `to`. */
dynq_status dynq_op_dtype_of_onnx(int64_t number, dynq_dtype *dtype);

/* Input i, where it is given, is int64 with one element for each of `count` sequences. */
dynq_status dynq_op_check_lengths(const dynq_op_node *node, size_t i, size_t count);

/* Returns whether a string attribute, or else its default, is `text`; false if it has neither. */
bool dynq_op_string_is(const dynq_op_node *node, size_t attribute, const char *text);
/* Returns which of `count` names it is; `count` if none. */
size_t dynq_op_choice(const dynq_op_node *node, size_t attribute, size_t count, const char *const *names);

/* Product of dims [from, to); SIZE_MAX if it overflows, which takes another axis of size 0. */
static inline size_t dynq_op_product(const dynq_op_tensor *t, size_t from, size_t to) {
  size_t product = 1;
  for (size_t i = from; i < to; i++) {
    product = dynq_size_mul(product, t->dims[i]);
  }
  return product;
}

/* Gives output `i` the dtype and the shape of `t`. */
static inline dynq_status dynq_op_set_like(dynq_op_node *node, size_t i, const dynq_op_tensor *t) {
  dynq_op_set_output(node, i, t->dtype, t->rank, t->dims);
  return DYNQ_OK;
}

/* Element i of a tensor of integers or bools. */
static inline int64_t dynq_op_integer(const dynq_op_tensor *t, size_t i) {
  return t->dtype == DYNQ_UINT8 || t->dtype == DYNQ_BOOL ? ((const uint8_t *)t->data)[i]
         : t->dtype == DYNQ_INT8                         ? ((const int8_t *)t->data)[i]
                                                         : dynq_op_value(t, i);
}
/* Writes it, modulo 2 to the dtype's bits. */
static inline void dynq_op_set_integer(const dynq_op_tensor *t, size_t i, int64_t value) {
  if (t->dtype == DYNQ_INT64) {
    ((int64_t *)t->data)[i] = value;
  } else if (t->dtype == DYNQ_INT32) {
    ((int32_t *)t->data)[i] = (int32_t)(uint32_t)value;
  } else {
    ((uint8_t *)t->data)[i] = (uint8_t)value;
  }
}

/* Input `i`, static, as sizes of 0 or more. */
dynq_status dynq_op_static_shape(const dynq_op_node *node, size_t i, size_t *rank, size_t *dims);

#endif
