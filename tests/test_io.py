"""Files: what comes back, what is refused, and that nothing in a file is run."""

import io
import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

import skgen
from skgen import (
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixedDensity,
)
from skgen._files.container import header_sum
from skgen.io import ModelFileError
from skgen.io.models import ESTIMATORS as KNOWN
from skgen.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    StudentT,
)
from tests.estimators import (
    ESTIMATORS,
    IMPLICIT_VARIANTS,
    ONE_OF_EACH,
    VARIANTS,
    class_name,
    dense,
    features,
    fitted,
    name_of,
    rows_for,
)
from tests.file_forgery import edit, parts, resealed

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings(
        "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
    ),
]

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=name_of)
TINY: dict[str, Any] = {
    "hidden_layer_sizes": (4,),
    "n_importance_samples": 2,
    "max_iter": 2,
    "random_state": 0,
}
X = features()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def travelled(model: Any, path: Path, **given: Any) -> Any:
    skgen.save(model, path)
    return skgen.load(path, **given)


def assert_same(found: Any, expected: Any, X: NDArray[Any]) -> None:
    """The same answers, to the bit."""
    assert_array_equal(found.score_samples(X), expected.score_samples(X))
    code = expected.transform(X)
    assert_array_equal(dense(found.transform(X)), dense(code))
    assert_array_equal(found.inverse_transform(code), expected.inverse_transform(code))
    for noise in (True, False):
        draws = (m.sample(5, noise=noise, random_state=0) for m in (found, expected))
        assert_array_equal(*draws)


# What comes back.


@every_estimator
def test_a_model_comes_back_to_the_bit(estimator: Any, path: Path) -> None:
    model, rows = fitted(estimator), rows_for(estimator)
    found = travelled(model, path)
    assert type(found) is type(model)
    assert_same(found, model, rows)
    assert vars(found).keys() == vars(model).keys()
    assert repr(found) == repr(model)


@one_of_each
def test_a_model_of_float32_comes_back_so(estimator: Any, path: Path) -> None:
    model, rows = fitted(estimator, np.float32), rows_for(estimator, dtype=np.float32)
    found = travelled(model, path)
    assert_same(found, model, rows)
    assert found.sample(1).dtype == np.float32


@one_of_each
def test_a_model_that_came_back_fits_as_before(estimator: Any, path: Path) -> None:
    rows = rows_for(estimator)
    found = travelled(clone(estimator).fit(rows[:40]), path)
    assert_same(found.fit(rows), fitted(estimator), rows)


def test_every_estimator_can_be_in_a_file() -> None:
    assert set(KNOWN) == {
        *VARIANTS,
        *IMPLICIT_VARIANTS,
        "ConditionalVAE",
        "Diffusion",
        "MixedDensity",
    }


