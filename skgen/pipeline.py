"""A pipeline that samples and scores in the units of the data.

scikit-learn's ``Pipeline`` gives ``score`` in the units behind its last scaler, which
compares with nothing, and has no ``sample``. Here the last step is a density, the
earlier ones are changes of variables, and the whole is a density of the rows as given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from inspect import signature
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skgen._tables.conditions import Conditions, column_numbers, read_conditions
from skgen._tables.frames import (
    Columns,
    as_container,
    listed_levels,
    numbered_frame,
)
from skgen._utils.documentation import DocumentationLinks
from skgen._utils.estimators import available_if
from skgen._utils.tensors import without_mask
from skgen.bijections import (
    InvertibleFunction,
    active,
    come_back,
    inverse,
    log_det,
    pull_back,
    push_cells,
    push_forward,
    without_marks,
)
from skgen.bijections.levels import INFREQUENT
from skgen.models.base import FLOATS, whole_or_as_before
from skgen.models.mapped import MappedDensity, added, inner_has

__all__ = [
    "GenerativePipeline",
    "InvertibleFunction",
    "inverse",
    "log_det",
    "make_generative_pipeline",
]

# Draws for each row that shall have a way back.
REDRAWS = 100


class GenerativePipeline(MappedDensity, DocumentationLinks, Pipeline):
    """Transformers and a density behind them: a density of the rows as given.

    A scikit-learn ``Pipeline`` whose last step is an estimator of skgen. ``sample``
    comes back through the ``inverse_transform`` of the earlier steps, and
    ``score_samples`` adds their log-determinants, so that scores are in nats per row in
    the units of ``X``: a grid search may compare scalers.

    Parameters
    ----------
    steps : list of (str, estimator) tuples
        Names and transformers, and last a generative model. A transformer may be
        "passthrough" or None.
    transform_input : list of str, default=None
        Names of metadata that the earlier steps transform, as in ``Pipeline``.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of the fitted transformers, as in ``Pipeline``.
    verbose : bool, default=False
        Whether to print the time that each step takes.

    Attributes
    ----------
    named_steps : Bunch
        The steps by name.
    n_features_in_ : int
        Number of features seen by the first step during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen by the first step during fit, when they are all strings.

    See Also
    --------
    make_generative_pipeline : Names the steps itself.
    InvertibleFunction : A transformer from functions.
    log_det : Registers the log-determinant of a class of transformers.

    Notes
    -----
    log p(x) = log p_z(t(x)) + log abs det dt/dx, with t the earlier steps. A last step
    that gives log-masses (``likelihood="bernoulli"`` and those of integers) has them
    kept as they are: an invertible map gives points other names, and no other mass.

    A row at which t is not invertible scores ``-inf``, and a warning counts such rows:
    below zero for Box-Cox, beyond the ends or at a repeated quantile of
    ``QuantileTransformer``, beyond the range of a scaler with ``clip=True``.

    Steps without a log-determinant raise a ValueError when a score is asked for, and no
    earlier: ``fit``, ``transform`` and, with an ``inverse_transform``, ``sample`` work.
    Draws that have no way back, as ``PowerTransformer`` has none from beyond its range,
    are replaced by new ones, and a warning counts them.

    References
    ----------
    Papamakarios et al., "Normalizing flows for probabilistic modeling and inference",
    Journal of Machine Learning Research 22, 2021, section 2.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import GridSearchCV, KFold
    >>> from sklearn.preprocessing import PowerTransformer, StandardScaler
    >>> from skgen import GaussianDensity, GenerativePipeline
    >>> X = load_wine().data
    >>> model = GenerativePipeline(
    ...     [("scale", StandardScaler()), ("density", GaussianDensity(reg_covar=0))]
    ... ).fit(X)
    >>> round(model.score(X), 4), round(GaussianDensity(reg_covar=0).fit(X).score(X), 4)
    (-18.7138, -18.7138)
    >>> model.sample(5, random_state=0).shape
    (5, 13)
    >>> scalers = {"scale": [StandardScaler(), PowerTransformer()]}
    >>> search = GridSearchCV(model, scalers, cv=KFold(shuffle=True, random_state=0))
    >>> search.fit(X).best_params_
    {'scale': PowerTransformer()}
    """

    _columns: Columns | None = None
    # Levels of the columns whose dtype lists them.
    _levels: Mapping[Any, list[Any]] = MappingProxyType({})

    @property
    def _inner(self) -> Any:
        return self.steps[-1][1] if self.steps else None

    @property
    def _earlier(self) -> list[Any]:
        return active(self.steps[:-1])

    # Fitting.

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit the transformers one after the other, and the model behind them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows: an array or a DataFrame.
        y : array-like of shape (n_samples,), default=None
            Handed to the transformers; the model ignores it.
        **params : dict
            Parameters of the steps, as in ``Pipeline``: ``vae__sample_weight`` is the
            weight that the step named "vae" gets. With metadata routing, those that
            the steps request.

        Returns
        -------
        self : object
            The fitted pipeline.
        """
        X = self._unmasked(X)
        with whole_or_as_before(self):
            super().fit(X, y, **params)
            self._columns, self._levels = Columns.of(X), listed_levels(X)
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit, and encode the same rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows: an array or a DataFrame.
        y : array-like of shape (n_samples,), default=None
            Handed to the transformers; the model ignores it.
        **params : dict
            Parameters of the steps, as in ``fit``.

        Returns
        -------
        code : array or DataFrame of shape (n_samples, n_latent)
            Latent code.
        """
        X = self._unmasked(X)
        with whole_or_as_before(self):
            code = super().fit_transform(X, y, **params)
            self._columns, self._levels = Columns.of(X), listed_levels(X)
        return code

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the container of what comes out.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            That of latent codes, as in ``Pipeline``, and that of rows: from ``sample``,
            ``reconstruct`` and ``inverse_transform``. Rows in a DataFrame have the
            names and the dtypes of the columns that were fitted; integers are rounded.

        Returns
        -------
        self : object
            The pipeline.
        """
        if transform is not None:
            # The name that scikit-learn's clone knows.
            self._sklearn_output_config = {"transform": transform}
        super().set_output(transform=transform)  # type: ignore[no-untyped-call]
        return self

    # Between rows and codes.

    def inverse_transform(self, X: ArrayLike) -> Any:
        """Decode latent codes, and go back through the earlier steps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_latent)
            Latent code, as ``transform`` gives it.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the data; a DataFrame where ``set_output`` asks for
            one. NaN where there is no way back.

        Raises
        ------
        ValueError
            If a step has no inverse.
        """
        check_is_fitted(self)
        return self._as_container(inverse(self, X), X)

    # The map.

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[no-untyped-call]
        steps = [*self._earlier, self._inner]
        inputs = [step.__sklearn_tags__().input_tags for step in steps if step]
        tags.input_tags.allow_nan = all(each.allow_nan for each in inputs)
        return tags

    @property
    def _scores_mass(self) -> bool:
        return getattr(self._inner, "_scores_mass", False)

    def _unmasked(self, X: Any) -> Any:
        """Refuse masked cells where earlier steps would read below the mask."""
        return without_mask(X) if self._earlier else X

    def _encoded(self, X: Any) -> Any:
        X = self._unmasked(X)
        for step in self._earlier:
            X = step.transform(X)
        return X

    def _checked(self, X: Any) -> Any:
        """Return rows as earlier steps take them."""
        check_is_fitted(self)
        X = self._unmasked(X)
        if not hasattr(X, "columns"):  # those of a DataFrame may be asked for by name
            X = check_array(X, dtype=FLOATS, input_name="X")
        return X

    def _mapped_in(self, X: Any) -> tuple[Any, NDArray[Any]]:
        rows, terms, lost_at = push_forward(self._earlier, self._checked(X))
        outside = np.isneginf(terms)
        if lost_at:
            names = " and ".join(type(step).__name__ for step in lost_at)
            warnings.warn(
                f"{type(self).__name__}: {outside.sum()} of {len(terms)} rows score "
                f"-inf. They are outside the range in which {names} is invertible. "
                "Use StandardScaler in its place where such rows may come.",
                UserWarning,
                stacklevel=3,
            )
        return rows, np.where(outside, terms, 0.0) if self._scores_mass else terms

    def _drawn(self, draw: Callable[[int], NDArray[Any]], n_samples: int) -> Any:
        if not self._earlier:
            return draw(n_samples)
        rows, n_drawn = self._draw_with_a_way_back(draw, n_samples)
        self._warn_of_lost(n_drawn - n_samples, n_drawn)
        return self._as_container(rows)

    def _warn_of_lost(self, n_lost: int, n_drawn: int) -> None:
        if n_lost:
            warnings.warn(
                f"{type(self).__name__}: {n_lost} of {n_drawn} draws have no way back "
                "through the earlier steps, and were replaced. That part of the "
                "density's mass is missing from the scores.",
                UserWarning,
                stacklevel=4,
            )

    def _draw_with_a_way_back(
        self, draw: Callable[[int], NDArray[Any]], n_samples: int
    ) -> tuple[NDArray[Any], int]:
        """Draw until rows (n_samples, d) come back; also the number of draws."""

        def drawn_back(n: int) -> NDArray[Any]:
            rows = self._pulled_back(draw(n))
            return rows[come_back(rows)]

        rows, n_drawn = drawn_back(n_samples), n_samples
        while (missing := n_samples - len(rows)) and n_drawn < REDRAWS * n_samples:
            rows = np.concatenate([rows, drawn_back(missing)])
            n_drawn += missing
        if missing:
            raise self._without_a_way_back(len(rows), n_drawn)
        return rows, n_drawn

    def _pulled_back(self, drawn: NDArray[Any]) -> NDArray[Any]:
        """Map draws back; those that have no way back are not finite."""
        with warnings.catch_warnings():
            # Of powers of negative numbers: what is lost is counted.
            warnings.simplefilter("ignore", RuntimeWarning)
            return pull_back(self._earlier, drawn)

    def _without_a_way_back(self, n_found: int, n_drawn: int) -> ValueError:
        return ValueError(
            f"{type(self).__name__}: of {n_drawn} draws {n_found} have a way back "
            "through the earlier steps. Use StandardScaler in the place of the step "
            "that is not invertible there."
        )

    # Rows of which something is known.

    @available_if(inner_has("score_samples"))
    def score_samples(self, X: Any, given: Iterable[Any] | None = None) -> NDArray[Any]:
        """Evaluate the log-density of each row, in the units of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.
        given : list of column names or numbers, default=None
            Columns to condition on, where the last step takes them, and the earlier
            ones map columns by themselves.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x) in nats: exact, or a lower bound where that of the last step is;
            with ``given``, log p(rest of x given those columns).
        """
        if given is None:
            return super().score_samples(X)
        inner = self._inner
        if "given" not in signature(inner.score_samples).parameters:
            raise ValueError(
                f"{type(self).__name__}.score_samples takes 'given' where its last "
                f"step does. {type(inner).__name__} does not: use GaussianMixtureEM, "
                "or MixedDensity, in its place."
            )
        if not self._earlier:
            found: NDArray[Any] = inner.score_samples(X, given=given)
            return found
        names = None if self._columns is None else self._columns.names
        d, owner = self.n_features_in_, type(self).__name__
        columns = column_numbers(given, names, d, owner)
        self._check_alone(columns)
        rows, terms = self._mapped_in(X)
        if not self._scores_mass:
            slopes = push_cells(self._earlier, self._checked(X))
            of_rest = np.delete(slopes, columns, axis=1).sum(1)
            terms = np.where(np.isfinite(terms), of_rest, terms)
        if not len(rows):
            return terms
        return added(terms, inner.score_samples(rows, given=columns))

    def _check_alone(self, columns: list[int]) -> None:
        """Raise a ValueError unless earlier steps map columns by themselves."""
        fillers = self._fillers(np.random.RandomState(0))
        rows = np.full_like(fillers[:1], np.nan)
        rows[:, columns] = fillers[:1, columns]
        self._mapped_known(rows, fillers)

    def _drawn_given(
        self, n: int, given: Any, noise: bool, rng: np.random.RandomState
    ) -> Any:
        owner, inner = type(self).__name__, self._inner
        if "given" not in signature(inner.sample).parameters:
            raise ValueError(
                f"{owner}.sample takes 'given' where its last step does. "
                f"{type(inner).__name__} does not: use GaussianMixtureEM, or "
                "MixedDensity, in its place."
            )
        draw = partial(inner.sample, n, rng, noise=noise)
        if not self._earlier:
            return self._mapped_back(np.asarray(draw(given=given)))
        names = None if self._columns is None else self._columns.names
        conditions = read_conditions(given, names, self.n_features_in_, owner)
        mapped = self._mapped_conditions(conditions, rng)
        rows, n_lost = self._completed(partial(draw, given=mapped))
        self._warn_of_lost(n_lost, len(rows) + n_lost)
        cells = conditions.rows.repeat(n, axis=0)  # come back as they were, to the bit
        return self._as_container(np.where(np.isnan(cells), rows, cells))

    def _completed(self, draw: Callable[[], Any]) -> tuple[NDArray[Any], int]:
        """Draw rows in their order; those anew that have no way back, counted."""
        rows = self._pulled_back(np.asarray(draw()))
        lost, n_lost = ~come_back(rows), 0
        for _ in range(REDRAWS):
            if not lost.any():
                break
            n_lost += int(lost.sum())
            rows[lost] = self._pulled_back(np.asarray(draw()))[lost]
            lost = ~come_back(rows)
        if lost.any():
            n = len(rows)
            raise self._without_a_way_back(n - int(lost.sum()), n + n_lost)
        return rows, n_lost

    def _mapped_conditions(
        self, conditions: Conditions, rng: np.random.RandomState
    ) -> Any:
        """Return conditions on the rows of the last step: a dict, or rows.

        Unknown cells are filled from two rows of the density in turn; what is known
        must be mapped to the same by both.
        """
        owner, (rows, intervals, is_table) = type(self).__name__, conditions
        if len(rows) > 1 and not is_table:
            raise ValueError(
                f"'given' of {owner} is a value or an interval for a column, not a "
                "list of values: the earlier steps change what weighs one against "
                "another. Draw for each value, or use MixedDensity."
            )
        fillers = self._fillers(rng)
        mapped = self._mapped_known(rows, fillers)
        if not intervals:
            return mapped if is_table else mapped[0]
        rising = self._rising(fillers)
        found: dict[int, Any] = {
            int(j): mapped[0, j] for j in np.flatnonzero(~np.isnan(rows[0]))
        }
        for j, ends in intervals.items():
            cells = np.full((2, rows.shape[1]), np.nan)
            cells[:, j] = np.where(np.isfinite(ends), ends, np.nan)
            both = self._mapped_known(cells, fillers)[:, j]
            both = both if rising[j] else both[::-1]
            found[j] = tuple(None if np.isnan(end) else end for end in both)
        return found

    def _fillers(self, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Draw two rows (2, d), for cells of which nothing is known."""
        drawn = np.asarray(self.sample(2, rng))
        if drawn.dtype == object:
            words = [x[0] for x in drawn.T if not isinstance(x[0], float | int)]
            if words:
                raise ValueError(
                    f"'given' of {type(self).__name__} needs rows of numbers, and "
                    f"there are columns of words, such as {words[0]!r}. "
                    "skgen.MixedDensity takes such tables, and 'given' with them."
                )
        return drawn.astype(np.float64)

    def _mapped_known(
        self, rows: NDArray[np.float64], fillers: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Map the known cells of rows (r, d); NaN for the others."""
        known = ~np.isnan(rows)
        first, second = (
            self._mapped_numbers(np.where(known, rows, filler)) for filler in fillers
        )
        if first.shape != rows.shape or not _are_same(first[known], second[known]):
            names = " and ".join(type(step).__name__ for step in self._earlier)
            raise ValueError(
                f"'given' of {type(self).__name__} needs earlier steps that map the "
                f"columns that are given by themselves, to finite numbers. {names} "
                "does not. Give other values, or leave steps out that mix columns; "
                "for columns of words, use MixedDensity."
            )
        return np.where(known, first, np.nan)

    def _mapped_numbers(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        names = None if self._columns is None else self._columns.names
        table = None if names is None else numbered_frame(rows, names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of logs: NaN says so
            found = self._encoded(rows if table is None else table)
        return np.asarray(found, dtype=np.float64)

    def _rising(self, fillers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which columns (d,) keep the order of two rows."""
        mapped = self._mapped_numbers(fillers)
        return np.asarray((fillers[1] - fillers[0]) * (mapped[1] - mapped[0]) >= 0)

    def _mapped_back(self, rows: NDArray[Any], like: Any = None) -> Any:
        return self._as_container(pull_back(self._earlier, rows), like)

    def _as_container(self, rows: NDArray[Any], like: Any = None) -> Any:
        """Return rows (n, d) in the container that ``set_output`` asks for."""
        rows = without_marks(rows)
        levels = {
            name: [*levels, INFREQUENT] if (column == INFREQUENT).any() else levels
            for (name, levels), column in self._listed(rows)
        }
        return as_container(self, rows, self._columns, like, levels)

    def _listed(self, rows: NDArray[Any]) -> Iterator[tuple[Any, NDArray[Any]]]:
        """Yield names and levels of columns whose dtype lists them, and their cells."""
        names = [] if self._columns is None else self._columns.names
        for item in self._levels.items():
            yield item, rows[:, names.index(item[0])]


def _are_same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return bool(np.isfinite(first).all() and np.array_equal(first, second))


@inverse.register(GenerativePipeline)
def _decoded(step: GenerativePipeline, Z: Any) -> NDArray[Any]:
    return pull_back(step._earlier, inverse(step._inner, Z))


def make_generative_pipeline(
    *steps: Any,
    memory: Any = None,
    transform_input: list[str] | None = None,
    verbose: bool = False,
) -> GenerativePipeline:
    """Make a :class:`GenerativePipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, and last a generative model.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of the fitted transformers.
    transform_input : list of str, default=None
        Names of metadata that the earlier steps transform.
    verbose : bool, default=False
        Whether to print the time that each step takes.

    Returns
    -------
    pipeline : GenerativePipeline
        The pipeline.

    See Also
    --------
    GenerativePipeline : Where what it does is said.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgen import VAE, make_generative_pipeline
    >>> make_generative_pipeline(StandardScaler(), VAE())
    GenerativePipeline(steps=[('standardscaler', StandardScaler()), ('vae', VAE())])
    """
    return GenerativePipeline(  # type: ignore[no-untyped-call]
        make_pipeline(*steps).steps,
        transform_input=transform_input,
        memory=memory,
        verbose=verbose,
    )
