"""Files of models that are damaged or forged, and a watch over what loading them does.

A file is (header, payload); a mutation makes bytes of another file out of those of one.
`Victims` are the files of ``tests/files_0_1``. A longer run than that of the tests:

    python tests/file_forgery.py --files 100000 --seed 1
"""

import argparse
import copy
import functools
import hashlib
import io
import json
import os
import pickle
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import safetensors.numpy
import torch
from sklearn.base import clone

import skgen
from skgen import GaussianDensity
from skgen._files.container import sealed
from skgen.io import ModelFileError

if sys.platform.startswith("linux"):
    import resource

FOLDER = Path(__file__).with_name("files_0_1")
# Memory that loading a file of a few kilobytes may take beyond what is there.
MEMORY = 2**30
# Larger files take longer, and are no more telling.
MOST_BYTES = 50_000


def parts(data: bytes) -> tuple[Any, ...]:
    """Return the header and the payload of a file."""
    n = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def joined(header: Any, payload: bytes) -> bytes:
    """Return the bytes of a file, without new checksums."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def resealed(header: dict[str, Any], payload: bytes) -> bytes:
    """Return the bytes of a file, with the checksums that it should have."""
    header["__metadata__"]["payload_sha256"] = hashlib.sha256(payload).hexdigest()
    return b"".join([*sealed(header), payload])


def edit(path: Path, change: Callable[..., Any]) -> None:
    """Change the JSON of a file, and its checksums."""
    path.write_bytes(changed(path.read_bytes(), change))


def changed(data: bytes, change: Callable[..., Any]) -> bytes:
    """Return a file whose JSON is changed, with its checksums."""
    model = json.loads(parts(data)[0]["__metadata__"]["model"])
    change(model)
    return with_text(data, json.dumps(model))


def with_text(data: bytes, text: str) -> bytes:
    """Return a file with another text as its model, with its checksums."""
    header, payload = parts(data)
    header["__metadata__"]["model"] = text
    return resealed(header, payload)


def flipped(data: Any, rng: Any) -> Any:
    """Some bytes are others."""
    other = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        other[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return bytes(other)


def truncated(data: Any, rng: Any) -> Any:
    """The end is missing, or there is more of it."""
    if rng.random() < 0.2:
        return data + rng.randbytes(rng.randrange(1, 50))
    return data[: rng.randrange(len(data))]


def swapped(data: Any, rng: Any) -> Any:
    """Two tensors take each other's place, or their bytes do."""
    header, payload = parts(data)
    first, second = rng.sample([name for name in header if name != "__metadata__"], 2)
    if rng.random() < 0.5:
        header[first], header[second] = header[second], header[first]
        return joined(header, payload)
    (a, b), (c, d) = (header[name]["data_offsets"] for name in (first, second))
    if a == b or c == d:
        return joined(header, payload[::-1])
    other = bytearray(payload)
    size = min(b - a, d - c)
    other[a : a + size], other[c : c + size] = (
        payload[c : c + size],
        payload[a : a + size],
    )
    return joined(header, bytes(other)) if other != payload else data[:-1]


def bad_header(data: Any, rng: Any) -> Any:
    """The header has another length, or is not what it should be."""
    header, payload = parts(data)
    text = json.dumps(header).encode()
    sizes = [0, 1, len(text) + 1, len(data), 10**8, 2**31, 2**40, 2**63, 2**64 - 1]
    return rng.choice(
        [
            rng.choice(sizes).to_bytes(8, "little") + text + payload,
            joined(b"[" * 10**5 + b"]" * 10**5, payload),
            joined(b'{"a":' * 10**4 + b"1" + b"}" * 10**4, payload),
            joined(text[:-1] + b', "__metadata__": {}}', payload),
            joined(text[:-1] + b', "x": NaN}', payload),
            joined(text[:-1] + b', "x": 1e999}', payload),
            joined(b"\xff\xfe" + text, payload),
            joined(rng.choice([b"{}", b"[]", b"null", b'"a"', b""]), payload),
            joined(
                {**header, "__metadata__": rng.choice([{}, [], None, "skgen", 3])},
                payload,
            ),
            joined({**header, "more": next(iter(header.values()))}, payload),
        ]
    )


def dumped(value: Any) -> bytes:
    """Return the bytes of joblib.dump."""
    file = io.BytesIO()
    joblib.dump(value, file)
    return file.getvalue()


