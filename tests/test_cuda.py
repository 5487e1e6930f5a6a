"""Every estimator on a CUDA device: the laws that only a device can break."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skgen import VAE, GaussianMixtureEM
from skgen._utils.tensors import has_room
from skgen.distributed import data_parallel
from tests.estimators import CLOSED_FORM, ONE_OF_EACH, class_name, dense, rows_for

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    # Few iterations, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)


def on_cuda(estimator: Any) -> Any:
    return clone(estimator).set_params(device="cuda")


@one_of_each
def test_a_fit_on_cuda_repeats_and_answers_on_the_host(estimator: Any) -> None:
    X = rows_for(estimator)
    model, again = on_cuda(estimator).fit(X), on_cuda(estimator).fit(X)
    assert model.device_.startswith("cuda")
    assert_allclose(model.score_samples(X), again.score_samples(X), rtol=1e-4)
    code = model.transform(X)
    assert dense(model.inverse_transform(code)).shape == X.shape
    drawn = model.sample(5, random_state=0)
    assert isinstance(drawn, np.ndarray)
    assert_array_equal(drawn, model.sample(5, random_state=0))
    assert model.sample(5, noise=False).shape == (5, X.shape[1])


@one_of_each
def test_a_model_of_cuda_scores_the_same_on_the_cpu(estimator: Any) -> None:
    X = rows_for(estimator)
    model = on_cuda(estimator).fit(X)
    state = pickle.loads(pickle.dumps(model))
    assert_allclose(state.score_samples(X), model.score_samples(X), rtol=1e-6)
    state.__setstate__({**state.__getstate__(), "device_": "cpu"})
    assert_allclose(state.score_samples(X), model.score_samples(X), rtol=1e-6)


@pytest.mark.parametrize(
    "estimator", [e for e in ONE_OF_EACH if hasattr(e, "partial_fit")], ids=class_name
)
def test_partial_fits_go_on_from_one_device_to_another(estimator: Any) -> None:
    X = rows_for(estimator)
    model = clone(estimator).partial_fit(X)
    model.set_params(device="cuda").partial_fit(X)
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize(
    "estimator",
    [e for e in ONE_OF_EACH if hasattr(e, "early_stopping")],
    ids=class_name,
)
def test_rows_that_a_device_has_no_room_for_are_streamed(
    estimator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = rows_for(estimator)
    monkeypatch.setattr("skgen.models.neural.has_room", lambda device, n_bytes: False)
    monkeypatch.setattr("skgen._training.data.KEPT_ELEMENTS", 0)
    monkeypatch.setattr("skgen._training.data.PIECE_ELEMENTS", 50)
    monkeypatch.setattr("skgen._training.data.WINDOW_PIECES", 4)
    model, again = on_cuda(estimator).fit(X), on_cuda(estimator).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert_allclose(model.loss_curve_, again.loss_curve_, rtol=1e-4)


def test_data_fit_where_as_much_again_is_free() -> None:
    device = torch.device("cuda")
    free, _ = torch.cuda.mem_get_info(device)
    assert has_room(device, free // 4)
    assert not has_room(device, free)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_holes_and_conditions_on_cuda_are_those_of_the_host(name: Any) -> None:
    host = clone(next(e for e in ONE_OF_EACH if class_name(e) == name))
    rows = rows_for(host)
    holes = np.where(np.random.RandomState(0).rand(*rows.shape) < 0.2, np.nan, rows)
    host.fit(rows)
    model = on_cuda(host).fit(rows)
    assert_allclose(model.score_samples(holes), host.score_samples(holes), rtol=1e-6)
    assert_allclose(model.impute(holes), host.impute(holes), rtol=1e-6)
    drawn, code = model.sample(
        50, 0, given={0: rows[0, 0], 1: (None, 20.0)}, return_code=True
    )
    assert (drawn[:, 1] <= 20).all()
    assert len(code) == 50
    assert np.isfinite(on_cuda(host).fit(holes).score(holes))


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_nccl_available()),
    reason="torch has no nccl",
)
@pytest.mark.parametrize(
    "estimator",
    [GaussianMixtureEM(2, random_state=0), VAE(2, max_iter=2, random_state=0)],
    ids=class_name,
)
def test_one_process_with_nccl_equals_no_group(estimator: Any, tmp_path: Path) -> None:
    X = rows_for(estimator)
    alone = on_cuda(estimator).fit(X)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl",
        init_method=f"file://{tmp_path / 'group'}",
        rank=0,
        world_size=1,
    )
    try:
        with data_parallel():
            found = on_cuda(estimator).fit(X)
    finally:
        torch.distributed.destroy_process_group()
    assert_allclose(found.score_samples(X), alone.score_samples(X), rtol=1e-4)
