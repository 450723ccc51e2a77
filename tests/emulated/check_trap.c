/*
 * check_trap: the emulator of tests/emulated/trap without its signals: decoder, execution, faults, and frames.
 *
 *   check_trap [--seed N] [--expect-native]     --expect-native fails if the CPU has no vpdpbusd to compare with
 */
#include "check_trap.h"

#include "illegal.h"

#include <string.h>

trap_outcome run_code(const uint8_t *code, size_t length, trap_machine *machine) {
  trap_instruction instruction;
  if (!trap_decode(code, length, &instruction)) {
    return TRAP_UNDEFINED;
  }
  machine->next += instruction.length;
  return trap_execute(&instruction, machine);
}

/* ---- Decoding: what the assembler writes is what is read ---- */

/* F(text, name, dest, left, right, bytes of a vector, base, index, shift, displacement); registers are numbers, -1
 * none. A broadcast is in the text: {1to4}. */
#define FORMS(F)                                                                                                       \
  F("tilerelease", TILERELEASE, 0, 0, 0, 0, -1, -1, 0, 0)                                                              \
  F("ldtilecfg (%rdi)", LDTILECFG, 0, 0, 0, 0, 7, -1, 0, 0)                                                            \
  F("ldtilecfg -64(%rsp)", LDTILECFG, 0, 0, 0, 0, 4, -1, 0, -64)                                                       \
  F("ldtilecfg (%r12)", LDTILECFG, 0, 0, 0, 0, 12, -1, 0, 0)                                                           \
  F("ldtilecfg (%r13)", LDTILECFG, 0, 0, 0, 0, 13, -1, 0, 0)                                                           \
  F("ldtilecfg (%rbp,%rax,8)", LDTILECFG, 0, 0, 0, 0, 5, 0, 3, 0)                                                      \
  F("ldtilecfg 0x12345678(%rip)", LDTILECFG, 0, 0, 0, 0, 16, -1, 0, 0x12345678)                                        \
  F("ldtilecfg -0x1000(,%r15,4)", LDTILECFG, 0, 0, 0, 0, -1, 15, 2, -0x1000)                                           \
  F("ldtilecfg 0x1000", LDTILECFG, 0, 0, 0, 0, -1, -1, 0, 0x1000)                                                      \
  F("sttilecfg 0x7f(%r9)", STTILECFG, 0, 0, 0, 0, 9, -1, 0, 0x7f)                                                      \
  F("sttilecfg 0x80(%r9)", STTILECFG, 0, 0, 0, 0, 9, -1, 0, 0x80)                                                      \
  F("tilezero %tmm0", TILEZERO, 0, 0, 0, 0, -1, -1, 0, 0)                                                              \
  F("tilezero %tmm7", TILEZERO, 7, 0, 0, 0, -1, -1, 0, 0)                                                              \
  F("tileloadd (%rsi,%rdx,1),%tmm5", TILELOADD, 5, 0, 0, 0, 6, 2, 0, 0)                                                \
  F("tileloadd 0x40(%r13,%r12,2),%tmm1", TILELOADD, 1, 0, 0, 0, 13, 12, 1, 0x40)                                       \
  F("tileloadd (%rsp),%tmm2", TILELOADD, 2, 0, 0, 0, 4, -1, 0, 0)                                                      \
  F("tileloadd -0x12345678(%rax,%rbp,1),%tmm7", TILELOADD, 7, 0, 0, 0, 0, 5, 0, -0x12345678)                           \
  F("tileloaddt1 (%r8,%r9,8),%tmm3", TILELOADDT1, 3, 0, 0, 0, 8, 9, 3, 0)                                              \
  F("tilestored %tmm4,1(%rbx,%r11,4)", TILESTORED, 4, 0, 0, 0, 3, 11, 2, 1)                                            \
  F("tdpbssd %tmm3,%tmm2,%tmm1", TDPBSSD, 1, 2, 3, 0, -1, -1, 0, 0)                                                    \
  F("tdpbsud %tmm7,%tmm0,%tmm6", TDPBSUD, 6, 0, 7, 0, -1, -1, 0, 0)                                                    \
  F("tdpbusd %tmm4,%tmm5,%tmm0", TDPBUSD, 0, 5, 4, 0, -1, -1, 0, 0)                                                    \
  F("tdpbuud %tmm0,%tmm7,%tmm2", TDPBUUD, 2, 7, 0, 0, -1, -1, 0, 0)                                                    \
  F("{vex} vpdpbusd %xmm3,%xmm2,%xmm1", VPDPBUSD, 1, 2, 3, 16, -1, -1, 0, 0)                                           \
  F("{vex} vpdpbusd %ymm15,%ymm8,%ymm9", VPDPBUSD, 9, 8, 15, 32, -1, -1, 0, 0)                                         \
  F("{vex} vpdpbusd %ymm0,%ymm15,%ymm7", VPDPBUSD, 7, 15, 0, 32, -1, -1, 0, 0)                                         \
  F("{vex} vpdpbusd %ymm9,%ymm0,%ymm15", VPDPBUSD, 15, 0, 9, 32, -1, -1, 0, 0)                                         \
  F("{vex} vpdpbusd (%rcx),%ymm1,%ymm2", VPDPBUSD, 2, 1, 0, 32, 1, -1, 0, 0)                                           \
  F("{vex} vpdpbusd 0x20(%r14,%r10,8),%xmm10,%xmm11", VPDPBUSD, 11, 10, 0, 16, 14, 10, 3, 0x20)                        \
  F("{vex} vpdpbusd -1(%rip),%ymm3,%ymm4", VPDPBUSD, 4, 3, 0, 32, 16, -1, 0, -1)                                       \
  F("{vex} vpdpwssd %ymm3,%ymm12,%ymm1", VPDPWSSD, 1, 12, 3, 32, -1, -1, 0, 0)                                         \
  F("vpdpwssd %zmm2,%zmm7,%zmm16", EVEX_VPDPWSSD, 16, 7, 2, 64, -1, -1, 0, 0)                                          \
  F("vpdpwssd 0x40(%rax),%zmm7,%zmm0", EVEX_VPDPWSSD, 0, 7, 0, 64, 0, -1, 0, 0x40)                                     \
  F("vpdpbusd %xmm3,%xmm2,%xmm16", EVEX_VPDPBUSD, 16, 2, 3, 16, -1, -1, 0, 0)                                          \
  F("vpdpbusd %xmm3,%xmm31,%xmm1", EVEX_VPDPBUSD, 1, 31, 3, 16, -1, -1, 0, 0)                                          \
  F("vpdpbusd %ymm24,%ymm15,%ymm8", EVEX_VPDPBUSD, 8, 15, 24, 32, -1, -1, 0, 0)                                        \
  F("vpdpbusd %zmm3,%zmm2,%zmm1", EVEX_VPDPBUSD, 1, 2, 3, 64, -1, -1, 0, 0)                                            \
  F("vpdpbusd %zmm8,%zmm16,%zmm24", EVEX_VPDPBUSD, 24, 16, 8, 64, -1, -1, 0, 0)                                        \
  F("vpdpbusd %zmm16,%zmm8,%zmm31", EVEX_VPDPBUSD, 31, 8, 16, 64, -1, -1, 0, 0)                                        \
  F("vpdpbusd %zmm31,%zmm24,%zmm15", EVEX_VPDPBUSD, 15, 24, 31, 64, -1, -1, 0, 0)                                      \
  F("vpdpbusd (%rcx),%zmm1,%zmm2", EVEX_VPDPBUSD, 2, 1, 0, 64, 1, -1, 0, 0)                                            \
  F("vpdpbusd 0x40(%rcx),%zmm1,%zmm2", EVEX_VPDPBUSD, 2, 1, 0, 64, 1, -1, 0, 0x40)                                     \
  F("vpdpbusd 0x41(%rcx),%zmm1,%zmm2", EVEX_VPDPBUSD, 2, 1, 0, 64, 1, -1, 0, 0x41)                                     \
  F("vpdpbusd -0x2000(%r13),%zmm20,%zmm9", EVEX_VPDPBUSD, 9, 20, 0, 64, 13, -1, 0, -0x2000)                            \
  F("vpdpbusd 0x1fc0(%r12),%zmm20,%zmm9", EVEX_VPDPBUSD, 9, 20, 0, 64, 12, -1, 0, 0x1fc0)                              \
  F("vpdpbusd 0x2000(%rsp),%zmm20,%zmm9", EVEX_VPDPBUSD, 9, 20, 0, 64, 4, -1, 0, 0x2000)                               \
  F("vpdpbusd -0x60(%r14,%r10,8),%ymm16,%ymm17", EVEX_VPDPBUSD, 17, 16, 0, 32, 14, 10, 3, -0x60)                       \
  F("vpdpbusd 0x10(%rax,%r15,2),%xmm16,%xmm17", EVEX_VPDPBUSD, 17, 16, 0, 16, 0, 15, 1, 0x10)                          \
  F("vpdpbusd -1(%rip),%zmm3,%zmm4", EVEX_VPDPBUSD, 4, 3, 0, 64, 16, -1, 0, -1)                                        \
  F("vpdpbusd -0x1000(,%r9,4),%zmm3,%zmm4", EVEX_VPDPBUSD, 4, 3, 0, 64, -1, 9, 2, -0x1000)                             \
  F("vpdpbusd (%rdx){1to16},%zmm3,%zmm4", EVEX_VPDPBUSD, 4, 3, 0, 64, 2, -1, 0, 0)                                     \
  F("vpdpbusd 0x1fc(%rdx){1to16},%zmm3,%zmm4", EVEX_VPDPBUSD, 4, 3, 0, 64, 2, -1, 0, 0x1fc)                            \
  F("vpdpbusd -4(%r11,%rbx,4){1to8},%ymm3,%ymm4", EVEX_VPDPBUSD, 4, 3, 0, 32, 11, 3, 2, -4)                            \
  F("vpdpbusd 8(%rbp){1to4},%xmm23,%xmm4", EVEX_VPDPBUSD, 4, 23, 0, 16, 5, -1, 0, 8)

