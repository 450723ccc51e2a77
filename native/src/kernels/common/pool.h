/*
 * Pooling of a row, written once over the abstraction of vec_<isa>.h, which is included first: positions are the lanes,
 * and the input is read where it lies.
 *
 * Places outside of a row count as what changes nothing: the least value, or 0.
 */
#ifndef DYNQ_POOL_H
#define DYNQ_POOL_H

#include "../kernels.h"

#include "activations.h"
#include "places.h"

#include <math.h>

/* One vector of the places that are S apart from `place` on; S = 0: o->stride. */
V_INLINE vf pool_load(const size_t S, const bool inside, const dynq_pooling *o, const float *line, ptrdiff_t place,
                      vf other) {
  if (S == 0) {
    float buffer[V_LANES];
    vf_store(buffer, other);
    for (size_t i = 0; i < V_LANES; i++, place += (ptrdiff_t)o->stride) {
      buffer[i] = place >= 0 && place < (ptrdiff_t)o->in ? line[place] : buffer[i];
    }
    return vf_load(buffer);
  }
  const float *p = line + place;
  if (inside) {
    return S == 1 ? vf_load(p) : vf_even(vf_load(p), vf_load(p + V_LANES));
  }
  const vf low = vf_load_lanes_or(p, v_lanes_within(place, o->in), other);
  return S == 1 ? low : vf_even(low, vf_load_lanes_or(p + V_LANES, v_lanes_within(place + V_LANES, o->in), other));
}

/* W vectors from position j on, or `left` positions of one. */
V_INLINE void pool_vectors(const size_t W, const size_t S, const bool inside, const dynq_pooling *o, size_t j,
                           size_t left) {
  const ptrdiff_t first = o->first + (ptrdiff_t)(j * o->stride), step = (ptrdiff_t)o->step;
  const ptrdiff_t last = first + (ptrdiff_t)((left - 1) * o->stride), in = (ptrdiff_t)o->in;
  /* Elements that one of the windows has in the row. */
  const ptrdiff_t before = last < 0 ? (-last + step - 1) / step : 0;
  const ptrdiff_t behind = first < in ? (in - first + step - 1) / step : 0;
  const ptrdiff_t end = behind < (ptrdiff_t)o->taps ? behind : (ptrdiff_t)o->taps;
  const vf other = vf_set1(o->sum ? 0.0f : -INFINITY), nan = vi_as_f(vi_set1(V_NAN));
  vf y[4];
  vm is_nan[4];
#pragma GCC unroll 4
  for (size_t v = 0; v < W; v++) {
    y[v] = inside ? vf_load(o->y + j + v * V_LANES) : vf_load_or(o->y + j, left, other);
    is_nan[v] = vf_unordered(y[v], y[v]);
  }
  const float *line = o->x;
  for (size_t row = 0; row < o->lines; row++, line += o->x_stride) {
    for (ptrdiff_t s = before; s < end; s++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < W; v++) {
        const ptrdiff_t place = first + s * step + (ptrdiff_t)(v * V_LANES * S);
        const vf x = pool_load(S, inside, o, line, place, other);
        is_nan[v] = vm_or(is_nan[v], vf_unordered(x, x));
        y[v] = o->sum ? vf_add(x, y[v]) : vf_max(x, y[v]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t v = 0; v < W; v++) {
    const vf result = vf_replace_nan(vf_select(is_nan[v], nan, y[v]), nan); /* of sums of infinities */
    if (inside) {
      vf_store(o->y + j + v * V_LANES, result);
    } else {
      vf_store_n(o->y + j, left, result);
    }
  }
}

V_INLINE void pool_row(const size_t S, const dynq_pooling *given) {
  const dynq_pooling copy = *given, *const o = &copy;
  const size_t reach = o->taps != 0 ? (o->taps - 1) * o->step : 0;
  /* Windows that are further apart than the row is long go one by one: most taps of several lie outside of the row. */
  const size_t most = S == 0 && o->stride >= o->in ? 1 : V_LANES;
  for (size_t j = 0; j < o->columns;) {
    const ptrdiff_t first = o->first + (ptrdiff_t)(j * o->stride);
    const size_t room = S == 0 || first < 0 || (size_t)first + reach > o->in ? 0 : o->in - (size_t)first - reach;
    const size_t left = o->columns - j < most ? o->columns - j : most;
    if (room >= 4 * V_LANES * S && S != 0 && j + 4 * V_LANES <= o->columns) {
      pool_vectors(4, S, true, o, j, 4 * V_LANES);
      j += 4 * V_LANES;
    } else if (room >= V_LANES * S && S != 0 && left == V_LANES) {
      pool_vectors(1, S, true, o, j, V_LANES);
      j += V_LANES;
    } else {
      pool_vectors(1, S, false, o, j, left);
      j += left;
    }
  }
}

static void vector_pool(const dynq_pooling *row) {
  if (row->stride == 1) {
    pool_row(1, row);
  } else if (row->stride == 2) {
    pool_row(2, row);
  } else {
    pool_row(0, row);
  }
}

#endif
