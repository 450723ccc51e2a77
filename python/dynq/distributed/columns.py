"""Run a model on columns of rows: rows of one shape, or of several lengths that are sorted into runs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.arguments import FLOAT32, Array
from ..model import Model, ModelValue

__all__ = ["ColumnRunner"]

Rows = Array | list[Array]  # of one shape, or of several


class ColumnRunner:
    """Do what MapBatches does with a batch, without what is an engine's."""

    def __init__(
        self,
        model: Model,
        columns: Mapping[str, str | Sequence[str]] | None,
        outputs: Mapping[str, str] | None,
        batch_by_length: bool | str,
        pad: float | Mapping[str, float] | None,
        batch_rows: int,
        along: Iterable[str] | None,
    ) -> None:
        self._model = model
        self._inputs = {value.name: value for value in model.inputs}
        self._made = {value.name: value for value in model.outputs}
        self._columns = {name: name for name in self._inputs} | dict(columns or {})
        self._outputs = {name: name for name in self._made} | dict(outputs or {})
        self._by_length, self._pad, self._most = batch_by_length, pad, batch_rows
        if batch_rows < 1:
            raise ValueError(f"batch_rows is {batch_rows}; expected at least 1")
        checks: list[tuple[str, Iterable[str], Collection[str]]] = [
            ("columns", columns or {}, self._inputs),
            ("outputs", outputs or {}, self._made),
            ("pad", pad if isinstance(pad, Mapping) else {}, self._inputs),
            ("batch_by_length", [batch_by_length] if isinstance(batch_by_length, str) else [], self._inputs),
            ("along", along or [], self._made),
        ]
        for what, given, known in checks:
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"{what} has {unknown[0]!r}; expected names among {', '.join(known)}")
        for value in model.inputs:
            if not value.shape or isinstance(value.shape[0], int):
                raise ValueError(
                    f"input {value.name!r} has shape {value.shape}; its first size has to be open, for the rows of a "
                    "batch: make the model with an open batch"
                )
        self._along = None if along is None else set(along)

    @property
    def columns(self) -> list[str]:
        """The names of the columns that the inputs read, in the model's order."""
        return [name for read in self._columns.values() for name in ([read] if isinstance(read, str) else read)]

    def dtypes(self) -> dict[str, Any]:
        """Return the dtype of each output's column: object, unless a row has one number or nobody knows."""
        made = self._made
        return {
            column: made[name].dtype if len(made[name].shape or ()) == 1 else object
            for name, column in self._outputs.items()
        }

    def run(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs as columns: arrays if all rows have one shape, else arrays of arrays."""
        rows = {name: self._rows(name, batch) for name in self._inputs}
        counts = {name: len(column) for name, column in rows.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"the columns have different numbers of rows: {counts}")
        count = next(iter(counts.values()), 0)
        if count == 0:
            return {self._outputs[name]: np.empty(0, value.dtype or FLOAT32) for name, value in self._made.items()}
        if isinstance(self._by_length, str):
            rows = _trimmed(rows, self._by_length)
        results: dict[str, list[tuple[Array, Any]]] = {name: [] for name in self._outputs}
        for places in self._runs(rows, count):
            chosen = {name: _take(column, places) for name, column in rows.items()}
            padded, lengths = self._padded(chosen)
            for name, array in self._model.run(padded).items():
                if array.ndim == 0 or len(array) != len(places):
                    raise ValueError(
                        f"output {name!r} has shape {array.shape} for {len(places)} rows; expected a row for each"
                    )
                cut = self._cut(name, array, lengths)
                results[name].append((places, cut))
        return {self._outputs[name]: _in_place(count, parts) for name, parts in results.items()}

    def _rows(self, name: str, batch: Mapping[str, Any]) -> Rows:
        """Return the rows of an input, of its dtype."""
        wanted = self._columns[name]
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        if missing := [column for column in names if column not in batch]:
            raise ValueError(f"column {missing[0]!r} of input {name!r} is missing; the batch has {', '.join(batch)}")
        dtype = np.dtype(self._inputs[name].dtype)
        if not isinstance(wanted, str):
            parts = [_array(column, batch[column]) for column in names]
            return _converted(", ".join(names), np.stack(parts, axis=1), dtype)
        column = batch[wanted]
        if isinstance(column, np.ndarray) and column.dtype != object:
            return _converted(wanted, column, dtype)
        arrays = [_converted(wanted, _array(wanted, row), dtype) for row in column]
        return np.stack(arrays) if arrays and all(row.shape == arrays[0].shape for row in arrays) else arrays

    def _runs(self, rows: dict[str, Rows], count: int) -> Iterator[Array]:
        """Yield the places of the rows of each run."""
        ragged = [name for name, column in rows.items() if isinstance(column, list)]
        if not ragged:
            for start in range(0, count, self._most):
                yield np.arange(start, min(start + self._most, count))
            return
        if not self._by_length:
            raise ValueError(
                f"the rows of {self._columns[ragged[0]]!r} have different shapes; batch_by_length=True sorts them by "
                "length, and pad= lets rows of several lengths share a run"
            )
        shapes = [tuple(rows[name][i].shape for name in ragged) for i in range(count)]
        if bad := [i for i, shape in enumerate(shapes) if any(not dims for dims in shape)]:
            raise ValueError(f"row {bad[0]} of {self._columns[ragged[0]]!r} is a number; other rows are arrays")
        order = sorted(range(count), key=lambda i: (shapes[i], i))
        start = 0
        for i in range(1, count + 1):
            full = i - start == self._most
            if i == count or full or (self._pad is None and shapes[order[i]] != shapes[order[start]]):
                yield np.array(order[start:i])
                start = i

    def _padded(self, rows: dict[str, Rows]) -> tuple[dict[str, Array], Array | None]:
        """Return the inputs of a run, and the lengths of its rows before they were padded, if any was."""
        result: dict[str, Array] = {}
        lengths: Array | None = None
        for name, column in rows.items():
            if not isinstance(column, list):
                result[name] = column
                continue
            of_rows = np.array([len(row) for row in column])
            if len({row.shape[1:] for row in column}) > 1:
                raise ValueError(f"the rows of {self._columns[name]!r} differ in more than their length")
            if lengths is not None and not np.array_equal(of_rows, lengths):
                raise ValueError(f"the rows of {self._columns[name]!r} have other lengths than those of other columns")
            lengths = of_rows
            value = self._pad_of(name)
            array = np.full((len(column), int(of_rows.max()), *column[0].shape[1:]), value, column[0].dtype)
            for i, row in enumerate(column):
                array[i, : len(row)] = row
            result[name] = array
        return result, lengths

    def _pad_of(self, name: str) -> float:
        if not isinstance(self._pad, Mapping):
            return self._pad or 0
        if name not in self._pad:
            raise ValueError(f"pad has no number for {name!r}, whose rows have different lengths")
        return self._pad[name]

    def _cut(self, name: str, array: Array, lengths: Array | None) -> Any:
        """Return an output whose second axis is the padded length as rows of their own lengths."""
        if lengths is None or array.ndim < 2 or not self._has_length(name, array, int(lengths.max())):
            return array
        return [row[:length] for row, length in zip(array, lengths, strict=True)]

    def _has_length(self, name: str, array: Array, length: int) -> bool:
        if self._along is not None:
            return name in self._along
        if array.shape[1] != length:
            return False
        declared = self._made[name].shape
        size = declared[1] if declared is not None and len(declared) > 1 else None
        if size is None:
            raise ValueError(
                f"the model does not say whether the second size of output {name!r}, {length}, is the length of the "
                "rows; say it: along=[...] names the outputs for which it is"
            )
        return isinstance(size, str) and size in {_length_of(value) for value in self._inputs.values()}


def _length_of(value: ModelValue) -> int | str | None:
    """Return the second size of an input."""
    return value.shape[1] if value.shape is not None and len(value.shape) > 1 else None


def _trimmed(rows: dict[str, Rows], mask: str) -> dict[str, Rows]:
    """Cut each row behind the last number of its mask that is not 0, and the inputs that are as long."""
    full = [len(row) for row in rows[mask]]
    lengths = [int(np.flatnonzero(row)[-1]) + 1 if np.any(row) else 1 for row in rows[mask]]
    result: dict[str, Rows] = {}
    for name, column in rows.items():
        as_long = all(np.ndim(row) and len(row) == size for row, size in zip(column, full, strict=True))
        result[name] = [row[:n] for row, n in zip(column, lengths, strict=True)] if as_long else column
    return result


def _take(column: Rows, places: Array) -> Rows:
    return [column[i] for i in places] if isinstance(column, list) else column[places]


def _in_place(count: int, parts: list[tuple[Array, Any]]) -> Any:
    """Return the rows of all runs in the order of the batch."""
    first = parts[0][1][0]
    if all(np.shape(row) == first.shape for _, rows in parts for row in (rows if isinstance(rows, list) else rows[:1])):
        whole = np.empty((count, *first.shape), first.dtype)
        for places, rows in parts:
            whole[places] = rows
        return whole
    ragged = np.empty(count, object)
    for places, rows in parts:
        for place, row in zip(places, rows, strict=True):
            ragged[place] = row
    return ragged


def _array(column: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype == object and array.ndim == 1 and len(array):  # lists of lists, as Arrow gives them
        with contextlib.suppress(ValueError):
            array = np.stack([np.asarray(part) for part in array])
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise TypeError(f"column {column!r} holds {value!r:.60}; expected numbers, or lists of them, and no nulls")
    return array


def _converted(column: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return ``array`` as the input has it. Engines know float64 and int64 best, so wider numbers are taken.

    Floats are rounded to float32; integers have to fit.
    """
    if array.dtype == dtype:
        return array
    if dtype != FLOAT32 and array.dtype.kind == "f":
        raise TypeError(f"column {column!r} has dtype {array.dtype}; expected {dtype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if dtype != FLOAT32 and not np.array_equal(converted, array):
        raise ValueError(f"column {column!r} has numbers that {dtype} does not hold")
    return converted
