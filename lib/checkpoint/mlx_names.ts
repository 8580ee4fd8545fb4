import { expertRoles } from "../layer/weights/expert_weights.js";
import type { LayerTensors, NamedWeight } from "./locate.js";

/** What MLX calls the matrices of an expert with a gate. */
const gated: ReadonlyMap<string, string> = new Map([
  ...["gate_proj", "up_proj", "down_proj"].map((name) => [name, name] as const),
  ["w1", "gate_proj"],
  ["w3", "up_proj"],
  ["w2", "down_proj"],
]);

/** And of one without. */
const ungated: ReadonlyMap<string, string> = new Map([
  ["up_proj", "fc1"],
  ["down_proj", "fc2"],
]);

const ofExpert = /\.experts\.\{e\}\.(\w+)\.(weight|bias)$/;

/**
 * The names of a layer's tensors in files of MLX (mlx-lm), which has the experts' matrices of Transformers' names stacked in
 * one tensor each, as `switch_mlp.gate_proj.weight`; undefined if experts have other names.
 */
export function mlxNames(tensors: LayerTensors): LayerTensors | undefined {
  const modules = tensors.experts.gate === undefined ? ungated : gated;
  const experts: Partial<Record<(typeof expertRoles)[number], NamedWeight>> = {};
  for (const role of expertRoles) {
    const weight = tensors.experts[role];
    if (weight === undefined) continue;
    const [found, name = "", kind] = ofExpert.exec(weight.name) ?? [];
    const module = modules.get(name);
    if (found === undefined || module === undefined) return undefined;
    const stacked = weight.name.slice(0, -found.length);
    experts[role] = { ...weight, name: `${stacked}.switch_mlp.${module}.${kind}`, stacked: "dim0" };
  }
  return { ...tensors, experts: experts as LayerTensors["experts"] };
}
