/*
 * The kernels of every instruction set that an emulated CPU has, against plain loops, without an operating system.
 *
 * The library's detection chooses; the report goes to the first serial port, a line for each instruction set:
 *   NAME PASS (cases)   or   NAME FAIL (what differs)
 * and a last line, "end". Bochs 3.0 multiplies negative numbers wrongly in AMX's tdpbusd, so that there the weights are
 * 0 to 127: what is checked is where each number lies and that all of them are added.
 */
#include "kernels/kernels.h"

#include "base/cpu.h"

#include <string.h>

void run(void);

/* ---- What the kernels take from the C library ---- */

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  void *const result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
  return result;
}

void *memset(void *to, int byte, size_t n) {
  void *const result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
  return result;
}

/* ---- The report ---- */

/* A 16550 and its registers. */
enum { SERIAL = 0x3f8, LINE_CONTROL = 3, EIGHT_BITS = 3, LINE_STATUS = 5, HOLDING_EMPTY = 0x20, ALL_SENT = 0x40 };

static void out(uint16_t port, uint8_t byte) { __asm__ volatile("outb %0, %1" : : "a"(byte), "d"(port)); }

static void wait_for(uint8_t bit) {
  uint8_t status;
  do {
    __asm__ volatile("inb %1, %0" : "=a"(status) : "d"((uint16_t)(SERIAL + LINE_STATUS)));
  } while ((status & bit) == 0);
}

static void put(const char *text) {
  for (; *text != '\0'; text++) {
    wait_for(HOLDING_EMPTY);
    out(SERIAL, (uint8_t)*text);
  }
}

static void put_number(size_t number) {
  char digits[24] = "";
  char *p = digits + sizeof digits - 1;
  do {
    *--p = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  put(p);
}

/* ---- The left operand times the panels ---- */

enum { MOST_PANELS = 5, MOST_GROUPS = 70, MOST_BYTES = MOST_GROUPS * DYNQ_GROUP + 64, GUARD = 0x5a };

typedef struct shape {
  size_t m, panels, groups;
} shape;

static uint64_t state = 1;
static uint8_t lhs[DYNQ_MAX_TILE_ROWS * MOST_BYTES];
static _Alignas(64) int8_t rhs[MOST_PANELS * MOST_GROUPS * DYNQ_PANEL * DYNQ_GROUP];
enum { ACC_STRIDE = (MOST_PANELS + 1) * DYNQ_PANEL };
static _Alignas(64) int32_t got[DYNQ_MAX_TILE_ROWS * ACC_STRIDE], expected[DYNQ_MAX_TILE_ROWS * ACC_STRIDE];

static uint8_t random_byte(void) { /* Knuth's MMIX generator */
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint8_t)(state >> 56);
}

static void multiply(const shape *s, size_t lhs_stride, bool lhs_signed) {
  for (size_t i = 0; i < s->m; i++) {
    for (size_t j = 0; j < s->panels * DYNQ_PANEL; j++) {
      const int8_t *w = rhs + (j / DYNQ_PANEL * s->groups * DYNQ_PANEL + j % DYNQ_PANEL) * DYNQ_GROUP;
      int32_t sum = 0;
      for (size_t k = 0; k < s->groups * DYNQ_GROUP; k++) {
        const uint8_t left = lhs[i * lhs_stride + k];
        const int8_t right = w[k / DYNQ_GROUP * DYNQ_PANEL * DYNQ_GROUP + k % DYNQ_GROUP];
        sum += (lhs_signed ? (int8_t)left : left) * right;
      }
      expected[i * ACC_STRIDE + j] = sum;
    }
  }
}

/* Returns whether the kernel's sums are the loops', and nothing else was written. */
static bool same(const dynq_gemm_kernels *gemm, const shape *s, size_t lhs_stride) {
  memset(got, GUARD, sizeof got);
  memset(expected, GUARD, sizeof expected);
  multiply(s, lhs_stride, gemm->lhs_signed);
  gemm->tile(s->m, s->panels, s->groups, lhs, lhs_stride, rhs, s->groups * DYNQ_PANEL * DYNQ_GROUP, got, ACC_STRIDE);
  size_t differ = 0;
  for (size_t i = 0; i < sizeof got / sizeof got[0]; i++) {
    differ += got[i] != expected[i];
  }
  return differ == 0;
}

static void check(const char *name, const dynq_gemm_kernels *gemm, uint8_t weight_bits) {
  static const size_t groups[] = {0, 1, 2, 8, 15, 16, 17, 31, 32, 33, 47, MOST_GROUPS};
  size_t cases = 0;
  for (size_t i = 0; i < sizeof lhs; i++) {
    lhs[i] = random_byte();
  }
  for (size_t i = 0; i < sizeof rhs; i++) {
    rhs[i] = (int8_t)(random_byte() & weight_bits);
  }
  if (gemm->enter != NULL) {
    gemm->enter();
  }
  put(name);
  for (shape s = {.m = 1}; s.m <= gemm->rows; s.m++) {
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
      s.groups = groups[g];
      s.panels = 1 + (s.m + g) % MOST_PANELS;
      const size_t lhs_stride = s.groups * DYNQ_GROUP + (s.m + g) % 3 * 20;
      cases++;
      if (!same(gemm, &s, lhs_stride)) {
        put(" FAIL (rows ");
        put_number(s.m);
        put(", panels ");
        put_number(s.panels);
        put(", groups ");
        put_number(s.groups);
        put(")\n");
        return;
      }
    }
  }
  if (gemm->leave != NULL) {
    gemm->leave();
  }
  put(" PASS (");
  put_number(cases);
  put(" cases)\n");
}

/* ---- The instruction sets ---- */

#define DYNQ_ISA(name, architecture, features, flags) extern const dynq_isa_kernels dynq_isa_##name;
#include "isa.def"
#undef DYNQ_ISA

#define OF_X86_64(...) __VA_ARGS__
#define OF_AARCH64(...)
#define OF_ANY(...) __VA_ARGS__
static const struct isa {
  const char *name;
  uint64_t features;
  const dynq_isa_kernels *kernels;
} isas[] = {
#define DYNQ_ISA(name, architecture, features, flags) OF_##architecture({#name, features, &dynq_isa_##name}, )
#include "isa.def"
#undef DYNQ_ISA
};

void run(void) {
  dynq_cpu_facts facts;
  out(SERIAL + LINE_CONTROL, EIGHT_BITS);
  dynq_cpu_read(&facts);
  facts.granted = facts.xcr0; /* this program is the operating system */
  const uint64_t features = dynq_cpu_features(&facts);
  for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
    if ((isas[i].features & ~features) == 0) {
      check(isas[i].name, isas[i].kernels->gemm, (isas[i].features & CPU_AMXINT8) != 0 ? 0x7f : 0xff);
    }
  }
  put("end\n");
  wait_for(ALL_SENT);
  for (const char *p = "Shutdown"; *p != '\0'; p++) { /* Bochs ends where this word is written to port 0x8900 */
    out(0x8900, (uint8_t)*p);
  }
}
