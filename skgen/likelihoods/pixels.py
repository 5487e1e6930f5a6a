"""Images whose pixels depend on each other given the code: gated convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._utils.parameters import integer, sequence
from skgen._utils.tensors import Undrawn
from skgen.likelihoods.autoregressive import OneByOne
from skgen.likelihoods.base import Likelihood


class GatedLayer(nn.Module):
    """Convolutions over the pixels above, and over those to the left, with gates.

    Features of the vertical stack know the lines above a pixel, those of the horizontal
    stack also the pixels to its left. In the first layer neither knows its own place;
    those that follow do, of features that do not know the pixel.

    Parameters
    ----------
    n_inputs, n_channels : int
        Channels of what comes in, and C, of both stacks.
    reach : int
        Lines above and pixels to a side that a convolution sees.
    is_first : bool
        Whether it sees pixels, and not features.
    """

    def __init__(
        self, n_inputs: int, n_channels: int, reach: int, is_first: bool
    ) -> None:
        super().__init__()
        C, own = n_channels, 0 if is_first else 1
        self.reach, self.is_first = reach, is_first
        self.vertical = nn.Conv2d(n_inputs, 2 * C, (reach + own, 2 * reach + 1))
        self.horizontal = nn.Conv2d(n_inputs, 2 * C, (1, reach + own))
        self.link = nn.Conv2d(2 * C, 2 * C, 1)
        self.context = nn.Conv2d(C, 4 * C, 1)
        self.out = nn.Conv2d(C, C, 1)

    def forward(self, v: Tensor, h: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map both stacks (n, ., height, width), given a context (n, C, ., .)."""
        r, (height, width) = self.reach, v.shape[-2:]
        above = self.vertical(F.pad(v, (r, r, r, 0)))[..., :height, :]
        left = self.horizontal(F.pad(h, (r, 0, 0, 0)))[..., :width]
        of_v, of_h = self.context(context).chunk(2, dim=1)
        found = self.out(gated(left + self.link(above) + of_h))
        return gated(above + of_v), found if self.is_first else h + found


def gated(x: Tensor) -> Tensor:
    """Multiply one half of the channels, after tanh, by the other, after a sigmoid."""
    value, gate = x.chunk(2, dim=1)
    return value.tanh() * gate.sigmoid()


