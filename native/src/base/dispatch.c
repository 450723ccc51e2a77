/*
 * The list of instruction sets and which of them is in use.
 */
#include "dispatch.h"

#include "cpu.h"
#include "status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* CMake defines DYNQ_BUILD_<name> as 1 for each ISA that is compiled, as 0 for the others. */
#define DYNQ_ISA(name, architecture, features, flags) extern const dynq_isa_kernels dynq_isa_##name;
#include "../isa.def"
#undef DYNQ_ISA

#define IF_BUILT_0(kernels) NULL
#define IF_BUILT_1(kernels) (kernels)
#define IF_BUILT_PASTE(built) IF_BUILT_##built
#define IF_BUILT(built) IF_BUILT_PASTE(built)

const dynq_isa dynq_isa_list[] = {
#define DYNQ_ISA(name, architecture, features, flags)                                                                  \
  {#name, DYNQ_ARCH_##architecture, (features), IF_BUILT(DYNQ_BUILD_##name)(&dynq_isa_##name)},
#include "../isa.def"
#undef DYNQ_ISA
};

enum { ISA_COUNT = sizeof dynq_isa_list / sizeof dynq_isa_list[0] };

/* Filled once. `current` is NULL while the environment's choice stands in the way; the failure is kept. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t machine_features, machine_withheld;
static dynq_kernels resolved[ISA_COUNT];
static _Atomic(const dynq_kernels *) current;
static dynq_status environment_status;
static char environment_name[64];

size_t dynq_isa_count(void) { return ISA_COUNT; }

const char *dynq_isa_name(size_t index) { return index < ISA_COUNT ? dynq_isa_list[index].name : NULL; }

size_t dynq_isa_find(const char *name) {
  size_t index = 0;
  while (index < ISA_COUNT && strcmp(dynq_isa_list[index].name, name) != 0) {
    index++;
  }
  return index;
}

/* Names of the features in `bits`, with spaces between. */
static void feature_names(uint64_t bits, char *text, size_t size) {
  size_t used = 0;
  text[0] = '\0';
  for (size_t bit = 0; bit < CPU_FEATURE_COUNT; bit++) {
    const char *name = dynq_cpu_feature_name(bit);
    if ((bits >> bit & 1) != 0 && used + strlen(name) + 2 < size) {
      if (used != 0) {
        text[used++] = ' ';
      }
      strcpy(text + used, name);
      used += strlen(name);
    }
  }
}

/* The names of `missing`; those that are `withheld` come last, with the reason. */
static void describe_missing(uint64_t missing, uint64_t withheld, char *text, size_t size) {
  char absent[128], kept[64];
  feature_names(missing & ~withheld, absent, sizeof absent);
  feature_names(missing & withheld, kept, sizeof kept);
  if (kept[0] == '\0') {
    (void)snprintf(text, size, "%s", absent);
  } else {
    (void)snprintf(text, size, "%s%s%s, which the CPU has and the operating system does not enable", absent,
                   absent[0] != '\0' ? " and " : "", kept);
  }
}

static dynq_status fail_unknown(const char *name) {
  char known[160] = "";
  for (size_t i = 0; i < ISA_COUNT; i++) {
    if (strlen(known) + strlen(dynq_isa_list[i].name) + 2 < sizeof known) {
      strcat(strcat(known, i != 0 ? " " : ""), dynq_isa_list[i].name);
    }
  }
  return dynq_fail(DYNQ_ERROR_ISA_UNKNOWN, "unknown instruction set '%.40s'; known: %s", name, known);
}

static bool runs(const dynq_isa *isa, uint64_t features) {
  return isa->kernels != NULL && (isa->features & ~features) == 0;
}

/* Slots that are still empty take what `isa` offers. */
static void fill_slots(dynq_vector_kernels *slots, const dynq_vector_kernels *isa) {
#define DYNQ_SLOT(type, name, parameters) slots->name = slots->name != NULL ? slots->name : isa->name;
#include "../kernels/slots.def"
#undef DYNQ_SLOT
}

dynq_status dynq_isa_resolve(size_t index, uint64_t features, uint64_t withheld, dynq_kernels *kernels) {
  const dynq_isa *isa = &dynq_isa_list[index];
  if (isa->kernels == NULL) {
    return dynq_fail(DYNQ_ERROR_ISA_NOT_BUILT, "instruction set '%s' is not part of this build", isa->name);
  }
  if (!runs(isa, features)) {
    char missing[256];
    describe_missing(isa->features & ~features, withheld, missing, sizeof missing);
    return dynq_fail(DYNQ_ERROR_ISA_NOT_SUPPORTED, "instruction set '%s' cannot run here: this machine lacks %s",
                     isa->name, missing);
  }
  *kernels = (dynq_kernels){.name = isa->name};
  for (size_t i = index; i < ISA_COUNT; i++) {
    if (runs(&dynq_isa_list[i], features)) {
      kernels->gemm = kernels->gemm != NULL ? kernels->gemm : dynq_isa_list[i].kernels->gemm;
      fill_slots(&kernels->vector, &dynq_isa_list[i].kernels->vector);
    }
  }
  return DYNQ_OK;
}

size_t dynq_isa_best(uint64_t features) {
  size_t index = 0;
  while (!runs(&dynq_isa_list[index], features)) { /* scalar, the last, needs nothing */
    index++;
  }
  return index;
}

/* The kernels of `name`; NULL is the best. */
static dynq_status choose(const char *name, const dynq_kernels **kernels) {
  const size_t index = name != NULL ? dynq_isa_find(name) : dynq_isa_best(machine_features);
  dynq_kernels unused;
  if (index == ISA_COUNT) {
    return fail_unknown(name);
  }
  DYNQ_TRY(dynq_isa_resolve(index, machine_features, machine_withheld, &unused));
  *kernels = &resolved[index];
  return DYNQ_OK;
}

static void initialize(void) {
  dynq_cpu_facts facts;
  dynq_cpu_read(&facts);
  machine_features = dynq_cpu_features(&facts);
  machine_withheld = dynq_cpu_withheld(&facts);
  for (size_t i = 0; i < ISA_COUNT; i++) {
    if (runs(&dynq_isa_list[i], machine_features)) {
      (void)dynq_isa_resolve(i, machine_features, machine_withheld, &resolved[i]);
    }
  }
  const char *name = getenv("DYNQ_ISA");
  const dynq_kernels *kernels = NULL;
  environment_status = choose(name != NULL && name[0] != '\0' ? name : NULL, &kernels);
  if (environment_status != DYNQ_OK) {
    strncpy(environment_name, name, sizeof environment_name - 1);
  }
  atomic_store(&current, kernels);
}

dynq_status dynq_kernels_current(const dynq_kernels **kernels) {
  *kernels = atomic_load_explicit(&current, memory_order_acquire);
  if (*kernels != NULL) {
    return DYNQ_OK;
  }
  (void)pthread_once(&once, initialize);
  *kernels = atomic_load(&current);
  if (*kernels != NULL) {
    return DYNQ_OK;
  }
  const dynq_kernels *unused;
  (void)choose(environment_name, &unused); /* says why not */
  return dynq_fail(environment_status, "DYNQ_ISA: %s", dynq_last_error());
}

void dynq_kernels_override(const dynq_kernels *kernels) {
  (void)pthread_once(&once, initialize);
  atomic_store(&current, kernels);
}

dynq_status dynq_isa_supported(const char *name) {
  const dynq_kernels *kernels;
  if (name == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "name is NULL");
  }
  (void)pthread_once(&once, initialize);
  return choose(name, &kernels);
}

const char *dynq_isa_missing(const char *name) {
  static _Thread_local char text[256];
  (void)pthread_once(&once, initialize);
  const size_t index = name != NULL ? dynq_isa_find(name) : (size_t)ISA_COUNT;
  const uint64_t missing = index < ISA_COUNT ? dynq_isa_list[index].features & ~machine_features : 0;
  describe_missing(missing, machine_withheld, text, sizeof text);
  return text;
}

dynq_status dynq_isa_select(const char *name) {
  const dynq_kernels *kernels;
  (void)pthread_once(&once, initialize);
  DYNQ_TRY(choose(name, &kernels));
  atomic_store(&current, kernels);
  return DYNQ_OK;
}

dynq_status dynq_isa_selected(const char **name) {
  const dynq_kernels *kernels;
  if (name == NULL) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "name is NULL");
  }
  DYNQ_TRY(dynq_kernels_current(&kernels));
  *name = kernels->name;
  return DYNQ_OK;
}
