"""Fixtures: every instruction set that runs here, and a process left as it was found."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

import dynq

settings.register_profile("dynq", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.register_profile("emulated", parent=settings.get_profile("dynq"), max_examples=10)  # --hypothesis-profile
settings.load_profile("dynq")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    selected = dynq.isa.selected()  # what DYNQ_ISA chose, where it is set
    yield
    dynq.isa.select(selected)
    dynq.set_num_threads(0)


@pytest.fixture(params=dynq.isa.supported())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with dynq.isa.use(request.param):
        yield request.param
