"""Checkpoints that others read: a quantized model written in their layouts, and read back into `QuantizedLinear` layers.

    >>> from coursepkg import export
    >>> sorted(export.LAYOUTS)
    ['compressed-tensors', 'gptq', 'gptq_v2']

`save` writes codes and scales as they are, whatever method made them: nothing is quantized again. `load` finds out which layout
a folder is in.
"""

from coursepkg.export.known import LAYOUTS
from coursepkg.export.layout import Layout, NotExportable, NotReadable
from coursepkg.export.reading import load
from coursepkg.export.writing import save

__all__ = ["LAYOUTS", "Layout", "NotExportable", "NotReadable", "load", "save"]
