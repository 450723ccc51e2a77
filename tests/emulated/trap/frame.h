/*
 * Executes one instruction on the registers that the kernel saved when the signal came.
 */
#ifndef TRAP_FRAME_H
#define TRAP_FRAME_H

#include "execute.h"

#include <ucontext.h>

/* Asks CPUID where the parts of a frame are; before the first trap_step. */
void trap_frame_prepare(void);

/* Decodes what lies at `code`, executes it and moves rip past it; TRAP_UNDEFINED and nothing changed where that is no
 * instruction of ours or an illegal use of one. *name is what was executed. */
trap_outcome trap_step(ucontext_t *frame, const uint8_t *code, trap_tiles *tiles, bool tile_data_allowed,
                       trap_name *name);

#endif
