/*
 * The decoder. Layout of a three-byte VEX prefix, C4 RXBmmmmm WvvvvLpp, ModRM and SIB: Intel SDM volume 2, sections
 * 2.1.5 and 2.3.
 */
#include "decode.h"

typedef enum form {
  NOTHING,      /* ModRM is C0 */
  MEMORY,       /* ModRM.reg is 0, an address of any kind */
  TILE,         /* ModRM.reg, ModRM.rm is register 0 */
  TILE_MEMORY,  /* ModRM.reg, an address with SIB */
  THREE_TILES,  /* ModRM.reg, ModRM.rm, vvvv: all registers */
  THREE_VECTORS /* ModRM.reg, vvvv, ModRM.rm or an address; L chooses xmm or ymm */
} form;

static const struct {
  const char *text;
  uint8_t opcode, pp;
  form operands;
} table[TRAP_NAMES] = {
#define TRAP_INSTRUCTION(name, text, opcode, pp, form) {text, opcode, pp, form},
#include "instructions.def"
#undef TRAP_INSTRUCTION
};

enum {
  VEX_3 = 0xc4,
  MAP_0F38 = 2,
  ANY_REGISTER = 3, /* ModRM.mod */
  USES_SIB = 4,     /* ModRM.rm */
  NO_INDEX = 4,     /* SIB.index, with X */
  NO_BASE = 5       /* ModRM.rm or SIB.base, with mod 0: displacement alone */
};

typedef struct reader {
  const uint8_t *code;
  size_t size, used;
  bool failed;
} reader;

static uint8_t next_byte(reader *r) {
  if (r->used == r->size) {
    r->failed = true;
    return 0;
  }
  return r->code[r->used++];
}

static int32_t next_displacement(reader *r, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; i++) {
    value |= (uint32_t)next_byte(r) << 8 * i;
  }
  return bytes == 1 ? (int8_t)value : (int32_t)value;
}

/* Prefixes that may stand before VEX; with any other (66, F2, F3, F0, REX) the CPU refuses the instruction. */
static uint8_t skip_prefixes(reader *r, trap_address *address) {
  for (;;) {
    const uint8_t byte = next_byte(r);
    switch (byte) {
    case 0x26: /* ES CS SS DS: without effect in 64-bit mode */
    case 0x2e:
    case 0x36:
    case 0x3e:
      address->segment = TRAP_FLAT;
      break;
    case 0x64:
      address->segment = TRAP_FS;
      break;
    case 0x65:
      address->segment = TRAP_GS;
      break;
    case 0x67:
      address->only_32_bits = true;
      break;
    default:
      return byte;
    }
  }
}

static void read_address(reader *r, unsigned mod, unsigned rm, unsigned x, unsigned b, trap_address *address) {
  address->base = (int)(rm | b << 3);
  address->index = TRAP_NO_REGISTER;
  bool no_base = mod == 0 && rm == NO_BASE;
  if (rm == USES_SIB) {
    const uint8_t sib = next_byte(r);
    const unsigned index = (sib >> 3 & 7u) | x << 3;
    address->shift = sib >> 6;
    address->index = index == NO_INDEX ? TRAP_NO_REGISTER : (int)index;
    address->base = (int)((sib & 7u) | b << 3);
    no_base = mod == 0 && (sib & 7) == NO_BASE;
  }
  if (no_base) {
    address->base = rm == USES_SIB ? TRAP_NO_REGISTER : TRAP_NEXT;
  }
  address->displacement = next_displacement(r, no_base || mod == 2 ? 4 : mod);
}

static bool fits(form operands, unsigned mod, unsigned reg, unsigned rm) {
  const bool is_register = mod == ANY_REGISTER;
  switch (operands) {
  case NOTHING:
    return is_register && reg == 0 && rm == 0;
  case MEMORY:
    return !is_register && reg == 0;
  case TILE:
    return is_register && rm == 0;
  case TILE_MEMORY:
    return !is_register && rm == USES_SIB;
  case THREE_TILES:
    return is_register;
  case THREE_VECTORS:
    break;
  }
  return true;
}

bool trap_decode(const uint8_t *code, size_t size, trap_instruction *instruction) {
  reader r = {.code = code, .size = size < TRAP_LONGEST ? size : TRAP_LONGEST};
  trap_instruction found = {.address = {.base = TRAP_NO_REGISTER, .index = TRAP_NO_REGISTER}};
  if (skip_prefixes(&r, &found.address) != VEX_3) {
    return false;
  }
  const uint8_t rxbm = next_byte(&r), wvlp = next_byte(&r), opcode = next_byte(&r);
  if ((rxbm & 0x1f) != MAP_0F38 || (wvlp & 0x80) != 0) {
    return false;
  }
  const uint8_t modrm = next_byte(&r); /* every instruction of this map has it */
  const unsigned mod = modrm >> 6, reg = modrm >> 3 & 7, rm = modrm & 7, vvvv = ~(unsigned)wvlp >> 3 & 15;
  const unsigned r_bit = ~(unsigned)rxbm >> 7 & 1, x = ~(unsigned)rxbm >> 6 & 1, b = ~(unsigned)rxbm >> 5 & 1;
  size_t known = 0;
  while (known < TRAP_NAMES && (table[known].opcode != opcode || table[known].pp != (wvlp & 3) ||
                                !fits(table[known].operands, mod, reg, rm))) {
    known++;
  }
  if (r.failed || known == TRAP_NAMES) {
    return false;
  }
  const form operands = table[known].operands;
  found.name = (trap_name)known;
  found.is_256 = (wvlp & 4) != 0;
  found.has_address = mod != ANY_REGISTER;
  if (operands != THREE_VECTORS && found.is_256) {
    return false;
  }
  if (operands != THREE_VECTORS && operands != THREE_TILES && vvvv != 0) {
    return false;
  }
  if (operands != NOTHING && operands != MEMORY) {
    found.dest = reg | r_bit << 3;
  }
  if (operands == THREE_TILES) {
    found.left = rm | b << 3;
    found.right = vvvv;
  } else if (operands == THREE_VECTORS) {
    found.left = vvvv;
    found.right = found.has_address ? 0 : rm | b << 3;
  }
  if (found.has_address) {
    read_address(&r, mod, rm, x, b, &found.address);
  }
  found.length = r.used;
  *instruction = found;
  return !r.failed;
}

const char *trap_text(trap_name name) { return table[name].text; }
