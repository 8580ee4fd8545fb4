"""
Runs the MoE blocks of Transformers on tiny random models and writes ../families: for every case config.json, the
weights under the names of published checkpoints, and expected.safetensors with input and results.

    python3 -m make_families [CASE...]

in test/golden; needs torch, safetensors, transformers 4.57.1, and for OpenMoE colossalai 0.3.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file
from torch import Tensor

from .cases import CASES, Case
from .families import output_of

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
FOLDER = Path(__file__).parent.parent / "families"

PERTURBATION = 1e-4
"""Relative change of the input that no choice may depend on."""


@contextmanager
def double_precision():
    """Every float32 that the code within names is float64."""
    before = torch.float32, torch.Tensor.float, torch.get_default_dtype()
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float = torch.float32 = before[0]
        torch.Tensor.float = before[1]
        torch.set_default_dtype(before[2])


def draw_tensors(case: Case, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tensors of the block, rounded to the stored dtype."""
    tensors = {}
    for name, value in case.family.create(case.config, case.layer).state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if "correction_bias" in name:
            drawn *= 0.2
        elif value.dim() > 1:
            drawn *= (1.5 if name == case.family.router else 1) * value.shape[-1] ** -0.5
        tensors[name] = drawn.to(DTYPES[case.dtype])
    return tensors


def run(case: Case, tensors: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [T, E] and output [T, H] in x's dtype."""
    family = case.family

    def block():
        created = family.create(case.config, case.layer)
        created.load_state_dict({name: tensor.to(x.dtype) for name, tensor in tensors.items()})
        return created

    with torch.no_grad():
        return family.weights(block(), x), output_of(block(), x)


def choose(case: Case, tensors: dict[str, Tensor], x: Tensor, weights: Tensor) -> Tensor:
    """Ids [T, k], the largest key first; -1 where an expert of the choice had no room."""
    family = case.family
    wide = {name: tensor.double() for name, tensor in tensors.items()}
    logits = x.reshape(-1, x.shape[-1]) @ wide[family.router].T
    if family.router_bias or "router.classifier.bias" in wide:
        logits = logits + wide[family.router_bias or "router.classifier.bias"]
    key = family.key(logits, wide).reshape(logits.shape)
    k = family.top_k(case.config, case.layer)
    whole = bool(((weights != 0).sum(-1) == k).all())
    ids = (key.masked_fill(weights == 0, -torch.inf) if whole else key).topk(k).indices
    return torch.where(weights.gather(1, ids) != 0, ids, -1).int()


def make(case: Case, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = draw_tensors(case, generator)
    width = case.config.get("text_config", case.config)
    shape = (*case.shape, width.get("hidden_size") or width["d_model"])
    for attempt in range(10_000):
        x = torch.randn(shape, generator=generator) * case.scale
        with double_precision():
            weights, output = run(case, tensors, x.double())
            noise = [torch.randn(shape, generator=generator) for _ in range(4)]
            moved = [run(case, tensors, x.double() * (1 + PERTURBATION * each.double()))[0] for each in noise]
            ids = choose(case, tensors, x.double(), weights)
            moved_ids = [choose(case, tensors, x.double(), each) for each in moved]
        steady = all((each - weights).abs().max() < 0.01 * weights.abs().max() for each in moved)
        if steady and all(torch.equal(ids, each) for each in moved_ids):
            break
    else:
        raise RuntimeError(f"{case.name}: no input whose choices are clear")
    single = run(case, tensors, x)
    assert torch.equal(choose(case, tensors, x.double(), single[0].double()), ids)
    error = (single[1] - output).abs().max() / output.abs().max()
    write(case, tensors, x, ids, weights, output)
    dropped = int((ids < 0).sum())
    print(f"{case.name}: draw {attempt + 1}, float32 error {error:.1e}, dropped {dropped} of {ids.numel()}")


def write(case: Case, tensors: dict[str, Tensor], x: Tensor, ids: Tensor, weights: Tensor, output: Tensor) -> None:
    directory = FOLDER / case.name
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    (directory / "config.json").write_text(json.dumps(case.config, indent=2) + "\n")
    prefix = case.family.prefix(case.layer, case.config)
    named = {f"{prefix}.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    files = [f"model-{part + 1:05}-of-{case.shards:05}.safetensors" for part in range(case.shards)]
    if case.shards == 1:
        files = ["model.safetensors"]
    place = {name: files[index % case.shards] for index, name in enumerate(named)}
    for file in files:
        save_file({name: named[name] for name in named if place[name] == file}, directory / file, {"format": "pt"})
    if case.shards > 1:
        total = sum(tensor.nbytes for tensor in named.values())
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    results = {
        "x": x.contiguous(),
        "ids": ids,
        "weights": torch.where(ids < 0, 0, weights.gather(1, ids.clamp(min=0).long())),
        "output": output.reshape(x.shape).contiguous(),
    }
    save_file(results, directory / "expected.safetensors", {"layer": str(case.layer)})


for case in CASES:
    if len(sys.argv) == 1 or case.name in sys.argv[1:]:
        make(case, crc32(case.name.encode()))
