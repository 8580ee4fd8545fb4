"""Writes grids.safetensors: the grids of GGUF's IQ types, random blocks of them and of the types of few bits, and values.

    python3 make_grids.py

Needs numpy and gguf, the Python package of llama.cpp (0.17 or later), whose dequantize() decodes the blocks. It does not
know Q1_0 and Q2_0: these are decoded here, as dequantize_row_q1_0 and dequantize_row_q2_0 of ggml-quants.c do it.
"""
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants

from safetensors_of import write_safetensors

GRIDS = ("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
# Type: bytes of a block, and where its float16 is.
TYPES = {
    "IQ1_S": (50, 0),
    "IQ1_M": (56, None),
    "IQ2_XXS": (66, 0),
    "IQ2_XS": (74, 0),
    "IQ2_S": (82, 0),
    "IQ3_XXS": (98, 0),
    "IQ3_S": (110, 0),
    "TQ1_0": (54, 52),
    "TQ2_0": (66, 64),
    "Q1_0": (18, 0),
    "Q2_0": (18, 0),
}
BLOCKS = 4


def random_blocks(generator, size, half):
    blocks = generator.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    values = generator.normal(0, 0.02, BLOCKS).astype("<f2")
    if half is not None:
        blocks[:, half : half + 2] = values.view(np.uint8).reshape(BLOCKS, 2)
        return blocks
    # IQ1_M: a float16 in the upper four bits of every other of the last eight bytes.
    for part in range(4):
        bits = (values.view(np.uint16) >> 4 * part & 15).astype(np.uint8)
        blocks[:, 49 + 2 * part] = blocks[:, 49 + 2 * part] & 15 | bits << 4
    return blocks


def decode(name, blocks):
    if name not in ("Q1_0", "Q2_0"):
        return quants.dequantize(blocks, GGMLQuantizationType[name])
    bits = 1 if name == "Q1_0" else 2
    scales = blocks[:, :2].copy().view("<f2").astype(np.float64)
    codes = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").reshape(len(blocks), -1, bits)
    numbers = (codes * (1 << np.arange(bits))).sum(2).astype(np.float64)
    return scales * (2 * numbers - 1 if bits == 1 else numbers - 1)


generator = np.random.default_rng(9)
tensors = {}
for name, (size, half) in TYPES.items():
    blocks = random_blocks(generator, size, half)
    tensors[f"{name}.values"] = decode(name, blocks).astype(np.float64)
    tensors[f"{name}.blocks"] = blocks
for name in GRIDS:
    reader = getattr(quants, name)
    reader.init_grid()
    # Below zero there is only -1 of IQ1_S.
    tensors[f"{name}.grid"] = (reader.grid.reshape(reader.grid_shape) + (name == "IQ1_S")).astype(np.uint8)
values_first = dict(sorted(tensors.items(), key=lambda item: item[1].dtype.name))
write_safetensors(Path(__file__).parent / "grids.safetensors", values_first)
