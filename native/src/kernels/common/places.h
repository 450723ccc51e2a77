/*
 * Tells which places lie in a row, over the abstraction of vec_<isa>.h, which is included first.
 */
#ifndef DYNQ_PLACES_H
#define DYNQ_PLACES_H

#include "inline.h"

/* The lanes of places [place, place + V_LANES) that lie in a row of `in`. */
V_INLINE vl v_lanes_within(ptrdiff_t place, size_t in) {
  const ptrdiff_t from = place < 0 ? -place : 0, end = (ptrdiff_t)in - place;
  const ptrdiff_t to = end < V_LANES ? (end < 0 ? 0 : end) : V_LANES;
  return v_lanes((size_t)(from < to ? from : to), (size_t)to);
}

#endif
