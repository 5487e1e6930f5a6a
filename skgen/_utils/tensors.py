"""Between arrays and tensors: devices, dtypes, seeds."""

from __future__ import annotations

import math
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn import utils
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LOG_2PI = math.log(2 * math.pi)
_SEED_BOUND = 2**31 - 1


def is_available(device: torch.device) -> bool:
    """Whether tensors can be placed on ``device`` here."""
    match device.type:
        case "cpu":
            return True
        case "cuda":
            return (device.index or 0) < torch.cuda.device_count()
        case "mps":
            return torch.backends.mps.is_available()
        case _:
            return False


def resolve_device(device: str | torch.device, owner: str) -> torch.device:
    """Turn the ``device`` parameter of an estimator into a device that is here.

    Parameters
    ----------
    device : str or torch.device
        "cpu", "cuda", "cuda:<index>", "mps", or "auto" for the first of CUDA, MPS
        and CPU that is available.
    owner : str
        Name of the estimator, for the error.

    Raises
    ------
    ValueError
        If the name is unknown, or names a device that this machine lacks.
    RuntimeError
        If it is a CUDA device, and the process was forked from one that uses CUDA.
    """
    if device == "auto":
        candidates = (torch.device(name) for name in ("cuda", "mps", "cpu"))
        return _unforked(next(filter(is_available, candidates)), owner)
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            f"The 'device' parameter of {owner} must be 'cpu', 'cuda', "
            f"'cuda:<index>', 'mps' or 'auto'. Got {device!r} instead."
        )
    if not is_available(resolved):
        raise ValueError(
            f"The 'device' parameter of {owner} is {device!r}, but torch finds no "
            "such device on this machine. Use device='cpu', or device='auto' to "
            "take the best that is here."
        )
    return _unforked(resolved, owner)


def _unforked(device: torch.device, owner: str) -> torch.device:
    """Return the device; a RuntimeError where CUDA was lost in a fork."""
    # torch's own check, which it has no public name for.
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise RuntimeError(
            f"{owner} cannot use device={str(device)!r} here: this process was forked "
            "from one that uses CUDA, and CUDA does not survive a fork. Start processes"
            " by 'spawn', as multiprocessing.get_context('spawn') or joblib's loky do, "
            "or use device='cpu'."
        )
    return device


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype that sums are kept in: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def inverse_cdf(cdf: Tensor, uniform: Tensor) -> Tensor:
    """Return levels (...,) that uniform noise (...,) picks, given a CDF (..., K).

    The CDF need not end at one.
    """
    at = uniform[..., None] * cdf[..., -1:]
    level = torch.searchsorted(cdf, at, right=True).squeeze(-1)
    return level.clamp(max=cdf.shape[-1] - 1)


def draw_levels(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one of K levels (...,) for each row of logits (..., K)."""
    cdf = logits.softmax(-1).cumsum(-1, dtype=wide_dtype(logits.device))
    uniform = torch.empty_like(cdf[..., 0]).uniform_(generator=generator)
    return inverse_cdf(cdf, uniform)


def to_tensor(
    X: NDArray[Any], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Place an array on a device; memory is shared where it can be.

    Nothing may write to such a tensor: the array may be the user's, or read-only.
    """
    if device.type == "mps" and X.dtype == np.float64:
        X = X.astype(np.float32)
    return shared(np.ascontiguousarray(X)).to(device=device, dtype=dtype)


def shared(X: NDArray[Any]) -> Tensor:
    """See an array as a tensor of the host; a copy where torch has no such strides."""
    if any(stride < 0 or stride % X.itemsize for stride in X.strides):
        X = np.ascontiguousarray(X)
    if not X.flags.writeable:
        X = np.asarray(_Shared(X))
    return torch.from_numpy(X)


class _Shared:
    """The memory of a read-only array, as that of any: torch knows no other, and warns.

    Parameters
    ----------
    X : ndarray
        An array, which lives as long as what is made of this.
    """

    def __init__(self, X: NDArray[Any]) -> None:
        self.X = X
        address, _ = X.__array_interface__["data"]
        self.__array_interface__ = {**X.__array_interface__, "data": (address, False)}


def is_mapped(X: NDArray[Any]) -> bool:
    """Whether an array is a view of a file, as ``numpy.memmap`` is."""
    owner: Any = X
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, mmap.mmap)


