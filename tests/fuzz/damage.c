/*
 * Changes of a model's bytes, most of them in its plan.
 */
#include "fuzz.h"

#include "plan_writer.h"

#include <string.h>

static void set_wild(uint64_t *state, uint8_t *p, size_t size) {
  static const uint64_t wild[] = {0,          1,          2,          0xff,       0x7fffffff,
                                  0x80000000, 0xffffffff, UINT64_MAX, 1ull << 62, 1ull << 40};
  const uint64_t value = wild[fuzz_below(state, sizeof wild / sizeof wild[0])];
  const size_t count = fuzz_below(state, 2) != 0 ? 4 : 8, at = fuzz_below(state, size);
  for (size_t i = 0; i < count && at + i < size; i++) {
    p[at + i] = (uint8_t)(value >> 8 * i);
  }
}

/* Moves what follows `at` within the plan: the bytes between are lost, or there twice. */
static void shift(uint64_t *state, uint8_t *p, size_t size) {
  const size_t to = fuzz_below(state, size), from = fuzz_below(state, size);
  const size_t left = size - (to > from ? to : from);
  memmove(p + to, p + from, fuzz_below(state, left + 1));
}

void fuzz_damage(uint64_t *state, uint8_t *image, size_t size) {
  size_t plan_size;
  uint8_t *p = plan_of(image, size, &plan_size);
  if (p == NULL || fuzz_below(state, 16) == 0) { /* anywhere */
    p = image;
    plan_size = size;
  }
  for (size_t n = 1 + fuzz_below(state, 4); n > 0 && plan_size != 0; n--) {
    switch (fuzz_below(state, 4)) {
    case 0:
      p[fuzz_below(state, plan_size)] ^= (uint8_t)(1u << fuzz_below(state, 8));
      break;
    case 1:
      p[fuzz_below(state, plan_size)] = (uint8_t)fuzz_random(state);
      break;
    case 2:
      set_wild(state, p, plan_size);
      break;
    default:
      shift(state, p, plan_size);
    }
  }
}

uint8_t *fuzz_copy(const fuzz_bytes *file, size_t *size) {
  uint8_t *image = aligned_alloc(64, file->size / 64 * 64 + 64);
  *size = file->size;
  return image != NULL && file->size != 0 ? memcpy(image, file->p, file->size) : image;
}

uint8_t *fuzz_any_bytes(uint64_t *state, const fuzz_bytes *file, size_t count, size_t *size) {
  if (file != NULL) {
    uint8_t *copy = fuzz_copy(file, size);
    if (copy != NULL && *size != 0) {
      copy[fuzz_below(state, *size)] = (uint8_t)fuzz_random(state);
    }
    return copy;
  }
  *size = count;
  uint8_t *bytes = malloc(count);
  for (size_t i = 0; bytes != NULL && i < count; i++) {
    bytes[i] = (uint8_t)fuzz_random(state);
  }
  return bytes;
}
