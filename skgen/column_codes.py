"""Columns of a table as numbers: kinds, levels, missing cells; and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skgen.likelihoods.mixed import MAX_LEVELS, outside, support
from skgen.tables import LISTED, Columns, kind_of

NUMBERS = ("real", "positive", "count")
# Logarithm of the largest over the least value of a positive column: beyond, float32
# has no room for both.
MAX_LOG_SPAN = 80.0
#: What a column may be called. "binary" is "categorical" with two levels.
KINDS = (*NUMBERS, "binary", "categorical")


class ColumnCode(NamedTuple):
    """What a column is, and how its values become numbers."""

    name: Any
    kind: str  # of KINDS
    levels: list[Any] | None  # of "binary" and "categorical"

    @classmethod
    def checked(cls, name: Any, kind: Any, levels: Any) -> ColumnCode:
        """Return what a file states of a column; a ValueError for what cannot be."""
        if kind not in KINDS or (kind in NUMBERS) != (levels is None):
            raise ValueError(f"{kind!r} is no kind of the column {name!r}")
        if levels is not None:
            plain = isinstance(levels, list) and all(map(_is_level, levels))
            if not plain or not levels or len(set(levels)) < len(levels):
                raise ValueError(f"the levels of the column {name!r} are out of order")
        return cls(name, kind, levels)

    @property
    def density(self) -> str | int:
        """What ``Mixed`` calls the kind."""
        return self.kind if self.levels is None else len(self.levels)

    def encode(self, values: NDArray[Any], owner: str) -> NDArray[np.float64]:
        """Numbers (n,) of values (n,): levels by their places; NaN where missing."""
        missing = is_missing(values)
        code = np.full(len(values), np.nan)
        try:
            code[~missing] = self._numbers(values[~missing])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {self.name!r} is of the kind {self.kind!r} for {owner}, which "
                f"is of numbers, but: {error}. Give the column the kind 'categorical'."
            ) from error
        unknown = np.isnan(code) & ~missing
        if unknown.any():
            raise ValueError(
                f"Found unknown categories {values[unknown][:3].tolist()} in column "
                f"{self.name!r} of {owner}, which has {_listed(self.levels or [])}. "
                "Leave such rows out, or fit with kinds="
                f"{{{self.name!r}: [...]}}, all levels of the column."
            )
        if np.isinf(code).any():
            raise ValueError(
                f"Column {self.name!r} given to {owner} contains infinity. Give NaN "
                "for a value that is missing."
            )
        wrong = outside(code, self.density)
        if wrong.any():
            value = code[np.argmax(wrong)]
            raise ValueError(
                f"Column {self.name!r} is of the kind {self.kind!r} for {owner}, which "
                f"has {support(self.density)}, but it has the value {value:.5g}. Fit "
                f"with kinds={{{self.name!r}: 'real'}}."
            )
        return code

    def _numbers(self, values: NDArray[Any]) -> NDArray[np.float64]:
        if self.levels is None:
            return values.astype(np.float64)
        places = {level: i for i, level in enumerate(self.levels)}
        found = [places.get(value, np.nan) for value in values.tolist()]
        return np.array(found, dtype=np.float64)

    def decode(self, code: NDArray[Any]) -> NDArray[Any]:
        """Values (n,) of numbers (n,) that are not missing."""
        if self.levels is None:
            return code.round() if self.kind == "count" else code
        levels = np.empty(len(self.levels), dtype=object)
        levels[:] = self.levels
        same = {type(level) for level in self.levels}
        if same in ({bool}, {int}, {float}):
            levels = levels.astype(same.pop())
        return levels[code.astype(int)]


def learn_codes(X: Any, kinds: Mapping[Any, Any], owner: str) -> list[ColumnCode]:
    """Find the kind of each column, and its levels.

    Parameters
    ----------
    X : DataFrame or array of shape (n_samples, n_features)
        Training rows.
    kinds : mapping
        Kinds of some columns, by name or position; a list is one of levels.
    owner : str
        Name of the estimator, for errors.
    """
    codes = []
    for name, dtype, values in columns_of(X):
        seen = values[~is_missing(values)]
        if not len(seen):
            raise ValueError(
                f"Column {name!r} has no value in the rows given to {owner}: every "
                "cell is missing. Leave the column out."
            )
        kind = kinds[name] if name in kinds else _guessed(seen, dtype)
        if isinstance(kind, str) and kind not in NUMBERS:
            levels = _listed_by(X, name, dtype) or _levels(name, seen, owner)
            _check_binary(name, kind, levels, owner)
            kind = levels
        codes.append(_code(name, kind))
        _check_column(codes[-1], seen, owner)
    if not codes:
        raise ValueError(
            f"Found array with 0 feature(s) (shape=({len(X)}, 0)) while a minimum of 1 "
            f"is required by {owner}."
        )
    return codes


def _code(name: Any, kind: str | Sequence[Any]) -> ColumnCode:
    """Return the code of a column of numbers of a kind, or of these levels."""
    if isinstance(kind, str):
        return ColumnCode(name, kind, None)
    return ColumnCode(name, "binary" if len(kind) == 2 else "categorical", list(kind))


def _check_column(code: ColumnCode, seen: NDArray[Any], owner: str) -> None:
    """Raise a ValueError for what no density of the kind can be fitted to."""
    is_positive = code.kind == "positive" and (seen > 0).all()
    if is_positive and np.log(seen.max() / seen.min()) >= MAX_LOG_SPAN:
        raise ValueError(
            f"Column {code.name!r} goes from {seen.min():.3g} to {seen.max():.3g}, "
            f"which is too far for the kind 'positive' of {owner}. Give its "
            "logarithm."
        )
    for level in code.levels or []:
        if not _is_level(level):
            raise ValueError(
                f"Column {code.name!r} given to {owner} has values of the type "
                f"{type(level).__name__}, which are neither numbers, strings nor "
                "booleans. Make them numbers, as days since a date, or strings."
            )


def _is_level(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _check_binary(name: Any, kind: str, levels: Sequence[Any], owner: str) -> None:
    if kind == "binary" and len(levels) > 2:
        raise ValueError(
            f"Column {name!r} is of the kind 'binary' for {owner}, but it has "
            f"{_listed(levels)}. Give it the kind 'categorical'."
        )


def encode_table(X: Any, codes: Sequence[ColumnCode], owner: str) -> NDArray[Any]:
    """Rows of numbers (n, d), in the order of the codes, NaN where missing."""
    columns = columns_of(X)
    return np.column_stack(
        [code.encode(values, owner) for code, (_, _, values) in zip(codes, columns)]
    )


def with_cells_of(X: Any, filled: Any) -> Any:
    """Put the cells that X has into a filled table, to the bit, where it can be."""
    if type(X) is not type(filled):
        return filled
    if isinstance(X, np.ndarray):
        missing = np.column_stack([is_missing(_objects(x.tolist())) for x in X.T])
        return np.where(missing, filled, X)
    for name in X.columns:
        missing = is_missing(_objects(X[name].to_list()))
        if hasattr(filled, "iloc"):
            filled[name] = X[name].mask(missing, filled[name])
        else:
            made = filled[name]
            filled = filled.with_columns(
                made.zip_with(type(made)(missing), X[name].cast(made.dtype))
            )
    return filled


def columns_of(X: Any) -> Iterator[tuple[Any, str, NDArray[Any]]]:
    """Yield name, name of the dtype, and values (n,) of each column.

    Columns of numbers are float64, of anything else Python's objects.
    """
    columns = Columns.of(X)
    if columns is None:
        array = np.asarray(X)
        array = array.astype(object) if array.dtype.kind in "mM" else array
        for j, values in enumerate(array.T):
            yield j, _dtype_of(values), _plain(values)
        return
    for name, dtype in zip(columns.names, columns.dtypes):
        if kind_of(dtype) not in ("f", "i", "u"):
            yield name, dtype, _plain(_objects(X[name].to_list()))
        elif columns.library == "pandas":
            yield name, dtype, X[name].to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            yield name, dtype, X[name].to_numpy().astype(np.float64)


def _objects(values: list[Any]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _dtype_of(values: NDArray[Any]) -> str:
    """Name of the dtype of a column of an array; of objects, "int" or none."""
    if values.dtype != object:
        return str(values.dtype)
    seen = values[~is_missing(values)]
    return "int" if all(isinstance(value, Integral) for value in seen) else ""


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Values (n,) as float64 where all that are there are numbers, else as objects."""
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    objects = _objects(values.tolist())
    missing = is_missing(objects)
    if not all(_is_number(value) for value in objects[~missing]):
        return objects
    numbers = np.full(len(objects), np.nan)
    numbers[~missing] = objects[~missing].astype(np.float64)
    return numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values (n,), floats or objects, are None, NaN or pandas.NA."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([_is_none(value) for value in values], dtype=bool)


