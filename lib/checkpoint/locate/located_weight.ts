import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { allocated, noMemory, withPlaceInMemoryErrors } from "../../core/tensors/allocated.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { WeightLayout } from "../../layer/weights/weight_layout.js";
import { tensorPlace } from "../safetensors/header.js";
import type { TransferOptions } from "../safetensors/regular_file.js";

/** A file whose tensors are read by name. */
export interface TensorFile {
  readonly path: string;
  /** Fills `target` with a tensor's bytes from `byteOffset`, counted from the tensor's first byte. */
  readRange(name: string, byteOffset: number, target: Uint8Array, options?: TransferOptions): Promise<void>;
}

/** Some bytes of a tensor: all of them, or one expert's part. */
export interface TensorRange {
  readonly file: TensorFile;
  readonly name: string;
  /** Counted from the tensor's first byte. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A weight that was found in a checkpoint: where its bytes are, and what they mean. */
export interface LocatedWeight {
  /** The checkpoint's name for it. Weights of one name are parts of the same tensors. */
  readonly name: string;
  /** Or i32, for integers. */
  readonly format: WeightFormatName;
  /** [N, K], [N] or [E, N, K] as stored, in the order of `layout`; for a `part`, with the outputs of both parts. */
  readonly shape: Shape;
  readonly layout: Pick<WeightLayout, "orient" | "part">;
  readonly ranges: readonly TensorRange[];
  /** Whether it may have an input scale or order. */
  readonly changesInputs?: boolean;
  /**
   * Makes codes and scales from the bytes of `ranges`, which it may change and return, but not keep: the memory is another
   * weight's next; or for floats and integers, whose codes are their values. Absent for floats whose single range has the values.
   * @throws BAD_CHECKPOINT for values that the format does not have.
   */
  readonly convert?: (bytes: readonly Uint8Array[]) => QuantizedBytes | Promise<QuantizedBytes>;
  /** Makes its values from the same bytes; absent for formats of which only devices make values. */
  readonly values?: (bytes: readonly Uint8Array[]) => Promise<Float32Array>;
}

/** A quantised matrix, or a stack of them, in host memory: what the fields of QuantizedWeight hold. */
export interface QuantizedBytes {
  readonly codes: Uint8Array;
  readonly scales?: ArrayBufferView;
  readonly superScales?: ArrayBufferView;
  readonly zeros?: ArrayBufferView;
  readonly superZeros?: ArrayBufferView;
  readonly inputScale?: Float32Array;
  readonly inputOrder?: Int32Array;
}

export function bytesOf({ ranges }: LocatedWeight): number {
  return ranges.reduce((total, { byteLength }) => total + byteLength, 0);
}

/** Counts each byte once: stacked experts, and gate and up, may be parts of the same tensors. */
export class RangeCount {
  readonly #counted = new Set<string>();

  /** The ranges of a weight that were not counted yet. */
  add({ ranges }: LocatedWeight): readonly TensorRange[] {
    return ranges.filter(({ name, byteOffset }) => {
      const key = `${byteOffset} ${name}`;
      const isNew = !this.#counted.has(key);
      this.#counted.add(key);
      return isNew;
    });
  }
}

/** New memory for the bytes of a range. @throws OUT_OF_MEMORY */
export function memoryFor({ file, name, byteLength }: TensorRange): Uint8Array<ArrayBuffer> {
  return allocated(byteLength, noMemory(tensorPlace(file.path, name), byteLength), () => new Uint8Array(byteLength));
}

/** The file and tensor of a weight, for errors; of one that no file has, its name. */
export function placeOf({ name, ranges: [range] }: LocatedWeight): string {
  return range === undefined ? JSON.stringify(name) : tensorPlace(range.file.path, range.name);
}

/** Calls `work`, which reads or converts a weight; errors about memory then name the weight. */
export async function namingWeight<T>(weight: LocatedWeight, work: () => Promise<T>): Promise<T> {
  return await withPlaceInMemoryErrors(placeOf(weight), bytesOf(weight), work);
}
