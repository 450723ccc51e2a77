/*
 * Code that loops over the elements of an array share.
 */
#ifndef DYNQ_ELEMENTS_H
#define DYNQ_ELEMENTS_H

#include <math.h>

/* The one NaN that dynq writes, for any NaN. */
static inline float dynq_one_nan(float y) { return y != y ? NAN : y; }

/* Before a loop whose rounds are independent though its output may be one of its inputs, element for element. */
#if defined(__clang__)
#define DYNQ_INDEPENDENT
#else
#define DYNQ_INDEPENDENT _Pragma("GCC ivdep")
#endif

#endif
