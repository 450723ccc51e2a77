/*
 * Writes .dynq files in memory, as docs/model-format.md describes them, for the checks of the runtime and the fuzzer.
 *
 * A writer is a struct of zeros at first. Tensors first, then inputs (plan_input lists them), nodes and outputs; bodies
 * after all nodes of the model.
 */
#ifndef PLAN_WRITER_H
#define PLAN_WRITER_H

#include "dynq/dynq.h"

typedef struct plan_part {
  unsigned char *p;
  size_t size, room;
} plan_part;

typedef struct plan_writer {
  plan_part symbols, tensors, inputs, nodes, outputs, data;
  uint32_t symbol_count, tensor_count, input_count, node_count, output_count;
  plan_part own_nodes, bodies; /* own_nodes: the model's, once bodies follow */
  uint32_t own_node_count, body_count, state_count;
  size_t attributes_at; /* where the count of the last node's attributes stands */
  size_t fixups[256];   /* places in `tensors` of offsets into `data`, which lie behind the plan */
  size_t fixup_count;
} plan_writer;

#define PLAN_NONE UINT32_MAX

uint32_t plan_symbol(plan_writer *w, const char *name);
/* Each returns the number of the tensor. dims: sizes, or -1 - symbol. */
uint32_t plan_input(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank, const int64_t *dims);
uint32_t plan_computed(plan_writer *w, const char *name);
uint32_t plan_parameter(plan_writer *w, const char *name);
uint32_t plan_state(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank, const int64_t *dims);
uint32_t plan_constant(plan_writer *w, const char *name, dynq_dtype dtype, size_t rank, const int64_t *dims,
                       const void *data);
uint32_t plan_weight(plan_writer *w, const char *name, const dynq_weight *weight);
void plan_node(plan_writer *w, const char *name, const char *op, size_t input_count, const uint32_t *inputs,
               size_t output_count, const uint32_t *outputs);
/* Attributes of the last node. */
void plan_int(plan_writer *w, const char *name, int64_t value);
void plan_body(plan_writer *w, const char *name, int64_t body);
void plan_float(plan_writer *w, const char *name, float value);
void plan_string(plan_writer *w, const char *name, const char *value);
void plan_ints(plan_writer *w, const char *name, uint32_t count, const int64_t *values);
void plan_floats(plan_writer *w, const char *name, uint32_t count, const float *values);
void plan_output(plan_writer *w, const char *name, uint32_t tensor);
/* Nodes between these two are those of the next body. */
void plan_begin_body(plan_writer *w, size_t input_count, const uint32_t *inputs);
void plan_end_body(plan_writer *w, size_t output_count, const uint32_t *outputs);

/* The file, aligned to 64 bytes, for free(); the writer is empty again. NULL if there is no memory. */
void *plan_finish(plan_writer *w, size_t *size);
/* Makes the plan's checksum right again after a change of its bytes, where they still say how long it is. */
void plan_repair(void *image, size_t size);
/* Tells where the plan begins in an image, and its size. */
unsigned char *plan_of(void *image, size_t size, size_t *plan_size);

#endif
