"""State dicts, copies, pickles and processes of converted modules."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dynq

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import dynq.torch as dt  # noqa: E402
from tests.python.torch.test_modules import linear  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_state_dict_is_plain_int8_and_loads() -> None:
    model, other = (nn.Sequential(linear(), nn.Embedding(9, 8), nn.MultiheadAttention(32, 4)).eval() for _ in range(2))
    quantized, second = dt.quantize_dynamic(model), dt.quantize_dynamic(other)
    state = quantized.state_dict()
    weight = dynq.quantize_weight(model[0].weight.detach().numpy())
    assert np.array_equal(state["0.weight"].numpy(), weight.integers()) and state["0.weight"].dtype == torch.int8
    assert np.array_equal(state["0.weight_scale"].numpy(), weight.scale)
    assert {"0.bias", "1.weight_scale", "2.in_proj_weight", "2.out_proj.weight"} <= set(state)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert str(second.load_state_dict(torch.load(file, weights_only=True))) == "<All keys matched successfully>"
    x = torch.randn(5, 40)
    assert torch.equal(second[0](x), quantized[0](x))
    x = torch.randn(5, 2, 32)
    assert torch.equal(second[2](x, x, x)[0], quantized[2](x, x, x)[0])
    assert all(torch.equal(a, b) for a, b in zip(second.state_dict().values(), state.values(), strict=True))


def test_a_float_state_dict_loads_and_is_quantized() -> None:
    model, other = (nn.Sequential(linear(), nn.Embedding(9, 8)).eval() for _ in range(2))
    second = dt.quantize_dynamic(other)
    second.load_state_dict(model.state_dict())
    assert torch.equal(second[0].weight, dt.quantize_dynamic(model)[0].weight)
    assert torch.equal(second[1].weight, dt.quantize_dynamic(model)[1].weight)


def test_a_state_dict_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    quantized = dt.quantize_dynamic(linear())
    before = quantized.state_dict()
    good = dict(before)
    for change, text in [
        ({"weight": torch.zeros(24, 39, dtype=torch.int8)}, r"weight has shape \(24, 39\); expected \(24, 40\)"),
        ({"weight": torch.zeros(24, 40, dtype=torch.int64)}, "weight is torch.int64; expected torch.int8"),
        ({"weight_scale": torch.zeros(24)}, "scale"),
        ({"weight_scale": torch.zeros(24, dtype=torch.int64)}, "weight_scale is torch.int64"),
        ({"bias": 3}, "bias is of type int"),
        ({"more": torch.zeros(1)}, "Unexpected key"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            quantized.load_state_dict({**good, **change})
    for name in ("weight", "weight_scale", "bias"):
        with pytest.raises(RuntimeError, match=f'Missing key.*"{name}"'):
            quantized.load_state_dict({key: value for key, value in good.items() if key != name})
    assert all(torch.equal(a, b) for a, b in zip(quantized.state_dict().values(), before.values(), strict=True))


def test_copies_and_pickles_compute_the_same() -> None:
    model = dt.quantize_dynamic(nn.Sequential(linear(), nn.ReLU(), linear(8, 24)).eval())
    x = torch.randn(3, 40)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert torch.equal(copied(x), model(x))
        assert copied[0].packed.data_ptr() != model[0].packed.data_ptr()


class Data(torch.utils.data.Dataset):  # type: ignore[misc]
    def __init__(self, model: Any) -> None:
        self.model = model

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return self.model(torch.full((40,), float(i) + 0.25))


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_data_loader_run_it(start: str) -> None:
    model = dt.quantize_dynamic(linear(512, 40))
    right = torch.stack([model(torch.full((40,), i + 0.25)) for i in range(4)])
    loader = torch.utils.data.DataLoader(Data(model), batch_size=2, num_workers=1, multiprocessing_context=start)
    with torch.inference_mode(False), torch.no_grad():
        assert torch.equal(torch.cat(list(loader)), right)
    assert torch.equal(model(torch.full((40,), 0.25)), right[0])  # whose memory spawn has moved


THREADS = """
import os, sys, torch, dynq.torch
from dynq.torch._threads import use_openmp
from dynq.core.call import lib
torch.set_num_threads(1)
found = use_openmp()
if sys.argv[1] == "own":
    lib.torch_openmp(0, 0, 0)
model = dynq.torch.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Tanh()).eval())
lstm = dynq.torch.quantize_dynamic(torch.nn.LSTM(1024, 256).eval())
x = torch.randn(512, 1024)
one = model(x), lstm(x[:, None])[0]
torch.set_num_threads(2)
torch.exp(x)
before = len(os.listdir("/proc/self/task"))
two = model(x), lstm(x[:, None])[0]
print(found, len(os.listdir("/proc/self/task")) - before, all(map(torch.equal, one, two)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(("pool", "started"), [("torchs", 0), ("own", 1)])
def test_threads_are_torchs(pool: str, started: int) -> None:
    """No thread is started beside those that PyTorch has; where it has no OpenMP, dynq starts its own, as many."""
    environment = {**os.environ, "DYNQ_NUM_THREADS": "4"}
    text = subprocess.check_output([sys.executable, "-c", THREADS, pool], text=True, env=environment)
    assert text.split() == ["True", str(started), "True"]


def test_a_forked_child_runs_with_many_threads() -> None:
    code = """
import os, torch, dynq.torch
torch.set_num_threads(2)
model = dynq.torch.quantize_dynamic(torch.nn.Linear(512, 512).eval())
x = torch.randn(64, 512)
right = model(x)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(model(x), right) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], text=True, timeout=60).strip() == "0"


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_originals_are_freed_as_they_are_converted() -> None:
    code = """
import re, torch, dynq.torch
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
dynq.torch.quantize_dynamic(torch.nn.Linear(512, 512).eval())
bare = peak()
model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(40))).eval()
size = sum(p.numel() * 4 for p in model.parameters())
loaded = peak()
dynq.torch.quantize_dynamic(model, inplace=True)
print((peak() - bare) / size, (loaded - bare) / size)
"""
    more, loaded = map(float, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert 0.9 < loaded < 1.1 and more < 1.2
