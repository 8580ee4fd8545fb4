"""
Writes training/: runs of the Transformer of examples/transformer by PyTorch, with its autograd and its AdamW, in float64. Every
file has the weights at the beginning and at the end, the batches, and the loss of each step.

    python3 make_training.py

Needs torch, numpy and safetensors. No two keys by which a router chooses are so close that rounding could swap them.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn import functional

FOLDER = Path(__file__).parent / "training"
STEPS, SEQUENCES, SEED, LEARNING_RATE = 12, 3, 3, 0.01
MARGIN = 3e-5
"""Smallest difference of the least key that is chosen and the largest that is not."""

SIZES = {"vocabulary": 24, "hiddenSize": 8, "layers": 2, "heads": 2, "intermediateSize": 8, "context": 8}
MIXTURE = {"experts": 4, "topK": 2, "intermediateSize": 6}


def config(balance, causal=True, norm="rms"):
    return {**SIZES, "causal": causal, "norm": norm, "mixture": {**MIXTURE, "balance": balance}}


CASES = {
    "decoder_loss": config("loss"),
    "decoder_loss_free": config("loss-free"),
    "decoder_noisy": config("noisy"),
    "encoder_loss_free": config("loss-free", causal=False, norm="layer"),
}


def normals(count, seed):
    """Philox4x32-10, 4 numbers of a counter, and Box-Muller."""
    mask, values = 2**32 - 1, []
    for counter in range(math.ceil(count / 4)):
        words, key = [counter, 0, 0, 0], [seed & mask, seed >> 32]
        for _ in range(10):
            first, second = 0xD2511F53 * words[0], 0xCD9E8D57 * words[2]
            words = [(second >> 32) ^ words[1] ^ key[0], second & mask, (first >> 32) ^ words[3] ^ key[1], first & mask]
            key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
        uniform = [((word >> 9) + 0.5) / 2**23 for word in words]
        for a, b in (uniform[:2], uniform[2:]):
            radius, angle = math.sqrt(-2 * math.log(a)), 2 * math.pi * b
            values += [radius * math.cos(angle), radius * math.sin(angle)]
    return values[:count]


def draw_weights(cfg, rng):
    hidden, vocabulary = cfg["hiddenSize"], cfg["vocabulary"]
    weights = {}

    def take(name, *shape, mean=0.0, deviation=0.3):
        weights[name] = (mean + deviation * rng.standard_normal(shape)).astype(np.float32)

    def norm(name):
        take(f"{name}.gain", hidden, mean=1.0, deviation=0.1)
        if cfg["norm"] == "layer":
            take(f"{name}.shift", hidden, deviation=0.1)

    take("embedding", vocabulary, hidden, deviation=1.0)
    for layer in range(cfg["layers"]):
        block = f"blocks.{layer}"
        norm(f"{block}.attentionNorm")
        take(f"{block}.attention.project", 3 * hidden, hidden)
        take(f"{block}.attention.output", hidden, hidden)
        norm(f"{block}.feedForwardNorm")
        if layer % 2 == 0:
            inner = cfg["intermediateSize"]
            take(f"{block}.feedForward.gateUp", 2 * inner, hidden)
            take(f"{block}.feedForward.down", hidden, inner)
            continue
        experts, inner, balance = (cfg["mixture"][name] for name in ("experts", "intermediateSize", "balance"))
        take(f"{block}.mixture.router", experts, hidden)
        if balance == "noisy":
            take(f"{block}.mixture.noiseRouter", experts, hidden)
        take(f"{block}.mixture.experts.gateUp", experts, 2 * inner, hidden)
        take(f"{block}.mixture.experts.down", experts, hidden, inner)
        if balance == "loss-free":
            take(f"{block}.mixture.selectionBias", experts, deviation=0.05)
    norm("finalNorm")
    take("head", vocabulary, hidden)
    return weights


def draw_batches(cfg, rng):
    shape, vocabulary = (STEPS, SEQUENCES * cfg["context"]), cfg["vocabulary"]
    ids = rng.integers(0, vocabulary, shape)
    targets = (5 * ids + 1 + rng.integers(0, 2, shape)) % vocabulary
    if not cfg["causal"]:
        targets[rng.random(shape) > 0.4] = -1
    return ids.astype(np.int32), targets.astype(np.int32)


class Model:
    def __init__(self, cfg, weights, dtype):
        self.cfg, self.dtype = cfg, dtype
        tensors = {name: torch.tensor(values, dtype=dtype) for name, values in weights.items()}
        self.biases = {name: tensor for name, tensor in tensors.items() if name.endswith("selectionBias")}
        self.weights = {name: tensor.requires_grad_() for name, tensor in tensors.items() if name not in self.biases}
        self.margin = math.inf

    def norm(self, x, name):
        gain = self.weights[f"{name}.gain"]
        if self.cfg["norm"] == "layer":
            return functional.layer_norm(x, gain.shape, gain, self.weights[f"{name}.shift"], 1e-5)
        return gain * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)

    def attention(self, x, name):
        heads, (_, length, hidden) = self.cfg["heads"], x.shape
        size = hidden // heads
        parts = (x @ self.weights[f"{name}.project"].T).view(-1, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        angles = torch.arange(length)[:, None] * 10000.0 ** (-2 * torch.arange(size // 2, dtype=torch.float64) / size)
        cosine, sine = angles.cos().to(self.dtype), angles.sin().to(self.dtype)

        def turned(rows):
            a, b = rows.chunk(2, -1)
            return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)

        y = functional.scaled_dot_product_attention(
            turned(parts[0]), turned(parts[1]), parts[2], is_causal=self.cfg["causal"]
        )
        return y.transpose(1, 2).reshape(x.shape) @ self.weights[f"{name}.output"].T

    def swiglu(self, x, gate_up, down):
        gate, up = (x @ gate_up.T).chunk(2, -1)
        return (functional.silu(gate) * up) @ down.T

    def mixture(self, x, name, seed):
        experts, top_k, balance = (self.cfg["mixture"][field] for field in ("experts", "topK", "balance"))
        logits = x @ self.weights[f"{name}.router"].T
        if balance == "noisy":
            noise = torch.tensor(normals(logits.numel(), seed), dtype=torch.float64).view(logits.shape).to(self.dtype)
            logits = logits + noise * (functional.softplus(x @ self.weights[f"{name}.noiseRouter"].T) + 0.01)
        scores = logits.softmax(-1)
        bias = self.biases.get(f"{name}.selectionBias", torch.zeros(experts, dtype=self.dtype))
        keys, order = (scores.detach() + bias).sort(descending=True)
        self.margin = min(self.margin, (keys[:, top_k - 1] - keys[:, top_k]).min().item())
        ids = order[:, :top_k]
        factors = scores.gather(1, ids)
        factors = factors / factors.sum(-1, keepdim=True)
        gate_up, down = self.weights[f"{name}.experts.gateUp"], self.weights[f"{name}.experts.down"]
        outputs = torch.stack([self.swiglu(x, gate_up[expert], down[expert]) for expert in range(experts)], 1)
        y = (factors[..., None] * outputs.gather(1, ids[..., None].expand(-1, -1, x.shape[1]))).sum(1)
        counts = torch.bincount(ids.flatten(), minlength=experts).to(self.dtype)
        if balance == "loss-free":
            bias += 0.001 * torch.sign(counts.mean() - counts)
            return y, 0
        return y, 0.01 * experts * (counts / counts.sum() * scores.mean(0)).sum()

    def loss(self, ids, targets, step):
        """The cross-entropy, and that with the losses of routers."""
        x = self.weights["embedding"][torch.tensor(ids, dtype=torch.long).view(SEQUENCES, -1)]
        of_routers = 0
        for layer in range(self.cfg["layers"]):
            block = f"blocks.{layer}"
            x = x + self.attention(self.norm(x, f"{block}.attentionNorm"), f"{block}.attention")
            normed = self.norm(x, f"{block}.feedForwardNorm")
            if layer % 2 == 0:
                part = f"{block}.feedForward"
                x = x + self.swiglu(normed, self.weights[f"{part}.gateUp"], self.weights[f"{part}.down"])
                continue
            seed = (SEED * 2**24 + step) * self.cfg["layers"] + layer
            y, of_router = self.mixture(normed.flatten(0, 1), f"{block}.mixture", seed)
            x, of_routers = x + y.view(x.shape), of_routers + of_router
        logits = self.norm(x, "finalNorm") @ self.weights["head"].T
        targets = torch.tensor(targets, dtype=torch.long)
        entropy = functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-1)
        return entropy, entropy + of_routers


def rate(step):
    """The learning rate, relative to the highest."""
    rise = max(1, STEPS // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - rise) / (STEPS - rise)))


def train(cfg, weights, batches, dtype):
    model = Model(cfg, weights, dtype)
    parameters = list(model.weights.values())
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.01)
    losses, norms = [], []
    for step, (ids, targets) in enumerate(zip(*batches)):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step)
        optimizer.zero_grad()
        loss, whole = model.loss(ids, targets, step)
        whole.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    final = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in {**model.weights, **model.biases}.items()}
    return losses, final, model.margin, norms


for name, cfg in CASES.items():
    for attempt in range(1000):
        rng = np.random.default_rng([attempt, *name.encode()])
        weights, batches = draw_weights(cfg, rng), draw_batches(cfg, rng)
        losses, final, margin, norms = train(cfg, weights, batches, torch.float64)
        if margin < MARGIN:
            continue
        # In float32, PyTorch stays far closer to these numbers than tests ask for.
        rounded_losses, rounded, _, _ = train(cfg, weights, batches, torch.float32)
        of_losses = max(abs(a - b) for a, b in zip(losses, rounded_losses))
        of_weights = max(np.abs(final[key] - rounded[key]).max() for key in final)
        if of_losses < 2e-6 and of_weights < 5e-6:
            break
    else:
        raise SystemExit(f"{name}: no seed without close keys")
    print(f"{name}: losses {losses[0]:.4f} to {losses[-1]:.4f}, norms {min(norms):.2f} to {max(norms):.2f}, attempt {attempt}, "
          f"margin {margin:.1e}, in float32 within {of_losses:.1e} and {of_weights:.1e}")
    tensors = {f"initial.{key}": values for key, values in weights.items()}
    tensors |= {f"final.{key}": values.astype(np.float32) for key, values in final.items()}
    tensors |= {"ids": batches[0], "targets": batches[1], "losses": np.array(losses)}
    run = {"steps": STEPS, "sequences": SEQUENCES, "seed": SEED, "learningRate": LEARNING_RATE}
    FOLDER.mkdir(exist_ok=True)
    save_file(tensors, FOLDER / f"{name}.safetensors", {"config": json.dumps(cfg), "run": json.dumps(run)})
