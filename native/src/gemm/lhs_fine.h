/*
 * The left operand in finer steps: 16 bits, as two planes of bytes, or several scales in each row.
 */
#ifndef DYNQ_LHS_FINE_H
#define DYNQ_LHS_FINE_H

#include "lhs.h"

enum { DYNQ_MAX_LHS_GROUP = 256 };

/* Returns whether the functions below fill the rows of a source. Otherwise those of lhs.h do. */
static inline bool dynq_lhs_is_fine(const dynq_lhs_source *source) { return source->bits16 || source->group != 0; }

/* As dynq_lhs_bytes, dynq_lhs_place and dynq_lhs_fill. They look at bits16 and group of the source; dynq_lhs_fine_fill
 * at all of it. */
size_t dynq_lhs_fine_bytes(const dynq_lhs_source *source, size_t rows, size_t k);
void dynq_lhs_fine_place(dynq_lhs *lhs, const dynq_lhs_source *source, void *memory, size_t rows, size_t k);
bool dynq_lhs_fine_fill(dynq_lhs *lhs, const dynq_kernels *kernels, const dynq_lhs_source *source, size_t row,
                        size_t rows, size_t k);

#endif
