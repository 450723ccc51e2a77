"""A fuzzer of the ONNX import: mutated models in child processes with limits; it keeps those that go wrong.

    python tests/fuzz/run_import.py --seconds 60
    python tests/fuzz/run_import.py --file crash.onnx

Case N of a seed is always the same model. Right is a model or one of dynq's errors; a crash, another exception, more
than --limit seconds or more than 1 GiB are findings, whose models lie in --out with a line that says what happened.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
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

import onnx
from google.protobuf.message import DecodeError, EncodeError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / "python"))  # where dynq is not installed
MEMORY = 1 << 30
LARGEST = 1 << 18  # bytes of a mutated model
INTEGERS = [0, 1, -1, 2, 3, 4, 7, 8, 255, 256, 65536, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62]
INTEGERS += [(1 << 63) - 1, -(1 << 31), -(1 << 63), -2, 10_000_019]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-40, 1e38, float("inf"), float("-inf"), float("nan"), 0.5]
TEXTS = ["", "x", "y", "-", "\x1b[1m", "a" * 300, "ü\0", "ai.onnx", "com.microsoft", "SAME_UPPER", "linear", "nearest"]


def seeds(folder: Path) -> list[bytes]:
    """The models that are mutated: those of the tests, and those of ONNX's own tests of operators."""
    files = sorted(folder.iterdir())
    if not files:
        from tests.python.references import onnx_backend, onnx_models

        models = [onnx_models.two_layers(), *(onnx_models.small_bert(opset) for opset in (11, 17, 21))]
        models += [case.model for _, case in sorted(onnx_backend.cases().items())]
        for i, model in enumerate(models):
            if model.ByteSize() < LARGEST // 4:
                (folder / f"{i:05}.onnx").write_bytes(model.SerializeToString())
        files = sorted(folder.iterdir())
    return [file.read_bytes() for file in files]


class Mutator:
    """Makes case N of a seed."""

    def __init__(self, models: list[bytes]) -> None:
        self.models = models
        self.ops = sorted({schema.name for schema in onnx.defs.get_all_schemas()})

    def case(self, seed: int, number: int) -> bytes:
        rng = random.Random(f"{seed}:{number}")
        model = rng.choice(self.models)
        if rng.random() < 0.2:
            return self.bytes(rng, model)
        proto = onnx.ModelProto.FromString(model)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 10])):
            self.mutate(rng, proto)
        try:
            result = proto.SerializeToString()
        except (EncodeError, ValueError):
            return model
        return result[:LARGEST]

    def bytes(self, rng: random.Random, model: bytes) -> bytes:
        data = bytearray(model)
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(5)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind == 2:
                del data[at : at + rng.choice([1, 2, 8, 64])]
            elif kind == 3:
                data[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64]))
            else:
                other = rng.choice(self.models)
                start = rng.randrange(len(other))
                data[at : at + 16] = other[start : start + rng.choice([4, 16, 64, 256])]
        return bytes(data[:LARGEST])

    def mutate(self, rng: random.Random, proto: Any) -> None:
        """Change one field of one message, at any depth."""
        messages = [proto]
        for _ in range(rng.randrange(1, 9)):  # a way down; the graph's own fields come most often
            inner = [value for _, value in self.parts(messages[-1])]
            if not inner:
                break
            messages.append(rng.choice(inner))
        message = messages[-1] if rng.random() < 0.8 else rng.choice(messages)
        field = rng.choice(message.DESCRIPTOR.fields)
        with contextlib.suppress(ValueError, TypeError, DecodeError, IndexError):
            self.change(rng, message, field, proto)

    @staticmethod
    def parts(message: Any) -> list[tuple[str, Any]]:
        result = []
        for field, value in message.ListFields():
            if field.message_type is None:
                continue
            for item in [value] if hasattr(value, "DESCRIPTOR") else value:
                result.append((field.name, item))
        return result

    def change(self, rng: random.Random, message: Any, field: Any, proto: Any) -> None:
        name = field.name
        value = getattr(message, name)
        if rng.random() < 0.1:
            message.ClearField(name)
        elif hasattr(value, "append") or hasattr(value, "add"):
            self.repeated(rng, field, value, proto)
        elif field.message_type is not None:
            other = self.any_of(rng, field.message_type.full_name)
            if other is not None:
                value.CopyFrom(other)
        else:
            setattr(message, name, self.scalar(rng, field, value, proto))

    def repeated(self, rng: random.Random, field: Any, value: Any, proto: Any) -> None:
        kind = rng.randrange(4)
        if kind == 0 and len(value):
            del value[rng.randrange(len(value))]
        elif kind == 1 and len(value) > 1:
            a, b = rng.sample(range(len(value)), 2)
            if field.message_type is None:
                value[a], value[b] = value[b], value[a]
            else:
                value[a].CopyFrom(value[b])
        elif field.message_type is not None:
            other = self.any_of(rng, field.message_type.full_name) if kind == 2 or not len(value) else rng.choice(value)
            if other is not None:
                value.add().CopyFrom(other)
        elif kind == 2 and len(value):
            at = rng.randrange(len(value))
            value[at] = self.scalar(rng, field, value[at], proto)
        else:
            value.append(self.scalar(rng, field, None, proto))

    def scalar(self, rng: random.Random, field: Any, value: Any, proto: Any) -> Any:
        if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            return rng.choice(FLOATS)
        if field.cpp_type == field.CPPTYPE_STRING:
            if field.type == field.TYPE_BYTES:
                data = bytearray(value or b"")
                return bytes(data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.choice([0, 1, 8])))
            if field.name == "op_type" and rng.random() < 0.8:
                return rng.choice(self.ops)
            names = [name for node in proto.graph.node for name in (*node.input, *node.output)]
            return rng.choice(names) if names and rng.random() < 0.7 else rng.choice(TEXTS)
        if field.enum_type is not None:
            return rng.choice(field.enum_type.values).number
        if isinstance(value, int) and rng.random() < 0.3:
            return value + rng.choice([-1, 1])
        return rng.choice(INTEGERS)

    def any_of(self, rng: random.Random, kind: str) -> Any:
        """A message of a kind from some model."""
        message: Any = onnx.ModelProto.FromString(rng.choice(self.models))
        for _ in range(20):
            if message.DESCRIPTOR.full_name == kind:
                return message
            inner = [value for _, value in self.parts(message)]
            if not inner:
                return None
            message = rng.choice(inner)
        return None


