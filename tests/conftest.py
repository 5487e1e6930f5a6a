"""What every test runs under: one thread, and generators that are put back."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

# The tensors of the tests are small: more threads only wait for each other.
torch.set_num_threads(1)
# torch says a warning once a process; the test that causes it shall be the one to fail.
torch.set_warn_always(True)


def _global_generators() -> dict[str, Any]:
    """Read the states of the generators that a library may not touch."""
    state: Any = np.random.get_state()
    kind, keys, position, *rest = state
    return {
        "numpy": (kind, keys.tobytes(), position, *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "python": random.getstate(),
    }


@pytest.fixture(autouse=True)
def _isolated_generators() -> Iterator[Any]:
    """Keep what one test draws from the global generators from the next test."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(numpy_state)
    random.setstate(python_state)


@pytest.fixture
def guarded_generators(_isolated_generators: None) -> Iterator[Any]:
    """Fail a test after which a global generator is not where it was."""
    before = _global_generators()
    yield
    after = _global_generators()
    moved = [name for name in before if before[name] != after[name]]
    assert not moved, f"global generators were drawn from: {moved}"


def pytest_collection_modifyitems(items: Any) -> None:
    """Put the longest files first: a process that has done one takes the next.

    Examples in docstrings may end before they converge.
    """
    few_epochs = "ignore::sklearn.exceptions.ConvergenceWarning"
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.filterwarnings(few_epochs))
    items.sort(key=lambda item: item.path.stem not in ("test_examples", "test_readme"))
