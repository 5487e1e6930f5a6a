"""Reports of synthetic tables: what each measure says of tables that are known."""

from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import ks_2samp, norm, spearmanr
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity

import skgen.metrics.tables as module
from skgen import GaussianDensity
from skgen.display import TableReportDisplay
from skgen.metrics import classification_accuracy_score, table_report


def people(n: int = 300, seed: int = 0, holes: Any = 0.1) -> Any:
    """Draw rows of five kinds of columns that hang together, with holes."""
    rng = np.random.RandomState(seed)
    group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(30 * group + rng.rand(n), "D")
    table = pd.DataFrame(
        {
            "income": np.exp(group + 0.3 * rng.randn(n)),
            "age": 20.0 + 20 * group + 5 * rng.randn(n),
            "visits": rng.poisson(1 + 3 * group),
            "ward": np.array(["surgery", "medicine", "other"])[group],
            "insured": rng.rand(n) < 0.2 + 0.3 * group,
            "since": days,
        }
    )
    table["ward"] = table["ward"].astype("category")
    return table.mask(rng.rand(*table.shape) < holes)


CHEAP = ["column_shape", "pair_trend", "closest_record"]
REAL, FRESH, HELD = (people(seed=seed) for seed in range(3))


def whole(report: Any) -> Any:
    """Rows of the table as a whole, by measure."""
    return report[report["column"].isna()].set_index("measure")


def report(*tables: Any, **options: Any) -> Any:
    return whole(table_report(*tables, random_state=0, **options))


@pytest.fixture(scope="module")
def fresh() -> Any:
    return table_report(REAL, FRESH, HELD, random_state=0)


def test_fresh_rows_are_as_good_as_held_out_ones(fresh: Any) -> None:
    found = whole(fresh)
    for measure in ("column_shape", "pair_trend"):
        value, reference = found.loc[measure, ["value", "reference"]]
        assert value > 0.8
        assert value == pytest.approx(reference, abs=0.05)
    score, error = found.loc["two_sample", ["value", "standard_error"]]
    assert score > 1 - 3 * error
    value, reference = found.loc["efficacy", ["value", "reference"]]
    assert value == pytest.approx(reference, abs=0.1)
    share, error = found.loc["closest_record_share", ["value", "standard_error"]]
    assert share == pytest.approx(0.5, abs=3 * error)
    value, reference = found.loc["closest_record", ["value", "reference"]]
    assert value == pytest.approx(reference, rel=0.25)


def test_a_report_has_a_row_for_each_column_and_pair(fresh: Any) -> None:
    d = REAL.shape[1]
    counts = fresh["measure"].value_counts()
    assert counts["column_shape"] == counts["efficacy"] == d + 1
    assert counts["pair_trend"] == d * (d - 1) // 2 + 1
    shapes = fresh[fresh["measure"] == "column_shape"]
    assert list(shapes["column"]) == [None, *REAL.columns]
    parts = shapes["value"][1:]
    assert shapes["value"].iloc[0] == pytest.approx(parts.mean())


def test_shuffled_columns_keep_their_shapes_and_lose_their_trends() -> None:
    rng = np.random.RandomState(0)
    shuffled = REAL.apply(lambda x: x.sample(frac=1, random_state=rng).to_numpy())
    shuffled["ward"] = shuffled["ward"].astype("category")
    found = report(REAL, shuffled, HELD, measures=["column_shape", "pair_trend"])
    assert found.loc["column_shape", "value"] == pytest.approx(1)
    value, reference = found.loc["pair_trend", ["value", "reference"]]
    assert value < reference - 0.1
    assert report(REAL, shuffled, measures=["two_sample"])["value"].item() < 0.5


def test_copies_of_training_rows_are_closer_to_them() -> None:
    found = report(REAL, REAL[:150], HELD, measures=["closest_record"])["value"]
    assert found["closest_record"] == 0
    assert found["closest_record_share"] > 0.95
    assert found["copied_rows"] == 1


def test_noise_on_copies_does_not_hide_them() -> None:
    rng = np.random.RandomState(0)
    real, held = rng.randn(2, 300, 4)
    noisy = real + 0.05 * rng.randn(300, 4)
    found = report(real, noisy, held, measures=["closest_record"])["value"]
    assert found["closest_record_share"] > 0.9
    assert found["copied_rows"] == 0


