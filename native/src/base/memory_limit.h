/*
 * The memory that a session may take if its caller sets no limit.
 */
#ifndef DYNQ_MEMORY_LIMIT_H
#define DYNQ_MEMORY_LIMIT_H

#include <stddef.h>

/* Half of the machine's memory, or of what the control group allows. Less for a small model with small inputs, of
 * `given` bytes in all: 512 MiB, and 256 bytes for each of them. */
size_t dynq_memory_limit(size_t given);

#endif
