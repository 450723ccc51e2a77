/*
 * Counts blocks: the linker leads the library's calls here (--wrap, in CMakeLists.txt).
 */
#include "blocks.h"

#include <stdatomic.h>

void *__real_dynq_alloc(size_t bytes);
void __real_dynq_free(void *p);
void *__wrap_dynq_alloc(size_t bytes);
void __wrap_dynq_free(void *p);

static _Atomic size_t taken, given_back;

void *__wrap_dynq_alloc(size_t bytes) {
  void *p = __real_dynq_alloc(bytes);
  atomic_fetch_add(&taken, p != NULL ? 1 : 0);
  return p;
}

void __wrap_dynq_free(void *p) {
  atomic_fetch_add(&given_back, p != NULL ? 1 : 0);
  __real_dynq_free(p);
}

size_t blocks_in_use(void) { return atomic_load(&taken) - atomic_load(&given_back); }
size_t blocks_taken(void) { return atomic_load(&taken); }
