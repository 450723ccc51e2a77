/*
 * Blocks of memory that the library takes and gives back.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stddef.h>

/* Blocks that it has taken and not given back; how many it ever took. */
size_t blocks_in_use(void);
size_t blocks_taken(void);

#endif
