/*
 * Reads the limits of control groups.
 */
#include "cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Reads a limit of one folder; 0 if it sets none. */
typedef size_t read_limit(const char *folder);

/* A whole file into `text`; false if it cannot be read. */
static bool read_text(const char *path, char *text, size_t size) {
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return false;
  }
  const size_t got = fread(text, 1, size - 1, file);
  text[got] = '\0';
  (void)fclose(file);
  return got != 0;
}

/* CPUs that the quota pays for, rounded up. */
static size_t quota_cpus(const char *folder) {
  char path[2 * PATH_MAX + 32], text[64];
  long long quota, period;
  (void)snprintf(path, sizeof path, "%s/cpu.max", folder); /* version 2: "quota period", or "max period" */
  if (read_text(path, text, sizeof text)) {
    return sscanf(text, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0
               ? (size_t)((quota + period - 1) / period)
               : 0;
  }
  (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder); /* version 1: -1 for none */
  if (!read_text(path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1 || quota <= 0) {
    return 0;
  }
  (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
  if (!read_text(path, text, sizeof text) || sscanf(text, "%lld", &period) != 1 || period <= 0) {
    return 0;
  }
  return (size_t)((quota + period - 1) / period);
}

static size_t memory_bytes(const char *folder) {
  static const char *const files[] = {"memory.max", "memory.limit_in_bytes"}; /* versions 2 and 1 */
  char path[2 * PATH_MAX + 32], text[64];
  unsigned long long bytes = 0;
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
    if (read_text(path, text, sizeof text)) { /* "max" is no number */
      return sscanf(text, "%llu", &bytes) == 1 && bytes < SIZE_MAX ? (size_t)bytes : 0;
    }
  }
  return 0;
}

/* Returns whether the comma-separated `list` has that controller: cpuset and cpuacct are not cpu. */
static bool names_controller(const char *list, const char *controller) {
  const size_t length = strlen(controller);
  for (const char *name = list; name != NULL; name = strchr(name, ',')) {
    name += *name == ',';
    if (strncmp(name, controller, length) == 0 && (name[length] == ',' || name[length] == '\0')) {
      return true;
    }
  }
  return false;
}

/* The smallest limit on the way from `group` up to the root; a container often sees its own group as the root. */
static size_t smallest(read_limit *read, const char *root, char *group, size_t limit) {
  for (;;) {
    char folder[2 * PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s%s", root, group);
    const size_t own = read(folder);
    limit = own != 0 && own < limit ? own : limit;
    char *slash = strrchr(group, '/');
    if (slash == NULL) {
      return limit;
    }
    *slash = '\0';
  }
}

static size_t find_limit(read_limit *read, const char *controller, const char *membership, const char *root,
                         size_t limit) {
  FILE *file = fopen(membership, "re");
  char line[PATH_MAX], version_1[PATH_MAX];
  if (file == NULL) {
    return limit;
  }
  (void)snprintf(version_1, sizeof version_1, "%s/%s", root, controller);
  while (fgets(line, sizeof line, file) != NULL) { /* number:controllers:/group; version 2 has no controllers */
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group != NULL) {
      *group++ = '\0';
      controllers++;
      if (*controllers == '\0') {
        limit = smallest(read, root, group, limit);
      } else if (names_controller(controllers, controller)) {
        limit = smallest(read, version_1, group, limit);
      }
    }
  }
  (void)fclose(file);
  return limit;
}

size_t dynq_cgroup_limit(const char *membership, const char *root, size_t limit) {
  return find_limit(quota_cpus, "cpu", membership, root, limit);
}

size_t dynq_cgroup_memory(const char *membership, const char *root, size_t limit) {
  return find_limit(memory_bytes, "memory", membership, root, limit);
}
