/*
 * Memory that is given back at once.
 */
#include "pool.h"

#include "alloc.h"

#include <string.h>

enum { ALIGN = 64, HEAD = 64, BLOCK = 16 * 1024 };

struct dynq_pool_block {
  struct dynq_pool_block *next;
  size_t used, size; /* bytes from the block's own beginning */
};
_Static_assert(sizeof(struct dynq_pool_block) <= HEAD, "the head of a block fits before its first piece");

void *dynq_pool_take(dynq_pool *pool, size_t bytes, size_t align) {
  struct dynq_pool_block *block = pool->newest;
  size_t begin = block != NULL ? (block->used + align - 1) / align * align : 0;
  if (block == NULL || begin > block->size || bytes > block->size - begin) {
    const size_t needed = dynq_size_add(HEAD, bytes);
    const size_t size = needed < BLOCK ? BLOCK : needed;
    block = dynq_alloc(size);
    if (block == NULL) {
      return NULL;
    }
    *block = (struct dynq_pool_block){.next = pool->newest, .used = HEAD, .size = size};
    pool->newest = block;
    begin = HEAD;
  }
  block->used = begin + bytes;
  return memset((char *)block + begin, 0, bytes);
}

dynq_status dynq_pool_array(dynq_pool *pool, size_t count, size_t size, void *array) {
  const size_t bytes = dynq_size_mul(count, size);
  void *p = dynq_pool_take(pool, bytes, 16);
  memcpy(array, &p, sizeof p);
  return p != NULL ? DYNQ_OK : dynq_fail_memory(bytes);
}

void dynq_pool_free(dynq_pool *pool) {
  while (pool->newest != NULL) {
    struct dynq_pool_block *block = pool->newest;
    pool->newest = block->next;
    dynq_free(block);
  }
}
