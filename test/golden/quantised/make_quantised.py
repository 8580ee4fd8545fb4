"""Writes tiny quantised checkpoints and what a layer computes from them. Needs numpy only.

    python3 make_quantised.py [CASE...]

Every case draws codes and scales, computes the weights from them by the format's definition in float64, packs the codes
as the named tools do, and computes the layer's output. Nothing here unpacks, so a reader that mistakes a layout fails.
"""

import json
import pathlib
import struct
import sys

import numpy as np

E, H, I, K, T = 3, 64, 32, 2, 5
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
NF4 = np.array([-1, -.6961928009986877, -.5250730514526367, -.39491748809814453, -.28444138169288635,
                -.18477343022823334, -.09105003625154495, 0, .07958029955625534, .16093020141124725,
                .24611230194568634, .33791524171829224, .44070982933044434, .5626170039176941, .7229568362236023, 1])
FP4 = np.array([0, .0625, 8, 12, 4, 6, 2, 3, -0.0, -.0625, -8, -12, -4, -6, -2, -3]) / 12


# Numbers

def bf16(values):
    """The bits of float32 values that bfloat16 holds exactly after cutting, and those values."""
    bits = (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def f16(values):
    half = np.asarray(values, np.float16)
    return half, half.astype(np.float64)


def f32(values):
    single = np.asarray(values, np.float32)
    return single, single.astype(np.float64)


def e4m3(codes):
    codes = np.asarray(codes, np.int64)
    exponent, fraction = (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, fraction * 2.0**-9, (1 + fraction / 8) * 2.0 ** (exponent - 7))
    return np.where(codes & 128, -size, size)


def e8m0(codes):
    return 2.0 ** (np.asarray(codes, np.int64) - 127)


def expand(scales, rows, columns, shape):
    """Scales of blocks of rows x columns for every weight of a matrix."""
    return np.repeat(np.repeat(scales, rows, 0)[: shape[0]], columns, 1)[:, : shape[1]]


# Packing, as the writers do it

def pairs(codes, high_first=False):
    first, second = codes[..., 0::2], codes[..., 1::2]
    return ((first << 4 | second) if high_first else (first | second << 4)).astype(np.uint8)


def stream(codes, bits):
    """Rows of codes as words of 32 bits, the first code in the lowest bits."""
    rows, columns = codes.shape
    words = np.zeros((rows, -(-columns * bits // 32)), np.uint64)
    for column in range(columns):
        word, shift = divmod(column * bits, 32)
        wide = codes[:, column].astype(np.uint64) << np.uint64(shift)
        words[:, word] |= wide & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[:, word + 1] |= wide >> np.uint64(32)
    return words.astype(np.uint32).view(np.int32)


def awq_words(codes):
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), np.uint32)
    for nibble, column in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        words |= codes[:, column::8].astype(np.uint32) << np.uint32(4 * nibble)
    return words.view(np.int32)


def mlx_packs(codes, bits):
    """As MLX packs: 8 codes of 3 or 5 bits in as many bytes, 4 of 6 bits in 3 bytes, else those of a byte or a word."""
    per_pack, width = {3: (8, 3), 5: (8, 5), 6: (4, 3)}.get(bits, (8 // bits, 1))
    packs = codes.reshape(codes.shape[0], -1, per_pack).astype(np.uint64)
    whole = sum(packs[..., place] << np.uint64(place * bits) for place in range(per_pack))
    data = np.stack([whole >> np.uint64(8 * byte) & np.uint64(255) for byte in range(width)], -1).astype(np.uint8)
    return np.ascontiguousarray(data.reshape(codes.shape[0], -1)).view(np.uint32)


# Formats: a function of (random, shape) that returns the values and the tensors by suffix

def fp8(scale=f32, rows=128, columns=128, suffix="weight_scale_inv", shape_of=lambda scales: scales, kind=None):
    def make(random, shape):
        codes = random.integers(0, 256, shape)
        codes = np.where(codes & 127 == 127, 0x3C, codes).astype(np.uint8)
        size = (1, 1) if rows is None else (-(-shape[0] // rows), -(-shape[1] // (columns or shape[1])))
        if kind is not None:
            stored = random.integers(112, 118, size).astype(np.uint8)
            values = e8m0(stored)
            tensor = ("F8_E8M0", stored) if kind == "e8m0_dtype" else stored
        else:
            stored, values = scale(random.uniform(0.5, 1.5, size) / 4000)
            tensor = ("BF16", stored) if scale is bf16 else stored
        block = (rows or shape[0], columns or shape[1])
        weights = e4m3(codes) * expand(values, *block, shape)
        data = tensor[1] if isinstance(tensor, tuple) else tensor
        data = shape_of(data)
        return weights, {"weight": ("F8_E4M3", codes), suffix: (tensor[0], data) if isinstance(tensor, tuple) else data}
    return make


def mxfp4_codes(random, shape):
    codes = random.integers(0, 16, shape)
    scales = random.integers(118, 124, (shape[0], shape[1] // 32)).astype(np.uint8)
    scales[0, 0] = 0  # 2^-127
    return codes, scales, E2M1[codes] * np.repeat(e8m0(scales), 32, 1)


def packed_mxfp4(random, shape):
    codes, scales, weights = mxfp4_codes(random, shape)
    return weights, {"weight_packed": pairs(codes), "weight_scale": scales}


def plain_mxfp4(random, shape):
    """As Quark and ModelOpt name them."""
    codes, scales, weights = mxfp4_codes(random, shape)
    return weights, {"weight": pairs(codes), "weight_scale": scales}


def deepseek_mxfp4(random, shape):
    codes, scales, weights = mxfp4_codes(random, shape)
    return weights, {"weight": pairs(codes).view(np.int8), "scale": ("F8_E8M0", scales)}


def nvfp4(divided, pre_scale=False):
    def make(random, shape):
        codes = random.integers(0, 16, shape)
        scales = random.integers(0x40, 0x78, (shape[0], shape[1] // 16)).astype(np.uint8)
        whole = np.float32(random.uniform(1, 2) / 1000)
        weights = E2M1[codes] * np.repeat(e4m3(scales), 16, 1)
        tensors = {"weight_scale": ("F8_E4M3", scales)}
        if divided:
            tensors |= {"weight_packed": pairs(codes), "weight_global_scale": np.array([1 / whole], np.float32),
                        "input_global_scale": np.array([7], np.float32)}
            weights = weights / np.float64(np.float32(1 / whole))
        else:
            tensors |= {"weight": pairs(codes), "weight_scale_2": np.array(whole), "input_scale": np.array(np.float32(3))}
            weights = weights * np.float64(whole)
        if pre_scale:
            factors = random.uniform(0.5, 2, shape[1]).astype(np.float32)
            tensors["pre_quant_scale"] = factors
            weights = weights * factors
        return weights, tensors
    return make


def shared_number(make, suffix, value):
    """All matrices with the same number, which stacks have once."""
    def made(random, shape):
        weights, tensors = make(random, shape)
        return weights / np.float64(tensors[suffix]) * np.float64(np.float32(value)), tensors | {suffix: np.float32(value)}
    return made


def pack_quantized(bits, group, symmetric=True, ordered=True, scale=bf16, packed_zeros=True):
    def make(random, shape):
        size = group or shape[1]
        middle, groups = 1 << bits - 1, -(-shape[1] // size)
        codes = random.integers(0, 2 * middle, shape)  # with the middle added
        zeros = np.full((shape[0], groups), middle) if symmetric else random.integers(0, 2 * middle, (shape[0], groups))
        stored, scales = scale(random.uniform(0.5, 1.5, (shape[0], groups)) / (4 * middle))
        group_of = np.arange(shape[1]) // size
        if not ordered:
            group_of = random.permutation(group_of)
        weights = (codes - zeros[:, group_of]) * scales[:, group_of]
        tensors = {"weight_packed": stream(codes, bits), "weight_scale": ("BF16", stored) if scale is bf16 else stored,
                   "weight_shape": np.array(shape, np.int64)}
        if not symmetric:
            tensors["weight_zero_point"] = (np.ascontiguousarray(stream(zeros.T, bits).T) if packed_zeros
                                            else (zeros - middle).astype(np.int8))
        if not ordered:
            tensors["weight_g_idx"] = group_of.astype(np.int32)
        return weights, tensors
    return make


def int_quantized(group=None, symmetric=True, whole=False):
    def make(random, shape):
        if whole:
            codes, zero = random.integers(-128, 128, shape).astype(np.int8), random.integers(-20, 20, 1).astype(np.int8)
            stored, scale = f32(random.uniform(0.5, 1.5, 1) / 500)
            tensors = {"weight": codes, "weight_scale": stored}
            return (codes - zero.astype(float) * (not symmetric)) * scale, tensors if symmetric else tensors | {"weight_zero_point": zero}
        groups = shape[1] // (group or shape[1])
        codes = random.integers(-128, 128, shape).astype(np.int8)
        zeros = np.zeros((shape[0], groups)) if symmetric else random.integers(-128, 128, (shape[0], groups))
        stored, scales = f32(random.uniform(0.5, 1.5, (shape[0], groups)) / 500)
        width = shape[1] // groups
        weights = (codes - np.repeat(zeros, width, 1)) * np.repeat(scales, width, 1)
        tensors = {"weight": codes, "weight_scale": stored}
        return weights, tensors if symmetric else tensors | {"weight_zero_point": zeros.astype(np.int8)}
    return make


def int_blocks(random, shape):
    """blockwise_int8 of SGLang."""
    codes = random.integers(-128, 128, shape).astype(np.int8)
    stored, scales = f32(random.uniform(0.5, 1.5, (-(-shape[0] // 128), -(-shape[1] // 128))) / 500)
    return codes * expand(scales, 128, 128, shape), {"weight": codes, "weight_scale_inv": stored}


def modelopt_int4(group, pre_scale=True):
    def make(random, shape):
        codes = random.integers(-8, 8, shape)
        stored, scales = f32(random.uniform(0.5, 1.5, (shape[0], shape[1] // group)) / 30)
        weights = codes * np.repeat(scales, group, 1)
        tensors = {"weight": ((codes[0::2] & 15) | (codes[1::2] & 15) << 4).astype(np.uint8), "weight_scale": stored}
        if pre_scale:
            factors, used = f16(random.uniform(0.5, 2, shape[1]))
            tensors["pre_quant_scale"] = factors
            weights = weights * used
        return weights, tensors
    return make


def byte_int4(group):
    """w4afp8 of SGLang: two columns a byte."""
    def make(random, shape):
        codes = random.integers(-8, 8, shape)
        bits, scales = bf16(random.uniform(0.5, 1.5, (shape[0], shape[1] // group)) / 30)
        tensors = {"weight": pairs(codes & 15).view(np.int8), "weight_scale_inv": ("BF16", bits), "input_scale": np.ones(1, np.float32)}
        return codes * np.repeat(scales, group, 1), tensors
    return make


def scaled_inputs(make):
    """ModelOpt's factors of the inputs."""
    def made(random, shape):
        weights, tensors = make(random, shape)
        factors = random.uniform(0.5, 2, shape[1]).astype(np.float32)
        return weights * factors, tensors | {"pre_quant_scale": factors}
    return made


def beside(make, **more):
    """With tensors that change nothing."""
    def made(random, shape):
        weights, tensors = make(random, shape)
        return weights, tensors | more
    return made


def gptq(bits, group, version=1, symmetric=False, ordered=True):
    def make(random, shape):
        rows, columns = shape
        size = group or columns
        groups = -(-columns // size)
        codes = random.integers(0, 1 << bits, (columns, rows))
        zeros = random.integers(1 if version == 1 else 0, 1 << bits, (groups, rows))
        if symmetric:
            zeros[:] = 1 << bits - 1
        stored, scales = f16(random.uniform(0.5, 1.5, (groups, rows)) / (4 << bits - 1))
        group_of = np.arange(columns) // size
        if not ordered:
            group_of = random.permutation(group_of)
        weights = scales[group_of] * (codes - zeros[group_of])
        return weights.T, {
            "qweight": np.ascontiguousarray(stream(codes.T, bits).T),
            "qzeros": stream(zeros - (1 if version == 1 else 0), bits),
            "scales": stored,
            "g_idx": group_of.astype(np.int32),
        }
    return make


def awq(group):
    def make(random, shape):
        rows, columns = shape
        groups = columns // group
        codes = random.integers(0, 16, (columns, rows))
        zeros = random.integers(0, 16, (groups, rows))
        stored, scales = f16(random.uniform(0.5, 1.5, (groups, rows)) / 30)
        weights = np.repeat(scales, group, 0) * (codes - np.repeat(zeros, group, 0))
        return weights.T, {"qweight": awq_words(codes), "qzeros": awq_words(zeros), "scales": stored}
    return make


def dynamic_map():
    """bitsandbytes, functional.py: create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8)."""
    values = [0, 1]
    for i in range(7):
        boundaries = np.linspace(0.1, 1, 2**i + 1).astype(np.float32)
        means = np.float32(10.0 ** (i - 6)) * ((boundaries[:-1] + boundaries[1:]) / np.float32(2))
        values += [*means, *-means]
    return np.sort(np.array(values, np.float32))


def bnb4(kind, nested=False, block=64, storage=np.uint8, dynamic=False):
    table = NF4 if kind == "nf4" else FP4
    table32 = table.astype(np.float32)

    def make(random, shape):
        count = int(np.prod(shape))
        codes = random.integers(0, 16, count)
        blocks = -(-count // block)
        tensors = {"weight": pairs(codes, high_first=True).view(storage)[:, None], "weight.quant_map": table32}
        state = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": list(shape)}
        if nested:
            bytes_ = random.integers(0, 256, blocks).astype(np.uint8)
            names = dynamic_map() if dynamic else np.sort(random.uniform(-1, 1, 256)).astype(np.float32)
            sizes = (random.uniform(0.5, 1, -(-blocks // 256)) / 20).astype(np.float32)
            absmax = names.astype(np.float64)[bytes_] * np.repeat(sizes.astype(np.float64), 256)[:blocks] + 0.0625
            tensors |= {"weight.absmax": bytes_, "weight.nested_absmax": sizes, "weight.nested_quant_map": names}
            state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.0625}
        else:
            stored, absmax = f32(random.uniform(0.5, 1.5, blocks) / 4)
            tensors["weight.absmax"] = stored
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        tensors["weight.quant_state.bitsandbytes__" + kind] = text
        weights = table32.astype(np.float64)[codes] * np.repeat(absmax, block)[:count]
        return weights.reshape(shape), tensors
    return make


def bnb8(random, shape):
    codes = random.integers(-127, 128, shape).astype(np.int8)
    stored, sizes = f32(random.uniform(0.5, 1.5, shape[0]) / 4)
    tensors = {"weight": codes, "SCB": stored, "weight_format": np.array(0, np.uint8)}
    return codes * (sizes / 127)[:, None], tensors


# Layers

def mlx_affine(bits, group, scale=bf16):
    """Half of the scales are negative: MLX begins at the end of a group's range that is farther from zero."""
    def make(random, shape):
        codes = random.integers(0, 2**bits, shape)
        size = (shape[0], shape[1] // group)
        scales, factors = scale(random.choice([-1, 1], size) * random.uniform(0.5, 1.5, size) / 2**bits)
        biases, offsets = scale(random.normal(0, 0.3, size))
        weights = codes * np.repeat(factors, group, 1) + np.repeat(offsets, group, 1)
        stored = (("BF16", scales), ("BF16", biases)) if scale is bf16 else (scales, biases)
        return weights, {"weight": mlx_packs(codes, bits), "scales": stored[0], "biases": stored[1]}
    return make


def mlx_floats(mode):
    """mxfp4, mxfp8 and nvfp4, whose bytes are words in the file."""
    def make(random, shape):
        group = 16 if mode == "nvfp4" else 32
        size = (shape[0], shape[1] // group)
        scales = random.integers(*((0x18, 0x28) if mode == "nvfp4" else (118, 122) if mode == "mxfp4" else (112, 116)), size).astype(np.uint8)
        if mode == "mxfp8":
            codes = random.integers(0, 256, shape)
            codes = np.where(codes & 127 == 127, 0x3C, codes)
            numbers, words = e4m3(codes), codes.astype(np.uint8).view(np.uint32)
        else:
            codes = random.integers(0, 16, shape)
            numbers, words = E2M1[codes], mlx_packs(codes, 4)
        return numbers * np.repeat((e4m3 if mode == "nvfp4" else e8m0)(scales), group, 1), {"weight": words, "scales": scales}
    return make


def hqq(bits, group, number=f16, stored=None, axis=1):
    """
    As hqq's HQQLinear writes its state for safetensors. Text and flags that only it needs are there too. With axis 0 the
    weights are floats.
    """
    per, width = {8: (1, np.uint8), 4: (2, np.uint8), 3: (10, np.int32), 2: (4, np.uint8), 1: (8, np.uint8)}[stored or bits]

    def make(random, shape):
        codes = random.integers(0, 3 if bits == 1.58 else 2**bits, shape)
        total = shape[0] * shape[1] // group
        each = (total, 1) if axis == 1 else (1, total)
        (scales, factors), (zeros, offsets) = number(random.uniform(0.5, 1.5, each) / 2**bits), number(random.uniform(0, 2**bits, each))
        groups = codes.reshape((total, group) if axis == 1 else (group, total))
        weights = ((groups - offsets) * factors).reshape(shape)
        step = -(-len(groups) // per)
        padded = np.zeros((per * step, groups.shape[1]), np.int64)
        padded[:len(groups)] = groups
        packed = sum(padded[place * step:(place + 1) * step] << ((stored or bits) * (per - 1 - place)) for place in range(per))
        text = lambda value: np.frombuffer(value.encode(), np.uint8)
        flag = lambda value: np.uint8(value)
        tensors = {"W_q": packed.astype(width), "scale": scales, "zero": zeros, "axis": np.int32(axis), "group_size": np.int32(group),
                   "nbits": np.float32(bits) if bits == 1.58 else np.int32(bits), "shape": np.array(shape, np.int64),
                   "packing": text("3bit_32" if bits == 3 else f"{stored or bits}bit_u8"), "view_as_float": flag(False),
                   "unpack_view_dtype": text("torch.uint8"), "compute_dtype": text("torch.float16"), "quant_scale": flag(False),
                   "quant_zero": flag(False), "offload_meta": flag(False), "encoded_state_dict": flag(True),
                   "stores_quant_config": flag(True), "channel_wise": flag(True), "optimize": flag(True), "round_zero": flag(bits == 4)}
        if number is bf16:
            tensors |= {"scale": ("BF16", scales), "zero": ("BF16", zeros)}
        return weights, tensors
    return make


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def swiglu(gate, up):
    return gate / (1 + np.exp(-gate)) * up


def mixture(x, logits, count, expert):
    """Softmax over the chosen logits, as both families here define their weights."""
    out = np.zeros_like(x)
    for token, row in enumerate(x):
        chosen = np.argsort(-logits[token])[:count]
        for weight, index in zip(softmax(logits[token][chosen]), chosen):
            out[token] += weight * expert(index, row)
    return out


def draw_router(random, hidden):
    bits, router = bf16(random.normal(0, 0.5, (E, hidden)))
    return ("BF16", bits), router


def qwen_layer(random, matrices, router, hidden, inner):
    """The configuration, tokens and output of a Qwen3-MoE layer with matrices by expert and role."""
    x = random.normal(0, 1, (T, hidden)).astype(np.float32)
    rows = x.astype(np.float64)

    def expert(index, row):
        gate, up, down = (matrices[index, role] for role in ("gate", "up", "down"))
        return down @ swiglu(gate @ row, up @ row)

    config = {"model_type": "qwen3_moe", "num_hidden_layers": 1, "hidden_size": hidden, "moe_intermediate_size": inner,
              "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": True, "hidden_act": "silu",
              "torch_dtype": "bfloat16"}
    return config, x, mixture(rows, rows @ router.T, K, expert)


def qwen(make, quantization, hidden=H, inner=I, quantize_router=False, files=None, config_name="quantization_config"):
    """A layer of Qwen3-MoE with its matrices in a format."""
    def build(random):
        block = "model.layers.0.mlp"
        tensors, matrices = {}, {}
        shapes = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
        for expert in range(E):
            for role, shape in shapes.items():
                matrices[expert, role], parts = make(random, shape)
                tensors |= {f"{block}.experts.{expert}.{role}_proj.{name}": part for name, part in parts.items()}
        if quantize_router:
            router, parts = make(random, (E, hidden))
            tensors |= {f"{block}.gate.{name}": part for name, part in parts.items()}
        else:
            tensors[f"{block}.gate.weight"], router = draw_router(random, hidden)
        config, x, output = qwen_layer(random, matrices, router, hidden, inner)
        if quantization is not None:
            config[config_name] = quantization
        return config, tensors, x, output, files or {}
    return build


def mlx(makes, quantization, hidden=H, inner=I):
    """As {@link qwen}, with a format for each of gate, up and down, each in a stack as mlx-lm writes them."""
    def build(random):
        block = "model.layers.0.mlp"
        tensors, matrices = {}, {}
        shapes = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
        for (role, shape), make in zip(shapes.items(), makes):
            drawn = [make(random, shape) for _ in range(E)]
            matrices |= {(expert, role): weights for expert, (weights, _) in enumerate(drawn)}
            for suffix, first in drawn[0][1].items():
                parts = [tensors_[suffix] for _, tensors_ in drawn]
                whole = (first[0], np.stack([data for _, data in parts])) if isinstance(first, tuple) else np.stack(parts)
                tensors[f"{block}.switch_mlp.{role}_proj.{suffix}"] = whole
        tensors[f"{block}.gate.weight"], router = draw_router(random, hidden)
        config, x, output = qwen_layer(random, matrices, router, hidden, inner)
        config |= {"quantization": quantization, "quantization_config": quantization}
        return config, tensors, x, output, {}
    return build


def fp8_halves(random, shape):
    """A scale for each half of the rows of gate and up, one for the whole of down."""
    codes = random.integers(0, 256, shape)
    codes = np.where(codes & 127 == 127, 0x3C, codes).astype(np.uint8)
    stored, scales = f32(random.uniform(0.5, 1.5, 2 if shape[0] == 2 * I else 1) / 4000)
    return e4m3(codes) * np.repeat(scales, shape[0] // len(scales))[:, None], {"weight": ("F8_E4M3", codes), "weight_scale": stored}


def floats(number, dtype):
    def make(random, shape):
        stored, weights = number(random.normal(0, 0.2, shape))
        return weights, {"weight": (dtype, stored)}
    return make


def shared(make, make_shared, quantization, width, routed=I):
    """A layer of Qwen2-MoE whose shared expert has a format and a width of its own."""
    def build(random):
        block = "model.layers.0.mlp"
        tensors, matrices = {}, {}
        for expert in [*range(E), "shared"]:
            stem, inner = (f"{block}.shared_expert", width) if expert == "shared" else (f"{block}.experts.{expert}", routed)
            for role, shape in {"gate": (inner, H), "up": (inner, H), "down": (H, inner)}.items():
                matrices[expert, role], parts = (make_shared if expert == "shared" else make)(random, shape)
                tensors |= {f"{stem}.{role}_proj.{name}": part for name, part in parts.items()}
        tensors[f"{block}.gate.weight"], router = draw_router(random, H)
        bits, shared_gate = bf16(random.normal(0, 0.3, (1, H)))
        tensors[f"{block}.shared_expert_gate.weight"] = ("BF16", bits)
        x = random.normal(0, 1, (T, H)).astype(np.float32)
        rows = x.astype(np.float64)

        def expert(index, row):
            gate, up, down = (matrices[index, role] for role in ("gate", "up", "down"))
            return down @ swiglu(gate @ row, up @ row)

        output = mixture(rows, rows @ router.T, K, expert)
        output += np.stack([expert("shared", row) / (1 + np.exp(-(shared_gate @ row))) for row in rows])
        config = {"model_type": "qwen2_moe", "num_hidden_layers": 1, "hidden_size": H, "moe_intermediate_size": routed,
                  "shared_expert_intermediate_size": width, "num_experts": E, "num_experts_per_tok": K,
                  "norm_topk_prob": True, "hidden_act": "silu", "torch_dtype": "bfloat16",
                  "quantization_config": quantization}
        return config, tensors, x, output, {}
    return build


def minimax_m2(make, quantization, hidden=160, inner=144):
    """A layer of MiniMax-M2: chosen by the sigmoid plus a bias, weighted by the sigmoids, renormalised."""
    def build(random):
        block = "model.layers.0.block_sparse_moe"
        tensors, matrices = {}, {}
        for expert in range(E):
            for name, shape in {"w1": (inner, hidden), "w3": (inner, hidden), "w2": (hidden, inner)}.items():
                matrices[expert, name], parts = make(random, shape)
                tensors |= {f"{block}.experts.{expert}.{name}.{suffix}": part for suffix, part in parts.items()}
        tensors[f"{block}.gate.weight"], router = draw_router(random, hidden)
        stored, bias = f32(np.array([0.4, -0.3, 0.1]))
        tensors[f"{block}.e_score_correction_bias"] = stored
        x = random.normal(0, 1, (T, hidden)).astype(np.float32)
        rows = x.astype(np.float64)
        scores = 1 / (1 + np.exp(-(rows @ router.T)))
        output = np.zeros_like(rows)
        for token, row in enumerate(rows):
            chosen = np.argsort(-(scores[token] + bias))[:K]
            for expert in chosen:
                gate, up, down = (matrices[expert, name] for name in ("w1", "w3", "w2"))
                weight = scores[token, expert] / scores[token, chosen].sum()
                output[token] += weight * (down @ swiglu(gate @ row, up @ row))
        config = {"model_type": "minimax", "architectures": ["MiniMaxM2ForCausalLM"], "num_hidden_layers": 1,
                  "hidden_size": hidden, "intermediate_size": inner, "num_local_experts": E, "num_experts_per_tok": K,
                  "scoring_func": "sigmoid", "use_routing_bias": True, "shared_intermediate_size": 0, "hidden_act": "silu",
                  "quantization_config": quantization}
        return config, tensors, x, output, {}
    return build


def stacked(make, quantization, names=("gate_up_proj", "down_proj"), join="_", hidden=H, turned=(), once=()):
    """As {@link qwen}, with the experts in two stacks as Transformers 5 names them; some tensors with inputs first."""
    def build(random):
        block = "model.layers.0.mlp"
        gate_up, down = ([make(random, shape) for _ in range(E)] for shape in ((2 * I, hidden), (hidden, I)))
        tensors = {}
        for name, list_ in zip(names, (gate_up, down)):
            for suffix in list_[0][1]:
                parts = [tensors_[suffix] for _, tensors_ in list_]
                if suffix in once:
                    parts = parts[0]
                whole = np.array(parts) if suffix in once else (parts[0][0], np.stack([part[1] for part in parts])) if isinstance(parts[0], tuple) else np.stack(parts)
                if suffix in turned:
                    whole = (whole[0], np.swapaxes(whole[1], 1, 2)) if isinstance(whole, tuple) else np.swapaxes(whole, 1, 2)
                tail = suffix.removeprefix("weight").lstrip("_")
                tensors[f"{block}.experts.{name}{join if tail else ''}{tail}"] = whole
        tensors[f"{block}.gate.weight"], router = draw_router(random, hidden)
        x = random.normal(0, 1, (T, hidden)).astype(np.float32)
        rows = x.astype(np.float64)

        def expert(index, row):
            both = gate_up[index][0] @ row
            return down[index][0] @ swiglu(both[:I], both[I:])

        config = {"model_type": "qwen3_moe", "num_hidden_layers": 1, "hidden_size": hidden, "moe_intermediate_size": I,
                  "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": True, "torch_dtype": "bfloat16",
                  "quantization_config": quantization}
        return config, tensors, x, mixture(rows, rows @ router.T, K, expert), {}
    return build


def stacked_bnb(make, quantization, hidden=H, inner=I):
    """Two stacks of which bitsandbytes quantised each as one stream (nn/parametrize.py)."""
    def build(random):
        block = "model.layers.0.mlp"
        tensors, stacks = {}, []
        for name, shape in {"gate_up_proj": (E, 2 * inner, hidden), "down_proj": (E, hidden, inner)}.items():
            weights, parts = make(random, shape)
            stacks.append(weights)
            tensors |= {f"{block}.experts.{name}{suffix.removeprefix('weight')}": part for suffix, part in parts.items()}
        tensors[f"{block}.gate.weight"], router = draw_router(random, hidden)
        x = random.normal(0, 1, (T, hidden)).astype(np.float32)
        rows = x.astype(np.float64)

        def expert(index, row):
            both = stacks[0][index] @ row
            return stacks[1][index] @ swiglu(both[:inner], both[inner:])

        config = {"model_type": "qwen3_moe", "num_hidden_layers": 1, "hidden_size": hidden, "moe_intermediate_size": inner,
                  "num_experts": E, "num_experts_per_tok": K, "norm_topk_prob": True, "quantization_config": quantization}
        return config, tensors, x, mixture(rows, rows @ router.T, K, expert), {}
    return build


def gpt_oss_results(random, gate, tensors, matrices, biases):
    """Draws the router and the tokens; matrices and biases are those of gate and up rows, taking turns, and of down."""
    tensors[f"{gate}.weight"], router = draw_router(random, H)
    bits, router_bias = bf16(random.normal(0, 0.2, E))
    tensors[f"{gate}.bias"] = ("BF16", bits)
    x = random.normal(0, 2, (T, H)).astype(np.float32)
    rows = x.astype(np.float64)

    def expert(index, row):
        both = matrices[0][index] @ row + biases[0][index]
        gate, up = np.minimum(both[0::2], 7), np.clip(both[1::2], -7, 7)
        return matrices[1][index] @ (gate / (1 + np.exp(-1.702 * gate)) * (up + 1)) + biases[1][index]

    return x, mixture(rows, rows @ router.T + router_bias, K, expert)


def gpt_oss_experts(make, names, quantization, router_name="router"):
    """gpt-oss with linear layers for each expert: gate and up rows taking turns, or, with three names, in two of them."""
    def turns(gate, up):
        return np.stack((gate, up), 1).reshape(2 * len(gate), *gate.shape[1:])

    def build(random):
        block = "model.layers.0.mlp"
        shapes = ((2 * I, H), (H, I)) if len(names) == 2 else ((I, H), (I, H), (H, I))
        tensors, matrices, biases = {}, ([], []), ([], [])
        for expert in range(E):
            own = []
            for name, shape in zip(names, shapes):
                module = f"{block}.experts.{name.format(expert)}"
                matrix, parts = make(random, shape)
                bits, bias = bf16(random.normal(0, 0.2, shape[0]))
                own.append((matrix, bias))
                tensors |= {f"{module}.{suffix}": part for suffix, part in parts.items()} | {f"{module}.bias": ("BF16", bits)}
            *both, down = own
            for role, pair in enumerate((both[0] if len(both) == 1 else [turns(*two) for two in zip(*both)], down)):
                matrices[role].append(pair[0])
                biases[role].append(pair[1])
        x, output = gpt_oss_results(random, f"{block}.{router_name}", tensors, matrices, biases)
        config = {"model_type": "gpt_oss", "num_hidden_layers": 1, "hidden_size": H, "intermediate_size": I,
                  "swiglu_limit": 7.0, "num_local_experts": E, "num_experts_per_tok": K, "quantization_config": quantization}
        return config, tensors, x, output, {}
    return build


def gpt_oss(original=False, bias_number=bf16):
    def stored(bits):
        return ("BF16", bits) if bias_number is bf16 else bits

    def build(random):
        block = "block.0.mlp" if original else "model.layers.0.mlp"
        names = {"gate_up": "mlp1", "down": "mlp2"} if original else {"gate_up": "gate_up_proj", "down": "down_proj"}
        tensors, matrices, biases = {}, [], []
        for role, shape in {"gate_up": (2 * I, H), "down": (H, I)}.items():
            codes, scales, weights = zip(*(mxfp4_codes(random, shape) for _ in range(E)))
            blocks = pairs(np.stack(codes)).reshape(E, shape[0], shape[1] // 32, 16)
            bits, bias = bias_number(random.normal(0, 0.2, (E, shape[0])))
            matrices.append(weights)
            biases.append(bias)
            if original:
                stem = f"{block}.{names[role]}_"
                tensors |= {stem + "weight.blocks": blocks, stem + "weight.scales": np.stack(scales), stem + "bias": stored(bits)}
            else:
                stem = f"{block}.experts.{names[role]}_"
                tensors |= {stem + "blocks": blocks, stem + "scales": np.stack(scales), stem + "bias": stored(bits)}
        gate = f"{block}.gate" if original else f"{block}.router"
        x, output = gpt_oss_results(random, gate, tensors, matrices, biases)
        config = {"num_hidden_layers": 1, "hidden_size": H, "intermediate_size": I, "swiglu_limit": 7.0}
        if original:
            config |= {"num_experts": E, "experts_per_token": K}
        else:
            config |= {"model_type": "gpt_oss", "num_local_experts": E, "num_experts_per_tok": K,
                       "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.mlp.router"]}}
        return config, tensors, x, output, {}
    return build


def group_config(format_, *others, **weights):
    every = [weights, *({**weights, **other} for other in others)]
    groups = {f"group_{index}": {"targets": ["Linear"], "weights": one} for index, one in enumerate(every)}
    return {"quant_method": "compressed-tensors", "format": format_, "config_groups": groups}


blocks = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
plain_fp8 = {"quant_method": "fp8", "activation_scheme": "static"}
gptq_config = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
awq_config = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
auto_round_config = {"quant_method": "auto-round", "bits": 4, "group_size": 16, "sym": False, "data_type": "int"}
modelopt_file = {"hf_quant_config.json": {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}}
bnb_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def hqq_config(bits, group_size, axis=1):
    params = {"nbits": bits, "group_size": group_size, "channel_wise": True, "optimize": True, "round_zero": bits == 4, "axis": axis, "view_as_float": False}
    return {"quant_method": "hqq", "skip_modules": ["lm_head"], "quant_config": {"offload_meta": False, "scale_quant_params": None,
                                                                                    "zero_quant_params": None, "weight_quant_params": params}}


def mlx_config(bits, group_size, mode="affine"):
    return {"group_size": group_size, "bits": bits, "mode": mode}



cases = {
    "fp8_blocks": qwen(fp8(), blocks, hidden=160, inner=144),
    "fp8_blocks_bf16": qwen(fp8(bf16), blocks, hidden=160, inner=144),
    "fp8_one_block": qwen(fp8(suffix="weight_scale"), group_config("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[128, 128])),
    "fp8_column_of_blocks": qwen(fp8(suffix="weight_scale"), group_config("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[128, 128]), hidden=48, inner=160),
    "fp8_channel": qwen(fp8(bf16, 1, None, "weight_scale"), group_config("float-quantized", num_bits=8, type="float", strategy="channel")),
    "fp8_channel_vector": qwen(fp8(f32, 1, None, "weight_scale", lambda scales: scales[:, 0]), plain_fp8),
    "fp8_tensor": qwen(fp8(f32, None, None, "weight_scale", lambda scales: scales[0, 0]), plain_fp8),
    "fp8_tensor_bf16": qwen(fp8(bf16, None, None, "weight_scale", lambda scales: scales[0]), group_config("float-quantized", num_bits=8, type="float", strategy="tensor")),
    # The shared expert is stored in pieces that cut its blocks.
    "fp8_blocks_shared": shared(fp8(), fp8(bf16), blocks, 144, routed=48),
    "fp8_groups": qwen(fp8(bf16, 1, 16, "weight_scale"), group_config("float-quantized", num_bits=8, type="float", strategy="group", group_size=16)),
    "fp8_groups_as_blocks": qwen(fp8(f32, 1, 32), blocks | {"weight_block_size": [1, 32]}, hidden=96),
    "fp8_blocks_as_text": qwen(fp8(bf16, suffix="weight_scale"), group_config("float-quantized", num_bits=8, type="float", strategy="block", block_structure="128x128"), hidden=160, inner=144),
    "fp8_blocks_modelopt": qwen(fp8(suffix="weight_scale", shape_of=lambda scales: scales[:, None, :, None]), {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, hidden=160, inner=144),
    "fp8_blocks_e8m0": qwen(fp8(kind="e8m0_dtype"), blocks | {"scale_fmt": "ue8m0"}, hidden=160, inner=144),
    "fp8_stacked_inputs_first": stacked(fp8(f32, 1, None, "weight_scale"), {"quant_method": "fbgemm_fp8"}, hidden=96, turned=("weight", "weight_scale")),
    "fp8_blocks_stacked_inputs_first": stacked(fp8(), blocks, hidden=160, turned=("weight", "weight_scale_inv")),
    "fp8_stacked_halves": stacked(fp8_halves, {"quant_method": "modelopt", "quant_algo": "FP8"}, hidden=96),
    "nvfp4_stacked_inputs_first": stacked(shared_number(nvfp4(divided=False), "weight_scale_2", 0.0015), {"quant_method": "modelopt", "quant_algo": "NVFP4"}, hidden=96, turned=("weight", "weight_scale"), once=("weight_scale_2", "input_scale")),
    "bf16_stacked_inputs_first": stacked(floats(bf16, "BF16"), None, hidden=96, turned=("weight",)),
    "fp8_minimax_m2": minimax_m2(fp8(), blocks | {"modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}),
    "fp8_blocks_stacked": stacked(fp8(), blocks),
    "mxfp8": qwen(fp8(None, 1, 32, "weight_scale_inv", kind="e8m0"), {"quant_method": "mxfp8"}),
    "gpt_oss": gpt_oss(),
    "gpt_oss_original": gpt_oss(original=True),
    "gpt_oss_f32_biases": gpt_oss(bias_number=f32),
    "gpt_oss_bnb": gpt_oss_experts(bnb4("nf4"), ("gate_up_projs.{}", "down_projs.{}"), bnb_config, "router.linear"),
    "gpt_oss_quark": gpt_oss_experts(plain_mxfp4, ("{}.gate_up_proj", "{}.down_proj"), {"quant_method": "quark"}),
    # As llm-compressor, GPTQModel and AutoRound have it.
    "gpt_oss_linear": gpt_oss_experts(pack_quantized(4, 32), ("{}.gate_proj", "{}.up_proj", "{}.down_proj"), group_config("pack-quantized", num_bits=4, strategy="group", group_size=32)),
    "mxfp4_plain": qwen(plain_mxfp4, {"quant_method": "quark"}),
    "deepseek_mxfp4": qwen(deepseek_mxfp4, {"quant_method": "fp8"}),
    "mxfp4_packed": qwen(packed_mxfp4, group_config("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32)),
    "nvfp4_packed": qwen(nvfp4(divided=True), group_config("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16)),
    "nvfp4_modelopt": qwen(nvfp4(divided=False), None, files=modelopt_file),
    "nvfp4_modelopt_awq": qwen(nvfp4(divided=False, pre_scale=True), None, files=modelopt_file),
    "int4_packed": qwen(pack_quantized(4, 32), group_config("pack-quantized", num_bits=4, strategy="group", group_size=32, symmetric=True)),
    "int4_packed_asymmetric": qwen(pack_quantized(4, 16, symmetric=False), group_config("pack-quantized", num_bits=4, strategy="group", group_size=16, symmetric=False)),
    "int4_packed_ordered": qwen(pack_quantized(4, 16, ordered=False), group_config("pack-quantized", num_bits=4, strategy="group", group_size=16, actorder="group")),
    "int4_packed_stacked": stacked(pack_quantized(4, 16, scale=f16), group_config("pack-quantized", num_bits=4, strategy="group", group_size=16)),
    # The last group has fewer columns.
    "int4_packed_smaller_group": qwen(pack_quantized(4, 64, symmetric=False), group_config("pack-quantized", num_bits=4, strategy="group", group_size=64, symmetric=False), hidden=96, inner=160),
    # The name of the first compressed-tensors.
    "int4_packed_compression_config": qwen(pack_quantized(4, 64), group_config("pack-quantized", num_bits=4, strategy="group", group_size=64), hidden=96, inner=160, config_name="compression_config"),
    "int4_packed_shared": shared(pack_quantized(4, 16), pack_quantized(4, 64), group_config("pack-quantized", {"group_size": 16}, num_bits=4, strategy="group", group_size=64), 192, routed=48),
    "int4_packed_plain_zeros": qwen(pack_quantized(4, 16, symmetric=False, packed_zeros=False), group_config("pack-quantized", num_bits=4, strategy="group", group_size=16, symmetric=False)),
    "int8_blocks": qwen(int_blocks, {"quant_method": "blockwise_int8", "weight_block_size": [128, 128]}, hidden=160, inner=144),
    "int8_packed": qwen(pack_quantized(8, None, scale=f32), group_config("pack-quantized", num_bits=8, strategy="channel")),
    "int8_packed_asymmetric": qwen(pack_quantized(8, 32, symmetric=False), group_config("pack-quantized", num_bits=8, strategy="group", group_size=32, symmetric=False)),
    "int3_packed": qwen(pack_quantized(3, 16), group_config("pack-quantized", num_bits=3, strategy="group", group_size=16), hidden=48),
    "int8_channel": qwen(int_quantized(), group_config("int-quantized", num_bits=8, strategy="channel")),
    "int8_asymmetric": qwen(int_quantized(symmetric=False), group_config("int-quantized", num_bits=8, strategy="channel", symmetric=False)),
    "int8_tensor": qwen(int_quantized(whole=True), group_config("int-quantized", num_bits=8, strategy="tensor")),
    "int8_tensor_asymmetric": qwen(int_quantized(symmetric=False, whole=True), group_config("int-quantized", num_bits=8, strategy="tensor", symmetric=False)),
    "int4_modelopt": qwen(modelopt_int4(16), {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}),
    # Stacks of square matrices.
    "int4_modelopt_stacked": stacked(modelopt_int4(16, pre_scale=False), {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}),
    "int4_modelopt_stacked_narrow": stacked(modelopt_int4(16, pre_scale=False), {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, hidden=32),
    "int4_modelopt_fp8": qwen(beside(modelopt_int4(16), weight_scale_2=np.float32(3), input_scale=np.float32(2)), {"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}),
    "int4_w4afp8": qwen(byte_int4(32), {"quant_method": "w4afp8", "group_size": 32}, hidden=96),
    "int8_modelopt": qwen(scaled_inputs(int_quantized()), {"quant_method": "modelopt", "quant_algo": "W8A8_SQ_PER_CHANNEL"}),
    "gptq": qwen(gptq(4, 32), gptq_config),
    "gptq_symmetric": qwen(gptq(4, 16, symmetric=True), gptq_config | {"checkpoint_format": "gptq", "sym": True, "group_size": 16}),
    "gptq_v2": qwen(gptq(4, 16, version=2), gptq_config | {"checkpoint_format": "gptq_v2", "group_size": 16}),
    "gptq_act_order": qwen(gptq(4, 16, ordered=False), gptq_config | {"desc_act": True, "group_size": 16}),
    "gptq_smaller_group": qwen(gptq(4, 64, ordered=False), gptq_config | {"desc_act": True, "group_size": 64}, hidden=96, inner=160),
    "gptq_shared_f16": shared(gptq(4, 16, ordered=False), floats(f16, "F16"), gptq_config | {"desc_act": True, "group_size": 16}, 32),
    "gptq_shared_act_order": shared(gptq(4, 16), gptq(4, 16, ordered=False), gptq_config | {"desc_act": True, "group_size": 16}, 80),
    "int4_shared_bf16": shared(pack_quantized(4, 32), floats(bf16, "BF16"), group_config("pack-quantized", num_bits=4, strategy="group", group_size=32), 80),
    "gptq_8_bits": qwen(gptq(8, 32), gptq_config | {"bits": 8}),
    "gptq_3_bits": qwen(gptq(3, 32), gptq_config | {"bits": 3}),
    "gptq_2_bits": qwen(gptq(2, 32), gptq_config | {"bits": 2}),
    "gptq_whole_rows": qwen(gptq(4, None), gptq_config | {"group_size": -1}),
    # The shared expert's last piece is narrower than the others.
    "gptq_whole_rows_shared": shared(gptq(4, None), gptq(4, None), gptq_config | {"group_size": -1}, 80),
    "int8_asymmetric_shared": shared(int_quantized(symmetric=False), int_quantized(symmetric=False), group_config("int-quantized", num_bits=8, strategy="channel", symmetric=False), 80),
    "gptq_own_file": qwen(gptq(4, 16, version=2), None, files={"quantize_config.json": {"bits": 4, "group_size": 16, "desc_act": False, "checkpoint_format": "gptq_v2"}}),
    # Some modules have an order.
    "gptq_dynamic_order": shared(gptq(4, 16), gptq(4, 16, ordered=False), gptq_config | {"group_size": 16, "dynamic": {"+:.*shared.*": {"desc_act": True}}}, 32),
    # AutoRound stores zero points as they are, unless it names auto_gptq.
    "auto_round": qwen(gptq(4, 16, version=2), auto_round_config | {"packing_format": "auto_round"}),
    "auto_round_gptqmodel": qwen(gptq(4, 16, version=2), auto_round_config | {"packing_format": "auto_round:gptqmodel"}),
    # Before April 2025 it wrote another method, and "backend".
    "auto_round_backend": qwen(gptq(4, 16, version=2), auto_round_config | {"quant_method": "intel/auto-round", "backend": "auto_round:exllamav2"}),
    "auto_round_backend_gptq": qwen(gptq(4, 16), auto_round_config | {"quant_method": "intel/auto-round", "backend": "auto_round:gptq:exllamav2"}),
    "auto_round_auto_gptq": qwen(gptq(4, 16), auto_round_config | {"packing_format": "auto_round:auto_gptq"}),
    "awq_gptqmodel": qwen(awq(32), {"quant_method": "awq", "checkpoint_format": "gemm", "bits": 4, "group_size": 32, "zero_point": True}),
    "awq": qwen(awq(32), awq_config),
    "awq_square": qwen(awq(16), awq_config | {"version": "GEMM", "group_size": 16}, hidden=32, inner=32),
    "bnb_nf4": qwen(bnb4("nf4"), bnb_config | {"bnb_4bit_quant_type": "nf4"}, hidden=64, inner=64),
    "bnb_fp4": qwen(bnb4("fp4", block=32), bnb_config | {"bnb_4bit_quant_type": "fp4"}),
    "bnb_nested": qwen(bnb4("nf4", nested=True), bnb_config, hidden=64, inner=192),
    "bnb_nested_kept": qwen(bnb4("nf4", nested=True, dynamic=True), bnb_config, hidden=256, inner=96),
    # Its down projection is cut at 64 columns.
    "bnb_nested_shared": shared(bnb4("nf4"), bnb4("nf4", nested=True, dynamic=True), bnb_config, 256, routed=64),
    "bnb_across_rows": qwen(bnb4("nf4"), bnb_config, hidden=96, inner=32),
    "bnb_stacked": stacked_bnb(bnb4("nf4"), bnb_config),
    "bnb_nested_stacked": stacked_bnb(bnb4("nf4", nested=True, dynamic=True), bnb_config, hidden=256, inner=256),
    "bnb_large_blocks": qwen(bnb4("nf4", block=4096), bnb_config, hidden=64, inner=128),
    "bnb_router": qwen(bnb4("nf4"), bnb_config, hidden=64, inner=64, quantize_router=True),
    "bnb_storage": qwen(bnb4("nf4", storage=np.float16), bnb_config, hidden=64, inner=64),
    "mlx_2_bits": mlx([mlx_affine(2, 64)] * 3, mlx_config(2, 64), hidden=128, inner=64),
    "mlx_3_bits": mlx([mlx_affine(3, 32)] * 3, mlx_config(3, 32), hidden=96, inner=32),
    "mlx_3_bits_g128": mlx([mlx_affine(3, 128, f16)] * 3, mlx_config(3, 128), hidden=256, inner=128),
    "mlx_5_bits": mlx([mlx_affine(5, 64)] * 3, mlx_config(5, 64), hidden=128, inner=64),
    "mlx_5_bits_g32": mlx([mlx_affine(5, 32, f32)] * 3, mlx_config(5, 32), hidden=96, inner=32),
    "mlx_6_bits": mlx([mlx_affine(6, 64)] * 3, mlx_config(6, 64), hidden=128, inner=64),
    "mlx_6_bits_g32": mlx([mlx_affine(6, 32, f16)] * 3, mlx_config(6, 32), hidden=96, inner=32),
    "mlx_8_bits": mlx([mlx_affine(8, 32)] * 3, mlx_config(8, 32)),
    # Of other bits, groups and modes than the first fields say.
    "mlx_overrides": mlx([mlx_affine(6, 32), mlx_affine(5, 32), mlx_affine(3, 64)], mlx_config(4, 64) | {
        "model.layers.0.mlp.gate": False,
        "model.layers.0.mlp.switch_mlp.gate_proj": mlx_config(6, 32),
        "model.layers.0.mlp.switch_mlp.up_proj": mlx_config(5, 32),
        "model.layers.0.mlp.switch_mlp.down_proj": mlx_config(3, 64)}, inner=64),
    "mlx_modes": mlx([mlx_floats("mxfp4"), mlx_floats("mxfp8"), mlx_floats("nvfp4")], mlx_config(4, 32, "mxfp4") | {
        "model.layers.0.mlp.switch_mlp.up_proj": mlx_config(8, 32, "mxfp8"),
        "model.layers.0.mlp.switch_mlp.down_proj": mlx_config(4, 16, "nvfp4")}),
    "hqq_8_bits": qwen(hqq(8, 64), hqq_config(8, 64), inner=64),
    "hqq_6_bits": qwen(hqq(6, 16, stored=8), hqq_config(6, 16)),
    "hqq_5_bits": qwen(hqq(5, 32, bf16, stored=8), hqq_config(5, 32)),
    "hqq_4_bits": qwen(hqq(4, 64, bf16), hqq_config(4, 64), inner=64),
    # In rows of 32-bit words, the last of which have room for more groups than there are.
    "hqq_3_bits": qwen(hqq(3, 32), hqq_config(3, 32), hidden=96),
    # Rows whose codes end inside a byte.
    "hqq_3_bits_odd": qwen(hqq(3, 36), hqq_config(3, 36), hidden=36, inner=36),
    "hqq_2_bits": qwen(hqq(2, 16), hqq_config(2, 16)),
    "hqq_ternary": qwen(hqq(1.58, 32, stored=2), hqq_config(1.58, 32)),
    "hqq_1_bit": qwen(hqq(1, 32, f32), hqq_config(1, 32)),
    "hqq_8_bits_outputs": qwen(hqq(8, 64, f32, axis=0), hqq_config(8, 64, 0)),
    "hqq_4_bits_outputs": qwen(hqq(4, 64, axis=0), hqq_config(4, 64, 0)),
    "hqq_2_bits_outputs": qwen(hqq(2, 16, bf16, axis=0), hqq_config(2, 16, 0)),
    # Words with room for more lines than there are, and groups that are no whole rows apart.
    "hqq_3_bits_outputs": qwen(hqq(3, 36, axis=0), hqq_config(3, 36, 0), hidden=48, inner=36),
    "bnb_int8": qwen(bnb8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
}

dtypes = {np.uint8: "U8", np.int8: "I8", np.float16: "F16", np.int32: "I32", np.uint32: "U32", np.float32: "F32", np.int64: "I64", np.float64: "F64"}


def write_safetensors(path, tensors, metadata=None):
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    named = {name: tensor if isinstance(tensor, tuple) else (dtypes[np.asarray(tensor).dtype.type], tensor)
             for name, tensor in tensors.items()}
    for name, (dtype, array) in sorted(named.items(), key=lambda item: (-np.asarray(item[1][1]).dtype.itemsize, item[0])):
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(np.shape(array)), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_case(name, files, tensors, x, output, metadata=None):
    """Writes JSON files by name, the model's tensors, and what its layer makes of x."""
    assert np.isfinite(output).all() and np.abs(output).max() > 1e-3, name
    folder = pathlib.Path(name)
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", tensors, metadata)
    write_safetensors(folder / "expected.safetensors", {"x": x, "output": output})


def main(names):
    for name in names or cases:
        config, tensors, x, output, files = cases[name](np.random.default_rng(list(name.encode())))
        write_case(name, {"config.json": config} | files, tensors, x, output)


if __name__ == "__main__":
    main(sys.argv[1:])
