/*
 * RandomUniformLike and RandomNormalLike: numbers that depend on the seed and on their place alone, so each run has the
 * same. A number's bits are those of a mix of both (G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number
 * generators", 2014). A uniform one has 24 of them; a normal one is made of two by Box and Muller's transform. A node
 * without a seed has the seed 0.
 */
#include "../base/elements.h"
#include "checks.h"
#include "doubles.h"
#include "walk.h"

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/* From 0 to below 1, in steps of 2^-24. */
static double uniform(float seed, uint64_t place) {
  uint32_t bits;
  memcpy(&bits, &seed, sizeof bits);
  return (double)(mix(mix((uint64_t)bits + 0x9e3779b97f4a7c15) + (place + 1) * 0x9e3779b97f4a7c15) >> 40) * 0x1p-24;
}

typedef struct random_job {
  float *y, seed, first, second;
} random_job;

static void fill_uniform(const void *arg, size_t begin, size_t end) {
  const random_job *job = arg;
  const double low = (double)job->first, high = (double)job->second;
  for (size_t i = begin; i < end; i++) {
    job->y[i] = dynq_one_nan((float)(low + (high - low) * uniform(job->seed, i)));
  }
}

static void fill_normal(const void *arg, size_t begin, size_t end) {
  const random_job *job = arg;
  for (size_t i = begin; i < end; i++) {
    const double size = sqrt(-2.0 * dynq_logarithm(1.0 - uniform(job->seed, 2 * i)));
    const double number = size * dynq_sine(2.0 * DYNQ_PI * uniform(job->seed, 2 * i + 1), 1);
    job->y[i] = dynq_one_nan((float)((double)job->first + (double)job->second * number));
  }
}

DYNQ_SAME_ATTR(RandomUniformLike, RandomNormalLike, dtype);
DYNQ_SAME_ATTR(RandomUniformLike, RandomNormalLike, seed);

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *input = DYNQ_INPUT(node, RandomUniformLike, input);
  const dynq_attribute *dtype = &node->attributes[DYNQ_ATTR(RandomUniformLike, dtype)];
  if (dtype->present ? dtype->i != 1 : input->dtype != DYNQ_FLOAT32) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "the type of the numbers is not float32, which alone is supported");
  }
  dynq_op_set_output(node, 0, DYNQ_FLOAT32, input->rank, input->dims);
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node, dynq_op_body *body, size_t first, size_t second) {
  const random_job job = {.y = node->outputs[0]->data,
                          .seed = dynq_op_float(node, DYNQ_ATTR(RandomUniformLike, seed)),
                          .first = dynq_op_float(node, first),
                          .second = dynq_op_float(node, second)};
  dynq_op_parallel_work(node, node->outputs[0]->count, dynq_size_mul(node->outputs[0]->count, 20), body, &job);
  return DYNQ_OK;
}

static dynq_status run_uniform(const dynq_op_node *node) {
  return run(node, fill_uniform, DYNQ_ATTR(RandomUniformLike, low), DYNQ_ATTR(RandomUniformLike, high));
}

static dynq_status run_normal(const dynq_op_node *node) {
  return run(node, fill_normal, DYNQ_ATTR(RandomNormalLike, mean), DYNQ_ATTR(RandomNormalLike, scale));
}

const dynq_op_code dynq_op_RandomUniformLike = {infer, run_uniform};
const dynq_op_code dynq_op_RandomNormalLike = {infer, run_normal};
