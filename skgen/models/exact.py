"""What models of exact densities share: missing cells are integrated out."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skgen._utils.tensors import draw_seed, fresh_random_state, make_generator
from skgen.models.base import GenerativeModel, InformationCriteria

INCOMPLETE_BATCH = (
    "{owner}.partial_fit takes rows without missing cells (NaN), which need many "
    "passes over all rows. Use fit; or leave incomplete rows out."
)


class ExactDensity(InformationCriteria, GenerativeModel):
    """Base of the closed-form models, whose rows may have missing cells, NaN."""

    @property
    def _allows_missing(self) -> bool:
        return True

    def impute(
        self, X: ArrayLike, *, noise: bool = False, random_state: Any = None
    ) -> Any:
        """Fill cells that are missing, given the rest of their row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with NaN in the place of what is missing.
        noise : bool, default=False
            Whether to draw missing cells from their density given the rest of the row,
            for multiple imputation. Without it they are the mean of that density.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        X_filled : array or DataFrame of shape (n_samples, n_features)
            The rows; cells that were there are as they were.

        Examples
        --------
        >>> import numpy as np
        >>> from skgen import GaussianDensity
        >>> X = np.array([[0.0, 0.0], [1.0, 2.1], [2.0, 3.9], [3.0, 6.0]])
        >>> GaussianDensity().fit(X).impute([[1.5, np.nan]]).round(2)
        array([[1.5, 3. ]])
        """
        check_is_fitted(self)
        generator = None
        if noise:
            seed = draw_seed(fresh_random_state(random_state))
            generator = make_generator(seed, torch.device(self.device_))
        rows = self._apply(lambda model, x: model.impute(x, generator), X)
        return self._as_container(rows, X)
