/*
 * Macros that keep GCC 12 from copying and spilling the sums of a register tile. tests/assembly finds where it does.
 */
#ifndef DYNQ_REGISTERS_H
#define DYNQ_REGISTERS_H

/* The value lies in a vector register here, and nothing is known of it: computations before and after are not merged.
 * After a loop it keeps the sums apart from what is made of them; between two additions it keeps their order. */
#ifdef __aarch64__
#define SETTLE(vector) __asm__("" : "+w"(vector))
#else
#define SETTLE(vector) __asm__("" : "+v"(vector))
#endif

/* The pointer lies in a register: what is near it is addressed from it, and not from a register of its own. */
#define SETTLE_POINTER(pointer) __asm__("" : "+r"(pointer))

/* Each number of rows gets a function of its own: in one function the loops of all get in each other's way. */
#define OWN_FUNCTION static __attribute__((noinline))

#endif