def test_models_are_the_same_in_another_process(tmp_path: Path) -> None:
    expected: dict[str, Any] = {}
    for i, estimator in enumerate([*ESTIMATORS, MixedDensity(VAE(1, **TINY))]):
        model, rows = fitted(estimator), rows_for(estimator)
        skgen.save(model, tmp_path / f"{i}.safetensors")
        expected |= {f"rows{i}": rows, f"scores{i}": model.score_samples(rows)}
        expected[f"draws{i}"] = model.sample(5, random_state=0)
    np.savez(tmp_path / "expected.npz", **expected)
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        import torch
        import skgen

        torch.set_num_threads(1)
        folder = Path(sys.argv[1])
        expected = np.load(folder / "expected.npz")
        for path in folder.glob("*.safetensors"):
            model, i = skgen.load(path), path.stem
            scores = model.score_samples(expected[f"rows{i}"])
            assert (scores == expected[f"scores{i}"]).all(), model
            draws = model.sample(5, random_state=0)
            assert (draws == expected[f"draws{i}"]).all(), model
        print("the same")
    """
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(skgen.__file__).parents[1])},
    )
    assert result.stdout == "the same\n", result.stderr


LIKELIHOODS: dict[str, Any] = {
    "feature": Gaussian(),
    "shared": Gaussian("shared", min_sigma=0.01),
    "row": Gaussian("row", min_sigma=0.1),
    "fixed": Gaussian(0.7),
    "laplace": Laplace("shared"),
    "student": StudentT("row", df="shared"),
    "dynamic": Bernoulli(binarize="dynamic"),
    "continuous": ContinuousBernoulli(),
    "logistic": DiscretizedLogistic(5),
    "categorical": Categorical(5),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_come_back_with_their_options(name: str, path: Path) -> None:
    likelihood = LIKELIHOODS[name]
    rows = np.random.RandomState(0).randint(5, size=(40, 3)).astype(float)
    if isinstance(likelihood, (Bernoulli, ContinuousBernoulli)):
        rows = rows / 4
    model = VAE(1, likelihood=likelihood, **TINY).fit(rows)
    found = travelled(model, path)
    assert_same(found, model, rows)
    for part in (found.likelihood, found.module_.likelihood):
        assert type(part) is type(likelihood)
        assert part.options == likelihood.options
    assert_same(found.fit(rows), model, rows)


def test_what_is_learned_of_rows_comes_back(path: Path) -> None:
    rows = np.concatenate([X, np.full((len(X), 1), 3.0)], axis=1)  # a constant column
    model = VQVAE(4, prior="transformer", n_tokens=3, **TINY).fit(rows)
    assert_same(travelled(model, path), model, rows)


def test_a_deep_model_with_widths_of_its_own_comes_back(path: Path) -> None:
    model = VAE((3, 2), **{**TINY, "hidden_layer_sizes": ((6, 5), (4,))}).fit(X)
    found = travelled(model, path)
    assert_same(found, model, X)
    assert found.hidden_layer_sizes == ((6, 5), (4,))
    assert found.active_units_ == model.active_units_


MORE: dict[str, Any] = {
    "GaussianDensity": GaussianDensity(),
    "KMeansAutoencoder": KMeansAutoencoder(3, random_state=0),
    "KMeans of a RandomState": KMeansAutoencoder(
        3, random_state=np.random.RandomState(3)
    ),
    "VAE": VAE(1, **TINY, weight_decay=0.1),
    "BetaVAE": BetaVAE((2, 1), **TINY),
    "VQVAE": VQVAE(4, **TINY, codebook_update="ema"),
}


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_partial_fits_go_on(name: str, first: str, path: Path) -> None:
    model = clone(MORE[name])
    batches = np.array_split(features(120), 4)
    getattr(model, first)(batches[0])
    if first == "partial_fit":
        model.partial_fit(batches[1])
    found = travelled(model, path)
    for batch in batches[2:]:
        assert_same(found.partial_fit(batch), model.partial_fit(batch), batch)


def test_partial_fits_go_on_at_another_pace(path: Path) -> None:
    model = VAE(1, **TINY).partial_fit(X)
    found = travelled(model.set_params(weight_decay=0.1, learning_rate_init=0.1), path)
    assert_same(found.partial_fit(X), model.partial_fit(X), X)


@pytest.mark.parametrize(
    "model", [VAE(1, **TINY), GaussianMixtureEM(2, random_state=0)]
)
def test_a_warm_start_goes_on(model: Any, path: Path) -> None:
    model = clone(model).set_params(warm_start=True).fit(X)
    found = travelled(model, path)
    assert_same(found.fit(X[:40]), model.fit(X[:40]), X)


def test_a_random_state_goes_on(path: Path) -> None:
    model = GaussianMixtureEM(2, random_state=np.random.RandomState(7)).fit(X)
    model.random_state.normal()  # half of a pair is kept
    found = travelled(model, path)
    assert found.random_state.normal() == model.random_state.normal()
    assert found.random_state.randint(10**6) == model.random_state.randint(10**6)


def test_parameters_keep_their_types(path: Path) -> None:
    start = np.asfortranarray(X[:2])
    two, tol = cast(int, np.int64(2)), cast(float, np.float32(0.1))
    model = GaussianMixtureEM(two, means_init=start, tol=tol)
    model.set_params(random_state=0).fit(X)
    found = travelled(model.set_params(weights_init=[0.5, 0.5]), path)
    for name, value in model.get_params().items():
        assert type(found.get_params()[name]) is type(value), name
    assert_array_equal(found.means_init, start)
    assert found.means_init.flags.f_contiguous
    assert found.weights_init == [0.5, 0.5]


def test_numbers_that_are_not_finite_come_back(path: Path) -> None:
    model = GaussianMixtureEM(2, max_iter=0, random_state=0).fit(X)
    assert model.lower_bound_ == -np.inf
    assert travelled(model, path).lower_bound_ == -np.inf


def test_names_and_output_come_back(path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdé"))
    model = GaussianDensity().fit(frame).set_output(transform="pandas")
    found = travelled(model, path)
    assert_array_equal(found.feature_names_in_, model.feature_names_in_)
    pandas.testing.assert_frame_equal(found.transform(frame), model.transform(frame))


def test_kinds_by_position_and_set_output_of_a_table_come_back(path: Path) -> None:
    pytest.importorskip("pandas")
    kinds: dict[Any, Any] = {0: "real", 1: [0.0, 1.0]}
    rows = np.column_stack([X[:, 0], np.arange(len(X)) % 2])
    model = MixedDensity(VAE(1, **TINY), kinds=kinds).fit(rows)
    found = travelled(model.set_output(transform="pandas"), path)
    assert found.kinds == kinds
    assert found.kinds_ == model.kinds_
    assert list(found.sample(1, random_state=0).columns) == ["x0", "x1"]
    assert_array_equal(found.score_samples(rows), model.score_samples(rows))


def test_callbacks_stay_behind(path: Path) -> None:
    model = GaussianDensity().fit(X)
    model.set_callbacks(ProgressBar())
    found = travelled(model, path)
    assert_same(found, model, X)
    assert not hasattr(found, "_skl_callbacks")


def test_parameters_that_were_set_after_a_fit_do_not_matter(path: Path) -> None:
    model = VAE(2, **TINY).fit(X)
    model.set_params(n_components=5, hidden_layer_sizes=(), likelihood=Gaussian("row"))
    found = travelled(model, path)
    assert_same(found, model, X)
    assert found.n_components == 5
    assert found.module_.likelihood.options["sigma"] == "feature"


# Devices.


@one_of_each
def test_a_device_that_is_gone_is_the_cpu(estimator: Any, path: Path) -> None:
    model, rows = fitted(estimator), rows_for(estimator)
    elsewhere = joblib.load(_dumped(model)).set_params(device="cuda:99")
    skgen.save(elsewhere, path)
    edit(path, lambda m: m["fitted"].update(device_="cuda:99"))
    found = skgen.load(path)
    assert (found.device, found.device_) == ("cuda:99", "cpu")
    assert_same(found, model, rows)
    moved = skgen.load(path, device="cpu")
    assert (moved.device, moved.device_) == ("cpu", "cpu")
    assert_same(moved.fit(rows), model, rows)


def _dumped(model: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return file


def test_a_device_that_is_not_here_is_an_error(path: Path) -> None:
    skgen.save(GaussianDensity().fit(X), path)
    with pytest.raises(ValueError, match="'cuda:99', but torch finds no such device"):
        skgen.load(path, device="cuda:99")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@one_of_each
def test_models_move_between_devices(estimator: Any, path: Any) -> None:
    rows = rows_for(estimator)
    model = clone(estimator).set_params(device="cuda").fit(rows)
    there = travelled(model, path)
    assert there.device_ == model.device_ == "cuda"
    assert_array_equal(there.score_samples(rows), model.score_samples(rows))
    here = skgen.load(path, device="cpu")
    assert (here.device, here.device_) == ("cpu", "cpu")
    np.testing.assert_allclose(
        here.score_samples(rows), model.score_samples(rows), rtol=1e-6
    )
    back = travelled(here, path, device="cuda")
    assert_array_equal(back.score_samples(rows), model.score_samples(rows))


# What is the user's own.


class Residual(nn.Module):
    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.skip = nn.Linear(n_inputs, n_outputs)
        self.deep = nn.Sequential(
            nn.Linear(n_inputs, 4), nn.Tanh(), nn.Linear(4, n_outputs)
        )

    def forward(self, x: Tensor) -> Any:
        return self.skip(x) + self.deep(x)


class Laplace(skgen.likelihoods.Likelihood):  # type: ignore[no-redef]
    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def set_rows(self, x: Tensor) -> None:
        self.log_scale.data = x.std(0).log()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Any:
        size = (x - outputs).abs() / self.log_scale.exp()
        return -(size + self.log_scale + np.log(2)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.empty_like(outputs).uniform_(-0.999, 0.999, generator=generator)
        return (
            outputs - self.log_scale.exp() * uniform.sign() * (-uniform.abs()).log1p()
        )


class Narrow(Gaussian):
    """Of a class of its own, though skgen's else."""


