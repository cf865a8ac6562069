"""What a tensor costs in a format: the values, and the scales that the values share.

Three kinds of bytes appear in this course. This file computes two of them: *nominal* (bits times values) and
*stored* (with scales, their scales, and the padding of the last block). The third, *measured*, is in `measure`.
"""

from dataclasses import dataclass
from math import ceil, prod
from typing import Literal


@dataclass(frozen=True)
class StorageFormat:
    """How values are stored: `bits` each, and one scale for every `block_size` of them.

    The scales are stored in a format of their own (`scale`), which may have scales too. That recursion is all there
    is to double quantization (QLoRA, section 3) and to the super-blocks of the k-quants.

    bits: bits a value takes.
    block_size: values that share a scale; "channel" means one scale for each row of a matrix (an output channel), "tensor"
    one for all of it.
    scale: the format of the scales, or None where values need none (floating point).
    table_bytes: bytes that each tensor stores once (a codebook, an offset), whatever its size.
    packed_by_row: each row of a matrix begins with a byte of its own, as packing.pack has it; otherwise the values are one
    stream, and at most one byte is begun.
    """

    name: str
    bits: int
    block_size: int | Literal["channel", "tensor"] | None = None
    scale: "StorageFormat | None" = None
    table_bytes: int = 0
    packed_by_row: bool = False

    def __post_init__(self) -> None:
        if self.bits < 1:
            raise ValueError(f"{self.name}: bits must be at least 1, not {self.bits}")
        if (self.block_size is None) != (self.scale is None):
            raise ValueError(f"{self.name}: block_size and scale go together; give both or neither")
        if isinstance(self.block_size, int) and self.block_size < 1:
            raise ValueError(f"{self.name}: block_size must be at least 1, not {self.block_size}")

    def nominal_bytes(self, *shape: int) -> int:
        """Bytes of the values alone, for a tensor of `shape`, scales left out."""
        return ceil(prod(shape) * self.bits / 8)

    def stored_bytes(self, *shape: int) -> int:
        """Bytes a tensor of `shape` occupies: values, scales (and theirs), tables. What is begun, a block or a byte, counts
        whole. Raises ValueError without a shape."""
        if not shape:
            raise ValueError(f"{self.name}: give a shape, for example stored_bytes(4096, 4096)")
        total = self._value_bytes(shape) + self.table_bytes
        if self.scale is not None:
            total += self.scale.stored_bytes(self._blocks(shape))
        return total

    def _value_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes in which the values lie."""
        if not self.packed_by_row:
            return self.nominal_bytes(*shape)
        return prod(shape[:-1]) * self.nominal_bytes(shape[-1])

    def _blocks(self, shape: tuple[int, ...]) -> int:
        """Scales that a tensor of `shape` needs."""
        if self.block_size == "tensor":
            return 1
        return shape[0] if self.block_size == "channel" else ceil(prod(shape) / self.block_size)

    def effective_bits(self, row_length: int = 4096) -> float:
        """Bits a value takes with its share of the scales, in a tensor so large that tables do not count.

        row_length: values in a row, used where the scale belongs to a row, or a row begins with a byte of its own.
        """
        bits = 8 * self.nominal_bytes(row_length) / row_length if self.packed_by_row else float(self.bits)
        if self.scale is None or self.block_size == "tensor":
            return bits
        block_size = row_length if self.block_size == "channel" else self.block_size
        return bits + self.scale.effective_bits() / block_size


FP32 = StorageFormat("fp32", 32)
FP16 = StorageFormat("fp16", 16)
BF16 = StorageFormat("bf16", 16)

# bitsandbytes: one fp32 scale for each output channel (LLM.int8(), section 2.1, "vector-wise").
INT8 = StorageFormat("int8", 8, "channel", FP32)
# One fp16 scale for each 128 weights and no zero-point, as symmetric GPTQ and AWQ checkpoints have it.
INT4_G128 = StorageFormat("int4-g128", 4, 128, FP16)
# bitsandbytes stores the 16 levels with every tensor (64 bytes); double quantization adds the mean that was taken
# off the scales (4 bytes) and the 256 levels of its own 8-bit map (1,024 bytes).
NF4 = StorageFormat("nf4", 4, 64, FP32, table_bytes=64)
NF4_DQ = StorageFormat(
    "nf4+dq", 4, 64, StorageFormat("dq8", 8, 256, FP32, table_bytes=4 + 1024), table_bytes=64
)

# llama.cpp's block layouts. A k-quant has super-blocks of 256 values: sub-blocks share a short integer scale (and,
# in Q2_K, Q4_K and Q5_K, a minimum), and those integers share one fp16 scale (and one fp16 scale of the minima).
Q8_0 = StorageFormat("Q8_0", 8, 32, FP16)
Q6_K = StorageFormat("Q6_K", 6, 16, StorageFormat("scales", 8, 16, FP16))
Q5_K = StorageFormat("Q5_K", 5, 32, StorageFormat("scales and minima", 6 + 6, 8, FP32))
Q4_K = StorageFormat("Q4_K", 4, 32, StorageFormat("scales and minima", 6 + 6, 8, FP32))
Q3_K = StorageFormat("Q3_K", 3, 16, StorageFormat("scales", 6, 16, FP16))
Q2_K = StorageFormat("Q2_K", 2, 16, StorageFormat("scales and minima", 4 + 4, 16, FP32))

FORMATS: dict[str, StorageFormat] = {
    f.name: f for f in (FP32, FP16, BF16, INT8, INT4_G128, NF4, NF4_DQ, Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K)
}


def storage_format(name: "str | StorageFormat") -> StorageFormat:
    """The format called `name` ("bf16", "int8", "nf4+dq", …); a StorageFormat is passed through.

    Raises ValueError with the known names.
    """
    if isinstance(name, StorageFormat):
        return name
    if name not in FORMATS:
        raise ValueError(f"no storage format {name!r}; known are {', '.join(FORMATS)}")
    return FORMATS[name]
