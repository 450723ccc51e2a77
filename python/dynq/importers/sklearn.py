"""Import scikit-learn: multi-layer perceptrons, and pipelines of scalers that end in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.arguments import Array
from ..errors import MissingPackageError, UnsupportedModelError
from ..graph import Graph
from ..graph.build import build
from ..ir.values import Value
from ..model import Model
from ..quantization.options import BuildOptions, GivenOptions, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SklearnEstimator", "from_sklearn"]

_ACTIVATIONS = {"identity": None, "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
_OUTPUTS = ("identity", "logistic", "softmax", "exp")
_SAMPLES = 64  # made-up rows, with the features' own means and scales


class SklearnEstimator:
    """A multi-layer perceptron of scikit-learn in int8, with its ``predict``.

    Attributes:
        model: the dynq.Model, from input "x" (batch, features) to output "y": ``model.save`` writes it.
        classes_: the classes, as scikit-learn's estimator has them; None of a regressor.
        n_features_in_: how many features a row has.
        feature_names_in_: the names of features if the estimator was fitted with a DataFrame, else None.
    """

    def __init__(self, model: Model, first: Any, perceptron: Any) -> None:
        self.model = model
        self.classes_: Any = getattr(perceptron, "classes_", None)
        self.n_features_in_ = int(first.n_features_in_)
        self.feature_names_in_: Array | None = getattr(first, "feature_names_in_", None)
        self._multilabel = self.classes_ is not None and _is_multilabel(perceptron)

    def predict(self, X: Any) -> Array:
        """Return a class, or the values of a regressor in float32, for each row of ``X`` (rows, features).

        Labels of a multilabel classifier are 0 and 1, (rows, classes).

        Raises:
            TypeError, ValueError: ``X`` is no matrix of finite numbers of that many features.
        """
        y = self._run(X)
        if self.classes_ is None:
            return y[:, 0] if y.shape[1] == 1 else y
        if self._multilabel:
            return (y > 0.5).astype(np.int64)
        places = (y[:, 0] > 0.5).astype(np.intp) if y.shape[1] == 1 else y.argmax(axis=1)
        chosen: Array = np.asarray(self.classes_)[places]
        return chosen

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, float32 (rows, classes), for each row of ``X`` (rows, features).

        Raises:
            AttributeError: the estimator is a regressor.
            TypeError, ValueError: ``X`` is no matrix of finite numbers of that many features.
        """
        if self.classes_ is None:
            raise AttributeError("a regressor has no predict_proba")
        y = self._run(X)
        return np.hstack([1 - y, y]) if y.shape[1] == 1 and not self._multilabel else y

    def _run(self, X: Any) -> Array:
        if hasattr(X, "toarray"):
            raise TypeError(f"X is sparse ({type(X).__name__}); expected a dense array: X.toarray() makes one")
        names = getattr(X, "columns", None)
        if self.feature_names_in_ is not None and names is not None and list(names) != list(self.feature_names_in_):
            raise ValueError(
                f"X has the columns {', '.join(map(str, names))}; expected {', '.join(self.feature_names_in_)}"
            )
        x = np.asarray(X)
        if x.dtype.kind not in "biuf":
            raise TypeError(f"X has dtype {x.dtype}; expected numbers")
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise ValueError(f"X has shape {x.shape}; expected (rows, {self.n_features_in_})")
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(x).all():
            raise ValueError("X holds a NaN, an infinity, or a number that float32 does not hold")
        return self.model.run({"x": x})["y"]


@takes_options
def from_sklearn(estimator: Any, **options: Unpack[GivenOptions]) -> SklearnEstimator:
    """Make an estimator in int8 of a fitted one of scikit-learn.

    That is an MLPClassifier or MLPRegressor, or a Pipeline that ends in one. Its other steps are StandardScaler,
    MinMaxScaler, MaxAbsScaler or RobustScaler, which stay float32. Without ``samples``, what the layers become is tried
    on made-up rows with the means and scales of the scalers.

    Args:
        estimator: the fitted estimator; it stays as it is.
        options: those of BuildOptions.

    Raises:
        ValueError: the estimator is not fitted.
        UnsupportedModelError: it has other steps; the error lists all of them.
    """
    chosen = BuildOptions.of(options)
    scalers, perceptron = _steps(estimator)
    first = (*scalers, perceptron)[0]
    features = int(first.n_features_in_)
    if chosen.samples is None and scalers:
        chosen = BuildOptions.of({**options, "samples": [{"x": _made_up(scalers, features)}]})
    graph = Graph("sklearn")
    value = graph.input("x", ("batch", features))
    for scaler in scalers:
        value = _scale(graph, value, scaler)
    return SklearnEstimator(build(graph, ({"y": _layers(graph, value, perceptron)},), chosen), first, perceptron)


