"""Mutated ONNX models."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError

import dynq
from tests.fuzz.mutations import FLOATS, INTEGERS, LARGEST, TEXTS, damaged
from tests.python.references import onnx_backend, onnx_models

IN_A_PROCESS = 100_000  # cases, at most


def seeds() -> list[bytes]:
    """Return the models that are mutated: those of the tests, and those of ONNX's own tests of operators."""
    models = [onnx_models.two_layers(), *(onnx_models.small_bert(opset) for opset in (11, 17, 21))]
    models += [case.model for _, case in sorted(onnx_backend.cases().items())]
    return [model.SerializeToString() for model in models]


def read(path: Path) -> None:
    """Import a file: as a model in memory if it is one."""
    try:
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        dynq.from_onnx(path)
    else:
        dynq.from_onnx(proto)


class Mutator:
    """Make case N of a seed: a model with some fields changed, or some bytes."""

    def __init__(self, models: list[bytes]) -> None:
        self.models = models
        self.ops = sorted({schema.name for schema in onnx.defs.get_all_schemas()})

    def case(self, seed: int, number: int) -> bytes:
        rng = random.Random(f"{seed}:{number}")
        model = rng.choice(self.models)
        if rng.random() < 0.2:
            return damaged(rng, model, self.models)
        proto = onnx.ModelProto.FromString(model)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 10])):
            self.mutate(rng, proto)
        try:
            result = proto.SerializeToString()
        except (EncodeError, ValueError):
            return model
        return result[:LARGEST]

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
        """Return a message of a kind from some model."""
        message: Any = onnx.ModelProto.FromString(rng.choice(self.models))
        for _ in range(20):
            if message.DESCRIPTOR.full_name == kind:
                return message
            inner = [value for _, value in self.parts(message)]
            if not inner:
                return None
            message = rng.choice(inner)
        return None
