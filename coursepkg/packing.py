"""Codes of a few bits, side by side in bytes, in the orders in which libraries store them.

A row of codes is one stream of bits, the lowest bit of the first code first. That order, in bytes or in 32-bit words, is the
course's own, GPTQ's and compressed-tensors'; bitsandbytes puts the first of two 4-bit codes into a byte's high half.

Codes are unsigned here, 0 to 2^bits − 1, in uint8; `unsigned` and `signed` go from and to codes around 0.
"""

from collections.abc import Iterator
from math import gcd

import torch


def unsigned(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Signed codes, −2^(bits−1) to 2^(bits−1) − 1, moved up by 2^(bits−1): uint8."""
    return _in_range(codes.long() + 2 ** (bits - 1), bits)


def signed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """The opposite of `unsigned`: int8."""
    return (_in_range(codes, bits).short() - 2 ** (bits - 1)).to(torch.int8)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of a row of `count` codes."""
    return -(-count * bits // 8)


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (…, n), 0 to 2^bits − 1, as bytes (…, ceil(n · bits / 8)), uint8. bits: 1 to 8.

    Code i has the bits i · bits to (i + 1) · bits − 1 of its row; bit b is bit b mod 8 of byte b // 8. Bits beyond the last
    code are 0. Raises ValueError for codes that do not fit.

    >>> pack(torch.tensor([1, 2, 3, 0, 1]), 2).tolist()   # 0b00_11_10_01 and 0b01
    [57, 1]
    """
    codes = _in_range(codes, bits)
    if not codes.ndim:
        raise ValueError("a single code has no row to lie in: give it a dimension")
    count = codes.shape[-1]
    codes_each, bytes_each = _group(bits)
    groups = -(-count // codes_each)
    padded = torch.nn.functional.pad(codes, (0, groups * codes_each - count))
    padded = padded.reshape(*codes.shape[:-1], groups, codes_each)
    made = padded.new_zeros(*codes.shape[:-1], groups, bytes_each)
    for code, byte, shift in _overlaps(bits):
        made[..., byte] |= _shifted(padded[..., code], shift)
    return made.flatten(-2)[..., : packed_bytes(count, bits)].contiguous()


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The first `count` codes of each row of bytes, uint8. Raises ValueError where the row is not as long as that."""
    if packed.dtype != torch.uint8 or packed.shape[-1] != packed_bytes(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits are {packed_bytes(count, bits)} bytes (uint8) in a row, not "
            f"{packed.shape[-1]} of {packed.dtype}"
        )
    codes_each, bytes_each = _group(bits)
    groups = -(-count // codes_each)
    padded = torch.nn.functional.pad(packed, (0, groups * bytes_each - packed.shape[-1]))
    padded = padded.reshape(*packed.shape[:-1], groups, bytes_each)
    made = padded.new_zeros(*packed.shape[:-1], groups, codes_each)
    for code, byte, shift in _overlaps(bits):
        made[..., code] |= _shifted(padded[..., byte], -shift)
    return (made & (2**bits - 1)).flatten(-2)[..., :count].contiguous()


def pack_words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """As `pack`, in 32-bit words (…, ceil(n · bits / 32)), int32: compressed-tensors' `weight_packed` of a weight's
    codes (out_features, in_features), moved up to be unsigned."""
    return to_words(pack(codes, bits))


def unpack_words(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The first `count` codes of each row of words, uint8."""
    return unpack(from_words(words, bits, count), bits, count)


def to_words(packed: torch.Tensor) -> torch.Tensor:
    """Rows of bytes as rows of 32-bit words, int32, the last one filled up with 0; where they fill it, nothing is copied, if
    the bytes lie at a place where words may begin."""
    missing = -packed.shape[-1] % 4
    made = torch.nn.functional.pad(packed, (0, missing)) if missing else packed.contiguous()
    if not made.numel():
        return made.to(torch.int32)
    return (made.clone() if made.storage_offset() % 4 else made).view(torch.int32)


def from_words(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The bytes, uint8, of the first `count` codes of each row of words."""
    made = words.contiguous().view(torch.uint8) if words.numel() else words.to(torch.uint8)
    return made[..., : packed_bytes(count, bits)].contiguous()


def pack_gptq(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (out_features, in_features) as GPTQ's `qweight`, (in_features · bits / 32, out_features), int32: each output's
    codes are a stream that runs down a column. Raises ValueError where the inputs do not fill whole words."""
    if codes.shape[-1] * bits % 32:
        raise ValueError(f"{codes.shape[-1]} inputs of {bits} bits do not fill 32-bit words")
    return pack_words(codes, bits).T.contiguous()


def unpack_gptq(qweight: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (out_features, in_features), uint8, of a `qweight`."""
    return unpack_words(qweight.T, bits, qweight.shape[0] * 32 // bits)


def pack_nibbles(codes: torch.Tensor, filler: int = 0) -> torch.Tensor:
    """4-bit codes, of any shape, as bitsandbytes stores them: flat, (ceil(n / 2), 1), uint8, the first of two codes in
    the high half. `filler` follows a last, odd one."""
    flat = _in_range(codes, 4).reshape(-1)
    flat = torch.nn.functional.pad(flat, (0, flat.numel() % 2), value=filler)
    pairs = flat.view(torch.int16) if flat.numel() else flat.short()  # the first code is the low byte
    return (pairs << 4 | pairs >> 8).to(torch.uint8).unsqueeze(1)


def unpack_nibbles(packed: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` codes, flat, uint8."""
    flat = packed.reshape(-1)
    if packed.dtype != torch.uint8 or len(flat) != packed_bytes(count, 4):
        raise ValueError(
            f"{count} codes of 4 bits are {packed_bytes(count, 4)} bytes (uint8), not {len(flat)} of {packed.dtype}"
        )
    return torch.stack((flat >> 4, flat & 0xF), 1).reshape(-1)[:count]


def _group(bits: int) -> tuple[int, int]:
    """The fewest codes that fill whole bytes, and those bytes: 8 codes of 3 bits, 3 bytes."""
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be from 1 to 8, not {bits}")
    return 8 // gcd(8, bits), bits // gcd(8, bits)


def _overlaps(bits: int) -> Iterator[tuple[int, int, int]]:
    """Which code of a group has bits in which byte, and how far to the left the code is moved there."""
    codes_each, bytes_each = _group(bits)
    for code in range(codes_each):
        for byte in range(bytes_each):
            shift = code * bits - byte * 8
            if -bits < shift < 8:
                yield code, byte, shift


def _shifted(values: torch.Tensor, left: int) -> torch.Tensor:
    return values << left if left >= 0 else values >> -left


def _in_range(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """As uint8. Raises ValueError for codes that are not whole or do not fit."""
    if codes.is_floating_point():
        raise ValueError(f"codes are whole numbers, not {codes.dtype}")
    lowest, highest = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    if lowest < 0 or highest >= 2**bits:
        raise ValueError(f"codes of {bits} bits are 0 to {2**bits - 1}, not {lowest} to {highest}")
    return codes.to(torch.uint8)
