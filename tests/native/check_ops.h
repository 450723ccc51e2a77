/*
 * The parts of check_ops.
 */
#ifndef CHECK_OPS_H
#define CHECK_OPS_H

#include "op_case.h"

/* Softmax, norms. */
void check_row_ops(void);

#endif
