/*
 * Runs the fuzzer without libFuzzer, under any compiler and sanitizer.
 *
 *   fuzz_model [--seconds N] [--seed N] [--only N] [--report] [FILE...]
 *
 * Input number N depends on the seed and N alone: what crashed is run again by --only N. Files are run as they are and
 * are what others are made from. Half of the inputs are random models, the others such models, or files, with bytes
 * changed, taken away or put in. --report: how often each op ran.
 */
#include "fuzz.h"

#include "dynq/dynq.h"
#include "plan_writer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long long number, seed;

/* The sanitizers end by abort(), so that the handler below can say which input it was. */
#define SEEN_BY_SANITIZERS __attribute__((visibility("default")))
SEEN_BY_SANITIZERS const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "abort_on_error=1:handle_abort=0"; }
SEEN_BY_SANITIZERS const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "abort_on_error=1:print_stacktrace=1"; }

static void say_where(int signal_number) {
  char text[400];
  const int length = snprintf(text, sizeof text, "\nfuzz_model: signal %d: --seed %llu --only %llu; ops:%s\n",
                              signal_number, seed, number, fuzz_ops);
  (void)!write(STDERR_FILENO, text, (size_t)length);
  (void)signal(signal_number, SIG_DFL);
  (void)raise(signal_number);
}

/* ---- Files ---- */

typedef struct bytes {
  uint8_t *p;
  size_t size;
} bytes;

static bytes read_file(const char *path) {
  bytes b = {NULL, 0};
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0 || ftell(file) < 0) {
    fprintf(stderr, "fuzz_model: cannot read %s\n", path);
    exit(2);
  }
  b.size = (size_t)ftell(file);
  b.p = malloc(b.size + 1);
  rewind(file);
  if (b.p == NULL || fread(b.p, 1, b.size, file) != b.size) {
    fprintf(stderr, "fuzz_model: cannot read %s\n", path);
    exit(2);
  }
  (void)fclose(file);
  return b;
}

/* ---- Changes ---- */

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

static void change(uint64_t *state, uint8_t *image, size_t size) {
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

static void run_one(unsigned long long index, const bytes *files, size_t file_count) {
  uint64_t state = seed * 0x2545f4914f6cdd1du + index;
  size_t size = 0;
  uint8_t *image;
  (void)fuzz_random(&state);
  number = index;
  if (file_count != 0 && fuzz_below(&state, 2) != 0) {
    const bytes *file = &files[fuzz_below(&state, file_count)];
    size = file->size;
    image = aligned_alloc(64, size / 64 * 64 + 64);
    if (image != NULL) {
      memcpy(image, file->p, size);
    }
  } else {
    image = generate_model(&state, &size);
  }
  if (image == NULL) {
    fprintf(stderr, "fuzz_model: no memory\n");
    exit(2);
  }
  fuzz_compares = fuzz_below(&state, 2) != 0;
  if (!fuzz_compares) {
    change(&state, image, size);
    size = fuzz_below(&state, 16) == 0 ? fuzz_below(&state, size + 1) : size;
  }
  (void)LLVMFuzzerTestOneInput(image, size);
  free(image);
}

static unsigned long long option(int argc, char **argv, int *i) {
  char *end = NULL;
  if (*i + 1 >= argc) {
    fprintf(stderr, "fuzz_model: %s takes a number\n", argv[*i]);
    exit(2);
  }
  const unsigned long long value = strtoull(argv[++*i], &end, 10);
  if (end == argv[*i] || *end != '\0') {
    fprintf(stderr, "fuzz_model: '%s' is no number\n", argv[*i]);
    exit(2);
  }
  return value;
}

int main(int argc, char **argv) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  bytes *files = calloc((size_t)argc, sizeof *files);
  size_t file_count = 0;
  bool report = false;
  unsigned long long seconds = 5, only = UINT64_MAX, index = 0;
  seed = 1;
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
    (void)signal(signals[i], say_where);
  }
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--seconds") == 0) {
      seconds = option(argc, argv, &i);
    } else if (strcmp(argv[i], "--seed") == 0) {
      seed = option(argc, argv, &i);
    } else if (strcmp(argv[i], "--report") == 0) {
      report = true;
    } else if (strcmp(argv[i], "--only") == 0) {
      only = option(argc, argv, &i);
    } else {
      files[file_count++] = read_file(argv[i]);
      (void)LLVMFuzzerTestOneInput(files[file_count - 1].p, files[file_count - 1].size);
    }
  }
  if (only != UINT64_MAX) {
    run_one(only, files, file_count);
    printf("fuzz_model: input %llu: fine\n", only);
  } else {
    const time_t end = time(NULL) + (time_t)seconds;
    while (time(NULL) < end) {
      run_one(index++, files, file_count);
    }
    printf("fuzz_model: %llu inputs, %llu of them opened, %llu runs: fine\n", index, fuzz_opened, fuzz_ran);
  }
  if (report) {
    fuzz_report();
  }
  for (size_t i = 0; i < file_count; i++) {
    free(files[i].p);
  }
  free(files);
  return 0;
}
