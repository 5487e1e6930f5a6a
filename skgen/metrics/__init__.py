"""Measures of codes, of samples, of tables and of scores: arrays in, numbers out."""

from skgen.metrics.classification import classification_accuracy_score
from skgen.metrics.codes import active_units, codebook_perplexity
from skgen.metrics.disentanglement import (
    factor_vae_score,
    modularity,
    mutual_information_gap,
)
from skgen.metrics.scores import bits_per_dimension
from skgen.metrics.tables import table_report
from skgen.metrics.two_sample import (
    TwoSampleTest,
    energy_distance,
    kernel_mmd,
    two_sample_test,
)

__all__ = [
    "TwoSampleTest",
    "active_units",
    "bits_per_dimension",
    "classification_accuracy_score",
    "codebook_perplexity",
    "energy_distance",
    "factor_vae_score",
    "kernel_mmd",
    "modularity",
    "mutual_information_gap",
    "table_report",
    "two_sample_test",
]
