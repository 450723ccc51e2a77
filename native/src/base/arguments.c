/*
 * Checks of what a caller passed.
 */
#include "arguments.h"

#include "alloc.h"

#include <string.h>

static dynq_status check_pointer(const char *name, const void *p, size_t size) {
  if (p == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
  }
  if ((uintptr_t)p % size != 0) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s is not aligned to its elements of %zu bytes", name, size);
  }
  return DYNQ_OK;
}

dynq_status dynq_check_matrix(const char *name, const void *p, size_t rows, size_t columns, size_t stride,
                              size_t size) {
  if (rows == 0 || columns == 0) {
    return DYNQ_OK;
  }
  if (rows > 1 && stride < columns) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: the row stride is %zu; expected at least its %zu columns", name,
                     stride, columns);
  }
  const size_t last_row = rows > 1 ? dynq_size_mul(rows - 1, stride) : 0;
  if (dynq_size_mul(dynq_size_add(last_row, columns), size) > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s: %zu rows of %zu columns exceed the address space", name, rows,
                     columns);
  }
  return check_pointer(name, p, size);
}

dynq_status dynq_check_array(const char *name, const void *p, size_t count, size_t size) {
  return dynq_check_matrix(name, p, 1, count, count, size);
}

dynq_status dynq_check_scheme(dynq_scheme scheme) {
  if (scheme != DYNQ_ASYMMETRIC && scheme != DYNQ_SYMMETRIC) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "scheme is %d; expected DYNQ_ASYMMETRIC or DYNQ_SYMMETRIC",
                     (int)scheme);
  }
  return DYNQ_OK;
}

dynq_status dynq_check_granularity(dynq_granularity granularity) {
  if (granularity != DYNQ_PER_TENSOR && granularity != DYNQ_PER_ROW) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "granularity is %d; expected DYNQ_PER_TENSOR or DYNQ_PER_ROW",
                     (int)granularity);
  }
  return DYNQ_OK;
}

dynq_status dynq_check_type(dynq_type type) {
  if (type != DYNQ_U8 && type != DYNQ_S8) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "type is %d; expected DYNQ_U8 or DYNQ_S8", (int)type);
  }
  return DYNQ_OK;
}

dynq_status dynq_check_scales(const char *name, const float *scale, size_t count) {
  DYNQ_TRY(dynq_check_array(name, scale, count, sizeof *scale));
  for (size_t i = 0; i < count; i++) {
    uint32_t bits; /* not compared as floats: the caller's environment may take denormals for 0 */
    memcpy(&bits, &scale[i], sizeof bits);
    if (bits == 0 || bits >= 0x7f800000) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s[%zu] is %g; expected a finite number over 0", name, i,
                       (double)scale[i]);
    }
  }
  return DYNQ_OK;
}

dynq_status dynq_check_zero_points(const char *name, const int32_t *zero_point, size_t count, dynq_type type) {
  const int32_t low = type == DYNQ_U8 ? 0 : -128, high = low + 255;
  if (zero_point == NULL) {
    return DYNQ_OK;
  }
  DYNQ_TRY(dynq_check_array(name, zero_point, count, sizeof *zero_point));
  for (size_t i = 0; i < count; i++) {
    if (zero_point[i] < low || zero_point[i] > high) {
      return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s[%zu] is %ld; expected %ld to %ld", name, i, (long)zero_point[i],
                       (long)low, (long)high);
    }
  }
  return DYNQ_OK;
}
