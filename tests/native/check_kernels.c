/*
 * check_kernels: every instruction set that can run here against the rule, bit for bit.
 *
 *   check_kernels [--isa NAME] [--seed N] [--expect "scalar avx2 ..."]    test; --expect fails if one cannot run
 *                 [--quick]    fewer and smaller cases, for instructions that are emulated one by one
 *                 [--tile]     of the kernels the gemm tile alone, of the library nothing
 *                 [--kernels]  not through the library, which takes longer
 *                 [--bench]    as --kernels, then time each kernel in a call that was checked, beside scalar
 *                 [--readable-guards]   see check_start
 *   check_kernels --list                                                 names and what keeps them from running
 */
#include "check_kernels.h"

#include "base/cpu.h"

#include <stdio.h>
#include <string.h>

enum { MAX_ISAS = 32 };

static void list(void) {
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    const char *name = dynq_isa_name(i);
    const dynq_status status = dynq_isa_supported(name);
    printf("%-12s %s\n", name, status == DYNQ_OK ? "can run" : dynq_last_error());
  }
}

int main(int argc, char **argv) {
  const char *isa = check_argument(argc, argv, "--isa");
  const char *expected = check_argument(argc, argv, "--expect");
  const bool quick = check_flag(argc, argv, "--quick"), tile = check_flag(argc, argv, "--tile");
  const bool bench = check_flag(argc, argv, "--bench"), kernels_only = bench || check_flag(argc, argv, "--kernels");
  dynq_cpu_facts facts;
  dynq_kernels kernels[MAX_ISAS];
  size_t count = 0;
  check_start(argc, argv);
  if (check_flag(argc, argv, "--list")) {
    list();
    return 0;
  }
  dynq_cpu_read(&facts);
  const uint64_t features = dynq_cpu_features(&facts);
  for (size_t i = 0; i < dynq_isa_count() && count < MAX_ISAS; i++) {
    if (dynq_isa_resolve(i, features, 0, &kernels[count]) == DYNQ_OK) {
      count++;
    }
  }
  if (expected != NULL) {
    check_expected_isas(expected);
  }
  if (isa != NULL && dynq_isa_supported(isa) != DYNQ_OK) {
    fprintf(stderr, "check_kernels: %s\n", dynq_last_error());
    return 2;
  }
  for (size_t i = count; i-- > 0;) { /* scalar first: where it is wrong the others are hard to judge */
    if (isa == NULL || strcmp(isa, kernels[i].name) == 0) {
      if (!CHECK_TSAN) { /* one thread: nothing for the thread sanitizer, which takes minutes */
        if (!tile) {
          check_vector_kernels(&kernels[i], &kernels[count - 1]);
          check_float_kernels(&kernels[i], &kernels[count - 1]);
          check_cell_kernels(&kernels[i], &kernels[count - 1]);
        }
        check_gemm_kernels(&kernels[i], quick);
      }
      check_calls(&kernels[i], &kernels[count - 1], tile);
      if (tile || kernels_only) {
        continue;
      }
      if (dynq_isa_select(kernels[i].name) == DYNQ_OK) {
        check_library(kernels[i].name, quick);
        if (!quick) {
          check_wide(kernels[i].name);
        }
        if (!quick && !CHECK_TSAN) {
          check_longest(kernels[i].name);
        }
      } else {
        check_begin(kernels[i].name, "select");
        check_fail("%s", dynq_last_error());
        check_end();
      }
    }
  }
  if (isa == NULL) {
    check_custom(&kernels[count - 1]);
  }
  for (size_t i = count; bench && i-- > 0;) {
    if (isa == NULL || strcmp(isa, kernels[i].name) == 0) {
      time_calls(&kernels[i], &kernels[count - 1], tile, quick);
    }
  }
  return check_finish();
}
