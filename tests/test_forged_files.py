"""Forged files: nothing in them is run or imported, and sizes allocate nothing."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import skgen
from skgen import VAE, GaussianDensity, MixedDensity
from skgen._tables.frames import Columns
from skgen.io import ModelFileError
from tests.estimators import features
from tests.file_forgery import (
    FOLDER,
    MAY_LOAD,
    MUTATIONS,
    changed,
    edit,
    edited,
    loaded,
    nothing_runs,
    parts,
    resealed,
    try_mutation,
    victims,
    with_text,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings(
        "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
    ),
    # A forged file may have names for its columns, and none for its features.
    pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning"),
]

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


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what is imported when files of each kind are loaded."""
    path = tmp_path_factory.mktemp("whole") / "model"
    for data in victims():
        path.write_bytes(data)
        skgen.load(path)


# Many mutations.


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_corrupted_file_is_an_error_or_a_whole_model(
    mutation: Callable[..., Any], path: Path
) -> None:
    rng = random.Random(mutation.__name__)
    n_models = sum(
        try_mutation(mutation, rng, path) for _ in range(MUTATIONS[mutation])
    )
    assert (n_models > 0) == (mutation in MAY_LOAD)


def test_there_are_a_thousand_corrupted_files() -> None:
    assert sum(MUTATIONS.values()) >= 1000


def test_a_forged_file_may_have_networks_of_the_users_own(path: Path) -> None:
    own: dict[str, Any] = {"encoder": nn.Linear}
    skgen.save(VAE(2, **own, **TINY).fit(X), path)
    data, rng, models = path.read_bytes(), random.Random(0), []
    for _ in range(60):
        path.write_bytes(edited(data, rng))
        models.append(loaded(path, **own))
    assert {type(model) for model in models} == {type(None), VAE}


# Values that select what is done.


def _with(kind: Any, *path_of_keys: Any, value: Any) -> Any:
    """A change to the JSON of a model, for `edit`."""

    def change(model: Any) -> None:
        node = model["fitted"]
        for key in path_of_keys[:-1]:
            node = node[key]
        node[path_of_keys[-1]] = value

    return pytest.param(kind, change, id=f"{path_of_keys[-1]}={str(value)[:30]}")


_COLUMNS, _OUTPUT = ("_columns", "tuple"), ("_sklearn_output_config", "dict")
FORGED = [
    *(
        _with(kind, *_COLUMNS, 0, value=library)
        for kind in ("density", "table")
        for library in ("this", "antigravity", "os", "pandas.io", "", None, ["pandas"])
    ),
    *(
        _with(kind, *_COLUMNS, 2, 0, value=dtype)
        for kind in ("density", "table", "polars")
        for dtype in ("read_csv", "__class__", "int7", "O", "i4,f8", "", None, 3)
    ),
    _with("table", *_COLUMNS, 2, 0, value="datetime64[ns, ../../etc/passwd]"),
    _with("polars", *_COLUMNS, 2, 0, value="datetime64[ns]"),
    _with("polars", *_COLUMNS, 2, 0, value="Datetime(x); __import__"),
    _with("polars", *_COLUMNS, 2, 0, value=f"Datetime({'a' * 10**6})"),
    *(_with("table", *_COLUMNS, 1, value=names) for names in ([], ["a"], "ab", [[1]])),
    *(
        _with(kind, "_sklearn_output_config", value={"dict": {"transform": value}})
        for kind in ("density", "table")
        for value in ("this", "antigravity", "torch", None, 1)
    ),
    _with("density", *_OUTPUT, "predict", value="pandas"),
    *(
        _with("density", "device_", value=device)
        for device in ("meta", "xla", "cuda:-1", "cuda:99999", "cpu:x", "os", None)
    ),
    _with("density", "_dtype", value="float64"),
    _with("density", "_dtype", value={"dtype": "object"}),
    _with("density", "feature_names_in_", value="this"),
    _with("density", "n_features_in_", value=True),
    *(
        _with("table", "_array_dtype", value=value)
        for value in ("object", "i4,f8", "O", "float64", 3)
    ),
    *(
        _with("density", name, value={"dict": {}})
        for name in ("_callback_fit_ctx", "_skl_callbacks", "__sklearn_clone__")
    ),
    *(_with("density", name, value=1) for name in ("__class__", "_more_tags", "fit")),
    *(_with("network", "n_iter_", value=value) for value in (-1, 2**63, 10**400)),
    *(
        _with("network", "_built_with", "dict", "activation", value=value)
        for value in ("Tanh", "os.system", "torch.nn.ReLU", None, 1)
    ),
    *(
        _with("network", "module_", "dict", "likelihood", value=value)
        for value in ("gaussian", {"likelihood": ["os.system", {"dict": {}}]}, None)
    ),
    *(
        _with("table", "_codes", 0, "tuple", 1, value=kind)
        for kind in ("this", "binary", None)
    ),
]


