"""Changes of variables: scikit-learn's fitted transformers as invertible maps.

A transformer maps a row x to z = t(x), and a density of z to one of x::

    log p(x) = log p_z(t(x)) + log |det dt/dx|.

``log_det`` is that last term, a function that each class of transformers has its own
case of; ``inverse`` is the way back. A chain of maps adds their terms, and loses the
rows at which one of them is not invertible.
"""

from skgen.bijections import levels as levels  # registers its cases
from skgen.bijections import transformers as transformers
from skgen.bijections.chains import (
    active,
    come_back,
    pull_back,
    push_cells,
    push_forward,
)
from skgen.bijections.functions import InvertibleFunction
from skgen.bijections.generic import inverse, log_det
from skgen.bijections.levels import without_marks

__all__ = [
    "InvertibleFunction",
    "active",
    "come_back",
    "inverse",
    "log_det",
    "pull_back",
    "push_cells",
    "push_forward",
    "without_marks",
]