class Trap:
    """What must never be unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "sprung", True)


def foreign(data: Any, rng: Any) -> Any:
    """The file is of another kind."""
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3), "trap": Trap()}, file)
    return rng.choice(
        [
            pickle.dumps(Trap(), protocol=rng.randrange(6)),
            pickle.dumps(GaussianDensity().fit(np.eye(3))),
            file.getvalue(),
            dumped(Trap()),
            safetensors.numpy.save({"a": np.zeros(3)}),
            safetensors.numpy.save({"a": np.zeros(3)}, {"format": "pt"}),
            rng.randbytes(rng.randrange(300)),
            b"",
            b"hello",
        ]
    )


EVIL: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 10**9, 10**18, 10**400, 0.5, -1.5),
    *(1e300, "", "relu", "VAE", "VQVAE", "conv", "__class__", "os.system", "cuda:3"),
    *([], [1], [0], [10**12], [1] * 5000, [[2], [3]], {}, {"a": 1}),
    *({"tuple": [3, 3]}, {"tuple": 3}, {"tuple": [10**7, 10**7]}, {"float": "nan"}),
    *({"float": "inf"}, {"float": "1"}, {"dtype": "float32"}, {"dtype": "object"}),
    *({"number": ["float64", 1e9]}, {"number": ["int8", 1000]}, {"dict": {}}),
    *(
        {"number": ["object", 1]},
        {"array": "no"},
        {"tensor": "no"},
        {"pickle": "gASVCA=="},
    ),
    *({"strings": ["a"]}, {"strings": [1]}, {"given": ["encoder", "Net"]}),
    *({"likelihood": ["categorical", {"dict": {"n_levels": 65536}}]},),
    *(
        {"likelihood": ["bernoulli", {"dict": {}}]},
        {"likelihood": ["os", {"dict": {}}]},
    ),
    *({"random state": [{"array": "no"}, 10**9, 1, 0.0]}, {"class": "VAE"}),
    *("this", "antigravity", "pandas", "polars", "float64", "this[pyarrow]", "\ud800"),
    *("datetime64[ns, Europe/Berlin]", "period[M]", "Sparse[int64, 0]", "category"),
    *({"tuple": ["this", ["a"], ["int64"]]}, {"dict": {"transform": "this"}}),
    *({"tuple": ["pandas", [1, 2, 3, 4, 5], ["Int64"] * 5]}, 10**4000, 2**31, 2**63),
    *({"likelihood": ["mixed", {"dict": {"kinds": {"tuple": [65536, 65535]}}}]},),
    *({"tuple": ["real", "count", 3]}, {"tuple": ["x", "binary", [0, 1]]}),
    *({"tuple": [[]]}, {"dict": {"sigma": 1e-300}}, "tied", "diag", "mps", "cpu"),
]


def places(node: Any) -> Iterator[Any]:
    """Every (container, key) of some JSON."""
    items = []
    if isinstance(node, dict):
        items = list(node.items())
    elif isinstance(node, list):
        items = list(enumerate(node))
    for key, value in items:
        yield node, key
        yield from places(value)


def edited(data: bytes, rng: Any) -> bytes:
    """The JSON is changed, and has its checksum."""

    def change(model: Any) -> None:
        for _ in range(rng.choice([1, 1, 1, 3])):
            _change_a_place(model, rng)

    return changed(data, change)


def _change_a_place(model: dict[str, Any], rng: Any) -> None:
    holder, key = rng.choice(list(places(model)))
    match rng.randrange(5):
        case 0 if isinstance(holder, dict):
            holder[rng.choice(NAMES)] = holder.pop(key)
        case 1:
            del holder[key]
        case 2:
            other, there = rng.choice(list(places(model)))
            holder[key] = copy.deepcopy(other[there])
        case _:
            holder[key] = copy.deepcopy(rng.choice(EVIL))


NAMES = ["sample", "_model", "n_features_in_", "x y", "mean_", "_columns", "__class__"]
NAMES += ["_sklearn_output_config", "_callback_fit_ctx", "module_", "_so_far"]


def grafted(data: Any, rng: Any) -> Any:
    """Some of the JSON is that of another model, and has its checksum."""
    other = json.loads(parts(rng.choice(victims()))[0]["__metadata__"]["model"])

    def change(model: Any) -> None:
        part = rng.choice(["class", "parameters", "fitted"])
        if part == "class":
            model["class"] = other["class"]
            return
        name = rng.choice(sorted(other[part]))
        model[part][name] = other[part][name]

    return changed(data, change)


def recast(data: Any, rng: Any) -> Any:
    """A tensor has another shape, dtype or other values, and all has its checksum."""
    header, _ = parts(data)
    arrays = safetensors.numpy.load(data)
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    wider = np.concatenate([array.ravel(), array.ravel(), [1]])
    choice = [
        lambda: None,
        lambda: wider.astype(array.dtype),
        lambda: array.ravel()[:-1],
        lambda: array.astype(
            rng.choice(["int64", "float16", "float64", "uint8", "bool"])
        ),
        lambda: np.full_like(array, rng.choice([0, 1])),
        lambda: np.full(array.shape, rng.choice([np.nan, np.inf, -np.inf, -1.0, 1e30])),
        lambda: array[None],
        lambda: array.T,
        lambda: np.zeros((0, 2**40)),
        lambda: np.zeros(0),
    ]
    changed = rng.choice(choice)()
    if changed is not None:
        arrays[rng.choice([name, name, name, "fitted/other"])] = np.ascontiguousarray(
            changed
        )
    blob = safetensors.numpy.save(arrays)
    index, payload = parts(blob)
    return resealed({"__metadata__": header["__metadata__"], **index}, payload)


# What Python tells its audit hooks when a file makes it do more than read.
RUNS = (
    *("compile", "ctypes.dlopen", "exec", "os.chmod", "os.exec", "os.link", "os.mkdir"),
    *("os.posix_spawn", "os.remove", "os.rename", "os.symlink", "os.system"),
    *("pickle.find_class", "shutil.rmtree", "socket.connect", "subprocess.Popen"),
)
# Packages whose modules may be imported when they are first needed.
IMPORTS = ("skgen", "numpy", "pandas", "polars", "scipy", "sklearn", "torch")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_seen: list[Any] | None = None


def _hook(event: Any, arguments: Any) -> None:
    if _seen is None:
        return
    is_import = event == "import" and not str(arguments[0]).startswith(IMPORTS)
    is_write = event == "open" and arguments[2] & WRITES
    if is_import or is_write or event in RUNS:
        _seen.append((event, str(arguments)[:200]))


sys.addaudithook(_hook)  # for good: it is one for all tests, and mostly idle
repr(torch.zeros(1))  # imports parts of torch, which messages with a tensor would


@contextmanager
def nothing_runs() -> Iterator[Any]:
    """Raise an AssertionError where code is run or imported, or a file is written."""
    global _seen
    _seen = []
    try:
        yield
    finally:
        seen, _seen = _seen, None
        assert not seen, seen


@contextmanager
def memory_bound() -> Iterator[Any]:
    """Let the process have no more memory than it has, and `MEMORY`."""
    if not sys.platform.startswith("linux"):
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def loaded(path: Path, **given: Any) -> Any:
    """Return the model of a file, or None where it is refused with a proper error."""
    try:
        with nothing_runs(), memory_bound():
            return skgen.load(path, **given)
    except ModelFileError as error:
        refused = error
    cause = refused.__cause__
    assert not isinstance(cause, MemoryError | SystemError), cause
    assert "allocate memory" not in str(cause), cause
    return None


def check_whole(model: Any, path: Path) -> None:
    """Do all that a model does: a wrong one may refuse the rows that it draws."""
    assert len(model.sample(3)) == 3
    assert repr(clone(model))
    bare = copy.copy(model).set_output(transform="default")
    rows = bare.sample(2, random_state=0)
    if isinstance(rows, np.ndarray):
        bare.__dict__.pop("feature_names_in_", None)
    with suppress(ValueError):
        assert bare.score_samples(rows).shape == (2,)
        assert bare.inverse_transform(bare.transform(rows)).shape == rows.shape
    with suppress(ValueError):
        skgen.save(model, path)
        assert type(skgen.load(path)) is type(model)


# Mutation -> how many the tests make; the first five leave no file of a model.
MUTATIONS = {
    flipped: 300,
    truncated: 150,
    swapped: 100,
    bad_header: 100,
    foreign: 80,
    edited: 150,
    grafted: 50,
    recast: 70,
}
MAY_LOAD = (edited, grafted, recast)


@functools.cache
def victims() -> Any:
    """Return the bytes of the files that are mutated: of each kind of model."""
    files = (path.read_bytes() for path in sorted(FOLDER.glob("*.safetensors")))
    return [data for data in files if len(data) < MOST_BYTES]


def try_mutation(mutation: Callable[..., Any], rng: Any, path: Path) -> bool:
    """Load a mutated file; return whether it holds a model, which is then tried."""
    path.write_bytes(mutation(rng.choice(victims()), rng))
    model = loaded(path)
    if model is not None:
        check_whole(model, path)
    assert not Trap.sprung
    return model is not None


def main() -> None:
    """Run many mutations, and keep the file of the first that fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, n_models = random.Random(options.seed), 0
    path = Path(tempfile.mkdtemp(), "forged")
    warnings.simplefilter("ignore")
    for data in victims():
        path.write_bytes(data)
        skgen.load(path)  # what is imported when it is needed, is now
    for i in range(options.files):
        mutation = rng.choice([*MUTATIONS])
        try:
            n_models += try_mutation(mutation, rng, path)
        except BaseException:
            print(f"file {i}, {mutation.__name__}: {path}")
            raise
    print(f"{options.files} files, {n_models} of which hold a model")


if __name__ == "__main__":
    main()
