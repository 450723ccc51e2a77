/*
 * Writes instructions for the checks.
 */
#ifndef ENCODE_H
#define ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VECTORS = 32, VEX_VECTORS = 16, VECTOR_BYTES = 64, MOST_CODE = 15 };

/* Writes a VEX-coded instruction of map 0F38 with the operand "register rm"; returns its length. */
size_t code_registers(uint8_t *code, unsigned opcode, unsigned pp, unsigned reg, unsigned vvvv, unsigned rm, bool l);
/* With the operand (base, index, 1) of 64-bit registers, index not rsp. */
size_t code_memory(uint8_t *code, unsigned opcode, unsigned pp, unsigned reg, unsigned vvvv, unsigned base,
                   unsigned index, bool l);

/* vpdpbusd or vpdpwssd dest, left, right. In memory, `right` is displacement(rsi). */
typedef struct vector_product {
  bool evex, words; /* words: vpdpwssd */
  unsigned dest, left, right;
  size_t bytes; /* of a vector: 16, 32 or, with EVEX, 64 */
  bool in_memory;
  bool broadcast; /* four bytes of memory are all of `right`; with EVEX */
  int unit_steps; /* -128 to 127: the displacement in units, which are what is read of memory, or bytes without EVEX */
} vector_product;

vector_product random_product(bool evex);
size_t code_product(uint8_t *code, const vector_product *p);
size_t product_memory_bytes(const vector_product *p);
/* Returns what rsi must be, so that the product reads `memory`. */
uintptr_t product_address(const vector_product *p, const void *memory);
/* Says all of it in check_case. */
void say_product(const vector_product *p);

#endif
