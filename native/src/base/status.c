/*
 * Status texts and the per-thread message of the last failure.
 */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[256];

const char *dynq_status_string(dynq_status status) {
  switch (status) {
  case DYNQ_OK:
    return "ok";
  case DYNQ_NONFINITE:
    return "input holds a NaN or an infinity";
  case DYNQ_CANCELLED:
    return "the run was cancelled";
  case DYNQ_ERROR_INVALID_ARGUMENT:
    return "invalid argument";
  case DYNQ_ERROR_OUT_OF_MEMORY:
    return "out of memory";
  case DYNQ_ERROR_OVERFLOW:
    return "result does not fit into int32";
  case DYNQ_ERROR_FORMAT:
    return "damaged file, or not one of dynq's";
  case DYNQ_ERROR_SYSTEM:
    return "the operating system refused";
  case DYNQ_ERROR_ISA_UNKNOWN:
    return "unknown instruction set";
  case DYNQ_ERROR_ISA_NOT_BUILT:
    return "instruction set not built";
  case DYNQ_ERROR_ISA_NOT_SUPPORTED:
    return "instruction set not supported by this machine";
  }
  return "unknown status";
}

const char *dynq_last_error(void) { return last_error; }

const char *dynq_version(void) { return DYNQ_VERSION; }

dynq_status dynq_fail(dynq_status status, const char *format, ...) {
  char message[sizeof last_error] = ""; /* not last_error itself, which the arguments may quote */
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  memcpy(last_error, message, strlen(message) + 1);
  return status;
}

dynq_status dynq_fail_memory(size_t bytes) {
  return dynq_fail(DYNQ_ERROR_OUT_OF_MEMORY, "could not allocate %zu bytes", bytes);
}
