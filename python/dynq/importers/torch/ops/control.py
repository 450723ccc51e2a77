"""torch.cond: the programs that it chooses from become the branches of dynq.If."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....conversion import Unsupported
from ....graph import Value
from ..convert import Walk, calls_programs

_MOST_INPUTS = 250  # of a node


@calls_programs("cond")
def cond(walk: Walk, node: Any) -> Sequence[Value] | None:
    """Return the outputs of torch.cond; None if one of its branches is refused."""
    condition, *branches, operands = node.args
    programs = [getattr(node.graph.owning_module, branch.target).graph for branch in branches]
    known, taken = walk.known(condition)
    if known:
        return walk.inline(programs[0 if taken else 1], operands)
    name = walk.names.of(node)
    inputs = [walk.operand(given) for given in (condition, *operands) if not walk.known(given)[0]]
    if len(inputs) > _MOST_INPUTS:
        raise Unsupported(f"torch.cond with {len(inputs)} inputs; expected {_MOST_INPUTS} at most")
    bodies = {}
    for kind, program in zip(("then_branch", "else_branch"), programs, strict=True):
        body = walk.body(program, operands, f"{name}/{kind}")
        if body is None:
            return None
        bodies[kind] = body
    count = len(bodies["then_branch"].outputs)
    return walk.add("dynq.If", inputs, count, walk.graph.unique_node(name), {"bodies": bodies})