def outcome(model: bytes) -> str:
    """Import a model: what came of it; "wrong: ..." is a finding."""
    import dynq

    try:
        proto = onnx.ModelProto.FromString(model)
    except DecodeError:
        proto = None
    try:
        if proto is None:
            path = Path(
                f"/dev/shm/dynq-fuzz-{os.getpid()}.onnx" if os.path.isdir("/dev/shm") else f"fuzz-{os.getpid()}"
            )
            path.write_bytes(model)
            try:
                dynq.from_onnx(path)
            finally:
                path.unlink()
        else:
            dynq.from_onnx(proto)
    except dynq.Error as error:
        crashed = "crashes (" in str(error)
        return f"{type(error).__name__}{', the child crashed' if crashed else ''}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"wrong: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]}"
    return "model"


def work(seed: int, first: int, folder: Path) -> None:
    """Run cases from ``first`` on until nobody reads what came of them."""
    mutator = Mutator(seeds(folder))
    import dynq

    dynq.from_onnx(onnx.ModelProto.FromString(mutator.models[0]))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = first
    while True:
        model = mutator.case(seed, number)
        print(json.dumps([number]), flush=True)
        start = time.process_time()
        result = outcome(model)
        print(json.dumps([number, result, time.process_time() - start]), flush=True)
        number += 1


class Worker:
    def __init__(self, seed: int, first: int, folder: Path) -> None:
        self.current: int | None = None
        self.since = time.monotonic()
        command = [sys.executable, __file__, "--work", str(seed), str(first), str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.next = first


def campaign(seconds: float, seed: int, first: int, limit: float, out: Path, folder: Path) -> int:
    """Run cases for some time; the number of findings."""
    counts: Counter[str] = Counter()
    findings: dict[str, int] = {}
    slowest = 0.0
    mutator = Mutator(seeds(folder))

    def found(number: int, what: str) -> None:
        key = what.split(": ")[1] if what.startswith("wrong") else what
        findings[key] = findings.get(key, 0) + 1
        if findings[key] <= 3:
            out.mkdir(parents=True, exist_ok=True)
            path = out / f"{seed}-{number}.onnx"
            path.write_bytes(mutator.case(seed, number))
            print(f"case {number}: {what}\n  python tests/fuzz/run_import.py --file {path}", flush=True)

    end = time.monotonic() + seconds
    worker = Worker(seed, first, folder)
    while time.monotonic() < end:
        with selectors.DefaultSelector() as selector:
            assert worker.process.stdout is not None
            selector.register(worker.process.stdout, selectors.EVENT_READ)
            ready = selector.select(limit if worker.current is not None else 60)
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
        worker = Worker(seed, worker.next, folder)
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
    parser.add_argument("--limit", type=float, default=10, help="Seconds that one import may take.")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--file", type=Path, help="Import this file alone.")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        try:
            work(int(options.work[0]), int(options.work[1]), Path(options.work[2]))
        except BrokenPipeError:
            os._exit(0)
    elif options.file:
        print(outcome(options.file.read_bytes()))
    else:
        with tempfile.TemporaryDirectory(prefix="dynq-fuzz-") as folder:
            limits = options.seconds, options.seed, options.first, options.limit, options.out
            sys.exit(campaign(*limits, Path(folder)) > 0)


if __name__ == "__main__":
    main()
