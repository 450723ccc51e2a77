/*
 * Output of the program: errors, JSON lines, numbers with units.
 */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void bench_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  (void)fflush(stdout);
  (void)fputs("dynq-bench: ", stderr);
  (void)vfprintf(stderr, format, arguments);
  (void)fputc('\n', stderr);
  va_end(arguments);
  exit(2);
}

void bench_flush(void) {
  if (fflush(stdout) != 0 || ferror(stdout) != 0) {
    bench_fail("standard output cannot be written to: %s", strerror(errno));
  }
}

/* ---- JSON. Names and texts are the program's own or names of instruction sets: nothing in them needs a backslash. */

static void member(const char *name) { (void)printf(", \"%s\": ", name); }

void json_begin(const char *record) { (void)printf("{\"record\": \"%s\"", record); }

void json_text(const char *name, const char *value) {
  member(name);
  (void)printf("\"%s\"", value);
}

void json_count(const char *name, size_t value) {
  member(name);
  (void)printf("%zu", value);
}

void json_number(const char *name, double value) {
  member(name);
  if (isfinite(value)) {
    (void)printf("%.6g", value);
  } else {
    (void)fputs("null", stdout);
  }
}

void json_end(void) {
  (void)puts("}");
  bench_flush();
}

/* ---- Numbers */

const char *bench_size_text(size_t bytes, char *text) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
  size_t unit = 0;
  for (; unit < 3 && bytes >= 10240; unit++) {
    bytes /= 1024;
  }
  (void)snprintf(text, 16, "%zu %s", bytes > 99999 ? (size_t)99999 : bytes, units[unit]);
  return text;
}

const char *bench_number_text(double value, int digits, char *text) {
  int decimals = digits - 1;
  for (double limit = 10.0; decimals > 0 && fabs(value) >= limit; limit *= 10.0) {
    decimals--;
  }
  if (isfinite(value)) {
    (void)snprintf(text, 16, "%.*f", decimals, value);
  } else {
    (void)strcpy(text, "-");
  }
  return text;
}
