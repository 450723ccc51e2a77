/*
 * Compares what the emulator computes with plain models of it and, for vectors, with the CPU's own.
 */
#include "check_trap.h"
#include "model.h"

#include <immintrin.h>
#include <string.h>

enum { OPCODE_CONFIG = 0x49, OPCODE_ROWS = 0x4b, OPCODE_TILES = 0x5e };
enum { NP = 0, P66 = 1, PF3 = 2, PF2 = 3 };
enum { RAX = 0, RSI = 6, RDI = 7 };

/* ---- vpdpbusd, vpdpwssd ---- */

#define NATIVE __attribute__((target("avx512vnni,avx512vl"))) static void
#define NATIVE_DOT(NAME, BITS, DOT)                                                                                    \
  NATIVE NAME##_##BITS(uint8_t *sum, const uint8_t *left, const uint8_t *right) {                                      \
    __m##BITS##i s, l, r;                                                                                              \
    memcpy(&s, sum, sizeof s);                                                                                         \
    memcpy(&l, left, sizeof l);                                                                                        \
    memcpy(&r, right, sizeof r);                                                                                       \
    s = DOT(s, l, r);                                                                                                  \
    memcpy(sum, &s, sizeof s);                                                                                         \
  }
NATIVE_DOT(bytes, 128, _mm_dpbusd_epi32)
NATIVE_DOT(bytes, 256, _mm256_dpbusd_epi32)
NATIVE_DOT(bytes, 512, _mm512_dpbusd_epi32)
NATIVE_DOT(words, 128, _mm_dpwssd_epi32)
NATIVE_DOT(words, 256, _mm256_dpwssd_epi32)
NATIVE_DOT(words, 512, _mm512_dpwssd_epi32)

static void native_dot(const vector_product *p, uint8_t *sum, const uint8_t *left, const uint8_t *right) {
  static void (*const dots[2][3])(uint8_t *, const uint8_t *, const uint8_t *) = {{bytes_128, bytes_256, bytes_512},
                                                                                  {words_128, words_256, words_512}};
  dots[p->words][p->bytes / 32](sum, left, right);
}

static void vector_case(const vector_product *p, bool native) {
  uint8_t code[TRAP_LONGEST], right[VECTOR_BYTES], sum[VECTOR_BYTES] = {0};
  const size_t bytes = product_memory_bytes(p);
  uint8_t *memory = guarded(bytes, 1);
  static trap_machine m, before;
  fill_bytes((int)random_below(BYTES_KINDS), m.vector, sizeof m.vector);
  fill_bytes((int)random_below(BYTES_KINDS), m.vector[p->left], TRAP_VECTOR_BYTES);
  fill_bytes((int)random_below(BYTES_KINDS), memory, bytes);
  m.general[RSI] = product_address(p, memory);
  before = m;
  say_product(p);
  CHECK(run_code(code, code_product(code, p), &m) == TRAP_DONE);
  if (native) {
    model_right(p, before.vector, memory, right);
    memcpy(sum, before.vector[p->dest], p->bytes);
    native_dot(p, sum, before.vector[p->left], right);
    memcpy(before.vector[p->dest], sum, sizeof sum);
  } else {
    model_product(p, before.vector, memory);
  }
  check_same("vectors", CHECK_BYTES, before.vector, m.vector, sizeof m.vector);
  guards_release();
}

/* Every dest with every left; without EVEX, and every right. */
static void vector_cases(bool native) {
  for (int evex = 0; evex < 2; evex++) {
    const unsigned registers = evex != 0 ? VECTORS : VEX_VECTORS;
    for (unsigned n = 0; n < registers * registers * 16; n++) {
      vector_product p = random_product(evex != 0);
      p.dest = n % registers;
      p.left = n / registers % registers;
      p.right = evex != 0 ? p.right : n / registers / registers;
      vector_case(&p, native);
      p.in_memory = p.broadcast = false;
      vector_case(&p, native);
    }
  }
}

