/*
 * From the name of an instruction set to its loops.
 */
#include "loops.h"

#include <string.h>

/* CMake defines DYNQ_BUILD_<name> as for dispatch.c. */
#define DYNQ_ISA(name, architecture, features, flags) extern bench_loop *const bench_loops_##name[BENCH_MIXES];
#include "isa.def"
#undef DYNQ_ISA

#define IF_BUILT_0(loops) NULL
#define IF_BUILT_1(loops) (loops)
#define IF_BUILT_PASTE(built) IF_BUILT_##built
#define IF_BUILT(built) IF_BUILT_PASTE(built)

bench_loop *const *bench_loops_of(const char *name) {
  static const struct {
    const char *name;
    bench_loop *const *loops;
  } list[] = {
#define DYNQ_ISA(name, architecture, features, flags) {#name, IF_BUILT(DYNQ_BUILD_##name)(bench_loops_##name)},
#include "isa.def"
#undef DYNQ_ISA
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
    if (strcmp(list[i].name, name) == 0) {
      return list[i].loops;
    }
  }
  return NULL;
}
