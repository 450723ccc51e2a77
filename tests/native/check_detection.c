/*
 * check_detection: what the library makes of the registers of a CPU and of what the operating system allows.
 *
 *   check_detection [--seed N]
 *
 * Detection is pure, so that every build judges the CPUs of every architecture: those of cpus.def, and all on which
 * one bit differs. The permission for AMX is read from this process, with a kernel that is told what to answer.
 */
#include "check.h"

#include "base/cpu.h"
#include "base/dispatch.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
enum { GET_PERMISSION = 0x1022, REQUEST_PERMISSION = 0x1023 }; /* of arch_prctl */
#endif

enum { TEXT = 256, ALL_STATE = 0x602e7 /* of XCR0 */ };

/* ---- Names, in the order of the lists ---- */

static void append(char *text, const char *name) {
  if (strlen(text) + strlen(name) + 2 < TEXT) {
    strcat(strcat(text, text[0] != '\0' ? " " : ""), name);
  }
}

static const char *feature_names(uint64_t features, char *text) {
  text[0] = '\0';
  for (size_t bit = 0; bit < CPU_FEATURE_COUNT; bit++) {
    if ((features >> bit & 1) != 0) {
      append(text, dynq_cpu_feature_name(bit));
    }
  }
  return text;
}

/* The lines of isa.def that a CPU can run, be they built here or not. */
static const char *isa_names(int architecture, uint64_t features, char *text) {
  text[0] = '\0';
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    const dynq_isa *isa = &dynq_isa_list[i];
    if ((isa->architecture == architecture || isa->architecture == DYNQ_ARCH_ANY) && (isa->features & ~features) == 0) {
      append(text, isa->name);
    }
  }
  return text;
}

static void expect_text(const char *what, const char *expected, const char *got) {
  if (strcmp(expected, got) != 0) {
    check_fail("%s: \"%s\"; expected \"%s\"", what, got, expected);
  }
}

/* Checks that a set that is built and that withheld features stand in the way of says so. */
static void expect_reasons(int architecture, uint64_t features, uint64_t withheld) {
  dynq_kernels kernels;
  for (size_t i = 0; i < dynq_isa_count(); i++) {
    const dynq_isa *isa = &dynq_isa_list[i];
    const uint64_t missing = isa->features & ~features;
    if (isa->kernels != NULL && isa->architecture == architecture && missing != 0) {
      CHECK_STATUS(DYNQ_ERROR_ISA_NOT_SUPPORTED, dynq_isa_resolve(i, features, withheld, &kernels));
      const char *reason = strstr(dynq_last_error(), ", which the CPU has and the operating system does not enable");
      CHECK((reason != NULL) == ((missing & withheld) != 0));
      for (size_t bit = 0; reason != NULL && bit < CPU_FEATURE_COUNT; bit++) { /* what it has not comes before "and" */
        const char *name = strstr(dynq_last_error(), dynq_cpu_feature_name(bit));
        const char *border = strstr(dynq_last_error(), " and ");
        const uint64_t one = (uint64_t)1 << bit;
        CHECK((missing & one) == 0 || name != NULL);
        CHECK((missing & ~withheld & one) == 0 || (border < reason && name < border));
      }
    }
  }
}

static void expect_cpu(const dynq_cpu_facts *facts, const char *withheld, const char *isas) {
  char text[TEXT];
  const uint64_t features = dynq_cpu_features(facts), system = dynq_cpu_withheld(facts);
  expect_text("instruction sets that can run", isas, isa_names(facts->architecture, features, text));
  expect_text("features withheld", withheld, feature_names(system, text));
  CHECK((features & system) == 0);
  expect_reasons(facts->architecture, features, system);
}

/* ---- The CPUs of cpus.def ---- */

/* CPUID leaf 0x1d, subleaf 1: bytes of all tiles and of one, bytes of a row and number of tiles, rows. */
typedef enum tiles { NO_TILES, TILES, OTHER_SIZE, OTHER_NUMBER, OTHER_ROWS } tiles;
static const uint32_t tile_shapes[][4] = {
    [NO_TILES] = {0},
    [TILES] = {0x04002000, 0x00080040, 0x10, 0},
    [OTHER_SIZE] = {0x04004000, 0x00080040, 0x10, 0},
    [OTHER_NUMBER] = {0x04002000, 0x00100040, 0x10, 0},
    [OTHER_ROWS] = {0x04002000, 0x00080040, 0x20, 0},
};

