"""
A model in a file
=================

:func:`skgen.save` writes a fitted estimator to one file that holds no code, and
:func:`skgen.load` reads it: here, on another machine, or without the GPU that it was
trained on. Scores, codes and draws are the same to the bit on the machine where it was
written. The file goes on from where it was, too: ``partial_fit`` takes further rows.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import skgen
from skgen.display import SamplesDisplay

X = load_digits().data
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
model = skgen.VAE(10, image_shape=(8, 8), learning_rate_init=5e-3, random_state=0).fit(
    X
)

with TemporaryDirectory() as folder:
    path = Path(folder) / "digits.safetensors"
    skgen.save(model, path)
    print(f"{path.stat().st_size / 1e6:.2f} MB")
    same = skgen.load(path)

assert same.score(X) == model.score(X)
assert np.array_equal(same.transform(X), model.transform(X))

# %%
# Draws under one seed, of the model before and of the one that was read
# ----------------------------------------------------------------------

figure, axes = plt.subplots(1, 2, figsize=(13, 4), layout="constrained")
for ax, title, drawn in zip(axes, ["before", "from the file"], [model, same]):
    SamplesDisplay.from_estimator(drawn, n_samples=40, random_state=0, ax=ax)
    ax.set_title(title)
plt.show()
