"""The commands ``dynq bench ...``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import Progress

from dynq._report import console, cpu_brand, json_option, print_json

from . import plot
from .isa import heading, tables
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
        out = console()
        out.print(heading(machine))
        for table in tables(results):
            out.print("", table, sep="\n")
    if plot_file is not None:
        plot.plot_isa(machine, results, plot_file)


def _common(rounds: int | None, quick: bool) -> list[str]:
    return [*(["--quick"] if quick else []), *(["--rounds", str(rounds)] if rounds is not None else [])]


def _measure(arguments: list[str], as_json: bool, plot_file: str | None) -> tuple[Record, list[Record]]:
    """Runs dynq-bench with a progress bar; the machine's record gets the CPU's name."""
    if plot_file is not None:
        plot.check(plot_file)
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("measuring", total=None)
        machine, results = measure(arguments, lambda done, total: progress.update(task, completed=done, total=total))
    return {"cpu": cpu_brand(), **machine}, results
