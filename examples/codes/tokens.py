"""
Digits as tokens
================

A VQ-VAE turns each digit into a few entries of a codebook, and learns which entries go
together. Tokens that are drawn independently do not: their samples are worse, and the
prior's log-mass says by how much.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skgen import VQVAE, KMeansAutoencoder
from skgen.display import CodebookDisplay, SamplesDisplay

X = load_digits().data
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
model = VQVAE(
    32,
    n_tokens=6,
    image_shape=(8, 8),
    encode="ordinal",
    learning_rate_init=1e-2,
    n_iter_no_change=10,
    random_state=0,
).fit(X)
tokens = model.transform(X).astype(int)
print("the first rows, as tokens:")
print(tokens[:3])

# %%
# The codebook
# ------------
#
# Left, how much each code is used; right, what a row decodes to that has one code in
# all its places. One code alone is no digit: digits are combinations.

CodebookDisplay.from_estimator(model)
plt.show()

# %%
# K-means is the case of one token per row and no network. Its codes are digits.

kmeans = KMeansAutoencoder(32, random_state=0).fit(X)
CodebookDisplay.from_estimator(kmeans, image_shape=(8, 8))
plt.show()

# %%
# The prior
# ---------
#
# Samples with tokens from the learned prior, and with tokens drawn one by one from
# their frequencies.

figure, axes = plt.subplots(1, 2, figsize=(13, 4), layout="constrained")
SamplesDisplay.from_estimator(model, n_samples=40, ax=axes[0])
axes[0].set_title("tokens from the autoregressive prior")

rng = np.random.RandomState(0)
independent = np.column_stack([rng.choice(column, 40) for column in tokens.T])
rows = model.inverse_transform(independent.astype(float))
SamplesDisplay(rows, image_shape=(8, 8), title="tokens drawn independently").plot(
    axes[1]
)
plt.show()
