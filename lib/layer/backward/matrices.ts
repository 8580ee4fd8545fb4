import type { ExpertFormats } from "../../core/device/backend.js";
import { MoeError } from "../../core/errors.js";
import { plainWeight, type WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { defaultClamp, isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { copyAll } from "../../operators/copy_all.js";
import { PackedExperts } from "../../operators/experts/packed_experts.js";
import { quantizedFormats } from "../description/token_format.js";
import type { DeviceLayer } from "../device_layer.js";
import type { ExpertMemory } from "./expert_memory.js";

/** The matrices [A, N, K] of all experts of a layer, and the same transposed: [A, K, N]. */
class MatrixPair implements Disposable {
  readonly forward: PackedExperts;
  readonly transposed: PackedExperts;
  readonly #rows: number;
  readonly #columns: number;

  /** @param roles the weights whose rows are joined to one matrix. */
  constructor(layer: DeviceLayer, roles: readonly (keyof ExpertFormats)[], rows: number, columns: number) {
    const { device, description } = layer;
    const { bank, sharedExperts, formats } = description;
    const experts = bank.count + sharedExperts;
    const given = new Set(roles.flatMap((role) => [formats[role], formats.shared?.[role] ?? formats[role]]));
    const [format] = given;
    const dtype = given.size === 1 ? copiedDType(format as WeightFormatName) : "f32";
    const [all, each] = [roles.length * rows, rows];
    const packed = (n: number, k: number) => {
      const handle = device.backend.packedExperts(experts, n, k, dtype, "none", defaultClamp, "none");
      const packing = { activation: "none", clamp: defaultClamp, tokenFormat: "none", transposed: false } as const;
      return new PackedExperts(device, handle, { format: dtype, shape: [experts, n, k], ...packing });
    };
    this.#rows = all;
    this.#columns = columns;
    this.forward = packed(all, columns);
    this.transposed = packed(columns, all);
    using whole = device.empty([all, columns], dtype);
    for (let expert = 0; expert < experts; expert++) {
      roles.forEach((role, index) => {
        using part = whole.rows(index * each, (index + 1) * each);
        layer.handle.copyWeight(role, expert, part.handle);
      });
      this.#set(expert, dtype, whole.handle);
    }
  }

  /** Packs matrices [A, N, K] again. */
  renew({ shape, dtype, handle }: Tensor<"f32">): void {
    const [experts, rows, columns] = shape as [number, number, number];
    for (let expert = 0; expert < experts; expert++) {
      const matrix = handle.view([rows, columns], expert * rows * columns);
      this.#set(expert, dtype, matrix);
      matrix.free();
    }
  }

  #set(expert: number, dtype: FloatDType, handle: TensorHandle): void {
    const [rows, columns] = [this.#rows, this.#columns];
    const straight = { handle, rows, columns, rowStride: columns, columnStride: 1 };
    const across = { handle, rows: columns, columns: rows, rowStride: 1, columnStride: columns };
    this.forward.handle.setExpert(expert, plainWeight(dtype, straight), null);
    this.transposed.handle.setExpert(expert, plainWeight(dtype, across), null);
  }

  get byteLength(): number {
    return this.forward.byteLength + this.transposed.byteLength;
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.forward.dispose();
    this.transposed.dispose();
  }
}

/**
 * A layer's experts as its backward pass multiplies them: before the activation, and transposed. Copied from the layer
 * when they are first needed; they take twice as much memory as the layer's own, or 8 bytes for each quantised weight.
 */
export class BackwardMatrices implements Disposable {
  /** [A, P, H], gate and up, or up alone. */
  readonly gateUp: MatrixPair;
  /** [A, I, H] */
  readonly multiplier: MatrixPair | undefined;
  /** [A, H, I] */
  readonly down: MatrixPair;
  /** [A, P] and [A, H]; undefined if there are no such biases. */
  readonly gateUpBias: Tensor<FloatDType> | undefined;
  readonly downBias: Tensor<FloatDType> | undefined;

  /** @throws UNSUPPORTED_OPERATION for a layer with offload. */
  constructor(layer: DeviceLayer) {
    checkCopied(layer);
    const { activation, multiplier, intermediateSize, hiddenSize } = layer.description;
    const inner = isGated(activation) ? (["gate", "up"] as const) : (["up"] as const);
    this.gateUp = new MatrixPair(layer, inner, intermediateSize, hiddenSize);
    this.multiplier = multiplier ? new MatrixPair(layer, ["multiplier"], intermediateSize, hiddenSize) : undefined;
    this.down = new MatrixPair(layer, ["down"], hiddenSize, intermediateSize);
    this.gateUpBias = biases(layer, isGated(activation) ? ["gateBias", "upBias"] : ["upBias"], intermediateSize);
    this.downBias = biases(layer, ["downBias"], hiddenSize);
  }

  /** Packs all weights again. */
  renew({ gateUp, multiplier, down, gateUpBias, downBias }: ExpertMemory): void {
    this.gateUp.renew(gateUp);
    if (multiplier) this.multiplier?.renew(multiplier);
    this.down.renew(down);
    if (gateUpBias && this.gateUpBias) copyAll(gateUpBias, this.gateUpBias);
    if (downBias && this.downBias) copyAll(downBias, this.downBias);
  }

  /** Whether packing has failed, as far as is known without a wait. */
  get failed(): boolean {
    const pairs = [this.gateUp, ...(this.multiplier ? [this.multiplier] : []), this.down];
    const packed = pairs.some(({ forward, transposed }) => forward.handle.failed || transposed.handle.failed);
    return packed || (this.gateUpBias?.handle.failed ?? false) || (this.downBias?.handle.failed ?? false);
  }

  get byteLength(): number {
    const parts = [this.gateUp, this.multiplier, this.down, this.gateUpBias, this.downBias];
    return parts.reduce((total, part) => total + (part?.byteLength ?? 0), 0);
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    for (const part of [this.gateUp, this.multiplier, this.down]) part?.[Symbol.dispose]();
    this.gateUpBias?.dispose();
    this.downBias?.dispose();
  }
}

/** Weights are copied as they are stored, the values of quantised ones without rounding them once more. */
function copiedDType(format: WeightFormatName): FloatDType {
  return isPlain(weightFormat(format)) ? (format as FloatDType) : "f32";
}

/** @throws UNSUPPORTED_OPERATION for a layer with offload, whose weights cannot be copied. */
export function checkCopied({ offloaded }: DeviceLayer): void {
  if (!offloaded) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    "save and backward: a layer with offload cannot be trained; make it without offload",
  );
}

/**
 * Whether the experts get gradients: what is asked for, or by default if none of their matrices is quantised.
 * @throws UNSUPPORTED_OPERATION if gradients of quantised ones are asked for.
 */
export function trainsExperts({ description }: Pick<DeviceLayer, "description">, wanted: boolean | undefined): boolean {
  const [quantized] = quantizedFormats(description);
  if (!wanted || quantized === undefined) return wanted ?? quantized === undefined;
  const remedy = 'load it with dtype: "bf16", or leave the option out for dx and the routers\' gradients';
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `experts: expected f32, f16 or bf16 experts, got ${quantized}; ${remedy}`,
  );
}

