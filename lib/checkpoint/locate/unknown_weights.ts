import { decodeHalves } from "../../core/tensors/half_arrays.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { tensorPlace } from "../safetensors/header.js";
import { storedNames } from "../schemes/stored_matrix.js";
import { type LayerTensors, nameOf, type WantedWeight } from "./locate_layer.js";
import type { TensorSource } from "./tensor_source.js";

/** What families call the up projection of a shared expert, and its gate, in the module of the routed ones. */
const sharedNames = ["shared_expert", "shared_experts", "shared_mlp"].flatMap((module) =>
  ["up_proj", "w3"].map((up) => `${module}.${up}.weight`),
);
const sharedGateName = "shared_expert_gate.weight";

/** Vectors of a value for each expert: what families call them in that module or the router's, and the value that changes nothing. */
const vectorsOfExperts = [
  {
    role: "selectionBias",
    names: [
      "e_score_correction_bias",
      "expert_bias",
      "gate.e_score_correction_bias",
      "gate.expert_bias",
      "moe_statics.e_score_correction_bias",
    ],
    neutral: 0,
  },
  {
    role: "expertScale",
    names: ["per_expert_scale", "gate.per_expert_scale", "router.per_expert_scale"],
    neutral: 1,
  },
] as const;

/**
 * Refuses tensors beside a weight that the layer's formula does not have, although they would change the results: a bias, and
 * beside the router a shared expert, a bias for the choice of experts and scales of experts. Biases of zeros, which GPTQ's
 * tools write, and scales of ones do not.
 * @throws BAD_CHECKPOINT
 */
export async function refuseUnknownWeights(source: TensorSource, wanted: WantedWeight): Promise<void> {
  const { tensors, isGiven } = source;
  if (tensors === undefined || isGiven || wanted.shape.length < 2) return;
  for (const template of biasesOf(wanted.weight.name)) {
    const name = nameOf({ name: template }, wanted.index);
    // Most weights have no bias, and a model has thousands.
    if (source.has(name) && ![...namesIn(tensors)].includes(template)) await refuseUnless(0, source, name);
  }
  const block = wanted.role === "router" ? blockOf(tensors) : undefined;
  if (block === undefined) return;
  for (const { role, names, neutral } of vectorsOfExperts) {
    if (tensors[role] !== undefined) continue;
    for (const name of names) {
      if (source.has(`${block}.${name}`)) await refuseUnless(neutral, source, `${block}.${name}`);
    }
  }
  const others = [
    ...(tensors.shared === undefined ? sharedNames : []),
    ...(tensors.sharedGate === undefined ? [sharedGateName] : []),
  ];
  for (const other of others) {
    const name = storedNames(`${block}.${other}`).find((one) => source.has(one));
    if (name !== undefined) throw await unknown(source, name, "expected no such tensor");
  }
}

/** @throws BAD_CHECKPOINT unless all values of a tensor are the one that changes nothing. */
async function refuseUnless(neutral: 0 | 1, source: TensorSource, name: string): Promise<void> {
  const { dtype, data } = await (await source.fileOf(name)).read(name);
  const isHalf = dtype === "F16" || dtype === "BF16";
  const values = isHalf ? decodeHalves(data as Uint16Array, dtype === "F16" ? "f16" : "bf16") : data;
  for (const value of values as Iterable<number | bigint>) {
    if (Number(value) === neutral) continue;
    throw await unknown(source, name, `expected no such tensor, or ${neutral === 0 ? "zeros" : "ones"}`);
  }
}

async function unknown(source: TensorSource, name: string, expected: string): Promise<Error> {
  const remedy = "for another formula, say what the layer computes: MoeLayer.load(path, { config, tensors })";
  const { path } = await source.fileOf(name);
  return badCheckpoint(tensorPlace(path, name), `${expected}, because the layer's formula has none; ${remedy}`);
}

/** What the bias of a matrix may be called; of a stack, which has no `.weight`, too. */
function biasesOf(name: string): readonly string[] {
  return name.endsWith(".weight") ? [`${name.slice(0, -".weight".length)}.bias`] : [`${name}.bias`, `${name}_bias`];
}

/** The names of all weights of a layer, in which `{e}` stands for an expert's number. */
function* namesIn(value: object): Generator<string> {
  for (const [key, inner] of Object.entries(value)) {
    if (key === "name") yield inner as string;
    else if (typeof inner === "object" && inner !== null) yield* namesIn(inner);
  }
}

/** The module that has the router and the routed experts, if there is one that has little else. */
function blockOf({ router, experts }: LayerTensors): string | undefined {
  const [own] = /^.*(?=\.experts\.)/.exec(experts.up.name) ?? [];
  return own !== undefined && router.name.startsWith(`${own}.`) ? own : undefined;
}
