/*
 * Instructions executed on true signal frames: a ud2 stands where the instruction would, our own handler executes the
 * instruction on the frame that the kernel made, and the registers are what it should have left.
 */
#include "check_trap.h"
#include "frame.h"
#include "model.h"
#include "registers.h"

#include <cpuid.h>
#include <signal.h>
#include <string.h>

enum { UD2_BYTES = 2, XSTATE_HEADER = 512, AVX = 2, ZMM = 6, ZMM_HIGH = 7, COMPONENTS = 8 };

static uint8_t code[TRAP_LONGEST];
static trap_tiles tiles;
static volatile trap_outcome outcome; /* written by the handler */
static volatile uint64_t initial;     /* components that the handler puts into their initial state */
static size_t offset_of[COMPONENTS], bytes_of[COMPONENTS]; /* where a component is; 0 where there is none */

static void find_components(void) {
  for (unsigned c = AVX; c < COMPONENTS; c++) {
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid_count(0xd, c, &eax, &ebx, &ecx, &edx) != 0) {
      offset_of[c] = ebx;
      bytes_of[c] = eax;
    }
  }
}

/* Bytes of a component that is in its initial state mean nothing. */
static void spoil_initial(uint8_t *area) {
  uint64_t present;
  memcpy(&present, area + XSTATE_HEADER, sizeof present);
  present &= ~initial;
  memcpy(area + XSTATE_HEADER, &present, sizeof present);
  for (unsigned c = AVX; c < COMPONENTS; c++) {
    if ((c == AVX || c >= ZMM) && (present >> c & 1) == 0 && offset_of[c] != 0) {
      memset(area + offset_of[c], 0xee, bytes_of[c]);
    }
  }
}

/* QEMU 7.2 enters handlers with a stack that is 8 bytes off. */
__attribute__((force_align_arg_pointer)) static void step(int number, siginfo_t *info, void *context) {
  ucontext_t *frame = context;
  const greg_t rip = frame->uc_mcontext.gregs[REG_RIP];
  trap_name name;
  (void)number;
  (void)info;
  spoil_initial((uint8_t *)frame->uc_mcontext.fpregs);
  outcome = trap_step(frame, code, &tiles, true, &name);
  frame->uc_mcontext.gregs[REG_RIP] = rip + UD2_BYTES;
}

/* ---- All vectors through a trap ---- */

static void trap_zmm(vector_registers v, const void *memory) {
  __asm__ volatile(EACH(LOAD_ZMM) EACH_HIGH(LOAD_ZMM) "ud2\n\t" EACH(STORE_ZMM) EACH_HIGH(STORE_ZMM) "vzeroall"
                   :
                   : "a"(v), "S"(memory)
                   : CLOBBERS);
}
static void trap_ymm(vector_registers v, const void *memory) {
  __asm__ volatile(EACH(LOAD_YMM) "ud2\n\t" EACH(STORE_YMM) "vzeroall" : : "a"(v), "S"(memory) : CLOBBERS);
}
static void trap_xmm(vector_registers v, const void *memory) {
  __asm__ volatile("vzeroall\n\t" EACH(LOAD_XMM) "ud2\n\t" EACH(STORE_YMM) "vzeroall"
                   :
                   : "a"(v), "S"(memory)
                   : CLOBBERS);
}

/* `width` bytes of each vector are set before; the same are compared after, or 32 where they were 16. */
static void frame_case(size_t width, const vector_product *p) {
  static vector_registers expected, got;
  uint8_t memory[VECTOR_BYTES];
  const size_t seen = width < 32 ? 32 : width;
  memset(expected, 0, sizeof expected);
  for (size_t i = 0; i < (width == 64 ? VECTORS : VEX_VECTORS); i++) {
    fill_bytes(BYTES_RANDOM, expected[i], width);
  }
  fill_bytes(BYTES_RANDOM, memory, sizeof memory);
  memcpy(got, expected, sizeof got);
  initial = width == 64 ? random_below(4) << ZMM : 0;
  for (size_t i = 0; i < VECTORS; i++) {
    if ((initial >> (i < VEX_VECTORS ? ZMM : ZMM_HIGH) & 1) != 0) {
      memset(expected[i] + (i < VEX_VECTORS ? 32 : 0), 0, i < VEX_VECTORS ? 32 : VECTOR_BYTES);
    }
  }
  (void)code_product(code, p);
  say_product(p);
  model_product(p, expected, memory);
  outcome = TRAP_UNDEFINED;
  (width == 64 ? trap_zmm : width == 32 ? trap_ymm : trap_xmm)(got, (const void *)product_address(p, memory));
  CHECK(outcome == TRAP_DONE);
  for (size_t i = 0; i < VECTORS; i++) {
    check_same("vector", CHECK_BYTES, expected[i], got[i], seen);
  }
  initial = 0;
}

