"""Fits of Dask collections: on this machine, or on the workers of a cluster.

On a cluster each worker copies its partitions into a file of its own, and is one rank
of a process group, in which the ranks fit one model (`data_parallel`). Rows go nowhere
else.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import torch.distributed as dist

from skgen._utils.collections import (
    active_client,
    checked,
    computed,
    dask,
    drawn,
    is_collection,
    stored,
)
from skgen._utils.tensors import fresh_random_state
from skgen.distributed.processes import data_parallel
from skgen.exceptions import DistributedError
from skgen.models.base import whole_or_as_before

Model = TypeVar("Model")

# Rows that a partition of draws has.
DRAWN_AT_A_TIME = 2**16
# Seconds between two looks at the workers of a fit: is each still there?
LOOKED_EVERY = 1.0


def fit(
    estimator: Model,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    client: Any = None,
) -> Model:
    """Fit an estimator to a Dask array or DataFrame, of any size.

    Without a cluster, partitions are computed one after the other and written into a
    temporary file, which the estimator then reads as it reads a memory map: neither the
    rows nor the partitions have to fit into memory together. On a cluster, each worker
    does that with a share of the partitions, and the workers fit one model, as inside
    :func:`skgen.distributed.data_parallel`.

    Parameters
    ----------
    estimator : estimator
        One of skgen's models of rows.
    X : dask array or DataFrame of shape (n_samples, n_features)
        Rows, in columns of numbers. Missing cells are NaN.
    y : dask array or Series of shape (n_samples,), default=None
        Labels, where the model is conditioned on them, in the partitions of X.
    sample_weight : dask array or Series of shape (n_samples,), default=None
        Weight of each row, in the partitions of X.
    client : distributed.Client, default=None
        The cluster. By default that of the client that is active, if there is one.

    Returns
    -------
    estimator : estimator
        The same object, fitted. On a cluster it has no ``labels_``.

    Raises
    ------
    TypeError
        If X is no collection of rows of numbers.
    skgen.exceptions.DistributedError
        If a worker is lost: killed, for instance, for the memory that it takes.
    ValueError
        If there are other partitions of y or weights than of X.
    ImportError
        Without Dask: ``pip install "scikit-generative[dask]"``.

    Notes
    -----
    Files are where temporary files are (``TMPDIR``), and take 4 or 8 bytes a cell.
    Partitions that are in the memory of workers (``X.persist()``) stay on those; others
    are computed by the workers in equal shares, in their order.

    Examples
    --------
    >>> import dask.array as da
    >>> from skgen import GaussianDensity
    >>> from skgen.distributed import fit
    >>> X = da.random.RandomState(0).normal(size=(1000, 3), chunks=(250, 3))
    >>> model = fit(GaussianDensity(), X)
    >>> scores = model.score_samples(X)
    >>> scores.shape, scores.numblocks
    ((1000,), (4,))
    >>> round(float(model.score(X)), 1)
    -4.3
    """
    if not is_collection(X):
        raise TypeError(
            f"skgen.distributed.fit takes a dask array or DataFrame. Got "
            f"{type(X).__name__}: call {type(estimator).__name__}.fit, or make it one, "
            "as dask.array.from_array does."
        )
    client = active_client() if client is None else client
    if client is None:
        found: Model = estimator.fit(X, y, sample_weight=sample_weight)  # type: ignore[attr-defined]
        return found
    with whole_or_as_before(estimator):
        fitted = fit_on_workers(estimator, (X, y, sample_weight), client)
        vars(estimator).update(vars(fitted))
    return estimator


def sample(
    estimator: Any,
    n_samples: int,
    random_state: Any = None,
    *,
    chunk_size: int = DRAWN_AT_A_TIME,
    **options: Any,
) -> Any:
    """Draw rows from a fitted density as a lazy Dask collection, as many as wanted.

    Parameters
    ----------
    estimator : estimator
        A fitted model.
    n_samples : int
        Number of rows.
    random_state : int, RandomState, Generator or None, default=None
        Source of the draws. A seed gives the same rows for the same ``chunk_size``,
        whatever order partitions are computed in.
    chunk_size : int, default=65536
        Rows of a partition.
    **options
        Further arguments of the estimator's ``sample``.

    Returns
    -------
    X : dask array or DataFrame of shape (n_samples, n_features)
        Rows; a DataFrame where the estimator's ``sample`` gives one.

    Raises
    ------
    ValueError
        If ``n_samples`` or ``chunk_size`` is not a whole number from 1 on.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianDensity
    >>> from skgen.distributed import sample
    >>> model = GaussianDensity().fit(np.random.RandomState(0).randn(100, 2))
    >>> X = sample(model, 1_000_000, random_state=0)
    >>> X.shape, X.numblocks
    ((1000000, 2), (16, 1))
    """
    sizes = {"n_samples": n_samples, "chunk_size": chunk_size}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"The {name!r} parameter must be an int from 1 on. Got {value!r}."
            )
    n_chunks = -(-n_samples // chunk_size)
    seeds = fresh_random_state(random_state).randint(2**31 - 1, size=n_chunks)
    return drawn(estimator, n_samples, chunk_size, seeds, options)


# The driver.


class Place(NamedTuple):
    """Place of a rank in its group, and the address where the group meets."""

    rank: int
    size: int
    meeting: str  # tcp://host:port


def fit_on_workers(estimator: Any, data: Sequence[Any], client: Any) -> Any:
    """Return what the workers of a cluster fit together to X, y and weights."""
    owner = type(estimator).__name__
    X, *beside = data
    X = checked(X, owner)
    for name, values in zip(("y", "sample_weight"), beside):
        _check_partitions(X, values, name)
    shares = _shares(X, client)
    before = _processes(client, shares)
    futures = _submitted(estimator, (X, *beside), shares, client)
    try:
        return _first_or_error(client, futures, before)
    finally:
        client.cancel(futures)


def _check_partitions(X: Any, values: Any, name: str) -> None:
    """Raise a ValueError unless values have the partitions of X."""
    if values is None:
        return
    if not is_collection(values):
        raise ValueError(
            f"On a cluster {name!r} has to be a Dask array or Series with the "
            f"partitions of X. Got {type(values).__name__}."
        )
    if values.npartitions != X.npartitions:
        raise ValueError(
            f"{name!r} has {values.npartitions} partitions, and X {X.npartitions}. "
            "Take both from one table, or repartition one as the other."
        )


def _shares(X: Any, client: Any) -> dict[str, list[int]]:
    """Return the numbers of the partitions that each worker fits, by its address."""
    addresses = sorted(_workers(client))
    if not addresses:
        raise RuntimeError("The cluster has no workers. Wait for them, or start some.")
    homes = _homes(X, client)
    n, k = X.npartitions, len(addresses)
    if homes is None:
        homes = [addresses[i * min(n, k) // n] for i in range(n)]
    shares: dict[str, list[int]] = {}
    for i, address in sorted(
        enumerate(homes), key=lambda each: addresses.index(each[1])
    ):
        shares.setdefault(address, []).append(i)
    return shares


def _homes(X: Any, client: Any) -> list[str] | None:
    """Return the workers that have the partitions in memory, if these are there."""
    futures = {str(each.key): each for each in dask("distributed").futures_of(X)}
    keys = [str(key) for key in dask("dask.core").flatten(X.__dask_keys__())]
    if not keys or not all(key in futures for key in keys):
        return None
    dask("distributed").wait(list(futures.values()))
    known = client.who_has([futures[key] for key in keys])
    places = {str(key): sorted(where)[0] for key, where in known.items()}
    return [places[key] for key in keys]


def _submitted(
    estimator: Any, data: Sequence[Any], shares: dict[str, list[int]], client: Any
) -> list[Any]:
    """Start a rank on each worker."""
    first = next(iter(shares))
    meeting = _on(client, first, free_port, urlsplit(first).hostname).result()
    futures = []
    for rank, (address, numbers) in enumerate(shares.items()):
        own = [None if each is None else each.partitions[numbers] for each in data]
        # Pickled: Dask would compute what it sees, all partitions at once.
        parts = dask("cloudpickle").dumps((estimator, own))
        place = Place(rank, len(shares), meeting)
        futures.append(_on(client, address, fit_rank, parts, place))
    return futures


def _on(client: Any, address: str, function: Callable[..., Any], *args: Any) -> Any:
    """Submit a function to one worker."""
    return client.submit(
        function,
        *args,
        workers=[address],
        allow_other_workers=False,
        pure=False,
        retries=0,
    )


def _workers(client: Any) -> dict[str, Any]:
    """Return what the scheduler knows of its workers, by their addresses.

    ``client.scheduler_info`` gives what was asked last, and the client asks for no
    workers from time to time.
    """
    found = client.sync(client.scheduler.identity, n_workers=-1)
    workers: dict[str, Any] = found["workers"]
    return workers


def _processes(client: Any, addresses: Iterable[str]) -> dict[str, Any]:
    """Return what tells the processes of workers apart, by their addresses.

    One that is started anew may have the address of the old one, not its folder.
    """
    known = _workers(client)
    return {each: known[each]["local_directory"] for each in addresses if each in known}


def _first_or_error(client: Any, futures: Sequence[Any], before: dict[str, Any]) -> Any:
    """Return the result of the first rank; raise the error of the rank that failed.

    The others then fail, too, since they miss it: theirs are not what went wrong. That
    of a worker that is lost stays pending, for no other worker may take it.
    """
    while not _have_ended(futures):
        _check_workers(client, before)
    if any(each.status != "finished" for each in futures):
        _check_workers(client, before)
    errors = [each.exception() for each in futures if each.status != "finished"]
    for error in sorted(errors, key=_is_of_the_group):
        raise error
    return futures[0].result()


def _have_ended(futures: Sequence[Any]) -> bool:
    """Wait for futures, and return whether they have ended by then."""
    distributed = dask("distributed")
    try:
        distributed.wait(futures, timeout=LOOKED_EVERY, return_when="ALL_COMPLETED")
    except distributed.TimeoutError:
        return False
    return True


def _check_workers(client: Any, before: dict[str, Any]) -> None:
    """Raise a DistributedError if workers are not the processes that they were."""
    now = _processes(client, before)
    lost = [each for each, process in before.items() if now.get(each) != process]
    if lost:
        raise DistributedError(
            f"A worker of the {len(before)} that fit together is lost: "
            f"{', '.join(lost)} was killed, as Dask does with a worker that takes more "
            "memory than it has (see its log), or left the cluster. Give workers more "
            "memory, or make partitions smaller, and call fit again. With checkpoint= "
            "on a disk that workers share it goes on from there."
        )


def _is_of_the_group(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch", "skgen.exceptions"))


# A worker.


def free_port(host: str) -> str:
    """Return an address on this machine where a group can meet."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"