static const struct x86_cpu {
  const char *name, *source;
  uint32_t cpuid_1_ecx, cpuid_7_0[4], cpuid_7_1_eax;
  tiles tiles;
  uint64_t xcr0, granted;
  const char *withheld, *isas;
} x86_cpus[] = {
#define X86(...) ROW(__VA_ARGS__)
#define ROW(name, source, ecx, eax_7, ebx_7, ecx_7, edx_7, eax_7_1, ...)                                               \
  {name, source, ecx, {eax_7, ebx_7, ecx_7, edx_7}, eax_7_1, __VA_ARGS__},
#define ARM(...)
#include "cpus.def"
#undef X86
#undef ROW
#undef ARM
};

static const struct arm_cpu {
  const char *name, *source, *features, *isas;
} arm_cpus[] = {
#define X86(...)
#define ARM(...) {__VA_ARGS__},
#include "cpus.def"
#undef X86
#undef ARM
};

static void check_x86(void) {
  check_begin("", "x86-64 CPUs");
  for (size_t i = 0; i < sizeof x86_cpus / sizeof x86_cpus[0]; i++) {
    const struct x86_cpu *cpu = &x86_cpus[i];
    dynq_cpu_facts facts = {.architecture = DYNQ_ARCH_X86_64,
                            .cpuid_7_1 = {cpu->cpuid_7_1_eax},
                            .xcr0 = cpu->xcr0,
                            .granted = cpu->granted};
    facts.cpuid_1[2] = cpu->cpuid_1_ecx;
    memcpy(facts.cpuid_7_0, cpu->cpuid_7_0, sizeof facts.cpuid_7_0);
    memcpy(facts.cpuid_1d_1, tile_shapes[cpu->tiles], sizeof facts.cpuid_1d_1);
    check_case("%s (%s)", cpu->name, cpu->source);
    expect_cpu(&facts, cpu->withheld, cpu->isas);
  }
  check_end();
}

/* The names of /proc/cpuinfo, from bit 0 on (Linux, arch/arm64/include/uapi/asm/hwcap.h and kernel/cpuinfo.c). */
static const char hwcap_names[] = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
                                  "jscvt fcma lrcpc dcpop sha3 sm3 sm4 "
                                  "asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg";
static const char hwcap2_names[] =
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 "
    "dgh "
    "rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64 wfxt";

/* The bit of `name` (as long as `length`) in a list, or 0. */
static uint64_t bit_of(const char *name, size_t length, const char *list) {
  uint64_t bit = 1;
  for (const char *p = list; *p != '\0'; bit <<= 1) {
    const size_t n = strcspn(p, " ");
    if (n == length && memcmp(p, name, n) == 0) {
      return bit;
    }
    p += n + (p[n] == ' ');
  }
  return 0;
}

static void read_hwcaps(const char *features, dynq_cpu_facts *facts) {
  for (const char *p = features; *p != '\0';) {
    const size_t n = strcspn(p, " ");
    const uint64_t first = bit_of(p, n, hwcap_names), second = bit_of(p, n, hwcap2_names);
    if ((first | second) == 0) {
      check_fail("the kernel has no feature %.*s", (int)n, p);
    }
    facts->hwcap |= first;
    facts->hwcap2 |= second;
    p += n + (p[n] == ' ');
  }
}

static void check_arm(void) {
  check_begin("", "64-bit ARM CPUs");
  for (size_t i = 0; i < sizeof arm_cpus / sizeof arm_cpus[0]; i++) {
    dynq_cpu_facts facts = {.architecture = DYNQ_ARCH_AARCH64};
    check_case("%s (%s)", arm_cpus[i].name, arm_cpus[i].source);
    read_hwcaps(arm_cpus[i].features, &facts);
    expect_cpu(&facts, "", arm_cpus[i].isas);
  }
  check_end();
}

/* ---- CPUs on which one bit differs ---- */

enum { LEAF_1_ECX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX, LEAF_7_1_EAX, HWCAP, HWCAP2 };

