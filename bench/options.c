/*
 * The arguments of a subcommand, one option after the other; those that every subcommand takes are read here.
 */
#include "options.h"

#include "report.h"
#include "timing.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *take(bench_options *o) {
  o->count--;
  return *o->arguments++;
}

bool bench_next_option(bench_options *o) {
  while (o->count > 0) {
    o->name = take(o);
    if (bench_option_is(o, "--json")) {
      o->json = true;
    } else if (bench_option_is(o, "--quick")) {
      o->quick = true;
    } else if (bench_option_is(o, "--rounds")) {
      o->rounds = bench_parse_count(o->name, bench_option_value(o), 1, BENCH_MAX_ROUNDS);
    } else {
      return true;
    }
  }
  return false;
}

bool bench_option_is(const bench_options *o, const char *name) { return strcmp(o->name, name) == 0; }

const char *bench_option_value(bench_options *o) {
  if (o->count == 0) {
    bench_fail("%s: a value is missing (see dynq-bench --help)", o->name);
  }
  return take(o);
}

_Noreturn void bench_option_unknown(const bench_options *o) {
  bench_fail("%s is no option of %s (see dynq-bench --help)", o->name, o->command);
}

static size_t parse(const char *option, const char *text, char **end) {
  errno = 0;
  const unsigned long long value = strtoull(text, end, 10);
  if (text[0] < '0' || text[0] > '9' || errno != 0 || value > SIZE_MAX >> 31) {
    bench_fail("%s is '%s'; expected a number", option, text);
  }
  return (size_t)value;
}

size_t bench_parse_size(const char *option, const char *text) {
  char *end;
  const size_t value = parse(option, text, &end);
  switch (*end) {
  case '\0':
    return value;
  case 'K':
    return value << 10;
  case 'M':
    return value << 20;
  case 'G':
    return value << 30;
  default:
    bench_fail("%s is '%s'; expected a size such as 48K, 2M or 1G", option, text);
  }
}

size_t bench_parse_count(const char *option, const char *text, size_t low, size_t high) {
  char *end;
  const size_t value = parse(option, text, &end);
  if (*end != '\0' || value < low || value > high) {
    bench_fail("%s is '%s'; expected a number from %zu to %zu", option, text, low, high);
  }
  return value;
}
