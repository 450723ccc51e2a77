/*
 * Scale and zero-point of a range (docs/numerics.md). Asymmetric is ONNX DynamicQuantizeLinear-11.
 */
#include "qparams.h"

#include "../base/arguments.h"
#include "../base/threads.h"

#include <math.h>

static float or_one(float scale) { return scale == 0.0f ? 1.0f : scale; }

static void qparams(float lo, float hi, dynq_scheme scheme, float steps, float *scale, int32_t *zero_point) {
  if (scheme == DYNQ_SYMMETRIC) {
    const float half = (steps - 1.0f) / 2.0f;
    *scale = or_one((hi > -lo ? hi : -lo) / half);
    *zero_point = (int32_t)half + 1;
    return;
  }
  const float width = hi - lo;
  *scale = or_one(isinf(width) ? hi / steps - lo / steps : width / steps);
  const float z = rintf(-lo / *scale);
  *zero_point = (int32_t)(z > steps ? steps : z);
}

void dynq_qparams(float lo, float hi, dynq_scheme scheme, dynq_type type, float *scale, int32_t *zero_point) {
  qparams(lo, hi, scheme, 255.0f, scale, zero_point);
  *zero_point += type == DYNQ_S8 ? -128 : 0;
}

void dynq_qparams_16(float lo, float hi, dynq_scheme scheme, float *scale, int32_t *zero_point) {
  qparams(lo, hi, scheme, 65535.0f, scale, zero_point);
}

typedef struct qparams_job {
  size_t count;
  const float *lo, *hi;
  dynq_scheme scheme;
  dynq_type type;
  float *scale;
  int32_t *zero_point;
  dynq_status status;
} qparams_job;

static void choose_all(void *arg, size_t index) {
  qparams_job *j = arg;
  (void)index;
  for (size_t i = 0; i < j->count; i++) {
    const float lo = j->lo[i], hi = j->hi[i];
    if (!isfinite(lo) || !isfinite(hi)) {
      j->status = dynq_fail(DYNQ_NONFINITE, "range %zu is not finite: lo %g, hi %g", i, (double)lo, (double)hi);
      return;
    }
    if (lo > 0.0f || hi < 0.0f) {
      j->status = dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "range %zu is lo %g, hi %g; expected lo <= 0 <= hi", i,
                            (double)lo, (double)hi);
      return;
    }
    dynq_qparams(lo, hi, j->scheme, j->type, &j->scale[i], &j->zero_point[i]);
  }
}

dynq_status dynq_choose_qparams(size_t count, const float *lo, const float *hi, dynq_scheme scheme, dynq_type type,
                                float *scale, int32_t *zero_point) {
  DYNQ_TRY(dynq_check_scheme(scheme));
  DYNQ_TRY(dynq_check_type(type));
  DYNQ_TRY(dynq_check_array("lo", lo, count, sizeof *lo));
  DYNQ_TRY(dynq_check_array("hi", hi, count, sizeof *hi));
  DYNQ_TRY(dynq_check_array("scale", scale, count, sizeof *scale));
  DYNQ_TRY(dynq_check_array("zero_point", zero_point, count, sizeof *zero_point));
  qparams_job job = {count, lo, hi, scheme, type, scale, zero_point, DYNQ_OK};
  dynq_parallel(NULL, 1, choose_all, &job, 1); /* for its floating-point environment; one task runs in this thread */
  return job.status;
}
