"""scikit-learn's own checks, over every estimator."""

from collections.abc import Callable
from typing import Any

import pytest
import sklearn
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import skgen
from tests.estimators import (
    BY_CODE,
    CHECKED,
    ESTIMATORS,
    EXPECTED_FAILED_CHECKS,
    IMPLICIT,
    IMPLICIT_VARIANTS,
    VARIANTS,
    features,
    is_bernoulli,
    is_dynamic,
    is_image,
    is_sparse,
    name_of,
)

# Few iterations, and rows that repeat, on purpose.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:Components of:UserWarning",
)

# What `check_estimator` leaves out.
BY_NAME = [
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_dataframe_column_names_consistency",
    "check_n_features_in_after_fitting",
    "check_estimators_partial_fit_n_features",
    "check_inplace_ensure_writeable",
]


def test_every_estimator_is_listed() -> None:
    classes = {name for name in skgen.__all__ if isinstance(getattr(skgen, name), type)}
    # These have checks in files of their own.
    around = {"ConditionalVAE", "GenerativePipeline", "MixedDensity"}
    around |= {"GenerativeClassifier", "GenerativeOverSampler", "Diffusion"}
    assert classes - around <= {*VARIANTS, *IMPLICIT_VARIANTS}


@parametrize_with_checks(
    [*CHECKED, *IMPLICIT],
    expected_failed_checks=EXPECTED_FAILED_CHECKS,
    xfail_strict=True,
)
def test_check_estimator(estimator: Any, check: Callable[..., Any]) -> None:
    check(estimator)


# The checks of set_output fit on frames and transform arrays, on purpose.
@pytest.mark.filterwarnings(
    "ignore:X (has|does not have valid) feature names:UserWarning"
)
@pytest.mark.parametrize("estimator", BY_CODE, ids=name_of)
@pytest.mark.parametrize("check", BY_NAME)
def test_check_by_name(estimator: Any, check: str) -> None:
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "estimator",
    [
        *(
            e
            for e in ESTIMATORS
            if not (is_bernoulli(e) or is_dynamic(e) or is_image(e))
        ),
        *IMPLICIT,
    ],
    ids=name_of,
)
def test_docstring_names_every_fitted_attribute(estimator: Any) -> None:
    model = clone(estimator).fit(features())
    public = {name for name in vars(model) if name.endswith("_") and name[0] != "_"}
    documented: Any = type(model).__doc__
    missing = {n for n in {*public, "feature_names_in_"} if f"{n} :" not in documented}
    assert not missing


@pytest.mark.parametrize("container", ["pandas", "polars"])
@pytest.mark.parametrize("estimator", [e for e in CHECKED if is_sparse(e)], ids=name_of)
def test_sparse_codes_refuse_data_frames(estimator: Any, container: str) -> None:
    model = clone(estimator).fit(features())
    with pytest.raises(ValueError, match="outputs a scipy sparse matrix"):
        model.set_output(transform=container).transform(features())
    with (
        sklearn.config_context(transform_output=container),
        pytest.raises(ValueError, match="outputs a scipy sparse matrix"),
    ):
        clone(estimator).fit_transform(features())
