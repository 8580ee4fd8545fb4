import type { Device } from "../../core/device/device.js";
import { type InputField, isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { type DType, dtypes, type FloatDType } from "../../core/tensors/dtype.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { StoredWeight } from "../../layer/weights/weight_layout.js";
import { type QuantizedWeight, quantizedTensors } from "../../operators/experts/quantized_weight.js";
import {
  type LocatedWeight,
  memoryFor,
  namingWeight,
  type QuantizedBytes,
  type TensorRange,
} from "../locate/located_weight.js";

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

/**
 * Memory for the bytes of one weight after another. New memory for each would have to be cleared, and its garbage makes
 * JavaScript collect its whole heap again and again.
 */
class RangeMemory {
  readonly #buffers: ArrayBuffer[] = [];
  #taken = 0;

  /** @throws OUT_OF_MEMORY */
  take(range: TensorRange): Uint8Array {
    const place = this.#taken++;
    let buffer = this.#buffers[place];
    if (buffer === undefined || buffer.byteLength < range.byteLength) {
      buffer = memoryFor(range).buffer;
      this.#buffers[place] = buffer;
    }
    return new Uint8Array(buffer, 0, range.byteLength);
  }

  /** What was taken is for the next weight. */
  reuse(): void {
    this.#taken = 0;
  }
}

/** Reads weights from files into a device's memory, one at a time, and counts the bytes. */
export class MatrixReader {
  readonly #device: Device;
  readonly #memory = new RangeMemory();
  readonly #bytesTotal: number;
  readonly #options: ReadWeightOptions;
  #bytesRead = 0;

  constructor(device: Device, bytesTotal: number, options: ReadWeightOptions) {
    this.#device = device;
    this.#bytesTotal = bytesTotal;
    this.#options = options;
  }

  /** Reads a weight into tensors of its own. @throws OUT_OF_MEMORY, which names it; what its `convert` throws. */
  async read(weight: LocatedWeight): Promise<StoredWeight | QuantizedWeight> {
    return await namingWeight(weight, () => this.#read(weight));
  }

  async #read(weight: LocatedWeight): Promise<StoredWeight | QuantizedWeight> {
    const { convert, ranges, shape, format } = weight;
    this.#memory.reuse();
    if (convert === undefined) return await this.#readFloats(ranges[0] as TensorRange, shape, format as FloatDType);
    const bytes: Uint8Array[] = [];
    for (const range of ranges) bytes.push(await this.#readRange(range, this.#memory.take(range)));
    return this.#upload(weight, await convert(bytes));
  }

  async #readFloats(range: TensorRange, shape: Shape, dtype: FloatDType): Promise<StoredWeight> {
    const tensor = this.#device.empty(shape, dtype);
    try {
      const mapped = tensor.handle.map();
      const bytes = await this.#readRange(range, mapped ?? this.#memory.take(range));
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

  #upload({ format, shape }: LocatedWeight, bytes: QuantizedBytes): StoredWeight | QuantizedWeight {
    if (format === "i32" || isPlain(weightFormat(format))) {
      return { tensor: this.#tensor(bytes.codes, shape, format as DType) as Tensor<FloatDType> };
    }
    const tensors: Record<string, Tensor> = {};
    try {
      const has = (field: InputField) => bytes[field] !== undefined;
      for (const [role, size, dtype] of quantizedTensors(format, shape, has)) {
        tensors[role] = this.#tensor(bytes[role] as ArrayBufferView, size, dtype);
      }
      return { format, ...(tensors as { codes: Tensor<"u8"> }) };
    } catch (error) {
      for (const tensor of Object.values(tensors)) tensor.dispose();
      throw error;
    }
  }

  #tensor(data: ArrayBufferView, shape: Shape, dtype: DType): Tensor {
    const tensor = this.#device.empty(shape, dtype);
    write(tensor, data);
    return tensor;
  }

  #report(bytesDone: number): void {
    const progress: Progress = { bytesRead: this.#bytesRead + bytesDone, bytesTotal: this.#bytesTotal };
    this.#options.onProgress?.(progress);
  }
}

/** Copies the bits of a tensor's values to the device, in the typed array of its dtype. */
function write({ handle, dtype }: Tensor, { buffer, byteOffset, byteLength }: ArrayBufferView): void {
  const { raw, bytes } = dtypes[dtype];
  const aligned = byteOffset % bytes === 0;
  const from = aligned ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
  handle.write(new raw(from as ArrayBuffer, aligned ? byteOffset : 0, byteLength / bytes), false);
}
