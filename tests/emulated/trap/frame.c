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
  SAVED_OFFSET = 472,  /* the components that this frame has room for */
  HEADER_OFFSET = 512, /* XSTATE_BV: the components that are not in their initial state, which is zero */
  SSE = 1,
  AVX = 2,          /* bits 128 to 255 of ymm0 to ymm15 */
  ZMM = 6,          /* bits 256 to 511 of zmm0 to zmm15 */
  ZMM_HIGH = 7,     /* zmm16 to zmm31 */
  LOW_VECTORS = 16, /* of them, SSE, AVX and ZMM are parts */
  XMM_BYTES = 16,
  YMM_BYTES = 32
};
/* Components that must be saved for VEX-coded vectors and for EVEX-coded ones. */
enum { AVX_STATE = 1 << SSE | 1 << AVX, AVX512_STATE = AVX_STATE | 1 << ZMM | 1 << ZMM_HIGH };
enum { GET_FS = 0x1003, GET_GS = 0x1004 }; /* arch_prctl */

static size_t avx_offset, zmm_offset, zmm_high_offset; /* 0: the CPU has none */

static size_t offset_of(unsigned component) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(0xd, component, &eax, &ebx, &ecx, &edx) != 0 ? ebx : 0;
}

void trap_frame_prepare(void) {
  avx_offset = offset_of(AVX);
  zmm_offset = offset_of(ZMM);
  zmm_high_offset = offset_of(ZMM_HIGH);
}

/* ---- Vectors ---- */

static bool has_room(const uint8_t *area, uint64_t state) {
  uint32_t magic;
  uint64_t saved;
  if (area == NULL) {
    return false;
  }
  memcpy(&magic, area + MAGIC_OFFSET, sizeof magic);
  memcpy(&saved, area + SAVED_OFFSET, sizeof saved);
  return magic == MAGIC && (saved & state) == state;
}

static uint64_t components(const uint8_t *area) {
  uint64_t bits;
  memcpy(&bits, area + HEADER_OFFSET, sizeof bits);
  return bits;
}

/* The part of each low vector, or of each high one, that a component has. */
static void load_parts(const uint8_t *area, int component, size_t offset, size_t bytes, uint8_t *first) {
  if ((components(area) >> component & 1) != 0) {
    for (size_t v = 0; v < LOW_VECTORS; v++) {
      memcpy(first + v * TRAP_VECTOR_BYTES, area + offset + v * bytes, bytes);
    }
  }
}

static void load_vectors(const uint8_t *area, bool all, trap_machine *m) {
  memset(m->vector, 0, sizeof m->vector);
  load_parts(area, SSE, XMM_OFFSET, XMM_BYTES, m->vector[0]);
  load_parts(area, AVX, avx_offset, XMM_BYTES, m->vector[0] + XMM_BYTES);
  if (all) { /* which no VEX-coded instruction can read */
    load_parts(area, ZMM, zmm_offset, YMM_BYTES, m->vector[0] + YMM_BYTES);
    load_parts(area, ZMM_HIGH, zmm_high_offset, TRAP_VECTOR_BYTES, m->vector[LOW_VECTORS]);
  }
}

/* One component of one vector. A component that was in its initial state becomes present, the others in it zero. */
static void store_part(uint8_t *area, int component, size_t offset, size_t bytes, size_t v, const uint8_t *value) {
  uint64_t present = components(area);
  if ((present >> component & 1) == 0) {
    memset(area + offset, 0, LOW_VECTORS * bytes);
    present |= (uint64_t)1 << component;
    memcpy(area + HEADER_OFFSET, &present, sizeof present);
  }
  memcpy(area + offset + v * bytes, value, bytes);
}

static void store_vector(uint8_t *area, const trap_machine *m, size_t v, bool all) {
  if (v >= LOW_VECTORS) {
    store_part(area, ZMM_HIGH, zmm_high_offset, TRAP_VECTOR_BYTES, v - LOW_VECTORS, m->vector[v]);
    return;
  }
  store_part(area, SSE, XMM_OFFSET, XMM_BYTES, v, m->vector[v]);
  store_part(area, AVX, avx_offset, XMM_BYTES, v, m->vector[v] + XMM_BYTES);
  if (all || (components(area) >> ZMM & 1) != 0) {
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
  const bool evex = instruction.is_evex, vectors = instruction.bytes != 0;
  if (vectors && !has_room(area, evex ? AVX512_STATE : AVX_STATE)) {
    return TRAP_UNDEFINED;
  }
  load_general(frame, &machine);
  load_segment(instruction.address.segment, &machine);
  if (vectors) {
    load_vectors(area, evex, &machine);
  }
  machine.next = (uint64_t)frame->uc_mcontext.gregs[REG_RIP] + instruction.length;
  machine.tiles = tiles;
  machine.tile_data_allowed = tile_data_allowed;
  const trap_outcome outcome = trap_execute(&instruction, &machine);
  if (outcome == TRAP_DONE) {
    *name = instruction.name;
    frame->uc_mcontext.gregs[REG_RIP] = (greg_t)machine.next;
    if (vectors) {
      store_vector(area, &machine, instruction.dest, evex);
    }
  }
  return outcome;
}
