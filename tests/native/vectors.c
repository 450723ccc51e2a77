/*
 * Reads the conformance set: text lines, generators, checksum.
 */
#include "vectors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[VECTORS_TYPES] = {"f32", "s32", "u8", "s8"};
static const size_t type_bytes[VECTORS_TYPES] = {4, 4, 1, 1};
static const char *const source_names[VECTORS_SOURCES] = {"stored", "fill", "hash"};

/* ---- Numbers ---- */

#define STEP UINT64_C(0x9e3779b97f4a7c15)

/* One step of splitmix64 from state `z`. */
static uint64_t mix(uint64_t z) {
  z += STEP;
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

uint64_t vectors_checksum(const void *p, size_t bytes) {
  const uint8_t *from = p;
  uint64_t sum = bytes;
  for (size_t i = 0; i * 4 < bytes; i++) {
    uint32_t word = 0;
    memcpy(&word, from + i * 4, bytes - i * 4 < 4 ? bytes - i * 4 : 4);
    sum += mix((uint64_t)i << 32 | word);
  }
  return sum;
}

static float float_from(uint64_t bits) {
  const uint32_t low = (uint32_t)bits;
  float x;
  memcpy(&x, &low, sizeof x);
  return x;
}

static float uniform(uint64_t r) { return (float)((int32_t)(r >> 40) - (1 << 23)) * 0x1p-23f; }
static float spread(uint64_t r) { return ldexpf(uniform(r), (int)(r & 15) - 8); }
static float halves(uint64_t r) { return (float)((int32_t)(r % 511) - 255) * 0.5f; }
static float denormal(uint64_t r) { return float_from(r & 0x807fffff); }
static float huge(uint64_t r) { return float_from((r & 0x8000ffff) | 0x7f7f0000); }
static float any_bits(uint64_t r) { return float_from((r & 0x7f800000) == 0x7f800000 ? r & 0xbfffffff : r); }
static float scale(uint64_t r) { return float_from(0x3a800000 | r >> 41); }

static float (*float_generator(const char *kind))(uint64_t) {
  static const struct {
    const char *kind;
    float (*generator)(uint64_t);
  } table[] = {{"uniform", uniform}, {"spread", spread}, {"halves", halves}, {"denormal", denormal},
               {"huge", huge},       {"bits", any_bits}, {"scale", scale}};
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    if (strcmp(kind, table[i].kind) == 0) {
      return table[i].generator;
    }
  }
  return NULL;
}

static void put(const vectors_array *array, void *to, size_t i, int32_t value) {
  if (array->type == VECTORS_S32) {
    memcpy((char *)to + i * sizeof value, &value, sizeof value);
  } else {
    ((uint8_t *)to)[i] = (uint8_t)value;
  }
}

static bool generate(const vectors_array *array, void *to) {
  const size_t size = type_bytes[array->type];
  if (strcmp(array->kind, "constant") == 0) {
    for (size_t i = 0; i < array->count; i++) {
      memcpy((char *)to + i * size, &array->number, size);
    }
    return true;
  }
  const bool u8 = strcmp(array->kind, "u8") == 0, s8 = strcmp(array->kind, "s8") == 0;
  float (*generator)(uint64_t) = array->type == VECTORS_F32 ? float_generator(array->kind) : NULL;
  if (generator == NULL && (array->type == VECTORS_F32 || !(u8 || s8))) {
    fprintf(stderr, "vectors: no generator of %s is named '%s'\n", type_names[array->type], array->kind);
    return false;
  }
  for (size_t i = 0; i < array->count; i++) {
    const uint64_t r = mix(array->number + i * STEP);
    if (generator != NULL) {
      const float x = generator(r);
      memcpy((char *)to + i * sizeof x, &x, sizeof x);
    } else {
      put(array, to, i, u8 ? (uint8_t)(r >> 56) : (int8_t)(r >> 56));
    }
  }
  return true;
}

bool vectors_value(const vectors *set, const vectors_array *array, void *to) {
  if (array->source == VECTORS_FILL) {
    return generate(array, to);
  }
  if (array->number > set->data_bytes || array->bytes > set->data_bytes - array->number) {
    fprintf(stderr, "vectors: %s lies outside of data.bin\n", array->name);
    return false;
  }
  memcpy(to, set->data + array->number, array->bytes);
  return true;
}

/* ---- Files ---- */

/* A whole file and a 0 after it; NULL, with a message, if it cannot be read. */
static uint8_t *read_file(const char *folder, const char *name, size_t *bytes) {
  char path[1024];
  (void)snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  uint8_t *p = NULL;
  long size = -1;
  if (file != NULL && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0) {
    p = malloc((size_t)size + 1);
    if (p != NULL && fread(p, 1, (size_t)size, file) != (size_t)size) {
      free(p);
      p = NULL;
    }
  }
  if (file != NULL) {
    (void)fclose(file);
  }
  if (p == NULL) {
    fprintf(stderr, "vectors: cannot read %s\n", path);
    return NULL;
  }
  p[size] = 0;
  *bytes = (size_t)size;
  return p;
}

