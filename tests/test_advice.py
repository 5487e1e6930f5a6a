"""Errors say which model or method takes what was given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch.utils.data import DataLoader, TensorDataset

from skgen import VAE, MixedDensity, MixtureEM
from tests.estimators import ONE_OF_EACH, class_name, features, fitted

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
X = features(20)


def message_of(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        call(*args)
    return str(caught.value)


def with_text() -> Any:
    return pd.DataFrame(X, columns=list("abcde")).assign(name=["a", "b"] * 10)


NO_NUMBERS: dict[str, Any] = {
    "text": with_text,
    "categories": lambda: with_text().astype({"name": "category"}),
    "objects": lambda: np.full(X.shape, "a", dtype=object),
    "missing text": lambda: with_text().assign(name=None),
    "times": lambda: pd.DataFrame({"t": pd.date_range("2020", periods=20), "x": 1.0}),
    "pandas.NA": lambda: pd.DataFrame({"x": [pd.NA, 1] * 10}, dtype=object),
}


@one_of_each
def test_missing_cells_and_text_name_the_model_that_takes_them(estimator: Any) -> None:
    holes = X.copy()
    holes[2, 3] = np.nan
    fit = clone(estimator).fit
    for rows in (holes, pd.DataFrame(holes), holes.astype(np.float32)):
        if not fitted(estimator)._allows_missing:
            message = message_of(fit, rows)
            assert "contains NaN" in message
            assert "MixedDensity" in message
            assert "HistGradient" not in message
    for case in ("text", "categories", "objects"):
        assert "MixedDensity" in message_of(fit, NO_NUMBERS[case]())


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_tables_of_other_kinds_name_mixed_density(case: str) -> None:
    assert "MixedDensity" in message_of(VAE(2, random_state=0).fit, NO_NUMBERS[case]())


@one_of_each
@pytest.mark.parametrize("shape", [(20, 8, 8), (20, 8, 8, 3)])
def test_images_name_the_way_to_rows(estimator: Any, shape: tuple[Any, ...]) -> None:
    images = np.zeros(shape)
    for rows in (images, torch.tensor(images), images[:3].tolist()):
        message = message_of(clone(estimator).fit, rows)
        assert "X.reshape(len(X), -1)" in message
        assert "image_shape" in message
        assert f"dim {len(shape)}" in message


@one_of_each
def test_batches_name_partial_fit(estimator: Any) -> None:
    data = TensorDataset(torch.tensor(X))
    for batches in (DataLoader(data), iter(X), (x for x in X), data):
        model = clone(estimator)
        message = message_of(model.fit, batches)
        assert type(batches).__name__ in message
        expected = "partial_fit" if hasattr(model, "partial_fit") else "concatenate"
        assert expected in message


def test_a_mixture_has_no_partial_fit_to_name() -> None:
    assert "partial_fit" not in message_of(MixtureEM().fit, iter(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_just_outside_the_range_is_told_from_its_end(dtype: type[Any]) -> None:
    rows = np.zeros((9, 2), dtype)
    rows[1, 1] = 1 + 2.4e-7
    message = message_of(VAE(1, likelihood="bernoulli").fit, rows)
    assert "max value 1.0000002" in message


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_model_without_impute_names_the_one_that_has_it(likelihood: Any) -> None:
    model = VAE(1, likelihood=likelihood)
    assert not hasattr(model, "impute")
    with pytest.raises(AttributeError, match=r"VAE has no impute.*MixedDensity\(VAE"):
        _ = model.impute
    assert callable(MixedDensity(model).impute)
    assert VAE.impute.__name__ == "impute"


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_an_image_shape_of_other_rows_is_refused(architecture: Any) -> None:
    model = VAE(1, architecture=architecture, image_shape=(8, 9), random_state=0)
    message = message_of(model.fit, np.zeros((9, 64)))
    assert "image_shape=(8, 9)" in message
    assert "64" in message