def _is_none(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _guessed(seen: NDArray[Any], dtype: str) -> str:
    """Guess the kind of a column from the values that are there.

    Levels where they are no numbers, or two numbers; a count where the dtype is of
    integers that are not negative, and vary as much as Poisson counts at least, as a
    negative binomial does; positive where they are floats and a log-normal density
    fits better than a normal one.
    """
    if seen.dtype.kind != "f" or dtype in LISTED:
        return "categorical"
    low, high = seen.min(), seen.max()
    if low == high or np.isinf([low, high]).any():  # which ``encode`` refuses
        return "real"
    if np.isin(seen, [low, high]).all():
        return "binary"
    mean, variance = seen.mean(), seen.var()
    if kind_of(dtype) in ("i", "u"):  # floats that are whole here may not be elsewhere
        slack = 4 * np.sqrt(2 / len(seen))  # of the variance of Poisson counts
        return "count" if low >= 0 and variance >= mean * (1 - slack) else "real"
    if low > 0 and np.log(high / low) < MAX_LOG_SPAN:
        log_x = np.log(seen)
        # Log-likelihoods a cell: -log sigma, and the mean of log du/dx = -log x.
        if 0.5 * np.log(log_x.var()) + log_x.mean() < 0.5 * np.log(variance):
            return "positive"
    return "real"


def _listed_by(X: Any, name: Any, dtype: str) -> list[Any]:
    """Levels that the dtype of a column lists, seen or not."""
    if dtype not in LISTED:
        return []
    listed = X[name].dtype.categories
    return list(listed.tolist() if hasattr(listed, "tolist") else listed)


def _levels(name: Any, seen: NDArray[Any], owner: str) -> list[Any]:
    """Levels that a column has, sorted."""
    try:
        levels: list[Any] = np.unique(seen).tolist()
    except TypeError as error:
        raise ValueError(
            f"Column {name!r} given to {owner} has levels of several types, which have "
            "no order: make them uniformly strings or numbers."
        ) from error
    if len(levels) > MAX_LEVELS:
        raise ValueError(
            f"Column {name!r} has {len(levels)} levels for {owner}, and {MAX_LEVELS} "
            "is the most. Leave the column out, or give it another kind."
        )
    return levels


def _listed(levels: Sequence[Any]) -> str:
    shown = ", ".join(repr(level) for level in itertools.islice(levels, 5))
    return f"the levels {shown}" + (", ..." if len(levels) > 5 else "")
