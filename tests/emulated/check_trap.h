/*
 * The parts of check_trap.
 */
#ifndef CHECK_TRAP_H
#define CHECK_TRAP_H

#include "check.h"
#include "encode.h"
#include "execute.h"

/* Decodes and executes; a failure where the decoder refuses. */
trap_outcome run_code(const uint8_t *code, size_t length, trap_machine *machine);

/* check_products.c: products of vectors and tiles against plain models, and the CPU's own of vectors. */
void check_vector_products(bool expect_native);
void check_tiles(void);
/* check_frames.c: instructions executed on true signal frames. */
void check_frames(void);

#endif
