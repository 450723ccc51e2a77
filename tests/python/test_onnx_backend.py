"""The ONNX package's node tests: each that dynq passes is listed, and stays so."""

from pathlib import Path

import pytest
from onnx_backend import cases, outcome

LISTED = (Path(__file__).parent / "onnx_backend_passing.txt").read_text().split()


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_node_test_passes(name: str) -> None:
    if name not in cases():
        pytest.skip("this onnx package does not have the test")
    assert outcome(cases()[name]) == "passes"


def test_the_list_is_complete_and_what_is_not_on_it_is_refused() -> None:
    others = {name: outcome(case) for name, case in cases().items() if name not in LISTED}
    passing = [name for name, result in others.items() if result == "passes"]
    assert not passing, f"pass now, so list them in onnx_backend_passing.txt: {passing}"
    wrong = {name: result for name, result in others.items() if not result.startswith("refused: ")}
    assert not wrong, "accepted, but not right"
