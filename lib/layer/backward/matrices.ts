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

/** A layer's matrices of all its experts, copied, each of one role or of several that are joined by rows. */
export class CopiedMatrices implements Disposable {
  /** [A, N, K], or [A, K, N] if they are transposed. */
  readonly packed: PackedExperts;
  readonly #rows: number;
  readonly #columns: number;
  readonly #transposed: boolean;

  /** @param roles the weights [rows, columns] whose rows are joined to one matrix [N, K]. */
  constructor(
    layer: DeviceLayer,
    roles: readonly (keyof ExpertFormats)[],
    [rows, columns]: readonly [number, number],
    transposed = true,
  ) {
    const { device, expertCount } = layer;
    const { formats } = layer.description;
    const given = new Set(roles.flatMap((role) => [formats[role], formats.shared?.[role] ?? formats[role]]));
    const [format] = given;
    const dtype = given.size === 1 ? copiedDType(format as WeightFormatName) : "f32";
    this.#rows = roles.length * rows;
    this.#columns = columns;
    this.#transposed = transposed;
    const [n, k] = transposed ? [columns, this.#rows] : [this.#rows, columns];
    const handle = device.backend.packedExperts(expertCount, n, k, dtype, "none", defaultClamp, "none");
    const packing = { activation: "none", clamp: defaultClamp, tokenFormat: "none", transposed: false } as const;
    this.packed = new PackedExperts(device, handle, { format: dtype, shape: [expertCount, n, k], ...packing });
    using whole = device.empty([this.#rows, columns], dtype);
    for (let expert = 0; expert < expertCount; expert++) {
      roles.forEach((role, index) => {
        using part = whole.rows(index * rows, (index + 1) * rows);
        layer.handle.copyWeight(role, expert, part.handle);
      });
      this.#set(expert, dtype, whole.handle);
    }
  }

  /** Packs an expert's matrix again, one of [A, N, K]. */
  renew(expert: number, { dtype, handle }: Tensor<"f32">): void {
    const [rows, columns] = [this.#rows, this.#columns];
    const matrix = handle.view([rows, columns], expert * rows * columns);
    this.#set(expert, dtype, matrix);
    matrix.free();
  }

  #set(expert: number, dtype: FloatDType, handle: TensorHandle): void {
    const [rows, columns] = [this.#rows, this.#columns];
    const matrix = this.#transposed
      ? { handle, rows: columns, columns: rows, rowStride: 1, columnStride: columns }
      : { handle, rows, columns, rowStride: columns, columnStride: 1 };
    this.packed.handle.setExpert(expert, plainWeight(dtype, matrix), null);
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.packed.dispose();
  }
}

/**
 * A layer's experts as its backward pass multiplies them: transposed. Copied from the layer when they are first needed; they
 * take as much memory as the layer's own, or 4 bytes for each quantised weight.
 */
export class BackwardMatrices implements Disposable {
  /** [A, H, P], of gate and up, or of up alone. */
  readonly gateUp: CopiedMatrices;
  /** [A, H, I] */
  readonly multiplier: CopiedMatrices | undefined;
  /** [A, I, H] */
  readonly down: CopiedMatrices;
  /** [A, H, I], not transposed; undefined unless the output has a softmax, whose derivative needs the outputs again. */
  readonly downForward: CopiedMatrices | undefined;
  /** [A, H]; undefined if there is none. */
  readonly downBias: Tensor<FloatDType> | undefined;

  /** @throws UNSUPPORTED_OPERATION for a layer with offload. */
  constructor(layer: DeviceLayer) {
    checkCopied(layer);
    const { activation, multiplier, outputActivation, intermediateSize, hiddenSize } = layer.description;
    const inner = isGated(activation) ? (["gate", "up"] as const) : (["up"] as const);
    const [ofInner, ofDown] = [[intermediateSize, hiddenSize] as const, [hiddenSize, intermediateSize] as const];
    this.gateUp = new CopiedMatrices(layer, inner, ofInner);
    this.multiplier = multiplier ? new CopiedMatrices(layer, ["multiplier"], ofInner) : undefined;
    this.down = new CopiedMatrices(layer, ["down"], ofDown);
    this.downForward = outputActivation === "softmax" ? new CopiedMatrices(layer, ["down"], ofDown, false) : undefined;
    this.downBias = copiedDownBias(layer);
  }

  /** Packs an expert's matrices again. */
  renew(expert: number, { gateUp, multiplier, down }: ExpertMemory): void {
    this.gateUp.renew(expert, gateUp);
    if (multiplier) this.multiplier?.renew(expert, multiplier);
    this.down.renew(expert, down);
    this.downForward?.renew(expert, down);
  }

  /** Copies all biases again. */
  renewBiases({ downBias }: ExpertMemory): void {
    if (downBias && this.downBias) copyAll(downBias, this.downBias);
  }

  get #matrices(): readonly CopiedMatrices[] {
    return [this.gateUp, this.multiplier, this.down, this.downForward].filter((each) => each !== undefined);
  }

  /** Whether packing has failed, as far as is known without a wait. */
  get failed(): boolean {
    return this.#matrices.some(({ packed }) => packed.handle.failed) || (this.downBias?.handle.failed ?? false);
  }

  get byteLength(): number {
    const packed = this.#matrices.reduce((total, { packed: { byteLength } }) => total + byteLength, 0);
    return packed + (this.downBias?.byteLength ?? 0);
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    for (const each of this.#matrices) each[Symbol.dispose]();
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

/** [A, H] of all experts. */
function copiedDownBias(layer: DeviceLayer): Tensor<FloatDType> | undefined {
  if (!layer.hasExpertBias("downBias")) return undefined;
  const { device, description, handle, expertCount } = layer;
  const { hiddenSize, biasDType } = description;
  const all = device.empty([expertCount, hiddenSize], biasDType as FloatDType);
  for (let expert = 0; expert < expertCount; expert++) {
    const part = all.handle.view([hiddenSize], expert * hiddenSize);
    handle.copyWeight("downBias", expert, part);
    part.free();
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
