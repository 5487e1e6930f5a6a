"""A search over a grid that trains its candidates together.

scikit-learn's ``GridSearchCV`` runs one fit after the other. Fits of small networks
spend most of their time between operations; those of one shape are stacked here, and
trained as one (``skgen._search.stacking``), as are mixtures of one size on the same
rows (``skgen._em.restarts``). All that is not training, from the table of results to
the choice of the best, stays scikit-learn's: its own search runs over fits that are
done.
"""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any, Literal, NamedTuple, Self

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, check_is_fitted

from skgen._em import restarts
from skgen._em.covariance import COVARIANCES
from skgen._em.restarts import Restarts
from skgen._em.starts import drawn_once
from skgen._search import stacking
from skgen._search.stacking import is_small
from skgen._training.driver import value_or_error
from skgen._training.loop import Training
from skgen._utils.documentation import DocumentationLinks
from skgen._utils.estimators import Estimator
from skgen._utils.parameters import check_parameters, integer, options, sequence
from skgen._utils.threads import threads_for
from skgen.models.exact import MixtureDensity
from skgen.models.mixture import EllipticalMixture, GaussianMixtureEM
from skgen.models.neural import NeuralModel
from skgen.models.planning import TrainingPlan

# Models whose fits leave their iterations to who drives them.
Stacked = NeuralModel | EllipticalMixture
# A grid's parameter that numbers the candidates, inside.
NUMBER = "candidate_number"
# Rows that tell of what size a fit is.
PROBE_ROWS = 64


class Fit:
    """A fit that is under way, among others.

    Parameters
    ----------
    estimator : NeuralModel or EllipticalMixture
        What is fitted.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or None
        What they are conditioned on, for the models that ask for it.
    sample_weight : array-like of shape (n_samples,), default=None
        Their weights.
    """

    def __init__(self, estimator: Stacked, X: Any, y: Any, sample_weight: Any) -> None:
        self.estimator = estimator
        self.work: Training | Restarts | None = None  # what it waits for
        self.error: Exception | None = None
        self.seconds = 0.0
        self._steps = estimator._steps(X, y, sample_weight)
        self.send(None)

    def send(self, done: Any) -> None:
        """Take what became of the work, and go on to the next, the end, or an error."""
        start, self.work = time.perf_counter(), None
        if isinstance(done, Exception):
            self.error = done
            return
        try:
            with threads_for():
                self.work = self._steps.send(done)  # type: ignore[assignment]
        except StopIteration:
            pass
        except Exception as error:
            self.error = error
        self.seconds += time.perf_counter() - start


class Batching(NamedTuple):
    """How work of one type is done as one."""

    stacks_as: Callable[[Any], Hashable]  # what it must have in common, or None
    share_rows: Callable[[Any, list[Any]], None]
    run_together: Callable[[Sequence[Any]], Sequence[Any]]
    across_rows: bool  # whether also on rows that differ


BATCHING: dict[type, Batching] = {
    Training: Batching(
        stacking.stacks_as, stacking.share_rows, stacking.train_together, True
    ),
    Restarts: Batching(
        restarts.stacks_as, restarts.share_rows, restarts.run_together, False
    ),
}


def stacks_as(work: Any) -> Hashable:
    """Return what work that can be done as one has in common, or None for none."""
    kind = BATCHING[type(work)].stacks_as(work)
    return None if kind is None else (type(work), kind)


def fit_together(fits: Sequence[Fit]) -> None:
    """Bring fits to their ends, doing as one what can be."""
    while waiting := [fit for fit in fits if fit.work is not None]:
        kinds = [stacks_as(fit.work) for fit in waiting]
        for kind in dict.fromkeys(kinds):
            group = [fit for fit, each in zip(waiting, kinds) if each == kind]
            if kind is None or len(group) == 1:
                for fit in group:
                    _go_on([fit], lambda works: [value_or_error(works[0].run)])
            else:
                _go_on(group, BATCHING[type(group[0].work)].run_together)


