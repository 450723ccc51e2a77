"""Mutated files of torch.export.save."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

import dynq
from tests.fuzz.mutations import FLOATS, INTEGERS, TEXTS, damaged

IN_A_PROCESS = 300  # cases, at most; PyTorch keeps some of each file that it reads


class Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv1d(4, 8, 3)
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        h = torch.relu(self.convolution(x)).transpose(1, 2)
        return {"y": self.linear(h).softmax(-1).sum(1), "z": h.reshape(h.shape[0], -1)[:, :3]}


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 8)
        self.cells = torch.nn.LSTM(8, 6, batch_first=True)

    def forward(self, ids: Any) -> Any:
        y, (h, _) = self.cells(self.embedding(ids))
        return torch.cat([y, h.transpose(0, 1).expand(-1, y.shape[1], -1)], 2)


def seeds() -> list[bytes]:
    """Return the files that are mutated."""
    torch.manual_seed(0)
    auto = torch.export.Dim.AUTO
    cases: list[tuple[torch.nn.Module, Any, Any]] = [
        (Layers(), torch.ones(2, 4, 9), ({0: auto, 2: auto},)),
        (Layers(), torch.ones(2, 4, 9), None),
        (Recurrent(), torch.ones(2, 5, dtype=torch.int64), ({0: auto},)),
    ]
    files = []
    for module, example, shapes in cases:
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=shapes), file)
        files.append(file.getvalue())
    return files


def read(path: Path) -> None:
    """Import a file, as one of a stranger."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynq.from_torch(path)


class Mutator:
    """Make case N of a seed: values of the JSON in the archive changed, entries changed, or any bytes."""

    def __init__(self, models: list[bytes]) -> None:
        self.models = models
        self.parts: list[Any] = []  # of all JSON texts, to put in place of others
        for model in models:
            for name, content in _entries(model):
                if name.endswith(".json"):
                    self.parts += [value for owner, key in _places(json.loads(content)) for value in [owner[key]]]

    def case(self, seed: int, number: int) -> bytes:
        rng = random.Random(f"{seed}:{number}")
        model = rng.choice(self.models)
        if rng.random() < 0.1:
            return damaged(rng, model, self.models)
        entries = _entries(model)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 5])):
            at = rng.randrange(len(entries))
            if rng.random() < 0.8:  # the program has most of what can be wrong
                at = next(i for i, (name, _) in enumerate(entries) if name.endswith("models/model.json"))
            name, content = entries[at]
            entries[at] = name, self.content(rng, name, content)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return file.getvalue()

    def content(self, rng: random.Random, name: str, content: bytes) -> bytes:
        """Return an entry with something changed."""
        try:
            tree = json.loads(content)
        except ValueError:
            return damaged(rng, content, [content, b"\0" * 64]) if content else rng.randbytes(8)
        places = _places(tree)
        if places:
            owner, key = rng.choice(places)
            kind = rng.randrange(4)
            if kind == 0:
                del owner[key]
            elif kind == 1:
                owner[key] = rng.choice(self.parts)
            elif kind == 2:
                owner[key] = rng.choice([*INTEGERS, *FLOATS[1:6], *TEXTS, None, True, [], {}])
            else:  # another value of the same kind
                like = [part for part in rng.choices(self.parts, k=50) if type(part) is type(owner[key])]
                owner[key] = rng.choice(like or self.parts)
        return json.dumps(tree).encode()


def _entries(model: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return all lists and objects of a JSON value with each of their keys."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    places = [(tree, key) for key in keys]
    for key in keys:
        places += _places(tree[key])
    return places
