/*
 * From a range to scale and zero-point, and the integers a scheme uses.
 */
#ifndef DYNQ_QPARAMS_H
#define DYNQ_QPARAMS_H

#include "dynq/dynq.h"

/* One block's range, finite with lo <= 0 <= hi. Runs in the default floating-point environment. */
void dynq_qparams(float lo, float hi, dynq_scheme scheme, dynq_type type, float *scale, int32_t *zero_point);

/* The same in 16 bits, as integers from 0 to 65535. */
void dynq_qparams_16(float lo, float hi, dynq_scheme scheme, float *scale, int32_t *zero_point);

/* Sets the bounds that quantized values are clamped to. */
static inline void dynq_integer_range(dynq_scheme scheme, dynq_type type, int32_t *low, int32_t *high) {
  const int32_t offset = type == DYNQ_U8 ? 128 : 0;
  *low = offset + (scheme == DYNQ_SYMMETRIC ? -127 : -128);
  *high = offset + 127;
}

#endif
