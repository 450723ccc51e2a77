/*
 * The table. The exception classes are those of the Intel SDM, volume 2, section 2.10.
 */
#include "illegal.h"

#include <string.h>

enum { COLSB = 16, ROWS = 48 };

void config_make(uint8_t config[CONFIG_BYTES], const uint8_t rows[8], const uint8_t colsb[8]) {
  memset(config, 0, CONFIG_BYTES);
  config[0] = 1;
  for (size_t t = 0; t < 8; t++) {
    config[COLSB + 2 * t] = colsb[t];
    config[ROWS + t] = rows[t];
  }
}

/* ---- A configuration that ldtilecfg (rdi) refuses: one byte of a good one is another ---- */

static const struct {
  const char *what;
  uint8_t at, value;
} bad_configs[] = {
    {"palette 2", 0, 2},
    {"palette 255", 0, 255},
    {"reserved byte 2", 2, 1},
    {"reserved byte 15", 15, 0x80},
    {"reserved byte 32", 32, 1}, /* a ninth tile */
    {"reserved byte 47", 47, 1},
    {"reserved byte 56", 56, 1},
    {"reserved byte 63", 63, 0x80},
    {"17 rows", ROWS, 17},
    {"17 rows of the last tile", ROWS + 7, 17},
    {"65 bytes a row", COLSB, 65},
    {"256 bytes a row more", COLSB + 1, 1},
    {"rows 0, bytes not", ROWS + 3, 0},
    {"bytes 0, rows not", COLSB + 6, 0},
};
enum { BAD_CONFIGS = sizeof bad_configs / sizeof bad_configs[0] };

/* ---- Instructions that are refused with a good configuration, or for having none ---- */

/* Tiles 0, 1 and 2 are as large as can be, 3 has no shape, 4 is half as wide, 5 half as high. 6 and 7 have rows of no
 * whole number of elements, and ODD has such and the smallest ones. */
typedef enum configuration { NONE, GOOD, ODD, CONFIGURATIONS } configuration;
static const uint8_t rows_of[CONFIGURATIONS][8] = {[GOOD] = {16, 16, 16, 0, 16, 8, 1, 1},
                                                   [ODD] = {1, 1, 1, 1, 0, 0, 0, 0}};
static const uint8_t colsb_of[CONFIGURATIONS][8] = {[GOOD] = {64, 64, 64, 0, 32, 64, 6, 6},
                                                    [ODD] = {6, 4, 6, 4, 0, 0, 0, 0}};

#define TILEZERO(t) {0xc4, 0xe2, 0x7b, 0x49, 0xc0 | (t) << 3}
#define TILELOADD(t) {0xc4, 0xe2, 0x7b, 0x4b, 0x04 | (t) << 3, 0x16}   /* (rsi, rdx) */
#define TILELOADDT1(t) {0xc4, 0xe2, 0x79, 0x4b, 0x04 | (t) << 3, 0x16} /* (rsi, rdx) */
#define TILESTORED(t) {0xc4, 0xe2, 0x7a, 0x4b, 0x04 | (t) << 3, 0x16}  /* (rsi, rdx) */
#define TDP(pp, c, a, b) {0xc4, 0xe2, 0x78 - ((b) << 3) + (pp), 0x5e, 0xc0 | (c) << 3 | (a)}