/** [A, roles * columns] of all experts, the roles' biases one after another. */
function biases(
  layer: DeviceLayer,
  roles: readonly ("gateBias" | "upBias" | "downBias")[],
  columns: number,
): Tensor<FloatDType> | undefined {
  const { device, description, handle } = layer;
  if (!roles.some((role) => layer.hasExpertBias(role))) return undefined;
  const experts = description.bank.count + description.sharedExperts;
  const all = device.empty([experts, roles.length * columns], description.biasDType as FloatDType);
  for (let expert = 0; expert < experts; expert++) {
    roles.forEach((role, index) => {
      const part = all.handle.view([columns], (expert * roles.length + index) * columns);
      handle.copyWeight(role, expert, part);
      part.free();
    });
  }
  return all;
}

/** A projection's weight [rows, H], copied from the layer. */
export function copiedProjection(layer: DeviceLayer, role: "router" | "sharedGate", rows: number): Tensor<FloatDType> {
  const { device, description, handle } = layer;
  const weight = device.empty([rows, description.hiddenSize], copiedDType(description.formats[role]));
  handle.copyWeight(role, 0, weight.handle);
  return weight;
}

/** A projection's bias [rows] f32, or undefined if it has none. */
export function copiedBias(
  layer: DeviceLayer,
  role: "routerBias" | "sharedGateBias",
  rows: number,
  dtype: "f32",
): Tensor<"f32"> | undefined {
  if (!layer.record.hasBias("layer", role)) return undefined;
  const bias = layer.device.empty([rows], dtype);
  layer.handle.copyWeight(role, 0, bias.handle);
  return bias;
}
