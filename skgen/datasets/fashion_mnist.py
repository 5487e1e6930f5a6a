"""Fashion-MNIST, from a folder."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skgen._utils.parameters import options

Array = NDArray[Any]

IMAGE_SHAPE = (28, 28)
TARGET_NAMES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
# Name of the folder's environment variable, and of the files in the folder.
VARIABLE = "SKGEN_DATA"
_PARTS = {"train": ["train"], "test": ["t10k"], "all": ["train", "t10k"]}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"

DESCR = """\
Fashion-MNIST
-------------

Grey images of 28 x 28 pixels, in 256 levels, of articles of clothing in ten classes:
60000 to train on and 10000 to test on, all classes alike often.

As integers from 0 to 255 they suit likelihoods of levels, "discretized_logistic" and
"categorical", whose scores are log-masses. As floats in [0, 1] they suit
Bernoulli(binarize="dynamic") and "continuous_bernoulli".

Xiao, Rasul & Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms", 2017. MIT licence, Zalando SE.
"""


def load_fashion_mnist(
    folder: str | os.PathLike[str] | None = None,
    *,
    subset: str = "train",
    as_float: bool = False,
    return_X_y: bool = False,
) -> Any:
    """Read Fashion-MNIST from a folder. Nothing is downloaded.

    Parameters
    ----------
    folder : path-like, default=None
        Where the files are, as they are distributed, compressed (``.gz``) or not:
        ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and the same with
        ``t10k`` for the test. ``None`` is what the environment variable
        ``SKGEN_DATA`` says.
    subset : {"train", "test", "all"}, default="train"
        Which rows to read; "all" has the training rows first.
    as_float : bool, default=False
        Divide by 255, to float32 in [0, 1].
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    fashion : Bunch
        Dictionary with the attributes:

        - data : ndarray of shape (n_samples, 784), uint8, or float32 with ``as_float``
        - images : the same as (n_samples, 28, 28)
        - target : ndarray of shape (n_samples,), classes from 0 to 9
        - target_names : list of str, the names of the classes
        - image_shape : (28, 28)
        - DESCR : str, a description

    Raises
    ------
    FileNotFoundError
        If files are not in the folder.
    ValueError
        If no folder is given, or a file is not what its name says.

    References
    ----------
    Xiao, Rasul & Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", arXiv:1708.07747, 2017.

    Examples
    --------
    >>> from skgen.datasets import load_fashion_mnist
    >>> X, y = load_fashion_mnist("fashion", return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (60000, 784)
    """
    known = options(*_PARTS)
    if not known.accepts(subset):
        raise ValueError(
            f"The 'subset' parameter of load_fashion_mnist must be {known.words}. Got "
            f"{subset!r} instead."
        )
    where = _folder(folder)
    names = [f"{part}-{kind}" for part in _PARTS[subset] for kind in (_IMAGES, _LABELS)]
    paths = _find(where, names)
    pairs = [_read_part(*pair) for pair in zip(paths[::2], paths[1::2])]
    images, target = (np.concatenate(arrays) for arrays in zip(*pairs))
    if as_float:
        images = np.divide(images, 255, dtype=np.float32)
    data, target = images.reshape(len(images), -1), target.astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        images=images,
        target=target,
        target_names=list(TARGET_NAMES),
        image_shape=IMAGE_SHAPE,
        DESCR=DESCR,
    )


def _folder(folder: str | os.PathLike[str] | None) -> Path:
    """Return the folder that is given, or that of the environment variable."""
    where = os.environ.get(VARIABLE) if folder is None else folder
    if not where:
        raise ValueError(
            "load_fashion_mnist needs the folder of the files. Give 'folder', or set "
            f"the environment variable {VARIABLE}."
        )
    return Path(where)


def _find(folder: Path, names: list[str]) -> list[Path]:
    """Return the path of each file, plain or compressed."""
    choices = [[folder / name, folder / f"{name}.gz"] for name in names]
    found = [[path for path in pair if path.is_file()] for pair in choices]
    missing = [name for name, paths in zip(names, found) if not paths]
    if missing:
        raise FileNotFoundError(
            f"Found no {', '.join(missing)} in {folder}, with or without '.gz'. "
            "Install the Debian package dataset-fashion-mnist, or get the files from "
            "the site of the project, fashion-mnist of Zalando Research."
        )
    return [paths[0] for paths in found]


def _read_part(images_path: Path, labels_path: Path) -> tuple[Array, Array]:
    """Read images (n, 28, 28) and their labels (n,)."""
    images, labels = _read(images_path, IMAGE_SHAPE), _read(labels_path, ())
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path} has {len(images)} images, but {labels_path} has "
            f"{len(labels)} labels. Get both files anew."
        )
    if labels.max(initial=0) >= len(TARGET_NAMES):
        raise ValueError(
            f"{labels_path} has the label {labels.max()}; those of Fashion-MNIST are "
            f"0 to {len(TARGET_NAMES) - 1}. Get the file anew."
        )
    return images, labels


def _read(path: Path, item_shape: tuple[int, ...]) -> Array:
    """Read an idx file of bytes, n items of one shape: (n, *item_shape)."""
    content = _content(path)
    # Two zeros, 8 for unsigned bytes, and the number of dimensions; then their sizes.
    magic = bytes([0, 0, 8, 1 + len(item_shape)])
    start = 4 * (2 + len(item_shape))
    if content[:4] != magic or len(content) < start:
        raise ValueError(
            f"{path} begins with {content[:4]!r} where an idx file of its name begins "
            f"with {magic!r}. Get the file anew."
        )
    shape = np.frombuffer(content[4:start], dtype=">i4").tolist()
    values = np.frombuffer(content[start:], dtype=np.uint8)
    if tuple(shape[1:]) != item_shape or len(values) != np.prod(shape):
        raise ValueError(
            f"{path} has {len(values)} values and says that their shape is "
            f"{tuple(shape)}; expected are n items of shape {item_shape}. Get the "
            "file anew."
        )
    return values.reshape(shape)


def _content(path: Path) -> bytes:
    """Read a file, decompressed."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is no whole gzip file: {error}. Get the file anew."
        ) from error
