"""PyTorch as a peer: answers commands, one JSON line each, as ../peer_process.ts describes."""

import json
import mmap
import os
import struct
import sys
import time

import torch
import torch.nn.functional as F

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}


class SafetensorsFile:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (header_length,) = struct.unpack_from("<Q", self.bytes)
        self.header = json.loads(self.bytes[8 : 8 + header_length])
        self.begin = 8 + header_length

    def __contains__(self, name):
        return name in self.header

    def read(self, name):
        info = self.header[name]
        dtype = DTYPES[info["dtype"]]
        first, last = info["data_offsets"]
        count = (last - first) // dtype.itemsize
        return torch.frombuffer(self.bytes, dtype=dtype, count=count, offset=self.begin + first).view(info["shape"])


def route(logits, config):
    weights, ids = torch.topk(torch.softmax(logits, dim=-1), config["topK"], dim=-1)
    if config["normalize"]:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, ids


class Loop:
    """The loop over experts that Hugging Face's models run when nothing is fused."""

    def __init__(self, file, config):
        self.config = config
        self.gate, self.up, self.down = (file.read(name).clone() for name in ("gate", "up", "down"))

    def __call__(self, x, logits):
        weights, ids = route(logits, self.config)
        weights = weights.to(x.dtype)
        y = torch.zeros_like(x)
        mask = F.one_hot(ids, self.config["numExperts"]).permute(2, 1, 0)
        for expert in mask.sum(dim=(-1, -2)).nonzero().flatten().tolist():
            slots, tokens = torch.where(mask[expert])
            rows = x[tokens]
            inner = F.silu(F.linear(rows, self.gate[expert])) * F.linear(rows, self.up[expert])
            outer = F.linear(inner, self.down[expert]) * weights[tokens, slots, None]
            y.index_add_(0, tokens, outer)
        return y


class Prepacked:
    """
    Weights reordered once into oneDNN's own layout, activation and product fused into its GEMMs (operators that
    torch.compile uses; no public API), rows sorted by expert once.
    """

    def __init__(self, file, config):
        self.config = config
        self.gate, self.up, self.down = (self.pack(file.read(name)) for name in ("gate", "up", "down"))

    # Rows that oneDNN chooses the layout for: measured as good for hundreds as larger values, and better for one.
    EXPECTED_ROWS = 64

    @classmethod
    def pack(cls, stacked):
        return [torch.ops.mkldnn._reorder_linear_weight(matrix, cls.EXPECTED_ROWS) for matrix in stacked]

    def __call__(self, x, logits):
        linear = torch.ops.mkldnn._linear_pointwise
        top_k = self.config["topK"]
        weights, ids = route(logits, self.config)
        slots = ids.flatten().argsort()
        counts = torch.bincount(ids.flatten(), minlength=self.config["numExperts"]).tolist()
        rows = x[slots // top_k]
        sorted_outputs = torch.empty_like(rows)
        begin = 0
        for expert, count in enumerate(counts):
            if count == 0:
                continue
            own = rows[begin : begin + count]
            gate = linear(own, self.gate[expert], None, "swish", [], "")
            inner = linear.binary(own, gate, self.up[expert], None, "mul")
            sorted_outputs[begin : begin + count] = linear(inner, self.down[expert], None, "none", [], "")
            begin += count
        outputs = torch.empty_like(sorted_outputs)
        outputs[slots] = sorted_outputs
        return torch.bmm(weights.to(x.dtype).unsqueeze(1), outputs.view(*ids.shape, -1)).squeeze(1)


class Peer:
    def __init__(self, variant, directory, weights, config, threads, copies):
        torch.set_num_threads(threads)
        self.file = SafetensorsFile(os.path.join(directory, weights))
        layer = {"loop": Loop, "prepacked": Prepacked}[variant]
        self.layers = [layer(self.file, config) for _ in range(copies)]
        self.inputs = {}

    def inputs_of(self, tokens):
        if tokens not in self.inputs:
            loaded = []
            while f"x.{tokens}.{len(loaded)}" in self.file:
                names = (f"{kind}.{tokens}.{len(loaded)}" for kind in ("x", "logits"))
                loaded.append(tuple(self.file.read(name).clone() for name in names))
            self.inputs[tokens] = loaded
        return self.inputs[tokens]

    def outputs(self, tokens, path):
        with open(path, "wb") as file:
            for x, logits in self.inputs_of(tokens):
                file.write(memoryview(self.layers[0](x, logits).float().numpy()))

    def time(self, tokens, seconds):
        inputs = self.inputs_of(tokens)
        times = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            for x, logits in inputs:
                layer = self.layers[len(times) % len(self.layers)]
                start = time.perf_counter()
                layer(x, logits)
                times.append(time.perf_counter() - start)
        return times


def check_blas():
    """Debian's PyTorch takes whatever BLAS is installed; the reference one would be a straw man, 30 times too slow."""
    maps = "/proc/self/maps"
    if os.path.exists(maps):
        with open(maps) as file:
            if "/blas/libblas.so" in file.read():
                sys.exit("PyTorch runs on the slow reference BLAS: install an optimised one (libopenblas0-openmp)")


@torch.inference_mode()
def main():
    check_blas()
    peer = Peer(**json.loads(sys.argv[1]))
    print(json.dumps({"result": f"torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        result = getattr(peer, command.pop("name"))(**command)
        print(json.dumps({"result": result}), flush=True)


main()
