"""Estimators of scikit-learn predict in int8 what they predict, and what is no good is refused."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, make_multilabel_classification, make_regression
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

import dynq


def fit(estimator: Any, X: Any, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


@pytest.fixture(scope="module")
def digits() -> Any:
    X, y = load_digits(return_X_y=True)
    names = np.array([f"digit {i}" for i in range(10)])
    return fit(make_pipeline(StandardScaler(), MLPClassifier((48, 32), max_iter=10, random_state=0)), X, names[y]), X


def test_a_classifier_predicts_its_own_classes(digits: Any) -> None:
    estimator, X = digits
    small = dynq.from_sklearn(estimator)
    assert np.mean(small.predict(X) == estimator.predict(X)) > 0.99
    np.testing.assert_allclose(small.predict_proba(X), estimator.predict_proba(X), atol=0.08)
    assert small.predict_proba(X).dtype == np.float32 and list(small.classes_) == list(estimator.classes_)
    assert {row.node for row in small.model.report().rows if row.quantized} == {"layer0", "layer1", "layer2"}


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-2, 1), clip=True),
        MaxAbsScaler(),
        RobustScaler(),
        "passthrough",
    ],
)
def test_two_classes_behind_each_scaler(scaler: Any) -> None:
    X, y = load_breast_cancer(return_X_y=True)  # features of 0.001 and of 1000
    estimator = fit(Pipeline([("scale", scaler), ("net", MLPClassifier((16,), max_iter=30, random_state=0))]), X, y)
    small = dynq.from_sklearn(estimator, quantize=False)
    strange = np.concatenate([X, 3 * X[:9], -X[:9]])  # beyond what the scaler has seen
    np.testing.assert_allclose(small.predict_proba(strange), estimator.predict_proba(strange), atol=1e-4)
    assert np.array_equal(small.predict(strange), estimator.predict(strange))
    int8 = dynq.from_sklearn(estimator)
    assert np.mean(int8.predict(X) == estimator.predict(X)) > 0.97


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_each_activation(activation: Any) -> None:
    X, y = load_digits(return_X_y=True)
    estimator = fit(MLPClassifier((32, 32), activation=activation, max_iter=5, random_state=0), X, y)
    small = dynq.from_sklearn(estimator, quantize=False)
    np.testing.assert_allclose(small.predict_proba(X), estimator.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("targets", [1, 3])
def test_regressors(targets: int) -> None:
    X, y = make_regression(200, 30, n_targets=targets, random_state=0)
    y = y / y.std()
    net = MLPRegressor(hidden_layer_sizes=(64,), max_iter=200, random_state=0)
    estimator = fit(make_pipeline(RobustScaler(), net), X, y)
    small = dynq.from_sklearn(estimator)
    assert small.predict(X).shape == y.shape
    assert np.abs(small.predict(X) - estimator.predict(X)).max() < 0.05
    with pytest.raises(AttributeError, match="a regressor has no predict_proba"):
        small.predict_proba(X)


def test_several_labels() -> None:
    X, y = make_multilabel_classification(200, random_state=0)
    estimator = fit(make_pipeline(MinMaxScaler(), MLPClassifier((64,), max_iter=100, random_state=0)), X, y)
    small = dynq.from_sklearn(estimator)
    assert np.mean(small.predict(X) == estimator.predict(X)) > 0.99
    np.testing.assert_allclose(small.predict_proba(X), estimator.predict_proba(X), atol=0.05)


def test_it_pickles_and_its_file_has_the_scaler(digits: Any, tmp_path: Path) -> None:
    estimator, X = digits
    small = dynq.from_sklearn(estimator, keep_float="layer2")
    again = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(again.predict_proba(X), small.predict_proba(X))
    small.model.save(tmp_path / "m.dynq")
    np.testing.assert_array_equal(dynq.load(tmp_path / "m.dynq")(X.astype(np.float32)), small.predict_proba(X))


class Sparse:
    def toarray(self) -> Any: ...


@pytest.mark.parametrize(
    ("X", "error", "text"),
    [
        (np.zeros(64), ValueError, r"X has shape \(64,\); expected \(rows, 64\)"),
        (np.zeros((2, 3)), ValueError, r"X has shape \(2, 3\); expected \(rows, 64\)"),
        (np.full((2, 64), np.nan), ValueError, "X holds a NaN"),
        (np.full((2, 64), 1e300), ValueError, "a number that float32 does not hold"),
        (np.full((2, 64), "1"), TypeError, "X has dtype <U1; expected numbers"),
        (Sparse(), TypeError, r"X is sparse \(Sparse\).*toarray"),
    ],
)
def test_wrong_rows_are_refused(digits: Any, X: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        dynq.from_sklearn(digits[0]).predict(X)


def test_other_columns_are_refused(digits: Any) -> None:
    class Frame:
        columns = ("b", "a")

    small = dynq.from_sklearn(digits[0])
    small.feature_names_in_ = np.array(["a", "b"], object)
    with pytest.raises(ValueError, match="X has the columns b, a; expected a, b"):
        small.predict(Frame())


class OwnScaler(StandardScaler):
    """May scale in any way."""


def test_other_steps_are_listed_and_unfitted_ones_named() -> None:
    pipeline = make_pipeline(OwnScaler(), PCA(2), StandardScaler(), LogisticRegression())
    with pytest.raises(dynq.UnsupportedModelError) as caught:
        dynq.from_sklearn(pipeline)
    assert [line.strip() for line in str(caught.value).splitlines()] == [
        "Pipeline holds what dynq does not support:",
        "OwnScaler where dynq takes a scaler: ownscaler",
        "PCA where dynq takes a scaler: pca",
        "LogisticRegression where dynq takes MLPClassifier or MLPRegressor: logisticregression",
    ]
    with pytest.raises(ValueError, match=r"standardscaler \(StandardScaler\) is not fitted"):
        dynq.from_sklearn(make_pipeline(StandardScaler(), MLPClassifier()))
    with pytest.raises(ValueError, match=r"estimator \(MLPRegressor\) is not fitted"):
        dynq.from_sklearn(MLPRegressor())
    with pytest.raises(dynq.UnsupportedModelError, match="int where dynq takes MLPClassifier"):
        dynq.from_sklearn(3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[3] / "docs/sklearn.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(re.findall(r"```python\n(.+?)```", text, re.DOTALL)[0], "docs/sklearn.md", "exec"), names)
    assert np.mean(names["digits"] == names["y"][1200:]) > 0.85 and names["probabilities"].shape == (597, 10)
    assert (tmp_path / "digits.dynq").exists()
