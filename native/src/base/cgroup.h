/*
 * Limits of a control group of Linux, versions 1 and 2. `membership` is a file like /proc/self/cgroup, `root` a folder
 * like /sys/fs/cgroup.
 */
#ifndef DYNQ_CGROUP_H
#define DYNQ_CGROUP_H

#include <stddef.h>

/* `limit`, or fewer CPUs if a quota pays for fewer, rounded up. */
size_t dynq_cgroup_limit(const char *membership, const char *root, size_t limit);
/* `limit`, or fewer bytes of memory. */
size_t dynq_cgroup_memory(const char *membership, const char *root, size_t limit);

#endif
