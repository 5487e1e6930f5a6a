"""
What each coordinate does
=========================

Rectangles, ellipses and triangles of many sizes, angles and places, drawn from known
factors. A beta-VAE learns a code of them without being told; moving one coordinate at a
time shows what it stands for.

What to expect: with a larger beta some coordinates are hardly used, position comes to
lie along two of them, and the mutual information gap (1 would be a coordinate a factor)
is larger. Nothing promises this: it differs by seed.
"""

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning

from skgen import BetaVAE, GaussianDensity
from skgen.datasets import make_shapes
from skgen.display import TraversalDisplay
from skgen.metrics import mutual_information_gap

# A few epochs are meant here: the warning that they are few is not.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

shapes = make_shapes(6000, binary=True, random_state=0)

# %%
# A line for each coordinate, the most used first. It moves; the others stay at zero,
# the centre of the prior.

for beta in [1, 4]:
    model = BetaVAE(
        6,
        beta=beta,
        likelihood="bernoulli",
        image_shape=shapes.image_shape,
        learning_rate_init=3e-3,
        max_iter=30,
        random_state=0,
    ).fit(shapes.data)
    gap = mutual_information_gap(model.transform(shapes.data), shapes.factors)
    display = TraversalDisplay.from_estimator(model)
    display.ax_.set_title(
        f"beta = {beta}: {model.active_units_} coordinates in use, "
        f"mutual information gap {gap:.2f}"
    )
    plt.show()

# %%
# A table
# -------
#
# The coordinates of probabilistic PCA are principal components; a heat map says which
# features each of them moves.

wine = load_wine(as_frame=True).data
standardised = (wine - wine.mean()) / wine.std()
TraversalDisplay.from_estimator(GaussianDensity(3).fit(standardised))
plt.show()