void check_vector_products(bool expect_native) {
  const bool native = __builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  check_begin("", "vector products are plain sums");
  vector_cases(false);
  check_end();
  if (native || expect_native) {
    check_begin("", "vector products are the CPU's");
    CHECK(native);
    if (native) {
      vector_cases(true);
    }
    check_end();
  }
}

/* ---- Tiles ---- */

static trap_machine machine;
static trap_tiles state;
static uint8_t config[64];

static void reset(void) {
  memset(&machine, 0, sizeof machine);
  memset(&state, 0, sizeof state);
  memset(config, 0, sizeof config);
  machine.tiles = &state;
  machine.tile_data_allowed = true;
}

static void set_shape(unsigned tile, size_t rows, size_t colsb) {
  config[0] = 1;
  config[16 + 2 * tile] = (uint8_t)colsb;
  config[48 + tile] = (uint8_t)rows;
}

static void run(const uint8_t *code, size_t length) {
  const trap_outcome outcome = run_code(code, length, &machine);
  if (outcome != TRAP_DONE) {
    check_fail("opcode %02x, prefix %u: outcome %d", code[3], code[2] & 3u, (int)outcome);
  }
}

static void config_instruction(unsigned pp, void *memory) {
  static const uint8_t code[4][5] = {{0xc4, 0xe2, 0x78, OPCODE_CONFIG, 0x07}, {0xc4, 0xe2, 0x79, OPCODE_CONFIG, 0x07}};
  machine.general[RDI] = (uintptr_t)memory;
  run(code[pp], 5);
}
static void ldtilecfg(void *memory) { config_instruction(NP, memory); }
static void sttilecfg(void *memory) { config_instruction(P66, memory); }

static void move(unsigned pp, unsigned tile, void *memory, size_t stride) {
  uint8_t code[TRAP_LONGEST];
  machine.general[RSI] = (uintptr_t)memory;
  machine.general[RAX] = stride;
  run(code, code_memory(code, OPCODE_ROWS, pp, tile, 0, RSI, RAX, false));
}

static void tilezero(unsigned tile) {
  uint8_t code[TRAP_LONGEST];
  run(code, code_registers(code, OPCODE_CONFIG, PF2, tile, 0, 0, false));
}

static void multiply(unsigned pp, unsigned dest, unsigned left, unsigned right) {
  uint8_t code[TRAP_LONGEST];
  run(code, code_registers(code, OPCODE_TILES, pp, dest, right, left, false));
}

/* The tile is the matrix, and zero beyond it. */
static void check_tile(unsigned tile, const matrix *m) {
  uint8_t expected[TRAP_ROWS][TRAP_ROW_BYTES] = {0};
  for (size_t i = 0; i < m->rows; i++) {
    memcpy(expected[i], m->at + i * m->stride, m->bytes);
  }
  check_same("tile", CHECK_BYTES, expected, state.data[tile], sizeof expected);
}

static void product_case(unsigned pp, size_t m, size_t n, size_t k) {
  const unsigned first = (unsigned)random_below(8), step = 1 + (unsigned)random_below(3);
  const unsigned c_tile = first, a_tile = (first + step) % 8, b_tile = (first + 2 * step) % 8;
  reset();
  set_shape(c_tile, m, 4 * n);
  set_shape(a_tile, m, 4 * k);
  set_shape(b_tile, k, 4 * n);
  check_case("prefix %u, m %zu, n %zu, k %zu, tiles %u %u %u", pp, m, n, k, c_tile, a_tile, b_tile);
  const matrix c = random_matrix(m, 4 * n), a = random_matrix(m, 4 * k), b = random_matrix(k, 4 * n);
  ldtilecfg(config);
  memset(state.data, 0xa5, sizeof state.data); /* what is not loaded must not matter */
  move(random_below(2) != 0 ? PF2 : P66, c_tile, c.at, c.stride);
  move(PF2, a_tile, a.at, a.stride);
  move(P66, b_tile, b.at, b.stride);
  check_tile(c_tile, &c);
  check_tile(a_tile, &a);
  check_tile(b_tile, &b);
  multiply(pp, c_tile, a_tile, b_tile);
  model_tiles((pp & 2) != 0, (pp & 1) != 0, &c, &a, &b); /* uu, us, su, ss */
  check_tile(c_tile, &c);
  check_tile(a_tile, &a);
  check_tile(b_tile, &b);
  matrix stored = random_matrix(m, 4 * n), expected = stored;
  expected.at = guarded(stored.span, 1);
  memcpy(expected.at, stored.at, stored.span);
  for (size_t i = 0; i < m; i++) {
    memcpy(expected.at + i * expected.stride, c.at + i * c.stride, c.bytes);
  }
  move(PF3, c_tile, stored.at, stored.stride);
  check_same("stored", CHECK_BYTES, expected.at, stored.at, stored.span);
  guards_release();
}

