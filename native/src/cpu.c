/*
 * Reads CPUID, XCR0 and HWCAP, and says which features they allow.
 */
#include "cpu.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

enum { EAX, EBX, ECX, EDX };
enum { OSXSAVE_BIT = 27 }; /* leaf 1, ECX */

void dynq_cpu_read(dynq_cpu_facts *facts) {
  memset(facts, 0, sizeof *facts);
#if defined(__x86_64__)
  facts->architecture = DYNQ_ARCH_X86_64;
  uint32_t *r = facts->cpuid_1;
  (void)__get_cpuid_count(1, 0, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  r = facts->cpuid_7_0;
  (void)__get_cpuid_count(7, 0, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  if (r[EAX] >= 1) { /* the highest subleaf */
    r = facts->cpuid_7_1;
    (void)__get_cpuid_count(7, 1, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  }
  if ((facts->cpuid_1[ECX] >> OSXSAVE_BIT & 1) != 0) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    facts->xcr0 = (uint64_t)high << 32 | low;
  }
#elif defined(__aarch64__)
  facts->architecture = DYNQ_ARCH_AARCH64;
#if defined(__linux__)
  facts->hwcap = getauxval(AT_HWCAP);
  facts->hwcap2 = getauxval(AT_HWCAP2);
#endif
#endif
}

static bool x86_has(const dynq_cpu_facts *facts, int leaf, int subleaf, int reg, int bit, uint64_t state) {
  const uint32_t *r = leaf == 1 ? facts->cpuid_1 : subleaf == 0 ? facts->cpuid_7_0 : facts->cpuid_7_1;
  const bool os_saves = (facts->cpuid_1[ECX] >> OSXSAVE_BIT & 1) != 0 && (facts->xcr0 & state) == state;
  return facts->architecture == DYNQ_ARCH_X86_64 && (r[reg] >> bit & 1) != 0 && os_saves;
}

static bool arm_has(const dynq_cpu_facts *facts, uint64_t hwcap, int bit) {
  return facts->architecture == DYNQ_ARCH_AARCH64 && (hwcap >> bit & 1) != 0;
}

uint64_t dynq_cpu_features(const dynq_cpu_facts *facts) {
  uint64_t features = 0;
#define CPU_X86(name, text, leaf, subleaf, reg, bit, state)                                                            \
  features |= x86_has(facts, leaf, subleaf, reg, bit, state) ? CPU_##name : 0;
#define HWCAP facts->hwcap
#define HWCAP2 facts->hwcap2
#define CPU_ARM(name, text, word, bit) features |= arm_has(facts, word, bit) ? CPU_##name : 0;
#include "cpu_features.def"
#undef CPU_X86
#undef CPU_ARM
#undef HWCAP
#undef HWCAP2
  return features;
}

const char *dynq_cpu_feature_name(size_t bit) {
  static const char *const names[CPU_FEATURE_COUNT] = {
#define CPU_X86(name, text, ...) text,
#define CPU_ARM(name, text, ...) text,
#include "cpu_features.def"
#undef CPU_X86
#undef CPU_ARM
  };
  return names[bit];
}
