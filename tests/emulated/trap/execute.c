/*
 * The execution. Plain loops after the manual's pseudocode: what the kernels are judged by should be easy to judge.
 */
#include "execute.h"

#include <string.h>

/* Bytes of a tile configuration in memory. */
enum {
  CONFIG_BYTES = 64,
  CONFIG_START_ROW = 1,
  CONFIG_RESERVED = 2,
  CONFIG_COLSB = 16,
  CONFIG_ROWS = 48,
  PALETTES = 1
};

static uint8_t *address_of(const trap_machine *m, const trap_address *a, uint64_t index) {
  const uint64_t base = a->base == TRAP_NO_REGISTER ? 0 : a->base == TRAP_NEXT ? m->next : m->general[a->base];
  uint64_t offset = base + index + (uint64_t)(int64_t)a->displacement;
  if (a->only_32_bits) {
    offset &= 0xffffffffu;
  }
  return (uint8_t *)(uintptr_t)(m->segment_base[a->segment] + offset);
}

/* The index register as it is scaled; for tile loads and stores that is the stride of rows. */
static uint64_t scaled_index(const trap_machine *m, const trap_address *a) {
  return a->index == TRAP_NO_REGISTER ? 0 : m->general[a->index] << a->shift;
}

static uint8_t *operand(const trap_machine *m, const trap_address *a) { return address_of(m, a, scaled_index(m, a)); }

/* ---- Configuration ---- */

static bool is_zero(const uint8_t *p, size_t n) {
  while (n != 0 && *p == 0) {
    p++;
    n--;
  }
  return n == 0;
}

/* False if the CPU refuses it. A palette of 0 is the initial state, whatever follows it. */
static bool read_config(const uint8_t *bytes, trap_config *config) {
  const size_t colsb_end = CONFIG_COLSB + 2 * TRAP_TILES, rows_end = CONFIG_ROWS + TRAP_TILES;
  memset(config, 0, sizeof *config);
  if (bytes[0] == 0) {
    return true;
  }
  if (bytes[0] > PALETTES || !is_zero(bytes + CONFIG_RESERVED, CONFIG_COLSB - CONFIG_RESERVED) ||
      !is_zero(bytes + colsb_end, CONFIG_ROWS - colsb_end) || !is_zero(bytes + rows_end, CONFIG_BYTES - rows_end)) {
    return false;
  }
  config->palette = bytes[0];
  config->start_row = bytes[CONFIG_START_ROW];
  for (size_t t = 0; t < TRAP_TILES; t++) {
    config->colsb[t] = (uint16_t)(bytes[CONFIG_COLSB + 2 * t] | bytes[CONFIG_COLSB + 2 * t + 1] << 8);
    config->rows[t] = bytes[CONFIG_ROWS + t];
    if (config->colsb[t] > TRAP_ROW_BYTES || config->rows[t] > TRAP_ROWS ||
        (config->colsb[t] == 0) != (config->rows[t] == 0)) {
      return false;
    }
  }
  return true;
}

static trap_outcome load_config(trap_machine *m, const trap_address *a) {
  uint8_t bytes[CONFIG_BYTES];
  trap_config config;
  memcpy(bytes, operand(m, a), sizeof bytes);
  if (!read_config(bytes, &config)) {
    return TRAP_PROTECTION;
  }
  memset(m->tiles, 0, sizeof *m->tiles);
  m->tiles->config = config;
  return TRAP_DONE;
}

static trap_outcome store_config(trap_machine *m, const trap_address *a) {
  const trap_tiles *tiles = m->tiles;
  uint8_t config[CONFIG_BYTES] = {tiles->config.palette, tiles->config.start_row};
  for (size_t t = 0; t < TRAP_TILES; t++) {
    config[CONFIG_COLSB + 2 * t] = (uint8_t)tiles->config.colsb[t]; /* at most 64 */
    config[CONFIG_ROWS + t] = tiles->config.rows[t];
  }
  memcpy(operand(m, a), config, sizeof config);
  return TRAP_DONE;
}

static trap_outcome release(trap_machine *m) {
  memset(m->tiles, 0, sizeof *m->tiles);
  return TRAP_DONE;
}

/* ---- Tiles ---- */

static bool is_valid(const trap_machine *m, unsigned tile) {
  return m->tile_data_allowed && m->tiles->config.palette != 0 && tile < TRAP_TILES && m->tiles->config.rows[tile] != 0;
}

static bool has_whole_elements(const trap_tiles *tiles, unsigned tile) { return tiles->config.colsb[tile] % 4 == 0; }

static trap_outcome zero(trap_machine *m, unsigned tile) {
  if (!is_valid(m, tile)) {
    return TRAP_UNDEFINED;
  }
  memset(m->tiles->data[tile], 0, sizeof m->tiles->data[tile]);
  m->tiles->config.start_row = 0;
  return TRAP_DONE;
}

/* Rows before start_row are those of an earlier, interrupted load of the same tile. */
static trap_outcome move_rows(trap_machine *m, unsigned tile, const trap_address *a, bool store) {
  trap_tiles *tiles = m->tiles;
  if (!is_valid(m, tile) || !has_whole_elements(tiles, tile) || tiles->config.start_row >= tiles->config.rows[tile]) {
    return TRAP_UNDEFINED;
  }
  const uint64_t stride = scaled_index(m, a);
  const size_t bytes = tiles->config.colsb[tile];
  for (size_t row = tiles->config.start_row; row < TRAP_ROWS; row++) {
    uint8_t *data = tiles->data[tile][row];
    if (row < tiles->config.rows[tile] && store) {
      memcpy(address_of(m, a, row * stride), data, bytes);
    } else if (row < tiles->config.rows[tile]) {
      memcpy(data, address_of(m, a, row * stride), bytes);
      memset(data + bytes, 0, TRAP_ROW_BYTES - bytes);
    } else if (!store) {
      memset(data, 0, TRAP_ROW_BYTES);
    }
  }
  tiles->config.start_row = 0;
  return TRAP_DONE;
}

