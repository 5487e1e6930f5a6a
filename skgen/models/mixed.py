"""A density of tables: columns of several kinds, and cells that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted, validate_data

from skgen._tables.columns import (
    KINDS,
    WITH_OPTIONS,
    ColumnCode,
    as_python,
    encode_later,
    encode_table,
    learn_codes,
    with_cells_of,
    with_curves,
)
from skgen._tables.conditions import column_numbers, read_conditions
from skgen._tables.frames import (
    Columns,
    as_table,
    as_time,
    indexed,
    output_library,
)
from skgen._tables.given import encoded_given
from skgen._tables.values import as_objects, is_missing
from skgen._utils.estimators import Estimator
from skgen._utils.parameters import (
    attribute,
    check_parameters,
    estimator,
    instance,
    none,
    options,
    parameter,
    real,
)
from skgen._utils.tensors import on_host
from skgen.likelihoods import Mixed
from skgen.likelihoods.specs import Spec, checked
from skgen.models.base import whole_or_as_before
from skgen.models.completion import draw_given
from skgen.models.diffusion import Diffusion
from skgen.models.mapped import MappedDensity
from skgen.models.mixture_em import MixtureEM
from skgen.models.neural import NeuralModel
from skgen.models.vae import VAE

# Kinds of dtypes of arrays that rows come back in: integers and times.
ARRAY_KINDS = "iumM"


def _levels(kind: Any) -> list[Any]:
    """Return different levels as a list; nothing where they are none."""
    try:
        found = as_python(kind)
        repeated = len(set(found)) < len(found)
    except TypeError:
        return []
    return [] if repeated or is_missing(as_objects(found)).any() else found


def _kind(kind: Any) -> Any:
    """Return a kind as ``learn_codes`` takes it; None where it is none."""
    if isinstance(kind, str):
        return kind if kind in KINDS else None
    if not isinstance(kind, tuple) or not kind or kind[0] not in WITH_OPTIONS:
        return _levels(kind) or None
    match kind:
        case "bounded", low, high if _is_interval(low, high):
            return kind
        case "ordinal", levels if _levels(levels):
            return "ordinal", _levels(levels)
        case "inflated", values if _are_values(values):
            return "inflated", list(values)
        case "inflated", values, ("bounded", low, high) if _is_interval(low, high):
            return ("inflated", list(values), kind[2]) if _are_values(values) else None
        case "inflated", values, "real" | "positive" | "count" as base:
            return ("inflated", list(values), base) if _are_values(values) else None
    return None


def _is_interval(low: Any, high: Any) -> bool:
    """Whether two ends, of which None is infinite, have something between them."""
    ends = [end for end in (low, high) if end is not None]
    try:
        return bool(ends) and all(end == end for end in ends) and ends[0] <= ends[-1]
    except TypeError:
        return False


def _are_values(values: Any) -> bool:
    """Return whether values are different finite numbers."""
    rule = real(-np.inf, closed="neither")
    return all(map(rule.accepts, _levels(values))) and bool(_levels(values))


def _of_some_weight(X: Any, weight: Any) -> tuple[Any, Any]:
    """Leave rows of weight zero out, where there are others."""
    if weight is None:
        return X, None
    weight = np.asarray(weight)
    kept = np.flatnonzero(weight)
    if weight.shape != (len(X),) or not len(kept):
        return X, weight  # what is wrong with it the model inside says
    return _safe_indexing(X, kept), weight[kept]


def _array_dtype(X: Any) -> str | None:
    """Return the dtype of an array of integers or times, masked or a tensor too."""
    dtype = getattr(np.ma.getdata(X) if np.ma.isMA(X) else on_host(X), "dtype", None)
    is_one = isinstance(dtype, np.dtype) and dtype.kind in ARRAY_KINDS
    return str(dtype) if is_one else None


@estimator
class MixedDensity(
    MappedDensity,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DensityMixin,
    MetaEstimatorMixin,
    Estimator,
):
    """A density of a table: columns of several kinds, and cells that are missing.

    One model with a latent code has a density of its own for each column: normal for
    real numbers, log-normal for positive ones, negative binomial for counts, truncated
    for numbers in an interval, a probability for each level, a mass at values that are
    repeated. Given the code, cells are independent; together they are one density of
    the row. Missing cells are left out of it: training and scores are those of what was
    observed.

    Parameters
    ----------
    estimator : VAE, BetaVAE, IWAE, VQVAE, MixtureEM or Diffusion, default=None
        The model, whose ``likelihood``, or ``kinds`` of a mixture or a diffusion model,
        is given by the columns; ``None`` is ``VAE()``. ``Diffusion`` learns from
        complete rows only.
        It is fitted afresh each time. Parameters of one that is given are reached as
        ``estimator__n_components``.
    numbers : {"as-is", "quantile"}, default="as-is"
        What the model sees of real, positive and bounded numbers: themselves, or the
        normal quantile of the share of training cells below, a line through at most 64
        points. Scores stay those of the numbers. "quantile" suits columns of several
        bumps or of heavy tails. Where cells are filled in by their mean, it is that of
        the quantiles.
    kinds : "auto" or dict, default="auto"
        Kinds of columns by name, or by position where there are no names. The others
        are guessed: text, booleans, categories, intervals and two numbers are levels;
        other numbers are of the kind whose likelihood is best, less half the log of the
        number of rows for each parameter. A kind is one of

        - "real", "positive" or "count";
        - "bounded", or ("bounded", low, high) with None for no end: samples stay within
          the interval, and those of integers are whole;
        - "ordinal", or ("ordinal", levels) with the levels in their order;
        - "inflated", ("inflated", values) or ("inflated", values, kind): a mass at each
          of the values, and otherwise the kind, "real", "positive", "count" or
          ("bounded", low, high);
        - "binary" or "categorical", or a list of all levels.

    Attributes
    ----------
    estimator_ : estimator
        The fitted model, of columns as numbers.
    kinds_ : dict
        The kind of each column.
    levels_ : dict
        The levels of each column that has them, dates as dates.
    n_features_in_ : int
        Number of columns seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns seen during fit, when they are all strings.

    See Also
    --------
    skgen.likelihoods.Mixed : The density, of numbers.
    GenerativePipeline : Transformers before a density.

    Notes
    -----
    Rows may also be a tensor, a masked array, whose masked cells are missing, or a
    table of PyArrow, which is read as a DataFrame of pandas.

    The score is the log of a density in columns of real, positive and bounded numbers,
    and of a mass in counts, levels, bounded integers, and cells at the repeated values
    of an "inflated" column. It compares with others of the same table under the same
    kinds. For rows with missing cells it is that of the observed part.

    Dates and times are real numbers of days, durations are of seconds, and periods of
    their own unit. Samples come back in the dtype of the column, rounded to the steps
    of the training rows, and integers within their dtype.

    A kind that is guessed from n cells is that of these cells. For later values that it
    does not have, a warning says what kind to give. Each is taken for missing, at a
    price in the score: the mass 1 / (n + 1), and of numbers a Cauchy density about the
    median. Values that a kind or levels that were given do not have raise an error.

    Any cells of a row may be missing, whatever cells the training rows had: a network
    of its own learns the posterior of incomplete rows, from rows that the model draws
    and from which cells are hidden at random.

    Cells are taken to be missing at random: that one is missing may depend on what was
    observed in its row, and on nothing else.

    References
    ----------
    Nazabal, Olmos, Ghahramani & Valera, "Handling incomplete heterogeneous data using
    VAEs", Pattern Recognition 107, 2020.

    Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete
    data sets", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.datasets import load_iris
    >>> from skgen import VAE, MixedDensity
    >>> iris = load_iris(as_frame=True)
    >>> X = iris.data.assign(species=iris.target_names[iris.target])
    >>> X.loc[::7, "petal length (cm)"] = np.nan
    >>> model = MixedDensity(VAE(2, max_iter=60, random_state=0)).fit(X)
    >>> model.kinds_["species"], model.levels_["species"]
    ('categorical', ['setosa', 'versicolor', 'virginica'])
    >>> bool((model.sample(10).dtypes == X.dtypes).all())
    True
    >>> row = X[:1].assign(species=None)
    >>> model.impute(row)["species"].item()
    'setosa'
    """

    estimator_: Any = attribute()
    kinds_: dict[Any, Any] = attribute()
    levels_: dict[Any, Any] = attribute()

    _codes: list[ColumnCode] = attribute()
    _columns: Columns | None = attribute()
    _is_objects: bool = attribute()  # whether an array of objects was fitted
    _array_dtype: str | None = attribute()  # of an array of integers or times

    estimator: NeuralModel | MixtureEM | Diffusion | None = parameter(
        instance(NeuralModel, "a VAE, BetaVAE, IWAE or VQVAE"),
        instance(MixtureEM, "a MixtureEM"),
        instance(Diffusion, "a Diffusion"),
        none,
        default=None,
    )
    _: KW_ONLY
    numbers: Literal["as-is", "quantile"] = parameter(
        options("as-is", "quantile"), default="as-is"
    )
    kinds: Literal["auto"] | Mapping[Any, Any] = parameter(
        options("auto"), instance(Mapping, "a dict"), default="auto"
    )

    # Fitting.

    def fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Find the kinds of the columns, and fit the model.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows; None, NaN and pandas.NA are missing cells.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, not negative; only their ratios matter.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or a column is not of its kind.
        """
        with whole_or_as_before(self):
            self._fit(X, sample_weight)
        return self

    def _fit(self, X: Any, sample_weight: ArrayLike | None) -> None:
        check_parameters(self, self._parameters)
        array_dtype = _array_dtype(X)
        X = self._validated(X, reset=True)
        X, sample_weight = _of_some_weight(X, sample_weight)
        codes = learn_codes(X, self._given_kinds(X), type(self).__name__)
        if self.numbers == "quantile":
            codes = with_curves(X, codes)
        rows = encode_table(X, codes, type(self).__name__)
        model = self._new_estimator([code.seen_density for code in codes])
        self.estimator_ = model.fit(rows, sample_weight=sample_weight)
        self._columns = Columns.of(X)
        self._is_objects = isinstance(X, np.ndarray) and X.dtype.kind == "O"
        self._array_dtype = array_dtype
        self._set_codes(codes)

    def _new_estimator(self, densities: list[Spec]) -> Any:
        """Return a copy of the model, with the densities of the columns."""
        model = VAE() if self.estimator is None else clone(self.estimator)
        name = "kinds" if hasattr(model, "kinds") else "likelihood"
        value = getattr(model, name)
        if value != getattr(type(model)(), name):
            raise ValueError(
                f"The 'estimator' parameter of {type(self).__name__} has {name}="
                f"{value!r}, but the {name} is made from the kinds of the columns. "
                "Leave it out, and give 'kinds'."
            )
        new = densities if name == "kinds" else Mixed(densities)
        return model.set_params(**{name: new})

    def _given_kinds(self, X: Any) -> Mapping[Any, Any]:
        """Kinds by the names of columns, all of which are there."""
        kinds = {} if isinstance(self.kinds, str) else self.kinds
        names = list(X.columns) if hasattr(X, "columns") else list(range(X.shape[1]))
        found = {}
        for name, kind in kinds.items():
            if name not in names:
                raise ValueError(
                    f"The 'kinds' parameter of {type(self).__name__} has the column "
                    f"{name!r}, which is not among those of X: {names}."
                )
            found[name] = _kind(kind)
            if found[name] is None:
                raise ValueError(
                    f"The 'kinds' parameter of {type(self).__name__} has {kind!r} for "
                    f"the column {name!r}. It must be one of {', '.join(KINDS)}; a "
                    "list of different levels, none of them missing; or a tuple: "
                    "('bounded', low, high), ('ordinal', levels), ('inflated', values) "
                    "or ('inflated', values, kind)."
                )
        return found

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """Check names and number of columns; a DataFrame stays one."""
        X = as_table(X, "MixedDensity")
        columns = Columns.of(X)
        if columns is not None:
            validate_data(self, X, reset=reset, skip_check_array=True)
            fitted = None if reset else self._columns
            if fitted is not None and fitted.names != columns.names:
                raise ValueError(
                    f"The columns should be those that {type(self).__name__} was "
                    f"fitted on, in their order: {fitted.names}. Got {columns.names}."
                )
            return X
        return validate_data(
            self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan"
        )

    # The map.

    @property
    def _inner(self) -> Any:
        return getattr(self, "estimator_", None) or self.estimator or VAE()

    def _mapped_in(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rows of numbers, NaN where missing; a score stays as it is."""
        rows, terms = self._numbers(X)
        return rows, terms.sum(1)

    def _numbers(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rows of numbers (n, d), and what each cell adds to scores (n, d)."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        return encode_later(X, self._codes, type(self).__name__)

    # Conditions.

    def score_samples(self, X: Any, given: Iterable[Any] | None = None) -> NDArray[Any]:
        """Evaluate the log-density of each row, in the units of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows; cells that are missing are integrated out.
        given : list of column names or numbers, default=None
            Columns to condition on.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x) in nats: exact, or a lower bound where that of the model inside is.
            With ``given``, log p(rest of x given those columns), a difference of two
            such scores.
        """
        if given is None:
            return super().score_samples(X)
        rows, terms = self._numbers(X)
        names = [code.name for code in self._codes]
        columns = column_numbers(given, names, len(names), type(self).__name__)
        known = np.full_like(rows, np.nan)
        known[:, columns] = rows[:, columns]
        rest = np.delete(terms, columns, axis=1).sum(1)
        whole, part = (self.estimator_.score_samples(each) for each in (rows, known))
        found: NDArray[Any] = (whole - part + rest).astype(whole.dtype)
        return found

    def _drawn_given(
        self, n: int, given: Any, noise: bool, rng: np.random.RandomState
    ) -> Any:
        owner, inner = type(self).__name__, self.estimator_
        encoded = encoded_given(given, self._codes, owner)
        if isinstance(inner, MixtureEM):
            rows = inner.sample(n, rng, noise=noise, given=encoded)
            return self._mapped_back(rows)
        inner._check_n_samples(n)
        if not noise:
            raise ValueError(
                f"{owner}.sample with 'given' and noise=False needs a MixtureEM "
                f"inside, not {type(inner).__name__}. Leave noise=False out, or use "
                "impute, which fills in means."
            )
        conditions = read_conditions(encoded, None, len(self._codes), owner)
        return self._mapped_back(draw_given(inner, conditions, n, rng, owner))

    # Between rows and codes.

    def transform(self, X: Any) -> NDArray[Any]:
        """Encode rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows; cells may be missing.

        Returns
        -------
        code : ndarray of shape (n_samples, n_latent)
            Latent code.
        """
        rows = self._encoded(X)
        return np.asarray(self.estimator_.transform(rows))

    def inverse_transform(self, X: ArrayLike) -> Any:
        """Decode latent codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_latent)
            Latent code, as ``transform`` gives it.

        Returns
        -------
        X_decoded : DataFrame or array of shape (n_samples, n_features)
            The mean of numbers, and the most probable level, in the container of the
            rows that were fitted or the one that ``set_output`` asks for.
        """
        check_is_fitted(self)
        return self._mapped_back(self.estimator_.inverse_transform(X), X)

    def impute(self, X: Any, *, noise: bool = False, random_state: Any = None) -> Any:
        """Fill the cells that are missing, given the rest of their row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.
        noise : bool, default=False
            Whether to draw the cells, for multiple imputation. Without it, a number
            is the mean, and a level the most probable one.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        X_filled : DataFrame or array of shape (n_samples, n_features)
            The rows; cells that were there are as they were.
        """
        X = as_table(X, "MixedDensity")
        rows = self._encoded(X)
        filled = self.estimator_.impute(rows, noise=noise, random_state=random_state)
        return with_cells_of(X, self._mapped_back(filled, X))

    # Tables.

    def _mapped_back(self, rows: NDArray[Any], like: Any = None) -> Any:
        """Return rows of numbers (n, d) as the table that was fitted."""
        columns_of_numbers = np.asarray(rows).T
        values = [code.decode(x) for code, x in zip(self._codes, columns_of_numbers)]
        library = output_library(self)
        if library == "default":
            if self._columns is None:
                return self._array(values)
            library = self._columns.library
        columns = self._columns or Columns.numbered(len(values))
        return indexed(columns.table(values, library, self.levels_), like)

    def _array(self, values: list[NDArray[Any]]) -> NDArray[Any]:
        """Columns (n,) as the array that was fitted."""
        dtype = object if self._is_objects and self._array_dtype is None else None
        rows = np.column_stack([np.asarray(x, dtype=dtype) for x in values])
        return rows if self._array_dtype is None else rows.astype(self._array_dtype)

    @property
    def _n_features_out(self) -> int:
        n_out: int = self.estimator_._n_features_out
        return n_out

    # Files.

    def _file_state(self) -> dict[str, Any]:
        """Return what a file holds of a fit, as plain values."""
        names = ("estimator_", "_columns", "_is_objects", "n_features_in_")
        state = {name: getattr(self, name) for name in names}
        state["_codes"] = [code.plain() for code in self._codes]
        optional = ("feature_names_in_", "_sklearn_output_config", "_array_dtype")
        return state | {
            name: vars(self)[name] for name in optional if name in vars(self)
        }

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of a file of an earlier version as this one's."""
        return state

    def _set_file_state(self, state: dict[str, Any]) -> None:
        """Take what a file holds of a fit; a ValueError where it makes no sense."""
        codes = [ColumnCode.checked(*code) for code in state["_codes"]]
        inner, columns = state["estimator_"], state["_columns"]
        densities = tuple(checked(code.seen_density) for code in codes)
        if tuple(inner._column_kinds) != densities:
            raise ValueError("the model has other kinds than the columns")
        columns = None if columns is None else Columns.checked(*columns)
        if columns is not None and columns.names != [code.name for code in codes]:
            raise ValueError("the columns have other names than their kinds")
        dtype = state.get("_array_dtype")
        if dtype is not None and np.dtype(dtype).kind not in ARRAY_KINDS:
            raise ValueError(f"{dtype!r} is not a dtype of integers or times")
        self.__dict__.update({**state, "_columns": columns, "_array_dtype": dtype})
        self._set_codes(codes)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what a file holds, and what is of the session."""
        state = super().__getstate__()
        if "_codes" not in state:
            return state
        shown = ("kinds_", "levels_")  # which are made of the codes
        kept = {name: state[name] for name in state if name not in shown}
        return {**kept, **self._file_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle."""
        super().__setstate__(state)
        if "_codes" in state:
            self._set_file_state(state)

    def _set_codes(self, codes: list[ColumnCode]) -> None:
        self._codes = codes
        self.kinds_ = {code.name: code.kind for code in codes}
        self.levels_ = {code.name: self._shown(code) for code in codes if code.levels}

    def _shown(self, code: ColumnCode) -> list[Any]:
        """Return levels as the table has them: dates, where they are ticks."""
        levels: list[Any] = code.levels or []
        if not code.scale.is_time:
            return levels
        ticks = code.scale.natives(np.array(levels, dtype=np.int64))
        if self._columns is None:
            return list(as_time(ticks, code.scale.dtype))
        dtype = self._columns.dtypes[self._columns.names.index(code.name)]
        column = Columns(self._columns.library, ["t"], [dtype])
        shown: list[Any] = column.table([ticks], column.library)["t"].to_list()
        return shown

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[no-untyped-call]
        tags.input_tags.allow_nan = True
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags
