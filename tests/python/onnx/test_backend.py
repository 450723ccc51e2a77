"""The ONNX package's node tests: each that dynq passes is listed, and stays so.

The lists are written by ``python tests/python/references/onnx_backend.py --write``.
"""

import pytest

from tests.python.references.onnx_backend import LIST, REFUSED, cases, outcome, reason_of, refused

LISTED = LIST.read_text().split()
# ONNX's text, ONNX Runtime and PyTorch take the size of the output; these tests, what the scale gives, not rounded.
AGAINST_THE_TEXT = {f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")}
# Random numbers, of a generator of NumPy's.
DRAWN = {f"test_bernoulli{kind}{expanded}" for kind in ("", "_double", "_seed") for expanded in ("", "_expanded")}


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_node_test_passes(name: str) -> None:
    if name not in cases():
        pytest.skip("this onnx package does not have the test")
    assert outcome(cases()[name]) == "passes"


def test_the_list_is_complete_and_what_is_not_on_it_is_refused_for_the_reason_that_is_listed() -> None:
    others = {name: outcome(case) for name, case in cases().items() if name not in {*LISTED, *AGAINST_THE_TEXT, *DRAWN}}
    passing = [name for name, result in others.items() if result == "passes"]
    assert not passing, f"pass now, so list them in {LIST.name}: {passing}"
    wrong = {name: result for name, result in others.items() if not result.startswith("refused: ")}
    assert not wrong, "accepted, but not right"
    reasons = {name: reason_of(result) for name, result in others.items()}
    listed = {name: reason for name, reason in refused().items() if name in cases()}
    assert reasons == listed, f"write {REFUSED.name} anew"
