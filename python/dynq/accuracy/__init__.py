"""What quantization does to a model: a report of its layers, and which of them cost its accuracy."""

from .analysis import Analysis, LayerRow, OutputRow, analyze
from .culprits import Culprits, MetricError, Trial, find_culprits

__all__ = ["Analysis", "Culprits", "LayerRow", "MetricError", "OutputRow", "Trial", "analyze", "find_culprits"]
