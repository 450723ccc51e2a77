/*
 * The levels of memory, and data for the kernels that fills each.
 */
#include "levels.h"

#include "options.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const bench_level_names[BENCH_LEVELS] = {"L1", "L2", "L3", "memory"};

/* ---- The caches */

static int read_word(const char *directory, int index, const char *name, char *word, size_t size) {
  char path[96];
  (void)snprintf(path, sizeof path, "%s%d/%s", directory, index, name);
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    return 0;
  }
  const int found = fgets(word, (int)size, file) != NULL;
  (void)fclose(file);
  word[strcspn(word, "\n")] = '\0';
  return found;
}

/* Linux, Documentation/ABI/testing/sysfs-devices-system-cpu. */
static int ask_sys(size_t cache[BENCH_MEMORY]) {
  static const char directory[] = "/sys/devices/system/cpu/cpu0/cache/index";
  char level[8], type[24], size[24];
  for (int i = 0; read_word(directory, i, "level", level, sizeof level); i++) {
    if (level[0] >= '1' && level[0] <= '3' && read_word(directory, i, "type", type, sizeof type) &&
        strcmp(type, "Instruction") != 0 && read_word(directory, i, "size", size, sizeof size)) {
      cache[level[0] - '1'] = bench_parse_size("/sys: cache size", size);
    }
  }
  return cache[BENCH_L1] != 0;
}

static int ask_sysconf(size_t cache[BENCH_MEMORY]) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  static const int names[BENCH_MEMORY] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
  for (int i = 0; i < BENCH_MEMORY; i++) {
    const long size = sysconf(names[i]);
    cache[i] = size > 0 ? (size_t)size : 0;
  }
#endif
  return cache[BENCH_L1] != 0;
}

static void read_given(size_t cache[BENCH_MEMORY], const char *given) {
  char word[24];
  for (int i = 0; i < BENCH_MEMORY && *given != '\0'; i++) {
    const size_t length = strcspn(given, ",");
    if (length == 0 || length >= sizeof word) {
      bench_fail("--caches: expected up to three sizes such as 48K,2M,260M");
    }
    memcpy(word, given, length);
    word[length] = '\0';
    cache[i] = bench_parse_size("--caches", word);
    given += length + (given[length] == ',');
  }
  if (*given != '\0' || cache[BENCH_L1] == 0) {
    bench_fail("--caches: expected up to three sizes such as 48K,2M,260M");
  }
}

/* ---- What fits where */

enum { MOST_BYTES = 512 << 20, MEMORY_BYTES = 64 << 20 };

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

/* Half of a level leaves room for the rest of the program; four times the level above leaves little of its data there.
 * The last level may be shared with strangers, so no more of it is used than that takes. */
static void choose_sizes(bench_levels *levels, size_t most) {
  const size_t *cache = levels->cache;
  size_t last = cache[BENCH_L1];
  levels->bytes[BENCH_L1] = cache[BENCH_L1] / 2;
  for (int i = BENCH_L2; i <= BENCH_L3; i++) {
    const size_t bytes = at_most(cache[i] / 2, i == BENCH_L2 ? SIZE_MAX : 4 * last);
    if (bytes > last) {
      levels->bytes[i] = bytes;
      last = cache[i];
    }
  }
  const size_t bytes = at_most(most, 2 * last > MEMORY_BYTES ? 2 * last : MEMORY_BYTES);
  levels->bytes[BENCH_MEMORY] = bytes > last ? bytes : 0;
  for (int i = 0; i < BENCH_LEVELS; i++) { /* a Cortex-A35 may have 8 KiB of L1 */
    levels->bytes[i] = levels->bytes[i] >= BENCH_LEAST_BYTES ? levels->bytes[i] : 0;
  }
}

void bench_levels_find(bench_levels *levels, const char *given) {
  static const size_t usual[BENCH_MEMORY] = {32 << 10, 512 << 10, 0};
  memset(levels, 0, sizeof *levels);
  levels->source = "given";
  if (given != NULL) {
    read_given(levels->cache, given);
  } else if (ask_sys(levels->cache)) {
    levels->source = "/sys";
  } else if (ask_sysconf(levels->cache)) {
    levels->source = "sysconf";
  } else {
    levels->source = "assumed";
    memcpy(levels->cache, usual, sizeof usual);
  }
  /* An eighth of the machine's memory, since inputs and outputs each take as much. */
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  const size_t eighth = pages > 0 && page > 0 ? (size_t)pages / 8 * (size_t)page : MOST_BYTES;
  choose_sizes(levels, at_most(MOST_BYTES, eighth));
}

/* ---- Data */

enum { HUGE_PAGE = 2 << 20, PATTERN = 1 << 20 };

void *bench_data(size_t bytes) {
  const size_t size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  char *p = aligned_alloc(HUGE_PAGE, size != 0 ? size : HUGE_PAGE);
  if (p == NULL) {
    bench_fail("no memory for %zu bytes", size);
  }
#if defined(MADV_HUGEPAGE)
  (void)madvise(p, size, MADV_HUGEPAGE); /* where the system has none, small ones do */
#endif
  float *x = (float *)(void *)p;
  uint32_t state = 1;
  for (size_t i = 0; i < at_most(size, PATTERN) / sizeof *x; i++) {
    state = state * 1664525u + 1013904223u;
    x[i] = (float)(state >> 8) * 0x1p-21f - 4.0f;
  }
  for (size_t done = PATTERN; done < size; done += PATTERN) {
    memcpy(p + done, p, at_most(PATTERN, size - done));
  }
  return p;
}
