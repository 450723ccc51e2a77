"""``dynq bench models --suite vision``: the networks are those of the papers, and every runtime computes them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console

import dynq
from dynq.bench import compare, process, vision
from dynq.bench.vision_nets import NETWORKS, build, picture
from dynq.bench.vision_peer import PEERS, Network, write
from dynq.cli import cli

PARAMETERS = {  # as published, for 1000 classes; YOLOv8n without the constants of its distances
    "ResNet-18": 11_689_512,
    "ResNet-50": 25_557_032,
    "MobileNetV2": 3_504_872,
    "MobileNetV3": 5_483_032,
    "EfficientNet-B0": 5_288_548,
    "YOLOv8n": 3_157_184,
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["bench", "models", *arguments], env={"COLUMNS": "80"})


def test_the_networks_have_the_parameters_of_the_papers() -> None:
    assert tuple(NETWORKS) == vision.NAMES == tuple(PARAMETERS)
    for name, count in PARAMETERS.items():
        module = build(name)
        assert sum(parameter.numel() for parameter in module.parameters()) == count, name
        assert not module.training


def test_a_network_is_the_same_each_time() -> None:
    first, second = build("MobileNetV2"), build("MobileNetV2")
    x = picture("MobileNetV2")
    with torch.inference_mode():
        y = first(x)
        assert y.equal(second(x)) and 0.01 < float(y.std()) < 100


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("vision")
    write("MobileNetV2", folder)
    return Network.find("MobileNetV2", folder)


@pytest.mark.parametrize("name", process.choose((), vision.NEEDED)[0])
def test_every_peer_that_is_installed_computes_a_network(name: str, network: Network) -> None:
    made = PEERS[name](network, 1)
    call, facts = made if isinstance(made, tuple) else (made, {})
    y, right = call(), network.y
    assert y.shape == right.shape == (1, 1000)
    if "float32" in name:
        np.testing.assert_allclose(y, right, atol=1e-4 * float(np.abs(right).max()))
    elif name == "dynq":
        assert np.abs(y - right).mean() < 0.15 * np.abs(right).mean() and facts["size"] < 0.3


def test_the_command_prints_a_row_for_each_network_and_json(tmp_path: Path) -> None:
    quick = ("--suite", "vision", "--quick", "--rounds", "1", "--threads", "1", "--network", "MobileNetV2")
    done = run(*quick, "--peer", "dynq float32", "--json")
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    assert [(r["network"], r["peer"]) for r in facts["results"]] == [
        ("MobileNetV2", "dynq"),
        ("MobileNetV2", "dynq float32"),
    ]
    (tmp_path / "a.json").write_text(done.stdout, "utf-8")
    (tmp_path / "b.json").write_text(done.stdout, "utf-8")
    rows = compare.compare(*(compare.load(str(tmp_path / name)) for name in ("a.json", "b.json")))
    assert [row["ratio"] for row in rows] == [1, 1]
    console = Console(width=80, file=io.StringIO(), record=True)
    for table in vision.tables(facts["results"], ["dynq", "dynq float32", "litert int8"]):
        console.print(table)
    (row,) = (line for line in console.export_text().splitlines() if "MobileNetV2" in line)
    assert row.split()[-1] == "-"  # a peer without this network


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "vision", "--shape", "8x128"), "--shape is for --suite text"),
        (("--network", "ResNet"), "--network is for --suite vision"),
    ],
)
def test_what_does_not_fit_a_suite_is_an_error(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and message in done.output


def test_a_network_that_is_not_known_is_refused() -> None:
    with pytest.raises(dynq.Error, match="--network is 'VGG'; known: ResNet-18, ResNet-50, MobileNetV2"):
        vision.choose(("VGG",))


def test_files_are_written_once_for_all_peers(tmp_path: Path) -> None:
    write("ResNet-18", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ResNet-18.onnx",
        "ResNet-18.x.npy",
        "ResNet-18.y.npy",
    ]
