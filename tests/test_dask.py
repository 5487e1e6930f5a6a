"""Dask collections: rows of a fit, and lazy results; here and on a cluster."""

import gc
import os
import pickle
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV

from skgen import (
    IWAE,
    VAE,
    ConditionalVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixtureEM,
)
from skgen._utils import chunks
from skgen._utils.collections import LAZY, stored
from skgen._utils.pages import give_pages_back
from skgen.distributed import fit, sample
from skgen.distributed.dask import _workers
from skgen.exceptions import DistributedError
from skgen.model_selection import BatchedGridSearchCV, Data
from skgen.models import kmeans
from tests.estimators import ONE_OF_EACH, class_name, dense, features

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = features(90)
TABLE = pd.DataFrame(X, columns=list("abcde")).assign(f=np.arange(90) % 7)
ARRAY = da.from_array(X, chunks=(25, 3))
FRAME = dd.from_pandas(TABLE, npartitions=4)
one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
NETWORK: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def assert_close(found: Any, expected: Any) -> None:
    """Compare results of chunks of other sizes, up to rounding."""
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# On this machine.


@one_of_each
def test_a_fit_is_that_of_the_rows(estimator: Any) -> None:
    expected = clone(estimator).fit(X)
    found = clone(estimator).fit(ARRAY)
    assert_same(found.score_samples(X), expected.score_samples(X))
    assert pickle.loads(pickle.dumps(found)).n_features_in_ == 5


@one_of_each
def test_rows_that_are_computed_later_have_the_same_code(estimator: Any) -> None:
    model = clone(estimator).fit(X)
    code = model.transform(ARRAY)
    assert code.shape == (90, model._n_features_out)
    assert_close(dense(code.compute()), dense(model.transform(X)))
    scores = model.score_samples(ARRAY)
    assert scores.chunks == ((25, 25, 25, 15),)
    assert_close(scores.compute(), model.score_samples(X))
    assert scores.dtype == scores.compute().dtype
    assert code.dtype == code.compute().dtype


def test_a_data_frame_gives_names_and_dtypes() -> None:
    model = GaussianMixtureEM(2, random_state=0).fit(FRAME)
    expected = GaussianMixtureEM(2, random_state=0).fit(TABLE)
    assert_same(model.feature_names_in_, expected.feature_names_in_)
    model.set_output(transform="pandas")
    expected.set_output(transform="pandas")
    drawn = model.sample(5, random_state=0)
    pd.testing.assert_frame_equal(drawn, expected.sample(5, random_state=0))
    assert drawn["f"].dtype == TABLE["f"].dtype


METHODS: dict[str, Any] = {
    "transform": GaussianMixtureEM(2, random_state=0),
    "predict": GaussianMixtureEM(2, random_state=0),
    "predict_proba": GaussianMixtureEM(2, random_state=0),
    "score_samples": GaussianMixtureEM(2, random_state=0),
    "mahalanobis": GaussianDensity(),
    "reconstruct": VAE(2, **NETWORK),
    "impute": GaussianDensity(2),
    "inverse_transform": GaussianDensity(2),
}


@pytest.mark.parametrize("method", LAZY)
def test_each_method_is_lazy(method: str) -> None:
    model = clone(METHODS[method]).fit(TABLE)
    rows, table = FRAME, TABLE
    if method == "inverse_transform":
        table = pd.DataFrame(model.transform(TABLE), TABLE.index)
        rows = dd.from_pandas(table, npartitions=3)
    expected = getattr(model, method)(table)
    found = getattr(model, method)(rows)
    assert isinstance(found, dd.DataFrame if expected.ndim == 2 else dd.Series)
    computed = found.compute()
    assert_close(computed, expected)
    assert_same(computed.index, table.index)
    if expected.ndim == 1:
        assert found.name == computed.name == method
        assert found.dtype == computed.dtype
    else:
        assert list(found.columns) == list(computed.columns)
        names = {"code": model.get_feature_names_out(), "rows": TABLE.columns}
        assert list(found.columns) == list(names[LAZY[method]])


def test_float32_rows_stay_so() -> None:
    rows = ARRAY.astype(np.float32)
    model: Any = VAE(2, **NETWORK).fit(rows)
    assert model.sample(1).dtype == np.float32
    assert model.transform(rows).dtype == np.float32
    code = model.transform(X.astype(np.float32))
    np.testing.assert_allclose(model.transform(rows).compute(), code, rtol=1e-4)
    narrow = FRAME[list("abcde")].astype(np.float32)
    assert GaussianDensity().fit(narrow).sample(1).dtype == np.float32
    assert VAE(2, **NETWORK).fit(narrow).score_samples(narrow).dtype == np.float32


def test_missing_cells_of_any_dtype_are_nan() -> None:
    table = TABLE.astype({"f": "Int64"}).mask(TABLE > 5.5)
    model = GaussianDensity(covariance_type="diag")
    model.fit(dd.from_pandas(table, npartitions=3))
    rows = table.to_numpy(np.float64, na_value=np.nan)
    assert np.isnan(rows).any()
    np.testing.assert_allclose(model.mean_, np.nanmean(rows, 0))


