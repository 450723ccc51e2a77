/*
 * A heap of places, which are numbers of elements: no place lies under one that it comes before.
 */
#ifndef DYNQ_HEAP_H
#define DYNQ_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Returns whether place a belongs nearer to the root than place b. */
typedef bool dynq_heap_before(const void *context, int64_t a, int64_t b);

/* Sets position i of a heap of `count`, or one below it, to `place`. The positions lie `stride` elements apart. */
static inline void dynq_heap_sift(int64_t *heap, size_t stride, size_t count, size_t i, int64_t place,
                                  dynq_heap_before *before, const void *context) {
  for (size_t child; (child = 2 * i + 1) < count; i = child) {
    child += child + 1 < count && before(context, heap[(child + 1) * stride], heap[child * stride]);
    if (!before(context, heap[child * stride], place)) {
      break;
    }
    heap[i * stride] = heap[child * stride];
  }
  heap[i * stride] = place;
}

#endif
