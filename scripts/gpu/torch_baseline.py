"""
What PyTorch reaches on this GPU, for the layers of a plan (see plan.mjs) in JSON: the ceilings (a large copy, a large bf16 product) and two implementations of the layer, the loop
over experts that models run when nothing is fused, and torch._grouped_mm. Both are first checked against the golden file that the
devices are checked against, on its weights. Times by events, medians.
"""

import json
import statistics
import struct
import sys

import torch
import torch.nn.functional as F

GOLDEN = "test/golden/mixtral/mixtral_mid.safetensors"
TOLERANCE = 2e-2
DTYPES = {"F32": torch.float32, "F64": torch.float64, "I32": torch.int32}


def read_safetensors(path):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        count = (last - first) // dtype.itemsize
        flat = torch.frombuffer(data, dtype=dtype, count=count, offset=8 + length + first)
        tensors[name] = flat.view(entry["shape"]).clone()
    return tensors, metadata


def route(x, router, k, normalize):
    weights, ids = torch.topk(torch.softmax(F.linear(x.float(), router.float()), dim=-1), k, dim=-1)
    return (weights / weights.sum(-1, keepdim=True) if normalize else weights), ids


def expert_loop(x, ids, weights, gate_up, down):
    y = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert in range(gate_up.shape[0]):
        tokens, slots = torch.where(ids == expert)
        if tokens.numel() == 0:
            continue
        gate, up = F.linear(x[tokens], gate_up[expert]).chunk(2, dim=-1)
        out = F.linear(F.silu(gate) * up, down[expert])
        y.index_add_(0, tokens, out.float() * weights[tokens, slots, None])
    return y.to(x.dtype)


def grouped_mm(x, ids, weights, gate_up, down):
    experts, k = gate_up.shape[0], ids.shape[1]
    order = torch.argsort(ids.flatten(), stable=True)
    ends = torch.bincount(ids.flatten(), minlength=experts).cumsum(0).to(torch.int32)
    gate, up = torch._grouped_mm(x[order // k], gate_up.transpose(1, 2), offs=ends).chunk(2, dim=-1)
    out = torch._grouped_mm((F.silu(gate) * up).contiguous(), down.transpose(1, 2), offs=ends)
    y = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    y.index_add_(0, order // k, out.float() * weights.flatten()[order, None])
    return y.to(x.dtype)


def microseconds(call, samples=9, calls=10):
    call()
    times = []
    for _ in range(samples):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / calls)
    return statistics.median(times)


def print_ceilings():
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    time = microseconds(lambda: target.copy_(source))
    print(f"copy of 1 GiB: {2 * source.numel() / time / 1e3:.0f} GB/s read and written", flush=True)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    time = microseconds(lambda: a @ b)
    print(f"bf16 product 8192^3: {2 * 8192**3 / time / 1e6:.0f} TFLOP/s", flush=True)


def works(implementation):
    tensors, metadata = read_safetensors(GOLDEN)
    config, roles = json.loads(metadata["config"]), json.loads(metadata["tensors"])

    def experts(role):
        names = [roles[role]["name"].replace("{e}", str(e)) for e in range(config["num_experts"])]
        return torch.stack([tensors[name] for name in names]).to("cuda", torch.bfloat16)

    gate_up = torch.cat([experts("expert_gate"), experts("expert_up")], dim=1)
    ids = tensors["topk_ids"].long().cuda()
    x = tensors["x"].to("cuda", torch.bfloat16)
    try:
        y = implementation(x, ids, tensors["topk_weights"].cuda(), gate_up, experts("expert_down"))
    except (AttributeError, RuntimeError) as error:
        print(f"{implementation.__name__}: does not run here: {error}")
        return False
    expected = tensors["output_f64"]
    error = ((y.double().cpu() - expected).abs().max() / expected.abs().max()).item()
    print(f"{implementation.__name__}: error {error:.1e} on {GOLDEN}, tolerance {TOLERANCE:.0e}", flush=True)
    return error <= TOLERANCE


def main():
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
    print_ceilings()
    implementations = [each for each in (expert_loop, grouped_mm) if works(each)]
    plan = json.loads(sys.argv[1])
    for shape, config in plan["shapes"].items():
        names = ("hiddenSize", "intermediateSize", "numExperts", "topK", "normalize")
        hidden, inner, experts, k, normalize = (config[name] for name in names)
        gate_up = torch.randn(experts, 2 * inner, hidden, device="cuda", dtype=torch.bfloat16) * hidden**-0.5
        down = torch.randn(experts, hidden, inner, device="cuda", dtype=torch.bfloat16) * inner**-0.5
        router = torch.randn(experts, hidden, device="cuda", dtype=torch.bfloat16) * hidden**-0.5
        for tokens in plan["tokens"]:
            x = torch.randn(tokens, hidden, device="cuda", dtype=torch.bfloat16)
            for implementation in implementations:

                def layer():
                    weights, ids = route(x, router, k, normalize)
                    return implementation(x, ids, weights, gate_up, down)

                print(f"{shape:15} {implementation.__name__:22} {tokens:6} {microseconds(layer):10.1f} us", flush=True)
        del gate_up, down
        torch.cuda.empty_cache()


with torch.inference_mode():
    main()
