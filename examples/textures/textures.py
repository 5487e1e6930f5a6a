"""
Textures from one image
=======================

A wall, grass and gravel, each learned from one picture. A Gaussian field keeps mean and
covariance: enough for sand and cloth, while the joints of the bricks become clouds.
Growing pixel by pixel copies structure, and repeats some of it. Tiles show seams.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

from skgen.textures import (
    DeepImagePrior,
    GaussianTexture,
    NonparametricTexture,
    PatchMatch,
    tile,
)

exemplars = {
    name: getattr(data, name)()[:256:4, :256:4] for name in ("brick", "grass", "gravel")
}
SHAPE = (80, 80)

fig, axes = plt.subplots(3, 4, figsize=(9, 7), layout="constrained")
for row, (name, exemplar) in zip(axes.tolist(), exemplars.items()):
    pictures = {
        "exemplar": exemplar,
        "tiles": tile(exemplar, SHAPE),
        "Gaussian field": GaussianTexture().fit(exemplar).sample(SHAPE, random_state=0),
        "grown by pixels": NonparametricTexture(window=11)
        .fit(exemplar)
        .sample(SHAPE, random_state=0),
    }
    for ax, (title, picture) in zip(row, pictures.items()):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title if name == "brick" else "")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()

# %%
# Holes
# -----
#
# Both filled from the rest of the same picture: pixel by pixel from the border inwards,
# and by patches that vote, from coarse to fine.

fig, axes = plt.subplots(3, 3, figsize=(7, 7), layout="constrained")
for row, (name, exemplar) in zip(axes.tolist(), exemplars.items()):
    holes = exemplar.astype(float)
    holes[24:42, 20:38] = np.nan
    pictures = {
        "with a hole": holes,
        "NonparametricTexture": NonparametricTexture(window=11)
        .fit(holes)
        .fill(holes, random_state=0),
        "PatchMatch": PatchMatch(random_state=0).fit(holes).fill(holes),
    }
    for ax, (title, picture) in zip(row, pictures.items()):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title if name == "brick" else "")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()

# %%
# Patches of another picture
# --------------------------
#
# Gravel made of patches of grass: each patch is replaced by the nearest of the other
# picture, and those over a pixel are averaged.

model = PatchMatch(patch_size=5, random_state=0).fit(exemplars["grass"])
_, distance = model.match(exemplars["gravel"])
pictures = {
    "gravel": exemplars["gravel"],
    "of patches of grass": model.reconstruct(exemplars["gravel"]),
    "distance of the matches": distance,
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, (title, picture) in zip(axes, pictures.items()):
    ax.imshow(picture, cmap="gray")
    ax.set(title=title, xticks=[], yticks=[])
plt.show()

# %%
# A network as a prior
# --------------------
#
# No other image is needed to denoise this one: a convolutional network fits the picture
# sooner than the noise, and the pixels held out say when to stop.

clean = data.camera()[60:252:4, 150:342:4] / 255
noisy = clean + np.random.RandomState(0).normal(0, 0.1, clean.shape)
prior = DeepImagePrior(width=16, n_iter_no_change=60, random_state=0)
prior.fit(noisy)


def decibels(image, clean=clean):
    """Peak signal-to-noise ratio, for images in [0, 1]."""
    return -10 * np.log10(np.mean((image - clean) ** 2))


pictures = {
    "clean": clean,
    f"noisy: {decibels(noisy):.1f} dB": noisy,
    f"restored: {decibels(prior.image_):.1f} dB": prior.image_,
}
fig, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
for ax, (title, picture) in zip(axes, pictures.items()):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
steps = 10 * np.arange(1, len(prior.validation_curve_) + 1)
axes[3].semilogy(steps, prior.validation_curve_)
axes[3].axvline(prior.best_iter_, color="grey", linestyle=":", label="kept")
axes[3].set(xlabel="step", title="squared error of held-out pixels")
axes[3].legend()
plt.show()

# %%
# It knows noise by its fineness alone: the wall has smooth bricks and gains; grass is
# as fine as the noise, and is lost with it.

fig, axes = plt.subplots(2, 2, figsize=(5, 5), layout="constrained")
for column, name in zip(axes.T, ("brick", "grass")):
    own = exemplars[name][:32, :32] / 255
    noisy = own + np.random.RandomState(0).normal(0, 0.1, own.shape)
    prior = DeepImagePrior(width=16, n_iter_no_change=60, random_state=0).fit(noisy)
    for ax, (title, picture) in zip(
        column, {f"{name}, noisy": noisy, "restored": prior.image_}.items()
    ):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"{title}: {decibels(picture, own):.1f} dB")
        ax.set(xticks=[], yticks=[])
plt.show()
