/*
 * check_dispatch: which instruction set is chosen on any CPU, by any name, and from the environment.
 *
 *   check_dispatch [--seed N] [--not-built NAME] [--without-children]
 *     NAME was left out of this build (CMake's DYNQ_ISAS)
 *     without the environment, where a program cannot start itself, as under QEMU's user emulation
 *
 * It starts itself again with --child to see what an environment variable does.
 */
#include "check.h"

#include "base/cpu.h"
#include "base/dispatch.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Every subset of the features that the list asks for ---- */

static bool all_slots_filled(const dynq_kernels *k) {
  return k->name != NULL && k->gemm != NULL && k->gemm->tile != NULL
#define DYNQ_SLOT(type, name, parameters) &&k->vector.name != NULL
#include "kernels/slots.def"
#undef DYNQ_SLOT
      ;
}

/* The kernels of one entry on a CPU with `features`, by the rule that dispatch.h gives. */
static bool check_entry(size_t index, uint64_t features) {
  const dynq_isa *isa = &dynq_isa_list[index];
  dynq_kernels kernels;
  const dynq_status status = dynq_isa_resolve(index, features, 0, &kernels);
  if (isa->kernels == NULL) {
    CHECK(status == DYNQ_ERROR_ISA_NOT_BUILT);
    return false;
  }
  if ((isa->features & ~features) != 0) {
    CHECK(status == DYNQ_ERROR_ISA_NOT_SUPPORTED && strstr(dynq_last_error(), isa->name) != NULL);
    for (size_t bit = 0; bit < CPU_FEATURE_COUNT; bit++) { /* the message names what is missing */
      if (((isa->features & ~features) >> bit & 1) != 0) {
        CHECK(strstr(dynq_last_error(), dynq_cpu_feature_name(bit)) != NULL);
      }
    }
    return false;
  }
  CHECK(status == DYNQ_OK);
  if (status == DYNQ_OK) {
    CHECK(all_slots_filled(&kernels) && strcmp(kernels.name, isa->name) == 0);
    CHECK(isa->kernels->gemm == NULL || kernels.gemm == isa->kernels->gemm);
    CHECK(isa->kernels->vector.range == NULL || kernels.vector.range == isa->kernels->vector.range);
  }
  return true;
}

static void check_subsets(void) {
  uint64_t used = 0;
  check_begin("", "every subset of features");
  for (size_t i = 0; i < dynq_isa_count(); i++) { /* what is not built is never chosen, whatever the CPU has */
    used |= dynq_isa_list[i].kernels != NULL ? dynq_isa_list[i].features : 0;
  }
  for (uint64_t features = 0;; features = (features - used) & used) {
    check_case("features 0x%llx", (unsigned long long)features);
    size_t best = dynq_isa_count();
    for (size_t i = dynq_isa_count(); i-- > 0;) {
      best = check_entry(i, features) ? i : best;
    }
    CHECK(best < dynq_isa_count() && dynq_isa_best(features) == best);
    if (features == used) {
      break;
    }
  }
  CHECK(dynq_isa_best(0) == dynq_isa_count() - 1);
  check_end();
}

/* ---- The names ---- */

static void check_list(void) {
  check_begin("", "list of names");
  const size_t count = dynq_isa_count();
  check_case("%zu names", count);
  CHECK(count >= 1 && strcmp(dynq_isa_name(count - 1), "scalar") == 0);
  CHECK(dynq_isa_name(count) == NULL && dynq_isa_name(SIZE_MAX) == NULL);
  for (size_t i = 0; i < count; i++) {
    CHECK(dynq_isa_find(dynq_isa_name(i)) == i); /* so no name comes twice */
    const dynq_status status = dynq_isa_supported(dynq_isa_name(i));
    CHECK(status == DYNQ_OK || status == DYNQ_ERROR_ISA_NOT_BUILT || status == DYNQ_ERROR_ISA_NOT_SUPPORTED);
    CHECK(status != DYNQ_OK || dynq_isa_missing(dynq_isa_name(i))[0] == '\0');
    CHECK(status != DYNQ_ERROR_ISA_NOT_SUPPORTED || dynq_isa_missing(dynq_isa_name(i))[0] != '\0');
  }
  CHECK(dynq_isa_find("none") == count && dynq_isa_find("") == count);
  CHECK(dynq_isa_missing("none")[0] == '\0' && dynq_isa_missing(NULL)[0] == '\0');
  check_end();
}