def _go_on(fits: Sequence[Fit], run: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
    """Do what fits wait for, and send them what became of it."""
    start = time.perf_counter()
    with threads_for():
        done = run([fit.work for fit in fits])
    each = (time.perf_counter() - start) / len(fits)
    for fit, found in zip(fits, done):
        fit.seconds += each
        fit.send(found)


class Task(NamedTuple):
    """A candidate on a split."""

    number: int
    split: int
    estimator: Any  # a clone that has the candidate's parameters
    train: NDArray[np.intp]
    test: NDArray[np.intp]


@dataclass
class Outcome:
    """Result of a task: scores, or the errors in their place."""

    error: Exception | None = None
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    test: dict[Any, Any] = field(default_factory=dict)
    train: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Data:
    """Data and scorers that all tasks share."""

    X: Any
    y: Any
    fit_params: dict[str, Any]  # arrays of a value per row, and others
    scorers: dict[Any, Callable[..., Any]]  # one under None, or several by name
    return_train_score: bool

    def __sizeof__(self) -> int:
        """Return the bytes of the rows: joblib's "dask" sends large objects once."""
        return object.__sizeof__(self) + sys.getsizeof(self.X)

    def part(self, rows: NDArray[np.intp]) -> tuple[Any, Any]:
        """Rows, and their targets where there are any."""
        return _safe_indexing(self.X, rows), self.targets(rows)

    def targets(self, rows: NDArray[np.intp]) -> Any:
        """Targets of rows, where there are any."""
        return None if self.y is None else _safe_indexing(self.y, rows)

    def params(self, rows: NDArray[np.intp]) -> dict[str, Any]:
        """Parameters of a fit on rows."""
        return {
            name: value if value is None else _safe_indexing(value, rows)
            for name, value in self.fit_params.items()
        }

    def scores(self, model: Any, rows: NDArray[np.intp]) -> dict[Any, Any]:
        """Score a fitted model on rows, by every scorer.

        As in scikit-learn's search, ``sample_weight`` goes to scorers that accept it.
        """
        X, y = self.part(rows)
        targets = () if y is None else (y,)
        weight = self.params(rows).get("sample_weight")

        def score(scorer: Callable[..., Any]) -> Any:
            if weight is None or not _accepts_weight(scorer):
                return scorer(model, X, *targets)
            return scorer(model, X, *targets, sample_weight=weight)

        return {
            name: value_or_error(partial(score, scorer))
            for name, scorer in self.scorers.items()
        }


def _accepts_weight(scorer: Callable[..., Any]) -> bool:
    """Return whether a scorer accepts ``sample_weight``."""
    says = getattr(scorer, "_accept_sample_weight", None)
    return says() if says else "sample_weight" in signature(scorer).parameters


def run_tasks(tasks: Sequence[Task], data: Data, together: bool) -> list[Outcome]:
    """Fit and score; ``together`` where their last steps may be trained as one."""
    outcomes = [Outcome() for _ in tasks]
    if together:
        _fit_all(tasks, data, outcomes)
    else:
        for task, outcome in zip(tasks, outcomes):
            _fit_alone(task, data, outcome)
    for task, outcome in zip(tasks, outcomes):
        if outcome.error is None:
            start = time.perf_counter()
            outcome.test = data.scores(task.estimator, task.test)
            outcome.score_seconds = time.perf_counter() - start
            if data.return_train_score:
                outcome.train = data.scores(task.estimator, task.train)
    return outcomes


def _fit_alone(task: Task, data: Data, outcome: Outcome) -> None:
    start = time.perf_counter()
    X, y = data.part(task.train)
    # As in scikit-learn's search, the fit can tell that it is one of many.
    search = CallbackSupportMixin()._init_callback_context(
        "search", max_subtasks=1, sequential_subtasks=False
    )
    place = search.subcontext("candidate-split-evaluation", task_id=0)
    try:
        with place.propagate_callback_context(task.estimator):
            task.estimator.fit(X, y, **data.params(task.train))
    except Exception as error:
        outcome.error = error
    outcome.fit_seconds = time.perf_counter() - start


def _fit_all(tasks: Sequence[Task], data: Data, outcomes: Sequence[Outcome]) -> None:
    """Fit the steps before the last once a split, and the last steps together."""
    started: list[tuple[Fit, Outcome]] = []
    pairs = sorted(zip(tasks, outcomes), key=lambda pair: pair[0].split)
    for _, split in itertools.groupby(pairs, key=lambda pair: pair[0].split):
        with drawn_once():
            begun = _begin(split, data)
        # Those that wait for no other rows, now: else the rows of all would pile up.
        fit_together([fit for fit, _ in begun if not _waits_for_others(fit)])
        started += begun
    fit_together([fit for fit, _ in started])
    for fit, outcome in started:
        outcome.error = fit.error
        outcome.fit_seconds += fit.seconds


def _begin(
    tasks: Iterable[tuple[Task, Outcome]], data: Data
) -> list[tuple[Fit, Outcome]]:
    """Bring the tasks of a split to where the iterations of their last steps begin."""
    earlier: dict[Any, Any] = {}
    # Work, one for each set of rows, by its type.
    known: dict[type, list[Any]] = {kind: [] for kind in BATCHING}
    begun = []
    for task, outcome in tasks:
        start = time.perf_counter()
        try:
            X = _earlier_steps(task, data, earlier)
            weight = _weight(task.estimator, data.params(task.train))
            y = data.targets(task.train)
            fit = Fit(_last_step(task.estimator), X, y, weight)
        except Exception as error:
            outcome.error = error
            continue
        outcome.fit_seconds = time.perf_counter() - start - fit.seconds
        if fit.work is not None:
            if stacks_as(fit.work) is None:
                fit_together([fit])
            else:
                kind = type(fit.work)
                BATCHING[kind].share_rows(fit.work, known[kind])
        begun.append((fit, outcome))
    return begun


def _waits_for_others(fit: Fit) -> bool:
    """Whether what a fit waits for may be done as one with that on other rows."""
    return fit.work is not None and BATCHING[type(fit.work)].across_rows


def _earlier_steps(task: Task, data: Data, known: dict[Any, Any]) -> Any:
    """Rows as the last step is to see them, from earlier steps that are fitted once."""
    model = task.estimator
    if not isinstance(model, Pipeline):
        if task.split not in known:
            known[task.split] = data.part(task.train)[0]
        return known[task.split]
    steps = model.steps[:-1]
    key = (task.split, joblib.hash(Pipeline(steps).get_params()) if steps else None)
    if key not in known:
        X, y = data.part(task.train)
        before = Pipeline([(name, clone(step, safe=False)) for name, step in steps])
        known[key] = (before.steps, before.fit_transform(X, y) if steps else X)
    fitted, X = known[key]
    model.steps[:-1] = fitted
    return X


def _last_step(estimator: Any) -> Any:
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def _weight_name(estimator: Any) -> str:
    """Name of the fit parameter that is the last step's weights."""
    if isinstance(estimator, Pipeline):
        return f"{estimator.steps[-1][0]}__sample_weight"
    return "sample_weight"


def _weight(estimator: Any, params: dict[str, Any]) -> Any:
    return params.get(_weight_name(estimator))


class _Done(Estimator):
    """Stands for the estimator in scikit-learn's search, whose fits are all done.

    Its rows are the numbers of rows: those it is fitted on tell the split.
    """

    def __init__(
        self, outcomes: dict[tuple[int, int], Outcome], splits: dict[bytes, int]
    ) -> None:
        self.outcomes, self.splits = outcomes, splits

    def __sklearn_clone__(self) -> _Done:
        return _Done(self.outcomes, self.splits)

    def set_params(self, **params: Any) -> _Done:
        """Take the number of a candidate; its parameters have done their work."""
        self.number = params[NUMBER]
        return self

    def fit(self, rows: Any, y: Any = None) -> _Done:
        """Take the outcome of this candidate on these rows."""
        self.train = rows[:, 0]
        split = self.splits.get(self.train.tobytes())
        if split is not None:  # all rows: the best candidate is fitted elsewhere
            self.outcome = self.outcomes[self.number, split]
            if self.outcome.error is not None:
                raise self.outcome.error
        return self


def _recorded(done: _Done, rows: Any, y: Any = None, *, name: Any = None) -> Any:
    """Look a score up, as a scorer of scikit-learn's search."""
    is_train = bool(done.outcome.train) and np.array_equal(rows[:, 0], done.train)
    value = (done.outcome.train if is_train else done.outcome.test)[name]
    if isinstance(value, Exception):
        raise value
    return value


class BatchedGridSearchCV(DocumentationLinks, GridSearchCV):
    """Grid search in which small networks, and mixtures, are fitted as one batch.

    Takes and gives what scikit-learn's ``GridSearchCV`` does, with the same results up
    to rounding. Candidates and folds whose networks have one shape (which differ in
    ``beta``, learning rate, commitment cost, a fixed sigma, seed, or rows) are stacked
    and take every step together; each stops when it would have alone. So do candidates
    of ``GaussianMixtureEM`` on the same fold, of one size and covariance type (which
    differ in ``reg_covar``, ``tol``, ``max_iter``, seed or start), with all their
    restarts; K-means is run once for those that would start from the same clusters.
    Other shapes follow one another. Steps of a pipeline before the last are fitted once
    a fold.

    What cannot be stacked is fitted as ``GridSearchCV`` would: networks of your own,
    convolutional or large ones, several stochastic layers, fits with a ``checkpoint``,
    and other estimators. Of
    these, ``GaussianDensity`` is a closed form, and ``KMeansAutoencoder`` is
    scikit-learn's own loop: nothing lies between their operations.

    Parameters
    ----------
    estimator : estimator
        A model of this package, or a ``Pipeline`` that ends in one.
    param_grid : dict or list of dict
        Lists of values to try, by the name of the parameter.
    scoring : str, callable, list, tuple, dict or None, default=None
        As in ``GridSearchCV``; None is the ``score`` of the estimator.
    n_jobs : int or None, default=None
        Processes. The fits are shared out evenly, and each process stacks its own;
        with one, torch's threads serve the whole stack.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows, and by which metric to choose.
    cv : int, splitter, iterable or None, default=None
        How to split.
    verbose : int, default=0
        Above 0, says how many fits there are.
    pre_dispatch : int or str, default="2*n_jobs"
        Number of jobs that are dispatched ahead.
    error_score : "raise" or float, default=nan
        Score of a fit that fails.
    return_train_score : bool, default=False
        Whether to score the training rows as well.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As in ``GridSearchCV``. The time of fits that were trained together is shared
        out evenly.
    best_estimator_ : estimator
        The best candidate, fitted on all rows; likewise ``best_params_``,
        ``best_score_``, ``best_index_``, ``refit_time_``, ``scorer_``, ``n_splits_``
        and ``multimetric_``, as in ``GridSearchCV``.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : One fit after the other.

    Notes
    -----
    With callbacks or scikit-learn's metadata routing, the search is ``GridSearchCV``'s.
    Ctrl-C ends the search, as it does in ``GridSearchCV`` over these models; the refit
    alone keeps what it has learned.

    Candidates share the seed that they are given: an int as ``random_state`` gives them
    the same noise, which makes their differences surer.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import BetaVAE
    >>> from skgen.model_selection import BatchedGridSearchCV
    >>> X = load_wine().data
    >>> model = BetaVAE(n_components=2, max_iter=50, random_state=0)
    >>> search = BatchedGridSearchCV(model, {"beta": [0.5, 1.0, 2.0]}, cv=3).fit(X)
    >>> search.cv_results_["mean_test_score"].shape
    (3,)
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Run fit with all sets of parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Targets, where steps of a pipeline or the splits want them.
        **params : dict of str -> object
            ``sample_weight`` of the estimator (``<last step>__sample_weight`` of a
            pipeline) is split with the rows, and given to scorers that accept it by
            the name ``sample_weight``; ``groups`` go to the splitter.

        Returns
        -------
        self : object
            The fitted search.
        """
        if not self._stacks_any(params):
            found: Self = super().fit(X, y, **params)
            return found
        X, y = indexable(X, y)
        groups = params.pop("groups", None)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = [(np.asarray(a), np.asarray(b)) for a, b in cv.split(X, y, groups)]
        candidates = list(ParameterGrid(self.param_grid))
        scorers = self._scorers()
        data = Data(X, y, params, scorers, self.return_train_score)
        tasks = [
            Task(number, split, self._candidate(candidate), *rows)
            for number, candidate in enumerate(candidates)
            for split, rows in enumerate(splits)
        ]
        if self.verbose > 0:
            print(
                f"Fitting {len(splits)} folds for each of {len(candidates)} candidates,"
                f" totalling {len(tasks)} fits"
            )
        outcomes = self._run(tasks, data)

        numbers = {train.tobytes(): split for split, (train, _) in enumerate(splits)}
        inner = GridSearchCV(
            _Done(outcomes, numbers),
            [
                {**{name: [value] for name, value in each.items()}, NUMBER: [number]}
                for number, each in enumerate(candidates)
            ],
            scoring=(
                _recorded
                if None in scorers
                else {name: partial(_recorded, name=name) for name in scorers}
            ),
            refit=self.refit,
            cv=splits,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
        ).fit(np.arange(_num_samples(X))[:, None])
        self._take(inner, outcomes)
        self.scorer_ = scorers.get(None, scorers)
        if self.refit is not False:
            self._refit(X, y, params)
        return self

    def _stacks_any(self, params: dict[str, Any]) -> bool:
        """Whether this search can stack: if not, it is scikit-learn's."""
        last = _last_step(self.estimator)
        watched = any(
            hasattr(each, name)
            for each in (self, self.estimator, last)
            for name in ("_skl_callbacks", "_parent_callback_ctx")
        )
        known = {"groups", _weight_name(self.estimator)}
        return (
            isinstance(last, Stacked)
            and last.checkpoint is None
            and not watched
            and not get_config()["enable_metadata_routing"]
            and set(params) <= known
        )

    def _candidate(self, parameters: dict[str, Any]) -> Any:
        """Return the estimator with the parameters of a candidate."""
        return clone(self.estimator).set_params(**clone(parameters, safe=False))

    def _scorers(self) -> dict[Any, Callable[..., Any]]:
        """Scorers by name; a single one under None."""
        if self.scoring is None or isinstance(self.scoring, str):
            return {None: check_scoring(self.estimator, self.scoring)}
        if callable(self.scoring):
            return {None: self.scoring}
        if isinstance(self.scoring, dict):
            return {
                name: each if callable(each) else check_scoring(self.estimator, each)
                for name, each in self.scoring.items()
            }
        return {name: check_scoring(self.estimator, name) for name in self.scoring}

    def _run(self, tasks: Sequence[Task], data: Data) -> dict[tuple[int, int], Outcome]:
        """Share the tasks out over processes, in stacks or one by one."""
        sizes = {task.number: _size(task, data) for task in tasks if task.split == 0}
        n_jobs = joblib.effective_n_jobs(self.n_jobs)
        calls: list[tuple[list[Task], bool]] = []
        for size in dict.fromkeys(sizes.values()):
            some = [task for task in tasks if sizes[task.number] == size]
            if size is None:
                calls += [([task], False) for task in some]
            else:
                calls += [(share, True) for share in _shares(some, n_jobs)]
        parallel = Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch)
        found = parallel(delayed(run_tasks)(some, data, how) for some, how in calls)
        return {
            (task.number, task.split): outcome
            for (some, _), outcomes in zip(calls, found)
            for task, outcome in zip(some, outcomes)
        }

    def _take(
        self, inner: GridSearchCV, outcomes: dict[tuple[int, int], Outcome]
    ) -> None:
        """Take the results of scikit-learn's search over the fits that are done."""
        results = inner.cv_results_
        del results[f"param_{NUMBER}"]
        for parameters in results["params"]:
            del parameters[NUMBER]
        shape = (len(results["params"]), inner.n_splits_)
        for kind in ("fit", "score"):
            seconds = np.empty(shape)
            for place, outcome in outcomes.items():
                seconds[place] = getattr(outcome, f"{kind}_seconds")
            results[f"mean_{kind}_time"] = seconds.mean(axis=1)
            results[f"std_{kind}_time"] = seconds.std(axis=1)
        self.cv_results_ = results
        for name in ("n_splits_", "multimetric_", "best_index_", "best_score_"):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "best_index_"):
            self.best_params_ = results["params"][self.best_index_]

    def _refit(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        """Fit the best candidate on all rows."""
        start = time.perf_counter()
        best = self._candidate(self.best_params_)
        self.best_estimator_ = best.fit(X, *(() if y is None else (y,)), **params)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_


class MixtureSearch(BatchedGridSearchCV):
    """Choice of the size and the covariances of a mixture, by one criterion.

    Each number of components is fitted with each type of covariance. What the
    candidates share is done once: K-means of all those of one size.

    Parameters
    ----------
    estimator : estimator, default=None
        A mixture: ``GaussianMixtureEM``, ``StudentMixtureEM`` or ``MixtureEM``, whose
        components have no covariances; ``None`` is ``GaussianMixtureEM()``. It is
        cloned.
    n_components : sequence of int, default=(1, 2, 3, 4, 5, 6, 7, 8, 9)
        Numbers of components.
    covariance_types : sequence of str, default=("full", "tied", "diag", "spherical")
        Types of covariances.
    criterion : {"bic", "icl", "aic", "cv"}, default="bic"
        What decides: an information criterion of fits to all rows, or the mean
        log-density of rows that are held out. BIC finds the components that a density
        needs, ICL those that are clusters, AIC and held-out rows the best prediction.
    cv : int, splitter, iterable or None, default=None
        How to split the rows, where ``criterion="cv"``; None is five folds.
    n_jobs : int or None, default=None
        Processes.
    verbose : int, default=0
        Above 0, says how many fits there are.
    error_score : "raise" or float, default=nan
        Score of a fit that fails, such as one with a component of no width.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Table of the candidates, as in ``GridSearchCV``; "mean_test_score" is minus the
        criterion, or the mean held-out log-density, so that the highest is the best.
    best_estimator_ : estimator
        The best candidate, fitted on all rows; likewise ``best_params_``,
        ``best_score_``, ``best_index_``, ``refit_time_``, ``n_splits_`` and
        ``scorer_``, as in ``GridSearchCV``.

    See Also
    --------
    BatchedGridSearchCV : Any grid, by held-out scores.

    Notes
    -----
    The search transforms, predicts and scores by the best candidate. ``score`` is the
    mean log-density of rows.

    References
    ----------
    Schwarz, "Estimating the dimension of a model", Annals of Statistics 6, 1978.
    Biernacki, Celeux & Govaert, "Assessing a mixture model for clustering with the
    integrated completed likelihood", IEEE Transactions on Pattern Analysis and Machine
    Intelligence 22(7), 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.model_selection import MixtureSearch
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(100, 2), 7 + rng.randn(200, 2)])
    >>> search = MixtureSearch(n_components=(1, 2, 3)).fit(X)
    >>> search.best_params_
    {'covariance_type': 'spherical', 'n_components': 2}
    """

    # What a grid search is asked for, and this one decides.
    refit, scoring, return_train_score, pre_dispatch = True, None, False, "2*n_jobs"

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_components: Sequence[int] = tuple(range(1, 10)),
        covariance_types: Sequence[str] = tuple(COVARIANCES),
        criterion: Literal["bic", "icl", "aic", "cv"] = "bic",
        cv: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        error_score: float | Literal["raise"] = np.nan,
    ) -> None:
        self.estimator = estimator
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.criterion = criterion
        self.cv = cv
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.error_score = error_score

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit all candidates, and choose one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.
        **params : dict of str -> object
            ``sample_weight`` of the rows, in fits and criteria; ``groups`` of ``cv``.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter is out of its range.
        """
        check_parameters(self, _MIXTURE_RULES)
        model = GaussianMixtureEM() if self.estimator is None else self.estimator
        if not isinstance(model, MixtureDensity):
            raise ValueError(
                "The 'estimator' parameter of MixtureSearch must be a GaussianMixtureEM"
                f", StudentMixtureEM or MixtureEM. Got {model!r} instead; use "
                "BatchedGridSearchCV for other models."
            )
        grid: dict[str, list[Any]] = {"n_components": list(self.n_components)}
        if "covariance_type" in model.get_params(deep=False):
            grid["covariance_type"] = list(self.covariance_types)
        splits, scoring = self.cv, None
        if self.criterion != "cv":
            everywhere = np.arange(_num_samples(X))
            splits = [(everywhere, everywhere)]
            scoring = partial(_minus, self.criterion)
        search: Any = BatchedGridSearchCV(  # type: ignore[no-untyped-call]
            model,
            grid,
            scoring=scoring,
            cv=splits,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            error_score=self.error_score,
        ).fit(X, **params)
        found = vars(search).items()
        vars(self).update({k: v for k, v in found if k.endswith("_")})
        return self

    def score(self, X: Any, y: Any = None, **params: Any) -> float:
        """Return the mean log-density of the rows under the best candidate.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.
        **params : dict of str -> object
            ``sample_weight`` of the rows.

        Returns
        -------
        score : float
            Mean of ``score_samples(X)``, in nats per row.
        """
        check_is_fitted(self)
        return float(self.best_estimator_.score(X, **params))

    def __sklearn_tags__(self) -> Any:
        if self.estimator is not None:
            return super().__sklearn_tags__()  # type: ignore[no-untyped-call]
        named = clone(self).set_params(estimator=GaussianMixtureEM())
        return named.__sklearn_tags__()


_MIXTURE_RULES = {
    "n_components": sequence(integer(1), 1),
    "covariance_types": sequence(options(*COVARIANCES, "factor"), 1),
    "criterion": options("bic", "icl", "aic", "cv"),
}


def _minus(
    criterion: str, model: Any, X: Any, y: Any = None, sample_weight: Any = None
) -> float:
    """Return minus an information criterion of a fitted mixture."""
    return -float(getattr(model, criterion)(X, sample_weight=sample_weight))


def _shares(tasks: Sequence[Task], n: int) -> list[list[Task]]:
    """Cut tasks into n runs of nearly equal length."""
    cuts = np.linspace(0, len(tasks), n + 1).round().astype(int)
    return [list(tasks[a:b]) for a, b in itertools.pairwise(cuts) if a < b]


def _size(task: Task, data: Data) -> Hashable:
    """Return a name for fits that cost about the same, or None for what stays alone.

    This decides only who runs where, not whether a stack is possible. Mixtures gain at
    any size; those of one size are shared out evenly.
    """
    last = _last_step(clone(task.estimator))
    if isinstance(last, EllipticalMixture) and not last.verbose:
        return last.n_components, last.covariance_type
    if isinstance(last, NeuralModel) and _is_small(last, task, data):
        return "small network"
    return None


def _is_small(last: NeuralModel, task: Task, data: Data) -> bool:
    """Whether the fit of a network gains from being stacked, by a look at a few rows.

    Of a pipeline, as the rows are before its first step.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = Fit(last, *data.part(task.train[:PROBE_ROWS]), None)
    except Exception:  # what is wrong will show where it is fitted
        return True
    training: Any = fit.work
    if training is None:
        return True
    batch_size = TrainingPlan(last, len(task.train)).batch_size
    return training.trainer.cache_key is not None and is_small(training, batch_size)
