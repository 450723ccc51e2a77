/*
 * Indices of elements, as the gathering and the scattering ops read them.
 */
#ifndef DYNQ_GATHER_H
#define DYNQ_GATHER_H

#include "checks.h"

/* Every index is in [-size, size). */
dynq_status dynq_check_indices(const dynq_op_tensor *indices, size_t size);
/* For GatherElements and ScatterElements: the indices have the data's rank and nowhere but along `axis` a larger size. */
dynq_status dynq_check_element_indices(const dynq_op_tensor *x, const dynq_op_tensor *indices, size_t axis);
/* For GatherND and ScatterND: every tuple is a place in x along the axes from `first` on. */
dynq_status dynq_check_tuples(const dynq_op_tensor *x, const dynq_op_tensor *indices, size_t first);

static inline size_t dynq_wrapped_index(int64_t index, size_t size) {
  return index < 0 ? size - (size_t)-index : (size_t)index;
}

/* The axis along which indices of elements run: its size, its stride in bytes, the bytes of an element. */
typedef struct dynq_element_axis {
  size_t size;
  ptrdiff_t stride;
  size_t element;
  bool wide; /* indices are int64, else int32 */
} dynq_element_axis;

static inline size_t dynq_index_at(const dynq_element_axis *axis, const void *p) {
  return dynq_wrapped_index(axis->wide ? *(const int64_t *)p : *(const int32_t *)p, axis->size);
}

/* The number of the slice of x that the tuple at indices[at] names, in place `batch` of the `first` axes. */
static inline size_t dynq_tuple_place(const dynq_op_tensor *x, const dynq_op_tensor *indices, size_t at, size_t first,
                                      size_t width, size_t batch) {
  size_t place = batch;
  for (size_t d = 0; d < width; d++) {
    const size_t size = x->dims[first + d];
    place = place * size + dynq_wrapped_index(dynq_op_value(indices, at + d), size);
  }
  return place;
}

#endif
