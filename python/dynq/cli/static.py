"""Do what `dynq compare --static` asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..accuracy.calibrate import METHODS, Method
from ..accuracy.static import GAINS, NOISES, compare_static
from ..core.arguments import Array
from ..figure import check
from ..model import Model
from ..runs import read_npz
from .options import existing_file
from .output import console, progress, refused

__all__ = ["run", "static_options"]

_RANDOM = 8  # runs, if no samples are given

_OPTIONS = (
    click.option("--static", is_flag=True, help="Compare with fixed activation ranges, also on other data."),
    click.option(
        "--samples", "files", multiple=True, metavar="FILE.npz", type=existing_file,
        help="Inputs by name: the first half gives ranges, the second is compared; may be repeated. With --static.",
    ),
    click.option("--other", "others", multiple=True, metavar="FILE.npz", type=existing_file,
                 help="Inputs of another kind to compare on; may be repeated. With --static."),
    click.option("--method", type=click.Choice(list(METHODS)),
                 help="How ranges follow from the samples. With --static.  [default: minmax]"),
    click.option("--gain", "gains", multiple=True, type=float, metavar="0.1",
                 help=f"Factor of the inputs; may be repeated.  [default: {' '.join(f'{g:g}' for g in GAINS)}]"),
    click.option("--noise", "noises", multiple=True, type=float, metavar="0.3",
                 help=f"Noise as a share of the input; may be repeated.  [default: {' '.join(map(str, NOISES))}]"),
    click.option("--plot", metavar="FILE.png", help="Draw the comparison. With --static."),
)  # fmt: skip


def static_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run(
    floating: Callable[[], Model],
    model: Model,
    random: Callable[[int], dict[str, Array]],
    *,
    seed: int,
    repeat: int,
    as_json: bool,
    files: Sequence[Path],
    others: Sequence[Path],
    method: Method | None,
    gains: Sequence[float],
    noises: Sequence[float],
    plot: str | None,
) -> None:
    """Compare models and print the result. ``random`` makes the inputs that the other options ask for, from a seed."""
    if plot is not None:
        check(plot)
    if files:
        samples: list[Any] = [sample for file in files for sample in read_npz(file, model)]
    else:
        samples = [random(seed + i) for i in range(_RANDOM)]
    half = (len(samples) + 1) // 2
    with progress("comparing", as_json) as told:
        result = refused(
            lambda: compare_static(
                floating(),
                model,
                samples[:half],
                method or "minmax",
                test=samples[half:] or samples,
                gains=gains or GAINS,
                noises=noises or NOISES,
                others={file.stem: read_npz(file, model) for file in others},
                repeat=repeat,
                seed=seed,
                progress=told,
            )
        )
    if plot is not None:
        result.plot(plot)
    if as_json:
        click.echo(result.to_json())
        return
    page = console()
    page.print(result)
    if len(result.rows) == 1:
        page.print("The model has no float32 input, which a gain or noise could change; --other gives other inputs.")
    if plot is not None:
        page.print(f"{plot} is written.")