def own_module(n_inputs: int, n_outputs: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        return Residual(n_inputs, n_outputs)


@pytest.mark.parametrize("cls", [VAE, VQVAE])
def test_networks_of_the_users_own_come_back(cls: type[Any], path: Path) -> None:
    widths = (5, 4) if cls is VAE else (5, 8 * 4)
    own: dict[str, Any] = {"encoder": own_module(*widths), "decoder": Residual}
    model = cls(2, **own, **TINY).partial_fit(X)
    found = travelled(model, path, **own)
    assert_same(found, model, X)
    assert found.encoder is own["encoder"]
    assert_same(found.partial_fit(X), model.partial_fit(X), X)


class Frozen(Residual):
    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__(n_inputs, n_outputs)
        self.skip.requires_grad_(False)


def test_what_is_not_learned_stays_so(path: Path) -> None:
    own: dict[str, Any] = {"encoder": Frozen, "likelihood": Gaussian(0.5)}
    model = VAE(1, **own, **TINY).partial_fit(X)
    found = travelled(model, path, encoder=Frozen)
    for name, p in found.module_.named_parameters():
        expected = not (name.startswith("encoder.skip") or "log_sigma" in name)
        assert p.requires_grad == expected, name
    assert_same(found.partial_fit(X), model.partial_fit(X), X)


@pytest.mark.parametrize("likelihood", [Laplace(), Narrow("row")])
def test_a_likelihood_of_the_users_own_comes_back(likelihood: Any, path: Path) -> None:
    model = VAE(2, likelihood=likelihood, **TINY).fit(X)
    found = travelled(model, path, likelihood=likelihood)
    assert_same(found, model, X)
    assert found.likelihood is likelihood
    with pytest.raises(ModelFileError, match=r"skgen\.load\(path, likelihood=\.\.\.\)"):
        skgen.load(path)


@pytest.fixture
def own_file(path: Path) -> Path:
    model = VAE(2, encoder=Residual, **TINY).fit(X)
    skgen.save(model, path)
    return path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            r"of this model is the user's own, 'Residual', .*load\(path, encoder=",
        ),
        ({"encoder": Residual, "decoder": Residual}, "decoder=.* Leave decoder out"),
        ({"encoder": nn.Linear}, "as 'encoder.bias', but the weights have nothing"),
        ({"encoder": own_module(5, 3)}, r"'encoder' must map .* to \(n, 4\) in"),
        ({"encoder": lambda n, m: 3}, "'encoder' must return a torch Module"),
        ({"encoder": lambda n, m: nn.Linear(n, m, bias=undefined)}, "undefined"),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_other_networks_are_errors_that_say_so(
    given: dict[str, Any], message: str, own_file: Path
) -> None:
    with pytest.raises(ModelFileError, match=message):
        skgen.load(own_file, **given)


