/*
 * Blocks of memory whose sizes are not known before a run. Those that are given back stay for the next tensor of about
 * the same size, and until the end of the run after.
 */
#include "../base/alloc.h"
#include "model.h"

enum { LEAST = 256 };
_Static_assert(sizeof(dynq_block) <= DYNQ_BLOCK_HEAD, "the head of a block fits before its data");

/* Rounds up to one of four sizes for each power of two, and returns which it is. */
static size_t size_class(size_t bytes, size_t *rounded) {
  size_t class = 0, size = LEAST;
  while (size < bytes && size <= SIZE_MAX / 4) {
    const size_t step = size / 4;
    for (size_t i = 0; i < 4 && size < bytes; i++, class++) {
      size += step;
    }
  }
  *rounded = size < bytes ? SIZE_MAX : size;
  return class;
}

void dynq_blocks_trim(dynq_blocks *blocks, uint64_t run) {
  for (size_t i = 0; i < DYNQ_BLOCK_SIZES && blocks->idle_bytes != 0; i++) {
    dynq_block **at = &blocks->idle[i];
    while (*at != NULL) {
      dynq_block *block = *at;
      if (block->used < run) {
        *at = block->next;
        blocks->idle_bytes -= block->bytes;
        dynq_free(block);
      } else {
        at = &block->next;
      }
    }
  }
}

dynq_status dynq_blocks_take(dynq_blocks *blocks, size_t bytes, dynq_block **block) {
  size_t size;
  const size_t class = size_class(bytes, &size);
  const size_t all = dynq_size_add(blocks->planned_bytes + blocks->taken_bytes, size);
  if (all > blocks->max_bytes) {
    return dynq_fail_limit(all, "with the other tensors of a run it takes", blocks->max_bytes);
  }
  dynq_block *found = blocks->idle[class];
  if (found != NULL) {
    blocks->idle[class] = found->next;
    blocks->idle_bytes -= size;
  } else {
    if (dynq_size_add(all, blocks->idle_bytes) > blocks->max_bytes) {
      dynq_blocks_trim(blocks, UINT64_MAX);
    }
    found = dynq_alloc(dynq_size_add(size, DYNQ_BLOCK_HEAD));
    if (found == NULL) {
      return dynq_fail_memory(size);
    }
  }
  *found = (dynq_block){.bytes = size, .references = 1, .used = blocks->run};
  blocks->taken_bytes += size;
  *block = found;
  return DYNQ_OK;
}

void dynq_blocks_give(dynq_blocks *blocks, dynq_block *block) {
  size_t size;
  if (block == NULL || --block->references != 0) {
    return;
  }
  const size_t class = size_class(block->bytes, &size);
  block->next = blocks->idle[class];
  blocks->idle[class] = block;
  blocks->taken_bytes -= block->bytes;
  blocks->idle_bytes += block->bytes;
}
