import type { ExpertRange } from "../../core/layer/expert_range.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import { checkedBank, expertsWithWeights } from "../../layer/description/identity_experts.js";
import { type ExpertWeights, expertRoles, expertShapes } from "../../layer/weights/expert_weights.js";
import { type ExtraRole, extraWeights } from "../../layer/weights/extra_weights.js";
import type { LayerWeights } from "../../layer/weights/layer_weights.js";
import type { WeightLayout } from "../../layer/weights/weight_layout.js";
import type { SavedStorage } from "../layer_file/saved_layer.js";
import { constantVector, extendedVector, joinedWeight } from "./joined_weight.js";
import type { LocatedWeight } from "./located_weight.js";
import { scaledWeight } from "./scaled_weight.js";

/**
 * The tensor that holds a weight, and its layout. If each expert has its own tensor, `{e}` stands for its number, and `{e+64}`
 * for its number plus 64.
 */
export interface NamedWeight extends WeightLayout {
  /** The tensor's name in the files. */
  name: string;
  /**
   * A power of two that the weight is multiplied by when it is loaded, such as 0.5 where a model averages what this
   * package adds. Default 1.
   */
  factor?: number | undefined;
}

const expertNumber = /\{e(?:\+(\d+))?\}/g;

/** Whether a name is that of a tensor for each expert. */
export function isNumbered(name: string): boolean {
  return name.search(expertNumber) >= 0;
}

/** The name of an expert's tensor. */
export function nameOf({ name }: NamedWeight, expert: number): string {
  return name.replace(expertNumber, (_, more = "0") => String(expert + Number(more)));
}

/** A weight that is put together from what files have. */
export interface ComposedWeight extends NamedWeight {
  /** Of a vector of which the tensor has only the first elements: how many, and what the others are. */
  readonly first?: { readonly count: number; readonly others: number | "the last" } | undefined;
  /** Of a vector that no tensor has: what all its elements are. Its name is for errors only. */
  readonly constant?: number | undefined;
  /** The last rows of an expert's gate and up, or the last columns of its down: a matrix that some experts share. */
  readonly joined?: SharedMatrix | undefined;
}

/** Part of the matrices of experts: expert e has that of number e / `sharedBy`. */
export interface SharedMatrix {
  /** Its factor may be any number. */
  readonly weight: NamedWeight;
  /** Its rows in gate and up, its columns in down. */
  readonly width: number;
  readonly sharedBy: number;
}

/** Where a layer's weights are, by the same roles as in MoeLayer.create. */
export interface LayerTensors extends LayerWeights<ComposedWeight> {
  /** The last experts, if they have tensors apart from the others'. Names and stacks count them from 0. */
  lastExperts?: { readonly count: number; readonly weights: ExpertWeights<NamedWeight, NamedWeight> } | undefined;
}

/** A weight that a layer has. */
export interface WantedWeight {
  readonly weight: ComposedWeight;
  /** Its own shape, [N, K] or [N]. */
  readonly shape: Shape;
  /** The expert's number; 0 if the weight is not an expert's. */
  readonly expert: number;
  /** Its number among those that names and stacks in the files count, and how many these are. */
  readonly index: number;
  readonly count: number;
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
  /** Whether there is a tensor that may scale or order the inputs of the weight of this name. */
  hasInputTensor(name: string): boolean;
  /** How the layer was stored if MoeLayer.save wrote it. */
  readonly saved?: SavedStorage | undefined;
}

export type LocatedLayer = LayerWeights<
  LocatedWeight,
  ExpertWeights<LocatedWeight, LocatedWeight>,
  readonly ExpertWeights<LocatedWeight, LocatedWeight>[]
>;

/** Looks up all weights of a layer. @throws BAD_CHECKPOINT as a {@link Locator} does. */
export async function locateLayer(
  source: Pick<LayerSource, "config" | "tensors" | "bank" | "locate">,
): Promise<LocatedLayer> {
  return mapWeights(source, (wanted) => locateWeight(source, wanted));
}

