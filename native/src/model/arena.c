/*
 * Where buffers lie: each at an offset where nothing that is in use at the same time lies.
 */
#include "../alloc.h"
#include "model.h"

#include <stdlib.h>

enum { ALIGN = 64 };

/* Of pointers into one array; equal sizes: first come, first placed. */
static int larger_first(const void *a, const void *b) {
  const dynq_buffer *x = *(dynq_buffer *const *)a, *y = *(dynq_buffer *const *)b;
  if (x->bytes != y->bytes) {
    return x->bytes > y->bytes ? -1 : 1;
  }
  return x < y ? -1 : 1;
}

static bool meet(const dynq_buffer *a, const dynq_buffer *b) { return a->first <= b->last && b->first <= a->last; }

/* The tightest gap between those of `placed` (in the order of their offsets) that are in use together with `b`. */
static size_t best_offset(dynq_buffer *const *placed, size_t count, const dynq_buffer *b) {
  size_t best = SIZE_MAX, smallest = SIZE_MAX, reached = 0;
  for (size_t i = 0; i < count; i++) {
    if (meet(placed[i], b)) {
      if (placed[i]->offset > reached && placed[i]->offset - reached >= b->bytes &&
          placed[i]->offset - reached < smallest) {
        smallest = placed[i]->offset - reached;
        best = reached;
      }
      const size_t end = placed[i]->offset + placed[i]->bytes;
      reached = end > reached ? end : reached;
    }
  }
  return best != SIZE_MAX ? best : reached;
}

static void insert(dynq_buffer **placed, size_t count, dynq_buffer *b) {
  while (count > 0 && placed[count - 1]->offset > b->offset) {
    placed[count] = placed[count - 1];
    count--;
  }
  placed[count] = b;
}

dynq_status dynq_arena_place(dynq_buffer *buffers, size_t count, size_t *arena_bytes) {
  const size_t bytes = dynq_size_mul(count, 2 * sizeof(dynq_buffer *));
  dynq_buffer **sorted = dynq_alloc(bytes);
  if (sorted == NULL) {
    return dynq_fail_memory(bytes);
  }
  dynq_buffer **placed = sorted + count;
  size_t placed_count = 0, end = 0;
  for (size_t i = 0; i < count; i++) {
    const size_t padded = dynq_size_add(buffers[i].bytes, ALIGN - 1);
    buffers[i].bytes = padded == SIZE_MAX ? SIZE_MAX : padded / ALIGN * ALIGN;
    sorted[i] = &buffers[i];
  }
  qsort(sorted, count, sizeof *sorted, larger_first);
  for (size_t i = 0; i < count && end <= PTRDIFF_MAX; i++) {
    dynq_buffer *b = sorted[i];
    b->offset = 0;
    if (b->bytes != 0) { /* nothing lies anywhere */
      b->offset = best_offset(placed, placed_count, b);
      insert(placed, placed_count++, b);
      const size_t b_end = dynq_size_add(b->offset, b->bytes);
      end = b_end > end ? b_end : end;
    }
  }
  dynq_free(sorted);
  if (end > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_OUT_OF_MEMORY, "the tensors of this shape exceed the address space");
  }
  *arena_bytes = end;
  return DYNQ_OK;
}
