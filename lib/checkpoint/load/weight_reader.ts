import type { LayerParts } from "../../layer/layer_parts.js";
import { disposeExpertMatrix, type ExpertMatrix } from "../../layer/weights/expert_weights.js";
import { bytesOf, type LocatedWeight } from "../locate/located_weight.js";
import { MatrixReader, type ReadWeightOptions } from "./matrix_reader.js";

/** Weights that are on the device at the same time. */
export interface LoadingStep {
  readonly weights: Readonly<Record<string, LocatedWeight>>;
  set(layer: LayerParts, weights: Readonly<Record<string, ExpertMatrix>>): void;
}

/** A step's weights on the device, by the checkpoint's names. */
type ReadWeights = ReadonlyMap<string, ExpertMatrix>;

/** Reads a layer's weights from files, step by step. */
export class WeightReader {
  readonly #layer: LayerParts;
  readonly #reader: MatrixReader;

  constructor(layer: LayerParts, bytesTotal: number, options: ReadWeightOptions) {
    this.#layer = layer;
    this.#reader = new MatrixReader(layer.device, bytesTotal, options);
  }

  /** Reads the weights of each step, sets the layer's, and frees them. While one step's are set, the next one's are read. */
  async run(steps: readonly LoadingStep[]): Promise<void> {
    let ahead = this.#readAll(steps[0]);
    try {
      for (const [index, step] of steps.entries()) {
        const read = await ahead;
        ahead = this.#readAll(steps[index + 1]);
        ahead.catch(() => undefined); // It is thrown when its turn comes.
        try {
          step.set(this.#layer, byRole(step, read));
        } finally {
          disposeAll(read);
        }
        // Without this wait the bytes of all experts would be in memory at once.
        await this.#layer.weightsSet();
      }
    } finally {
      await ahead.then(disposeAll, () => undefined);
    }
  }

  async #readAll(step: LoadingStep | undefined): Promise<ReadWeights> {
    const read = new Map<string, ExpertMatrix>();
    try {
      for (const weight of distinct(step?.weights ?? {})) read.set(weight.name, await this.#reader.read(weight));
      return read;
    } catch (error) {
      disposeAll(read);
      throw error;
    }
  }
}

function byRole({ weights }: LoadingStep, read: ReadWeights): Readonly<Record<string, ExpertMatrix>> {
  const entries = Object.entries(weights).map(([role, { name, layout }]) => {
    return [role, { ...(read.get(name) as ExpertMatrix), ...layout }] as const;
  });
  return Object.fromEntries(entries) as Record<string, ExpertMatrix>;
}

function disposeAll(read: ReadWeights): void {
  for (const weight of read.values()) disposeExpertMatrix(weight);
}

/** Weights without duplicates: gate and up may be parts of the same tensors. */
export function distinct(weights: Readonly<Record<string, LocatedWeight>>): readonly LocatedWeight[] {
  return [...new Map(Object.values(weights).map((weight) => [weight.name, weight])).values()];
}

/** The bytes that weights take in their files. */
export function bytesOfAll(weights: Readonly<Record<string, LocatedWeight>>): number {
  return distinct(weights).reduce((total, weight) => total + bytesOf(weight), 0);
}
