/*
 * Sin and Cos of float32, in double precision and in plain C: what models take them of is small.
 *
 * x = n pi / 2 + r with |r| <= pi / 4, then the power series of sin r or cos r to a term below 2^-36 of the result, and
 * one rounding to float32: within 0.51 ulp, for every x.
 */
#include "../status.h"
#include "model_linear.h"
#include "walk.h"

#include <math.h>
#include <string.h>

enum { WORDS = 9 };

/* r for |x| up to 2^20: pi / 2 in two parts, n times the first is exact. Returns n mod 4. */
static unsigned reduce_small(double x, double *r) {
  const double n = rint(x * 0x1.45f306dc9c883p-1);
  *r = (x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34;
  return (unsigned)((int64_t)n & 3);
}

/*
 * r for larger |x| = m 2^e, m an integer of 24 bits: the bits of 2 / pi that count are those from 2^(2 - e) down, since
 * those above turn m 2^e full circles; 96 of them are exact enough. (M. Payne and R. Hanek, "Radian reduction for
 * trigonometric functions", 1983.)
 */
static unsigned reduce_large(float x, double *r) {
  /* 32 zeros, then the fraction of 2 / pi. */
  static const uint32_t two_over_pi[WORDS] = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                              0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561};
  uint32_t bits, window[3];
  memcpy(&bits, &x, sizeof bits);
  const uint64_t m = (bits & 0x7fffff) | 0x800000;
  const unsigned start = (bits >> 23 & 255) - 150 + 30; /* e - 2, behind the zeros; 27 to 134 */
  for (unsigned i = 0; i < 3; i++) {
    const uint64_t two = (uint64_t)two_over_pi[start / 32 + i] << 32 | two_over_pi[start / 32 + i + 1];
    window[i] = (uint32_t)(two << start % 32 >> 32);
  }
  /* A quarter of x / (pi / 2), without its integer, in 2^-64. */
  const uint64_t turn = (m * window[0] << 32) + m * window[1] + (m * window[2] >> 32);
  const uint64_t n = (turn + ((uint64_t)1 << 61)) >> 62;
  const uint64_t rest = turn - (n << 62); /* of two's complement */
  const double size = (double)(rest >> 63 != 0 ? 0 - rest : rest) * 0x1.921fb54442d18p-62;
  const bool negative = (rest >> 63 != 0) != (bits >> 31 != 0);
  *r = negative ? -size : size;
  return (unsigned)(bits >> 31 != 0 ? 0 - n : n) & 3;
}

static float sine_of(float x, unsigned quarter) {
  double r;
  if (!(fabsf(x) <= 3.40282347e38f)) {
    return NAN;
  }
  if (x == 0.0f && quarter == 0) {
    return x;
  }
  quarter += fabsf(x) <= 0x1p20f ? reduce_small((double)x, &r) : reduce_large(x, &r);
  const double z = r * r;
  const double sine = r + r * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 - z / 39916800))));
  const double cosine =
      1.0 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z / 479001600)))));
  const double y = (quarter & 1) != 0 ? cosine : sine;
  return (float)((quarter & 2) != 0 ? -y : y);
}

typedef struct job {
  const dynq_op_node *node;
  unsigned quarter; /* that the sine is ahead by */
} job;

static void sines(const void *arg, size_t begin, size_t end) {
  const job *j = arg;
  const float *x = j->node->inputs[0]->data;
  float *y = j->node->outputs[0]->data;
  for (size_t i = begin; i < end; i++) {
    y[i] = sine_of(x[i], j->quarter);
  }
}

static dynq_status run(const dynq_op_node *node, unsigned quarter) {
  const size_t count = node->inputs[0]->count;
  const job j = {node, quarter};
  dynq_op_parallel_work(node, count, 10 * count, sines, &j);
  return DYNQ_OK;
}

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *x = node->inputs[0];
  DYNQ_TRY(dynq_op_check_f32(node, 0, "X", 0));
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, x->rank, x->dims);
  return DYNQ_OK;
}

static dynq_status run_sin(const dynq_op_node *node) { return run(node, 0); }
static dynq_status run_cos(const dynq_op_node *node) { return run(node, 1); }

const dynq_op dynq_op_Sin = {
    .name = "Sin",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1 << 0,
    .infer = infer,
    .run = run_sin,
};

const dynq_op dynq_op_Cos = {
    .name = "Cos",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .in_place = 1 << 0,
    .infer = infer,
    .run = run_cos,
};
