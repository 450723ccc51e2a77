/*
 * The arguments of a subcommand, one option after the other; those that every subcommand takes are read here.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct bench_options {
  const char *command;
  int count; /* of arguments that are left */
  char **arguments;
  const char *name; /* the option at hand */
  /* Options of every subcommand: */
  bool json, quick;
  size_t rounds; /* 0: not given */
} bench_options;

/* Goes on to the next option that is the subcommand's own; false at the end. */
bool bench_next_option(bench_options *options);
/* Returns whether the option at hand is `name`. */
bool bench_option_is(const bench_options *options, const char *name);
/* Takes what follows it; fails if nothing does. */
const char *bench_option_value(bench_options *options);
/* Fails: there is no such option. */
_Noreturn void bench_option_unknown(const bench_options *options);

/* "48K", "2M", "1G" or bytes; fails if it is no such. */
size_t bench_parse_size(const char *option, const char *text);
/* A whole number in [low, high]; fails if it is none. */
size_t bench_parse_count(const char *option, const char *text, size_t low, size_t high);

#endif
