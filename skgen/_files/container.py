"""The bytes of a file: arrays and JSON in the safetensors format, with checksums.

A file is a safetensors file. Its ``__metadata__`` has the JSON that says what the
arrays are, and two SHA-256 sums: of the payload, and of the header with all that is
in it. Nothing is read before its length is checked against that of the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import safetensors.numpy
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

FORMAT_VERSION = 1
# What versions of skgen look like, such as 0.1 and 1.2rc1; messages have them.
VERSION = re.compile(r"\d[\w.+!-]{0,40}", re.ASCII)
# What safetensors itself reads at most.
MOST_HEADER_BYTES = 100_000_000
LENGTH_BYTES, ALIGNMENT = 8, 8
# First bytes of what people take for a model, and its name.
OTHERS = {b"\x80": "a pickle", b"PK": "a zip archive, such as torch.save writes"}


class Kind(NamedTuple):
    """Kind of a file: its name in the header, and what errors say of it."""

    name: str
    words: str  # what such a file is
    foreign: str  # what to do with another file
    damaged: str  # what to do with a file that is damaged


MODEL = Kind(
    "skgen",
    "a file of skgen.save",
    "skgen.load reads nothing else, and unpickles nothing; use joblib.load for a "
    "pickle that you trust.",
    "Take another copy of the file, or save the model again.",
)
CHECKPOINT = Kind(
    "skgen checkpoint",
    "a checkpoint of a fit",
    "Give another path, or delete the file.",
    "Take another copy of the file, or delete it: then the fit starts anew.",
)


class ModelFileError(ValueError):
    """A file from which no model can be loaded; the message says why, and what to do.

    Examples
    --------
    >>> import pickle
    >>> import tempfile
    >>> from pathlib import Path
    >>> import skgen
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.pkl")
    ...     _ = path.write_bytes(pickle.dumps(None))
    ...     try:
    ...         skgen.load(path)
    ...     except skgen.io.ModelFileError as error:
    ...         print(str(error).partition(": ")[2])
    it looks like a pickle. skgen.load reads nothing else, and unpickles nothing; ...
    """


class Contents(NamedTuple):
    """Contents of a file."""

    model: Any  # JSON
    arrays: dict[str, NDArray[Any]]


# Writing.


def write_file(
    path: str | os.PathLike[str],
    contents: Contents,
    version: str,
    kind: Kind = MODEL,
) -> None:
    """Write a file as a whole, or leave what is there.

    Parameters
    ----------
    path : path-like
        Where.
    contents : Contents
        JSON, and contiguous arrays.
    version : str
        Version of the package, for messages.
    kind : Kind, default=MODEL
        Kind of the file.
    """
    write_atomically({place_of(path): pack(contents, version, kind)})


def pack(
    contents: Contents, version: str, kind: Kind = MODEL
) -> list[bytes | memoryview]:
    """Return the parts of a file: the header's length, the header, the payload."""
    blob = memoryview(safetensors.numpy.save(contents.arrays))
    start = LENGTH_BYTES + int.from_bytes(blob[:LENGTH_BYTES], "little")
    payload = blob[start:]
    metadata = {
        "format": kind.name,
        "format_version": str(FORMAT_VERSION),
        "skgen_version": version,
        "model": json.dumps(contents.model, allow_nan=False),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
    }
    index = json.loads(bytes(blob[LENGTH_BYTES:start]))
    return [*sealed({"__metadata__": metadata, **index}), payload]


def sealed(header: dict[str, Any]) -> tuple[bytes, bytes]:
    """Add its own checksum to a header: the bytes of its length, and its bytes."""
    metadata = {**header["__metadata__"], "header_sha256": header_sum(header)}
    text = json.dumps({**header, "__metadata__": metadata}).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little"), text


def header_sum(header: Mapping[str, Any]) -> str:
    """SHA-256 of a header without this sum, as JSON with sorted keys and no spaces."""
    metadata = dict(header["__metadata__"])
    metadata.pop("header_sha256", None)
    plain = {**header, "__metadata__": metadata}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(files: Mapping[Path, Sequence[bytes | memoryview]]) -> None:
    """Write files beside their places, then move them there: all, or none.

    A reader sees the old file or the new one. What earlier writers of the same places
    left behind when they were killed is removed.

    Parameters
    ----------
    files : mapping of Path to sequence of buffers
        What to write, one buffer after the other, by places that `place_of` gave. A
        file that is there keeps its permissions.
    """
    with ExitStack() as open_files:
        beside = {}
        for place, parts in files.items():
            _remove_strays(place)
            beside[place] = open_files.enter_context(_written_beside(place, parts))
        for place, written in beside.items():
            os.replace(written, place)
    for folder in {place.parent for place in files}:
        _sync_folder(folder)


def place_of(path: str | os.PathLike[str]) -> Path:
    """Return where a file is to be written: links are followed, as ``open`` does.

    Raises
    ------
    OSError
        If something is there that is not a regular file: a folder, a FIFO, a device.
    """
    path = os.fsdecode(path)
    place = Path(os.path.realpath(path))
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return place
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
    # A descriptor of a process is a link, too, to what may have no name.
    if not (stat.S_ISREG(found.st_mode) and place.exists()):
        raise FileExistsError(
            errno.EEXIST, "Not a regular file, and nothing is written over it", path
        )
    return place


@contextmanager
def _written_beside(place: Path, parts: Sequence[bytes | memoryview]) -> Iterator[Path]:
    """Write a file beside a place; removed where it is not moved from there."""
    with _new_file_beside(place) as file:
        beside = Path(file.name)
        try:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if place.exists():
                shutil.copymode(place, beside)
            if fcntl is None:  # there, no open file can be moved
                file.close()
            yield beside
        except BaseException:
            file.close()
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def _new_file_beside(place: Path) -> Iterator[BinaryIO]:
    """Open a new file beside a place, locked: no other process takes it for a stray."""
    while True:
        beside = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
        with open(beside, "xb") as file:
            _lock(file.fileno(), wait=True)
            if os.fstat(file.fileno()).st_nlink:  # not removed before it was locked
                yield file
                return


