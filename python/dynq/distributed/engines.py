"""Short ways to run a model in Ray Data, Spark, Dask and datasets, with each one's own means.

Spark ships the file to its workers; the others read a path that all see.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import MissingPackageError
from ..threads import get_num_threads
from .batches import MapBatches

__all__ = ["map_batches", "map_dataset", "map_in_pandas", "map_partitions", "predict_batch_udf"]


def map_batches(
    dataset: Any,
    model: str | os.PathLike[str],
    *,
    batch_size: int = 1024,
    workers: int = 1,
    cpus: float = 1,
    **options: Any,
) -> Any:
    """Return ``dataset``, a ray.data.Dataset, with the model's outputs as columns.

    Args:
        model: a path that each node sees.
        batch_size: rows that Ray hands over at a time.
        workers: the most actors that run the model, each with its share of the threads: ``cpus``. Ray begins with one,
            so that what makes the rows finds a free CPU too.
        options: those of MapBatches.
    """
    return dataset.map_batches(
        MapBatches,
        fn_constructor_args=(os.path.abspath(model),),
        fn_constructor_kwargs=options,
        batch_size=batch_size,
        batch_format="numpy",
        concurrency=(1, workers),
        num_cpus=cpus,
    )


def map_in_pandas(frame: Any, model: str | os.PathLike[str], schema: Any, **options: Any) -> Any:
    """Return ``frame``, a pyspark.sql.DataFrame, with the model's outputs as columns.

    Spark ships the file to its workers. ``schema`` is that of the result, such as ``"id long, y array<float>"``.
    ``options`` are those of MapBatches.
    """
    name = _add_file(frame.sparkSession, model)

    def run(frames: Iterator[Any]) -> Iterator[Any]:
        mapped = MapBatches(_spark_file(name), **options)
        for each in frames:
            yield mapped(each)

    return frame.mapInPandas(run, schema)


def predict_batch_udf(
    spark: Any,
    model: str | os.PathLike[str],
    *,
    return_type: Any,
    batch_size: int = 1024,
    input_tensor_shapes: Any = None,
    **options: Any,
) -> Any:
    """Return a function of Spark's columns, by pyspark.ml.functions.predict_batch_udf.

    Its arguments are the model's inputs in their order. The result is the model's only output, or a struct of them by
    name. Spark ships the file to its workers.
    """
    try:
        from pyspark.ml.functions import predict_batch_udf as make
        from pyspark.sql.types import DataType
    except ImportError as error:
        raise _missing(error, "spark") from error
    name = _add_file(spark, model)

    def make_predict() -> Callable[..., Any]:
        mapped = MapBatches(_spark_file(name), **options)
        inputs = mapped.runner().columns

        def predict(*columns: Any) -> Any:
            outputs = mapped.outputs(dict(zip(inputs, columns, strict=True)))
            return next(iter(outputs.values())) if len(outputs) == 1 else outputs

        # Spark counts the parameters of the function.
        names = [inspect.Parameter(f"input{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(inputs))]
        predict.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
        return predict

    if isinstance(return_type, str):
        return_type = DataType.fromDDL(return_type)
    return make(make_predict, return_type=return_type, batch_size=batch_size, input_tensor_shapes=input_tensor_shapes)


def map_partitions(frame: Any, model: str | os.PathLike[str], *, meta: Any = None, **options: Any) -> Any:
    """Return ``frame``, a dask.dataframe.DataFrame, with the model's outputs as columns.

    Args:
        model: a path that each worker sees.
        meta: an empty pandas.DataFrame with the columns and dtypes of the result. None: those of ``frame``, and the
            outputs as ``float32``, or ``object`` for those with more than one number in a row.
        options: those of MapBatches.
    """
    mapped = MapBatches(os.path.abspath(model), **options)
    text = [column for column in mapped.runner().columns if frame._meta.dtypes.get(column) == "string"]
    if text:
        raise TypeError(
            f"column {text[0]!r} is text; expected numbers or lists of them. Dask makes text of lists, unless "
            '{"dataframe.convert-string": False} is given to dask.config.set before the frame is made'
        )
    if meta is None:
        before = frame._meta if options.get("keep", True) else frame._meta[[]]
        meta = before.assign(**{name: np.empty(0, dtype) for name, dtype in mapped.runner().dtypes().items()})
    return frame.map_partitions(mapped, meta=meta)


def map_dataset(
    dataset: Any, model: str | os.PathLike[str], *, batch_size: int = 1024, num_proc: int | None = None, **options: Any
) -> Any:
    """Return ``dataset``, a datasets.Dataset, with the model's outputs as columns.

    ``num_proc`` processes share the threads that this one has. ``options`` are those of MapBatches.
    """
    if num_proc is not None and num_proc > 1:
        options = {"threads": max(1, get_num_threads() // num_proc), **options}
    mapped = MapBatches(os.path.abspath(model), **options)
    return dataset.map(mapped, batched=True, batch_size=batch_size, num_proc=num_proc)


def _add_file(spark: Any, model: str | os.PathLike[str]) -> str:
    path = os.path.abspath(model)
    spark.sparkContext.addFile(path)
    return os.path.basename(path)


def _spark_file(name: str) -> str:
    from pyspark import SparkFiles

    return str(SparkFiles.get(name))


def _missing(error: ImportError, extra: str) -> MissingPackageError:
    return MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[{extra}]'")
