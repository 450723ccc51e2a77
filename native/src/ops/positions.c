/*
 * dynq.Positions: the numbers of the new rows of each sequence, from the end of what the session keeps on.
 */
#include "../base/status.h"
#include "checks.h"

static dynq_status infer(dynq_op_node *node) {
  const dynq_op_tensor *ids = DYNQ_INPUT(node, dynq_Positions, ids);
  if (ids->rank < 2) {
    return dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "ids has %zu dimensions; expected sequences and their rows",
                     ids->rank);
  }
  DYNQ_TRY(dynq_op_check_lengths(node, DYNQ_IN(dynq_Positions, lengths), ids->dims[0]));
  node->append = (dynq_op_append){ids->dims[0], ids->dims[1], DYNQ_GIVEN(node, dynq_Positions, lengths), 0};
  dynq_op_set_output(node, 0, DYNQ_INT64, 2, ids->dims);
  return DYNQ_OK;
}

static dynq_status run(const dynq_op_node *node) {
  const size_t *dims = node->outputs[0]->dims;
  int64_t *y = node->outputs[0]->data;
  for (size_t b = 0; b < dims[0]; b++) {
    for (size_t i = 0; i < dims[1]; i++) { /* rows that do not count have the last number that there is */
      const size_t counted = node->sequences->appended[b], row = i < counted || counted == 0 ? i : counted - 1;
      *y++ = counted != 0 ? (int64_t)(node->sequences->lengths[b] + row) : 0;
    }
  }
  return DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_Positions = {infer, run};
