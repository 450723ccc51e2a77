/*
 * Uses of instructions that the CPU refuses, and what it does then. check_trap tries them on the emulator,
 * check_trapped in processes that must die of them.
 */
#ifndef ILLEGAL_H
#define ILLEGAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONFIG_BYTES = 64, ILLEGAL_CODE = 8 };

/* The code runs after a ldtilecfg of `config` (all zero: none) with rdi = the address of a configuration that is to be
 * loaded, rsi = of 1 KB of memory, rdx = 64. */
typedef struct illegal_use {
  const char *what;
  uint8_t config[CONFIG_BYTES], loaded[CONFIG_BYTES];
  uint8_t code[ILLEGAL_CODE];
  size_t length;
  bool protection; /* #GP, which Linux makes SIGSEGV; else #UD, SIGILL */
} illegal_use;

size_t illegal_uses(void);
void illegal_get(size_t index, illegal_use *use);

/* A configuration of palette 1. */
void config_make(uint8_t config[CONFIG_BYTES], const uint8_t rows[8], const uint8_t colsb[8]);

#endif
