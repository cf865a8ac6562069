"""The formats of the course, each with its source.

Number formats: `FORMATS` and `number_format`. Blocks with scales: `BLOCK_FORMATS` and `block_format`.
"""

from coursepkg.formats.blocks import BlockFormat, MXFormat, NVFormat
from coursepkg.formats.floats import FloatFormat
from coursepkg.formats.integers import IntegerFormat
from coursepkg.formats.interface import NumberFormat

FP32 = FloatFormat("fp32", 8, 23, bias=127, top="ieee", source="IEEE 754-2019, binary32, table 3.5")
FP16 = FloatFormat("fp16", 5, 10, bias=15, top="ieee", source="IEEE 754-2019, binary16, table 3.5")
BF16 = FloatFormat(
    "bf16",
    8,
    7,
    bias=127,
    top="ieee",
    source="Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training",
)
# fp32's range with fp16's precision, kept in fp32's 32 bits. Rounded here to nearest even like the others;
# PTX also has cvt.rna.tf32, which rounds ties away from zero.
TF32 = FloatFormat(
    "tf32", 8, 10, bias=127, top="ieee", source="NVIDIA 2020, A100 architecture whitepaper", container_bits=32
)
# No infinities, so that 448 fits; the NaN is S.1111.111. OFP8 leaves overflow to the conversion: to 448
# (saturating, also from infinity) or to NaN. Saturating is what PTX's cvt.satfinite does, and torch's casts
# from version 2.12; ml_dtypes, and torch before, go to NaN, from the same border: 464 is a tie and rounds to
# 448.
E4M3 = FloatFormat(
    "e4m3",
    4,
    3,
    bias=7,
    top="nan",
    source="OCP OFP8 v1.0; Micikevicius et al. 2022, FP8 Formats for Deep Learning, table 1",
    saturates=True,
)
E5M2 = FloatFormat(
    "e5m2",
    5,
    2,
    bias=15,
    top="ieee",
    source="OCP OFP8 v1.0; Micikevicius et al. 2022, FP8 Formats for Deep Learning, table 1",
)
E2M1 = FloatFormat("e2m1", 2, 1, bias=1, top="values", source="OCP MX v1.0, section 5.3.3", saturates=True)
# The scale of the MX formats: an exponent and nothing else. Zero and what is below 2^−127 become 2^−127, ties
# go up (the mantissa rounds to the even 10 in binary), overflow goes to NaN, as in torch.
E8M0 = FloatFormat(
    "e8m0",
    8,
    0,
    bias=127,
    top="nan",
    source="OCP MX v1.0, section 5.4.1",
    signed=False,
    subnormals=False,
)

INT8 = IntegerFormat("int8", 8, -128, 127, source="two's complement; PTX ISA, type .s8")
INT4 = IntegerFormat("int4", 4, -8, 7, source="two's complement; PTX ISA, type .s4 of mma")
# Three values are log2(3) = 1.585 bits of information; stored one by one they take 2 bits, and the code 10 is
# unused.
TERNARY = IntegerFormat("ternary", 2, -1, 1, source="Ma et al. 2024, The Era of 1-bit LLMs, section 2")

FORMATS: dict[str, NumberFormat] = {
    f.name: f for f in (FP32, TF32, FP16, BF16, E4M3, E5M2, E2M1, E8M0, INT8, INT4, TERNARY)
}

MXFP4 = MXFormat("mxfp4", E2M1, 32, E8M0, source="OCP MX v1.0, section 5.2")
MXFP8_E4M3 = MXFormat("mxfp8-e4m3", E4M3, 32, E8M0, source="OCP MX v1.0, section 5.2")
MXFP8_E5M2 = MXFormat("mxfp8-e5m2", E5M2, 32, E8M0, source="OCP MX v1.0, section 5.2")
NVFP4 = NVFormat(
    "nvfp4",
    E2M1,
    16,
    E4M3,
    source="NVIDIA 2025, Pretraining Large Language Models with NVFP4, section 2 and appendix C",
)

BLOCK_FORMATS: dict[str, BlockFormat] = {f.name: f for f in (MXFP4, MXFP8_E4M3, MXFP8_E5M2, NVFP4)}


def number_format(name: str | NumberFormat) -> NumberFormat:
    """The number format called `name` ("bf16", "e4m3", …); a NumberFormat is passed through.

    Raises ValueError with the known names.

    >>> number_format("e2m1").largest
    6.0
    """
    if isinstance(name, NumberFormat):
        return name
    if name not in FORMATS:
        raise ValueError(f"no number format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def block_format(name: str | BlockFormat) -> BlockFormat:
    """The block format called `name` ("mxfp4", "nvfp4", …); a BlockFormat is passed through.

    Raises ValueError with the known names.

    >>> block_format("mxfp4").effective_bits, block_format("nvfp4").effective_bits
    (4.25, 4.5)
    """
    if isinstance(name, BlockFormat):
        return name
    if name not in BLOCK_FORMATS:
        raise ValueError(f"no block format {name!r}; known are {', '.join(BLOCK_FORMATS)}")
    return BLOCK_FORMATS[name]
