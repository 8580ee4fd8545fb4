import { inspect } from "node:util";
import type { PackedHandle } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import { checkOwnClass } from "../../core/device/own_class.js";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { cannotCombine, MoeError } from "../../core/errors.js";
import { nothingRounds, type TokenFormat, tokenFormats } from "../../core/formats/token_format.js";
import { freeWeight, plainWeight, type WeightFormatName, type WeightMatrix } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { boolean, choice, type Fields, object, optional, type Read } from "../../core/input/options.js";
import { type Activation, type Clamp, isGated } from "../../core/layer/activation.js";
import type { DType, FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, shapeText } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkExpertCount } from "../check.js";
import { checkMatrices, checkQuantizedMatrices, matricesOf, matrixOf } from "../formats/matrices.js";
import { type ActivationOptions, activationFields, clampOf } from "./activation_options.js";
import {
  disposeQuantized,
  isQuantized,
  type QuantizedWeight,
  quantizedMatrix,
  quantizedWeight,
  tensorsOf,
} from "./quantized_weight.js";

/** What {@link packExperts} has made of weights, and for which product. */
interface Packing {
  readonly format: WeightFormatName;
  readonly shape: Shape;
  readonly activation: Activation;
  readonly clamp: Clamp;
  readonly tokenFormat: TokenFormat;
  readonly transposed: boolean;
}

/**
 * Expert weights in the layout that the device's grouped GEMM reads fastest. Made by {@link packExperts}; `dispose()`
 * frees them.
 */
export class PackedExperts extends ThreadBound implements Disposable {
  readonly #device: Device;
  readonly #packing: Packing;
  #handle: PackedHandle | undefined;

  /** @internal Use {@link packExperts}. */
  constructor(device: Device, handle: PackedHandle, packing: Packing) {
    super();
    checkOwnClass(new.target, PackedExperts);
    this.#device = device;
    const { shape, clamp } = packing;
    this.#packing = { ...packing, shape: Object.freeze([...shape]), clamp: Object.freeze({ ...clamp }) };
    this.#handle = handle;
    Object.freeze(this);
  }

  /** True only for objects that {@link packExperts} made. */
  static override [Symbol.hasInstance](value: unknown): value is PackedExperts {
    return typeof value === "object" && value !== null && #handle in value;
  }

  /** Where the weights are. */
  get device(): Device {
    return this.#device;
  }