@pytest.fixture(scope="module")
def forgeable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Bytes of files whose state is to be forged."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    folder = tmp_path_factory.mktemp("forgeable")
    frame = pandas.DataFrame(X[:, :2], columns=["a", "b"])
    models: dict[str, Any] = {
        "density": GaussianDensity().fit(frame).set_output(transform="pandas"),
        "table": MixedDensity(VAE(1, **TINY)).fit(frame),
        "polars": MixedDensity(VAE(1, **TINY)).fit(polars.from_pandas(frame)),
        "network": VAE(1, **TINY).fit(X),
    }
    for name, model in models.items():
        skgen.save(model, folder / name)
        skgen.load(folder / name)
    return {name: (folder / name).read_bytes() for name in models}


@pytest.mark.parametrize(("kind", "change"), FORGED)
def test_a_value_that_selects_behaviour_is_of_a_fixed_list(
    kind: str, change: Callable[..., Any], forgeable: dict[str, Any], path: Path
) -> None:
    path.write_bytes(forgeable[kind])
    edit(path, change)
    with nothing_runs(), pytest.raises(ModelFileError):
        skgen.load(path)
    assert not {"this", "antigravity"} & set(sys.modules)


def test_a_library_is_of_the_fixed_list_when_it_is_used() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:, :2], columns=["a", "b"])
    model = GaussianDensity().fit(frame)
    model._sklearn_output_config = {"transform": "this"}
    with pytest.raises(ValueError, match=r"must be of pandas or polars\. Got 'this'"):
        model.sample(1)
    with pytest.raises(ValueError, match=r"must be of pandas or polars\. Got 'this'"):
        Columns("this", ["a"], ["float64"]).table(X[:, :1].T, "this")
    assert "this" not in sys.modules


# Sizes and depths.


def _tuple(*items: Any) -> Any:
    return {"tuple": [*items]}


def _mixed(kinds: Any) -> Any:
    return {"likelihood": ["mixed", {"dict": {"kinds": _tuple(*kinds)}}]}


def _built(**values: Any) -> Any:
    """A change of the parameters that the networks were built with."""

    def change(model: Any) -> None:
        model["parameters"] |= values
        model["fitted"]["_built_with"]["dict"] |= values

    return change


def _of_module(**values: Any) -> Callable[..., Any]:
    return lambda model: model["fitted"]["module_"]["dict"].update(values)


def _parameter(**values: Any) -> Callable[..., Any]:
    return lambda model: model["parameters"].update(values)


HUGE: dict[str, Any] = {
    "layers": ("VAE", _built(hidden_layer_sizes=_tuple(*[1] * 10**5))),
    "width": ("VAE", _built(hidden_layer_sizes=_tuple(10**12))),
    "components": ("VAE", _built(n_components=10**6)),
    "components of IWAE": ("IWAE", _built(n_components=10**6)),
    "stochastic layers": ("VAE", _built(n_components=_tuple(*[1] * 10**5))),
    "draws": ("VAE", _built(n_importance_samples=10**6)),
    "draws of tokens": ("VQVAE", _built(n_importance_samples=10**6)),
    "draws beyond int64": ("VAE", _built(n_importance_samples=10**30)),
    "image": (
        "VAE",
        _built(architecture="conv", image_shape=_tuple(10**5, 10**5), channels=10**6),
    ),
    "codes": ("VQVAE", _built(codebook_size=10**9)),
    "code size": ("VQVAE", _built(code_size=10**12)),
    "tokens": ("VQVAE", _built(n_tokens=10**7, prior="transformer")),
    "levels": ("VAE", _of_module(likelihood=_mixed(range(1, 65537)))),
    "ordered levels": (
        "VAE",
        _of_module(likelihood=_mixed([_tuple("ordinal", 65536)] * 10**4)),
    ),
    "kinds in a list": (
        "VAE",
        _of_module(
            likelihood={
                "likelihood": [
                    "mixed",
                    {"dict": {"kinds": [["ordinal", 65536]] * 10**4}},
                ]
            }
        ),
    ),
    "levels as numbers of NumPy": (
        "VAE",
        _of_module(
            likelihood=_mixed([{"number": ["int64", i]} for i in range(1, 20000)])
        ),
    ),
    "levels of a parameter": ("VAE", _parameter(likelihood=_mixed(range(1, 65537)))),
    "iterations": ("VAE", lambda model: model["fitted"].update(n_iter_=10**300)),
    "tol": ("VAE", _parameter(tol=10**400)),
}