static const struct {
  const char *what;
  uint8_t code[ILLEGAL_CODE]; /* up to the first zero */
  configuration config;
} bad_code[] = {
    {"tilezero without a configuration", TILEZERO(0), NONE},
    {"tileloadd without a configuration", TILELOADD(0), NONE},
    {"tileloaddt1 without a configuration", TILELOADDT1(0), NONE},
    {"tilestored without a configuration", TILESTORED(0), NONE},
    {"tdpbssd without a configuration", TDP(3, 0, 1, 2), NONE},
    {"tdpbsud without a configuration", TDP(2, 0, 1, 2), NONE},
    {"tdpbusd without a configuration", TDP(1, 0, 1, 2), NONE},
    {"tdpbuud without a configuration", TDP(0, 0, 1, 2), NONE},
    {"tilezero of a tile without shape", TILEZERO(3), GOOD},
    {"tileloadd of a tile without shape", TILELOADD(3), GOOD},
    {"tilestored of a tile without shape", TILESTORED(3), GOOD},
    {"tileloadd of 6 bytes a row", TILELOADD(6), GOOD},
    {"tileloaddt1 of 6 bytes a row", TILELOADDT1(6), GOOD},
    {"tilestored of 6 bytes a row", TILESTORED(6), GOOD},
    {"tdpbusd, C is A", TDP(1, 0, 0, 2), GOOD},
    {"tdpbusd, C is B", TDP(1, 0, 1, 0), GOOD},
    {"tdpbusd, A is B", TDP(1, 0, 1, 1), GOOD},
    {"tdpbssd, C is A", TDP(3, 2, 2, 0), GOOD},
    {"tdpbusd, C without shape", TDP(1, 3, 1, 2), GOOD},
    {"tdpbusd, A without shape", TDP(1, 0, 3, 2), GOOD},
    {"tdpbusd, B without shape", TDP(1, 0, 1, 3), GOOD},
    {"tdpbusd, C narrower than B", TDP(1, 4, 1, 2), GOOD},
    {"tdpbusd, B narrower than C", TDP(1, 0, 1, 4), GOOD},
    {"tdpbusd, C lower than A", TDP(1, 5, 1, 2), GOOD},
    {"tdpbusd, A lower than C", TDP(1, 0, 5, 2), GOOD},
    {"tdpbusd, B lower than A is wide", TDP(1, 0, 1, 5), GOOD},
    {"tdpbusd, A narrower than B is high", TDP(1, 0, 4, 2), GOOD},
    {"tdpbsud, A narrower than B is high", TDP(2, 0, 4, 2), GOOD},
    {"tdpbuud, B narrower than C", TDP(0, 0, 1, 4), GOOD},
    {"tdpbusd, A of 6 bytes a row", TDP(1, 1, 0, 3), ODD},
    {"tdpbusd, C and B of 6 bytes a row", TDP(1, 0, 1, 2), ODD},
    /* numbers past the last tile */
    {"tilezero tmm8", {0xc4, 0x62, 0x7b, 0x49, 0xc0}, GOOD},
    {"tileloadd tmm8", {0xc4, 0x62, 0x7b, 0x4b, 0x04, 0x16}, GOOD},
    {"tdpbusd, C is tmm8", {0xc4, 0x62, 0x69, 0x5e, 0xc1}, GOOD},
    {"tdpbusd, A is tmm9", {0xc4, 0xc2, 0x69, 0x5e, 0xc1}, GOOD},
    {"tdpbusd, B is tmm10", {0xc4, 0xe2, 0x29, 0x5e, 0xc1}, GOOD},
    /* encodings */
    {"tileloadd without SIB", {0xc4, 0xe2, 0x7b, 0x4b, 0x06}, GOOD},
    {"tileloadd of a register", {0xc4, 0xe2, 0x7b, 0x4b, 0xc4}, GOOD},
    {"tileloadd with L", {0xc4, 0xe2, 0x7f, 0x4b, 0x04, 0x16}, GOOD},
    {"tileloadd with W", {0xc4, 0xe2, 0xfb, 0x4b, 0x04, 0x16}, GOOD},
    {"tileloadd with vvvv", {0xc4, 0xe2, 0x73, 0x4b, 0x04, 0x16}, GOOD},
    {"opcode 4b without prefix", {0xc4, 0xe2, 0x78, 0x4b, 0x04, 0x16}, GOOD},
    {"tdpbusd of memory", {0xc4, 0xe2, 0x69, 0x5e, 0x06}, GOOD},
    {"tdpbusd with L", {0xc4, 0xe2, 0x6d, 0x5e, 0xc1}, GOOD},
    {"tdpbusd with W", {0xc4, 0xe2, 0xe9, 0x5e, 0xc1}, GOOD},
    {"tilezero with rm 1", {0xc4, 0xe2, 0x7b, 0x49, 0xc1}, GOOD},
    {"tilezero with vvvv", {0xc4, 0xe2, 0x73, 0x49, 0xc0}, GOOD},
    {"tilerelease with rm 1", {0xc4, 0xe2, 0x78, 0x49, 0xc1}, NONE},
    {"tilerelease with L", {0xc4, 0xe2, 0x7c, 0x49, 0xc0}, NONE},
    {"ldtilecfg with reg 1", {0xc4, 0xe2, 0x78, 0x49, 0x0f}, NONE},
    {"ldtilecfg with W", {0xc4, 0xe2, 0xf8, 0x49, 0x07}, NONE},
    {"sttilecfg of a register", {0xc4, 0xe2, 0x79, 0x49, 0xc0}, NONE},
    {"vpdpbusd with W", {0xc4, 0xe2, 0xf9, 0x50, 0xc1}, NONE},
    {"EVEX vpdpbusd with W", {0x62, 0xf2, 0xed, 0x48, 0x50, 0xc1}, NONE},
    {"EVEX vpdpbusd of 128 bytes", {0x62, 0xf2, 0x6d, 0x68, 0x50, 0xc1}, NONE},
    {"EVEX vpdpbusd, a register broadcast", {0x62, 0xf2, 0x6d, 0x58, 0x50, 0xc1}, NONE},
    {"EVEX vpdpbusd, zeroing without a mask", {0x62, 0xf2, 0x6d, 0xc8, 0x50, 0xc1}, NONE},
    {"EVEX vpdpbusd after prefix 66", {0x66, 0x62, 0xf2, 0x6d, 0x48, 0x50, 0xc1}, NONE},
    {"ldtilecfg after prefix 66", {0x66, 0xc4, 0xe2, 0x78, 0x49, 0x07}, NONE},
    {"ldtilecfg after LOCK", {0xf0, 0xc4, 0xe2, 0x78, 0x49, 0x07}, NONE},
    {"ldtilecfg after REX", {0x48, 0xc4, 0xe2, 0x78, 0x49, 0x07}, NONE},
};
enum { BAD_CODE = sizeof bad_code / sizeof bad_code[0] };

