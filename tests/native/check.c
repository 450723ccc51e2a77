/*
 * The harness of the C checks.
 */
#include "check.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { FAILURES_SHOWN = 5 }; /* for each line of the report */

static struct {
  uint64_t seed, random;
  const char *isa, *kernel;
  char description[256];
  size_t cases, failures, passed, failed;
} run = {.isa = "", .kernel = "start"};

/* ---- The run ---- */

static void crashed(int signal_number) {
  char text[512];
  const int length =
      snprintf(text, sizeof text, "CRASH: signal %d (%s) in %s %s [%s]; repeat with --seed %llu\n", signal_number,
               strsignal(signal_number), run.isa, run.kernel, run.description, (unsigned long long)run.seed);
  if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0) {
    _exit(2);
  }
  _exit(1);
}

static int guard_access; /* to the pages around a buffer */

static void catch_crashes(void) {
  static char stack[64 * 1024];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction action = {.sa_handler = crashed, .sa_flags = SA_ONSTACK};
  const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
  (void)sigaltstack(&alternate, NULL);
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
    (void)sigaction(signals[i], &action, NULL);
  }
}

/* A misspelt option would make a run say less than its caller thinks. */
static void check_options(int argc, char **argv) {
  static const char *const with_value[] = {"--isa", "--seed", "--expect", "--not-built"};
  static const char *const alone[] = {"--list",          "--bench",        "--quick",
                                      "--tile",          "--kernels",      "--readable-guards",
                                      "--expect-native", "--only-vectors", "--without-children"};
  for (int i = 1; i < argc; i++) {
    bool known = strncmp(argv[i], "--", 2) != 0;
    for (size_t j = 0; j < sizeof alone / sizeof alone[0]; j++) {
      known |= strcmp(argv[i], alone[j]) == 0;
    }
    for (size_t j = 0; j < sizeof with_value / sizeof with_value[0] && !known; j++) {
      known = strcmp(argv[i], with_value[j]) == 0;
      if (known && (++i == argc || argv[i][0] == '\0' || argv[i][0] == '-')) {
        fprintf(stderr, "%s: %s needs a value\n", argv[0], with_value[j]);
        exit(2);
      }
    }
    if (!known) {
      fprintf(stderr, "%s: unknown option %s\n", argv[0], argv[i]);
      exit(2);
    }
  }
}

void check_start(int argc, char **argv) {
  check_options(argc, argv);
  const char *seed = check_argument(argc, argv, "--seed");
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  run.seed = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  run.random = run.seed;
  guard_access = check_flag(argc, argv, "--readable-guards") ? PROT_READ : PROT_NONE;
  (void)setvbuf(stdout, NULL, _IOLBF, 0);
  catch_crashes();
}

const char *check_argument(int argc, char **argv, const char *name) {
  for (int i = 1; i + 1 < argc; i++) {
    if (strcmp(argv[i], name) == 0) {
      return argv[i + 1];
    }
  }
  return NULL;
}

bool check_flag(int argc, char **argv, const char *name) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], name) == 0) {
      return true;
    }
  }
  return false;
}

void check_begin(const char *isa, const char *kernel) {
  run.isa = isa;
  run.kernel = kernel;
  run.description[0] = '\0';
  run.cases = run.failures = 0;
  run.random = run.seed;
  for (const char *p = kernel; *p != '\0'; p++) {
    run.random = (run.random ^ (uint64_t)(unsigned char)*p) * 0x100000001b3u;
  }
}

void check_end(void) {
  guards_release();
  if (run.failures == 0) {
    run.passed++;
    printf("%-12s %-28s OK (%zu cases)\n", run.isa, run.kernel, run.cases);
  } else {
    run.failed++;
    printf("%-12s %-28s FAILED (%zu failures, %zu cases; --seed %llu)\n", run.isa, run.kernel, run.failures, run.cases,
           (unsigned long long)run.seed);
  }
}

int check_finish(void) {
  printf("%zu passed, %zu failed\n", run.passed, run.failed);
  return run.failed == 0 && run.passed != 0 ? 0 : 1;
}

void check_case(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(run.description, sizeof run.description, format, arguments);
  va_end(arguments);
  run.cases++;
}

void check_fail(const char *format, ...) {
  if (run.failures++ < FAILURES_SHOWN) {
    va_list arguments;
    printf("FAIL %s %s [%s] seed %llu: ", run.isa, run.kernel, run.description, (unsigned long long)run.seed);
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
  }
}

