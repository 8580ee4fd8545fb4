import { isGated } from "../../core/layer/activation.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ExpertRole, ExpertWeights } from "../../layer/weights/expert_weights.js";
import { type Stacking, stackings, type WeightLayout } from "../../layer/weights/weight_layout.js";
import type { Part } from "../../operators/experts/quantized_weight.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { LayerTensors, NamedWeight } from "../locate/locate_layer.js";
import { isRecord, type JsonObject } from "../safetensors/strict_json.js";
import { unsupported } from "./layer_file_formula.js";

type LayerRole = Exclude<keyof LayerTensors, "experts" | "lastExperts" | "shared">;

/** A layer file's roles outside the experts, and their names here. */
const layerRoles: ReadonlyMap<string, LayerRole> = new Map([
  ["router", "router"],
  ["router_bias", "routerBias"],
  ["selection_bias", "selectionBias"],
  ["shared_expert_gate", "sharedGate"],
  ["shared_expert_gate_bias", "sharedGateBias"],
  ["router_noise", "noiseRouter"],
]);

/** The parts that two matrices take of a shared tensor, by the file's `split`. */
const splits: ReadonlyMap<unknown, readonly [Part, Part]> = new Map<unknown, [Part, Part]>([
  ["halves", ["first_half", "second_half"]],
  ["interleaved", ["even", "odd"]],
]);

/**
 * Reads a layer file's `tensors`: for every role, such as `router` or `expert_up_bias`, the `name` and layout of its
 * tensor.
 * @throws BAD_CHECKPOINT; UNSUPPORTED_OPERATION for unsupported roles and layouts.
 */
export function readTensors(path: string, json: JsonObject, config: MoeLayerConfig): LayerTensors {
  const layer: Partial<Record<LayerRole, NamedWeight>> = {};
  const experts = {
    expert: {} as ExpertWeights<NamedWeight, NamedWeight>,
    shared: {} as ExpertWeights<NamedWeight, NamedWeight>,
  };
  for (const [role, location] of Object.entries(json)) {
    const place = `tensors.${role}`;
    const known = layerRoles.get(role);
    const [, whose, what] = /^(expert|shared)_((?:gate|up|gate_up|down)(?:_bias)?)$/.exec(role) ?? [];
    if (known === undefined && what === undefined) {
      throw unsupported(path, `${place}: expected a role such as ${[...layerRoles.keys()].join(", ")} or expert_up`);
    }
    const { split, ...weight } = readLocation(path, place, location, role.endsWith("_bias"));
    if (split !== undefined && (what === undefined || /^down/.test(what))) {
      throw unsupported(path, `${place}: expected a split of gate, up or gate_up, got one of ${role}`);
    }
    const reason = whyNot(role, config);
    if (reason !== undefined) throw badCheckpoint(path, `${place}: cannot be combined with ${reason}`);
    if (known !== undefined) layer[known] = weight;
    if (what === undefined) continue;
    const weights = experts[whose as "expert" | "shared"];
    for (const [expertRole, part] of expertRolesOf(what, split, config)) {
      if (weights[expertRole] !== undefined) throw badCheckpoint(path, `${place}: expected one role for each matrix`);
      weights[expertRole] = part === undefined ? weight : { ...weight, part };
    }
  }
  checkExpertRoles(path, "expert", experts.expert, config);
  if (config.sharedExpert) checkExpertRoles(path, "shared", experts.shared, config);
  if (layer.router === undefined) throw badCheckpoint(path, "tensors.router: expected a name, got none");
  if (config.noisy && layer.noiseRouter === undefined) {
    throw badCheckpoint(path, "tensors.router_noise: expected a name for noisy_softmax_selected");
  }
  const { gate = "none" } = config.sharedExpert ?? {};
  if (gate !== "none" && layer.sharedGate === undefined) {
    throw badCheckpoint(
      path,
      `tensors.shared_expert_gate: expected a name for the gate "${gate}" of the shared expert`,
    );
  }
  return {
    ...layer,
    router: layer.router,
    experts: experts.expert,
    ...(config.sharedExpert && { shared: experts.shared }),
  };
}

/** What in a formula rules out a role, in words; undefined if nothing does. Matrices of experts: see {@link checkExpertRoles}. */
function whyNot(role: string, { activation = "swiglu", sharedExpert, noisy }: MoeLayerConfig): string | undefined {
  if (role === "router_noise" && noisy === undefined) return "a scoring other than noisy_softmax_selected";
  if (/_gate_bias$/.test(role) && !role.startsWith("shared_expert_") && !isGated(activation)) {
    return `the activation ${activation}`;
  }
  if (!role.startsWith("shared_")) return undefined;
  if (sharedExpert === undefined) return "a layer without a shared expert";
  const { gate = "none" } = sharedExpert;
  return role.startsWith("shared_expert_gate") && gate === "none" ? 'a shared expert with the gate "none"' : undefined;
}

function readLocation(
  path: string,
  place: string,
  location: unknown,
  isBias: boolean,
): NamedWeight & { split: readonly [Part, Part] | undefined } {
  const { name, orient, stacked, split, ...others } = isRecord(location) ? location : {};
  if (typeof name !== "string") {
    throw badCheckpoint(path, `${place}: expected a name, got ${JSON.stringify(location)}`);
  }
  const supported =
    Object.keys(others).length === 0 &&
    (orient === "out_in" || orient === "in_out" || (orient === undefined && isBias)) &&
    (stacked === undefined || stackings.includes(stacked as Stacking)) &&
    (split === undefined || splits.has(split));
  if (!supported) {
    const expected = 'orient "out_in" or "in_out", stacked "dim0" or "rows", split "halves" or "interleaved"';
    throw unsupported(path, `${place}: expected ${expected}, got ${JSON.stringify(location)}`);
  }
  const layout = { ...(orient !== undefined && { orient }), ...(stacked !== undefined && { stacked }) };
  return { name, ...(layout as WeightLayout), split: splits.get(split) };
}

/** The expert roles that a tensor with a file's role holds, each with its part of the tensor. */
function expertRolesOf(
  role: string,
  split: readonly [Part, Part] | undefined,
  { multiplier = false }: MoeLayerConfig,
): readonly (readonly [ExpertRole, Part | undefined])[] {
  const bias = role.endsWith("_bias");
  const [gate, up] = bias ? (["gateBias", "upBias"] as const) : (["gate", "up"] as const);
  switch (role.replace(/_bias$/, "")) {
    case "gate_up":
      return [
        [gate, split?.[0] ?? "first_half"],
        [up, split?.[1] ?? "second_half"],
      ];
    case "gate":
      // The gate of swiglu_gate_times_up has columns a, b, and the layer computes a * silu(b) * up.
      if (multiplier && !bias) {
        return [
          ["multiplier", split?.[0] ?? "first_half"],
          ["gate", split?.[1] ?? "second_half"],
        ];
      }
      return [[gate, split?.[0]]];
    case "up":
      return [[up, split?.[1]]];
    default:
      return [[bias ? "downBias" : "down", undefined]];
  }
}

function checkExpertRoles(
  path: string,
  whose: string,
  weights: Partial<ExpertWeights<NamedWeight, NamedWeight>>,
  { activation = "swiglu" }: MoeLayerConfig,
): void {
  for (const role of ["gate", "up", "down"] as const) {
    const needed = role !== "gate" || isGated(activation);
    if (needed === (weights[role] !== undefined)) continue;
    throw badCheckpoint(
      path,
      `tensors.${whose}_${role}: ${needed ? "expected a name for" : "cannot be combined with"} the activation ${activation}`,
    );
  }
}
