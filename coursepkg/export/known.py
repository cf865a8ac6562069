"""The layouts that are known here, and the names of a checkpoint's files."""

from coursepkg.export.compressed_tensors import PackQuantized
from coursepkg.export.gptq import Gptq
from coursepkg.export.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "compressed-tensors": PackQuantized(),
    "gptq": Gptq(),
    "gptq_v2": Gptq(version=2),
}
CONFIG, TENSORS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