def test_rows_of_levels_that_are_equal_by_chance_are_no_copies() -> None:
    real, synthetic, held = np.random.RandomState(0).choice(["a", "b"], (3, 200, 3))
    found = report(real, synthetic, held, measures=["closest_record"])
    assert found.loc["closest_record_share", "value"] == 0.5
    value, reference = found.loc["copied_rows", ["value", "reference"]]
    assert value == reference == 1


def test_the_share_does_not_depend_on_how_many_rows_were_held_out() -> None:
    real, synthetic, held = people(600, 5), people(300, 6), people(100, 7)
    found = report(real, synthetic, held, measures=["closest_record"])
    share, error = found.loc["closest_record_share", ["value", "standard_error"]]
    assert share == pytest.approx(0.5, abs=3 * error)


# Memorisation.


def test_a_density_that_memorises_is_flagged_and_another_is_not() -> None:
    rng = np.random.RandomState(0)
    real, held = rng.randn(2, 200, 2)
    for model, flagged in [
        (KernelDensity(bandwidth=0.02).fit(real), True),
        (GaussianDensity().fit(real), False),
    ]:
        found = report(real, held, held, model=model, measures=["memorisation"])
        value, error = found.loc["memorisation", ["value", "standard_error"]]
        assert (value > 4 * error) == flagged
        assert (value > 1) == flagged


def test_what_is_expected_at_a_place_makes_the_error_smaller() -> None:
    rng = np.random.RandomState(0)
    real, held = rng.randn(2, 400, 3)
    model = GaussianDensity().fit(rng.randn(400, 3))
    found = report(real, held, held, model=model, measures=["memorisation"])
    value, error = found.loc["memorisation", ["value", "standard_error"]]
    scores = [model.score_samples(x) for x in (real, held)]
    assert error < 0.5 * np.sqrt(sum(x.var() / len(x) for x in scores))
    assert abs(value) < 3 * error


# Closed forms.


def test_the_shape_of_numbers_is_that_of_kolmogorov_and_smirnov() -> None:
    x, y = np.random.RandomState(0).randn(2, 50)
    found = report(x[:, None], y[:30, None], measures=["column_shape"])["value"]
    assert found.item() == pytest.approx(1 - ks_2samp(x, y[:30]).statistic)


def test_the_shape_of_levels_is_their_total_variation() -> None:
    real = pd.DataFrame({"a": list("xxxxxyyyyy")})
    synthetic = pd.DataFrame({"a": ["x"] * 3 + ["y"] * 5 + ["new", None]})
    found = report(real, synthetic, measures=["column_shape"])["value"]
    assert found.item() == pytest.approx(0.8)


def test_missing_numbers_are_a_value_of_their_own() -> None:
    x = np.arange(100.0)
    y = np.where(x % 4 == 0, np.nan, x)
    found = report(x[:, None], y[:, None], measures=["column_shape"])["value"]
    assert found.item() == pytest.approx(0.75)


def test_the_trend_of_numbers_is_half_the_difference_of_rank_correlations() -> None:
    rng = np.random.RandomState(0)
    real, synthetic = rng.randn(2, 100, 2)
    synthetic[:, 1] += synthetic[:, 0]
    found = report(real, synthetic, measures=["pair_trend"])["value"]
    first, second = (spearmanr(*x.T).statistic for x in (real, synthetic))
    assert found.item() == pytest.approx(1 - abs(first - second) / 2)


def test_the_trend_of_levels_is_the_total_variation_of_both() -> None:
    real = pd.DataFrame({"a": list("xxyy") * 5, "b": list("xxyy") * 5})
    synthetic = pd.DataFrame({"a": list("xxyy") * 5, "b": list("xyxy") * 5})
    found = report(real, synthetic, measures=["pair_trend"])["value"]
    assert found.item() == pytest.approx(0.5)


def test_the_two_sample_score_is_that_of_the_best_classifier() -> None:
    rng = np.random.RandomState(0)
    real, synthetic = rng.randn(1000, 1), rng.randn(1000, 1) + 1
    found = report(real, synthetic, measures=["two_sample"])
    score, error = found.loc["two_sample", ["value", "standard_error"]]
    auc = norm.cdf(1 / np.sqrt(2))
    assert score == pytest.approx(2 - 2 * auc, abs=3 * error + 0.02)


