"""Write pictures (matplotlib, extra ``dynq[plot]``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .core import files
from .errors import Error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check", "save"]


def check(path: str) -> None:
    """Refuse a path that no picture can be written to. Call it before a measurement that takes minutes."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise Error("--plot needs matplotlib: pip install 'dynq[plot]'") from error
    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise Error(f"--plot is {path!r}; expected a name that ends in one of {' '.join(sorted(known))}")
    target = Path(os.path.realpath(path))  # the file that a link leads to
    existed = target.exists()
    try:
        target.open("ab").close()
        if not existed:
            target.unlink()
    except OSError as error:
        raise _cannot_write(path, error) from error


def save(figure: Figure, path: str) -> None:
    """Write a picture into the file that --plot names."""
    try:
        with files.replacing(path) as file:
            figure.savefig(file, format=Path(path).suffix[1:].lower())
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: str, error: OSError) -> Error:
    return Error(f"--plot is {path!r}, which cannot be written to: {error.strerror or error}")
