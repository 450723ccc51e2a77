/*
 * dynq.If and dynq.Loop, as far as their own inputs go. The model's runtime runs their bodies (model/control.c).
 */
#include "checks.h"

static dynq_status expect_one(const dynq_op_node *node, size_t i, dynq_dtype dtype) {
  DYNQ_TRY(dynq_op_expect(node, i, DYNQ_SET(dtype)));
  return node->inputs[i]->count == 1 ? DYNQ_OK
                                     : dynq_fail(DYNQ_ERROR_INVALID_ARGUMENT, "%s has %zu elements; expected 1",
                                                 node->op->inputs[i].name, node->inputs[i]->count);
}

static dynq_status infer_if(dynq_op_node *node) { return expect_one(node, DYNQ_IN(dynq_If, cond), DYNQ_BOOL); }

const dynq_op_code dynq_op_dynq_If = {infer_if, NULL};

static dynq_status infer_loop(dynq_op_node *node) {
  if (DYNQ_GIVEN(node, dynq_Loop, M) != NULL) {
    DYNQ_TRY(expect_one(node, DYNQ_IN(dynq_Loop, M), DYNQ_INT64));
  }
  return DYNQ_GIVEN(node, dynq_Loop, cond) != NULL ? expect_one(node, DYNQ_IN(dynq_Loop, cond), DYNQ_BOOL) : DYNQ_OK;
}

const dynq_op_code dynq_op_dynq_Loop = {infer_loop, NULL};
