/*
 * The parts of check_trap, and how they write instructions.
 */
#ifndef CHECK_TRAP_H
#define CHECK_TRAP_H

#include "check.h"
#include "execute.h"

/* Writes a VEX-coded instruction of map 0F38 with the operand "register rm"; returns its length. */
size_t code_registers(uint8_t *code, unsigned opcode, unsigned pp, unsigned reg, unsigned vvvv, unsigned rm, bool l);
/* With the operand (base, index, 1) of 64-bit registers, index not rsp. */
size_t code_memory(uint8_t *code, unsigned opcode, unsigned pp, unsigned reg, unsigned vvvv, unsigned base,
                   unsigned index, bool l);
/* Decodes and executes; a failure where the decoder refuses. */
trap_outcome run_code(const uint8_t *code, size_t length, trap_machine *machine);

/* check_products.c: vpdpbusd and the tile instructions against plain models, and the CPU's own vpdpbusd. */
void check_vpdpbusd(bool expect_native);
void check_tiles(void);
/* check_frames.c: instructions executed on true signal frames. */
void check_frames(void);

#endif
