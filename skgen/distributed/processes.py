"""Fits whose rows are divided among processes."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from skgen._utils.reduce import Group, offered

NO_GROUP = (
    "data_parallel() needs a group of processes. Start them by torchrun, as "
    "`torchrun --nproc-per-node=2 script.py` does, or call "
    "torch.distributed.init_process_group(...) first."
)


@contextmanager
def data_parallel(group: Any = None, *, timeout: float | None = None) -> Iterator[None]:
    """Fit models inside the block on the rows of all processes of a group.

    Each process calls ``fit`` on rows of its own, and all end with the same model: that
    of a fit of all rows, those of rank 0 first. Shards may differ in size, and may be
    empty, of shape (0, n_features). Sums, gradients and what decides when a fit ends
    are reduced; all else, such as ``score``, is of the rows that it is given.

    Parameters
    ----------
    group : ProcessGroup, default=None
        Processes that fit together. None: all that there are, those that torchrun
        started or the user's default group. This makes a group of its own for them,
        which a process that fails leaves at once, so that no other waits for it.
    timeout : float, default=None
        Seconds that a process waits for the others at each message; None is torch's
        default, half an hour. Ignored where ``group`` is given, which has its own.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ValueError
        If there is no group, and torchrun did not start this process.
    skgen.exceptions.DistributedError
        From ``fit``, if another process has failed or left, or does not answer.

    Notes
    -----
    Parameters and the order of calls have to be the same in all processes, and rows
    have to be dense. ``random_state`` is that of rank 0. ``labels_`` of K-means are
    those of the rows that a process gave. Of the models, ``GaussianDensity``,
    ``GaussianMixtureEM``, ``StudentMixtureEM``, ``MixtureEM``, ``KMeansAutoencoder``,
    ``VAE``, ``BetaVAE``, ``IWAE`` and ``VQVAE`` are fitted so; others raise an error,
    as does ``partial_fit``.

    Networks step on batches of all processes: each has the rows of a batch that it
    holds, and adds its part to the gradient. Networks of the user's that draw, as by
    dropout, draw other numbers than one process would, and so does ``VQVAE`` where it
    fills missing cells.

    A start is sought on the rows of all processes, which are sent to all: in mixtures
    and K-means up to 2^20 rows and 2^24 numbers, or 2^23 numbers of larger sets (2^16
    rows at least), and in networks up to 2^26 numbers, or 2^24 of larger sets.

    References
    ----------
    Li et al., "PyTorch distributed: experiences on accelerating data parallel
    training", VLDB 2020.

    Examples
    --------
    With a group of one process, which changes nothing:

    >>> import numpy as np, tempfile, torch.distributed as dist
    >>> from skgen import GaussianDensity
    >>> from skgen.distributed import data_parallel
    >>> X = np.random.RandomState(0).randn(100, 2)
    >>> place = f"file://{tempfile.mkdtemp()}/group"
    >>> dist.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    >>> with data_parallel():
    ...     model = GaussianDensity().fit(X)
    >>> dist.destroy_process_group()
    >>> np.allclose(model.mean_, X.mean(0))
    True
    """
    starts = not dist.is_initialized()
    if starts:
        if not dist.is_torchelastic_launched():
            raise ValueError(NO_GROUP)
        _start_group()
    try:
        own = Group(group or _new_group(timeout), is_own=group is None)
        try:
            with offered(own):
                yield
            own.leave()
        finally:
            own.close()
    finally:
        if starts and dist.is_initialized():
            dist.destroy_process_group()


# Groups that this process has started.
_STARTED = itertools.count()


def _start_group() -> None:
    """Start the default group of processes that torchrun has started.

    Under names of its own in torchrun's store, which is the same after a restart: a
    process must not find the address of one that was killed.
    """
    torch_dist: Any = dist  # which names not all that is documented
    store, rank, size = next(iter(torch_dist.rendezvous("env://")))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = torch_dist.PrefixStore(f"skgen/{attempt}/{next(_STARTED)}", store)
    dist.init_process_group(_backend(), store=own, rank=rank, world_size=size)


def _backend() -> str:
    """Return what tensors are sent by: on GPUs by nccl."""
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if nccl else "gloo"


def _new_group(timeout: float | None) -> Any:
    seconds = None if timeout is None else datetime.timedelta(seconds=timeout)
    return dist.new_group(timeout=seconds, backend=_backend())