/* ---- start_row at the end of a tile ---- */

static const struct {
  const char *what;
  uint8_t code[ILLEGAL_CODE];
} bad_starts[] = {{"tileloadd from start_row 8 of 8", TILELOADD(5)},
                  {"tilestored from start_row 8 of 8", TILESTORED(5)}};
enum { BAD_STARTS = sizeof bad_starts / sizeof bad_starts[0] };

size_t illegal_uses(void) { return BAD_CONFIGS + BAD_CODE + BAD_STARTS; }

static void set_code(illegal_use *use, const char *what, const uint8_t *code, configuration config) {
  use->what = what;
  use->length = strnlen((const char *)code, ILLEGAL_CODE);
  memcpy(use->code, code, use->length);
  if (config != NONE) {
    config_make(use->config, rows_of[config], colsb_of[config]);
  }
}

void illegal_get(size_t index, illegal_use *use) {
  static const uint8_t ldtilecfg[ILLEGAL_CODE] = {0xc4, 0xe2, 0x78, 0x49, 0x07};
  static const uint8_t full_rows[8] = {16, 16, 16, 16, 16, 16, 16, 16};
  static const uint8_t full_colsb[8] = {64, 64, 64, 64, 64, 64, 64, 64};
  memset(use, 0, sizeof *use);
  config_make(use->loaded, full_rows, full_colsb);
  if (index < BAD_CONFIGS) {
    set_code(use, bad_configs[index].what, ldtilecfg, NONE);
    use->loaded[bad_configs[index].at] = bad_configs[index].value;
    use->protection = true;
  } else if (index < BAD_CONFIGS + BAD_CODE) {
    set_code(use, bad_code[index - BAD_CONFIGS].what, bad_code[index - BAD_CONFIGS].code,
             bad_code[index - BAD_CONFIGS].config);
  } else {
    index -= BAD_CONFIGS + BAD_CODE;
    set_code(use, bad_starts[index].what, bad_starts[index].code, GOOD);
    use->config[1] = 8;
  }
}
