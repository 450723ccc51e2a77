"""Ops of ONNX that dynq does not read, each with the reason."""

from __future__ import annotations

__all__ = ["REASONS"]

_GROUPS = {
    "texts, for which dynq has no type": """
        RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer
        ai.onnx.ml.CastMap ai.onnx.ml.CategoryMapper ai.onnx.ml.DictVectorizer
    """,
    "sequences and optional values, for which dynq has no type": """
        ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty
        SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence
    """,
    "compressed images, which a library for images decodes": "ImageDecoder",
    "random choices, which differ in each run": "Multinomial",
    "a preview, whose form may still change": "ai.onnx.preview.FlexAttention",
    "steps of training": """
        ai.onnx.preview.training.Adagrad ai.onnx.preview.training.Adam ai.onnx.preview.training.Gradient
        ai.onnx.preview.training.Momentum
    """,
    "bits of one type as those of another": "BitCast",
    "an operation that dynq has no kernel for": """
        DeformConv MaxRoiPool TensorScatter
        ai.onnx.ml.SVMClassifier ai.onnx.ml.SVMRegressor
    """,
}
# What an op works with, by its name, that of ONNX's other domains before it.
REASONS = {op: reason for reason, ops in _GROUPS.items() for op in ops.split()}