void check_status(const char *file, int line, const char *call, dynq_status expected, dynq_status got,
                  const char *named) {
  if (got != expected) {
    check_fail("%s:%d: %.120s: got \"%s\" (%s), expected \"%s\"", file, line, call, dynq_status_string(got),
               got == DYNQ_OK ? "" : dynq_last_error(), dynq_status_string(expected));
  } else if (got != DYNQ_OK && strstr(dynq_last_error(), named) == NULL) {
    check_fail("%s:%d: %.120s: the message \"%s\" does not name \"%s\"", file, line, call, dynq_last_error(), named);
  }
}

void check_expected_isas(const char *expected) {
  check_begin("", "expected ISAs can run");
  while (*(expected += strspn(expected, " ;,")) != '\0') {
    char name[64] = "";
    const size_t length = strcspn(expected, " ;,");
    memcpy(name, expected, length < sizeof name ? length : sizeof name - 1);
    expected += length;
    check_case("%s", name);
    if (dynq_isa_supported(name) != DYNQ_OK) {
      check_fail("%s", dynq_last_error());
    }
  }
  check_end();
}

static void describe(check_type type, const void *p, size_t index, char *text, size_t size) {
  if (type == CHECK_F32) {
    float x;
    memcpy(&x, (const char *)p + index * sizeof x, sizeof x);
    (void)snprintf(text, size, "%.9g (0x%08x)", (double)x, bits_of_float(x));
  } else if (type == CHECK_S32) {
    int32_t x;
    memcpy(&x, (const char *)p + index * sizeof x, sizeof x);
    (void)snprintf(text, size, "%ld", (long)x);
  } else {
    (void)snprintf(text, size, "%u", ((const unsigned char *)p)[index]);
  }
}

void check_same(const char *what, check_type type, const void *expected, const void *got, size_t count) {
  const size_t size = type == CHECK_BYTES ? 1 : 4;
  if (count == 0 || memcmp(expected, got, count * size) == 0) {
    return;
  }
  size_t first = count, differ = 0;
  for (size_t i = count; i-- > 0;) {
    if (memcmp((const char *)expected + i * size, (const char *)got + i * size, size) != 0) {
      first = i;
      differ++;
    }
  }
  char want[48], came[48];
  describe(type, expected, first, want, sizeof want);
  describe(type, got, first, came, sizeof came);
  check_fail("%s[%zu] is %s; expected %s (%zu of %zu differ)", what, first, came, want, differ, count);
}

/* ---- Random numbers ---- */

uint64_t check_random(void) {
  uint64_t z = run.random += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

size_t random_below(size_t n) { return (size_t)((check_random() >> 32) * n >> 32); }

size_t random_between(size_t low, size_t high) { return low + random_below(high - low + 1); }

float random_unit(void) { return (float)((int32_t)random_below(1u << 25) - (1 << 24)) * 0x1p-24f; }

float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

float random_finite(void) {
  const uint32_t bits = (uint32_t)check_random();
  return float_of_bits((bits & 0x7f800000u) == 0x7f800000u ? bits & 0xbfffffffu : bits);
}

const char *fill_name(fill kind) {
  static const char *const names[FILL_KINDS] = {"unit",     "zeros",    "denormal", "huge",     "outlier",
                                                "positive", "negative", "constant", "integers", "bits"};
  return names[kind];
}

static float fill_value(fill kind) {
  switch (kind) {
  case FILL_ZEROS:
    return random_below(2) != 0 ? -0.0f : 0.0f;
  case FILL_DENORMAL:
    return float_of_bits((uint32_t)check_random() & 0x807fffffu);
  case FILL_HUGE:
    return float_of_bits(((uint32_t)check_random() & 0x8000ffffu) | 0x7f7f0000u);
  case FILL_OUTLIER:
    return random_unit() * 1e-3f;
  case FILL_POSITIVE:
    return fabsf(random_unit()) + 1.0f;
  case FILL_NEGATIVE:
    return -fabsf(random_unit()) - 1.0f;
  case FILL_INTEGERS:
    return (float)((int)random_below(511) - 255) * 0.5f;
  case FILL_BITS:
    return random_finite();
  case FILL_UNIT:
  case FILL_CONSTANT:
  case FILL_KINDS:
    break;
  }
  return random_unit();
}

void fill_f32(fill kind, float *x, size_t n) {
  const float factor = kind == FILL_UNIT ? exp2f((float)random_below(40) - 20.0f) : 1.0f;
  const float constant = random_unit();
  for (size_t i = 0; i < n; i++) {
    x[i] = kind == FILL_CONSTANT ? constant : fill_value(kind) * factor;
  }
  if (kind == FILL_OUTLIER && n != 0) {
    x[random_below(n)] = random_below(2) != 0 ? 1e6f : -1e6f;
  }
}

void fill_bytes(int kind, void *p, size_t n) {
  uint8_t *bytes = p;
  static const uint8_t extremes[4] = {0, 127, 128, 255};
  for (size_t i = 0; i < n; i++) {
    const uint64_t r = check_random();
    bytes[i] = kind == BYTES_255            ? 255
               : kind == BYTES_127          ? 127
               : kind == BYTES_NEGATIVE_128 ? 128
               : kind == BYTES_EXTREMES     ? extremes[r >> 62]
               : kind == BYTES_SPARSE       ? (r >> 60 == 0 ? (uint8_t)r : 0)
                                            : (uint8_t)r;
  }
}

/* ---- Guarded buffers ---- */

enum { SLOTS = 32, CANARY = 256, PATTERN = 0x5a, CANARY_BYTE = 0xc3 };
#define SLOT_BYTES ((size_t)64 << 20)

static struct slot {
  uint8_t *memory;                       /* writable part, between two pages with guard_access */
  uint8_t *before, *start, *end, *after; /* canaries lie in [before, start) and [end, after) */
} slots[SLOTS];
static size_t slots_used;

static uint8_t *slot_memory(struct slot *s) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (s->memory == NULL) {
    uint8_t *p = mmap(NULL, SLOT_BYTES + 2 * page, guard_access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, SLOT_BYTES, PROT_READ | PROT_WRITE) != 0) {
      fprintf(stderr, "check: no memory for a guarded buffer: %s\n", strerror(errno));
      exit(2);
    }
    s->memory = p + page;
  }
  return s->memory;
}

