/*
 * For functions that take the shape of a tile or the kind of an activation as a constant and must vanish in their
 * callers.
 */
#ifndef DYNQ_INLINE_H
#define DYNQ_INLINE_H

#define V_INLINE static inline __attribute__((always_inline))

#endif
