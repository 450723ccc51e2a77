"""What dynq loads of the world's models, and how right it is: architectures, and files of ONNX and TensorFlow Lite.

    python -m bench.coverage files                     # fetches packages, runs all that has no result yet
    python -m bench.coverage lite                      # TensorFlow Lite files
    python -m bench.coverage transformers              # small random weights for each architecture
    python -m bench.coverage transformers bert whisper # only these
    python -m bench.coverage files --again failed      # runs again what failed; "all" runs everything
    python -m bench.coverage write                     # writes docs/coverage.md from the results

Needs pip install 'dynq[coverage]', and npm for some packages. Results lie as JSON in the user's cache, or in the
folder that ``--results`` names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .packages import cache_folder
from .runner import run_cases

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.coverage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["files", "lite", "transformers", "write", "failures"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures, or parts of names of packages")
    parser.add_argument("--again", choices=["failed", "all"], default="", help="run again what has a result")
    parser.add_argument("--steps", default="", help="only these steps, with commas between")
    parser.add_argument("--results", type=Path, default=cache_folder() / "results", help="folder of the JSON files")
    parser.add_argument("--seconds", type=int, default=300, help="processor time of one child process")
    parser.add_argument("--jobs", type=int, default=1, help="child processes at once")
    parser.add_argument("--megabytes", type=int, default=16000, help="the limit of its address space")
    given = parser.parse_intermixed_args()
    results = given.results
    if given.what in ("files", "lite", "transformers"):
        if given.what == "files":
            from .files import file_cases as cases
        elif given.what == "lite":
            from .lite import lite_cases as cases
        else:
            from .architectures import transformer_cases as cases
        run_cases(
            cases(given.names),
            results / given.what,
            seconds=given.seconds,
            megabytes=given.megabytes,
            jobs=given.jobs,
            again=given.again,
            wanted=[step for step in given.steps.split(",") if step],
            tell=lambda line: print(line, flush=True),
        )
    from .page import failures, page

    if given.what == "failures":
        print(failures(results))
    elif given.what == "write" or not given.names:
        PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
