"""Print what commands show: JSON, or text on the terminal. All text for people is printed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

from ..errors import Error
from ..terminal import SafeConsole, visible

_T = TypeVar("_T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def say(text: str, *, error: bool = False) -> None:
    """Print a line that has names from files in it."""
    click.echo(visible(text), err=error)


def print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, indent=2))


def console(*, error: bool = False) -> Console:
    return SafeConsole(stderr=error)


@contextmanager
def progress(what: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, if that is a terminal.

    Yields a function to call with two numbers: how much is done, and how much there is to do.
    """
    terminal = console(error=True)
    with Progress(console=terminal, transient=True, disable=as_json or not terminal.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def refused(function: Callable[[], _T]) -> _T:
    """Call a function, and raise Error if it refuses what a user gave: one line, without a traceback."""
    try:
        return function()
    except Error:
        raise
    except (ValueError, TypeError) as error:
        raise Error(str(error)) from error
