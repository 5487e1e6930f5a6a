"""Models of one image: a texture is learned, grown, matched or restored.

The input is one image, of shape (height, width) or (height, width, channels); the
output is an image of any size. Floating-point images may hold NaN where a pixel is
unknown.
"""

from skgen.textures.deep_prior import DeepImagePrior
from skgen.textures.gaussian import GaussianTexture
from skgen.textures.images import tile
from skgen.textures.nonparametric import NonparametricTexture
from skgen.textures.patchmatch import PatchMatch

__all__ = [
    "DeepImagePrior",
    "GaussianTexture",
    "NonparametricTexture",
    "PatchMatch",
    "tile",
]
