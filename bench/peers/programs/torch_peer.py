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
        # Matrices of their own, as models have them; the gradient of a part of a tensor would be as large as all of it.
        self.gate, self.up, self.down = ([one.clone() for one in file.read(name)] for name in ("gate", "up", "down"))
        self.router = file.read("router").clone()

    def parameters(self):
        return [self.router, *self.gate, *self.up, *self.down]

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


class Inference:
    """Calls from the router's logits."""

    kinds = ("x", "logits")

    def __init__(self, layers):
        self.layers = layers

    @torch.inference_mode()
    def __call__(self, number, x, logits):
        return [self.layers[number % len(self.layers)](x, logits)]


class Training:
    """A forward with the router, and automatic differentiation of it. Returns the gradients of x and of all weights."""

    kinds = ("x", "dy")

    def __init__(self, layers):
        self.layers = layers
        for layer in layers:
            for parameter in layer.parameters():
                parameter.requires_grad_()

    def forward(self, layer, x):
        # In float32, so that rounding does not change the choice of experts.
        logits = F.linear(x.float(), layer.router.float())
        return layer(x, logits)

    def __call__(self, number, x, dy):
        layer = self.layers[number % len(self.layers)]
        for parameter in layer.parameters():
            parameter.grad = None
        x = x.detach().requires_grad_()
        self.forward(layer, x).backward(dy)
        rows = [[self.row(one) for one in matrices] for matrices in (layer.gate, layer.up, layer.down)]
        return [x.grad, layer.router.grad, *(row for matrices in rows for row in matrices)]

    @staticmethod
    def row(matrix):
        """The first row of its gradient; zeros for an expert without tokens."""
        return torch.zeros_like(matrix[0]) if matrix.grad is None else matrix.grad[0]

    def kept(self, x, _dy):
        """Bytes of the storages that wait for backward, besides x and the weights."""
        layer = self.layers[0]
        own = {tensor.untyped_storage().data_ptr() for tensor in (x, *layer.parameters())}
        storages = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = self.forward(layer, x.detach().requires_grad_())
        del y
        return sum(storages.values())


class Peer:
    def __init__(self, variant, directory, weights, config, threads, copies, training):
        torch.set_num_threads(threads)
        self.file = SafetensorsFile(os.path.join(directory, weights))
        layer = {"loop": Loop, "prepacked": Prepacked}[variant]
        layers = [layer(self.file, config) for _ in range(copies)]
        self.call = Training(layers) if training else Inference(layers)
        self.inputs = {}

    def inputs_of(self, tokens):
        if tokens not in self.inputs:
            loaded = []
            while f"x.{tokens}.{len(loaded)}" in self.file:
                names = (f"{kind}.{tokens}.{len(loaded)}" for kind in self.call.kinds)
                loaded.append(tuple(self.file.read(name).clone() for name in names))
            self.inputs[tokens] = loaded
        return self.inputs[tokens]

    def outputs(self, tokens, path):
        with open(path, "wb") as file:
            for inputs in self.inputs_of(tokens):
                for output in self.call(0, *inputs):
                    file.write(memoryview(output.float().contiguous().numpy()))

    def time(self, tokens, seconds):
        inputs = self.inputs_of(tokens)
        times = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            for input in inputs:
                start = time.perf_counter()
                self.call(len(times), *input)
                times.append(time.perf_counter() - start)
        return times

    def kept(self, tokens):
        return self.call.kept(*self.inputs_of(tokens)[0])


def check_blas():
    """Debian's PyTorch takes whatever BLAS is installed; the reference one would be a straw man, 30 times too slow."""
    maps = "/proc/self/maps"
    if os.path.exists(maps):
        with open(maps) as file:
            if "/blas/libblas.so" in file.read():
                sys.exit("PyTorch runs on the slow reference BLAS: install an optimised one (libopenblas0-openmp)")


def main():
    check_blas()
    peer = Peer(**json.loads(sys.argv[1]))
    print(json.dumps({"result": f"torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        result = getattr(peer, command.pop("name"))(**command)
        print(json.dumps({"result": result}), flush=True)


main()
