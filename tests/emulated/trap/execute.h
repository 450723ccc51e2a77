/*
 * Executes a decoded instruction on a plain state, with the faults of the hardware.
 *
 * Source: Intel SDM volume 2, the operation of each instruction and the exception classes AMX-E1 to AMX-E6 (section
 * 2.10); volume 1, section 18 (tiles) and 13.14 (extended feature disable). Palette 1: 8 tiles of 16 rows of 64 bytes.
 */
#ifndef TRAP_EXECUTE_H
#define TRAP_EXECUTE_H

#include "decode.h"

enum { TRAP_TILES = 8, TRAP_ROWS = 16, TRAP_ROW_BYTES = 64, TRAP_VECTORS = 32, TRAP_VECTOR_BYTES = 64 };

/* All zero is the initial state, of the configuration and of the tiles. */
typedef struct trap_config {
  uint8_t palette; /* 0: not configured */
  uint8_t start_row;
  uint8_t rows[TRAP_TILES];
  uint16_t colsb[TRAP_TILES]; /* bytes of a row */
} trap_config;

typedef struct trap_tiles {
  trap_config config;
  uint8_t data[TRAP_TILES][TRAP_ROWS][TRAP_ROW_BYTES];
} trap_tiles;

typedef struct trap_machine {
  uint64_t general[16];
  uint64_t next;                                   /* address of the next instruction */
  uint64_t segment_base[3];                        /* indexed by trap_segment */
  uint8_t vector[TRAP_VECTORS][TRAP_VECTOR_BYTES]; /* zmm0 to zmm31, lowest byte first */
  bool tile_data_allowed; /* the operating system has granted it; else use is #NM, which Linux makes SIGILL too */
  trap_tiles *tiles;
} trap_machine;

typedef enum trap_outcome {
  TRAP_DONE,
  TRAP_UNDEFINED, /* #UD */
  TRAP_PROTECTION /* #GP */
} trap_outcome;

/* Memory is read and written through its addresses; a page that is not there faults here. */
trap_outcome trap_execute(const trap_instruction *instruction, trap_machine *machine);

#endif