/** Looks up one of them and puts it together. @throws BAD_CHECKPOINT as a {@link Locator} does. */
export async function locateWeight(
  { locate }: Pick<LayerSource, "locate">,
  wanted: WantedWeight,
): Promise<LocatedWeight> {
  const located: LocatedWeight[] = [];
  for (const { weight, ...piece } of piecesOf(wanted)) {
    const { factor = 1, ...named } = weight;
    const found = await locate({ ...piece, weight: named });
    located.push(factor === 1 ? found : scaledWeight(found, factor));
  }
  const whole = located[0] as LocatedWeight;
  const { name, first, constant, joined } = wanted.weight;
  if (constant !== undefined) return constantVector(name, wanted.shape[0] as number, constant);
  if (first !== undefined) return extendedVector(whole, wanted.shape[0] as number, first.others);
  return joined === undefined ? whole : joinedWeight(located, joinsColumns(wanted) ? "columns" : "rows");
}

/** The weights in the files that a weight is put together from; most are one, and a constant none. */
export function piecesOf(wanted: WantedWeight): readonly WantedWeight[] {
  const { weight, shape, piece, index, count } = wanted;
  const { first, constant, joined, ...named } = weight;
  if (constant !== undefined) return [];
  if (first !== undefined) return [{ ...wanted, weight: named, shape: [first.count], piece: [first.count] }];
  if (joined === undefined) return [wanted];
  const { width, sharedBy } = joined;
  const part = ([rows, columns]: Shape, taken: (all: number) => number): Shape =>
    joinsColumns(wanted) ? [rows as number, taken(columns as number)] : [taken(rows as number), columns as number];
  const rest = (all: number) => all - width;
  return [
    { ...wanted, weight: named, shape: part(shape, rest), piece: part(piece, rest) },
    {
      ...wanted,
      weight: joined.weight,
      shape: part(shape, () => width),
      piece: part(piece, () => width),
      index: Math.floor(index / sharedBy),
      count: Math.ceil(count / sharedBy),
    },
  ];
}

function joinsColumns({ role }: WantedWeight): boolean {
  return role.endsWith(".down");
}

/** A weight that is not an expert's. */
export function ofLayer(weight: ComposedWeight, role: string, shape: Shape, limit?: number): WantedWeight {
  return { weight, shape, expert: 0, index: 0, count: 1, role, piece: shape, limit };
}

/** Visits every weight of a layer, one after another. */
export async function mapWeights<T>(
  { config, tensors, bank = checkedBank(undefined, config) }: Pick<LayerSource, "config" | "tensors" | "bank">,
  visit: (wanted: WantedWeight) => Promise<T>,
): Promise<LayerWeights<T, ExpertWeights<T, T>, readonly ExpertWeights<T, T>[]>> {
  const { hiddenSize, intermediateSize, numExperts, sharedExpert, latent } = config;
  const gateRows = sharedExpert?.gate === "softmax" ? 2 : 1;
  const hasSharedGate = bank.first === 0 || sharedExpert?.gate === "softmax";
  const optional = async (
    role: Exclude<keyof LayerTensors, "router" | "experts" | "lastExperts" | "shared">,
    shape: Shape,
    limit?: number,
  ) => {
    const weight = tensors[role];
    return weight === undefined ? {} : { [role]: await visit(ofLayer(weight, role, shape, limit)) };
  };
  const expertOf = async (
    set: "experts" | "shared",
    weights: ExpertWeights<NamedWeight, NamedWeight>,
    width: number,
    place: Pick<WantedWeight, "expert" | "index" | "count"> = { expert: 0, index: 0, count: 1 },
  ) => {
    const hidden = set === "experts" && latent !== undefined ? latent.size : hiddenSize;
    const shapes = expertShapes(hidden, width);
    const pieces = expertShapes(hidden, intermediateSize);
    const visited: Partial<ExpertWeights<T, T>> = {};
    for (const role of expertRoles) {
      const weight = weights[role];
      if (weight === undefined) continue;
      const wanted = { weight, shape: shapes[role], role: `${set}.${role}`, piece: pieces[role] };
      visited[role] = await visit({ ...wanted, ...place });
    }
    return visited as ExpertWeights<T, T>;
  };
  const router = await visit(ofLayer(tensors.router, "router", [numExperts, hiddenSize]));
  const experts: ExpertWeights<T, T>[] = [];
  const { lastExperts } = tensors;
  const count = expertsWithWeights(config) - (lastExperts?.count ?? 0);
  while (experts.length < bank.count) {
    const expert = bank.first + experts.length;
    const [weights, place] =
      lastExperts === undefined || expert < count
        ? [tensors.experts, { expert, index: expert, count }]
        : [lastExperts.weights, { expert, index: expert - count, count: lastExperts.count }];
    experts.push(await expertOf("experts", weights, intermediateSize, place));
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
