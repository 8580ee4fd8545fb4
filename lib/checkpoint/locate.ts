import type { ExpertRange } from "../core/backend.js";
import { dtypes, type FloatDType } from "../core/dtype.js";
import { type Shape, sameShape, shapeSize, shapeText } from "../core/shape.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { type ExpertWeights, expertRoles, expertShapes } from "../layer/weights/expert_weights.js";
import { type ExtraRouterRole, extraRouters } from "../layer/weights/extra_routers.js";
import type { LayerWeights } from "../layer/weights/layer_weights.js";
import { stackedShape, storedShape, type WeightLayout } from "../layer/weights/weight_layout.js";
import { badCheckpoint } from "./bad_checkpoint.js";
import type { SafetensorsDType } from "./safetensors/dtype.js";
import type { SafetensorsFile } from "./safetensors/file.js";
import { tensorPlace } from "./safetensors/header.js";

/** The tensor that holds a weight, and its layout. If each expert has its own tensor, `{e}` stands for its number. */
export interface NamedWeight extends WeightLayout {
  name: string;
}

/** Where a layer's weights are, by the same roles as in MoeLayer.create. */
export type LayerTensors = LayerWeights<NamedWeight>;

/** Where a layer comes from: its formula, the names of its tensors, and the files that hold them. */
export interface LayerSource {
  /** The file that `config` was read from, for errors. */
  readonly configPath: string;
  readonly config: MoeLayerConfig;
  readonly tensors: LayerTensors;
  /** The experts to load; default all. Only the bank that begins with expert 0 has the shared ones. */
  readonly bank?: ExpertRange | undefined;
  /** The opened file that holds the tensor; BAD_CHECKPOINT if there is none. */
  fileOf(name: string): Promise<SafetensorsFile>;
}

/** A weight that was found in a file: a whole tensor, or one expert's part of a stacked tensor. */
export interface LocatedWeight {
  readonly name: string;
  readonly file: SafetensorsFile;
  readonly dtype: FloatDType;
  readonly shape: Shape;
  /** Counted from the tensor's first byte. */
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly layout: WeightLayout;
}

export type LocatedLayer = LayerWeights<
  LocatedWeight,
  ExpertWeights<LocatedWeight, LocatedWeight>,
  readonly ExpertWeights<LocatedWeight, LocatedWeight>[]
>;

const storedDTypes: ReadonlyMap<SafetensorsDType, FloatDType> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
]);

/** The name and shape that a weight's tensor must have. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: Shape;
}

/**
 * Looks up all weights of a layer.
 * @throws BAD_CHECKPOINT for a missing tensor, a shape that does not match the configuration, or a dtype other than
 * F32, F16 or BF16.
 */
export async function locateLayer(source: LayerSource): Promise<LocatedLayer> {
  return await mapWeights(source, (weight, shape, expert) => locate(source, weight, shape, expert));
}

/** Looks up the router's weight; errors as in {@link locateLayer}. */
export async function locateRouter(source: LayerSource): Promise<LocatedWeight> {
  const { numExperts, hiddenSize } = source.config;
  return await locate(source, source.tensors.router, [numExperts, hiddenSize], 0);
}

/**
 * Visits every weight of a layer, one after another.
 * @param visit gets the weight's own shape, the expert's number (0 if the weight is not an expert's) and the role, such
 * as `router` or `experts.gate`.
 */
export async function mapWeights<T>(
  { config, tensors, bank = { first: 0, count: config.numExperts } }: Pick<LayerSource, "config" | "tensors" | "bank">,
  visit: (weight: NamedWeight, shape: Shape, expert: number, role: string) => Promise<T>,
): Promise<LayerWeights<T, ExpertWeights<T, T>, readonly ExpertWeights<T, T>[]>> {
  const { hiddenSize, intermediateSize, numExperts, sharedExpert } = config;
  const gateRows = sharedExpert?.gate === "softmax" ? 2 : 1;
  const hasSharedGate = bank.first === 0 || sharedExpert?.gate === "softmax";
  const optional = async (role: Exclude<keyof LayerTensors, "router" | "experts" | "shared">, shape: Shape) => {
    const weight = tensors[role];
    return weight === undefined ? {} : { [role]: await visit(weight, shape, 0, role) };
  };
  const expertOf = async (
    set: "experts" | "shared",
    weights: ExpertWeights<NamedWeight, NamedWeight>,
    width: number,
    expert = 0,
  ) => {
    const shapes = expertShapes(hiddenSize, width);
    const visited: Partial<ExpertWeights<T, T>> = {};
    for (const role of expertRoles) {
      const weight = weights[role];
      if (weight !== undefined) visited[role] = await visit(weight, shapes[role], expert, `${set}.${role}`);
    }
    return visited as ExpertWeights<T, T>;
  };
  const router = await visit(tensors.router, [numExperts, hiddenSize], 0, "router");
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

/** The tensor that must hold a weight of `shape`. */
export function expectedTensor(
  { config }: Pick<LayerSource, "config">,
  { name, stacked, ...layout }: NamedWeight,
  shape: Shape,
  expert: number,
): ExpectedTensor {
  const one = storedShape(shape, layout);
  return {
    name: name.replace("{e}", String(expert)),
    shape: stacked === undefined ? one : stackedShape(one, stacked, config.numExperts),
  };
}

/** Looks up a weight; errors as in {@link locateLayer}. */
export async function locate(
  source: LayerSource,
  weight: NamedWeight,
  shape: Shape,
  expert: number,
): Promise<LocatedWeight> {
  const { name: _, stacked, ...layout } = weight;
  const { name, shape: whole } = expectedTensor(source, weight, shape, expert);
  const file = await source.fileOf(name);
  const info = file.info(name);
  const dtype = storedDTypes.get(info.dtype);
  if (dtype === undefined) {
    throw badCheckpoint(tensorPlace(file.path, name), `expected dtype F32, F16 or BF16, got ${info.dtype}`);
  }
  const vector = shape.length === 1 && stacked === undefined;
  if (!sameShape(vector ? withoutLeadingOnes(info.shape) : info.shape, whole)) {
    throw badCheckpoint(
      tensorPlace(file.path, name),
      `expected shape ${shapeText(whole)} from the sizes in ${source.configPath}, got ${shapeText(info.shape)}`,
    );
  }
  const one = storedShape(shape, layout);
  const byteLength = shapeSize(one) * dtypes[dtype].bytes;
  return { name, file, dtype, shape: one, byteOffset: stacked ? expert * byteLength : 0, byteLength, layout };
}

/** A bias may be stored as a matrix with one row. */
function withoutLeadingOnes(shape: Shape): Shape {
  return shape.length > 1 && shape[0] === 1 ? withoutLeadingOnes(shape.slice(1)) : shape;
}