/* All of them one after another, and where each ends. */
#define ASSEMBLE(text, ...) "\t" text "\n\tends\n"
__asm__("\t.macro ends\n\t.section .rodata\n\t.long 1f - assembled\n\t.text\n1:\n\t.endm\n"
        "\t.section .rodata\n\t.balign 4\nassembled_ends:\n\t.text\nassembled:\n" FORMS(ASSEMBLE));
extern const uint8_t assembled[];
extern const uint32_t assembled_ends[];

typedef struct form {
  const char *text;
  trap_name name;
  unsigned dest, left, right, bytes;
  int base, index;
  unsigned shift;
  int32_t displacement;
} form;

#define FORM_ROW(text, name, dest, left, right, bytes, base, index, shift, displacement)                               \
  {text, TRAP_##name, dest, left, right, bytes, base, index, shift, displacement},
static const form forms[] = {FORMS(FORM_ROW)};
enum { FORM_COUNT = sizeof forms / sizeof forms[0] };

static void check_form(const form *f, const uint8_t *code, size_t length, trap_segment segment, bool only_32_bits) {
  trap_instruction i;
  uint8_t *copy = guarded(length, 1);
  memcpy(copy, code, length);
  for (size_t size = 0; size < length; size++) {
    CHECK(!trap_decode(copy, size, &i));
  }
  if (!trap_decode(copy, TRAP_LONGEST, &i)) { /* may say that there is more to read; the page after may not be there */
    check_fail("refused");
    return;
  }
  CHECK(i.name == f->name && i.length == length);
  CHECK(i.dest == f->dest && i.left == f->left && i.right == f->right && i.bytes == f->bytes);
  CHECK(i.broadcast == (strstr(f->text, "{1to") != NULL));
  CHECK(i.address.base == f->base && i.address.index == f->index && i.address.displacement == f->displacement);
  CHECK(i.address.index == TRAP_NO_REGISTER || i.address.shift == f->shift);
  CHECK(i.address.segment == segment && i.address.only_32_bits == only_32_bits);
  guards_release();
}

static void check_decoding(void) {
  uint8_t code[TRAP_LONGEST + 4];
  check_begin("", "the decoder reads what the assembler writes");
  for (size_t n = 0; n < FORM_COUNT; n++) {
    const uint8_t *from = assembled + (n == 0 ? 0 : assembled_ends[n - 1]);
    const size_t length = (size_t)(assembled + assembled_ends[n] - from);
    check_case("%s", forms[n].text);
    check_form(&forms[n], from, length, TRAP_FLAT, false);
    memcpy(code + 1, from, length);
    code[0] = 0x64;
    check_form(&forms[n], code, length + 1, TRAP_FS, false);
    code[0] = 0x65;
    check_form(&forms[n], code, length + 1, TRAP_GS, false);
    code[0] = 0x3e;
    check_form(&forms[n], code, length + 1, TRAP_FLAT, false);
    code[0] = 0x67;
    check_form(&forms[n], code, length + 1, TRAP_FLAT, true);
  }
  check_end();
}

/* Neighbours in the opcode maps that are not ours. */
static void check_foreign(void) {
  static const uint8_t foreign[][8] = {
      {0x0f, 0x0b},                               /* ud2 */
      {0xc5, 0xf8, 0x49, 0xc0},                   /* two-byte VEX */
      {0xc4, 0xe1, 0x78, 0x49, 0x07},             /* map 0F */
      {0xc4, 0xe3, 0x78, 0x49, 0x07},             /* map 0F3A */
      {0xc4, 0xe2, 0x7a, 0x49, 0x07},             /* F3 */
      {0xc4, 0xe2, 0x72, 0x5c, 0xc2},             /* tdpbf16ps */
      {0xc4, 0xe2, 0x69, 0x51, 0xc1},             /* vpdpbusds */
      {0xc4, 0xe2, 0x68, 0x50, 0xc1},             /* vpdpbuud */
      {0x62, 0xf2, 0x6d, 0x28, 0x51, 0xc1},       /* EVEX vpdpbusds */
      {0x62, 0xf2, 0x6d, 0x28, 0x53, 0xc1},       /* EVEX vpdpwssds */
      {0x62, 0xf2, 0x6c, 0x28, 0x50, 0xc1},       /* EVEX, opcode 50 without prefix 66 */
      {0x62, 0xf1, 0x6d, 0x28, 0x50, 0xc1},       /* EVEX, map 0F */
      {0x62, 0xfa, 0x6d, 0x28, 0x50, 0xc1},       /* EVEX, bit 3 after the prefix's first byte */
      {0x62, 0xf2, 0x69, 0x28, 0x50, 0xc1},       /* EVEX, bit 2 of its second byte */
      {0x62, 0xf2, 0x6d, 0x49, 0x50, 0xc1},       /* vpdpbusd with a mask */
      {0x62, 0xf2, 0x6d, 0xca, 0x50, 0xc1},       /* vpdpbusd with a mask, zeroing */
      {0x62, 0xf2, 0x7b, 0x08, 0x49, 0xc0},       /* EVEX, tilezero's opcode */
      {0x8f, 0xe2, 0x78, 0x49, 0x07},             /* XOP */
      {0x90, 0xc4, 0xe2, 0x78, 0x49, 0x07, 0x00}, /* nop */
  };
  trap_instruction i;
  check_begin("", "the decoder leaves the rest alone");
  for (size_t n = 0; n < sizeof foreign / sizeof foreign[0]; n++) {
    check_case("%02x %02x %02x %02x %02x", foreign[n][0], foreign[n][1], foreign[n][2], foreign[n][3], foreign[n][4]);
    CHECK(!trap_decode(foreign[n], sizeof foreign[n], &i));
  }
  check_end();
}

/* ---- Faults ---- */

static void check_illegal(void) {
  static const uint8_t none[CONFIG_BYTES];
  static const uint8_t ldtilecfg[] = {0xc4, 0xe2, 0x78, 0x49, 0x07}; /* (rdi) */
  static trap_tiles before;
  check_begin("", "illegal uses are refused");
  for (size_t n = 0; n < illegal_uses(); n++) {
    static trap_tiles tiles;
    trap_machine m = {.tile_data_allowed = true, .tiles = &tiles};
    uint8_t *loaded = guarded(CONFIG_BYTES, 1), *memory = guarded(1024, 1);
    illegal_use use;
    illegal_get(n, &use);
    check_case("%s", use.what);
    m.general[7] = (uintptr_t)loaded;
    m.general[6] = (uintptr_t)memory;
    m.general[2] = 64;
    memset(&tiles, 0, sizeof tiles);
    memcpy(loaded, use.config, CONFIG_BYTES);
    if (memcmp(use.config, none, CONFIG_BYTES) != 0) {
      CHECK(run_code(ldtilecfg, sizeof ldtilecfg, &m) == TRAP_DONE);
    }
    memcpy(loaded, use.loaded, CONFIG_BYTES);
    before = tiles;
    CHECK(run_code(use.code, use.length, &m) == (use.protection ? TRAP_PROTECTION : TRAP_UNDEFINED));
    check_same("tiles", CHECK_BYTES, &before, &tiles, sizeof tiles);
    guards_release();
  }
  check_end();
}

/* Without the system's permission the configuration may be set and read, tiles not. */
static void check_permission(void) {
  static trap_tiles tiles;
  static const uint8_t rows[8] = {16, 16, 16}, colsb[8] = {64, 64, 64};
  trap_machine m = {.tiles = &tiles};
  uint8_t code[TRAP_LONGEST], config[CONFIG_BYTES], memory[1024] = {0};
  check_begin("", "tiles need the permission");
  config_make(config, rows, colsb);
  m.general[6] = (uintptr_t)config;
  m.general[7] = (uintptr_t)memory;
  m.general[0] = 64;
  for (int allowed = 0; allowed < 2; allowed++) {
    const trap_outcome expected = allowed != 0 ? TRAP_DONE : TRAP_UNDEFINED;
    m.tile_data_allowed = allowed != 0;
    check_case("%s", allowed != 0 ? "allowed" : "not allowed");
    CHECK(run_code((const uint8_t[]){0xc4, 0xe2, 0x78, 0x49, 0x06}, 5, &m) == TRAP_DONE); /* ldtilecfg (rsi) */
    CHECK(run_code((const uint8_t[]){0xc4, 0xe2, 0x79, 0x49, 0x06}, 5, &m) == TRAP_DONE); /* sttilecfg (rsi) */
    CHECK(run_code(code, code_registers(code, 0x49, 3, 0, 0, 0, false), &m) == expected);
    CHECK(run_code(code, code_memory(code, 0x4b, 3, 0, 0, 7, 0, false), &m) == expected);
    CHECK(run_code(code, code_memory(code, 0x4b, 1, 0, 0, 7, 0, false), &m) == expected);
    CHECK(run_code(code, code_memory(code, 0x4b, 2, 0, 0, 7, 0, false), &m) == expected);
    for (unsigned pp = 0; pp < 4; pp++) {
      CHECK(run_code(code, code_registers(code, 0x5e, pp, 0, 2, 1, false), &m) == expected);
    }
    CHECK(run_code((const uint8_t[]){0xc4, 0xe2, 0x78, 0x49, 0xc0}, 5, &m) == TRAP_DONE); /* tilerelease */
  }
  check_end();
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  check_decoding();
  check_foreign();
  check_illegal();
  check_permission();
  check_vector_products(check_flag(argc, argv, "--expect-native"));
  check_tiles();
  check_frames();
  return check_finish();
}
