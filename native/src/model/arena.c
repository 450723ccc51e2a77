/*
 * Gives each buffer an offset where nothing that is in use at the same time lies, in n log n steps for n buffers.
 *
 * Two trees find what a buffer meets. One lies over the buffers in the order in which they come into use; it lists the
 * placed ones that are in use together with another. The other lies over time; it knows the highest byte in use.
 */
#include "../base/alloc.h"
#include "model.h"

#include <stdlib.h>

enum {
  ALIGN = 64,
  MOST_NEIGHBOURS = 256 /* a buffer that meets more is placed above them all: gaps are not looked for */
};

/* Compares pointers into one array; equal sizes: first come, first placed. */
static int larger_first(const void *a, const void *b) {
  const dynq_buffer *x = *(dynq_buffer *const *)a, *y = *(dynq_buffer *const *)b;
  if (x->bytes != y->bytes) {
    return x->bytes > y->bytes ? -1 : 1;
  }
  return x < y ? -1 : 1;
}

typedef struct placer {
  dynq_buffer *buffers;
  size_t count, leaves; /* leaves: a power of two, at least count */
  dynq_buffer **by_first;
  size_t *latest; /* tree over by_first: 1 + `last` of placed buffers at the most, 0 if there is none */
  size_t times;   /* leaves of the tree over time, a power of two */
  size_t *inside; /* tree over time: the highest end of buffers that are in use in all of a node's span, */
  size_t *within; /* and of those in use in any part of it */
  dynq_buffer **neighbours;
} placer;

static int earlier_first(const void *a, const void *b) {
  const dynq_buffer *x = *(dynq_buffer *const *)a, *y = *(dynq_buffer *const *)b;
  if (x->first != y->first) {
    return x->first < y->first ? -1 : 1;
  }
  return x < y ? -1 : 1;
}

static int lower_first(const void *a, const void *b) {
  const dynq_buffer *x = *(dynq_buffer *const *)a, *y = *(dynq_buffer *const *)b;
  if (x->offset != y->offset) {
    return x->offset < y->offset ? -1 : 1;
  }
  return x < y ? -1 : 1;
}

static size_t power_of_two(size_t least) {
  size_t power = 1;
  while (power < least) {
    power *= 2;
  }
  return power;
}

/* Lists the placed buffers among the leaves of a tree's node that are in use together with `b`. Returns false if they
 * are more than MOST_NEIGHBOURS. */
static bool list_neighbours(const placer *p, size_t node, size_t begin, size_t leaves, const dynq_buffer *b,
                            size_t *found) {
  if (p->latest[node] <= b->first || begin >= p->count || p->by_first[begin]->first > b->last) {
    return true;
  }
  if (leaves == 1) {
    if (*found == MOST_NEIGHBOURS) {
      return false;
    }
    p->neighbours[(*found)++] = p->by_first[begin];
    return true;
  }
  return list_neighbours(p, 2 * node, begin, leaves / 2, b, found) &&
         list_neighbours(p, 2 * node + 1, begin + leaves / 2, leaves / 2, b, found);
}

/* Returns the tightest gap between neighbours, in the order of their offsets, or the end of the last. */
static size_t best_gap(dynq_buffer *const *neighbours, size_t count, size_t bytes) {
  size_t best = SIZE_MAX, smallest = SIZE_MAX, reached = 0;
  for (size_t i = 0; i < count; i++) {
    const dynq_buffer *other = neighbours[i];
    if (other->offset > reached && other->offset - reached >= bytes && other->offset - reached < smallest) {
      smallest = other->offset - reached;
      best = reached;
    }
    const size_t end = other->offset + other->bytes;
    reached = end > reached ? end : reached;
  }
  return best != SIZE_MAX ? best : reached;
}

/* Returns the highest end of placed buffers in use from `first` to `last`; the node spans `times` from `begin` on. */
static size_t highest_end(const placer *p, size_t node, size_t begin, size_t times, size_t first, size_t last) {
  if (begin > last || begin + times <= first) {
    return 0;
  }
  if (begin >= first && begin + times - 1 <= last) {
    return p->within[node];
  }
  const size_t left = highest_end(p, 2 * node, begin, times / 2, first, last);
  const size_t right = highest_end(p, 2 * node + 1, begin + times / 2, times / 2, first, last);
  const size_t below = left > right ? left : right;
  return below > p->inside[node] ? below : p->inside[node];
}

