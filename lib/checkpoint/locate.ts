import type { ExpertRange } from "../core/expert_range.js";
import type { Shape } from "../core/shape.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { checkedBank } from "../layer/description/identity_experts.js";
import { type ExpertWeights, expertRoles, expertShapes } from "../layer/weights/expert_weights.js";
import { type ExtraRole, extraWeights } from "../layer/weights/extra_weights.js";
import type { LayerWeights } from "../layer/weights/layer_weights.js";
import type { WeightLayout } from "../layer/weights/weight_layout.js";
import type { SavedStorage } from "./layer_file/saved_layer.js";
import type { LocatedWeight } from "./located_weight.js";
import { scaledWeight } from "./scaled_weight.js";

/** The tensor that holds a weight, and its layout. If each expert has its own tensor, `{e}` stands for its number. */
export interface NamedWeight extends WeightLayout {
  /** The tensor's name in the files. */
  name: string;
  /**
   * A power of two that the weight is multiplied by when it is loaded, such as 0.5 where a model averages what this
   * package adds. Default 1.
   */
  factor?: number | undefined;
}

/** The name of an expert's tensor. */
export function nameOf({ name }: NamedWeight, expert: number): string {
  return name.replaceAll("{e}", String(expert));
}

/** Where a layer's weights are, by the same roles as in MoeLayer.create. */
export type LayerTensors = LayerWeights<NamedWeight>;

/** A weight that a layer has. */
export interface WantedWeight {
  readonly weight: NamedWeight;
  /** Its own shape, [N, K] or [N]. */
  readonly shape: Shape;
  /** The expert's number; 0 if the weight is not an expert's. */
  readonly expert: number;
  /** Such as `router` or `experts.gate`. */
  readonly role: string;
  /** For integers instead of floats: each is from 0 to this less one. */
  readonly limit?: number | undefined;
  /** The shape of the pieces in which the layer will store it: a routed expert's for a shared one's, else its own. */
  readonly piece: Shape;
}

/**
 * Looks up a weight.
 * @throws BAD_CHECKPOINT if it is missing, or not stored as floats or in a known quantised format of this shape.
 */
export type Locator = (wanted: WantedWeight) => Promise<LocatedWeight>;

/** What shapes are from that a configuration gives, for errors. */
export function sizesIn(path: string): string {
  return `the sizes in ${path}`;
}

/** Where a layer comes from: its formula, the names of its tensors, and how they are looked up. */
export interface LayerSource {
  /** The file that `config` was read from, for errors. */
  readonly configPath: string;
  readonly config: MoeLayerConfig;
  readonly tensors: LayerTensors;
  /** The experts to load; default all with weights. Only the bank that begins with expert 0 has the shared ones. */
  readonly bank?: ExpertRange | undefined;
  readonly locate: Locator;
  /** How the layer was stored if MoeLayer.save wrote it. */
  readonly saved?: SavedStorage | undefined;
}

export type LocatedLayer = LayerWeights<
  LocatedWeight,
  ExpertWeights<LocatedWeight, LocatedWeight>,
  readonly ExpertWeights<LocatedWeight, LocatedWeight>[]
>;

/** Looks up all weights of a layer. @throws BAD_CHECKPOINT as a {@link Locator} does. */
export async function locateLayer(source: LayerSource): Promise<LocatedLayer> {
  return mapWeights(source, (wanted) => locateWeight(source, wanted));
}

/** Looks up one of them, with its factor. @throws BAD_CHECKPOINT as a {@link Locator} does. */
export async function locateWeight(
  { locate }: Pick<LayerSource, "locate">,
  wanted: WantedWeight,
): Promise<LocatedWeight> {
  const { factor = 1, ...weight } = wanted.weight;
  const located = await locate({ ...wanted, weight });
  return factor === 1 ? located : scaledWeight(located, factor);
}

/** Visits every weight of a layer, one after another. */
export async function mapWeights<T>(
  { config, tensors, bank = checkedBank(undefined, config) }: Pick<LayerSource, "config" | "tensors" | "bank">,
  visit: (wanted: WantedWeight) => Promise<T>,
): Promise<LayerWeights<T, ExpertWeights<T, T>, readonly ExpertWeights<T, T>[]>> {
  const { hiddenSize, intermediateSize, numExperts, sharedExpert, latent } = config;
  const gateRows = sharedExpert?.gate === "softmax" ? 2 : 1;
  const hasSharedGate = bank.first === 0 || sharedExpert?.gate === "softmax";
  const ofLayer = (weight: NamedWeight, role: string, shape: Shape, limit?: number) =>
    visit({ weight, shape, expert: 0, role, piece: shape, limit });
  const optional = async (
    role: Exclude<keyof LayerTensors, "router" | "experts" | "shared">,
    shape: Shape,
    limit?: number,
  ) => {
    const weight = tensors[role];
    return weight === undefined ? {} : { [role]: await ofLayer(weight, role, shape, limit) };
  };
  const expertOf = async (
    set: "experts" | "shared",
    weights: ExpertWeights<NamedWeight, NamedWeight>,
    width: number,
    expert = 0,
  ) => {
    const hidden = set === "experts" && latent !== undefined ? latent.size : hiddenSize;
    const shapes = expertShapes(hidden, width);
    const pieces = expertShapes(hidden, intermediateSize);
    const visited: Partial<ExpertWeights<T, T>> = {};
    for (const role of expertRoles) {
      const weight = weights[role];
      if (weight === undefined) continue;
      visited[role] = await visit({ weight, shape: shapes[role], expert, role: `${set}.${role}`, piece: pieces[role] });
    }
    return visited as ExpertWeights<T, T>;
  };
  const router = await ofLayer(tensors.router, "router", [numExperts, hiddenSize]);
  const experts: ExpertWeights<T, T>[] = [];
  while (experts.length < bank.count) {
    experts.push(await expertOf("experts", tensors.experts, intermediateSize, bank.first + experts.length));
  }
  const extra: Partial<Record<ExtraRole, T>> = {};
  for (const { role, shape, limit } of extraWeights(config)) Object.assign(extra, await optional(role, shape, limit));
  return {
    router,
    experts,
    ...extra,
    ...(await optional("routerBias", [numExperts])),
    ...(await optional("selectionBias", [numExperts])),
    ...(tensors.shared &&
      sharedExpert &&
      bank.first === 0 && { shared: await expertOf("shared", tensors.shared, sharedExpert.intermediateSize) }),
    ...(hasSharedGate && (await optional("sharedGate", [gateRows, hiddenSize]))),
    ...(hasSharedGate && (await optional("sharedGateBias", [gateRows]))),
  };
}
