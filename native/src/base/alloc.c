/*
 * Aligned memory and sizes that cannot overflow.
 */
#include "alloc.h"

#include <stdint.h>
#include <stdlib.h>

bool (*dynq_alloc_refuse)(size_t bytes);

void *dynq_alloc(size_t bytes) {
  void *p = NULL;
  if (bytes == SIZE_MAX || (dynq_alloc_refuse != NULL && dynq_alloc_refuse(bytes))) {
    return NULL;
  }
  return posix_memalign(&p, 64, bytes != 0 ? bytes : 1) == 0 ? p : NULL;
}

void dynq_free(void *p) { free(p); }

size_t dynq_size_mul(size_t a, size_t b) {
  if (a == SIZE_MAX || b == SIZE_MAX) {
    return SIZE_MAX;
  }
  return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

size_t dynq_size_add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
