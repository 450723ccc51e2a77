/*
 * Assembly that loads all vector registers from memory and stores them again: operand 0 is vector_registers.
 */
#ifndef REGISTERS_H
#define REGISTERS_H

#include "encode.h"

typedef uint8_t vector_registers[VECTORS][VECTOR_BYTES]; /* zmm0 to zmm31, lowest byte first */

#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
/* No compiler uses these where it is not told of AVX-512, so they are no clobbers. */
#define EACH_HIGH(F) F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28) F(29) F(30) F(31)
#define CLOBBERS                                                                                                       \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",  \
      "xmm14", "xmm15", "memory"
#define LOAD_ZMM(n) "vmovdqu64 " #n "*64(%0), %%zmm" #n "\n\t"
#define STORE_ZMM(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%0)\n\t"
#define LOAD_YMM(n) "vmovdqu " #n "*64(%0), %%ymm" #n "\n\t"
#define STORE_YMM(n) "vmovdqu %%ymm" #n ", " #n "*64(%0)\n\t"
#define LOAD_XMM(n) "movdqu " #n "*64(%0), %%xmm" #n "\n\t" /* not VEX-coded: the rest stays in its initial state */

#endif
