/*
 * The parts of check_ops.
 */
#ifndef CHECK_OPS_H
#define CHECK_OPS_H

#include "op_case.h"

/* Softmax, norms. */
void check_row_ops(void);
/* Functions of each element, reductions. */
void check_element_ops(void);
/* LSTM, GRU, RNN. */
void check_recurrent_ops(void);
/* Elementwise ops of several inputs, ops that move data, windows, integers. */
void check_data_ops(void);
/* Convolutions. */
void check_conv_ops(void);
/* Pools whose windows lie mostly outside the input. */
void check_window_ops(void);
/* dynq.Linear beyond what dynq_linear_f32 does. */
void check_linear_ops(void);

#endif
