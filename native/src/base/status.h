/*
 * A function that fails returns dynq_fail(status, "...") and the message waits in dynq_last_error.
 */
#ifndef DYNQ_STATUS_H
#define DYNQ_STATUS_H

#include "dynq/dynq.h"

#if defined(__GNUC__) || defined(__clang__)
#define DYNQ_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define DYNQ_PRINTF(text, first)
#endif

/* Keeps the message for this thread (cut at 255 characters) and returns `status`. The message may quote
 * dynq_last_error(). */
dynq_status dynq_fail(dynq_status status, const char *format, ...) DYNQ_PRINTF(2, 3);
dynq_status dynq_fail_memory(size_t bytes);

/* Return where `expression` is not DYNQ_OK. */
#define DYNQ_TRY(expression)                                                                                           \
  do {                                                                                                                 \
    const dynq_status dynq_try_status = (expression);                                                                  \
    if (dynq_try_status != DYNQ_OK) {                                                                                  \
      return dynq_try_status;                                                                                          \
    }                                                                                                                  \
  } while (0)

#endif
