/*
 * The signal frame. Its vectors lie in an XSAVE area in the standard format: Intel SDM volume 1, sections 13.4 and
 * 13.5; Linux arch/x86/include/uapi/asm/sigcontext.h for the words that say that there is one.
 */
#include "frame.h"

#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  XMM_OFFSET = 160,
  MAGIC_OFFSET = 464, /* in the bytes that the hardware leaves to software */
  MAGIC = 0x46505853,
  HEADER_OFFSET = 512, /* XSTATE_BV: the components that are not in their initial state, which is zero */
  SSE = 1,
  AVX = 2, /* bits 128 to 255 of ymm0 to ymm15 */
  ZMM = 6, /* bits 256 to 511 of zmm0 to zmm15 */
  XMM_BYTES = 16,
  YMM_BYTES = 32
};
enum { GET_FS = 0x1003, GET_GS = 0x1004 }; /* arch_prctl */

static size_t avx_offset, zmm_offset; /* 0: the CPU has none */

void trap_frame_prepare(void) {
  unsigned eax, ebx, ecx, edx;
  avx_offset = __get_cpuid_count(0xd, AVX, &eax, &ebx, &ecx, &edx) != 0 ? ebx : 0;
  zmm_offset = __get_cpuid_count(0xd, ZMM, &eax, &ebx, &ecx, &edx) != 0 ? ebx : 0;
}

/* ---- Vectors ---- */

static bool has_vectors(const uint8_t *area) {
  uint32_t magic;
  if (area == NULL || avx_offset == 0) {
    return false;
  }
  memcpy(&magic, area + MAGIC_OFFSET, sizeof magic);
  return magic == MAGIC;
}

static uint64_t components(const uint8_t *area) {
  uint64_t bits;
  memcpy(&bits, area + HEADER_OFFSET, sizeof bits);
  return bits;
}

/* What a VEX-coded instruction can read of them. */
static void load_vectors(const uint8_t *area, trap_machine *m) {
  const uint64_t present = components(area);
  memset(m->vector, 0, sizeof m->vector);
  for (size_t v = 0; v < TRAP_VECTORS; v++) {
    if ((present >> SSE & 1) != 0) {
      memcpy(m->vector[v], area + XMM_OFFSET + v * XMM_BYTES, XMM_BYTES);
    }
    if ((present >> AVX & 1) != 0) {
      memcpy(m->vector[v] + XMM_BYTES, area + avx_offset + v * XMM_BYTES, XMM_BYTES);
    }
  }
}

/* One component of one vector. A component that was in its initial state becomes present, the others in it zero. */
static void store_part(uint8_t *area, int component, size_t offset, size_t bytes, size_t v, const uint8_t *value) {
  uint64_t present = components(area);
  if ((present >> component & 1) == 0) {
    memset(area + offset, 0, TRAP_VECTORS * bytes);
    present |= (uint64_t)1 << component;
    memcpy(area + HEADER_OFFSET, &present, sizeof present);
  }
  memcpy(area + offset + v * bytes, value, bytes);
}

static void store_vector(uint8_t *area, const trap_machine *m, size_t v) {
  store_part(area, SSE, XMM_OFFSET, XMM_BYTES, v, m->vector[v]);
  store_part(area, AVX, avx_offset, XMM_BYTES, v, m->vector[v] + XMM_BYTES);
  if ((components(area) >> ZMM & 1) != 0) {
    store_part(area, ZMM, zmm_offset, YMM_BYTES, v, m->vector[v] + YMM_BYTES);
  }
}

/* ---- The rest ---- */

static void load_general(const ucontext_t *frame, trap_machine *m) {
  static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (size_t i = 0; i < 16; i++) {
    m->general[i] = (uint64_t)frame->uc_mcontext.gregs[order[i]];
  }
}

static void load_segment(trap_segment segment, trap_machine *m) {
  memset(m->segment_base, 0, sizeof m->segment_base);
  if (segment != TRAP_FLAT) {
    (void)syscall(SYS_arch_prctl, segment == TRAP_FS ? GET_FS : GET_GS, &m->segment_base[segment]);
  }
}

trap_outcome trap_step(ucontext_t *frame, const uint8_t *code, trap_tiles *tiles, bool tile_data_allowed,
                       trap_name *name) {
  trap_instruction instruction;
  trap_machine machine;
  uint8_t *area = (uint8_t *)frame->uc_mcontext.fpregs;
  if (!trap_decode(code, TRAP_LONGEST, &instruction)) {
    return TRAP_UNDEFINED;
  }
  const bool vectors = instruction.name == TRAP_VPDPBUSD;
  if (vectors && !has_vectors(area)) {
    return TRAP_UNDEFINED;
  }
  load_general(frame, &machine);
  load_segment(instruction.address.segment, &machine);
  if (vectors) {
    load_vectors(area, &machine);
  }
  machine.next = (uint64_t)frame->uc_mcontext.gregs[REG_RIP] + instruction.length;
  machine.tiles = tiles;
  machine.tile_data_allowed = tile_data_allowed;
  const trap_outcome outcome = trap_execute(&instruction, &machine);
  if (outcome == TRAP_DONE) {
    *name = instruction.name;
    frame->uc_mcontext.gregs[REG_RIP] = (greg_t)machine.next;
    if (vectors) {
      store_vector(area, &machine, instruction.dest);
    }
  }
  return outcome;
}
