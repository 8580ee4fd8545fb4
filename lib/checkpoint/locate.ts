import type { ExpertRange } from "../core/backend.js";
import type { Shape } from "../core/shape.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { type ExpertWeights, expertRoles, expertShapes } from "../layer/weights/expert_weights.js";
import { type ExtraRouterRole, extraRouters } from "../layer/weights/extra_routers.js";
import type { LayerWeights } from "../layer/weights/layer_weights.js";
import type { WeightLayout } from "../layer/weights/weight_layout.js";
import type { SavedStorage } from "./layer_file/saved_layer.js";
import type { LocatedWeight } from "./located_weight.js";

/** The tensor that holds a weight, and its layout. If each expert has its own tensor, `{e}` stands for its number. */
export interface NamedWeight extends WeightLayout {
  /** The tensor's name in the files. */
  name: string;
}

/** Where a layer's weights are, by the same roles as in MoeLayer.create. */
export type LayerTensors = LayerWeights<NamedWeight>;

/**
 * Looks up a weight of its own shape, [N, K] or [N], of an expert (0 if it is not an expert's).
 * @param piece the shape of the pieces in which the layer will store the weight; its own if it is stored whole.
 * @throws BAD_CHECKPOINT if it is missing, or not stored as floats or in a known quantised format of this shape.
 */
export type Locator = (
  weight: NamedWeight,
  shape: Shape,
  expert: number,
  role: string,
  piece: Shape,
) => Promise<LocatedWeight>;

/** Where a layer comes from: its formula, the names of its tensors, and how they are looked up. */
export interface LayerSource {
  /** The file that `config` was read from, for errors. */
  readonly configPath: string;
  readonly config: MoeLayerConfig;
  readonly tensors: LayerTensors;
  /** The experts to load; default all. Only the bank that begins with expert 0 has the shared ones. */
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
  return mapWeights(source, source.locate);
}

/**
 * Visits every weight of a layer, one after another.
 * @param visit gets the weight's own shape, the expert's number (0 if the weight is not an expert's), the role, such
 * as `router` or `experts.gate`, and the shape of the pieces in which it is stored: a wide shared expert is divided.
 */
export async function mapWeights<T>(
  { config, tensors, bank = { first: 0, count: config.numExperts } }: Pick<LayerSource, "config" | "tensors" | "bank">,
  visit: (weight: NamedWeight, shape: Shape, expert: number, role: string, piece: Shape) => Promise<T>,
): Promise<LayerWeights<T, ExpertWeights<T, T>, readonly ExpertWeights<T, T>[]>> {
  const { hiddenSize, intermediateSize, numExperts, sharedExpert } = config;
  const gateRows = sharedExpert?.gate === "softmax" ? 2 : 1;
  const hasSharedGate = bank.first === 0 || sharedExpert?.gate === "softmax";
  const optional = async (role: Exclude<keyof LayerTensors, "router" | "experts" | "shared">, shape: Shape) => {
    const weight = tensors[role];
    return weight === undefined ? {} : { [role]: await visit(weight, shape, 0, role, shape) };
  };
  const expertOf = async (
    set: "experts" | "shared",
    weights: ExpertWeights<NamedWeight, NamedWeight>,
    width: number,
    expert = 0,
  ) => {
    const shapes = expertShapes(hiddenSize, width);
    const pieces = expertShapes(hiddenSize, Math.min(width, intermediateSize));
    const visited: Partial<ExpertWeights<T, T>> = {};
    for (const role of expertRoles) {
      const weight = weights[role];
      if (weight === undefined) continue;
      visited[role] = await visit(weight, shapes[role], expert, `${set}.${role}`, pieces[role]);
    }
    return visited as ExpertWeights<T, T>;
  };
  const routerShape = [numExperts, hiddenSize];
  const router = await visit(tensors.router, routerShape, 0, "router", routerShape);
  const experts: ExpertWeights<T, T>[] = [];
  while (experts.length < bank.count) {
    experts.push(await expertOf("experts", tensors.experts, intermediateSize, bank.first + experts.length));
  }
  const extra: Partial<Record<ExtraRouterRole, T>> = {};
  for (const { role, shape } of extraRouters(config)) Object.assign(extra, await optional(role, shape));
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