class PixelCNN(OneByOne):
    """Pixels that depend on the code and on the pixels before them: an exact density.

    Pixels come line by line; the outputs of ``base`` are those of the decoder plus what
    gated convolutions make of the pixels above and to the left, within ``n_layers``
    times ``reach`` of them. The decoder also gives ``n_channels`` numbers at each
    pixel, which move the gates. A model with it is a PixelVAE (or a PixelVQVAE): with
    a short reach, details are left to the pixels, and the code has the rest. A score
    takes one pass, a draw one for each pixel.

    Parameters
    ----------
    image_shape : (height, width) or (height, width, channels)
        Shape of the image that a row holds, channels last. The channels of a pixel are
        independent given the pixels before.
    base : Likelihood, default=None
        Densities of the numbers of a pixel, such as ``Bernoulli()``; None is
        ``Gaussian()``.
    n_channels : int, default=16
        Channels of the layers.
    n_layers : int, default=3
        Layers.
    reach : int, default=2
        Lines above, and pixels to each side, that a layer sees.

    Notes
    -----
    ``mean`` is that of each pixel given the means of those before it.

    References
    ----------
    van den Oord et al., "Conditional image generation with PixelCNN decoders", NeurIPS
    2016. Gulrajani et al., "PixelVAE: a latent variable model for natural images",
    ICLR 2017. Chen et al., "Variational lossy autoencoder", ICLR 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import VAE
    >>> from skgen.likelihoods import Bernoulli, PixelCNN
    >>> X = (load_digits().data > 7).astype(float)
    >>> likelihood = PixelCNN((8, 8), Bernoulli(), n_channels=8, n_layers=2)
    >>> model = VAE(2, likelihood=likelihood, max_iter=2, random_state=0).fit(X[:200])
    >>> model.sample(3, random_state=0).shape
    (3, 64)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        base: Likelihood | None = None,
        n_channels: int = 16,
        n_layers: int = 3,
        reach: int = 2,
    ) -> None:
        super().__init__(base)
        shape: Any = image_shape
        sizes = {"n_channels": n_channels, "n_layers": n_layers, "reach": reach}
        rules = dict.fromkeys(sizes, integer(1, 1000))
        values = {"image_shape": shape, **sizes}
        for name, rule in {"image_shape": sequence(integer(1), 2, 3), **rules}.items():
            if not rule.accepts(values[name]):
                raise ValueError(
                    f"The {name!r} parameter of PixelCNN must be {rule.words}. Got "
                    f"{values[name]!r} instead."
                )
        shape = tuple(int(size) for size in shape)
        self.options = {"image_shape": shape, "base": base, **sizes}
        height, width, depth = (*shape, 1)[:3]
        self.height: int = height
        self.width: int = width
        self.depth: int = depth
        self.n_channels, self.n_layers, self.reach = n_channels, n_layers, reach
        with Undrawn():  # a start is drawn when rows are seen
            self.layers = self._new_layers()
            self.last = nn.Conv2d(n_channels, self._n_own, 1)
        for parameter in (*self.layers.parameters(), *self.last.parameters()):
            parameter.data.zero_()

    def _new_layers(self) -> nn.ModuleList:
        C, reach = self.n_channels, self.reach
        first = GatedLayer(self.depth, C, reach, is_first=True)
        rest = range(self.n_layers - 1)
        others = [GatedLayer(C, C, reach, is_first=False) for _ in rest]
        return nn.ModuleList([first, *others])

    @property
    def _n_own(self) -> int:
        """Outputs of the base at a pixel."""
        return self.depth * self.n_outputs

    @property
    def n_steps(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def steps(self) -> Tensor:
        """Pixel (d,) of each column."""
        n_columns = self.n_steps * self.depth
        place = torch.arange(n_columns, device=self.last.weight.device)
        found: Tensor = place // self.depth
        return found

    def decoder_width(self, n_features: int) -> int:
        """Return the number of decoder outputs: of the base, and for the gates."""
        return self.n_steps * (self._n_own + self.n_channels)

    def set_rows(self, x: Tensor) -> None:
        """Adapt the base to rows (n, d), and start at it: the last weights are zero.

        Raises
        ------
        ValueError
            If rows are of another shape, or the base is of columns of several kinds.
        """
        d, size = x.shape[1], self.n_steps * self.depth
        if d != size or self.base.encoder_width(d) != d:
            raise ValueError(
                f"PixelCNN(image_shape={self.options['image_shape']!r}) is for rows of "
                f"{size} numbers of one kind, and X has {d} columns. Change "
                "image_shape, or take Autoregressive, which is for tables."
            )
        super().set_rows(x)
        self.layers.load_state_dict(self._new_layers().state_dict())
        for parameter in self.last.parameters():
            parameter.data.zero_()

    def initial_outputs(self, x: Tensor) -> Tensor | None:
        """Return outputs of the best constant decoder of the base, and zeros."""
        outputs = self.base.initial_outputs(x)
        if outputs is None:
            return None
        return F.pad(outputs.view(self.n_steps, -1), (0, self.n_channels)).flatten()

    def outputs_given(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the base's outputs (..., n, p), of a decoder's (..., n, p + h).

        Each knows of the inputs (..., n, d) those of the pixels before its own.
        """
        shape, sizes = outputs.shape[:-1], [self._n_own, self.n_channels]
        own, context = outputs.unflatten(-1, (self.n_steps, -1)).split(sizes, dim=-1)
        v = h = self._images(
            inputs.expand(*shape, -1).unflatten(-1, (self.n_steps, -1))
        )
        gates = self._images(context)
        for layer in self.layers:
            v, h = layer(v, h, gates)
        added = self.last(h.relu()).permute(0, 2, 3, 1).reshape(own.shape)
        found: Tensor = (own + added).flatten(-2)
        return found

    def _images(self, x: Tensor) -> Tensor:
        """Turn pixels (..., n_pixels, c) into images (m, c, height, width)."""
        return x.reshape(-1, self.height, self.width, x.shape[-1]).permute(0, 3, 1, 2)
