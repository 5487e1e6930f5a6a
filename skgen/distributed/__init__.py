"""Rows that are more than one process holds, on one machine or on many."""

from skgen.distributed.dask import fit, sample
from skgen.distributed.processes import data_parallel

__all__ = ["data_parallel", "fit", "sample"]