static void raise_end(const placer *p, size_t node, size_t begin, size_t times, const dynq_buffer *b) {
  const size_t end = b->offset + b->bytes;
  if (begin > b->last || begin + times <= b->first) {
    return;
  }
  p->within[node] = end > p->within[node] ? end : p->within[node];
  if (begin >= b->first && begin + times - 1 <= b->last) {
    p->inside[node] = end > p->inside[node] ? end : p->inside[node];
    return;
  }
  raise_end(p, 2 * node, begin, times / 2, b);
  raise_end(p, 2 * node + 1, begin + times / 2, times / 2, b);
}

static size_t rank_of(const placer *p, const dynq_buffer *b) {
  size_t low = 0, high = p->count;
  while (low + 1 < high) {
    const size_t middle = low + (high - low) / 2;
    if (earlier_first(&b, &p->by_first[middle]) < 0) {
      high = middle;
    } else {
      low = middle;
    }
  }
  return low;
}

static void place(const placer *p, dynq_buffer *b) {
  size_t found = 0;
  if (list_neighbours(p, 1, 0, p->leaves, b, &found)) {
    qsort(p->neighbours, found, sizeof *p->neighbours, lower_first);
    b->offset = best_gap(p->neighbours, found, b->bytes);
  } else {
    b->offset = highest_end(p, 1, 0, p->times, b->first, b->last);
  }
  if (dynq_size_add(b->offset, b->bytes) <= PTRDIFF_MAX) { /* else the caller fails */
    raise_end(p, 1, 0, p->times, b);
    for (size_t node = p->leaves + rank_of(p, b); node != 0; node /= 2) {
      p->latest[node] = b->last + 1 > p->latest[node] ? b->last + 1 : p->latest[node];
    }
  }
}

static dynq_status new_placer(placer *p, dynq_pool *pool, dynq_buffer *buffers, size_t count) {
  size_t end = 0;
  *p = (placer){.buffers = buffers, .count = count, .leaves = power_of_two(count)};
  DYNQ_TRY(dynq_pool_array(pool, count, sizeof *p->by_first, &p->by_first));
  for (size_t i = 0; i < count; i++) {
    p->by_first[i] = &buffers[i];
    end = buffers[i].last > end ? buffers[i].last : end;
  }
  qsort(p->by_first, count, sizeof *p->by_first, earlier_first);
  p->times = power_of_two(end + 1);
  DYNQ_TRY(dynq_pool_array(pool, 2 * p->leaves, sizeof *p->latest, &p->latest));
  DYNQ_TRY(dynq_pool_array(pool, 2 * p->times, sizeof *p->inside, &p->inside));
  DYNQ_TRY(dynq_pool_array(pool, 2 * p->times, sizeof *p->within, &p->within));
  return dynq_pool_array(pool, MOST_NEIGHBOURS, sizeof(dynq_buffer *), &p->neighbours);
}

static dynq_status place_all(dynq_pool *pool, dynq_buffer *buffers, size_t count, size_t *arena_bytes) {
  placer p;
  dynq_buffer **sorted;
  size_t end = 0;
  DYNQ_TRY(new_placer(&p, pool, buffers, count));
  DYNQ_TRY(dynq_pool_array(pool, count, sizeof(dynq_buffer *), &sorted));
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
      place(&p, b);
      const size_t b_end = dynq_size_add(b->offset, b->bytes);
      end = b_end > end ? b_end : end;
    }
  }
  if (end > PTRDIFF_MAX) {
    return dynq_fail(DYNQ_ERROR_OUT_OF_MEMORY, "the tensors of this shape exceed the address space");
  }
  *arena_bytes = end;
  return DYNQ_OK;
}

dynq_status dynq_arena_place(dynq_buffer *buffers, size_t count, size_t *arena_bytes) {
  dynq_pool pool = {NULL};
  const dynq_status status = place_all(&pool, buffers, count, arena_bytes);
  dynq_pool_free(&pool);
  return status;
}
