/*
 * Reads CPUID, XCR0 and HWCAP, and says which features they allow.
 *
 * In a build with DYNQ_ASSUME_CPU, which tests under emulation use, the environment variable of that name lists
 * features (spaces between) that are written into the facts as if the machine had told of them.
 */
#include "cpu.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

enum { EAX, EBX, ECX, EDX };
enum {
  OSXSAVE_BIT = 27,  /* leaf 1, ECX */
  AMX_TILE_BIT = 24, /* leaf 7, EDX */
  TILE_DATA = 18     /* XCR0: the tiles themselves, the one component here that Linux must be asked for */
};
/* arch_prctl (Linux, Documentation/arch/x86/xstate.rst) */
enum { GET_STATE_PERMISSION = 0x1022, REQUEST_STATE_PERMISSION = 0x1023 };

/* Palette 1 as the kernels use it (Intel SDM volume 2, CPUID leaf 0x1d): tiles of 1024 bytes, 8 of them, up to 16
 * rows of 64 bytes. */
static const uint32_t palette_1[4] = {1024u << 16 | 8192u, 8u << 16 | 64u, 16u, 0};

#if defined(DYNQ_ASSUME_CPU)
static bool is_listed(const char *name, const char *list) {
  const size_t length = strlen(name);
  for (const char *p = list; (p = strstr(p, name)) != NULL; p += length) {
    if ((p == list || p[-1] == ' ') && (p[length] == ' ' || p[length] == '\0')) {
      return true;
    }
  }
  return false;
}

static void assume(dynq_cpu_facts *facts) {
  const char *list = getenv("DYNQ_ASSUME_CPU");
  if (list == NULL) {
    return;
  }
#define HWCAP facts->hwcap
#define HWCAP2 facts->hwcap2
#define CPU_X86(name, text, leaf, subleaf, reg, bit, state)                                                            \
  if (facts->architecture == DYNQ_ARCH_X86_64 && is_listed(text, list)) {                                              \
    (leaf == 1 ? facts->cpuid_1 : subleaf == 0 ? facts->cpuid_7_0 : facts->cpuid_7_1)[reg] |= 1u << bit;               \
    facts->cpuid_7_0[EAX] |= subleaf;                                                                                  \
    facts->cpuid_1[ECX] |= 1u << OSXSAVE_BIT;                                                                          \
    facts->xcr0 |= state;                                                                                              \
  }
#define CPU_ARM(name, text, word, bit)                                                                                 \
  if (facts->architecture == DYNQ_ARCH_AARCH64 && is_listed(text, list)) {                                             \
    word |= (uint64_t)1 << bit;                                                                                        \
  }
#include "cpu_features.def"
#undef CPU_X86
#undef CPU_ARM
#undef HWCAP
#undef HWCAP2
  if ((facts->cpuid_7_0[EDX] >> AMX_TILE_BIT & 1) != 0) {
    memcpy(facts->cpuid_1d_1, palette_1, sizeof palette_1);
  }
}
#else
static void assume(dynq_cpu_facts *facts) { (void)facts; }
#endif

/* Linux gives a process the tiles when it asks for them, since they make its signal frames 8 KB larger. */
static void ask_for_tiles(dynq_cpu_facts *facts) {
#if defined(__x86_64__) && defined(__linux__)
  if ((facts->cpuid_7_0[EDX] >> AMX_TILE_BIT & 1) != 0 && (facts->xcr0 >> TILE_DATA & 1) != 0) {
    unsigned long granted = 0;
    if (syscall(SYS_arch_prctl, REQUEST_STATE_PERMISSION, TILE_DATA) == 0 &&
        syscall(SYS_arch_prctl, GET_STATE_PERMISSION, &granted) == 0) {
      facts->granted = granted;
    }
  }
#else
  (void)facts;
#endif
}

void dynq_cpu_read(dynq_cpu_facts *facts) {
  memset(facts, 0, sizeof *facts);
#if defined(__x86_64__)
  facts->architecture = DYNQ_ARCH_X86_64;
  uint32_t *r = facts->cpuid_1;
  (void)__get_cpuid_count(1, 0, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  r = facts->cpuid_7_0;
  (void)__get_cpuid_count(7, 0, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  r = facts->cpuid_7_1;
  (void)__get_cpuid_count(7, 1, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  if ((facts->cpuid_1[ECX] >> OSXSAVE_BIT & 1) != 0) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    facts->xcr0 = (uint64_t)high << 32 | low;
  }
  r = facts->cpuid_1d_1;
  (void)__get_cpuid_count(0x1d, 1, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
#elif defined(__aarch64__)
  facts->architecture = DYNQ_ARCH_AARCH64;
#if defined(__linux__)
  facts->hwcap = getauxval(AT_HWCAP);
  facts->hwcap2 = getauxval(AT_HWCAP2);
#endif
#endif
  assume(facts);
  ask_for_tiles(facts);
}

static bool x86_cpu_has(const dynq_cpu_facts *facts, int leaf, int subleaf, int reg, int bit) {
  const uint32_t *r = leaf == 1 ? facts->cpuid_1 : subleaf == 0 ? facts->cpuid_7_0 : facts->cpuid_7_1;
  const bool told = leaf == 1 || facts->cpuid_7_0[EAX] >= (uint32_t)subleaf; /* the highest subleaf of leaf 7 */
  return facts->architecture == DYNQ_ARCH_X86_64 && told && (r[reg] >> bit & 1) != 0;
}

/* Returns whether programs may use `state`, bits of XCR0. */
static bool usable(const dynq_cpu_facts *facts, uint64_t state) {
  if ((facts->cpuid_1[ECX] >> OSXSAVE_BIT & 1) == 0 || (facts->xcr0 & state) != state) {
    return false;
  }
  return (state >> TILE_DATA & 1) == 0 || (facts->granted >> TILE_DATA & 1) != 0;
}

/* A later CPU may shape its tiles otherwise; the kernels know this one shape. */
static bool fits(const dynq_cpu_facts *facts, uint64_t state) {
  return (state >> TILE_DATA & 1) == 0 ||
         (facts->cpuid_1d_1[EAX] == palette_1[EAX] && facts->cpuid_1d_1[EBX] == palette_1[EBX] &&
          (facts->cpuid_1d_1[ECX] & 0xffff) == palette_1[ECX]);
}

static bool arm_has(const dynq_cpu_facts *facts, uint64_t hwcap, int bit) {
  return facts->architecture == DYNQ_ARCH_AARCH64 && (hwcap >> bit & 1) != 0;
}

/* Features that the CPU has, and that programs may use where `of_system`, or not use where not. */
static uint64_t select_features(const dynq_cpu_facts *facts, bool of_system) {
  uint64_t features = 0;
#define CPU_X86(name, text, leaf, subleaf, reg, bit, state)                                                            \
  features |= x86_cpu_has(facts, leaf, subleaf, reg, bit) && fits(facts, state) && usable(facts, state) == of_system   \
                  ? CPU_##name                                                                                         \
                  : 0;
#define HWCAP facts->hwcap
#define HWCAP2 facts->hwcap2
#define CPU_ARM(name, text, word, bit) features |= of_system && arm_has(facts, word, bit) ? CPU_##name : 0;
#include "cpu_features.def"
#undef CPU_X86
#undef CPU_ARM
#undef HWCAP
#undef HWCAP2
  return features;
}

uint64_t dynq_cpu_features(const dynq_cpu_facts *facts) { return select_features(facts, true); }

uint64_t dynq_cpu_withheld(const dynq_cpu_facts *facts) { return select_features(facts, false); }

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