def test_partitions_may_be_empty_or_of_unknown_length() -> None:
    numbered = dd.from_pandas(TABLE.assign(g=np.arange(90)), npartitions=4)
    some = numbered[numbered["g"] >= 60][list(TABLE.columns)]
    assert 0 in some.map_partitions(len).compute().tolist()
    expected = GaussianDensity().fit(some.compute())
    model: Any = GaussianDensity().fit(some)
    assert_same(model.mean_, expected.mean_)
    scores = model.score_samples(some).compute()
    assert_close(scores, expected.score_samples(some.compute()))
    unknown = some.to_dask_array()
    assert np.isnan(unknown.shape[0])
    model = GaussianDensity().fit(unknown)
    assert_same(model.mean_, expected.mean_)
    assert len(model.score_samples(unknown).compute()) == 30


def test_weights_labels_and_the_mean_score() -> None:
    weight = 1 + np.arange(90.0)
    weights = da.from_array(weight, chunks=25)
    expected = GaussianDensity().fit(X, sample_weight=weight)
    model = GaussianDensity().fit(ARRAY, sample_weight=weights)
    assert_same(model.covariance_, expected.covariance_)
    found = model.score(ARRAY, sample_weight=weights)
    assert found == pytest.approx(expected.score(X, sample_weight=weight), rel=1e-14)
    assert model.bic(ARRAY) == pytest.approx(model.bic(X), rel=1e-14)
    labels = np.arange(90) % 3
    given = ConditionalVAE(1, **NETWORK).fit(X, labels)
    lazy = ConditionalVAE(1, **NETWORK).fit(ARRAY, da.from_array(labels, chunks=25))
    assert_same(lazy.score_samples(X, labels), given.score_samples(X, labels))


def test_a_collection_is_a_batch_of_partial_fit() -> None:
    model = GaussianDensity().partial_fit(ARRAY[:50]).partial_fit(ARRAY[50:])
    np.testing.assert_allclose(model.mean_, X.mean(0))


def test_one_partition_is_computed_at_a_time() -> None:
    events: list[Any] = []

    def compute(part: Any) -> Any:
        events.append(len(part))
        return part.compute()

    rows = stored(ARRAY, "VAE", compute=compute)
    assert events == [25, 25, 25, 15]
    assert_same(rows, X)
    assert not rows.flags.writeable


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    seen: list[int] = []

    def watched(block: Any) -> Any:
        seen.append(len(block))
        return block

    rows = ARRAY.rechunk((30, 5)).map_blocks(watched, dtype=float, meta=X[:0])
    model: Any = GaussianDensity().fit(X)
    scores = model.score_samples(rows)
    assert seen == []
    scores[:30].compute()
    assert seen == [30]


def test_pages_are_given_back_until_the_rows_go(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", X)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    before = threading.active_count()
    give_pages_back(rows)
    assert threading.active_count() == before + 1
    assert_same(rows, X)
    thread = threading.enumerate()[-1]
    del rows
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_draws_are_lazy_and_repeat() -> None:
    model = GaussianDensity().fit(X)
    drawn = sample(model, 100, 0, chunk_size=40)
    assert drawn.chunks == ((40, 40, 20), (5,))
    rows = drawn.compute()
    assert_same(rows, sample(model, 100, 0, chunk_size=40).compute())
    assert len(np.unique(rows, axis=0)) == 100
    means = sample(model, 10, noise=False, given={0: 1.0}).compute()
    assert (means[:, 0] == 1).all()
    table = GaussianDensity().fit(TABLE).set_output(transform="pandas")
    frame = sample(table, 100, 0, chunk_size=40)
    assert isinstance(frame, dd.DataFrame)
    assert list(frame.compute().columns) == list(TABLE.columns)


def test_what_is_refused() -> None:
    model: Any = GaussianDensity().fit(X)
    text = FRAME.assign(g="text")
    with pytest.raises(TypeError, match=r"Column 'g' of X .* GaussianDensity takes"):
        GaussianDensity().fit(text)
    with pytest.raises(TypeError, match="takes a dask array or DataFrame of shape"):
        GaussianDensity().fit(da.from_array(X[:, 0]))
    with pytest.raises(TypeError, match="Got Delayed"):
        GaussianDensity().fit(dask.delayed(X))
    with pytest.raises(TypeError, match="takes no further arrays"):
        model.score_samples(ARRAY, [0])
    with pytest.raises(TypeError, match=r"skgen\.distributed\.fit takes a dask array"):
        fit(GaussianDensity(), X)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        GaussianDensity().fit(ARRAY[:0])
    with pytest.raises(ValueError, match="'chunk_size' parameter"):
        sample(model, 10, chunk_size=0)
    with pytest.raises(ValueError, match="features"):
        model.score_samples(ARRAY[:, :3]).compute()


def test_a_full_disk_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no disk that is always full")
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: full)
    with pytest.raises(OSError, match="TMPDIR"):
        GaussianDensity().fit(ARRAY)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(ImportError, match=r"scikit-generative\[dask\]"):
        sample(GaussianDensity().fit(X), 10)