def fit_rank(parts: bytes, place: Place) -> Any:
    """Fit the partitions of a worker, in a group with others; the first returns it."""
    estimator, (X, y, weight) = import_module("cloudpickle").loads(parts)
    with in_group(place):
        with computing(X) as compute:
            rows = stored(X, type(estimator).__name__, compute=compute)
            beside = [each if each is None else compute(each) for each in (y, weight)]
        estimator.fit(rows, beside[0], sample_weight=beside[1])
    vars(estimator).pop("labels_", None)  # of these rows alone
    return estimator if place.rank == 0 else None


@contextmanager
def in_group(place: Place) -> Iterator[None]:
    """Fit inside the block with the other ranks, where there are any."""
    if place.size == 1:
        yield
        return
    if dist.is_initialized():
        raise RuntimeError(
            "This process is in a group of torch.distributed already, and a worker can "
            "be one rank only. Start workers as processes, and one fit at a time."
        )
    dist.init_process_group(
        init_method=place.meeting, rank=place.rank, world_size=place.size
    )
    try:
        with data_parallel():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def computing(X: Any) -> Iterator[Callable[[Any], Any]]:
    """Yield what computes a partition: here, or where it is in memory."""
    if not dask("distributed").futures_of(X):
        yield lambda part: part.compute(scheduler="synchronous")
        return
    with dask("distributed").worker_client():
        yield computed
