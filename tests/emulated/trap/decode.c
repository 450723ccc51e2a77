/*
 * The decoder. Layout of a three-byte VEX prefix, C4 RXBmmmmm WvvvvLpp, of EVEX, 62 RXBR0mmm Wvvvv1pp zLLbVaaa, ModRM
 * and SIB: Intel SDM volume 2, sections 2.1.5, 2.3 and 2.7. The registers' bits, R to B and vvvv, are inverted.
 */
#include "decode.h"

typedef enum form {
  NOTHING,       /* ModRM is C0 */
  MEMORY,        /* ModRM.reg is 0, an address of any kind */
  TILE,          /* ModRM.reg, ModRM.rm is register 0 */
  TILE_MEMORY,   /* ModRM.reg, an address with SIB */
  THREE_TILES,   /* ModRM.reg, ModRM.rm, vvvv: all registers */
  THREE_VECTORS, /* ModRM.reg, vvvv, ModRM.rm or an address; L chooses xmm or ymm */
  EVEX_VECTORS   /* the same, EVEX-coded */
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
  EVEX = 0x62,
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

/* The fields of the prefix. */
typedef struct coding {
  bool is_evex, broadcast;
  unsigned pp, vvvv;
  unsigned r, x, b;       /* eights of register numbers; with EVEX, r has sixteens, too */
  unsigned vector_length; /* 16 << vector_length bytes */
} coding;

/* False if the prefix is none that an instruction of ours can have. */
static bool read_vex(reader *r, coding *c) {
  const uint8_t rxbm = next_byte(r), wvlp = next_byte(r);
  c->r = ~(unsigned)rxbm >> 7 & 1;
  c->x = ~(unsigned)rxbm >> 6 & 1;
  c->b = ~(unsigned)rxbm >> 5 & 1;
  c->vvvv = ~(unsigned)wvlp >> 3 & 15;
  c->vector_length = wvlp >> 2 & 1u;
  c->pp = wvlp & 3u;
  return (rxbm & 0x1f) == MAP_0F38 && (wvlp & 0x80) == 0;
}

/* Masks are left alone. */
static bool read_evex(reader *r, coding *c) {
  const uint8_t rxbm = next_byte(r), wvp = next_byte(r), zlbva = next_byte(r);
  c->is_evex = true;
  c->r = (~(unsigned)rxbm >> 7 & 1) | (~(unsigned)rxbm >> 4 & 1) << 1;
  c->x = ~(unsigned)rxbm >> 6 & 1;
  c->b = ~(unsigned)rxbm >> 5 & 1;
  c->vvvv = (~(unsigned)wvp >> 3 & 15) | (~(unsigned)zlbva >> 3 & 1) << 4;
  c->vector_length = zlbva >> 5 & 3u;
  c->broadcast = (zlbva & 0x10) != 0;
  c->pp = wvp & 3u;
  return (rxbm & 0x0f) == MAP_0F38 && (wvp & 0x84) == 4 && (zlbva & 0x87) == 0 && c->vector_length < 3;
}

/* A displacement of 8 bits counts in `unit` bytes. */
static void read_address(reader *r, unsigned mod, unsigned rm, const coding *c, unsigned unit, trap_address *address) {
  address->base = (int)(rm | c->b << 3);
  address->index = TRAP_NO_REGISTER;
  bool no_base = mod == 0 && rm == NO_BASE;
  if (rm == USES_SIB) {
    const uint8_t sib = next_byte(r);
    const unsigned index = (sib >> 3 & 7u) | c->x << 3;
    address->shift = sib >> 6;
    address->index = index == NO_INDEX ? TRAP_NO_REGISTER : (int)index;
    address->base = (int)((sib & 7u) | c->b << 3);
    no_base = mod == 0 && (sib & 7) == NO_BASE;
  }
  if (no_base) {
    address->base = rm == USES_SIB ? TRAP_NO_REGISTER : TRAP_NEXT;
  }
  address->displacement = next_displacement(r, no_base || mod == 2 ? 4 : mod) * (mod == 1 ? (int32_t)unit : 1);
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
  case EVEX_VECTORS:
    break;
  }
  return true;
}

bool trap_decode(const uint8_t *code, size_t size, trap_instruction *instruction) {
  reader r = {.code = code, .size = size < TRAP_LONGEST ? size : TRAP_LONGEST};
  trap_instruction found = {.address = {.base = TRAP_NO_REGISTER, .index = TRAP_NO_REGISTER}};
  coding c = {0};
  const uint8_t first = skip_prefixes(&r, &found.address);
  if (!(first == VEX_3 ? read_vex(&r, &c) : first == EVEX && read_evex(&r, &c))) {
    return false;
  }
  const uint8_t opcode = next_byte(&r), modrm = next_byte(&r); /* every instruction of this map has both */
  const unsigned mod = modrm >> 6, reg = modrm >> 3 & 7, rm = modrm & 7;
  size_t known = 0;
  while (known < TRAP_NAMES &&
         (table[known].opcode != opcode || table[known].pp != c.pp ||
          (table[known].operands == EVEX_VECTORS) != c.is_evex || !fits(table[known].operands, mod, reg, rm))) {
    known++;
  }
  if (r.failed || known == TRAP_NAMES) {
    return false;
  }
  const form operands = table[known].operands;
  const bool vectors = operands == THREE_VECTORS || operands == EVEX_VECTORS;
  found.name = (trap_name)known;
  found.has_address = mod != ANY_REGISTER;
  found.is_evex = c.is_evex;
  found.broadcast = c.broadcast;
  if ((!vectors && c.vector_length != 0) || (c.broadcast && !found.has_address)) {
    return false;
  }
  if (!vectors && operands != THREE_TILES && c.vvvv != 0) {
    return false;
  }
  if (operands != NOTHING && operands != MEMORY) {
    found.dest = reg | c.r << 3;
  }
  if (operands == THREE_TILES) {
    found.left = rm | c.b << 3;
    found.right = c.vvvv;
  } else if (vectors) {
    found.bytes = 16u << c.vector_length;
    found.left = c.vvvv;
    found.right = found.has_address ? 0 : rm | c.b << 3 | (c.is_evex ? c.x << 4 : 0);
  }
  if (found.has_address) {
    read_address(&r, mod, rm, &c, !c.is_evex ? 1 : c.broadcast ? 4 : found.bytes, &found.address);
  }
  found.length = r.used;
  *instruction = found;
  return !r.failed;
}

const char *trap_text(trap_name name) { return table[name].text; }