static void check_errors(const char *not_built) {
  const char *before = NULL, *name = NULL;
  check_begin("", "unknown, not built, not supported");
  check_case("unknown");
  CHECK_STATUS(DYNQ_OK, dynq_isa_select("scalar"));
  CHECK_STATUS(DYNQ_ERROR_ISA_UNKNOWN, dynq_isa_supported("avx9000"));
  CHECK_STATUS(DYNQ_ERROR_ISA_UNKNOWN, dynq_isa_select("avx9000"));
  CHECK(strstr(dynq_last_error(), "avx9000") != NULL && strstr(dynq_last_error(), "scalar") != NULL);
  CHECK_STATUS(DYNQ_ERROR_ISA_UNKNOWN, dynq_isa_select(""));
  CHECK_STATUS(DYNQ_ERROR_ISA_UNKNOWN, dynq_isa_select("Scalar"));
  CHECK_STATUS(DYNQ_OK, dynq_isa_selected(&name));
  CHECK(strcmp(name, "scalar") == 0); /* an error leaves the choice as it was */
  if (not_built != NULL) {
    check_case("not built: %s", not_built);
    CHECK_STATUS(DYNQ_ERROR_ISA_NOT_BUILT, dynq_isa_supported(not_built));
    CHECK_STATUS(DYNQ_ERROR_ISA_NOT_BUILT, dynq_isa_select(not_built));
    CHECK(strstr(dynq_last_error(), not_built) != NULL);
  }
  check_case("not supported");
  dynq_kernels kernels;
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    if (dynq_isa_list[i].kernels != NULL && dynq_isa_list[i].features != 0) {
      CHECK_STATUS(DYNQ_ERROR_ISA_NOT_SUPPORTED, dynq_isa_resolve(i, 0, 0, &kernels));
    }
  }
  check_case("selecting");
  CHECK_STATUS(DYNQ_OK, dynq_isa_select(NULL));
  CHECK_STATUS(DYNQ_OK, dynq_isa_selected(&before));
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    const dynq_status status = dynq_isa_supported(dynq_isa_name(i));
    CHECK_STATUS(status, dynq_isa_select(dynq_isa_name(i)));
    CHECK_STATUS(DYNQ_OK, dynq_isa_selected(&name));
    CHECK(status != DYNQ_OK || strcmp(name, dynq_isa_name(i)) == 0);
  }
  CHECK_STATUS(DYNQ_OK, dynq_isa_select(NULL));
  CHECK_STATUS(DYNQ_OK, dynq_isa_selected(&name));
  CHECK(strcmp(name, before) == 0);
  check_end();
}

/* ---- The environment ---- */

/* Started again: what the environment's choice leads to, as text. */
static int child(const char *what) {
  dynq_status status;
  if (strcmp(what, "isa") == 0) {
    const char *name = "";
    float x = 1.0f, lo, hi;
    status = dynq_isa_selected(&name);
    printf("%d %s|%s\n", (int)status, name, status == DYNQ_OK ? "" : dynq_last_error());
    printf("%d|\n", (int)dynq_minmax_f32(1, 1, &x, 1, DYNQ_PER_ROW, NULL, &lo, &hi));
    printf("%d|\n", (int)dynq_isa_select("scalar")); /* a choice of the program ends the matter */
    printf("%d|\n", (int)dynq_minmax_f32(1, 1, &x, 1, DYNQ_PER_ROW, NULL, &lo, &hi));
  } else {
    size_t count = 0;
    float x = 1.0f, lo, hi;
    status = dynq_get_num_threads(&count);
    printf("%d %zu|%s\n", (int)status, status == DYNQ_OK ? count : 0,
           status == DYNQ_OK ? dynq_num_threads_from() : dynq_last_error());
    printf("%d|\n", (int)dynq_minmax_f32(1, 1, &x, 1, DYNQ_PER_ROW, NULL, &lo, &hi));
    printf("%d|\n", (int)dynq_set_num_threads(2));
    printf("%d|\n", (int)dynq_minmax_f32(1, 1, &x, 1, DYNQ_PER_ROW, NULL, &lo, &hi));
  }
  return 0;
}

/* Runs this program as a child with one environment variable, and those that a run under emulation is made of; false
 * if it did not end well. */
