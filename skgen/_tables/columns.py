"""Columns of a table as numbers: kinds, levels, missing cells; and back."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skgen._tables.curves import Curve
from skgen._tables.frames import LISTED, table_library
from skgen._tables.kinds import (
    MAX_LOG_SPAN,
    Values,
    atoms_of,
    guessed,
    natural_interval,
)
from skgen._tables.values import (
    FORMS,
    OBJECT_TICKS,
    Cells,
    as_objects,
    cells_of,
    difference,
    ticks_at,
)
from skgen.likelihoods.specs import (
    MAX_LEVELS,
    Spec,
    checked,
    is_whole_kind,
    limits,
    outside,
    support,
)

#: What a column may be called. "binary" is "categorical" with two levels.
LEVELS = ("binary", "categorical", "ordinal")
NUMBERS = ("real", "positive", "count", "bounded", "inflated")
KINDS = (*NUMBERS, *LEVELS)
#: Kinds that may be given as a tuple, with options.
WITH_OPTIONS = ("bounded", "inflated", "ordinal")
# Integers beyond are not all floats.
EXACT = 2**53


class Scale(NamedTuple):
    """How values of a column become numbers: ``(ticks - origin) / per_unit``.

    Numbers that are no ticks are as they are.
    """

    form: str = "float"  # of ``column_values.FORMS``
    dtype: str = ""
    origin: int = 0
    per_unit: int = 1
    step: int = 1  # ticks between values, at least

    @classmethod
    def of(cls, cells: Cells, kind: str) -> Scale:
        """Find the scale of a column."""
        if cells.form in ("float", "object"):
            return cls(cells.form, cells.dtype)
        if cells.form == "decimal":
            exponents = [value.as_tuple().exponent for value in cells.seen]
            return cls("decimal", cells.dtype, 0, 10 ** max(0, -min(exponents)))
        low, high = int(cells.seen.min()), int(cells.seen.max())
        is_far = kind == "real" and max(-low, high) > EXACT
        if not cells.is_time:
            return cls("int", cells.dtype, low if is_far else 0)
        origin = 0 if cells.is_duration else low
        steps = cells.seen.astype(np.uint64) - np.array(low % 2**64, dtype=np.uint64)
        first = np.array(abs(low - origin), dtype=np.uint64)  # the way to the first
        step = int(np.gcd.reduce(np.append(steps, first))) or cells.per_unit
        return cls(cells.form, cells.dtype, origin, cells.per_unit, step)

    @property
    def is_time(self) -> bool:
        """Return whether the values are dates, times or periods."""
        return self.form == "ticks" or self.form in OBJECT_TICKS

    def numbers(self, cells: Cells) -> NDArray[np.float64]:
        """Numbers (n,) of the cells that are there."""
        if cells.is_time != self.is_time:
            raise ValueError(f"its values are of the type {_type_of(cells)}")
        if cells.form in ("float", "object", "decimal"):
            return cells.seen.astype(np.float64) - self.origin
        origin = self.origin * cells.per_unit // self.per_unit
        return difference(cells.seen, origin) / max(1, cells.per_unit)

    def values(self, x: NDArray[Any], spec: Spec) -> NDArray[Any]:
        """Return values (n,) of numbers (n,), within the limits of their kind."""
        low, high = limits(spec)
        if self.form in ("float", "object"):
            return np.asarray(x).clip(low, high)
        ends = self._ticks_of_limits(spec, low, high)
        steps = np.asarray(x, dtype=np.float64) * (self.per_unit / self.step)
        return self.natives(ticks_at(steps, self.origin, self.step, *ends))

    def _ticks_of_limits(self, spec: Spec, low: float, high: float) -> tuple[int, int]:
        """Return the least and the largest tick of a kind that its dtype has."""
        least, most = _limits_of(OBJECT_TICKS.get(self.form, self.dtype))
        if math.isfinite(low):
            least = max(least, self.origin + math.ceil(low * self.per_unit))
            least += spec == "positive" and least == self.origin
        if math.isfinite(high):
            most = min(most, self.origin + math.floor(high * self.per_unit))
        return least, most

    def natives(self, ticks: NDArray[Any]) -> NDArray[Any]:
        """Return the values of ticks, as objects where they were objects."""
        if self.form == "decimal":
            places = -round(math.log10(self.per_unit))
            return as_objects([Decimal(t).scaleb(places) for t in ticks.tolist()])
        if self.form in OBJECT_TICKS:
            return ticks.astype(OBJECT_TICKS[self.form]).astype(object)
        return ticks


class Beyond(NamedTuple):
    """Price in the score of a later value that a guessed kind does not have.

    By Laplace's rule it comes once in n + 1 cells; numbers have a Cauchy density there.
    """

    n_cells: int
    centre: float = 0.0
    spread: float = 0.0  # 0: no numbers

    @classmethod
    def of(cls, x: NDArray[Any], *, is_mass: bool) -> Beyond:
        """Learn it from numbers (n,), whole ones if each has a mass."""
        low, centre, high = np.quantile(x, [0.25, 0.5, 0.75])
        spread = float(high - low) / 2 or float(x.std() if np.ptp(x) else abs(centre))
        spread = spread or 1.0
        return cls(len(x), float(centre), max(spread, float(is_mass)))

    @classmethod
    def checked(cls, given: Any) -> Beyond | None:
        """Return what a file states; a ValueError for what cannot be."""
        if given is None:
            return None
        found = cls(*given)
        if type(found.n_cells) is not int or not all(
            type(n) is float and math.isfinite(n) for n in found[1:]
        ):
            raise ValueError("what a column has beyond its kind is out of order")
        return found

    def log_prob(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return log-densities (n,) of numbers; log-masses where there are none."""
        found = np.full(len(x), -math.log(self.n_cells + 1.0))
        if self.spread > 0:
            distance = np.hypot(self.spread, x - self.centre)
            found += math.log(self.spread / math.pi) - 2 * np.log(distance)
        return found