static void check_products(void) {
  check_begin("", "tile products of every shape");
  for (size_t m = 1; m <= TRAP_ROWS; m++) {
    for (size_t n = 1; n <= TRAP_ROW_BYTES / 4; n++) {
      for (size_t k = 1; k <= TRAP_ROW_BYTES / 4; k++) {
        for (unsigned pp = 0; pp < 4; pp++) {
          product_case(pp, m, n, k);
        }
      }
    }
  }
  check_end();
}

static void check_configuration(void) {
  static const uint8_t zero[64];
  uint8_t *memory = guarded(64, 1), *stored = guarded(64, 1);
  check_begin("", "a configuration is stored as it was loaded");
  for (size_t repeat = 0; repeat < 300; repeat++) {
    reset();
    sttilecfg(stored);
    check_same("before", CHECK_BYTES, zero, stored, 64);
    config[1] = (uint8_t)random_below(256); /* start_row */
    for (unsigned t = 0; t < 8; t++) {
      const size_t rows = random_below(TRAP_ROWS + 1);
      set_shape(t, rows, rows != 0 ? random_between(1, TRAP_ROW_BYTES) : 0);
    }
    memcpy(memory, config, 64);
    memset(state.data, 0xa5, sizeof state.data);
    ldtilecfg(memory);
    sttilecfg(stored);
    check_case("repeat %zu", repeat);
    check_same("stored", CHECK_BYTES, config, stored, 64);
    CHECK(state.data[0][0][0] == 0 && memcmp(state.data[0][0], &state.data[0][0][1], sizeof state.data - 1) == 0);
    memset(state.data, 0xa5, sizeof state.data);
    if (repeat % 2 != 0) {
      memory[0] = 0; /* a palette of 0: the initial state, whatever the rest */
      ldtilecfg(memory);
    } else {
      run((const uint8_t[]){0xc4, 0xe2, 0x78, OPCODE_CONFIG, 0xc0}, 5); /* tilerelease */
    }
    sttilecfg(stored);
    check_same("released", CHECK_BYTES, zero, stored, 64);
    CHECK(state.data[0][0][0] == 0 && memcmp(state.data[0][0], &state.data[0][0][1], sizeof state.data - 1) == 0);
    CHECK(run_code((const uint8_t[]){0xc4, 0xe2, 0x7b, OPCODE_CONFIG, 0xc0}, 5, &machine) == TRAP_UNDEFINED);
  }
  check_end();
}

/* start_row: rows before it stay as they are, and it is 0 afterwards. */
static void check_start_row(void) {
  check_begin("", "start_row resumes a load or a store");
  for (size_t rows = 1; rows <= TRAP_ROWS; rows++) {
    for (size_t start = 0; start < rows; start++) {
      const size_t bytes = 4 * random_between(1, 16);
      check_case("rows %zu, start_row %zu, bytes %zu", rows, start, bytes);
      for (int store = 0; store < 2; store++) {
        reset();
        set_shape(3, rows, bytes);
        config[1] = (uint8_t)start;
        ldtilecfg(config);
        memset(state.data[3], 0x11, sizeof state.data[3]);
        const matrix m = random_matrix(rows, bytes);
        for (size_t i = 0; i < start; i++) {
          memset(m.at + i * m.stride, 0x22, bytes);
        }
        move(store != 0 ? PF3 : PF2, 3, m.at, m.stride);
        for (size_t i = 0; i < rows; i++) {
          const bool moved = i >= start;
          CHECK(memcmp(state.data[3][i], m.at + i * m.stride, bytes) == 0 || !moved);
          CHECK(state.data[3][i][0] == 0x11 || (moved && store == 0));
          CHECK(m.at[i * m.stride] == 0x22 || moved);
        }
        CHECK(state.config.start_row == 0);
        guards_release();
      }
    }
  }
  check_end();
}