# What is not saved.


@one_of_each
def test_a_model_must_be_fitted(estimator: Any, path: Path) -> None:
    with pytest.raises(NotFittedError):
        skgen.save(clone(estimator), path)
    assert not path.exists()


class Mine(GaussianDensity):
    pass


def spread(X: Any, n_clusters: Any, random_state: Any) -> Any:
    return X[:n_clusters]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Mine(), "an estimator of skgen: .* Got .*Mine"),
        (KMeansAutoencoder(2, init=spread), "'parameters/init' is of type function"),
        (
            GaussianMixtureEM(random_state=np.random.RandomState(np.random.PCG64(0))),
            "a RandomState of PCG64",
        ),
    ],
)
def test_what_a_file_cannot_hold_is_an_error(
    model: Any, message: str, path: Path
) -> None:
    model.fit(X)
    with pytest.raises(TypeError, match=message):
        skgen.save(model, path)
    assert not path.exists()


def test_a_model_that_could_not_be_loaded_is_not_saved(path: Path) -> None:
    model = VAE(2, **TINY).fit(X).set_params(encoder=Residual)
    with pytest.raises(ValueError, match=r"was not saved, .*parameters changed after"):
        skgen.save(model, path)
    assert not path.exists()


# How a file is written.


class Full(OSError):
    pass


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    what: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skgen.save(GaussianDensity().fit(X), path)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise Full

    monkeypatch.setattr(os, what, fail)
    with pytest.raises(Full):
        skgen.save(GaussianDensity().fit(2 * X), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_keeps_its_permissions_and_a_link_its_target(path: Path) -> None:
    model = GaussianDensity().fit(X)
    skgen.save(model, path)
    path.chmod(0o640)
    link = path.with_name("link")
    link.symlink_to(path)
    skgen.save(model, link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_of_a_model_is_the_same_each_time(path: Path) -> None:
    model = fitted(ESTIMATORS[-1])
    skgen.save(model, path)
    first = path.read_bytes()
    skgen.save(skgen.load(path), path)
    assert path.read_bytes() == first


def test_a_file_is_one_of_safetensors(path: Path) -> None:
    model = fitted([e for e in ESTIMATORS if class_name(e) == "VQVAE"][-1])
    skgen.save(model, path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = file.get_tensor("fitted/module_/weights/encoder.1.weight")
    assert metadata["format"] == "skgen"
    assert json.loads(metadata["model"])["class"] == type(model).__name__
    assert torch.equal(weights, model.module_.encoder[1].weight)


# What is refused.


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "n_components",
            0,
            r"'n_components' parameter of GaussianDensity must be an int",
        ),
        ("reg_covar", -1.0, "'reg_covar' parameter of GaussianDensity must be"),
        ("unknown", 1, "this version of GaussianDensity has no parameter 'unknown'"),
        ("device", {"float": "nan"}, "'device' parameter of GaussianDensity"),
    ],
)
def test_parameters_of_a_file_go_by_the_estimators_rules(
    name: str, value: Any, message: str, path: Path
) -> None:
    skgen.save(GaussianDensity().fit(X), path)
    edit(path, lambda model: model["parameters"].update({name: value}))
    with pytest.raises(ModelFileError, match=message):
        skgen.load(path)


