"""Data sets: one drawn by code, one read from a folder. Nothing is downloaded."""

from skgen.datasets.fashion_mnist import load_fashion_mnist
from skgen.datasets.shapes import make_shapes

__all__ = ["load_fashion_mnist", "make_shapes"]
