"""Writes blocks.safetensors: random blocks of every GGUF type that moe-kernels reads, and their values.

    python3 make_gguf.py FOLDER

FOLDER has quant_ref.py, which decodes the blocks in float64 and was checked against ggml's own dequantize_row_*
functions (ggml-org/ggml, src/ggml-quants.c). Needs numpy.
"""
import sys
from pathlib import Path

import numpy as np

from safetensors_of import write_safetensors

sys.path.insert(0, sys.argv[1])
import quant_ref

# Type: bytes of a block, where its float16 values are, and its decoder.
TYPES = {
    "Q4_0": (18, [0], quant_ref.g_q4_0),
    "Q4_1": (20, [0, 2], quant_ref.g_q4_1),
    "Q5_0": (22, [0], quant_ref.g_q5_0),
    "Q5_1": (24, [0, 2], quant_ref.g_q5_1),
    "Q8_0": (34, [0], quant_ref.g_q8_0),
    "Q2_K": (84, [80, 82], quant_ref.g_q2_K),
    "Q3_K": (110, [108], quant_ref.g_q3_K),
    "Q4_K": (144, [0, 2], quant_ref.g_q4_K),
    "Q5_K": (176, [0, 2], quant_ref.g_q5_K),
    "Q6_K": (210, [208], quant_ref.g_q6_K),
    "IQ4_NL": (18, [0], quant_ref.g_iq4_nl),
    "IQ4_XS": (136, [0], quant_ref.g_iq4_xs),
    "MXFP4": (17, [], quant_ref.g_mxfp4),
    "NVFP4": (36, [], quant_ref.g_nvfp4),
}
BLOCKS = 4


def random_blocks(generator, size, halves):
    blocks = generator.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for place in halves:
        values = generator.normal(0, 0.02, BLOCKS).astype("<f2")
        blocks[:, place : place + 2] = values.view(np.uint8).reshape(BLOCKS, 2)
    if size == 17:
        blocks[:, 0] = [0, 1, 127, 254]  # the exponents of MXFP4: the smallest, subnormal in float32, and the largest
    return blocks


generator = np.random.default_rng(8)
tensors = {}
for name, (size, halves, decode) in TYPES.items():
    blocks = random_blocks(generator, size, halves)
    tensors[f"{name}.values"] = np.stack([decode(block) for block in blocks]).astype(np.float64)
    tensors[f"{name}.blocks"] = blocks
values_first = dict(sorted(tensors.items(), key=lambda item: item[1].dtype.name))
write_safetensors(Path(__file__).parent / "blocks.safetensors", values_first)