/* Intel SDM volume 2, CPUID; hwcap.h as above. A second writing of cpu_features.def, which the library reads. */
static const struct feature {
  uint64_t feature;
  const char *name;
  int word, bit;
  uint64_t state; /* of XCR0 */
} features[] = {
    {CPU_FMA, "fma", LEAF_1_ECX, 12, 0x6},
    {CPU_AVX2, "avx2", LEAF_7_EBX, 5, 0x6},
    {CPU_AVX512F, "avx512f", LEAF_7_EBX, 16, 0xe6},
    {CPU_AVX512DQ, "avx512dq", LEAF_7_EBX, 17, 0xe6},
    {CPU_AVX512BW, "avx512bw", LEAF_7_EBX, 30, 0xe6},
    {CPU_AVX512VL, "avx512vl", LEAF_7_EBX, 31, 0xe6},
    {CPU_AVX512VNNI, "avx512_vnni", LEAF_7_ECX, 11, 0xe6},
    {CPU_AVXVNNI, "avx_vnni", LEAF_7_1_EAX, 4, 0x6},
    {CPU_AMXTILE, "amx_tile", LEAF_7_EDX, 24, 0x60000},
    {CPU_AMXINT8, "amx_int8", LEAF_7_EDX, 25, 0x60000},
    {CPU_ASIMDDP, "asimddp", HWCAP, 20, 0},
    {CPU_SVE, "sve", HWCAP, 22, 0},
    {CPU_SVEI8MM, "svei8mm", HWCAP2, 9, 0},
    {CPU_I8MM, "i8mm", HWCAP2, 13, 0},
};
enum { FEATURES = sizeof features / sizeof features[0] };
_Static_assert((int)FEATURES == (int)CPU_FEATURE_COUNT, "a feature of cpu_features.def is not written here");

static int architecture_of(const struct feature *feature) {
  return feature->word >= HWCAP ? DYNQ_ARCH_AARCH64 : DYNQ_ARCH_X86_64;
}

/* Everything is 0, or everything is 1, but for the way to say so: OSXSAVE, leaf 7's subleaves, the shape of tiles. */
static dynq_cpu_facts same_bits(int architecture, bool ones) {
  dynq_cpu_facts facts;
  memset(&facts, ones ? 0xff : 0, sizeof facts);
  facts.architecture = architecture;
  facts.cpuid_1[2] |= 1u << 27;
  facts.cpuid_7_0[0] = 1;
  facts.xcr0 = facts.granted = ALL_STATE;
  memcpy(facts.cpuid_1d_1, tile_shapes[TILES], sizeof facts.cpuid_1d_1);
  return facts;
}

static void flip(dynq_cpu_facts *facts, const struct feature *feature) {
  switch (feature->word) {
  case HWCAP:
    facts->hwcap ^= (uint64_t)1 << feature->bit;
    break;
  case HWCAP2:
    facts->hwcap2 ^= (uint64_t)1 << feature->bit;
    break;
  case LEAF_1_ECX:
    facts->cpuid_1[2] ^= 1u << feature->bit;
    break;
  case LEAF_7_1_EAX:
    facts->cpuid_7_1[0] ^= 1u << feature->bit;
    break;
  default:
    facts->cpuid_7_0[1 + feature->word - LEAF_7_EBX] ^= 1u << feature->bit;
  }
}

static void expect_features(uint64_t expected, uint64_t got) {
  char text[TEXT], other[TEXT];
  expect_text("features", feature_names(expected, text), feature_names(got, other));
}

static void check_bits(void) {
  check_begin("", "each feature by its bit");
  for (size_t i = 0; i < FEATURES; i++) {
    const int architecture = architecture_of(&features[i]);
    uint64_t all = 0;
    for (size_t j = 0; j < FEATURES; j++) {
      all |= architecture_of(&features[j]) == architecture ? features[j].feature : 0;
    }
    dynq_cpu_facts facts = same_bits(architecture, false);
    check_case("%s alone", features[i].name);
    flip(&facts, &features[i]);
    expect_features(features[i].feature, dynq_cpu_features(&facts));
    facts = same_bits(architecture, true);
    check_case("all but %s", features[i].name);
    flip(&facts, &features[i]);
    expect_features(all & ~features[i].feature, dynq_cpu_features(&facts));
    CHECK(dynq_cpu_withheld(&facts) == 0);
  }
  for (size_t i = 0; i < FEATURES; i++) {
    char text[TEXT];
    check_case("the name of %s", features[i].name);
    expect_text("name", features[i].name, feature_names(features[i].feature, text));
  }
  check_case("no architecture that the library knows");
  dynq_cpu_facts facts = same_bits(DYNQ_ARCH_ANY, true);
  CHECK(dynq_cpu_features(&facts) == 0 && dynq_cpu_withheld(&facts) == 0);
  check_end();
}

static void check_state(void) {
  check_begin("", "each component of XCR0");
  for (int bit = 0; bit < 64; bit++) {
    uint64_t all = 0, withheld = 0;
    dynq_cpu_facts facts = same_bits(DYNQ_ARCH_X86_64, true);
    facts.xcr0 = ~((uint64_t)1 << bit);
    for (size_t i = 0; i < FEATURES; i++) {
      all |= architecture_of(&features[i]) == DYNQ_ARCH_X86_64 ? features[i].feature : 0;
      withheld |= (features[i].state >> bit & 1) != 0 ? features[i].feature : 0;
    }
    check_case("all but bit %d", bit);
    expect_features(withheld, dynq_cpu_withheld(&facts));
    expect_features(all & ~withheld, dynq_cpu_features(&facts));
  }
  check_end();
}