def _steps(estimator: Any) -> tuple[list[Any], Any]:
    """Return the scalers and the perceptron of an estimator, all of them fitted."""
    try:
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
    except ImportError as error:
        raise MissingPackageError(f"{error.name} is missing; install it: pip install 'dynq[sklearn]'") from error
    named = list(estimator.steps) if isinstance(estimator, Pipeline) else [("estimator", estimator)]
    named = [(name, step) for name, step in named if step is not None and not isinstance(step, str)]
    known: Any = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
    perceptrons = (MLPClassifier, MLPRegressor)
    problems: dict[str, list[str]] = {}
    for at, (name, step) in enumerate(named):
        last = at == len(named) - 1
        if type(step) not in (perceptrons if last else known):
            expected = "MLPClassifier or MLPRegressor" if last else "a scaler"
            problems.setdefault(f"{type(step).__name__} where dynq takes {expected}", []).append(name)
        elif last and not (
            step.activation in _ACTIVATIONS and getattr(step, "out_activation_", "identity") in _OUTPUTS
        ):
            problems.setdefault(f"activation {step.activation!r}", []).append(name)
    if not named:
        problems["no step"] = ["the pipeline"]
    if problems:
        lines = [f"  {reason}: {', '.join(names)}" for reason, names in problems.items()]
        text = "\n".join([f"{type(estimator).__name__} holds what dynq does not support:", *lines])
        raise UnsupportedModelError(text, problems)
    for name, step in named:
        if not hasattr(step, "n_features_in_") or (step is named[-1][1] and not hasattr(step, "coefs_")):
            raise ValueError(f"{name} ({type(step).__name__}) is not fitted; call fit first")
    return [step for _, step in named[:-1]], named[-1][1]


def _is_multilabel(perceptron: Any) -> bool:
    """Tell whether each class is a yes or no of its own."""
    return bool(perceptron.out_activation_ == "logistic" and perceptron.n_outputs_ > 1)


def _affine(scaler: Any) -> tuple[Any, Any, Any]:
    """Return what a scaler takes from each feature, what it multiplies by then, and what it adds; None: nothing."""
    if hasattr(scaler, "min_"):  # MinMaxScaler: X * scale_ + min_
        return None, scaler.scale_, scaler.min_
    less = scaler.mean_ if getattr(scaler, "with_mean", False) else getattr(scaler, "center_", None)
    return less, None if scaler.scale_ is None else 1 / scaler.scale_, None


def _scale(graph: Graph, x: Value, scaler: Any) -> Value:
    less, factor, more = (None if part is None else np.asarray(part, np.float32) for part in _affine(scaler))
    x = x if less is None else x - less
    x = x if factor is None else x * factor
    x = x if more is None else x + more
    if getattr(scaler, "clip", False):
        low, high = scaler.feature_range if hasattr(scaler, "min_") else (-1, 1)
        x = graph.node("Clip", [x, np.float32(low), np.float32(high)])
    return x


def _layers(graph: Graph, x: Value, perceptron: Any) -> Value:
    last = len(perceptron.coefs_) - 1
    for at, (weight, bias) in enumerate(zip(perceptron.coefs_, perceptron.intercepts_, strict=True)):
        activation: Any = _ACTIVATIONS[perceptron.activation]
        if at == last:
            activation = "sigmoid" if perceptron.out_activation_ == "logistic" else None
        w = np.ascontiguousarray(np.asarray(weight, np.float32).T)
        x = graph.linear(x, w, np.asarray(bias, np.float32), activation=activation, name=f"layer{at}")
    if perceptron.out_activation_ == "softmax":
        return graph.softmax(x)
    return graph.node("Exp", [x]) if perceptron.out_activation_ == "exp" else x


def _made_up(scalers: list[Any], features: int) -> Array:
    """Return rows, float32 (_SAMPLES, features), that the scalers make normal ones of."""
    x: Any = np.random.default_rng(0).standard_normal((_SAMPLES, features))
    for scaler in reversed(scalers):
        less, factor, more = _affine(scaler)
        x = x if more is None else x - more
        x = x if factor is None else x / factor
        x = x if less is None else x + less
    made: Array = np.asarray(x, np.float32)
    return made