bool vectors_open(vectors *set, const char *folder) {
  size_t index_bytes = 0, data_bytes = 0, cases = 0;
  uint64_t index_sum = 0, data_sum = 0;
  int head = 0;
  memset(set, 0, sizeof *set);
  set->index = (char *)read_file(folder, "cases.txt", &index_bytes);
  set->data = set->index != NULL ? read_file(folder, "data.bin", &set->data_bytes) : NULL;
  if (set->data == NULL) {
    vectors_close(set);
    return false;
  }
  const char *what = NULL;
  set->end = set->index; /* the last line, which ends in a newline */
  for (char *p = set->index; (p = strchr(p, '\n')) != NULL && p[1] != '\0';) {
    set->end = ++p;
  }
  if (sscanf(set->end, "end %zu %" SCNx64, &cases, &index_sum) != 2 ||
      vectors_checksum(set->index, (size_t)(set->end - set->index)) != index_sum) {
    what = "cases.txt is damaged: its checksum differs";
  } else if (sscanf(set->index, "dynq vectors 1\ndata %zu %" SCNx64 "\n%n", &data_bytes, &data_sum, &head) != 2) {
    what = "cases.txt is not of version 1";
  } else if (data_bytes != set->data_bytes || vectors_checksum(set->data, data_bytes) != data_sum) {
    what = "data.bin is damaged: its size or its checksum differs";
  }
  if (what != NULL) {
    fprintf(stderr, "vectors: %s: %s\n", folder, what);
    vectors_close(set);
    return false;
  }
  set->cases = cases;
  vectors_rewind(set);
  return true;
}

void vectors_rewind(vectors *set) { /* after the two lines of the head */
  set->next = strchr(strchr(set->index, '\n') + 1, '\n') + 1;
}

void vectors_close(vectors *set) {
  free(set->index);
  free(set->data);
  memset(set, 0, sizeof *set);
}

/* ---- Lines ---- */

static size_t index_of(const char *const *names, size_t count, const char *name) {
  size_t i = 0;
  while (i < count && strcmp(names[i], name) != 0) {
    i++;
  }
  return i;
}

/* "in NAME TYPE AxB SOURCE ..." */
static bool read_array(const char *line, vectors_array *array) {
  char word[8], type[8], shape[64], source[8];
  int used = 0;
  memset(array, 0, sizeof *array);
  if (sscanf(line, "%7s %23s %7s %63s %7s %n", word, array->name, type, shape, source, &used) != 5) {
    return false;
  }
  array->output = strcmp(word, "out") == 0;
  array->type = (vectors_type)index_of(type_names, VECTORS_TYPES, type);
  array->source = (vectors_source)index_of(source_names, VECTORS_SOURCES, source);
  if ((!array->output && strcmp(word, "in") != 0) || array->type == VECTORS_TYPES || array->source == VECTORS_SOURCES) {
    return false;
  }
  array->count = 1;
  for (char *p = shape; *p != '\0' && array->rank < VECTORS_MAX_DIMS;) {
    const size_t dim = strtoul(p, &p, 10);
    array->dims[array->rank++] = dim;
    array->count *= dim;
    p += *p == 'x';
  }
  array->bytes = array->count * type_bytes[array->type];
  switch (array->source) {
  case VECTORS_STORED:
    return sscanf(line + used, "%" SCNu64, &array->number) == 1;
  case VECTORS_HASH:
    return sscanf(line + used, "%" SCNx64, &array->number) == 1;
  case VECTORS_FILL: { /* the seed may be negative: the bits of an int8 constant */
    int64_t seed = 0;
    const bool read = sscanf(line + used, "%15s %" SCNd64, array->kind, &seed) == 2;
    array->number = (uint64_t)seed;
    return read;
  }
  case VECTORS_SOURCES:
    break;
  }
  return false;
}

/* Copies the next line, without its end, and steps over it. */
static bool next_line(vectors *set, char *line, size_t size) {
  const size_t length = strcspn(set->next, "\n");
  if (set->next == set->end || length >= size) {
    return false;
  }
  memcpy(line, set->next, length);
  line[length] = '\0';
  set->next += length + 1;
  return true;
}

bool vectors_next(vectors *set, vectors_case *c) {
  char *begin = set->next, line[256];
  memset(c, 0, sizeof *c);
  if (set->next == set->end) {
    return false;
  }
  bool good = next_line(set, c->text, sizeof c->text) && sscanf(c->text, "case %*u %23s", c->op) == 1;
  while (good && set->next != set->end && strncmp(set->next, "case ", 5) != 0) {
    good = c->arrays_count < VECTORS_MAX_ARRAYS && next_line(set, line, sizeof line) &&
           read_array(line, &c->arrays[c->arrays_count++]);
  }
  if (!good) {
    fprintf(stderr, "vectors: not a case: %.*s\n", (int)strcspn(begin, "\n"), begin);
    set->next = begin;
  }
  return good;
}

const char *vectors_option(const vectors_case *c, const char *name) {
  const size_t length = strlen(name);
  for (const char *p = c->text; (p = strchr(p, ' ')) != NULL;) {
    p++;
    if (strncmp(p, name, length) == 0 && p[length] == '=') {
      return p + length + 1;
    }
  }
  return NULL;
}

const vectors_array *vectors_find(const vectors_case *c, const char *name) {
  for (size_t i = 0; i < c->arrays_count; i++) {
    if (strcmp(c->arrays[i].name, name) == 0) {
      return &c->arrays[i];
    }
  }
  return NULL;
}
