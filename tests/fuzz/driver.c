/*
 * Runs a fuzzer without libFuzzer, under any compiler and sanitizer.
 *
 *   fuzz_NAME [--seconds N] [--seed N] [--only N] [--report] [--write FOLDER COUNT] [FILE...]
 *
 * Input number N depends on the seed and N alone: what crashed is run again by --only N. Files are run as they are and
 * are what others are made from. --report: more of what was reached. --write: no run, but inputs as files.
 */
#include "fuzz.h"

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
  const int length = snprintf(text, sizeof text, "\n%s: signal %d: --seed %llu --only %llu;%s\n", fuzz_name,
                              signal_number, seed, number, fuzz_doing);
  (void)!write(STDERR_FILENO, text, (size_t)length);
  (void)signal(signal_number, SIG_DFL);
  (void)raise(signal_number);
}

/* ---- Files ---- */

typedef fuzz_bytes bytes;

static bytes read_file(const char *path) {
  bytes b = {NULL, 0};
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0 || ftell(file) < 0) {
    fprintf(stderr, "%s: cannot read %s\n", fuzz_name, path);
    exit(2);
  }
  b.size = (size_t)ftell(file);
  b.p = malloc(b.size + 1);
  rewind(file);
  if (b.p == NULL || fread(b.p, 1, b.size, file) != b.size) {
    fprintf(stderr, "%s: cannot read %s\n", fuzz_name, path);
    exit(2);
  }
  (void)fclose(file);
  return b;
}

/* Input number `index`: random, or from one of the files. */
static bytes make(unsigned long long index, const bytes *files, size_t file_count) {
  uint64_t state = seed * 0x2545f4914f6cdd1du + index;
  bytes b = {NULL, 0};
  (void)fuzz_random(&state);
  number = index;
  const bool from_file = file_count != 0 && fuzz_below(&state, 2) != 0;
  b.p = fuzz_make(&state, from_file ? &files[fuzz_below(&state, file_count)] : NULL, &b.size);
  if (b.p == NULL) {
    fprintf(stderr, "%s: no memory\n", fuzz_name);
    exit(2);
  }
  return b;
}

static void run_one(unsigned long long index, const bytes *files, size_t file_count) {
  const bytes b = make(index, files, file_count);
  (void)LLVMFuzzerTestOneInput(b.p, b.size);
  free(b.p);
}

/* The first inputs as files, for libFuzzer to begin with. */
static void write_some(const char *folder, unsigned long long count) {
  for (unsigned long long i = 0; i < count; i++) {
    const bytes b = make(i, NULL, 0);
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%llu-%llu", folder, seed, i);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(b.p, 1, b.size, file) != b.size || fclose(file) != 0) {
      fprintf(stderr, "%s: cannot write %s\n", fuzz_name, path);
      exit(2);
    }
    free(b.p);
  }
}

static unsigned long long option(int argc, char **argv, int *i) {
  char *end = NULL;
  if (*i + 1 >= argc) {
    fprintf(stderr, "%s: %s takes a number\n", fuzz_name, argv[*i]);
    exit(2);
  }
  const unsigned long long value = strtoull(argv[++*i], &end, 10);
  if (end == argv[*i] || *end != '\0') {
    fprintf(stderr, "%s: '%s' is no number\n", fuzz_name, argv[*i]);
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
    } else if (strcmp(argv[i], "--write") == 0 && i + 2 < argc) {
      const char *folder = argv[++i];
      write_some(folder, option(argc, argv, &i));
      free(files);
      return 0;
    } else {
      files[file_count++] = read_file(argv[i]);
      (void)LLVMFuzzerTestOneInput(files[file_count - 1].p, files[file_count - 1].size);
    }
  }
  if (only != UINT64_MAX) {
    run_one(only, files, file_count);
    printf("%s: input %llu: fine\n", fuzz_name, only);
  } else {
    const time_t end = time(NULL) + (time_t)seconds;
    while (time(NULL) < end) {
      run_one(index++, files, file_count);
    }
    printf("%s: %llu inputs, ", fuzz_name, index);
    fuzz_summary();
    printf(": fine\n");
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