static void check_zero(void) {
  check_begin("", "tilezero clears its tile alone");
  for (unsigned tile = 0; tile < 8; tile++) {
    static uint8_t expected[TRAP_TILES][TRAP_ROWS][TRAP_ROW_BYTES];
    reset();
    for (unsigned t = 0; t < 8; t++) {
      set_shape(t, random_between(1, 16), random_between(1, 64));
    }
    check_case("tile %u", tile);
    ldtilecfg(config);
    memset(state.data, 0xa5, sizeof state.data);
    memset(expected, 0xa5, sizeof expected);
    memset(expected[tile], 0, sizeof expected[tile]);
    tilezero(tile);
    check_same("tiles", CHECK_BYTES, expected, state.data, sizeof expected);
  }
  check_end();
}

/* An index of none is a stride of 0; an index may be scaled; rip may be a base; with prefix 67 addresses have 32 bits;
 * segments have bases. */
static void check_addresses(void) {
  uint8_t code[TRAP_LONGEST + 1];
  check_begin("", "addresses");
  reset();
  set_shape(0, 4, 16);
  ldtilecfg(config);
  matrix m = random_matrix(4, 16), same;
  check_case("no index");
  same = m;
  same.stride = 0;
  machine.general[RSI] = (uintptr_t)m.at;
  run((const uint8_t[]){0xc4, 0xe2, 0x7b, OPCODE_ROWS, 0x04, 0x26}, 6); /* tileloadd (rsi) */
  check_tile(0, &same);
  for (unsigned shift = 0; shift < 4; shift++) {
    check_case("index << %u", shift);
    m = random_matrix(4, 16);
    m.stride = 8 * (m.stride / 8); /* at least 16 */
    machine.general[RSI] = (uintptr_t)m.at;
    machine.general[RAX] = m.stride >> shift;
    run((const uint8_t[]){0xc4, 0xe2, 0x7b, OPCODE_ROWS, 0x04, (uint8_t)(shift << 6 | RSI)}, 6);
    check_tile(0, &m);
  }
  const size_t length = 1 + code_memory(code + 1, OPCODE_ROWS, PF2, 0, 0, RSI, RAX, false);
  for (unsigned segment = TRAP_FS; segment <= TRAP_GS; segment++) {
    check_case("segment %u", segment);
    m = random_matrix(4, 16);
    code[0] = segment == TRAP_FS ? 0x64 : 0x65;
    machine.segment_base[segment] = (uintptr_t)m.at - 1000;
    machine.general[RSI] = 1000;
    machine.general[RAX] = m.stride;
    run(code, length);
    check_tile(0, &m);
  }
  check_case("32 bits");
  m = random_matrix(4, 16);
  code[0] = 0x67;
  machine.segment_base[TRAP_FLAT] = (uintptr_t)m.at - 1000; /* stands for memory below 4 GB */
  machine.general[RSI] = 0xabcdef0000000000u + 1000;
  machine.general[RAX] = m.stride;
  run(code, length);
  check_tile(0, &m);
  check_case("rip");
  reset();
  set_shape(5, 9, 28);
  machine.next = (uintptr_t)config - 0x12345678 - 9;
  run((const uint8_t[]){0xc4, 0xe2, 0x78, OPCODE_CONFIG, 0x05, 0x78, 0x56, 0x34, 0x12},
      9); /* ldtilecfg 0x12345678(rip) */
  CHECK(state.config.rows[5] == 9 && state.config.colsb[5] == 28);
  guards_release();
  check_end();
}

void check_tiles(void) {
  check_products();
  check_configuration();
  check_start_row();
  check_zero();
  check_addresses();
}