def has_room(device: torch.device, n_bytes: int) -> bool:
    """Whether data fit on a device, and leave as much again for the work on them."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= free // 2


def without_mask(X: Any, name: str = "X", *, allows_missing: bool = False) -> Any:
    """Return the numbers of a masked array, and anything else as it is.

    NumPy functions read the numbers below a mask. So masked cells become NaN, or None
    among objects, where ``allows_missing``.

    Raises
    ------
    ValueError
        If cells are masked that may not be missing.
    """
    if not isinstance(X, np.ma.MaskedArray):
        return X
    n_masked = int(np.ma.getmaskarray(X).sum())
    if not n_masked:
        return np.ma.getdata(X)
    if not allows_missing:
        raise ValueError(
            f"{name} is a masked array with {n_masked} masked cells, whose numbers "
            "would be read. Fill them first, as X.filled(value) does; or use "
            "skgen.MixedDensity, which takes cells as missing."
        )
    if X.dtype.kind == "f":
        return X.filled(np.nan)
    objects = np.ma.getdata(X).astype(object)
    objects[np.ma.getmaskarray(X)] = None
    return objects


def on_host(X: Any, name: str = "X", *, allows_missing: bool = False) -> Any:
    """Bring a torch tensor to the host, and look below a mask; all else is as it is."""
    if hasattr(X, "collect_schema") and hasattr(X, "lazy") and hasattr(X, "explain"):
        raise TypeError(f"{name} is a lazy table of polars. Give {name}.collect().")
    if not isinstance(X, Tensor):
        return without_mask(X, name, allows_missing=allows_missing)
    # NumPy has no bfloat16.
    return to_array(X.float() if X.dtype == torch.bfloat16 else X)


def to_array(x: Tensor) -> NDArray[Any]:
    """Bring a tensor back to the host as an array."""
    array: NDArray[Any] = x.detach().cpu().numpy()
    return array


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for torch from NumPy's generator."""
    return int(random_state.randint(_SEED_BOUND))


def check_random_state(random_state: Any) -> np.random.RandomState:
    """Return the RandomState of a seed, or seeded by a Generator.

    Parameters
    ----------
    random_state : int, RandomState, Generator or None
        A Generator moves on by one draw, and keeps no tie to what is returned. All
        else is as in scikit-learn.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(random_state, np.random.Generator):
        random_state = int(random_state.integers(2**32))
    try:
        found: np.random.RandomState = utils.check_random_state(random_state)
        return found
    except TypeError as error:  # NumPy's, of a timedelta64
        raise ValueError(f"random_state={random_state!r} is no seed.") from error


def fresh_random_state(random_state: Any) -> np.random.RandomState:
    """Return a generator for sampling: ``None`` is fresh entropy at each call.

    scikit-learn's ``check_random_state(None)`` would hand out NumPy's global
    generator, and sampling must leave that one alone.
    """
    if random_state is None:
        return np.random.RandomState()
    return check_random_state(random_state)


def make_generator(seed: int, device: torch.device) -> torch.Generator:
    """Make a torch generator on a device, apart from the global one."""
    return torch.Generator(device=device).manual_seed(seed)


# Functions of torch that draw, of those that initialise modules.
_DRAWS: frozenset[Any] = frozenset(
    {
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        Tensor.uniform_,
        Tensor.normal_,
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
    }
)


class DrawingFrom(TorchFunctionMode):
    """Let modules draw their initial values from a generator, inside a ``with`` block.

    They name no generator and would draw from torch's global one, which all threads
    share. The block holds for its own thread only, and draws the same values as the
    global generator would with this seed.

    Parameters
    ----------
    seed : int
        Of the generator, which is on the CPU: so is a module while it is built.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = make_generator(seed, torch.device("cpu"))

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, with the generator where it draws on the CPU."""
        kwargs = kwargs or {}
        if func in _DRAWS and kwargs.get("generator") is None:
            tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            device = tensors[0].device if tensors else kwargs.get("device")
            if torch.device(device or torch.get_default_device()).type == "cpu":
                kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


class Undrawn(TorchFunctionMode):
    """Leave out the draws of initial values, inside a ``with`` block.

    For modules of no memory: what torch does on its "meta" device in place of a draw
    takes seconds to import.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, unless it draws."""
        kwargs = kwargs or {}
        if func not in _DRAWS:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs.get("tensor")
        return given if isinstance(given, Tensor) else torch.empty(*args)


# The global generators are one for all threads: one block at a time may borrow them.
_GLOBAL_RNG = threading.RLock()


@contextmanager
def forked_rng(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them after.

    For networks of the user's, which may draw in ways that `DrawingFrom` does not
    know, as dropout does. Other threads that draw meanwhile get the same numbers
    again. Modules are built on the CPU and moved, so that one seed gives one model on
    every device; ``device`` names another whose generator may be drawn from.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with _GLOBAL_RNG, torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


def global_generators(device: torch.device) -> list[torch.Generator]:
    """Return torch's own generators that `forked_rng` seeds."""
    found = [torch.default_generator]
    if device.type == "cuda":
        found.append(
            torch.cuda.default_generators[torch.empty(0, device=device).device.index]
        )
    return found


def one_hot(tokens: NDArray[Any], K: int, dtype: Any) -> scipy.sparse.csr_matrix:
    """Write tokens (n, T) below K as sparse rows (n, T * K) of T ones each."""
    n, T = tokens.shape
    columns = (tokens + K * np.arange(T)).ravel()
    ones, starts = np.ones(n * T, dtype=dtype), np.arange(0, n * T + 1, T)
    return scipy.sparse.csr_matrix((ones, columns, starts), shape=(n, T * K))


def check_tokens(code: NDArray[Any], K: int) -> None:
    """Raise a ValueError unless all numbers are integers from 0 to K - 1."""
    wrong = (code != np.floor(code)) | (code < 0) | (code >= K)
    if wrong.any():
        raise ValueError(
            f"Ordinal codes must be integers in the range [0, {K - 1}], indices into "
            f"the codebook. Got {code[wrong][0]:g} instead; pass what transform gives."
        )
