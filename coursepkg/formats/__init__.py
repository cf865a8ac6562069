"""Number formats as data: which values a few bits can hold, and how a number becomes one of them.

    >>> from coursepkg import formats
    >>> formats.FP16.bit_pattern(1.0), formats.FP16.round(0.1)
    ('0 01111 0000000000', 0.0999755859375)
    >>> formats.E2M1.values().tolist()[7:]
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]

`FloatFormat` and `IntegerFormat` have one interface, `NumberFormat`; `MXFormat` and `NVFormat` give blocks of
small floats a scale. Codes are not packed here: each is an element of its tensor. Everything is computed in
float64.
"""

from coursepkg.formats.blocks import BlockFormat, MXFormat, NVFormat
from coursepkg.formats.catalogue import (
    BF16,
    BLOCK_FORMATS,
    E2M1,
    E4M3,
    E5M2,
    E8M0,
    FORMATS,
    FP16,
    FP32,
    INT4,
    INT8,
    MXFP4,
    MXFP8_E4M3,
    MXFP8_E5M2,
    NVFP4,
    TERNARY,
    TF32,
    block_format,
    number_format,
)
from coursepkg.formats.floats import FloatFormat
from coursepkg.formats.integers import IntegerFormat
from coursepkg.formats.interface import NumberFormat

__all__ = [
    "BF16",
    "BLOCK_FORMATS",
    "BlockFormat",
    "E2M1",
    "E4M3",
    "E5M2",
    "E8M0",
    "FORMATS",
    "FP16",
    "FP32",
    "FloatFormat",
    "INT4",
    "INT8",
    "IntegerFormat",
    "MXFP4",
    "MXFP8_E4M3",
    "MXFP8_E5M2",
    "MXFormat",
    "NVFP4",
    "NVFormat",
    "NumberFormat",
    "TERNARY",
    "TF32",
    "block_format",
    "number_format",
]
