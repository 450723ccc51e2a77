/*
 * Facts about this CPU and what its operating system lets programs use. Reading the machine and judging what was read
 * are apart, so that tests can judge any CPU.
 */
#ifndef DYNQ_CPU_H
#define DYNQ_CPU_H

#include <stddef.h>
#include <stdint.h>

/* One bit for each line of cpu_features.def, of every architecture: CPU_AVX2, ... */
enum {
#define CPU_X86(name, ...) CPU_BIT_##name,
#define CPU_ARM(name, ...) CPU_BIT_##name,
#include "cpu_features.def"
#undef CPU_X86
#undef CPU_ARM
  CPU_FEATURE_COUNT
};
enum {
#define CPU_X86(name, ...) CPU_##name = 1 << CPU_BIT_##name,
#define CPU_ARM(name, ...) CPU_##name = 1 << CPU_BIT_##name,
#include "cpu_features.def"
#undef CPU_X86
#undef CPU_ARM
};
_Static_assert(CPU_FEATURE_COUNT < 31, "the features are enumeration constants, which are int");

enum { DYNQ_ARCH_ANY, DYNQ_ARCH_X86_64, DYNQ_ARCH_AARCH64 };

/* Raw facts, as the machine told them; what it lacks is 0. */
typedef struct dynq_cpu_facts {
  int architecture;       /* DYNQ_ARCH_* */
  uint32_t cpuid_1[4];    /* leaf 1: eax, ebx, ecx, edx */
  uint32_t cpuid_7_0[4];  /* leaf 7, subleaf 0; eax: the highest subleaf */
  uint32_t cpuid_7_1[4];  /* leaf 7, subleaf 1; meaningless where that is no subleaf */
  uint32_t cpuid_1d_1[4]; /* leaf 0x1d, subleaf 1: the shape of AMX tiles in palette 1 */
  uint64_t xcr0;          /* state that the operating system saves; 0 without OSXSAVE */
  uint64_t granted;       /* state, as bits of XCR0, that has to be asked for and was granted (Linux: arch_prctl) */
  uint64_t hwcap, hwcap2; /* Linux auxiliary vector */
} dynq_cpu_facts;

/* Asks Linux for the permission to use AMX where the CPU has it. */
void dynq_cpu_read(dynq_cpu_facts *facts);
/* Features that may be used: pure, of `facts` alone. */
uint64_t dynq_cpu_features(const dynq_cpu_facts *facts);
/* Features that the CPU has and the operating system does not let programs use: pure, of `facts` alone. */
uint64_t dynq_cpu_withheld(const dynq_cpu_facts *facts);
/* The name of feature `bit` as /proc/cpuinfo writes it. */
const char *dynq_cpu_feature_name(size_t bit);

#endif
