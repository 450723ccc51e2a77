/*
 * The encoder. Bits of register numbers are inverted in VEX and EVEX prefixes.
 */
#include "encode.h"

#include "check.h"

size_t code_registers(uint8_t *code, unsigned opcode, unsigned pp, unsigned reg, unsigned vvvv, unsigned rm, bool l) {
  code[0] = 0xc4;
  code[1] = (uint8_t)(0xe2 ^ (reg >> 3) << 7 ^ (rm >> 3) << 5);
  code[2] = (uint8_t)((~vvvv & 15) << 3 | (unsigned)l << 2 | pp);
  code[3] = (uint8_t)opcode;
  code[4] = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
  return 5;
}

size_t code_memory(uint8_t *code, unsigned opcode, unsigned pp, unsigned reg, unsigned vvvv, unsigned base,
                   unsigned index, bool l) {
  (void)code_registers(code, opcode, pp, reg, vvvv, 0, l);
  code[1] = (uint8_t)(code[1] ^ (index >> 3) << 6 ^ (base >> 3) << 5);
  code[4] = (uint8_t)(0x44 | (reg & 7) << 3); /* SIB and 8 bits of displacement, which any base allows */
  code[5] = (uint8_t)((index & 7) << 3 | (base & 7));
  code[6] = 0;
  return 7;
}

/* ---- vpdpbusd, vpdpwssd ---- */

enum { VPDPBUSD = 0x50, VPDPWSSD = 0x52, P66 = 1, RSI = 6 };

vector_product random_product(bool evex) {
  const size_t registers = evex ? VECTORS : VEX_VECTORS;
  const bool in_memory = random_below(2) != 0;
  return (vector_product){.evex = evex,
                          .words = random_below(3) == 0,
                          .dest = (unsigned)random_below(registers),
                          .left = (unsigned)random_below(registers),
                          .right = (unsigned)random_below(registers),
                          .bytes = (size_t)16 << random_below(evex ? 3 : 2),
                          .in_memory = in_memory,
                          .broadcast = evex && in_memory && random_below(3) == 0,
                          .unit_steps = (int)random_below(256) - 128};
}

static size_t code_evex(uint8_t *code, const vector_product *p) {
  const unsigned rm = p->in_memory ? RSI : p->right;
  code[0] = 0x62;
  code[1] = (uint8_t)(0xf2 ^ (p->dest >> 3 & 1) << 7 ^ (rm >> 4) << 6 ^ (rm >> 3 & 1) << 5 ^ (p->dest >> 4) << 4);
  code[2] = (uint8_t)((~p->left & 15) << 3 | 4 | P66);
  code[3] = (uint8_t)(p->bytes / 32 << 5 | (size_t)p->broadcast << 4 | (~p->left >> 4 & 1) << 3);
  code[4] = p->words ? VPDPWSSD : VPDPBUSD;
  code[5] = (uint8_t)(0xc0 | (p->dest & 7) << 3 | (rm & 7));
  return 6;
}

size_t code_product(uint8_t *code, const vector_product *p) {
  const size_t length = p->evex ? code_evex(code, p)
                                : code_registers(code, p->words ? VPDPWSSD : VPDPBUSD, P66, p->dest, p->left,
                                                 p->in_memory ? RSI : p->right, p->bytes == 32);
  if (p->in_memory) {
    code[length - 1] = (uint8_t)(code[length - 1] ^ 0x80); /* 8 bits of displacement in place of a register */
    code[length] = (uint8_t)p->unit_steps;
  }
  return length + p->in_memory;
}

size_t product_memory_bytes(const vector_product *p) { return p->broadcast ? 4 : p->bytes; }

uintptr_t product_address(const vector_product *p, const void *memory) {
  const intptr_t unit = p->evex ? (intptr_t)product_memory_bytes(p) : 1;
  return (uintptr_t)memory - (uintptr_t)(p->unit_steps * unit);
}

void say_product(const vector_product *p) {
  check_case("%s %s, dest %u, left %u, right %u, %zu bytes%s%s, %d units on", p->evex ? "EVEX" : "VEX",
             p->words ? "vpdpwssd" : "vpdpbusd", p->dest, p->left, p->right, p->bytes, p->in_memory ? ", memory" : "",
             p->broadcast ? ", broadcast" : "", p->unit_steps);
}
