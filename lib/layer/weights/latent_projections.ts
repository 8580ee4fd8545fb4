import type { PackedHandle } from "../../core/device/backend.js";
import type { Device } from "../../core/device/device.js";
import { cannotCombine } from "../../core/errors.js";
import { plainWeight, type WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { defaultClamp } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { HostTensor } from "../../core/tensors/host_tensor.js";
import type { Shape } from "../../core/tensors/shape.js";
import { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import {
  checkQuantized,
  disposeQuantized,
  isQuantized,
  mapTensors,
  type QuantizedWeight,
  quantizedMatrix,
  tensorsOf,
} from "../../operators/experts/quantized_weight.js";
import type { QuantizeOptions } from "../../operators/formats/quantize.js";
import type { DeviceLayer } from "../device_layer.js";
import type { ExpertMatrix } from "./expert_weights.js";
import { extraShape, type LatentRole } from "./extra_weights.js";
import { withMatrices } from "./linear.js";
import { quantizeMatrix } from "./quantizing.js";
import { checkWeight, type Weight, wholeMatrix, wholeWeight } from "./weight_layout.js";

/** The projections of a layer with `latent`. */
export type LatentMatrix = Exclude<LatentRole, "latentNormWeight">;

/** A matrix as it was set, which is saved and trained, and as the device multiplies by it. */
interface Projection {
  readonly held: Tensor<FloatDType> | QuantizedWeight;
  readonly packed: PackedHandle;
}

/**
 * What leads from tokens to the routed experts of a layer with `latent` and back: two matrices, each in its own format, and
 * perhaps the weight of a norm. Setters check the weight and enqueue a copy.
 */
export class LatentProjections {
  readonly #layer: DeviceLayer;
  readonly #quantize: QuantizeOptions;
  readonly #matrices: Partial<Record<LatentMatrix, Projection>> = {};
  #normWeight: Tensor<FloatDType> | undefined;

  /** @param layer what reads the tokens as they are. */
  constructor(layer: DeviceLayer, quantize: QuantizeOptions = {}) {
    this.#layer = layer;
    this.#quantize = quantize;
  }

  /** Sets one of the weights. A matrix is kept in the format that the layer's description has for it. */
  set(role: LatentRole, weight: ExpertMatrix): void {
    const { device, description, record } = this.#layer;
    const shape = extraShape(description, role);
    if (role === "latentNormWeight") {
      checkWeight(role, weight as Weight, shape, device);
      this.#normWeight ??= device.empty(shape, description.formats.router as FloatDType);
      copyFloats(weight as Weight, shape, this.#normWeight);
    } else {
      if (isQuantized(weight)) {
        if (weight.part !== undefined) throw cannotCombine(`${role}.part`, "a quantised projection");
        checkQuantized(role, weight, shape as [number, number], device);
      } else checkWeight(role, weight, shape, device);
      this.#setMatrix(role, weight, shape as [number, number]);
    }
    record.version++;
  }

  #setMatrix(role: LatentMatrix, weight: ExpertMatrix, [rows, columns]: readonly [number, number]): void {
    const { device, description } = this.#layer;
    const format = description.formats[role] as WeightFormatName;
    const held = heldAs(device, format, weight, [rows, columns], this.#quantize);
    let made: PackedHandle | undefined;
    try {
      const packed = device.backend.packedExperts(1, rows, columns, format, "none", defaultClamp, "none");
      made = packed;
      withMatrices({ matrix: matrixOf(role, held, [rows, columns]) }, ({ matrix }) =>
        packed.setExpert(0, matrix, null),
      );
      this.#free(role);
      this.#matrices[role] = { held, packed };
    } catch (error) {
      made?.free();
      dispose(held);
      throw error;
    }
  }

  /** A weight as it is held: in its own format, or the norm's in the router's dtype. */
  weight(role: LatentRole): Tensor<FloatDType> | QuantizedWeight | undefined {
    return role === "latentNormWeight" ? this.#normWeight : this.#matrices[role]?.held;
  }

  /** The values of a weight [N, K] or [N]; for the caller to dispose of. */
  values(role: LatentRole): Tensor<FloatDType> {
    const held = this.weight(role) as Tensor<FloatDType> | QuantizedWeight;
    if (held instanceof Tensor) return held.reshape(held.shape);
    const { device, description } = this.#layer;
    const shape = extraShape(description, role) as [number, number];
    const values = device.empty(shape, "f32");
    withMatrices({ matrix: quantizedMatrix(role, held, shape) }, ({ matrix }) => {
      device.backend.dequantize({ weight: matrix, values: values.handle });
    });
    return values;
  }

  /** Enqueues y = a projection of `rows` rows x. */
  project(role: LatentMatrix, x: TensorHandle, y: TensorHandle, rows: number): void {
    const { device, handle } = this.#layer;
    void handle; // throws once the layer is disposed of
    const { offsets } = this.#layer.constants(rows);
    const { packed: weight } = this.#matrices[role] as Projection;
    device.backend.groupedGemm({ x, weight, bias: undefined, offsets: offsets.handle, tokenOfRow: undefined, y });
  }

  /** The projection [T, L] of tokens x [T, H], in their dtype. */
  down(x: TensorHandle, tokens: number, dtype: FloatDType): Tensor<FloatDType> {
    const { device, description } = this.#layer;
    const z = device.empty([tokens, description.latent?.size as number], dtype);
    this.project("latentDown", x, z.handle, tokens);
    return z;
  }

  /** What `latentUp` multiplies: the sums [T, L] of experts, after the norm if there is one. */
  normalised(sums: Tensor<FloatDType>): Tensor<FloatDType> {
    const { device, description } = this.#layer;
    const norm = description.latent?.norm;
    if (norm === undefined) return sums;
    const y = device.empty(sums.shape, sums.dtype);
    const weight = this.#normWeight as Tensor;
    device.backend.rmsNorm({ x: sums.handle, weight: weight.handle, y: y.handle, epsilon: norm.epsilon, offset: 0 });
    return y;
  }

  get byteLength(): number {
    const matrices = Object.values(this.#matrices);
    return matrices.reduce(
      (total, { held, packed }) => total + bytesOf(held) + packed.byteLength,
      this.#normWeight?.byteLength ?? 0,
    );
  }

  free(): void {
    for (const role of Object.keys(this.#matrices) as LatentMatrix[]) this.#free(role);
    this.#normWeight?.dispose();
  }

  #free(role: LatentMatrix): void {
    const before = this.#matrices[role];
    if (before === undefined) return;
    dispose(before.held);
    before.packed.free();
    delete this.#matrices[role];
  }
}

/** A copy of a matrix in a format. */
function heldAs(
  device: Device,
  format: WeightFormatName,
  weight: ExpertMatrix,
  shape: readonly [number, number],
  quantize: QuantizeOptions,
): Tensor<FloatDType> | QuantizedWeight {
  if (isPlain(weightFormat(format))) {
    const copy = device.empty(shape, format as FloatDType);
    if (!isQuantized(weight)) copyFloats(weight, shape, copy);
    else {
      withMatrices({ matrix: quantizedMatrix("weight", weight, shape) }, ({ matrix }) => {
        device.backend.dequantize({ weight: matrix, values: copy.handle });
      });
    }
    return copy;
  }
  if (isQuantized(weight) && weight.format === format) return mapTensors(weight, copyOf);
  const whole = isQuantized(weight) ? quantizedMatrix("weight", weight, shape) : wholeWeight(weight, shape);
  let quantized: QuantizedWeight | undefined;
  withMatrices({ matrix: whole }, ({ matrix }) => {
    quantized = quantizeMatrix(device, matrix, format, quantize);
  });
  return quantized as unknown as QuantizedWeight;
}

/** A copy of any dtype, made by way of the host, as operators copy floats alone. */
function copyOf(tensor: Tensor): Tensor {
  using onHost = new HostTensor(tensor);
  return onHost.toDevice();
}

function copyFloats(weight: Weight, shape: Shape, target: Tensor<FloatDType>): void {
  withMatrices({ matrix: wholeMatrix(weight, shape) }, ({ matrix }) => {
    target.device.backend.copyMatrix({ source: matrix, target: target.handle });
  });
}

function matrixOf(role: LatentRole, held: Tensor<FloatDType> | QuantizedWeight, shape: readonly [number, number]) {
  if (!(held instanceof Tensor)) return quantizedMatrix(role, held, shape);
  return plainWeight(held.dtype, wholeMatrix(held, shape));
}

function dispose(held: Tensor<FloatDType> | QuantizedWeight): void {
  if (held instanceof Tensor) held.dispose();
  else disposeQuantized(held);
}

function bytesOf(held: Tensor<FloatDType> | QuantizedWeight): number {
  if (held instanceof Tensor) return held.byteLength;
  return tensorsOf(held).reduce((total, { byteLength }) => total + byteLength, 0);
}