/* ---- The permission for AMX ---- */

#if defined(__x86_64__) && defined(__linux__)

/* An operating system's answer to the request for the tiles and to the question of what is granted: errno, or 0. */
struct kernel {
  const char *what;
  int request, get;
  unsigned long granted; /* bits of XCR0 */
  bool amx;
};
static struct kernel kernel;

/* Stands in for arch_prctl, which the filter below stops. */
static void answer(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const bool get = registers[REG_RDI] == GET_PERMISSION;
  const int error = get ? kernel.get : kernel.request;
  (void)number;
  (void)info;
  if (get && error == 0) {
    memcpy((void *)registers[REG_RSI], &kernel.granted, sizeof kernel.granted);
  }
  registers[REG_RAX] = -error;
}

/* From here on `answer` is this process's kernel, as far as permissions go. */
static bool replace_kernel(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, GET_PERMISSION, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQUEST_PERMISSION, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  };
  const struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  const struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO};
  return sigaction(SIGSYS, &action, NULL) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a process of its own: the name chosen, what AMX lacks, and its features. Only names: the CPU may have none. */
static void report(int to) {
  char text[TEXT] = "there is no seccomp here";
  dynq_cpu_facts facts;
  const char *name = "";
  (void)unsetenv("DYNQ_ISA");
  (void)setenv("DYNQ_ASSUME_CPU", "fma avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni amx_tile amx_int8", 1);
  if (replace_kernel()) {
    dynq_cpu_read(&facts);
    (void)dynq_isa_selected(&name);
    (void)snprintf(text, sizeof text, "%s|%s|%llx", name, dynq_isa_missing("amx"),
                   (unsigned long long)(dynq_cpu_features(&facts) & (CPU_AMXTILE | CPU_AMXINT8)));
  }
  (void)!write(to, text, strlen(text));
  _exit(0);
}

static void ask(char *text) {
  int ends[2], status;
  text[0] = '\0';
  if (pipe(ends) != 0) {
    return;
  }
  const pid_t pid = fork();
  if (pid == 0) {
    report(ends[1]);
  }
  (void)close(ends[1]);
  const ssize_t length = read(ends[0], text, TEXT - 1);
  text[length > 0 ? length : 0] = '\0';
  (void)close(ends[0]);
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

/* The best of what is built, on this machine with all that `report` assumes. */
static const char *best(bool amx) {
  dynq_cpu_facts facts;
  dynq_cpu_read(&facts);
  const uint64_t amx_features = CPU_AMXTILE | CPU_AMXINT8;
  const uint64_t assumed =
      CPU_FMA | CPU_AVX2 | CPU_AVX512F | CPU_AVX512DQ | CPU_AVX512BW | CPU_AVX512VL | CPU_AVX512VNNI;
  return dynq_isa_name(dynq_isa_best((dynq_cpu_features(&facts) & ~amx_features) | assumed | (amx ? amx_features : 0)));
}

static void check_permission(void) {
  static const struct kernel kernels[] = {
      {"granted", 0, 0, 0x602e7, true},
      {"refused by seccomp: EPERM", EPERM, 0, 0x602e7, false},
      {"an old kernel: EINVAL", EINVAL, EINVAL, 0, false},
      {"another: ENOSYS", ENOSYS, ENOSYS, 0, false},
      {"no such state: EOPNOTSUPP", EOPNOTSUPP, 0, 0x2e7, false},
      {"the request goes by, and nothing is granted", 0, 0, 0x202e7, false},
      {"the request goes by, and what is granted stays unknown", 0, EPERM, 0x602e7, false},
  };
  check_begin("", "permission for AMX");
  for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
    char got[TEXT], expected[TEXT];
    kernel = kernels[i];
    check_case("%s", kernel.what);
    ask(got);
    (void)snprintf(expected, sizeof expected, "%s|%s|%x", best(kernel.amx),
                   kernel.amx ? "" : "amx_tile amx_int8, which the CPU has and the operating system does not enable",
                   kernel.amx ? CPU_AMXTILE | CPU_AMXINT8 : 0);
    expect_text("chosen|missing|features", expected, got);
  }
  check_end();
}

#else
static void check_permission(void) {} /* no other system has to be asked */
#endif

int main(int argc, char **argv) {
  check_start(argc, argv);
  check_x86();
  check_arm();
  check_bits();
  check_state();
  check_permission();
  return check_finish();
}
