"""Rows that are more than one process holds."""

from skgen.distributed.dask import fit, sample

__all__ = ["fit", "sample"]
