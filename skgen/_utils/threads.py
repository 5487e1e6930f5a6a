"""How many threads a fit or an evaluation runs on.

Threads wait for each other at the end of every operation. On an idle machine that costs
microseconds. Beside another busy process, a thread without a core holds up all others
for milliseconds, many times per step. So a call runs on one thread, and on more only
where a step has enough work for them and the machine has cores to spare.

Nothing here raises a number of threads above what was set when the call began.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import torch
from threadpoolctl import ThreadpoolController

# Multiplications of a step that are worth a thread: with less than twice as many, a
# second thread costs more than it saves (measured by benchmarks/busy_machine.py).
WORK_PER_THREAD = 2**22
# Seconds between two looks at what else runs on the machine.
LOAD_INTERVAL = 0.01
# On Linux; its fourth field begins with the number of threads that run or wait to run.
LOAD_FILE = Path("/proc/loadavg")


class Pool(NamedTuple):
    """Reads and writes the number of threads of a library."""

    get: Callable[[], int]
    set: Callable[[int], Any]


@cache
def pools() -> list[Pool]:
    """Return the pools whose number of threads is the calling thread's own.

    These are OpenMP, of torch and of scikit-learn, and the MKL inside torch. (Not by
    ``torch.set_num_threads``, which also sets what new threads start with.)
    """
    openmp = ThreadpoolController().select(user_api="openmp").lib_controllers
    found = [Pool(each.get_num_threads, each.set_num_threads) for each in openmp]
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    with suppress(OSError, AttributeError):  # no MKL, or none that can be reached
        swap = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
        found.append(Pool(lambda: _swapped_back(swap), swap))
    return found


def _swapped_back(swap: Callable[[int], int]) -> int:
    """Read a number by the function that sets it; 0 follows OpenMP."""
    n = swap(1)
    swap(n)
    return n


def _set_all(numbers: Iterable[int]) -> None:
    for pool, n in zip(pools(), numbers):
        pool.set(n)


class _Call:
    """The outermost call that runs in a thread."""

    def __init__(self) -> None:
        torch.get_num_threads()  # torch sets the number of a new thread when asked
        self.before = [pool.get() for pool in pools()]
        self.n = 0  # threads now
        self._most_lately = 1  # since the last look: they may spin for a while after
        self._n_free, self._looked_at = 1, -math.inf

    def set(self, n: int) -> None:
        """Run on n threads, or on less where less were set."""
        if n != self.n:
            _set_all(min(n, most or n) for most in self.before)
            self.n, self._most_lately = n, max(n, self._most_lately)

    def restore(self) -> None:
        """Set what was set before."""
        _set_all(self.before)

    def set_for(self, work: float, steady: bool) -> None:
        """Run on as many threads as a step is worth."""
        n = int(work // WORK_PER_THREAD)
        if n > 1:
            steady = steady or torch.are_deterministic_algorithms_enabled()
            n = min(n, self._n_cpus if steady else self._free_cpus())
        self.set(max(1, n))

    @cached_property
    def _n_cpus(self) -> int:
        """CPUs that the process may use."""
        n: int = joblib.cpu_count()
        return n

    def _free_cpus(self) -> int:
        """CPUs that the process may use, and nothing else does."""
        now = time.perf_counter()
        if now - self._looked_at > LOAD_INTERVAL:
            n_idle = (os.cpu_count() or 1) - n_others(self._most_lately)
            self._n_free, self._looked_at = min(self._n_cpus, n_idle), now
            self._most_lately = 1
        return self._n_free


_CALLS = threading.local()
_UNCHANGED = nullcontext()


def threads_for(
    work: float = 0, *, steady: bool = False
) -> AbstractContextManager[None]:
    """Return a context that runs on as many threads as a step's work is worth.

    One per 2^22 multiplications, and at least one; but not more than were set before
    the outermost of such blocks, than the CPUs that the process may use (its affinity,
    and its container's quota), and than the cores on which nothing else runs, as far
    as Linux tells.

    Only the calling thread is affected, and at the end its setting is restored.

    Parameters
    ----------
    work : float, default=0
        Multiplications of a step: of what is done between two points at which the
        number of threads may change.
    steady : bool, default=False
        Whether to take no notice of what else runs on the machine. Nor is it taken
        under ``torch.use_deterministic_algorithms``: the last digits of a sum depend
        on the number of threads.
    """
    call = getattr(_CALLS, "call", None)
    if call is not None and call.n == 1 and work < 2 * WORK_PER_THREAD:
        return _UNCHANGED
    return _outermost(work, steady) if call is None else _inside(call, work, steady)


@contextmanager
def _outermost(work: float, steady: bool) -> Iterator[None]:
    call = _Call()
    try:
        _CALLS.call = call
        call.set_for(work, steady)
        yield
    finally:
        _CALLS.call = None
        call.restore()


@contextmanager
def _inside(call: _Call, work: float, steady: bool) -> Iterator[None]:
    n = call.n
    try:
        call.set_for(work, steady)
        yield
    finally:
        call.set(n)


def n_others(n_own: int) -> int:
    """Return how many threads run or wait to run, beside so many; 0 where unknown."""
    try:
        running = LOAD_FILE.read_text().split()[3].partition("/")[0]
        return max(0, int(running) - n_own)
    except (OSError, ValueError, IndexError):
        return 0


_BLAS_IS_LIMITED = threading.Lock()


@contextmanager
def blas_threads_for(work: float) -> Iterator[None]:
    """Run products of NumPy, SciPy and scikit-learn on as many threads as they need.

    As `threads_for`, with the threads of their OpenBLAS, which spin for a while after a
    product, and take the cores of others. OpenBLAS has one number for the whole
    process; of several such blocks at once, the first sets and restores it.
    """
    first = _BLAS_IS_LIMITED.acquire(blocking=False)
    try:
        with threads_for(work), _openblas_limit() if first else nullcontext():
            yield
    finally:
        if first:
            _BLAS_IS_LIMITED.release()


def _openblas_limit() -> AbstractContextManager[Any]:
    """Limit OpenBLAS to the number of threads that the call runs on now."""
    before = [each.get_num_threads() for each in _openblas().lib_controllers]
    limit: AbstractContextManager[Any] = _openblas().limit(
        limits=min([_CALLS.call.n, *before])
    )
    return limit


@cache
def _openblas() -> ThreadpoolController:
    return ThreadpoolController().select(internal_api="openblas")
