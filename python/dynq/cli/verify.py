"""The command ``dynq verify``."""

from __future__ import annotations

from pathlib import Path

import click

from ..verification import verify as verify_file
from .options import existing_file
from .output import json_option, print_json, say

__all__ = ["verify"]


@click.command()
@click.argument("file", metavar="FILE", type=existing_file)
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Read all of a file that dynq saved and compare its checksums.

    If it is damaged, the exit status is 1 and the message names the tensors.
    """
    tensors = verify_file(file)
    if as_json:
        print_json({"bytes": file.stat().st_size, "tensors": tensors})
    else:
        say(f"{file}: {tensors} {'tensor' if tensors == 1 else 'tensors'}, {file.stat().st_size:,} bytes, all as saved")
