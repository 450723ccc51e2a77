"""A fuzzer of the imports: mutated models in child processes with limits; it keeps those that go wrong.

    python tests/fuzz/run_import.py --seconds 60              # ONNX
    python tests/fuzz/run_import.py --kind tflite --seconds 60
    python tests/fuzz/run_import.py --kind pt2 --seconds 60   # of torch.export.save
    python tests/fuzz/run_import.py --file crash.onnx

Case N of a seed is always the same model. Right is a model or one of dynq's errors; a crash, another exception, more
than --limit seconds of work or more than 1 GiB are findings. Their models lie in --out; a line says what happened.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / "python"))  # where dynq is not installed
MEMORY = 1 << 30
_MOST_WAIT = 20  # times a limit of processor time

from tests.fuzz.mutations import LARGEST  # noqa: E402

KINDS = {"onnx": "onnx_models", "tflite": "lite_models", "pt2": "torch_programs"}  # modules beside this one


def module(kind: str) -> Any:
    """Return the module that makes models of a kind; only its packages need to be installed."""
    return importlib.import_module(f"tests.fuzz.{KINDS[kind]}")


def models(kind: str, folder: Path) -> list[bytes]:
    """Return the models that are mutated, from ``folder`` if they are there."""
    folder.mkdir(exist_ok=True)
    files = sorted(folder.iterdir())
    if not files:
        for i, model in enumerate(module(kind).seeds()):
            if len(model) < LARGEST // 4:
                (folder / f"{i:05}").write_bytes(model)
        files = sorted(folder.iterdir())
    return [file.read_bytes() for file in files]


def outcome(kind: str, path: Path) -> str:
    """Import a file: what came of it; "wrong: ..." is a finding."""
    import dynq

    try:
        module(kind).read(path)
    except dynq.Error as error:
        crashed = "crashes (" in str(error)
        return f"{type(error).__name__}{', the child crashed' if crashed else ''}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"wrong: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]}"
    return "model"


def work(kind: str, seed: int, first: int, folder: Path) -> None:
    """Run cases from ``first`` on until nobody reads what came of them."""
    mutator = module(kind).Mutator(models(kind, folder))
    path = folder.parent / f"case.{kind}"
    path.write_bytes(mutator.models[0])
    outcome(kind, path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = first
    while True:
        path.write_bytes(mutator.case(seed, number))
        print(json.dumps([number]), flush=True)
        start = time.process_time()
        result = outcome(kind, path)
        print(json.dumps([number, result, time.process_time() - start]), flush=True)
        number += 1


class Worker:
    def __init__(self, kind: str, seed: int, first: int, folder: Path) -> None:
        self.current: int | None = None
        command = [sys.executable, __file__, "--work", kind, str(seed), str(first), str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.first = self.next = first

    def answers(self, seconds: float) -> bool:
        """Wait for a line, until the worker has worked for some seconds; on a busy machine that takes longer."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            end = time.monotonic() + _MOST_WAIT * seconds
            last = self._worked() + seconds
            while not selector.select(1):
                if self._worked() > last or time.monotonic() > end:
                    return False
        return True

    def _worked(self) -> float:
        """Return the processor time that the worker took."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def campaign(kind: str, seconds: float, seed: int, first: int, limit: float, out: Path, folder: Path) -> int:
    """Run cases for some time and return the number of findings."""
    counts: Counter[str] = Counter()
    findings: dict[str, int] = {}
    slowest = 0.0
    mutator, most = module(kind).Mutator(models(kind, folder)), module(kind).IN_A_PROCESS

    def found(number: int, what: str) -> None:
        key = what.split(": ")[1] if what.startswith("wrong") else what
        findings[key] = findings.get(key, 0) + 1
        if findings[key] <= 3:
            out.mkdir(parents=True, exist_ok=True)
            path = out / f"{seed}-{number}.{kind}"
            path.write_bytes(mutator.case(seed, number))
            print(f"case {number}: {what}\n  python tests/fuzz/run_import.py --file {path}", flush=True)

    end = time.monotonic() + seconds
    worker = Worker(kind, seed, first, folder)
    while time.monotonic() < end:
        ready = worker.answers(limit if worker.current is not None else 60)
        line = worker.process.stdout.readline() if ready else b""
        if line:
            number, *rest = json.loads(line)
            worker.current = None if rest else number
            worker.next = number + 1
            if rest:
                result, took = rest
                slowest = max(slowest, took)
                counts[result.split(":")[0]] += 1
                if result.startswith("wrong"):
                    found(number, result)
                if number + 1 - worker.first >= most:
                    worker.process.kill()
                    worker.process.wait()
                    worker = Worker(kind, seed, worker.next, folder)
            continue
        worker.process.kill()
        status = worker.process.wait()
        if worker.current is not None:
            counts["no answer" if not ready else "crash"] += 1
            found(worker.current, f"no answer within {limit} s" if not ready else f"crash, status {status}")
        elif not ready or status:
            assert worker.process.stderr is not None
            print(worker.process.stderr.read().decode()[-2000:])
            return 1
        worker = Worker(kind, seed, worker.next, folder)
    worker.process.kill()
    worker.process.wait()
    print(
        f"{sum(counts.values())} models from case {first} to {worker.next - 1} of seed {seed}; slowest {slowest:.2f} s"
    )
    for what, count in counts.most_common():
        print(f"  {count:>8} {what}")
    for what, count in findings.items():
        print(f"  {count:>8} FINDING {what}")
    return sum(findings.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="The case to begin with.")
    parser.add_argument("--limit", type=float, default=10, help="Seconds of processor time that one import may take.")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--file", type=Path, help="Import this file alone.")
    parser.add_argument("--kind", choices=list(KINDS), default="onnx", help="The kind of models.")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        try:
            work(options.work[0], int(options.work[1]), int(options.work[2]), Path(options.work[3]))
        except BrokenPipeError:
            os._exit(0)
    elif options.file:
        print(outcome(options.file.suffix[1:], options.file))
    else:
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(prefix="dynq-fuzz-", dir=memory) as folder:
            limits = options.kind, options.seconds, options.seed, options.first, options.limit, options.out
            sys.exit(campaign(*limits, Path(folder) / "models") > 0)


if __name__ == "__main__":
    main()
