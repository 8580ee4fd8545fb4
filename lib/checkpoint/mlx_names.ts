import { type ExpertWeights, expertRoles } from "../layer/weights/expert_weights.js";
import type { LayerTensors, NamedWeight } from "./locate.js";

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

/** What stands before these, by the names of Transformers' stacks: most families, Llama 4 and gpt-oss, Gemma 4. */
const modules = ["switch_mlp", "experts", "experts.switch_glu"];

const ofExpert = /\.experts\.\{e\}\.(\w+)\.(weight|bias)$/;
const stackOfTwo = /\.(?:experts\.)?(?:gate_up_proj|input_linear)(?:\.weight)?$/;

/**
 * The names that a layer's tensors may have in files of MLX, which stack each matrix of the experts by itself, given those of
 * a storage scheme of Transformers; none if experts have other names.
 */
export function mlxNames(tensors: LayerTensors): readonly LayerTensors[] {
  const { experts } = tensors;
  const [stack] = stackOfTwo.exec(experts.up.name) ?? [];
  const named = stack === undefined ? [stacked(experts)] : modules.map((module) => split(experts, stack, module));
  return named.filter((names) => names !== undefined).map((names) => ({ ...tensors, experts: names }));
}

/** Experts that Transformers names one by one. */
function stacked(experts: Experts): Experts | undefined {
  const names = experts.gate === undefined ? ungated : gated;
  const found: Partial<Record<keyof Experts, NamedWeight>> = {};
  for (const role of expertRoles) {
    const weight = experts[role];
    if (weight === undefined) continue;
    const [end, name = "", kind] = ofExpert.exec(weight.name) ?? [];
    const matrix = names.get(name);
    if (end === undefined || matrix === undefined) return undefined;
    const block = weight.name.slice(0, -end.length);
    found[role] = { ...weight, name: `${block}.switch_mlp.${matrix}.${kind}`, stacked: "dim0" };
  }
  return found as Experts;
}

/** Experts whose gate and up are in one stack. */
function split({ up, upBias }: Experts, stack: string, module: string): Experts {
  const block = up.name.slice(0, -stack.length);
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