def test_kmeans_of_a_large_file_is_lloyds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "rows.npy", X)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    monkeypatch.setattr(kmeans, "are_few", lambda shape: False)
    init = X[:3]
    model = KMeansAutoencoder(3, init=init).fit(rows)
    expected = KMeans(3, init=init, n_init=1).fit(X)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_)
    monkeypatch.setattr(chunks, "MANY_ROWS", 40)
    for way in ("k-means++", "random"):
        found = KMeansAutoencoder(3, init=way, n_init=3, random_state=0).fit(rows)
        assert found.inertia_ < 1.2 * expected.inertia_


# On a cluster.


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers, each a process of one thread."""
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


def test_workers_are_known_whatever_the_client_asked_last(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_update(**options: Any) -> None:
        client._scheduler_identity = {"workers": {}}

    monkeypatch.setattr(client, "_update_scheduler_info", no_update)
    assert len(_workers(client)) == 2


FITTED_ON_WORKERS: dict[str, Any] = {
    "GaussianDensity": GaussianDensity(),
    "GaussianMixtureEM": GaussianMixtureEM(2, reg_covar=1e-3, random_state=0),
    "MixtureEM": MixtureEM(2, random_state=0),
    "KMeansAutoencoder": KMeansAutoencoder(3, init=X[:3]),
}


@pytest.mark.parametrize("name", FITTED_ON_WORKERS)
def test_workers_find_what_one_process_finds(name: str, client: Any) -> None:
    model = clone(FITTED_ON_WORKERS[name])
    expected = clone(model).fit(X)
    found = fit(model, ARRAY, client=client)
    assert found is model
    scores = [each.score_samples(X) for each in (found, expected)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-10)
    assert not hasattr(found, "labels_")


def test_workers_train_one_network(client: Any) -> None:
    weights = da.from_array(1 + np.arange(90.0), chunks=25)
    model = IWAE(2, n_draws=2, **NETWORK)
    expected = clone(model).fit(X, sample_weight=weights.compute())
    found: Any = model.fit(ARRAY, sample_weight=weights)  # the client is active
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-5)
    lazy = found.score_samples(ARRAY).compute()
    np.testing.assert_allclose(lazy, found.score_samples(X), rtol=1e-12)


def test_partitions_in_memory_stay_where_they_are(client: Any) -> None:
    rows = FRAME.persist()
    distributed.wait(rows)
    before = client.who_has()
    found = GaussianDensity().fit(rows)
    np.testing.assert_allclose(found.mean_, TABLE.to_numpy().mean(0))
    assert list(found.feature_names_in_) == list(TABLE.columns)
    moved = {key: who for key, who in client.who_has().items() if key in before}
    assert all(set(moved[key]) == set(before[key]) for key in moved)


def test_an_error_of_one_worker_is_raised(client: Any) -> None:
    rows = da.concatenate([ARRAY, da.full((25, 5), np.inf, chunks=(25, 5))])
    model = GaussianDensity()
    with pytest.raises(ValueError, match="infinity"):
        fit(model, rows, client=client)
    assert not hasattr(model, "mean_")
    with pytest.raises(ValueError, match="has 1 partitions"):
        fit(model, ARRAY, sample_weight=da.ones(90, chunks=90), client=client)
    with pytest.raises(ValueError, match="has to be a Dask array or Series"):
        fit(model, ARRAY, sample_weight=np.ones(90), client=client)
    assert_same(fit(model, ARRAY, client=client).mean_.round(8), X.mean(0).round(8))


def test_a_worker_that_is_killed_ends_the_fit(client: Any) -> None:
    here = os.getpid()

    def fatal(block: Any) -> Any:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    last = ARRAY.map_blocks(fatal, dtype=float, meta=X[:0])
    rows = da.concatenate([ARRAY, last])
    said: list[str] = []

    def fitted() -> None:
        try:
            fit(GaussianDensity(), rows, client=client)
        except DistributedError as error:
            said.append(str(error))

    thread = threading.Thread(target=fitted, daemon=True)
    thread.start()
    thread.join(60)  # it would wait for ever
    assert "is lost: tcp://" in said[0]
    client.wait_for_workers(2, timeout=60)
    model = GaussianDensity()
    np.testing.assert_allclose(fit(model, ARRAY, client=client).mean_, X.mean(0))


def test_searches_run_on_the_workers(client: Any) -> None:
    model = GaussianMixtureEM(random_state=0)
    grid = {"n_components": [1, 2, 3]}
    for search in (GridSearchCV, BatchedGridSearchCV):
        expected = search(model, grid, cv=2).fit(X)
        with joblib.parallel_config("dask", scatter=[X]):
            found = search(model, grid, cv=2, error_score="raise").fit(X)
        for name in ("mean_test_score", "rank_test_score"):
            np.testing.assert_allclose(
                found.cv_results_[name], expected.cv_results_[name]
            )


def test_rows_of_a_batched_search_are_scattered_once() -> None:
    rows = np.zeros((100, 100))
    data = Data(rows, None, {}, {}, False)
    assert dask.sizeof.sizeof(data) > rows.nbytes
    assert weakref.ref(data)() is data  # what joblib asks of it
