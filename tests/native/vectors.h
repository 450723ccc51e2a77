/*
 * Reads the conformance set of tests/vectors/, whose README.md describes the format. Little-endian machines only.
 */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VECTORS_MAX_ARRAYS = 8, VECTORS_MAX_DIMS = 3 };

typedef enum vectors_type { VECTORS_F32, VECTORS_S32, VECTORS_U8, VECTORS_S8, VECTORS_TYPES } vectors_type;
typedef enum vectors_source { VECTORS_STORED, VECTORS_FILL, VECTORS_HASH, VECTORS_SOURCES } vectors_source;

typedef struct vectors_array {
  char name[24];
  vectors_type type;
  size_t dims[VECTORS_MAX_DIMS], rank;
  size_t count, bytes;
  bool output;
  vectors_source source;
  uint64_t number; /* offset in the data, seed or checksum */
  char kind[16];   /* of a generated array */
} vectors_array;

/* One call. */
typedef struct vectors_case {
  char text[256]; /* the case's line, for messages */
  char op[24];
  vectors_array arrays[VECTORS_MAX_ARRAYS];
  size_t arrays_count;
} vectors_case;

typedef struct vectors {
  char *index, *next, *end; /* lines of cases lie in [next, end) */
  uint8_t *data;
  size_t data_bytes, cases;
} vectors;

/* Reads both files of `folder`. False, with a message on standard error, where one cannot be read, is damaged or of
 * another version. */
bool vectors_open(vectors *set, const char *folder);
/* The next case. False at the end and, with a message, at a line that is none: `set->next` is not `set->end` then. */
bool vectors_next(vectors *set, vectors_case *c);
/* Begin again with the first case. */
void vectors_rewind(vectors *set);
void vectors_close(vectors *set);

/* The value of an option ("scheme") of a case, up to a space or the end; NULL if it has none. */
const char *vectors_option(const vectors_case *c, const char *name);
const vectors_array *vectors_find(const vectors_case *c, const char *name);
/* Writes a stored or generated array. False, with a message, if it lies outside of the data or its generator is
 * unknown. */
bool vectors_value(const vectors *set, const vectors_array *array, void *to);
uint64_t vectors_checksum(const void *p, size_t bytes);

#endif