static void frame_cases(size_t width, bool evex) {
  for (size_t repeat = 0; repeat < 300; repeat++) {
    const vector_product p = random_product(evex);
    frame_case(width, &p);
  }
}

/* Frames that have no room for AVX-512 are those of machines that cannot run it. */
static void check_no_room(void) {
  static vector_registers v;
  const vector_product p = {.evex = true, .bytes = 64};
  check_begin("", "frames: no zmm, no EVEX");
  check_case("zmm");
  (void)code_product(code, &p);
  outcome = TRAP_DONE;
  trap_ymm(v, NULL);
  CHECK(outcome == TRAP_UNDEFINED);
  check_end();
}

/* ---- General registers ---- */

/* A configuration whose first tile has `rows` rows. */
static void make_config(uint8_t config[64], size_t rows) {
  memset(config, 0, 64);
  config[0] = 1;
  config[16] = 8;
  config[48] = (uint8_t)rows;
}

static void check_loaded(size_t rows) {
  CHECK(outcome == TRAP_DONE);
  CHECK(tiles.config.rows[0] == rows && tiles.config.colsb[0] == 8);
  outcome = TRAP_UNDEFINED;
  memset(&tiles, 0, sizeof tiles);
}

/* Each register as the base of a ldtilecfg, where each has another address. */
static void check_general(void) {
  enum { RSP = 4 };
  uint8_t config[16][64];
  const uint8_t *registers[16];
  check_begin("", "frames: general registers");
  for (unsigned n = 0; n < 16; n++) {
    make_config(config[n], n + 1);
    registers[n] = config[n];
  }
  for (unsigned n = 0; n < 16; n++) {
    check_case("base %u", n);
    if (n == RSP) { /* ldtilecfg (rsp, rsi) */
      memcpy(code, (const uint8_t[]){0xc4, 0xe2, 0x78, 0x49, 0x04, 0x34}, 6);
      __asm__ volatile("sub %%rsp, %%rsi\n\tud2" : : "S"(registers[n]) : "memory");
      check_loaded(n + 1);
      continue;
    }
    (void)code_memory(code, 0x49, 0, 0, 0, n, RSP /* none */, false);
    const uint8_t *const *from = registers;
    __asm__ volatile("push %%rbx\n\tpush %%rbp\n\t"
                     "mov 1*8(%0), %%rcx\n\tmov 2*8(%0), %%rdx\n\tmov 3*8(%0), %%rbx\n\tmov 5*8(%0), %%rbp\n\t"
                     "mov 6*8(%0), %%rsi\n\tmov 7*8(%0), %%rdi\n\tmov 8*8(%0), %%r8\n\tmov 9*8(%0), %%r9\n\t"
                     "mov 10*8(%0), %%r10\n\tmov 11*8(%0), %%r11\n\tmov 12*8(%0), %%r12\n\tmov 13*8(%0), %%r13\n\t"
                     "mov 14*8(%0), %%r14\n\tmov 15*8(%0), %%r15\n\tmov (%0), %%rax\n\t"
                     "ud2\n\t"
                     "pop %%rbp\n\tpop %%rbx"
                     : "+a"(from)
                     :
                     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory");
    check_loaded(n + 1);
  }
  check_end();
}

static __thread uint8_t thread_config[64];

/* A configuration at fs:offset, where thread-local variables are. */
static void check_segment(void) {
  uint64_t base;
  check_begin("", "frames: thread-local addresses");
  __asm__("mov %%fs:0, %0"
          : "=r"(base)); /* System V ABI for x86-64: the address of the thread's block is its first word */
  make_config(thread_config, 5);
  memcpy(code, (const uint8_t[]){0x64, 0xc4, 0xe2, 0x78, 0x49, 0x06}, 6); /* ldtilecfg fs:(rsi) */
  check_case("fs");
  __asm__ volatile("ud2" : : "S"((uintptr_t)thread_config - base) : "memory");
  check_loaded(5);
  check_end();
}

void check_frames(void) {
  const struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  struct sigaction before;
  trap_frame_prepare();
  find_components();
  (void)sigaction(SIGILL, &action, &before);
  check_general();
  check_segment();
  check_begin("", "frames: xmm to ymm");
  CHECK(__builtin_cpu_supports("avx2") != 0);
  frame_cases(16, false);
  check_end();
  check_begin("", "frames: ymm");
  frame_cases(32, false);
  check_end();
  if (__builtin_cpu_supports("avx512f") != 0) {
    check_begin("", "frames: zmm");
    frame_cases(64, false);
    frame_cases(64, true);
    check_end();
  } else {
    check_no_room();
  }
  (void)sigaction(SIGILL, &before, NULL);
}
