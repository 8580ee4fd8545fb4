import { type DType, dtypes, type FloatDType } from "../core/dtype.js";
import type { Shape } from "../core/shape.js";
import type { Tensor } from "../core/tensor.js";
import { type InputField, isPlain, weightFormat } from "../core/weight_formats.js";
import type { LayerParts } from "../layer/layer_parts.js";
import { disposeExpertMatrix, type ExpertMatrix } from "../layer/weights/expert_weights.js";
import { quantizedTensors } from "../operators/experts/quantized_weight.js";
import { bytesOf, type LocatedWeight, type QuantizedBytes, type TensorRange } from "./located_weight.js";

/** Progress of reading a layer's weights. */
export interface Progress {
  /** Bytes of weights read so far. */
  bytesRead: number;
  /** Bytes of weights to read. */
  bytesTotal: number;
}

/** The options for reading weights, once checked. */
export interface ReadWeightOptions {
  /** Called while weights are read. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Stops reading; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Weights that are on the device at the same time. */
export interface LoadingStep {
  readonly weights: Readonly<Record<string, LocatedWeight>>;
  set(layer: LayerParts, weights: Readonly<Record<string, ExpertMatrix>>): void;
}

/** A step's weights on the device, by the checkpoint's names. */
type ReadWeights = ReadonlyMap<string, ExpertMatrix>;

/** Reads a layer's weights from files into device memory and counts the bytes. */
export class WeightReader {
  readonly #layer: LayerParts;
  readonly #options: ReadWeightOptions;
  readonly #bytesTotal: number;
  #bytesRead = 0;

  constructor(layer: LayerParts, bytesTotal: number, options: ReadWeightOptions) {
    this.#layer = layer;
    this.#options = options;
    this.#bytesTotal = bytesTotal;
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
      for (const weight of distinct(step?.weights ?? {})) read.set(weight.name, await this.#read(weight));
      return read;
    } catch (error) {
      disposeAll(read);
      throw error;
    }
  }

  async #read(weight: LocatedWeight): Promise<ExpertMatrix> {
    const { convert, ranges, shape, format } = weight;
    if (convert === undefined) return await this.#readFloats(ranges[0] as TensorRange, shape, format as FloatDType);
    const bytes: Uint8Array[] = [];
    for (const range of ranges) bytes.push(await this.#readRange(range, new Uint8Array(range.byteLength)));
    return this.#upload(weight, await convert(bytes));
  }

  async #readFloats(range: TensorRange, shape: Shape, dtype: FloatDType): Promise<ExpertMatrix> {
    const tensor = this.#layer.device.empty(shape, dtype);
    try {
      const mapped = tensor.handle.map();
      const bytes = await this.#readRange(range, mapped ?? new Uint8Array(range.byteLength));
      if (mapped === undefined) write(tensor, bytes);
      return { tensor };
    } catch (error) {
      tensor.dispose();
      throw error;
    }
  }

  async #readRange({ file, name, byteOffset }: TensorRange, target: Uint8Array): Promise<Uint8Array> {
    const { signal } = this.#options;
    await file.readRange(name, byteOffset, target, { signal, onProgress: (bytesDone) => this.#report(bytesDone) });
    this.#bytesRead += target.byteLength;
    return target;
  }

  #upload({ format, shape }: LocatedWeight, bytes: QuantizedBytes): ExpertMatrix {
    const { scalar } = bytes;
    if (format === "i32" || isPlain(weightFormat(format))) {
      return { tensor: this.#tensor(bytes.codes, shape, format as DType) as Tensor<FloatDType> };
    }
    const tensors: Record<string, Tensor> = {};
    try {
      const has = (field: InputField) => bytes[field] !== undefined;
      for (const [role, size, dtype] of quantizedTensors(format, shape as [number, number], has)) {
        tensors[role] = this.#tensor(bytes[role] as ArrayBufferView, size, dtype);
      }
      return { format, ...(tensors as { codes: Tensor<"u8"> }), ...(scalar !== undefined && { scalar }) };
    } catch (error) {
      for (const tensor of Object.values(tensors)) tensor.dispose();
      throw error;
    }
  }

  #tensor(data: ArrayBufferView, shape: Shape, dtype: DType): Tensor {
    const tensor = this.#layer.device.empty(shape, dtype);
    write(tensor, data);
    return tensor;
  }

  #report(bytesDone: number): void {
    const progress: Progress = { bytesRead: this.#bytesRead + bytesDone, bytesTotal: this.#bytesTotal };
    this.#options.onProgress?.(progress);
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

/** Copies the bits of a tensor's values to the device, in the typed array of its dtype. */
function write({ handle, dtype }: Tensor, { buffer, byteOffset, byteLength }: ArrayBufferView): void {
  const { raw, bytes } = dtypes[dtype];
  const aligned = byteOffset % bytes === 0;
  const from = aligned ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
  handle.write(new raw(from as ArrayBuffer, aligned ? byteOffset : 0, byteLength / bytes), false);
}

/** Weights without duplicates: gate and up may be parts of the same tensors. */
export function distinct(weights: Readonly<Record<string, LocatedWeight>>): readonly LocatedWeight[] {
  return [...new Map(Object.values(weights).map((weight) => [weight.name, weight])).values()];
}

/** The bytes that weights take in their files. */
export function bytesOfAll(weights: Readonly<Record<string, LocatedWeight>>): number {
  return distinct(weights).reduce((total, weight) => total + bytesOf(weight), 0);
}