def _remove_strays(place: Path) -> None:
    """Remove what writers of a place left that were killed: files that none locks."""
    if fcntl is None:
        return
    name = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError), os.scandir(place.parent) as entries:
        for entry in [*entries]:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    with suppress(OSError):  # such as one of another user
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            if _lock(descriptor, wait=False):
                os.unlink(path)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock a file until it is closed; false where that cannot be."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # locked by another, or the file system has no locks
        return False
    return True


@contextmanager
def held(place: Path) -> Iterator[bool]:
    """Hold a place until the block ends; false where another process or thread does.

    By a locked file beside it, which goes with the process that holds it.

    Raises
    ------
    OSError
        If nothing can be written there.
    """
    beside = place.with_name(f".{place.name}.lock")
    while True:
        with open(beside, "wb") as file:
            if _is_taken(file.fileno()):
                yield False
                return
            if os.fstat(file.fileno()).st_nlink:  # not removed before it was locked
                try:
                    yield True
                finally:
                    beside.unlink(missing_ok=True)
                return


def _is_taken(descriptor: int) -> bool:
    """Lock a file, where there are locks; true if another has locked it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    return False


def _sync_folder(folder: Path) -> None:
    """Make the move last through a loss of power, where folders can be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Reading.


def read_file(path: str | os.PathLike[str], kind: Kind = MODEL) -> Contents:
    """Read a file, after its lengths, format, version and checksums.

    Parameters
    ----------
    path : path-like
        The file.
    kind : Kind, default=MODEL
        Kind that it must be of.

    Raises
    ------
    ModelFileError
        If it is another kind of file, or truncated, altered, or of a later format.
    OSError
        If it cannot be opened.
    """
    with _open_regular(path, kind) as file:
        text = _header_text(path, file, kind)
        metadata = _checked_metadata(path, text, kind)
        file.seek(0)
        data = file.read()
    payload = memoryview(data)[LENGTH_BYTES + len(text) :]
    if hashlib.sha256(payload).hexdigest() != metadata["payload_sha256"]:
        _damaged(path, kind, "its arrays do not have the checksum that it states")
    try:
        return Contents(parse(metadata["model"]), safetensors.numpy.load(data))
    except Exception as error:  # whatever safetensors has for what is out of order
        _damaged(path, kind, f"its contents cannot be read: {error}", error)


@contextmanager
def _open_regular(path: str | os.PathLike[str], kind: Kind) -> Iterator[BinaryIO]:
    """Open a file to read; a ModelFileError for a FIFO, a device or a folder."""

    def check(mode: int) -> None:
        if not stat.S_ISREG(mode):
            _foreign(path, kind, "it is no regular file")

    def without_waiting(path: str, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    check(os.stat(path).st_mode)  # before it is opened, which a device may act on
    with open(path, "rb", opener=without_waiting) as file:
        check(os.fstat(file.fileno()).st_mode)
        yield file


def _header_text(path: Any, file: BinaryIO, kind: Kind) -> bytes:
    """Read the header, if the file is long enough for what it announces."""
    size = os.fstat(file.fileno()).st_size
    first = file.read(LENGTH_BYTES)
    n = int.from_bytes(first, "little")
    if n <= min(size - LENGTH_BYTES, MOST_HEADER_BYTES):
        return file.read(n)
    for magic, name in OTHERS.items():
        if first.startswith(magic):
            _foreign(path, kind, f"it looks like {name}")
    what = f"it has {size} bytes, and would have a header of {n}"
    _foreign(path, kind, what, cut=True)


def _checked_metadata(path: Any, text: bytes, kind: Kind) -> dict[str, str]:
    """Parse a header; return its metadata if it is ours, known, and unaltered."""
    try:
        header = parse(text.decode())
        metadata = header["__metadata__"]
        ours = metadata["format"] == kind.name
        version, wrote = metadata["format_version"], metadata["skgen_version"]
        known_form = re.fullmatch(r"[1-9]\d{0,8}", version, re.ASCII)
        ours = bool(ours and known_form and VERSION.fullmatch(wrote))
    except (ValueError, TypeError, LookupError, RecursionError):
        ours = False
    if not ours:
        _foreign(path, kind, "it has no header of skgen's", cut=True)
    if int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {version}, written by skgen {wrote}; this version "
            f"reads formats up to {FORMAT_VERSION}. Update skgen."
        )
    if header_sum(header) != metadata.get("header_sha256"):
        _damaged(path, kind, "its header does not have the checksum that it states")
    if not all(
        isinstance(metadata.get(key), str) for key in ("model", "payload_sha256")
    ):
        _damaged(path, kind, "its header lacks an entry")
    return dict(metadata)


def parse(text: str) -> Any:
    """Parse JSON as the standard has it: no key twice, no NaN, no Infinity."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _foreign(path: Any, kind: Kind, what: str, *, cut: bool = False) -> NoReturn:
    """Say that a file is none of ours; ``cut``: or not as it was written."""
    other = ", or is cut off or damaged" if cut else ""
    raise ModelFileError(f"{path} is not {kind.words}{other}: {what}. {kind.foreign}")


def _damaged(
    path: Any, kind: Kind, what: str, cause: Exception | None = None
) -> NoReturn:
    raise ModelFileError(
        f"{path} is damaged, or was altered: {what}. {kind.damaged}"
    ) from cause
