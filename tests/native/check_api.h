/*
 * The parts of check_api that have files of their own.
 */
#ifndef CHECK_API_H
#define CHECK_API_H

#include "check.h"

/* Every allocation of every function fails once. */
void check_faults(void);
/* Several threads, forked children, the caller's floating-point environment. */
void check_concurrency(void);
/* The number of threads that affinity and cgroups allow. Comes first: a process asks once. */
void check_limits(void);

#endif
