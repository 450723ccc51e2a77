/*
 * Serves all ops of attention.
 */
#include "heads.h"

#include "../base/status.h"

#include <math.h>

bool dynq_heads_mask(const dynq_op_tensor *mask, const size_t sizes[4], size_t steps[4]) {
  bool fits = mask->rank <= 4 && (mask->dtype == DYNQ_FLOAT32 || mask->dtype == DYNQ_BOOL);
  size_t step = 1;
  for (size_t i = 0; fits && i < mask->rank; i++) { /* from the last dimension on */
    const size_t size = mask->dims[mask->rank - 1 - i], wanted = sizes[3 - i];
    fits = size == 1 || size == wanted || wanted == SIZE_MAX;
    steps[3 - i] = size != 1 ? step : 0;
    step = dynq_size_mul(step, size);
  }
  return fits;
}

dynq_status dynq_heads_scale(const dynq_op_node *node, size_t scale_attribute, size_t softcap_attribute, size_t size,
                             float *scale, float *softcap) {
  const dynq_attribute *given = &node->attributes[scale_attribute], *cap = &node->attributes[softcap_attribute];
  *scale = given->present ? given->f : 1.0f / sqrtf((float)size);
  *softcap = cap->present ? cap->f : 0.0f;
  if (cap->present && !(*softcap > 0.0f && isfinite(*softcap))) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "softcap is %g; expected a positive number", (double)*softcap);
  }
  return DYNQ_OK;
}

void dynq_heads_cap(const dynq_vector_kernels *kernels, float scale, float softcap, size_t count, float *scores) {
  const float factor = scale / softcap;
  for (size_t i = 0; i < count; i++) {
    scores[i] *= factor;
  }
  kernels->activate(DYNQ_ACTIVATION_TANH, 0.0f, 0.0f, count, scores, scores);
}
