/*
 * From the list of instruction sets and what the CPU has to the kernels that run.
 */
#ifndef DYNQ_DISPATCH_H
#define DYNQ_DISPATCH_H

#include "../kernels/kernels.h"
#include "dynq/dynq.h"

typedef struct dynq_isa {
  const char *name;
  int architecture;                /* DYNQ_ARCH_* */
  uint64_t features;               /* what the CPU must have */
  const dynq_isa_kernels *kernels; /* NULL: not built */
} dynq_isa;

/* The lines of isa.def, best first. */
extern const dynq_isa dynq_isa_list[];

/* Every slot filled. */
typedef struct dynq_kernels {
  const char *name;
  const dynq_gemm_kernels *gemm;
  dynq_vector_kernels vector;
} dynq_kernels;

/* Index of `name` in the list, or dynq_isa_count(). */
size_t dynq_isa_find(const char *name);
/* Pure: the kernels of list entry `index` on a CPU with `features`, or which error it is (sets the message, which tells
 * which of the missing features are `withheld` by the operating system). */
dynq_status dynq_isa_resolve(size_t index, uint64_t features, uint64_t withheld, dynq_kernels *kernels);
/* Pure: the first entry that can run on a CPU with `features`. */
size_t dynq_isa_best(uint64_t features);

/* The kernels in use; the first call reads DYNQ_ISA. */
dynq_status dynq_kernels_current(const dynq_kernels **kernels);
/* For tests: use `kernels`, which must stay valid, until the next dynq_isa_select. */
void dynq_kernels_override(const dynq_kernels *kernels);

#endif
