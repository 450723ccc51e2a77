/*
 * One op with inputs made by hand: inferred and run on every instruction set and with several numbers of threads, which
 * must give the same bits.
 */
#ifndef OP_CASE_H
#define OP_CASE_H

#include "check.h"
#include "ops/op.h"

enum { CASE_INPUTS = 10, CASE_OUTPUTS = 3 };

typedef struct op_case {
  const dynq_op *op;
  size_t input_count, output_count;
  dynq_op_tensor in[CASE_INPUTS], out[CASE_OUTPUTS];
  bool given[CASE_INPUTS];
  bool unread[CASE_OUTPUTS]; /* the node has NULL there, and `out` nothing */
  dynq_attribute attributes[DYNQ_OP_MAX_ATTRIBUTES];
} op_case;

/* The op of that name, without inputs, with one output. Ends the program where there is none. */
op_case op_case_of(const char *name);
/* The next input: left out; of a dtype with a shape, filled by the caller; float32, filled with numbers from -limit to
 * limit. Returns the data. */
void op_case_skip(op_case *c);
void *op_case_add(op_case *c, dynq_dtype dtype, size_t rank, const size_t *dims);
float *op_case_add_f32(op_case *c, float limit, size_t rank, const size_t *dims);
/* Attributes. Strings and arrays stay the caller's. */
void op_case_int(op_case *c, const char *name, int64_t value);
void op_case_float(op_case *c, const char *name, float value);
void op_case_string(op_case *c, const char *name, const char *value);

/* infer() alone, on the last instruction set of the list. */
dynq_status op_case_infer(op_case *c);
/* Everywhere, and in place where the op allows it; the outputs, those of scalar, stay until guards_release. False, with
 * a failure reported, where a call does not return `expected`. */
bool op_case_run(op_case *c, dynq_status expected);
/* op_case_infer returns DYNQ_ERROR_INVALID_ARGUMENT with a message that holds `text`. */
void op_case_refused(op_case *c, const char *text);

/* Output i, element by element, within `bound` of `expected`; a NaN is the one NaN. */
void op_case_near(const op_case *c, size_t i, size_t at, double expected, double bound);

#endif
