/*
 * From bytes to an instruction of instructions.def: a pure function.
 */
#ifndef TRAP_DECODE_H
#define TRAP_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum trap_name {
#define TRAP_INSTRUCTION(name, text, opcode, pp, form) TRAP_##name,
#include "instructions.def"
#undef TRAP_INSTRUCTION
  TRAP_NAMES
} trap_name;

typedef enum trap_segment { TRAP_FLAT, TRAP_FS, TRAP_GS } trap_segment;

enum {
  TRAP_LONGEST = 15, /* bytes of an instruction */
  TRAP_NO_REGISTER = -1,
  TRAP_NEXT = 16 /* as a base: the address of the next instruction */
};

/* segment + base + (index << shift) + displacement. Registers are numbered as the CPU does: rax rcx rdx rbx rsp rbp
 * rsi rdi r8 ... r15. */
typedef struct trap_address {
  trap_segment segment;
  int base, index;
  unsigned shift;
  int32_t displacement;
  bool only_32_bits; /* prefix 67 */
} trap_address;

typedef struct trap_instruction {
  trap_name name;
  size_t length; /* bytes, prefixes included */
  /* Tiles or vectors, 0 to 31 (there are but 8 tiles). dest is the tile of a load, a store and tilezero too.
   * A product is left * right: tdpb** dest, left, right; vpdp** dest, left, right. */
  unsigned dest, left, right;
  bool is_evex;
  unsigned bytes;   /* vpdp**: 16 on xmm, 32 on ymm, 64 on zmm; else 0 */
  bool has_address; /* vpdp**: `right` is in memory */
  bool broadcast;   /* four bytes of memory, for each sum the same */
  trap_address address;
} trap_instruction;

/* False if the bytes are something else or an encoding that the CPU refuses. Reads no byte after the instruction and
 * at most `size`. */
bool trap_decode(const uint8_t *code, size_t size, trap_instruction *instruction);

const char *trap_text(trap_name name);

#endif
