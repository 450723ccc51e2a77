/*
 * Output of the program: errors, JSON lines, numbers with units.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>

/* Prints "dynq-bench: " and the message to standard error, and ends the program with status 2. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes out what was printed so far; fails if that cannot be done, as on a full disk: at once, not after minutes of
 * measuring, and not with status 0. */
void bench_flush(void);

/* One line of JSON: begin, members in turn, end. A NaN is null. The line is flushed, so that who reads it sees it at once. */
void json_begin(const char *record);
void json_text(const char *name, const char *value);
void json_count(const char *name, size_t value);
void json_number(const char *name, double value);
void json_end(void);

/* "24 KiB"; `text` has at least 16 bytes and is returned. */
const char *bench_size_text(size_t bytes, char *text);
/* `value` with about `digits` digits in all, such as 0.123, 12.3, 123; "-" for a NaN. */
const char *bench_number_text(double value, int digits, char *text);

#endif
