"""Pages of files that are mapped into memory, given back to the system once read.

They would go by themselves where memory is short. But they count as the process's own
until then, and a Dask worker ends processes by that count.
"""

from __future__ import annotations

import mmap
import time
import weakref
from collections.abc import Callable
from threading import Thread
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

# Seconds between two moments at which all pages are given back.
RELEASED_EVERY = 0.01
# Rows far from each other that are read in between: each maps some 64 KiB around it.
MOST_ROWS = 2**10

# Files whose pages are given back.
_FILES: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def give_pages_back(rows: NDArray[Any]) -> None:
    """Let the system have what has been read of a memory map, as long as that is."""
    pages = rows.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        _FILES.add(pages)
        Thread(target=_give_back, args=(weakref.ref(pages),), daemon=True).start()


def _give_back(known: Callable[[], mmap.mmap | None]) -> None:
    while (pages := known()) is not None:
        pages.madvise(mmap.MADV_DONTNEED)
        del pages
        time.sleep(RELEASED_EVERY)


def select(values: Any, index: Tensor) -> Any:
    """Return rows (m, ...) at places (m,); pages of files do not add up meanwhile.

    Of a tensor, or of sparse rows.
    """
    if not (_FILES and isinstance(values, Tensor) and values.is_cpu):
        return values.index_select(0, index)  # half the time of values[index]
    found = values.new_empty(len(index), *values.shape[1:])
    for some, into in zip(index.split(MOST_ROWS), found.split(MOST_ROWS)):
        torch.index_select(values, 0, some, out=into)
        for pages in list(_FILES):
            pages.madvise(mmap.MADV_DONTNEED)
    return found