def _victim(name: str) -> Any:
    return next(
        data
        for data in victims()
        if json.loads(parts(data)[0]["__metadata__"]["model"])["class"] == name
    )


@pytest.mark.parametrize("name", HUGE)
def test_sizes_that_a_file_states_allocate_nothing(name: str, path: Path) -> None:
    cls, change = HUGE[name]
    path.write_bytes(changed(_victim(cls), change))
    assert loaded(path) is None


@pytest.mark.parametrize("widest", [0, -1, 10**30, "x"])
def test_the_width_that_chunks_depend_on_is_counted(widest: Any, path: Path) -> None:
    data = (FOLDER / "vae_conv.safetensors").read_bytes()
    path.write_bytes(data)
    expected = skgen.load(path).module_.widest
    path.write_bytes(changed(data, _of_module(widest=widest)))
    assert skgen.load(path).module_.widest == expected > 0


TEXTS = {
    "deep list": "[" * 10**5 + "]" * 10**5,
    "deep object": '{"dict":' * 10**5 + "1" + "}" * 10**5,
    "deep value": '{"class": "VAE", "parameters": {"tol": %s}, "fitted": {}}'
    % ('{"tuple": [' * 300 + "]}" * 300),
    "digits": "9" * 10**5,
    "not finite": '{"class": "VAE", "parameters": {"tol": 1e999}, "fitted": {}}',
    "NaN": '{"class": NaN}',
    "Infinity": "-Infinity",
    "key twice": '{"class": "VAE", "class": "IWAE"}',
    "half a character": '{"class": "\\ud800", "parameters": {}, "fitted": {}}',
    "empty": "",
    "no JSON": "class: VAE",
    "null": "null",
    "two values": "{} {}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_model_is_refused(name: str, path: Path) -> None:
    path.write_bytes(with_text(_victim("VAE"), TEXTS[name]))
    assert loaded(path) is None


@pytest.mark.parametrize("names", [["\ud800"] * 5, ["a"] * 4, [["a"]] * 5, [1] * 5])
def test_names_of_features_are_text_one_for_each(names: list[Any], path: Path) -> None:
    def change(model: Any) -> None:
        model["fitted"]["feature_names_in_"] = {"strings": names}

    path.write_bytes(changed(_victim("GaussianDensity"), change))
    assert loaded(path) is None


def test_booleans_are_zeros_and_ones(path: Path) -> None:
    header, payload = parts(_victim("VAE"))
    name = next(n for n, entry in header.items() if entry.get("dtype") == "BOOL")
    start, _ = header[name]["data_offsets"]
    other = bytearray(payload)
    other[start] = 2
    path.write_bytes(resealed(header, bytes(other)))
    with pytest.raises(ModelFileError, match="are no booleans"):
        skgen.load(path)


@pytest.mark.parametrize("version", ["2", "0", "-1", "1.5", "x", "9" * 5000, 1, None])
def test_a_format_is_a_number(version: Any, path: Path) -> None:
    header, payload = parts(_victim("VAE"))
    header["__metadata__"]["format_version"] = version
    header["__metadata__"]["skgen_version"] = "9\x1b[2J"  # for a terminal
    path.write_bytes(resealed(header, payload))
    with pytest.raises(ModelFileError) as raised:
        skgen.load(path)
    assert len(str(raised.value)) < 1000
    assert "\x1b" not in str(raised.value)


def test_what_a_file_says_is_cut_short_in_errors(path: Path) -> None:
    path.write_bytes(changed(_victim("VAE"), _parameter(tol=[1] * 10**5)))
    with pytest.raises(ModelFileError) as raised:
        skgen.load(path)
    assert len(str(raised.value)) < 1500
