"""Packed codes: bit by bit where the layout says, and equal to what the libraries store."""

import pytest
import torch
from bitsandbytes import functional
from compressed_tensors.compressors.pack_quantized import helpers as compressed_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from coursepkg import packing

BITS = st.integers(1, 8)


def codes_of(bits: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2**bits, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@settings(max_examples=100, deadline=None)
@given(bits=BITS, rows=st.integers(0, 4), count=st.integers(0, 70), seed=st.integers(0, 1000))
def test_what_is_packed_comes_back(bits, rows, count, seed):
    codes = codes_of(bits, rows, count, seed=seed)
    packed = packing.pack(codes, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, -(-count * bits // 8))
    assert torch.equal(packing.unpack(packed, bits, count), codes)
    assert torch.equal(packing.unpack_words(packing.pack_words(codes, bits), bits, count), codes)


@settings(max_examples=50, deadline=None)
@given(bits=BITS, count=st.integers(1, 70), seed=st.integers(0, 1000))
def test_every_bit_lies_where_the_layout_says(bits, count, seed):
    """Bit k of code i is bit (i · bits + k) of the row, and all others are 0."""
    codes = codes_of(bits, count, seed=seed).tolist()
    stream = sum(code << i * bits for i, code in enumerate(codes))
    packed = packing.pack(torch.tensor(codes), bits)
    assert bytes(packed.tolist()) == stream.to_bytes(-(-count * bits // 8), "little")
    words = packing.pack_words(torch.tensor(codes), bits).tolist()
    found = b"".join(word.to_bytes(4, "little", signed=True) for word in words)
    assert found == stream.to_bytes(len(words) * 4, "little")


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("columns", [32, 96, 33, 7])
def test_compressed_tensors_reads_and_writes_the_same(bits, columns):
    codes = packing.signed(codes_of(bits, 5, columns), bits)
    ours = packing.pack_words(packing.unsigned(codes, bits), bits)
    assert torch.equal(ours, compressed_tensors.pack_to_int32(codes, bits))
    back = compressed_tensors.unpack_from_int32(ours, bits, torch.Size(codes.shape))
    assert torch.equal(back, codes)


def test_gptq_by_hand():
    """3 bits, as AutoGPTQ writes them out: ten codes and two bits of the eleventh in the first word, its third bit at the
    bottom of the second, the lowest bit of the twenty-second at its top."""
    codes = codes_of(3, 1, 32)
    first, second, third = packing.pack_gptq(codes, 3).reshape(-1).tolist()
    c = codes[0].tolist()
    words = (
        sum(c[j] << 3 * j for j in range(10)) | (c[10] & 3) << 30,
        c[10] >> 2 | sum(c[11 + j] << 3 * j + 1 for j in range(10)) | (c[21] & 1) << 31,
        c[21] >> 1 | sum(c[22 + j] << 3 * j + 2 for j in range(10)),
    )
    assert [word & 0xFFFFFFFF for word in (first, second, third)] == list(words)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_stacks_an_outputs_inputs_in_a_column(bits):
    codes = codes_of(bits, 5, 64)
    qweight = packing.pack_gptq(codes, bits)
    assert qweight.shape == (64 * bits // 32, 5) and qweight.dtype == torch.int32
    assert torch.equal(packing.unpack_gptq(qweight, bits), codes)
    if 32 % bits == 0:
        for place in range(64):
            word = qweight[place * bits // 32].long() & 0xFFFFFFFF
            assert torch.equal(word >> place * bits % 32 & 2**bits - 1, codes[:, place].long())


@pytest.mark.parametrize("count", [64, 127, 1])
def test_nibbles_lie_as_bitsandbytes_has_them(count):
    """Levels of NF4 as values, a 1 in each block: then bitsandbytes must give each level its own code, and code 7, that
    of 0, to the place after a last odd one."""
    codes = codes_of(4, count)
    codes[::64] = 15
    levels = functional.get_4bit_type("nf4", device="cpu")
    packed, _ = functional.quantize_4bit(levels[codes.long()], blocksize=64, quant_type="nf4")
    assert torch.equal(packing.pack_nibbles(codes, filler=7), packed)
    assert torch.equal(packing.unpack_nibbles(packed, count), codes)


def test_signed_and_unsigned():
    codes = torch.arange(-4, 4, dtype=torch.int8)
    assert packing.unsigned(codes, 3).tolist() == list(range(8))
    assert torch.equal(packing.signed(packing.unsigned(codes, 3), 3), codes)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: packing.pack(torch.tensor([0, 4]), 2), "codes of 2 bits are 0 to 3, not 0 to 4"),
        (lambda: packing.pack(torch.tensor([-1]), 4), "codes of 4 bits are 0 to 15, not -1 to -1"),
        (lambda: packing.pack(torch.tensor([0.5]), 4), "codes are whole numbers, not torch.float32"),
        (lambda: packing.pack(torch.tensor([1]), 9), "bits must be from 1 to 8, not 9"),
        (lambda: packing.unsigned(torch.tensor([-9]), 4), "codes of 4 bits"),
        (
            lambda: packing.pack_gptq(torch.zeros(2, 33, dtype=torch.uint8), 4),
            "33 inputs of 4 bits do not fill",
        ),
        (
            lambda: packing.unpack(torch.zeros(3, dtype=torch.uint8), 4, 7),
            "7 codes of 4 bits are 4 bytes .* not 3 of torch.uint8",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_codes_that_no_dtype_may_wrap():
    with pytest.raises(ValueError, match="codes of 4 bits are 0 to 15"):
        packing.unsigned(torch.tensor([65536]), 4)
    with pytest.raises(ValueError, match="codes of 4 bits are 0 to 15"):
        packing.signed(torch.tensor([200]), 4)
    with pytest.raises(ValueError, match="no row to lie in"):
        packing.pack(torch.tensor(3), 4)
    for stored in (2, 4):
        with pytest.raises(ValueError, match="6 codes of 4 bits are 3 bytes"):
            packing.unpack_nibbles(torch.zeros(stored, 1, dtype=torch.uint8), 6)