  /** The dtype of its elements; u8, that of the codes, if they are quantised. */
  get dtype(): DType {
    return isPlain(weightFormat(this.#packing.format)) ? (this.#packing.format as DType) : "u8";
  }

  /** The format of its elements: a dtype, or the name of a quantised format. */
  get format(): WeightFormatName {
    return this.#packing.format;
  }

  /**
   * [E, N, K] as given, or [E, K, N] if it was transposed; N = 2I rows (gate, then up) if the activation is gated. A
   * frozen array.
   */
  get shape(): Shape {
    return this.#packing.shape;
  }

  /** What {@link groupedGemm} applies to the outputs. */
  get activation(): Activation {
    return this.#packing.activation;
  }

  /** The parameters of its activation, if that is `swiglu_clamped`, `swiglu_clamped_after` or `situ`. A frozen object. */
  get clamp(): Clamp {
    return this.#packing.clamp;
  }

  /** What {@link groupedGemm} rounds its rows to. */
  get tokenFormat(): TokenFormat {
    return this.#packing.tokenFormat;
  }

  /** Whether they are the given matrices transposed. */
  get transposed(): boolean {
    return this.#packing.transposed;
  }

  /** Bytes on the device. */
  get byteLength(): number {
    return this.handle.byteLength;
  }

  /** @internal */
  get handle(): PackedHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", "packed experts: used after dispose()");
    void this.device.backend;
    return this.#handle;
  }

  /** Frees the weights once no enqueued work needs them. Idempotent. */
  dispose(): void {
    this.#handle?.free();
    this.#handle = undefined;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const state = this.#handle === undefined || this.device.disposed ? " (disposed)" : "";
    const tokens = this.tokenFormat === "none" ? "" : ` and ${this.tokenFormat} tokens`;
    return `PackedExperts<${this.format}> ${shapeText(this.shape)} for ${this.activation}${tokens} on ${this.device.name}${state}`;
  }
}

/** Options of {@link packExperts}. */
export interface PackOptions extends ActivationOptions {
  /** Round rows to 8 bits, for quantised weights; see {@link TokenFormat}. Default none. */
  tokenFormat?: TokenFormat | undefined;
  /**
   * Pack the transposes, [E, K, N]: then the product y = Wᵀ x, with rows of N and results of K columns, is what
   * {@link groupedGemm} computes, which is the gradient of the other by its rows. Only float weights, without an
   * activation; weights that were packed for a gated one, gate and up, are one matrix here. Default false.
   */
  transpose?: boolean | undefined;
}

export const packFields = {
  ...activationFields,
  tokenFormat: optional(choice(tokenFormats)),
  transpose: optional(boolean),
} satisfies Fields<PackOptions>;
const packOptions = object(packFields, '{ activation: "swiglu" }');

/**
 * Repacks expert weights for repeated use by {@link groupedGemm}. `weight` can be disposed of right after.
 *
 * @param weight [E, N, K] f32, f16 or bf16, or quantised; rows are outputs (y = W x). [N, K] is one expert, for
 * {@link linear}. If the activation is gated, N = 2I: I gate rows, then I up rows. Quantised weights keep their format.
 * With `transpose`, columns are outputs (y = Wᵀ x).
 * @throws SHAPE_MISMATCH (also for an odd N with a gated activation), INVALID_ARGUMENT, UNSUPPORTED_DTYPE, DISPOSED,
 * UNSUPPORTED_OPERATION (quantised, if I rows end within a group of rows), OUT_OF_MEMORY.
 */
export function packExperts(weight: Tensor<FloatDType> | QuantizedWeight, options: PackOptions = {}): PackedExperts {
  const read = packOptions(options, "options");
  return pack(readStack(weight, read.transpose), read);
}

/** The matrices of all experts, checked. */
export interface ExpertStack {
  readonly device: Device;
  readonly format: WeightFormatName;
  /** [E, N, K] */
  readonly shape: readonly [number, number, number];
  /** What they are in. */
  readonly tensors: readonly Tensor[];
  /** Some rows of one expert's matrix. Free its handles after use. */
  rows(expert: number, first: number, count: number): WeightMatrix;
}

/** @param width K, if the weight does not say it. */
export function readStack(weight: unknown, transpose: boolean | undefined, width?: number): ExpertStack {
  if (!isQuantized(weight)) {
    checkMatrices("weight", weight as Tensor<FloatDType>);
    return floatStack(weight as Tensor<FloatDType>, transpose);
  }
  if (transpose) throw cannotCombine("transpose", "quantised weights");
  const read = quantizedWeight(weight, "weight");
  if (read.part !== undefined) throw cannotCombine("weight.part", "packExperts");
  const { lead, rows, columns } = checkQuantizedMatrices(read, width);
  return {
    device: read.codes.device,
    format: read.format,
    shape: [lead[0] ?? 1, rows, columns],
    tensors: tensorsOf(read),
    rows: (expert, firstRow, count) => {
      const one = matrixOf(read, expert);
      try {
        return quantizedMatrix("weight", one, [rows, columns], { firstRow, rows: count, firstColumn: 0, columns });
      } finally {
        disposeQuantized(one);
      }
    },
  };
}

export function floatStack(weight: Tensor<FloatDType>, transpose = false): ExpertStack {
  const { device, dtype, handle, shape } = weight;
  const { lead, rows, columns } = matricesOf(shape);
  const [size, step] = [rows * columns, transpose ? 1 : columns];
  const [outputs, inputs] = transpose ? [columns, rows] : [rows, columns];
  return {
    device,
    format: dtype,
    shape: [lead[0] ?? 1, outputs, inputs],
    tensors: [weight],
    rows: (expert, first, count) =>
      plainWeight(dtype, {
        handle: handle.view([size - first * step], expert * size + first * step),
        rows: count,
        columns: inputs,
        rowStride: step,
        columnStride: transpose ? columns : 1,
      }),
  };
}

/**
 * {@link packExperts} with options that have been read.
 * @param onceRows if only one product will read them, its rows.
 */
export function pack(stack: ExpertStack, given: Partial<Read<typeof packOptions>>, onceRows?: number): PackedExperts {
  const { activation = "none", tokenFormat = "none", transpose = false } = given;
  const clamp = clampOf(activation, given.clamp);
  if (transpose && activation !== "none") throw cannotCombine("transpose", `activation ${activation}`);
  const { device, format, shape } = stack;
  const [experts, rows, columns] = shape;
  const gated = isGated(activation);
  if (gated && rows % 2 !== 0) {
    throw new MoeError("SHAPE_MISMATCH", `weight: expected an even number of rows for ${activation}, got ${rows}`);
  }
  // E of an empty weight may be any number.
  checkExpertCount("weight", experts);
  if (tokenFormat !== "none" && isPlain(weightFormat(format))) {
    throw nothingRounds("tokenFormat", [format], tokenFormat);
  }
  const handle = device.backend.packedExperts(experts, rows, columns, format, activation, clamp, tokenFormat, onceRows);
  const half = gated ? rows / 2 : rows;
  try {
    for (let expert = 0; expert < experts && rows * columns > 0; expert++) {
      const first = stack.rows(expert, 0, half);
      const up = gated ? stack.rows(expert, half, half) : null;
      handle.setExpert(expert, first, up);
      freeWeight(first);
      if (up !== null) freeWeight(up);
    }
  } catch (error) {
    handle.free();
    throw error;
  }
  return new PackedExperts(device, handle, { format, shape, activation, clamp, tokenFormat, transposed: transpose });
}