static bool run_child(const char *what, const char *variable, char *output, size_t size) {
  static const char *const kept[] = {"LD_PRELOAD", "DYNQ_ASSUME_CPU"};
  int ends[2], status = -1;
  char self[] = "/proc/self/exe", flag[] = "--child", option[16], setting[160], inherited[2][512];
  (void)snprintf(option, sizeof option, "%s", what);
  (void)snprintf(setting, sizeof setting, "%s", variable);
  char *arguments[] = {self, flag, option, NULL}, *environment[] = {setting, NULL, NULL, NULL}, **end = environment + 1;
  for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
    const char *value = getenv(kept[i]);
    if (value != NULL) {
      (void)snprintf(inherited[i], sizeof inherited[i], "%s=%s", kept[i], value);
      *end++ = inherited[i];
    }
  }
  posix_spawn_file_actions_t actions;
  pid_t pid;
  size_t length = 0;
  if (pipe(ends) != 0 || posix_spawn_file_actions_init(&actions) != 0) {
    return false;
  }
  (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  (void)posix_spawn_file_actions_addclose(&actions, ends[0]);
  const bool started = posix_spawn(&pid, self, &actions, NULL, arguments, environment) == 0;
  (void)posix_spawn_file_actions_destroy(&actions);
  (void)close(ends[1]);
  for (ssize_t got = 1; started && got > 0 && length + 1 < size;) {
    got = read(ends[0], output + length, size - 1 - length);
    length += got > 0 ? (size_t)got : 0;
  }
  output[length] = '\0';
  (void)close(ends[0]);
  return started && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The child's first line begins with `first` and holds `message`; the statuses of its calls follow. */
static void expect(const char *what, const char *variable, const char *first, const char *message, dynq_status before) {
  char output[1024], rest[64];
  check_case("%s", variable);
  if (!run_child(what, variable, output, sizeof output)) {
    check_fail("the child did not end well: %s", output);
    return;
  }
  (void)snprintf(rest, sizeof rest, "\n%d|\n0|\n0|\n", (int)before);
  if (strncmp(output, first, strlen(first)) != 0 || strstr(output, message) == NULL || strstr(output, rest) == NULL) {
    check_fail("the child wrote \"%s\"; expected \"%s\", \"%s\" and \"%s\"", output, first, message, rest);
  }
}

static void check_environment(const char *not_built) {
  char setting[128], first[64], best[64];
  const char *name = "";
  const dynq_status invalid = DYNQ_ERROR_INVALID_ARGUMENT, unknown = DYNQ_ERROR_ISA_UNKNOWN;
  check_begin("", "environment");
  CHECK_STATUS(DYNQ_OK, dynq_isa_select(NULL));
  CHECK_STATUS(DYNQ_OK, dynq_isa_selected(&name));
  (void)snprintf(best, sizeof best, "0 %s|", name);
  expect("isa", "NOTHING=1", best, "", DYNQ_OK);
  expect("isa", "DYNQ_ISA=", best, "", DYNQ_OK);
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    const dynq_status status = dynq_isa_supported(dynq_isa_name(i));
    (void)snprintf(setting, sizeof setting, "DYNQ_ISA=%s", dynq_isa_name(i));
    (void)snprintf(first, sizeof first, "%d %s|", (int)status, status == DYNQ_OK ? dynq_isa_name(i) : "");
    expect("isa", setting, first, dynq_isa_name(i), status);
  }
  expect("isa", "DYNQ_ISA=avx9000", "20 |", "avx9000", unknown);
  expect("isa", "DYNQ_ISA=a_name_that_is_much_longer_than_any_instruction_set_will_ever_be_called_by_anyone", "20 |",
         "DYNQ_ISA", unknown);
  if (not_built != NULL) {
    (void)snprintf(setting, sizeof setting, "DYNQ_ISA=%s", not_built);
    expect("isa", setting, "21 |", not_built, DYNQ_ERROR_ISA_NOT_BUILT);
  }
  expect("threads", "DYNQ_NUM_THREADS=3", "0 3|", "DYNQ_NUM_THREADS", DYNQ_OK);
  expect("threads", "DYNQ_NUM_THREADS=512", "0 512|", "", DYNQ_OK);
  static const struct {
    const char *text, *first;
  } openmp[] = {{"7", "0 7|"},       {" 5\t", "0 5|"},  {"4,2", "0 4|"},
                {"6 , 3,1", "0 6|"}, {"513", "0 512|"}, {"99999999999999999999999", "0 512|"}};
  for (size_t i = 0; i < sizeof openmp / sizeof openmp[0]; i++) {
    (void)snprintf(setting, sizeof setting, "OMP_NUM_THREADS=%s", openmp[i].text);
    expect("threads", setting, openmp[i].first, "OMP_NUM_THREADS", DYNQ_OK);
  }
  /* A value that says nothing leaves the number to the affinity and the cgroup: as with no variable at all. */
  static const char *const silent[] = {"", "0", "-1", "two", "3x", "+3", ",4", "0x4", "1.5", "DYNQ_NUM_THREADS="};
  char first_line[64];
  CHECK(run_child("threads", "NOTHING=1", first_line, sizeof first_line));
  first_line[strcspn(first_line, "\n")] = '\0';
  CHECK(strstr(first_line, "affinity") != NULL || strstr(first_line, "cgroup") != NULL);
  for (size_t i = 0; i < sizeof silent / sizeof silent[0]; i++) {
    (void)snprintf(setting, sizeof setting, "%s%s",
                   strchr(silent[i], '=') != NULL ? "" : "OMP_NUM_THREADS=", silent[i]);
    expect("threads", setting, first_line, "", DYNQ_OK);
  }
  static const char *const bad[] = {"0", "-1", "513", "two", "3x", " 3", "+3", "99999999999999999999999", "0x4", "1.5"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    (void)snprintf(setting, sizeof setting, "DYNQ_NUM_THREADS=%s", bad[i]);
    expect("threads", setting, "10 0|", "DYNQ_NUM_THREADS", invalid);
  }
  check_end();
}

int main(int argc, char **argv) {
  const char *what = check_argument(argc, argv, "--child"), *not_built = check_argument(argc, argv, "--not-built");
  if (what != NULL) {
    return child(what);
  }
  check_start(argc, argv);
  check_subsets();
  check_list();
  check_errors(not_built);
  if (!check_flag(argc, argv, "--without-children")) {
    check_environment(not_built);
  }
  return check_finish();
}