/* ---- Products ---- */

static int32_t widen(uint8_t byte, bool is_signed) { return is_signed ? (int8_t)byte : byte; }

/* sum + the four products of bytes, modulo 2^32; sums are little-endian. */
static void add_products(uint8_t *sum, const uint8_t *left, bool left_signed, const uint8_t *right, bool right_signed) {
  uint32_t value;
  memcpy(&value, sum, sizeof value);
  for (size_t i = 0; i < 4; i++) {
    value += (uint32_t)(widen(left[i], left_signed) * widen(right[i], right_signed));
  }
  memcpy(sum, &value, sizeof value);
}

/* sum + the two products of signed words, modulo 2^32. */
static void add_word_products(uint8_t *sum, const uint8_t *left, const uint8_t *right) {
  uint32_t value;
  int16_t l[2], r[2];
  memcpy(&value, sum, sizeof value);
  memcpy(l, left, sizeof l);
  memcpy(r, right, sizeof r);
  value += (uint32_t)(l[0] * r[0]);
  value += (uint32_t)(l[1] * r[1]);
  memcpy(sum, &value, sizeof value);
}

static bool can_multiply(const trap_machine *m, unsigned dest, unsigned left, unsigned right) {
  const trap_tiles *tiles = m->tiles;
  return dest != left && dest != right && left != right &&                     /* all different */
         is_valid(m, dest) && is_valid(m, left) && is_valid(m, right) &&       /* configured */
         has_whole_elements(tiles, dest) && has_whole_elements(tiles, left) && /* dwords */
         tiles->config.rows[dest] == tiles->config.rows[left] &&
         tiles->config.colsb[dest] == tiles->config.colsb[right] &&  /* m, n */
         tiles->config.colsb[left] / 4 == tiles->config.rows[right]; /* k */
}

/* dest (m, n int32) += left (m, k groups of 4 bytes) * right (k, n groups of 4 bytes). */
static trap_outcome multiply_tiles(trap_machine *m, const trap_instruction *i, bool left_signed, bool right_signed) {
  trap_tiles *tiles = m->tiles;
  if (!can_multiply(m, i->dest, i->left, i->right)) {
    return TRAP_UNDEFINED;
  }
  const size_t bytes = tiles->config.colsb[i->dest], rows = tiles->config.rows[i->dest];
  for (size_t row = 0; row < TRAP_ROWS; row++) {
    uint8_t *sum = tiles->data[i->dest][row];
    const size_t kept = row < rows ? bytes : 0;
    for (size_t k = 0; k < tiles->config.rows[i->right]; k++) {
      for (size_t n = 0; n < kept; n += 4) {
        add_products(sum + n, tiles->data[i->left][row] + 4 * k, left_signed, tiles->data[i->right][k] + n,
                     right_signed);
      }
    }
    memset(sum + kept, 0, TRAP_ROW_BYTES - kept);
  }
  tiles->config.start_row = 0;
  return TRAP_DONE;
}

/* All bits above the result become zero, as with every VEX- or EVEX-coded instruction. */
static trap_outcome multiply_vectors(trap_machine *m, const trap_instruction *i, bool words) {
  const size_t step = i->broadcast ? 0 : 4;
  uint8_t result[TRAP_VECTOR_BYTES] = {0}, right[TRAP_VECTOR_BYTES];
  memcpy(right, i->has_address ? operand(m, &i->address) : m->vector[i->right], i->broadcast ? 4 : i->bytes);
  memcpy(result, m->vector[i->dest], i->bytes);
  for (size_t n = 0; n < i->bytes / 4; n++) {
    if (words) {
      add_word_products(result + 4 * n, m->vector[i->left] + 4 * n, right + step * n);
    } else {
      add_products(result + 4 * n, m->vector[i->left] + 4 * n, false, right + step * n, true);
    }
  }
  memcpy(m->vector[i->dest], result, sizeof result);
  return TRAP_DONE;
}

trap_outcome trap_execute(const trap_instruction *i, trap_machine *m) {
  switch (i->name) {
  case TRAP_TILERELEASE:
    return release(m);
  case TRAP_LDTILECFG:
    return load_config(m, &i->address);
  case TRAP_STTILECFG:
    return store_config(m, &i->address);
  case TRAP_TILEZERO:
    return zero(m, i->dest);
  case TRAP_TILELOADD:
  case TRAP_TILELOADDT1:
    return move_rows(m, i->dest, &i->address, false);
  case TRAP_TILESTORED:
    return move_rows(m, i->dest, &i->address, true);
  case TRAP_TDPBUUD:
    return multiply_tiles(m, i, false, false);
  case TRAP_TDPBUSD:
    return multiply_tiles(m, i, false, true);
  case TRAP_TDPBSUD:
    return multiply_tiles(m, i, true, false);
  case TRAP_TDPBSSD:
    return multiply_tiles(m, i, true, true);
  case TRAP_VPDPBUSD:
  case TRAP_EVEX_VPDPBUSD:
    return multiply_vectors(m, i, false);
  case TRAP_VPDPWSSD:
  case TRAP_EVEX_VPDPWSSD:
    return multiply_vectors(m, i, true);
  case TRAP_NAMES:
    break;
  }
  return TRAP_UNDEFINED;
}
