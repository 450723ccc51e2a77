"""The callable that Ray, Dask, Spark and datasets call with batches."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.mapped import file_identity
from ..model import Model, load
from ..threads import set_num_threads
from .columns import ColumnRunner

__all__ = ["MapBatches"]


class MapBatches:
    """Run a model on batches of columns: for ``ray.data.Dataset.map_batches``, Dask, ``datasets.Dataset.map``.

    A batch is a mapping of names to arrays or lists, or a pandas.DataFrame; the outputs come back as columns of the
    same kind, beside those of the batch. Floats of columns become float32; integers have to fit the input.

    Args:
        model: the path of a ``.dynq`` file that every worker sees, or a Model. A path is opened at the first batch:
            once in a process, which shares the mapping.
        columns: for each input the name of its column, or a list of columns that are its second axis. Inputs that are
            not there have columns of their own names.
        outputs: the names of the columns for outputs. Others have the names of the outputs.
        batch_by_length: if True, rows may have different lengths, and are sorted by them. The name of an input that
            is a mask: rows are cut behind its last number that is not 0 first, such as those that a tokenizer padded.
        pad: the number that rows are padded with, for all inputs or by name, so that rows of several lengths share a
            run. The model has to leave out what is padded, by its mask. None: only rows of equal lengths share a run.
        batch_rows: the most rows of a run.
        along: the outputs whose second axis is the length of the rows, which are cut to it again. None: as the model
            declares it.
        threads: how many threads each process uses. None: what the engine's ``OMP_NUM_THREADS`` says.
        keep: if False, only the outputs come back.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        outputs: Mapping[str, str] | None = None,
        batch_by_length: bool | str = False,
        pad: float | Mapping[str, float] | None = None,
        batch_rows: int = 64,
        along: Iterable[str] | None = None,
        threads: int | None = None,
        keep: bool = True,
    ) -> None:
        self._source = model if isinstance(model, Model) else os.fspath(model)
        self._options = (columns, outputs, batch_by_length, pad, batch_rows, None if along is None else tuple(along))
        self._threads, self._keep = threads, keep
        self._runner: ColumnRunner | None = None

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the outputs."""
        if hasattr(batch, "iloc"):  # pandas.DataFrame
            found = self.outputs({str(name): _of_series(batch[name]) for name in batch.columns})
            kept = batch if self._keep else batch[[]]
            return kept.assign(**{name: _to_series(array) for name, array in found.items()})
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"a batch is of type {type(batch).__name__}; expected a mapping of names to arrays, or a "
                'pandas.DataFrame: batch_format="numpy" in Ray, batched=True in datasets'
            )
        found = self.outputs(batch)
        return {**batch, **found} if self._keep else found

    def outputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs alone, by the names of their columns."""
        return self.runner().run(batch)

    def runner(self) -> ColumnRunner:
        """Return what runs the model; it opens the model the first time."""
        if self._runner is None:
            if self._threads is not None:
                set_num_threads(self._threads)
            source = self._source
            model = source if isinstance(source, Model) else _kept(source, file_identity(source))
            self._runner = ColumnRunner(model, *self._options)
        return self._runner

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runner": None}  # each process opens the file itself


@functools.lru_cache(maxsize=8)
def _kept(path: str, identity: tuple[int, ...]) -> Model:
    """Open a file for the rest of the process: engines make the callable anew for each task."""
    return load(path)


def _of_series(series: Any) -> Any:
    return list(series) if series.dtype == object else series.to_numpy()


def _to_series(array: Any) -> Any:
    return array if array.ndim == 1 else list(array)
