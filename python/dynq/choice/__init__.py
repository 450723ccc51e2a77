"""Choose how each layer is quantized by the error that this brings to the model's outputs. docs/numerics.md has the
rule.
"""
