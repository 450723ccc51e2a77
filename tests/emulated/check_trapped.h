/*
 * The parts of check_trapped.
 */
#ifndef CHECK_TRAPPED_H
#define CHECK_TRAPPED_H

#include "check.h"

/* Makes `code` the body of a function; valid until the next call. rdi, rsi and rdx are its arguments. */
typedef void code_function(void *config, void *memory, size_t stride);
code_function *code_of(const uint8_t *code, size_t length);
/* The signal that a child process ends by when it calls `body` with the default handlers; 0 if it returns. */
int fatal_signal(void (*body)(const void *), const void *argument);

/* check_handlers.c: the program's own handlers, and where faults arrive. */
void check_handlers(void);

#endif
