import { isMoeError, type MoeError } from "../../core/errors.js";
import { groupBy } from "../../core/group_by.js";
import { describeLayer, type MoeLayerConfig } from "../../layer/description/config.js";
import { checkedAt } from "../bad_checkpoint.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import type { ModelFormula } from "../opened/model_files.js";

/** What a model's files say of one of its layers. */
export interface ReadLayer {
  readonly layer: number;
  readonly config: MoeLayerConfig;
  readonly tensors: LayerTensors;
  readonly details: LayerDetails;
}

/** Known details of a layer that a description does not contain. */
export interface LayerDetails {
  /** Whether the router has a bias. */
  readonly routerBias?: boolean;
  /** Whether a bias is added for the choice alone. */
  readonly selectionBias?: boolean;
  /** Whether the experts have biases. */
  readonly expertBiases?: boolean;
  /** Exact width of the shared expert; a description rounds it up to a multiple of I. */
  readonly sharedWidth?: number;
}

/** A layer that loading refuses. */
export interface RefusedLayer {
  readonly layer: number;
  readonly error: MoeError;
}

/** Layers that loading refuses. */
export interface RefusedLayers {
  /** The numbers of the layers, ascending. */
  readonly layers: readonly number[];
  /** What loading the first of them says; the others differ from it by nothing but their numbers. */
  readonly reason: string;
}

/** More experts than any model has in all its layers. `inspect` looks for every one of them. */
export const maximumExperts = 2 ** 20;

/** The formulas of the layers, and the layers whose formula is refused. */
export function readLayers(
  formula: ModelFormula,
  layers: readonly number[],
): { readonly read: readonly ReadLayer[]; readonly refused: readonly RefusedLayer[] } {
  const read: ReadLayer[] = [];
  const refused: RefusedLayer[] = [];
  for (const layer of layers) {
    try {
      const config = formula.config(layer);
      // Too many experts are told of all layers together.
      if (config.numExperts <= maximumExperts) checkedAt(formula.path, () => describeLayer(config, "bf16"));
      const tensors = formula.tensors(layer);
      read.push({ layer, config, tensors, details: layerDetails(config, tensors) });
    } catch (error) {
      if (!isMoeError(error, "BAD_CHECKPOINT")) throw error;
      refused.push({ layer, error });
    }
  }
  return { read, refused };
}

/** Layers that are refused alike together. */
export function groupRefused(refused: readonly RefusedLayer[]): RefusedLayers[] {
  const alike = groupBy(refused, ({ layer, error }) => error.message.replaceAll(`layer ${layer}`, "layer"));
  return alike.map((group) => ({ layers: group.map(({ layer }) => layer), reason: group[0].error.message }));
}

/** What the tensors of a layer tell of it. */
function layerDetails({ sharedExpert }: MoeLayerConfig, tensors: LayerTensors): LayerDetails {
  const { gateBias, upBias, downBias } = tensors.experts;
  return {
    routerBias: tensors.routerBias !== undefined,
    selectionBias: tensors.selectionBias !== undefined,
    expertBiases: [gateBias, upBias, downBias].some((bias) => bias !== undefined),
    ...(sharedExpert && { sharedWidth: sharedExpert.intermediateSize }),
  };
}
