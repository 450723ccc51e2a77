"""The ONNX package's node tests: each that dynq passes is listed, and stays so.

The list is written by ``python tests/python/onnx_backend.py --write``.
"""

import pytest
from onnx_backend import LIST, cases, outcome

LISTED = LIST.read_text().split()
# Refused when they run, since it depends on values that come only then.
REFUSED_LATE = {"test_pow": "expected 0.5 or a whole number"}


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_node_test_passes(name: str) -> None:
    if name not in cases():
        pytest.skip("this onnx package does not have the test")
    assert outcome(cases()[name]) == "passes"


def test_the_list_is_complete_and_what_is_not_on_it_is_refused() -> None:
    others = {name: outcome(case) for name, case in cases().items() if name not in LISTED}
    passing = [name for name, result in others.items() if result == "passes"]
    assert not passing, f"pass now, so list them in {LIST.name}: {passing}"
    for name, why in REFUSED_LATE.items():
        assert why in others.pop(name)
    wrong = {name: result for name, result in others.items() if not result.startswith("refused: ")}
    assert not wrong, "accepted, but not right"
