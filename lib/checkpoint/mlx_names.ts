import { type ExpertWeights, expertRoles } from "../layer/weights/expert_weights.js";
import type { LayerTensors, NamedWeight } from "./locate/locate_layer.js";

type Experts = ExpertWeights<NamedWeight, NamedWeight>;

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

/** What stands before these: what most classes of MLX call it, some the same as Transformers, and Gemma 4. */
const modules = ["switch_mlp", "experts", "experts.switch_glu"];

const ofExpert = /\.experts\.\{e\}\.(\w+)\.(weight|bias)$/;
const stackOfTwo = /\.(?:experts\.)?(?:gate_up_proj|input_linear)(?:\.weight)?$/;

/**
 * The names that a layer's tensors may have in files of MLX, which stack each matrix of the experts by itself or gate and up
 * in one, given those of a storage scheme of Transformers; none if experts have other names.
 */
export function mlxNames(tensors: LayerTensors): readonly LayerTensors[] {
  const { experts } = tensors;
  const [stack] = stackOfTwo.exec(experts.up.name) ?? [];
  const named = modules.flatMap((module) => {
    if (stack !== undefined) return [split(experts, experts.up.name.slice(0, -stack.length), module)];
    const names = stacked(experts, module);
    return names === undefined ? [] : [names, ...fused(names)];
  });
  return named.map((names) => ({ ...tensors, experts: names }));
}

/** Experts that Transformers names one by one. */
function stacked(experts: Experts, module: string): Experts | undefined {
  const names = experts.gate === undefined ? ungated : gated;
  const found: Partial<Record<keyof Experts, NamedWeight>> = {};
  for (const role of expertRoles) {
    const weight = experts[role];
    if (weight === undefined) continue;
    const [end, name = "", kind] = ofExpert.exec(weight.name) ?? [];
    const matrix = names.get(name);
    if (end === undefined || matrix === undefined) return undefined;
    const block = weight.name.slice(0, -end.length);
    found[role] = { ...weight, name: `${block}.${module}.${matrix}.${kind}`, stacked: "dim0" };
  }
  return found as Experts;
}

/** The same with gate rows before up rows; such experts have no biases. */
function fused({ gate, gateBias, down, ...others }: Experts): readonly Experts[] {
  if (gate === undefined || gateBias !== undefined) return [];
  const both = { ...gate, name: gate.name.replace("gate_proj", "gate_up_proj") };
  return [{ ...others, gate: { ...both, part: "first_half" }, up: { ...both, part: "second_half" }, down }];
}

/** Experts whose gate and up are in one stack. */
function split({ upBias }: Experts, block: string, module: string): Experts {
  const stacked = (name: string) => ({ name: `${block}.${module}.${name}`, stacked: "dim0" }) as const;
  return {
    gate: stacked("gate_proj.weight"),
    up: stacked("up_proj.weight"),
    down: stacked("down_proj.weight"),
    ...(upBias && {
      gateBias: stacked("gate_proj.bias"),
      upBias: stacked("up_proj.bias"),
      downBias: stacked("down_proj.bias"),
    }),
  };
}
