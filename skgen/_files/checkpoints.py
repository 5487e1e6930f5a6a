"""The file of a fit that may be killed, and goes on where it was.

A file has the fingerprint of a fit and the states of its pieces of work, those that are
done and the one that runs (`skgen._training.driver`). It is replaced as a whole, so
that a fit which is killed at any instant leaves a file that can be read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import perf_counter as now
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgen import __version__
from skgen._files.container import (
    CHECKPOINT,
    Contents,
    ModelFileError,
    held,
    place_of,
    read_file,
    write_file,
)
from skgen._files.fingerprints import Fingerprint, file_name
from skgen._files.values import Reader, Writer
from skgen._utils.reduce import from_first, rank
from skgen._utils.tensors import check_random_state, draw_seed
from skgen.exceptions import CheckpointWarning

# Part of the time of a fit that its files may take: 1.6 %. Where an epoch takes less
# than 64 times as long as a file, not every epoch is saved.
PART = 1 / 64
# Seconds that the first file is taken to take.
FIRST = 0.02


class StateWriter(Writer):
    """Writes states; tensors keep the order in which their numbers lie in memory.

    Sums depend on it in their last digits.
    """

    def write(self, value: Any, where: str) -> Any:
        """Return the JSON of a value."""
        if isinstance(value, Tensor):
            order = sorted(range(value.ndim), key=value.stride, reverse=True)
            plain = value.detach().permute(order).contiguous()
            return {"laid": [order, super().write(plain, where)]}
        return super().write(value, where)


class StateReader(Reader):
    """Reads states, in which numbers may be infinite or NaN."""

    def _tagged(self, node: dict[str, Any]) -> Any:
        match node:
            case {"laid": [list(order), {"tensor": str(name)}]}:
                plain = torch.from_numpy(self._take(name).copy())
                return plain.permute([order.index(i) for i in range(len(order))])
        return super()._tagged(node)

    def _check_array(self, array: NDArray[Any], name: str) -> None:
        pass


class Piece:
    """Keeps the state of one piece of work in a checkpoint."""

    def __init__(self, checkpoint: FitCheckpoint, number: int) -> None:
        self.checkpoint, self.number = checkpoint, number
        states = checkpoint.states
        self.state = states[number] if number < len(states) else None

    def save(self, state: Callable[[], dict[str, Any]], *, is_over: bool) -> None:
        """Take the state after an iteration, and write it, where it is due.

        The last state goes into the file of the next piece of work.
        """
        checkpoint = self.checkpoint
        is_due = checkpoint.is_due
        if checkpoint.is_stopped or not (is_over or is_due):
            return
        found = state()
        if found["n_iter"] > checkpoint.n_iter(self.number):
            checkpoint.take(self.number, found)
            if is_due:
                checkpoint.write()


class FitCheckpoint:
    """Checkpoint of one fit.

    Parameters
    ----------
    place : Path
        The file.
    label : str
        How messages name the parameter and its value.
    found : Fingerprint
        What the fit depends on.
    """

    def __init__(self, place: Path, label: str, found: Fingerprint) -> None:
        self.place, self.label, self.fingerprint = place, label, found
        self.states: list[dict[str, Any]] = []
        self.seed: int | None = None  # where random_state=None
        self.is_stopped = self.has_warned = False
        self.is_written = True  # whether the file has all states
        self._n_pieces = 0
        self._began, self._spent, self._last = now(), 0.0, FIRST  # all in seconds

    # What a fit asks for.

    def seeded(self, given: Any) -> np.random.RandomState:
        """Return the generator of a ``random_state``: of None, one that repeats."""
        if given is not None:
            return check_random_state(given)
        if self.seed is None:
            self.seed = draw_seed(check_random_state(None))
        return np.random.RandomState(self.seed)

    def next_piece(self) -> Piece:
        """Return the keeper of the next piece of work."""
        self._n_pieces += 1
        return Piece(self, self._n_pieces - 1)

    def stop(self) -> None:
        """Leave the file as it is."""
        self.is_stopped = True

    # Reading.

    def read(self, task: str) -> None:
        """Take the states of a fit that was killed, if there are any, and say so.

        Raises
        ------
        ValueError
            If the file is of another fit, or damaged.
        """
        if not self.place.exists():
            return
        try:
            self._take(read_file(self.place, CHECKPOINT))
        except ModelFileError as error:
            raise ValueError(f"{self.label} cannot be read. {error}") from error
        n = sum(state["n_iter"] for state in self.states)
        warnings.warn(
            f"{self.label}: the fit goes on after {n} {task}s, from {self.place}.",
            CheckpointWarning,
            stacklevel=2,
        )

    def _take(self, contents: Contents) -> None:
        reader = StateReader(contents.arrays, {})
        known = reader.read_all(contents.model)
        self._check(known["fingerprint"])
        self.seed, self.states = known["seed"], known["pieces"]

    def _check(self, known: Fingerprint) -> None:
        """Raise a ValueError that names what differs from the fit of the file."""
        names = dict.fromkeys([*self.fingerprint, *known])
        differ = [n for n in names if known.get(n) != self.fingerprint.get(n)]
        if differ:
            raise ValueError(
                f"{self.label} is the file of another fit: it differs in "
                f"{', '.join(differ)}. Give this fit another path, or a folder for the "
                f"files of many; or delete {self.place}, and it starts anew."
            )

    # Writing.

    @property
    def is_due(self) -> bool:
        """Return whether with another file, all would take no more than their part."""
        return now() - self._began >= (self._spent + self._last) / PART

    def n_iter(self, number: int) -> int:
        """Return the iterations of the last state of a piece; -1 if there is none."""
        known = self.states[number : number + 1]
        return known[0]["n_iter"] if known else -1

    def take(self, number: int, state: dict[str, Any]) -> None:
        """Take the state of a piece of work, the last that there is."""
        self.states[number:], self.is_written = [state], False

    def write(self) -> None:
        """Write all states to the file; a warning where that fails."""
        start = now()
        try:
            write_file(self.place, self._contents(), __version__, CHECKPOINT)
            self.is_written = True
        except (OSError, TypeError) as error:
            self.warn(error)
        self._last = now() - start
        self._spent += self._last

    def _contents(self) -> Contents:
        writer = StateWriter()
        known = {
            "fingerprint": dict(self.fingerprint),
            "seed": self.seed,
            "pieces": self.states,
        }
        return Contents(writer.write_all(known, "state"), writer.arrays)

    def warn(self, error: Exception) -> None:
        """Warn, once, that the fit goes on without what is saved."""
        if not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"{self.label} cannot be written, and the fit goes on: {error}. If it "
                "is killed, all since the last file is lost. Make room, or give a path "
                "that can be written.",
                CheckpointWarning,
                stacklevel=2,
            )

    def end(self, *, keeps: bool) -> None:
        """Remove the file of a fit that has ended, or write its last."""
        if self.is_stopped:
            return
        if not keeps:
            with suppress(OSError):
                self.place.unlink(missing_ok=True)
        elif not self.is_written:
            self.write()


@contextmanager
def checkpoint_of(
    path: str | os.PathLike[str],
    owner: str,
    found: Fingerprint,
    task: str,
    *,
    repeats: bool,
) -> Iterator[FitCheckpoint]:
    """Open the checkpoint of a fit, which is closed when the block ends.

    Parameters
    ----------
    path : path-like
        A file, which a fit that ends removes; or a folder, in which each fit has a
        file of its own, which stays there if the fit ``repeats``.
    owner : str
        Name of the estimator.
    found : Fingerprint
        What the fit depends on.
    task : str
        Name of an iteration.
    repeats : bool
        Whether another fit like this one would have the same result.

    Raises
    ------
    ValueError
        If the file is damaged, of another fit, or of one that is under way.

    Notes
    -----
    Of processes that fit together, the first one reads and writes.
    """
    label = f"checkpoint={os.fspath(path)!r} of {owner}"
    is_folder = _is_folder(path)
    place = _place(Path(path, file_name(owner, found)) if is_folder else path, label)
    checkpoint = FitCheckpoint(place, label, found)
    with ExitStack() as stack:
        known = from_first(lambda: _opened(checkpoint, stack, task))
        checkpoint.seed, checkpoint.states = known
        checkpoint.is_stopped = rank() > 0
        yield checkpoint
        checkpoint.end(keeps=is_folder and repeats)


def _opened(
    checkpoint: FitCheckpoint, stack: ExitStack, task: str
) -> tuple[int | None, list[dict[str, Any]]]:
    """Hold and read the file until the stack is closed: its seed and states."""
    place = checkpoint.place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not stack.enter_context(held(place)):
            raise ValueError(
                f"{checkpoint.label}: another fit is writing {place}. Wait for its "
                "end, or give another path."
            )
    except OSError as error:
        checkpoint.warn(error)
    checkpoint.read(task)
    return checkpoint.seed, checkpoint.states


def _place(path: str | os.PathLike[str], label: str) -> Path:
    """Return where a file is to be written, if that is no device or the like."""
    try:
        return place_of(path)
    except (FileExistsError, IsADirectoryError) as error:
        raise ValueError(
            f"{label} is no file that can be written: {error}. Give another path."
        ) from error
    except OSError:  # which writing it will meet again
        return Path(path)


def _is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder, or would be one by its last character."""
    separators = tuple(filter(None, (os.sep, os.altsep)))
    return os.path.isdir(path) or os.fspath(path).endswith(separators)