void *guarded(size_t bytes, size_t align) {
  if (slots_used == SLOTS || bytes + 2 * CANARY + 2 * align > SLOT_BYTES) {
    fprintf(stderr, "check: a guarded buffer of %zu bytes is too large or one too many\n", bytes);
    exit(2);
  }
  struct slot *s = &slots[slots_used++];
  uint8_t *memory = slot_memory(s), *limit = memory + SLOT_BYTES;
  const size_t place = random_below(4), shift = random_below(2) * random_below(17) * align;
  if (place == 0) {
    s->start = memory + (shift < CANARY ? shift : 0);
    s->before = memory;
  } else {
    const uintptr_t start = (uintptr_t)limit - bytes - (place == 1 && shift < CANARY ? shift : 0);
    s->start = limit - ((uintptr_t)limit - start / align * align);
    s->before = s->start - CANARY;
  }
  s->end = s->start + bytes;
  s->after = limit - s->end < CANARY ? limit : s->end + CANARY;
  memset(s->before, CANARY_BYTE, (size_t)(s->after - s->before));
  memset(s->start, PATTERN, bytes);
  return s->start;
}

float *guarded_f32(size_t n) { return guarded(n * sizeof(float), sizeof(float)); }
int32_t *guarded_s32(size_t n) { return guarded(n * sizeof(int32_t), sizeof(int32_t)); }

int32_t *random_s32(size_t n, int32_t limit) {
  int32_t *x = guarded_s32(n);
  for (size_t i = 0; i < n; i++) {
    x[i] = (int32_t)((int64_t)random_below(2 * (size_t)limit + 1) - limit);
  }
  return x;
}

void guards_check(void) {
  for (size_t i = 0; i < slots_used; i++) {
    for (const uint8_t *p = slots[i].before; p < slots[i].after; p++) {
      p = p == slots[i].start ? slots[i].end : p;
      if (p < slots[i].after && *p != CANARY_BYTE) {
        check_fail("a write outside buffer %zu, which has %td bytes: at byte %td", i, slots[i].end - slots[i].start,
                   p - slots[i].start);
        break;
      }
    }
  }
}

size_t guards_mark(void) { return slots_used; }

void guards_release(void) { guards_release_to(0); }

void guards_release_to(size_t mark) {
  guards_check();
  for (size_t i = mark; i < slots_used; i++) {
    if (slots[i].end - slots[i].start > 1 << 20) { /* large ones do not stay in memory */
      (void)madvise(slots[i].memory, SLOT_BYTES, MADV_DONTNEED);
    }
  }
  slots_used = mark;
}
