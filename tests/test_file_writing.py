"""How files are written: over regular files only, as a whole, and nothing left over."""

import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import skgen
from skgen import VAE, GaussianDensity
from skgen._files.container import ModelFileError
from skgen.io import onnx
from tests.estimators import features

fcntl = pytest.importorskip("fcntl", reason="the locks of POSIX")

X = features()
STRAY = ".model.safetensors.0123abcd.tmp"


@pytest.fixture(scope="module")
def model() -> Any:
    return GaussianDensity().fit(X)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def _socket(path: Any) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # such names must be short


def _device(path: Any) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        pytest.skip("only root makes devices")


SPECIAL: dict[str, Any] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "folder": os.mkdir,
    "device": _device,
}


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "link"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_stays(
    kind: str, linked: bool, model: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    SPECIAL[kind](path)
    before = path.stat()
    given = path
    if linked:
        given = path.with_name("link")
        given.symlink_to(path)
    message = "Is a directory" if kind == "folder" else "Not a regular file"
    with pytest.raises(OSError, match=message):
        skgen.save(model, given)
    with pytest.raises(ModelFileError, match="no regular file"):
        skgen.load(given)
    assert os.path.samestat(path.stat(), before)
    assert {p.name for p in path.parent.iterdir()} == {path.name, given.name}


def test_a_descriptor_without_a_file_stays(model: Any) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Not a regular file"):
            skgen.save(model, f"/dev/fd/{writing}")
    finally:
        os.close(reading)
        os.close(writing)


def test_links_are_followed_as_open_follows_them(model: Any, path: Path) -> None:
    target, link = path.with_name("target"), path.with_name("link")
    link.symlink_to(target)  # of a file that is not there yet
    for _ in range(2):
        skgen.save(model, link)
        assert link.is_symlink()
        assert target.is_file()
        assert not target.is_symlink()
    circle = path.with_name("circle")
    circle.symlink_to(circle)
    with pytest.raises(OSError, match="symbolic links"):
        skgen.save(model, circle)


def test_what_crashes_left_is_removed(model: Any, path: Path) -> None:
    others = [
        ".other.safetensors.0123abcd.tmp",
        ".model.safetensors.0123ABCD.tmp",
        ".model.safetensors.0123abcd.tmp2",
        ".model.safetensors.tmp",
        "model.safetensors.0123abcd.tmp",
    ]
    for name in (*others, STRAY, STRAY.replace("0", "f")):
        path.with_name(name).write_bytes(b"left")
    os.mkdir(path.with_name(STRAY.replace("0", "e")))
    skgen.save(model, path)
    kept = {p.name for p in path.parent.iterdir()}
    assert kept == {path.name, *others, STRAY.replace("0", "e")}


def test_what_another_process_writes_is_left(model: Any, path: Path) -> None:
    stray = path.with_name(STRAY)
    with open(stray, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        skgen.save(model, path)
        assert stray.exists()
    skgen.save(model, path)
    assert not stray.exists()


def test_many_may_save_to_one_place(model: Any, path: Path) -> None:
    errors = []

    def save() -> None:
        try:
            for _ in range(10):
                skgen.save(model, path)
                skgen.load(path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [*path.parent.iterdir()] == [path]


# Graphs.


@pytest.fixture(scope="module")
def network() -> Any:
    tiny: dict[str, Any] = {"hidden_layer_sizes": (4,), "n_importance_samples": 2}
    return VAE(1, **tiny, random_state=0).partial_fit(X)


@pytest.fixture
def quick_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for graphs, which take seconds."""
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx, "graph_of", lambda name, *_: b"graph")


class Failed(Exception):
    pass


def _fail(*args: Any) -> None:
    raise Failed


@pytest.mark.parametrize("part", ["trace", "folder", "special", "replace"])
def test_graphs_that_fail_leave_nothing(
    part: str,
    network: Any,
    tmp_path: Path,
    quick_graphs: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths: dict[str, Any] = {
        name: tmp_path / f"{name}.onnx" for name in ("encoder", "decoder")
    }
    left = []
    match part:
        case "trace":
            monkeypatch.setattr(onnx, "graph_of", _fail)
        case "folder":
            paths["decoder"] = tmp_path / "missing" / "decoder.onnx"
        case "special":
            os.mkfifo(paths["decoder"])
            left = [paths["decoder"]]
        case "replace":
            monkeypatch.setattr(os, "replace", _fail)
    with pytest.raises((Failed, OSError)):
        skgen.to_onnx(network, **paths)
    assert [*tmp_path.iterdir()] == left


def test_graphs_have_files_of_their_own(
    network: Any, tmp_path: Path, quick_graphs: None
) -> None:
    path, link = tmp_path / "graph.onnx", tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(
        ValueError, match="encoder and decoder are to be written to one"
    ):
        skgen.to_onnx(network, encoder=path, decoder=link)
    assert not path.exists()


def test_graphs_keep_what_was_there_or_replace_it(
    network: Any, tmp_path: Path, quick_graphs: None
) -> None:
    paths: dict[str, Any] = {
        name: tmp_path / f"{name}.onnx" for name in ("encoder", "decoder")
    }
    for path in paths.values():
        Path(path).write_bytes(b"before")
    skgen.to_onnx(network, **paths)
    assert {path.read_bytes() for path in paths.values()} == {b"graph"}
