"""Writes tiny checkpoints that torchao 0.18.0 quantises and takes apart. Needs torch and torchao; numpy for make_quantised.py.

    python3 make_torchao.py [CASE...]

Weights are what torchao's own dequantisation gives. Int4Tensor has none without a GPU: its parts are made here, by the
definition of int4_row_quantize_zp and pack_int4 in FBGEMM, on which torchao calls.
"""

import sys

import numpy as np
import torch
from torchao.core.config import config_to_dict
from torchao.prototype.mx_formats.mx_tensor import MXTensor
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
from torchao.quantization import (Float8Tensor, Float8WeightOnlyConfig, Int4Tensor, Int4WeightOnlyConfig, Int8Tensor,
                                  Int8WeightOnlyConfig, IntxUnpackedToInt8Tensor, IntxWeightOnlyConfig)
from torchao.quantization.granularity import PerBlock, PerRow, PerTensor
from torchao.quantization.quant_primitives import MappingType, dequantize_affine

from make_quantised import E, H, I, draw_router, qwen_layer, write_case

dtypes = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e8m0fnu: "F8_E8M0", torch.bfloat16: "BF16", torch.float32: "F32",
          torch.float16: "F16", torch.int8: "I8", torch.uint8: "U8"}


def float8(granularity):
    def make(weights):
        tensor = Float8Tensor.from_hp(weights, granularity=granularity)
        return tensor, tensor.dequantize(torch.float32)
    return make, Float8WeightOnlyConfig()


def int8(granularity, mapping, has_zeros=True):
    def make(weights):
        tensor = Int8Tensor.from_hp(weights, granularity=granularity, mapping_type=mapping)
        exact = tensor.dequantize(torch.float32)
        if not has_zeros:  # as 0.15 had it
            tensor.zero_point = None
        return tensor, exact
    return make, Int8WeightOnlyConfig(version=2)


def int4(group, scaled=False):
    def quantised(weights):
        groups = weights.float().reshape(len(weights), -1, group)
        low, high = groups.amin(-1), groups.amax(-1)
        scales = ((high - low).clamp(min=1e-6) / 15)
        added = low + 8 * scales
        codes = ((groups - low[..., None]) / scales[..., None]).round().clamp(0, 15).to(torch.int8) - 8
        codes = codes.reshape(weights.shape)
        parts = [part.to(torch.bfloat16) for part in (scales, added)]
        exact = codes.reshape(groups.shape).double() * parts[0][..., None].double() + parts[1][..., None].double()
        packed = (codes[:, ::2] & 15) | (codes[:, 1::2] << 4)
        return packed, *(part.t().contiguous() for part in parts), exact.reshape(weights.shape)

    def make(weights):
        *parts, exact = (torch.stack(part) for part in zip(*map(quantised, weights.reshape(-1, *weights.shape[-2:]))))
        shape = weights.shape[:-2]
        parts = [part.reshape(*shape, *part.shape[1:]) for part in parts]
        factors = torch.linspace(0.5, 1.5, weights.shape[-1], dtype=torch.bfloat16) if scaled else None
        tensor = Int4Tensor(*parts, [1] * len(shape) + [1, group], weights.shape, act_pre_scale=factors)
        return tensor, exact.reshape(weights.shape) * (factors.double() if scaled else 1)
    return make, Int4WeightOnlyConfig(group_size=group)


def intx(dtype, group, mapping):
    def make(weights):
        block = (1, group or weights.shape[-1])
        tensor = IntxUnpackedToInt8Tensor.from_hp(weights, block, dtype, mapping_type=mapping)
        exact = dequantize_affine(tensor.qdata, block, tensor.scale, tensor.zero_point, torch.int8, output_dtype=torch.float32)
        return tensor, exact
    return make, IntxWeightOnlyConfig(weight_dtype=dtype)


def mx(dtype):
    def make(weights):
        tensor = MXTensor.to_mx(weights, dtype, 32)
        return tensor, tensor.dequantize(torch.float32)
    return make, None


def nvfp4(weights):
    tensor = NVFP4Tensor.to_nvfp4(weights, per_tensor_scale=weights.float().abs().max() / (448 * 6))
    return tensor, tensor.dequantize(torch.float32)


