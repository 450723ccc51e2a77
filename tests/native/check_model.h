/*
 * The parts of check_model, which have files of their own.
 */
#ifndef CHECK_MODEL_H
#define CHECK_MODEL_H

#include "check.h"
#include "plan_writer.h"

/* Damaged plans and files: an error each, never a crash. */
void check_model_damage(void);
/* Random graphs: the packed arena gives what tensors with memory of their own give. */
void check_model_random(void);
/* Models from files. */
void check_model_files(void);
/* The limit of bytes; runs that are cancelled. */
void check_model_limits(void);
/* Failing allocations from the file to the results. */
void check_model_faults(void);
/* Single ops against the functions for single layers. */
void check_model_ops(void);

/* Sessions that keep something between runs. */
void check_model_state(void);
/* Attention to what is kept, of two states, for free(). */
void *state_image(size_t *size);

/* A packed weight of random numbers. */
dynq_weight *random_weight(size_t n, size_t k);
/* ids (batch, length) int64 -> embedding -> linear, gelu -> linear with residual -> reshape: every kind of tensor,
 * attribute and memory. `size` and the image are for the caller to free(). */
void *sample_image(size_t *size);
/* Opens an image of which each promise is that it opens. */
dynq_model *open_image(const void *image, size_t size);
/* One run of the sample against the functions that it calls. */
void run_sample(dynq_session *session, size_t batch, size_t length, const int64_t *ids);
dynq_tensor tensor_of(dynq_dtype dtype, size_t rank, const size_t *dims, const void *data);

#endif