def test_only_the_order_of_numbers_matters() -> None:
    tables = [x[["income", "age", "ward"]] for x in (REAL, FRESH, HELD)]
    bent = [x.assign(age=np.exp(x["age"] / 10) - 7) for x in tables]
    first, second = (report(*x, measures=CHEAP)["value"] for x in (tables, bent))
    np.testing.assert_allclose(first, second, rtol=1e-12)


# Efficacy.


def test_efficacy_falls_where_the_target_is_shuffled() -> None:
    synthetic = FRESH.assign(ward=FRESH["ward"].sample(frac=1, random_state=0).values)
    value, reference = report(
        REAL, synthetic, HELD, target="ward", measures=["efficacy"]
    ).loc["efficacy", ["value", "reference"]]
    assert reference > 0.9
    assert value < 0.65


def test_efficacy_of_a_number_is_a_part_of_its_variance() -> None:
    table = table_report(
        REAL, FRESH, HELD, target="age", measures=["efficacy"], random_state=0
    )
    assert list(table["column"]) == [None, "age"]
    assert (table[["value", "reference"]] > 0.6).all().all()
    assert (table[["value", "reference"]] < 0.95).all().all()


def test_without_a_holdout_a_part_of_the_real_rows_tests() -> None:
    found = report(REAL, FRESH, target="ward", measures=[*CHEAP, "efficacy"])
    assert found.loc["efficacy", "reference"] > 0.9
    assert "closest_record_share" not in found.index
    assert found["reference"].isna()["column_shape"]


def test_synthetic_rows_of_one_class_teach_nothing() -> None:
    synthetic = FRESH.assign(ward="other")
    found = report(REAL, synthetic, HELD, target="ward", measures=["efficacy"])
    assert found["value"].item() == 0.5


# Arrangements and containers.


def as_sets(table: Any) -> Any:
    """Values by measure and the set of columns."""
    keys = [frozenset(x) for x in zip(table.measure, table.column, table.other)]
    return dict(zip(keys, table["value"]))


def test_the_order_of_rows_and_columns_changes_nothing(fresh: Any) -> None:
    order = np.random.RandomState(0).permutation(REAL.shape[1])
    tables = [
        x.sample(frac=1, random_state=i).iloc[:, order]
        for i, x in enumerate((REAL, FRESH, HELD))
    ]
    tables[1] = tables[1][REAL.columns]  # found by their names
    found = as_sets(table_report(*tables, random_state=0))
    expected = as_sets(fresh)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key


def test_polars_says_what_pandas_says(fresh: Any) -> None:
    tables = [pl.from_pandas(x) for x in (REAL, FRESH, HELD)]
    for given in (tables, [REAL, tables[1], HELD]):
        found = table_report(*given, measures=CHEAP, random_state=0)
        expected = fresh[fresh["measure"].isin(set(found["measure"]))]
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))


def test_arrays_have_places_for_names() -> None:
    rng = np.random.RandomState(0)
    real, synthetic = rng.randn(2, 60, 3)
    table = table_report(real, synthetic, target=2, random_state=0)
    shapes = table[table["measure"] == "column_shape"]
    assert list(shapes["column"]) == [None, 0, 1, 2]
    named = pd.DataFrame(real, columns=["a", "b", "c"])
    other = table_report(named, synthetic, target="c", random_state=0)
    np.testing.assert_array_equal(other["value"], table["value"])


def test_rows_are_bounded(fresh: Any) -> None:
    few = [
        report(REAL, FRESH, max_rows=50, measures=["column_shape"])["value"].item()
        for _ in range(2)
    ]
    assert few[0] == few[1] < 0.95
    every = report(REAL, FRESH, max_rows=None, measures=["column_shape"])["value"]
    assert every.item() == whole(fresh).loc["column_shape", "value"]


def test_a_measure_alone_is_that_of_the_whole_report(fresh: Any) -> None:
    for measure in ("two_sample", "closest_record"):
        found = report(REAL, FRESH, HELD, measures=[measure])
        pd.testing.assert_frame_equal(found, whole(fresh).loc[found.index])


def test_rare_levels_and_empty_columns_have_a_place() -> None:
    rng = np.random.RandomState(0)
    real, synthetic, held = (
        pd.DataFrame(
            {
                "id": rng.randint(10_000, size=300).astype(str),
                "empty": np.full(300, np.nan),
                "same": 1.0,
                "x": rng.randn(300),
            }
        )
        for _ in range(3)
    )
    found = report(real, synthetic, held)
    assert np.isfinite(found["value"]).all()
    assert found.loc["copied_rows", "value"] == 0