def qwen(scheme, hidden=H, inner=I, stacked=False):
    make, quantization = scheme

    def build(random):
        block = "model.layers.0.mlp"
        state, matrices = {}, {}

        def add(name, *shape):
            drawn = torch.from_numpy(random.normal(0, 0.2, shape).astype(np.float32)).to(torch.bfloat16)
            state[name], exact = make(drawn)
            return exact.double().numpy()

        if stacked:
            pairs = add(f"{block}.experts.gate_up_proj", E, 2 * inner, hidden)
            downs = add(f"{block}.experts.down_proj", E, hidden, inner)
            for expert in range(E):
                matrices |= {(expert, "gate"): pairs[expert, :inner], (expert, "up"): pairs[expert, inner:], (expert, "down"): downs[expert]}
        else:
            shapes = {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
            for expert in range(E):
                for role, shape in shapes.items():
                    matrices[expert, role] = add(f"{block}.experts.{expert}.{role}_proj.weight", *shape)
        (_, bits), router = draw_router(random, hidden)
        state[f"{block}.gate.weight"] = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16)
        config, x, output = qwen_layer(random, matrices, router, hidden, inner)
        quant_type = {"default": config_to_dict(quantization)} if quantization is not None else {}
        config["quantization_config"] = {"quant_method": "torchao", "quant_type": quant_type,
                                         "include_input_output_embeddings": False, "modules_to_not_convert": None}
        return config, *flatten_tensor_state_dict(state), x, output
    return build


symmetric, asymmetric = MappingType.SYMMETRIC, MappingType.ASYMMETRIC
cases = {
    "torchao_float8_row": qwen(float8(PerRow())),
    "torchao_float8_tensor": qwen(float8(PerTensor())),
    "torchao_float8_blocks": qwen(float8(PerBlock([128, 128])), hidden=256, inner=128),
    "torchao_float8_stacked": qwen(float8(PerRow()), stacked=True),
    "torchao_float8_stacked_tensor": qwen(float8(PerTensor()), stacked=True),
    "torchao_int8": qwen(int8(PerRow(), symmetric)),
    "torchao_int8_asymmetric": qwen(int8(PerRow(), asymmetric)),
    "torchao_int8_tensor": qwen(int8(PerTensor(), asymmetric)),
    "torchao_int8_without_zeros": qwen(int8(PerRow(), symmetric, has_zeros=False)),
    "torchao_int8_stacked": qwen(int8(PerRow(), symmetric), stacked=True),
    "torchao_int4": qwen(int4(32)),
    "torchao_int4_awq": qwen(int4(32, scaled=True)),
    # Rows whose halves are as long as the matrix is high.
    "torchao_int4_stacked": qwen(int4(16), stacked=True, hidden=128),
    "torchao_intx_8_bits": qwen(intx(torch.int8, None, symmetric)),
    "torchao_intx_4_bits": qwen(intx(torch.int4, 32, asymmetric)),
    "torchao_intx_3_bits": qwen(intx(torch.int3, 16, asymmetric)),
    "torchao_intx_1_bit": qwen(intx(torch.int1, 32, asymmetric)),
    "torchao_mxfp8": qwen(mx(torch.float8_e4m3fn)),
    "torchao_mxfp4": qwen(mx(torch.float4_e2m1fn_x2)),
    "torchao_nvfp4": qwen((nvfp4, None)),
}


def as_array(tensor):
    wide = {torch.float32: np.float32, torch.int8: np.int8, torch.uint8: np.uint8}.get(tensor.dtype)
    if wide is not None:
        return dtypes[tensor.dtype], tensor.contiguous().numpy()
    bits = torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8
    return dtypes[tensor.dtype], tensor.contiguous().view(bits).numpy()


def main(names):
    for name in names or cases:
        config, tensors, metadata, x, output = cases[name](np.random.default_rng(list(name.encode())))
        arrays = {key: as_array(tensor) for key, tensor in tensors.items()}
        write_case(name, {"config.json": config}, arrays, x, output, metadata)


if __name__ == "__main__":
    main(sys.argv[1:])
