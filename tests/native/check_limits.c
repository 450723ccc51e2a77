/*
 * Checks the number of threads: the quota of a cgroup, versions 1 and 2, as files in a folder of our own; and the
 * affinity.
 */
#include "base/cgroup.h"
#include "base/threads.h"
#include "check_api.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static void write_file(const char *name, const char *text) {
  char path[PATH_MAX];
  (void)snprintf(path, sizeof path, "%s/%s", folder, name);
  for (char *p = path + strlen(folder) + 1; (p = strchr(p, '/')) != NULL; p++) {
    *p = '\0';
    (void)mkdir(path, 0700);
    *p = '/';
  }
  FILE *file = fopen(path, "w");
  if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
    check_fail("cannot write %s", path);
  }
}

static size_t limit_of(const char *membership, size_t limit) {
  char path[PATH_MAX];
  write_file("membership", membership);
  (void)snprintf(path, sizeof path, "%s/membership", folder);
  return dynq_cgroup_limit(path, folder, limit);
}

static void check_quota(void) {
  static const struct {
    const char *membership;
    size_t expected;
  } cases[] = {
      {"0::/two\n", 2},           /* 200000 of 100000 */
      {"0::/two/inner\n", 2},     /* "max" inside: the parent's holds */
      {"0::/half\n", 1},          /* half a CPU is one thread */
      {"0::/two_and_a_bit\n", 3}, /* rounded up */
      {"0::/garbage\n", 8},
      {"0::/absent\n", 8},
      {"0::/../../outside\n", 8},
      {"4:memory:/two\n0::/\n", 8},
      {"1:cpu:/three\n0::/\n", 3},
      {"2:cpuacct,cpu:/three\n", 3},
      {"3:cpuset:/three\n4:cpuacct:/three\n", 8}, /* other controllers' groups */
      {"1:cpu:/unlimited\n", 5},                  /* -1 is none; the root's holds */
      {"1:cpu:/docker/unknown\n", 5},             /* a container that sees its own group as the root */
      {"no colons\n\n:\n", 8},
      {"", 8},
  };
  check_begin("", "quota of a cgroup");
  write_file("two/cpu.max", "200000 100000\n");
  write_file("two/inner/cpu.max", "max 100000\n");
  write_file("half/cpu.max", "50000 100000\n");
  write_file("two_and_a_bit/cpu.max", "200001 100000\n");
  write_file("garbage/cpu.max", "many 0\n");
  write_file("cpu/cpu.cfs_quota_us", "500000\n");
  write_file("cpu/cpu.cfs_period_us", "100000\n");
  write_file("cpu/three/cpu.cfs_quota_us", "300000\n");
  write_file("cpu/three/cpu.cfs_period_us", "100000\n");
  write_file("cpu/unlimited/cpu.cfs_quota_us", "-1\n");
  write_file("cpu/unlimited/cpu.cfs_period_us", "100000\n");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    check_case("%s", cases[i].membership);
    const size_t got = limit_of(cases[i].membership, 8);
    if (got != cases[i].expected) {
      check_fail("limit is %zu; expected %zu", got, cases[i].expected);
    }
  }
  check_case("no such file");
  CHECK(dynq_cgroup_limit("/nothing/here", folder, 7) == 7);
  check_end();
}

/* In a child that has not asked yet: one CPU in the affinity is one thread. */
static void check_affinity(void) {
  check_begin("", "affinity");
  check_case("one CPU");
  const pid_t child = fork();
  if (child == 0) {
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all) == 0) {
      for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
          CPU_SET(cpu, &one);
          break;
        }
      }
    }
    size_t count = 0;
    (void)unsetenv("DYNQ_NUM_THREADS");
    (void)unsetenv("OMP_NUM_THREADS");
    const int set = sched_setaffinity(0, sizeof one, &one);
    _exit(set == 0 && dynq_get_num_threads(&count) == DYNQ_OK && count == 1 ? 0 : 1);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  check_end();
}

void check_limits(void) {
  check_affinity();
  (void)snprintf(folder, sizeof folder, "/tmp/dynq-check-XXXXXX");
  if (mkdtemp(folder) == NULL) {
    check_begin("", "quota of a cgroup");
    check_fail("cannot make %s", folder);
    check_end();
    return;
  }
  check_quota();
  char command[128];
  (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
  CHECK(system(command) == 0);
}
