/*
 * dynq.Linear with inputs of 16 bits, with scales of groups and with fixed ranges, against plain loops.
 */
#include "check_ops.h"

#include <math.h>

typedef struct finer {
  size_t m, n, k, group; /* group 0: none */
  int64_t bits;
  bool symmetric, tensor, fixed;
  float lo, hi;
} finer;

/* The largest and smallest of values, 0 among them; false if one is not finite. */
static bool range_of(size_t n, const float *x, float *lo, float *hi) {
  *lo = *hi = 0.0f;
  bool finite = true;
  for (size_t i = 0; i < n; i++) {
    *lo = fminf(*lo, x[i]);
    *hi = fmaxf(*hi, x[i]);
    finite &= isfinite(x[i]) != 0;
  }
  return finite;
}

/* The product of a block of k of one row with one channel, as float32. */
static float block_product(const finer *f, const float *all, const float *x, const int8_t *w, float w_scale,
                           size_t count) {
  const float steps = f->bits == 16 ? 65535.0f : 255.0f;
  float lo, hi, scale;
  double zero_point;
  if (f->tensor && !f->fixed ? !range_of(f->m * f->k, all, &lo, &hi) : !range_of(count, x, &lo, &hi)) {
    return NAN;
  }
  if (f->fixed) {
    lo = f->lo;
    hi = f->hi;
  }
  if (f->symmetric) {
    scale = fmaxf(-lo, hi) / ((steps - 1.0f) / 2.0f);
    scale = scale == 0.0f ? 1.0f : scale;
    zero_point = ((double)steps + 1.0) / 2.0;
  } else {
    scale = isinf(hi - lo) ? hi / steps - lo / steps : (hi - lo) / steps;
    scale = scale == 0.0f ? 1.0f : scale;
    zero_point = fmin(rint((double)(-lo / scale)), (double)steps);
  }
  int64_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    const double q = (double)rintf(x[i] / scale) + zero_point;
    sum += (int64_t)(fmin(fmax(q, f->symmetric ? 1.0 : 0.0), (double)steps) - zero_point) * w[i];
  }
  return (float)sum * (scale * w_scale);
}

static void check_case_of(const finer *f, size_t nonfinite_row) {
  op_case c = op_case_of("dynq.Linear");
  float *x = op_case_add_f32(&c, 1.0f, 2, (const size_t[]){f->m, f->k});
  float *w = guarded_f32(f->n * f->k);
  for (size_t i = 0; i < f->n * f->k; i++) {
    w[i] = random_unit();
  }
  for (size_t i = 0; i < f->m * f->k; i++) {
    x[i] *= random_below(8) == 0 ? 30.0f : 1.0f;
  }
  if (nonfinite_row < f->m) {
    x[nonfinite_row * f->k + f->k - 1] = random_below(2) != 0 ? NAN : INFINITY;
  }
  dynq_weight *weight;
  CHECK(dynq_weight_pack_f32(f->n, f->k, w, f->k, 1, NULL, &weight) == DYNQ_OK);
  dynq_weight_info info;
  dynq_weight_describe(weight, &info);
  int8_t *q = (int8_t *)w; /* the floats are packed */
  CHECK(dynq_weight_unpack_s8(weight, NULL, q, f->k) == DYNQ_OK);
  c.in[1] = (dynq_op_tensor){.weight = weight};
  c.given[c.input_count++] = true;
  const float *bias = op_case_add_f32(&c, 1.0f, 1, &f->n);
  op_case_string(&c, "scheme", f->symmetric ? "symmetric" : "asymmetric");
  op_case_string(&c, "granularity", f->tensor ? "tensor" : "row");
  op_case_int(&c, "bits", f->bits);
  op_case_int(&c, "group", (int64_t)f->group);
  if (f->fixed) {
    op_case_float(&c, "lo", f->lo);
    op_case_float(&c, "hi", f->hi);
  }
  check_case("m %zu, n %zu, k %zu, %d bits, group %zu%s%s%s%s", f->m, f->n, f->k, (int)f->bits, f->group,
             f->symmetric ? ", symmetric" : "", f->tensor ? ", tensor" : "", f->fixed ? ", fixed" : "",
             nonfinite_row < f->m ? ", a row not finite" : "");
  if (op_case_run(&c, nonfinite_row < f->m ? DYNQ_NONFINITE : DYNQ_OK)) {
    for (size_t i = 0; i < f->m * f->n; i++) {
      const float *row = x + i / f->n * f->k;
      float y = 0.0f;
      for (size_t begin = 0; begin < f->k; begin += f->group != 0 ? f->group : f->k) {
        const size_t left = f->k - begin, count = f->group != 0 && f->group < left ? f->group : left;
        const float product =
            block_product(f, x, row + begin, q + i % f->n * f->k + begin, info.scale[i % f->n], count);
        y = begin == 0 ? product : y + product;
      }
      op_case_near(&c, 0, i, (double)(y + bias[i % f->n]), 0.0);
    }
  }
  dynq_weight_free(weight);
  guards_release();
}

void check_linear_ops(void) {
  static const size_t rows[] = {1, 2, 7, 16, 33, 100}, groups[] = {0, 0, 32, 64, 96, 256};
  check_begin("", "dynq.Linear: 16 bits, groups, fixed ranges");
  for (size_t repeat = 0; repeat < 90; repeat++) {
    finer f = {.m = rows[random_below(6)],
               .n = 1 + random_below(70),
               .k = 1 + random_below(repeat % 10 == 0 ? 1500 : 300),
               .bits = repeat % 2 == 0 ? 16 : 8,
               .group = groups[random_below(6)],
               .symmetric = random_below(2) != 0};
    f.tensor = f.group == 0 && random_below(3) == 0;
    f.fixed = f.group == 0 && random_below(2) != 0;
    f.lo = -2.0f * (float)random_below(20);
    f.hi = 3.0f * (float)random_below(20);
    check_case_of(&f, repeat % 7 == 3 && !f.tensor ? random_below(f.m) : SIZE_MAX);
  }
  const finer wide = {.m = 3, .n = 5, .k = 70001, .bits = 16};
  check_case_of(&wide, SIZE_MAX);
  check_end();
}