class ColumnCode(NamedTuple):
    """A column's kind, and how its values become numbers."""

    name: Any
    kind: str  # of KINDS
    levels: list[Any] | None  # of LEVELS
    spec: Any = None  # what ``Mixed`` calls a kind of numbers; None: the kind
    scale: Scale = Scale()
    is_guess: bool = False
    beyond: Beyond | None = None  # None: values that the kind lacks are errors
    curve: Curve | None = None  # what the model sees of numbers; None: they themselves

    @classmethod
    def checked(cls, name: Any, kind: Any, levels: Any, *more: Any) -> ColumnCode:
        """Return what a file states of a column; a ValueError for what cannot be."""
        if kind not in KINDS or (kind in NUMBERS) != (levels is None):
            raise ValueError(f"{kind!r} is no kind of the column {name!r}")
        if levels is not None:
            levels = [from_plain(level) for level in levels]
            plain = all(map(_is_level, levels))
            if not plain or not levels or len(set(levels)) < len(levels):
                raise ValueError(f"the levels of the column {name!r} are out of order")
        code = cls(name, kind, levels, *more)
        checked(code.density)
        beyond, curve = Beyond.checked(code.beyond), Curve.checked(code.curve)
        scale = _checked_scale(code.scale)
        return code._replace(scale=scale, beyond=beyond, curve=curve)

    def plain(self) -> tuple[Any, ...]:
        """Return what a file states of the column."""
        levels = None if self.levels is None else [to_plain(x) for x in self.levels]
        beyond = None if self.beyond is None else tuple(self.beyond)
        stated = self.name, self.kind, levels, self.spec, tuple(self.scale)
        curve = None if self.curve is None else tuple(self.curve)
        return *stated, self.is_guess, beyond, curve

    def with_curve(self, cells: Cells) -> ColumnCode:
        """Learn a curve from the cells of a fit, where numbers have a density."""
        if self.levels is not None:
            return self
        x = self.scale.numbers(cells)
        return self._replace(curve=Curve.of(x, self.density))

    @property
    def seen_density(self) -> Spec:
        """Return the kind of what the model sees, as ``Mixed`` names it."""
        return self.density if self.curve is None else self.curve.spec(self.density)

    @property
    def density(self) -> Spec:
        """Name of the kind of the column in ``Mixed``."""
        if self.levels is None:
            spec: Spec = self.spec or self.kind
            return spec
        n_levels = len(self.levels)
        return ("ordinal", n_levels) if self.kind == "ordinal" else n_levels

    def encode(self, cells: Cells, owner: str) -> NDArray[np.float64]:
        """Numbers (n,) of cells (n,): levels by their places; NaN where missing.

        Values that the kind does not have raise a ValueError.
        """
        code, wrong = self._read(cells, owner)
        if wrong.any():
            raise ValueError(self._fault(cells, code, wrong, owner))
        return self.seen(code)

    def seen(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return what the model sees of numbers (n,)."""
        return x if self.curve is None else self.curve(x)

    def encode_later(
        self, cells: Cells, owner: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return numbers (n,) of cells of later rows, and what to add to scores (n,).

        Values that a guessed kind does not have are missing, at their price.
        """
        code, wrong = self._read(cells, owner)
        terms = np.zeros(len(code))
        if self.curve is not None:
            known = ~(wrong | np.isnan(code))
            terms[known] = self.curve.log_slope(code[known])
        if not wrong.any():
            return self.seen(code), terms
        fault = self._fault(cells, code, wrong, owner)
        if self.beyond is None:
            raise ValueError(fault)
        warnings.warn(
            f"{fault} Such cells are taken for missing, and cost in the score what a "
            f"value does that none of {self.beyond.n_cells} cells has.",
            stacklevel=4,
        )
        terms[wrong] = self.beyond.log_prob(code[wrong])
        return self.seen(np.where(wrong, np.nan, code)), terms

    def _read(
        self, cells: Cells, owner: str
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return numbers (n,) of cells (n,), and which of them the kind lacks."""
        code = np.full(len(cells.values), np.nan)
        if cells.missing.all():  # which has no form
            return code, np.zeros(len(code), dtype=bool)
        try:
            code[~cells.missing] = self._numbers(cells)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {self.name!r} is of the kind {self.kind!r} for {owner}, which "
                f"is of {self._what}, but: {error}. Give the column the kind "
                "'categorical'."
            ) from error
        if np.isinf(code).any():
            raise ValueError(
                f"Column {self.name!r} given to {owner} contains infinity. Give NaN "
                "for a value that is missing."
            )
        is_unknown = np.isnan(code) & ~cells.missing
        return code, is_unknown | outside(code, self.density) | self._changed(code)

    def _changed(self, code: NDArray[Any]) -> Any:
        """Return which numbers (n,) are another than that of a constant column."""
        if self.beyond is None or self.kind != "real":
            return False
        return ~(np.isclose(code, self.beyond.centre, 1e-9, 0.0) | np.isnan(code))

    def _fault(
        self, cells: Cells, code: NDArray[Any], wrong: NDArray[np.bool_], owner: str
    ) -> str:
        """Say which values the kind lacks, and what to do."""
        if self.levels is None:
            return self._outside(code[np.argmax(wrong)], owner)
        return self._unknown(cells.values[wrong][:3].tolist(), owner)

    def _numbers(self, cells: Cells) -> NDArray[np.float64]:
        if self.levels is None:
            return self.scale.numbers(cells)
        places = {level: i for i, level in enumerate(self.levels)}
        found = [places.get(value, np.nan) for value in cells.seen.tolist()]
        return np.array(found, dtype=np.float64)

    @property
    def _what(self) -> str:
        return "dates or times" if self.scale.is_time else "numbers"

    def _unknown(self, values: list[Any], owner: str) -> str:
        """Say that values are no levels, and what to do."""
        listed = _listed(self.levels or [])
        if self.is_guess and all(map(_is_number, [*(self.levels or []), *values])):
            is_count = all(value >= 0 and value == int(value) for value in values)
            other = "count" if is_count else "real"
            return (
                f"Column {self.name!r} was taken for {self.kind!r} by {owner}, since "
                f"the rows of its fit have only {listed}, but it has the values "
                f"{values}. Fit with kinds={{{self.name!r}: '{other}'}}, or a list of "
                "all levels in its place."
            )
        return (
            f"Found unknown categories {values} in column {self.name!r} of {owner}, "
            f"which has {listed}. Leave such rows out, or fit with kinds="
            f"{{{self.name!r}: [...]}}, all levels of the column."
        )

    def _outside(self, value: float, owner: str) -> str:
        """Say that a value is outside of the support, and what to do."""
        if self.beyond is not None and self.kind == "real":
            return (
                f"Column {self.name!r} has one value, {self.beyond.centre:.10g}, in "
                f"the rows that {owner} was fitted on, but here {value:.10g}. "
                "Fit with more rows, or leave the column out."
            )
        kinds = "'real'"
        if self.is_guess and self.kind == "bounded":
            kinds += " or ('bounded', low, high)"
        return (
            f"Column {self.name!r} is of the kind {self.kind!r} for {owner}, which "
            f"has {support(self.density)}, but it has the value {value:.10g}. Fit "
            f"with kinds={{{self.name!r}: {kinds}}}."
        )

    def decode(self, code: NDArray[Any]) -> NDArray[Any]:
        """Values (n,) of numbers (n,) that are not missing."""
        if self.levels is None:
            code = code if self.curve is None else self.curve.inverse(code)
            if self.kind == "count" and self.scale.form == "float":
                code = code.round()
            return self.scale.values(code, self.density)
        levels = as_objects(self.levels)
        if {type(level) for level in self.levels} in ({bool}, {int}, {float}):
            levels = np.array(self.levels)
        if self.scale.is_time:
            levels = self.scale.natives(levels.astype(np.int64))
        found: NDArray[Any] = levels[code.astype(int)]
        return found


def learn_codes(X: Any, kinds: Mapping[Any, Any], owner: str) -> list[ColumnCode]:
    """Find the kind of each column, and its levels.

    Parameters
    ----------
    X : DataFrame or array of shape (n_samples, n_features)
        Training rows.
    kinds : mapping
        Kinds of some columns, by name or position: a name of `KINDS`; a list, which is
        one of levels; or a tuple of a name of `WITH_OPTIONS` and its options.
    owner : str
        Name of the estimator, for errors.
    """
    codes = []
    for cells in cells_of(X):
        if cells.missing.all():
            raise ValueError(
                f"Column {cells.name!r} has no value in the rows given to {owner}: "
                "every cell is missing. Leave the column out."
            )
        codes.append(_learn(cells, kinds.get(cells.name), X, owner))
        _check_column(codes[-1], cells, owner)
    if not codes:
        raise ValueError(
            f"Found array with 0 feature(s) (shape=({len(X)}, 0)) while a minimum of 1 "
            f"is required by {owner}."
        )
    return codes


def with_curves(X: Any, codes: Sequence[ColumnCode]) -> list[ColumnCode]:
    """Learn maps to normal quantiles from training rows."""
    return [code.with_curve(cells) for code, cells in zip(codes, cells_of(X))]


def _learn(cells: Cells, given: Any, X: Any, owner: str) -> ColumnCode:
    """Return the code of a column of a kind that is given, or is to be guessed."""
    if given is None:
        return _guess(cells, X, owner)
    kind, *options = given if isinstance(given, tuple) else (given,)
    if not isinstance(kind, str):  # a list of levels
        kind, options = "categorical" if len(kind) != 2 else "binary", [kind]
    if kind in LEVELS:
        levels = _given_levels(cells, *options) or _levels_of(cells, X, owner)
        _check_binary(cells.name, kind, levels, owner)
        return ColumnCode(cells.name, kind, levels, scale=Scale.of(cells, kind))
    scale = Scale.of(cells, kind)
    code = ColumnCode(cells.name, kind, None, scale=scale)
    if kind in ("real", "positive", "count"):
        return code
    x = scale.numbers(cells)
    if kind == "bounded":
        ends = _given_ends(scale, options) if options else natural_interval(x)
        return code._replace(spec=_interval(cells, *ends))
    return code._replace(spec=_inflated(cells, x, options))


def _interval(cells: Cells, low: float, high: float) -> Spec:
    """Return the kind of an interval; of integers, the whole numbers in it."""
    if cells.form != "int":
        return "bounded", float(low), float(high)
    return "whole", float(np.ceil(low)), float(np.floor(high))


def _given_ends(scale: Scale, options: Sequence[Any]) -> tuple[float, float]:
    """Numbers of the two ends; None is no end."""
    low, high = (
        end if end is None else scale.numbers(like(scale, end))[0] for end in options
    )
    return -math.inf if low is None else low, math.inf if high is None else high


def like(scale: Scale, value: Any) -> Cells:
    """Return a cell of a value, of the form that a scale takes."""
    if scale.form == "ticks" and not isinstance(value, int | float):
        value = np.datetime64(value) if isinstance(value, str | date) else value
        value = np.array([getattr(value, "to_numpy", lambda: value)()])
        return Cells.of_array(None, value)
    return Cells.of_objects(None, "", [value])


def _inflated(cells: Cells, x: NDArray[Any], options: Sequence[Any]) -> Spec:
    """Return the kind with atoms that are given or found, and a base likewise."""
    values = Values.of(x)
    found = values.x[atoms_of(values)]
    atoms = tuple(map(float, options[0])) if options else tuple(found.tolist())
    atoms = atoms or (float(values.x[values.counts.argmax()]),)
    rest = x[~np.isin(x, atoms)]
    if len(options) > 1:
        base = options[1]
        if isinstance(base, tuple):
            base = _interval(cells, *(_none_is_inf(base[1:])))
    else:
        base = guessed(rest, is_whole=cells.form == "int").spec if len(rest) else ""
        has_atoms = isinstance(base, tuple) and base[0] == "inflated"
        base = "real" if has_atoms or not base else base
    return "inflated", base, atoms


def _none_is_inf(ends: Sequence[Any]) -> tuple[float, float]:
    low, high = ends
    return -math.inf if low is None else low, math.inf if high is None else high


def _guess(cells: Cells, X: Any, owner: str) -> ColumnCode:
    """Guess the kind of a column, and what values beyond it are worth."""
    code = _guessed_code(cells, X, owner)
    if cells.dtype in LISTED:  # which states its levels
        return code
    if code.levels is not None:
        return code._replace(beyond=Beyond(len(cells.seen)))
    x = code.scale.numbers(cells)
    if code.kind == "real" and x.min() < x.max():  # has all values
        return code
    return code._replace(beyond=Beyond.of(x, is_mass=is_whole_kind(code.density)))


def _guessed_code(cells: Cells, X: Any, owner: str) -> ColumnCode:
    """Guess the kind of a column from its type, or its numbers."""
    name = cells.name
    if cells.form == "object":
        levels = _levels_of(cells, X, owner)
        kind = "binary" if len(levels) == 2 else "categorical"
        kind = "ordinal" if len(levels) > 2 and _is_interval(levels[0]) else kind
        return ColumnCode(name, kind, levels, None, Scale.of(cells, kind), True)
    if cells.is_time and not cells.is_duration:
        return _guess_date(cells)
    scale = Scale.of(cells, "real")
    found = guessed(scale.numbers(cells), is_whole=cells.form == "int")
    if found.levels:
        levels = [_native(level, scale) for level in found.levels]
        return ColumnCode(name, found.kind, levels, None, scale, True)
    if scale.origin:  # zero is not where it was
        return ColumnCode(name, "real", None, None, scale, True)
    return ColumnCode(name, found.kind, None, found.spec, scale, True)


def _guess_date(cells: Cells) -> ColumnCode:
    """Take few dates that come back for ordered levels, others for real numbers."""
    scale = Scale.of(cells, "real")
    x = scale.numbers(cells) * scale.per_unit / scale.step
    is_ordinal = guessed(x, is_whole=True).kind == "ordinal"
    levels = np.unique(cells.seen).tolist() if is_ordinal else None
    kind = "ordinal" if is_ordinal else "real"
    return ColumnCode(cells.name, kind, levels, None, scale, True)


def _native(level: float, scale: Scale) -> Any:
    """Return a level of numbers as the column has it."""
    match scale.form:
        case "float":
            return level
        case "decimal":
            return Decimal(round(level * scale.per_unit)) / scale.per_unit
    return scale.origin + round(level * scale.per_unit)


def _check_column(code: ColumnCode, cells: Cells, owner: str) -> None:
    """Raise a ValueError for what no density of the kind can be fitted to."""
    if code.kind == "positive":
        x = code.scale.numbers(cells)
        if (x > 0).all() and np.log(x.max() / x.min()) >= MAX_LOG_SPAN:
            raise ValueError(
                f"Column {code.name!r} goes from {x.min():.3g} to {x.max():.3g}, "
                f"which is too far for the kind 'positive' of {owner}. Give its "
                "logarithm."
            )
    for level in code.levels or []:
        if not _is_level(level):
            raise ValueError(
                f"Column {code.name!r} given to {owner} has values of the type "
                f"{type(level).__name__}, which are neither numbers, strings, "
                "booleans, dates nor intervals. Make them numbers or strings."
            )


def _check_binary(name: Any, kind: str, levels: Sequence[Any], owner: str) -> None:
    if kind == "binary" and len(levels) > 2:
        raise ValueError(
            f"Column {name!r} is of the kind 'binary' for {owner}, but it has "
            f"{_listed(levels)}. Give it the kind 'categorical'."
        )


def encode_table(X: Any, codes: Sequence[ColumnCode], owner: str) -> NDArray[Any]:
    """Rows of numbers (n, d), in the order of the codes, NaN where missing."""
    return np.column_stack(
        [code.encode(cells, owner) for code, cells in zip(codes, cells_of(X))]
    )


def encode_later(
    X: Any, codes: Sequence[ColumnCode], owner: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return later rows of numbers (n, d), and what each cell adds to scores (n, d)."""
    pairs = zip(codes, cells_of(X))
    rows, terms = zip(*(code.encode_later(cells, owner) for code, cells in pairs))
    return np.column_stack(rows), np.column_stack(terms)


def with_cells_of(X: Any, filled: Any) -> Any:
    """Put the cells that X has into a filled table, to the bit, where it can be."""
    if type(X) is not type(filled):
        return filled
    if isinstance(X, np.ndarray):
        missing = np.column_stack([cells.missing for cells in cells_of(X)])
        found = np.where(missing, filled, X)
        return found.astype(filled.dtype) if X.dtype == object else found
    for cells in cells_of(X):
        name, missing = cells.name, cells.missing
        if hasattr(filled, "iloc"):
            filled[name] = X[name].mask(missing, filled[name])
        else:
            made = filled[name]
            filled = filled.with_columns(
                made.zip_with(type(made)(missing), X[name].cast(made.dtype))
            )
    return filled


def _given_levels(cells: Cells, levels: Any = None) -> list[Any]:
    """Return levels that are given, as the cells of the column are."""
    if levels is None:
        return []
    if not cells.is_time:
        return as_python(levels)
    return [int(like(Scale.of(cells, ""), level).values[0]) for level in levels]


def as_python(levels: Any) -> list[Any]:
    """Return levels as a list of Python's objects."""
    found: list[Any] = Cells.of_objects(None, LISTED[0], list(levels)).values.tolist()
    return found


def _levels_of(cells: Cells, X: Any, owner: str) -> list[Any]:
    """Levels that the dtype of a column lists, seen or not; or those seen, sorted."""
    if cells.dtype in LISTED:
        listed = X[cells.name].dtype.categories
        found = list(listed.tolist() if hasattr(listed, "tolist") else listed)
        if found:
            return found
    try:
        levels: list[Any] = np.unique(cells.seen).tolist()
    except TypeError as error:
        raise ValueError(
            f"Column {cells.name!r} given to {owner} has levels of several types, "
            "which have no order: make them uniformly strings or numbers."
        ) from error
    if len(levels) > MAX_LEVELS:
        raise ValueError(
            f"Column {cells.name!r} has {len(levels)} levels for {owner}, and "
            f"{MAX_LEVELS} is the most. Leave the column out, or give it another kind."
        )
    return levels


def _listed(levels: Sequence[Any]) -> str:
    shown = ", ".join(repr(level) for level in itertools.islice(levels, 5))
    return f"the levels {shown}" + (", ..." if len(levels) > 5 else "")


def _type_of(cells: Cells) -> str:
    return cells.dtype or type(cells.seen[0]).__name__


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_interval(value: Any) -> bool:
    return type(value).__name__ == "Interval" and hasattr(value, "closed")


def _is_level(value: Any) -> bool:
    plain = str | bool | int | float | Decimal | date | timedelta
    return isinstance(value, plain) or _is_interval(value)


def _limits_of(dtype: str) -> tuple[int, int]:
    """Return the least and the largest integer of a dtype, or of its ticks."""
    name = dtype.lower().partition("[")[0]
    if dtype == "Time":
        return 0, 86400 * 10**9 - 1
    if dtype in OBJECT_TICKS.values() and not dtype.startswith("timedelta"):
        first, last = np.array(["0001-01-01", "9999-12-31"], dtype=dtype)  # of Python
        return int(first.astype(np.int64)), int(last.astype(np.int64))
    if dtype == "Date" or name == "date32":
        name = "int32"
    try:
        found = np.iinfo(name)
    except (TypeError, ValueError):
        return -(2**63) + 1, 2**63 - 1  # the least is no date
    return int(found.min), int(found.max)


# Levels in files.


def to_plain(level: Any) -> Any:
    """Return a level as a file holds it: text and numbers as they are."""
    if _is_interval(level):
        ends = [to_plain(end) for end in (level.left, level.right)]
        return ("interval", *ends, level.closed)
    if isinstance(level, Decimal):
        return "decimal", str(level)
    if isinstance(level, timedelta):
        return "timedelta", level // timedelta(microseconds=1)
    if isinstance(level, datetime):
        return "datetime", level.isoformat(), type(level).__name__
    if isinstance(level, date):
        return "date", level.isoformat()
    return level


def from_plain(plain: Any) -> Any:
    """Return a level that a file holds."""
    match plain:
        case "interval", left, right, "left" | "right" | "both" | "neither" as closed:
            ends = from_plain(left), from_plain(right)
            return table_library("pandas").Interval(*ends, closed)
        case "decimal", str(text):
            return Decimal(text)
        case "timedelta", int(microseconds):
            return timedelta(microseconds=microseconds)
        case "datetime", str(text), "Timestamp":
            return table_library("pandas").Timestamp(text)
        case "datetime", str(text), _:
            return datetime.fromisoformat(text)
        case "date", str(text):
            return date.fromisoformat(text)
    return plain


def _checked_scale(scale: Any) -> Scale:
    found = Scale(*scale)
    numbers = (found.origin, found.per_unit, found.step)
    good = found.form in FORMS and isinstance(found.dtype, str)
    if not good or not all(type(n) is int for n in numbers) or min(numbers[1:]) < 1:
        raise ValueError("the scale of a column is out of order")
    return found