def test_booleans_may_come_back_as_numbers() -> None:
    real = pd.DataFrame({"a": [True, False] * 10})
    synthetic = pd.DataFrame({"a": [1, 0] * 10})
    found = report(real, synthetic, measures=["column_shape"])["value"]
    assert found.item() == 1


# Errors.

A, B = pd.DataFrame({"a": np.arange(40.0)}), pd.DataFrame({"b": np.arange(40.0)})
BAD: dict[str, Any] = {
    "lacking": ((A, B), {}, r"synthetic lacks \['a'\], and real lacks \['b'\]"),
    "more": ((A, A.assign(b=1)), {}, r"has 1 and synthetic has 2.*lacks \['b'\]"),
    "width": ((np.ones((10, 2)), np.ones((10, 3))), {}, "has 2 and synthetic has 3"),
    "kinds": ((A, A.astype(str)), {}, "'a' has numbers in real, but levels in synth"),
    "dates": ((A, A.astype("datetime64[s]")), {}, "but dates in synthetic"),
    "infinity": ((A, A.replace(3.0, np.inf)), {}, "'a' of synthetic contains infinity"),
    "flat": ((A["a"], A), {}, r"'real' parameter of table_report.*\(40,\)"),
    "few": ((A, A[:5]), {}, r"'synthetic' parameter.*10 rows or more"),
    "target": ((A, A), {"target": "b"}, "'target' parameter.*Got 'b'"),
    "max_rows": ((A, A), {"max_rows": 3}, "max_rows == 3"),
    "measures": ((A, A), {"measures": ["shape"]}, "'measures' parameter.*'shape'"),
    "one measure": ((A, A), {"measures": "two_sample"}, "must list some of"),
    "model": ((A, A), {"measures": ["memorisation"]}, "Give it as 'model'"),
    "holdout": ((A, A), {"model": GaussianDensity()}, "Give them as 'holdout'"),
}


@pytest.mark.parametrize(("tables", "options", "message"), BAD.values(), ids=BAD)
def test_errors_say_what_is_wrong(tables: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_report(*tables, **options)


def test_a_model_must_score_rows_and_give_them_a_density() -> None:
    with pytest.raises(TypeError, match="score_samples"):
        table_report(A, A, A, model=LogisticRegression())

    class Nowhere:
        def score_samples(self, X: Any) -> Any:
            return np.full(len(X), -np.inf)

    with pytest.raises(ValueError, match=r"gives 40 rows of real.*-inf"):
        table_report(A, A, A, model=Nowhere())


# Pictures.


def test_a_picture_shows_the_report(fresh: Any) -> None:
    display: Any = TableReportDisplay.from_report(fresh)
    assert len(display.axes_) == 4
    values = display.points_["Shapes of columns"].get_xdata()
    shapes = fresh[fresh["measure"] == "column_shape"]["value"][1:]
    np.testing.assert_array_equal(values, shapes)
    square = np.asarray(display.image_.get_array())
    np.testing.assert_array_equal(square, square.T)


def test_a_report_of_one_measure_is_one_panel_and_of_none_an_error() -> None:
    table = table_report(A, A, measures=["two_sample"], random_state=0)
    assert len(TableReportDisplay.from_report(table).axes_) == 1
    with pytest.raises(ValueError, match="no measure that"):
        TableReportDisplay.from_report(table[:0])


# Classes.


def test_classification_accuracy_is_that_of_a_classifier_of_samples() -> None:
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000)
    score = classification_accuracy_score(X[::2], y[::2], X[1::2], y[1::2], model)
    assert score == model.fit(X[::2], y[::2]).score(X[1::2], y[1::2])
    assert classification_accuracy_score(X[::2], y[::2], X[1::2], y[1::2]) > 0.9
    shuffled = np.random.RandomState(0).permutation(y[::2])
    assert classification_accuracy_score(X[::2], shuffled, X[1::2], y[1::2]) < 0.6


def test_measures_are_named_as_they_are_documented() -> None:
    for name in module.MEASURES:
        assert f'- "{name}"' in cast(str, table_report.__doc__)
