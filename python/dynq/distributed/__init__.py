"""Run a model over data sets that lie in many processes or machines: Ray, Spark, Dask and datasets. docs/scaling.md."""

from .batches import MapBatches
from .engines import map_batches, map_dataset, map_in_pandas, map_partitions, predict_batch_udf

__all__ = ["MapBatches", "map_batches", "map_dataset", "map_in_pandas", "map_partitions", "predict_batch_udf"]
