/*
 * Packed weights from the inside.
 */
#ifndef DYNQ_WEIGHT_H
#define DYNQ_WEIGHT_H

#include "../kernels/kernels.h"

enum {
  DYNQ_MAX_K = 8388608,   /* 255 * 255 * K and every column sum stay far from int64's and int32's end */
  DYNQ_EXACT_K = 65536,   /* 255 * 128 * K < 2^31: sums of q * w over this many k fit int32 */
  DYNQ_EXACT_K_ZP = 32768 /* 255 * 255 * K < 2^31: with zero-points of the weight subtracted */
};

struct dynq_weight {
  dynq_weight_info info;
  size_t panels, groups, panel_stride; /* ceil(n / 16), ceil(k / 4), bytes from panel to panel */
};

/* Sums of a whole K do not fit int32 for sure. */
static inline bool dynq_weight_is_wide(const dynq_weight *w) {
  return w->info.k > (size_t)(w->info.zero_point != NULL ? DYNQ_EXACT_K_ZP : DYNQ_EXACT_K);
}

/* The four bytes of channel n, group g. */
static inline const int8_t *dynq_weight_group(const dynq_weight *w, size_t n, size_t g) {
  return w->info.data + n / DYNQ_PANEL * w->panel_stride + (g * DYNQ_PANEL + n % DYNQ_PANEL) * DYNQ_GROUP;
}

/* A weight with room for its arrays, nothing written yet but the pads of scale, column_sum and zero_point. */
dynq_status dynq_weight_new(size_t n, size_t k, bool zero_points, dynq_weight **weight);
/* The same in memory of dynq_weight_bytes() bytes that is there already, aligned to 64 bytes. */
dynq_weight *dynq_weight_place(void *memory, size_t n, size_t k, bool zero_points);
/* Bytes that they take; SIZE_MAX if that overflows. */
size_t dynq_weight_bytes(size_t n, size_t k, bool zero_points);
/* n, k and what follows from them; the rest stays as it is. */
void dynq_weight_set_shape(dynq_weight *weight, size_t n, size_t k);
/* Channels with those that fill the last panel; SIZE_MAX if that overflows. */
size_t dynq_weight_padded(size_t n);
/* Bytes of its integers alone; SIZE_MAX if that overflows. */
size_t dynq_weight_data_bytes(size_t n, size_t k);

#endif