def test_a_parameter_that_a_file_lacks_has_its_default(path: Path) -> None:
    model = GaussianDensity().fit(X)
    skgen.save(model, path)
    edit(path, lambda contents: contents["parameters"].pop("reg_covar"))
    assert_same(skgen.load(path), model, X)


def test_an_estimator_of_another_version_is_named(path: Path) -> None:
    skgen.save(GaussianDensity().fit(X), path)
    edit(path, lambda contents: contents.update({"class": "Flow"}))
    with pytest.raises(ModelFileError, match="a 'Flow', and this version of skgen has"):
        skgen.load(path)


def test_parameters_of_a_file_are_checked_whatever_is_configured(path: Path) -> None:
    skgen.save(VAE(1, **TINY).fit(X), path)
    edit(path, lambda contents: contents["parameters"].update(max_iter=-1))
    with (
        config_context(skip_parameter_validation=True),
        pytest.raises(ModelFileError, match="'max_iter' parameter of VAE"),
    ):
        skgen.load(path)


def test_sizes_that_a_file_states_allocate_nothing(path: Path) -> None:
    skgen.save(VAE(1, **TINY).fit(X), path)
    huge = {"tuple": [10**9, 10**9]}

    def widen(model: Any) -> None:
        model["fitted"]["_built_with"]["dict"]["hidden_layer_sizes"] = huge

    edit(path, widen)
    with pytest.raises(ModelFileError, match="1000000000"):
        skgen.load(path)


def test_a_later_format_asks_for_an_update(path: Path) -> None:
    skgen.save(GaussianDensity().fit(X), path)
    header, payload = parts(path.read_bytes())
    header["__metadata__"] |= {"format_version": "2", "skgen_version": "9.1"}
    path.write_bytes(resealed(header, payload))
    with pytest.raises(
        ModelFileError, match=r"format 2, written by skgen 9\.1; .* Update"
    ):
        skgen.load(path)


def test_a_pickle_by_any_other_name_is_an_error(path: Path) -> None:
    joblib.dump(GaussianDensity().fit(X), path)
    with pytest.raises(ModelFileError, match=r"looks like a pickle\. .* joblib\.load"):
        skgen.load(path)


@pytest.mark.parametrize("where", ["missing", "folder"])
def test_what_is_no_file_is_an_error(where: str, path: Path) -> None:
    if where == "missing":
        with pytest.raises(FileNotFoundError):
            skgen.load(path)
    else:
        with pytest.raises(ModelFileError, match="no regular file"):
            skgen.load(path.parent)


def test_the_checksum_of_a_header_is_that_of_the_docs(path: Path) -> None:
    skgen.save(GaussianDensity().fit(X), path)
    header, _ = parts(path.read_bytes())
    assert header_sum(header) == header["__metadata__"]["header_sha256"]


@one_of_each
def test_nothing_is_unpickled(
    estimator: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skgen.save(fitted(estimator), path)

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was unpickled")

    for module in (pickle, joblib, torch, np):
        monkeypatch.setattr(module, "load", never)
    for name in ("loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    assert type(skgen.load(path)) is type(estimator)
