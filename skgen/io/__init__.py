"""Models in files: one file, arrays by safetensors, all else JSON; no code in it.

The format is described in ``docs/howto/files.md``.
"""

from skgen._files.container import ModelFileError
from skgen.io.converters import register_converters
from skgen.io.models import TRUSTED_TYPES, load, save
from skgen.io.onnx import to_onnx

__all__ = [
    "TRUSTED_TYPES",
    "ModelFileError",
    "load",
    "register_converters",
    "save",
    "to_onnx",
]
