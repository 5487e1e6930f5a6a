"""Pictures of models, as scikit-learn's Displays: ``from_estimator``, ``plot``.

They need matplotlib: ``pip install "scikit-generative[plot]"``. It is imported when a
picture is drawn, and no earlier.
"""

from skgen.display.codebook import CodebookDisplay
from skgen.display.curves import LossCurveDisplay
from skgen.display.density import DensityDisplay
from skgen.display.paths import InterpolationDisplay, TraversalDisplay
from skgen.display.plane import LatentSpaceDisplay, ManifoldDisplay
from skgen.display.rows import ReconstructionDisplay, SamplesDisplay
from skgen.display.search import SearchCurveDisplay
from skgen.display.tables import TableReportDisplay

__all__ = [
    "CodebookDisplay",
    "DensityDisplay",
    "InterpolationDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "SearchCurveDisplay",
    "TableReportDisplay",
    "TraversalDisplay",
]
