import { MoeError } from "../../core/errors.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { type InputField, isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { sharedGateRows } from "../../core/layer/shared_gate.js";
import type { QuantizedField, WeightRole } from "../../core/layer/weight_role.js";
import { newBytes } from "../../core/tensors/allocated.js";
import { type DType, dtypes, type FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../core/tensors/shape.js";
import { Tensor } from "../../core/tensors/tensor.js";
import type { TensorHandle } from "../../core/tensors/tensor_handle.js";
import { type QuantizedWeight, quantizedTensors, tensorRoles } from "../../operators/experts/quantized_weight.js";
import {
  biasRoles,
  type ExpertSet,
  formatsOf,
  type MatrixRole,
  matrixRoles,
  presentRoles,
} from "../description/storage.js";
import type { DeviceLayer } from "../device_layer.js";
import type { LayerParts } from "../layer_parts.js";
import { expertShapes } from "./expert_weights.js";
import { extraWeights, isLatentRole } from "./extra_weights.js";
import { divides } from "./quantizing.js";

/** A tensor of a layer's weights as the layer holds it. */
export interface HeldTensor {
  /**
   * What MoeLayer.create calls it, such as `router` or `experts.3.gateBias`; of a quantised matrix the field too, such as
   * `experts.3.gate.codes`.
   */
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  /** Copies its bits to the host's memory, in order with the enqueued work. */
  readonly read: () => Promise<ArrayBufferView>;
}

/**
 * Everything that a layer holds, tensor by tensor: what makes a layer with the same results of a layer of an equal
 * description. Experts are numbered as in the whole layer. Biases are float32 in every layer but those of f64: devices may
 * keep them so, whatever `biasDType` is. The experts as which a shared one is stored are joined.
 * @throws UNSUPPORTED_OPERATION for a shared expert that was quantised in parts.
 */
export function heldTensors(parts: LayerParts): readonly HeldTensor[] {
  const { description, onDevice } = parts;
  const { hiddenSize, numExperts, formats, bank, sharedExperts, sharedGate } = description;
  const { record } = onDevice;
  const biasDType: FloatDType = description.biasDType === "f64" ? "f64" : "f32";
  const held: HeldTensor[] = [];
  const add = (role: WeightRole, dtype: FloatDType, shape: Shape) => {
    held.push({ name: role, dtype, shape, read: () => copied(parts, dtype, shape, ofRole(onDevice, role, 0)) });
  };
  add("router", formats.router as FloatDType, [numExperts, hiddenSize]);
  if (record.hasBias("layer", "routerBias")) add("routerBias", biasDType, [numExperts]);
  if (record.hasBias("layer", "selectionBias")) {
    const copy: Copy = (target) => onDevice.handle.copySelectionBias(target);
    const read = () => copied(parts, biasDType, [numExperts], copy);
    held.push({ name: "selectionBias", dtype: biasDType, shape: [numExperts], read });
  }
  if (sharedGate !== "none") {
    const rows = sharedGateRows(sharedGate);
    add("sharedGate", formats.sharedGate as FloatDType, [rows, hiddenSize]);
    if (record.hasBias("layer", "sharedGateBias")) add("sharedGateBias", biasDType, [rows]);
  }
  for (const { role } of extraWeights(description)) {
    const weight = isLatentRole(role) ? parts.projections?.weight(role) : parts.router.weights.extra(role);
    if (weight) held.push(...tensorsHeld(role, weight));
  }
  for (let expert = 0; expert < bank.count; expert++) {
    held.push(...expertTensors(parts, "experts", `experts.${bank.first + expert}`, [expert], biasDType));
  }
  if (sharedExperts > 0) {
    const first = onDevice.description.bank.count;
    const stored = Array.from({ length: sharedExperts }, (_, index) => first + index);
    held.push(...expertTensors(parts, "shared", "shared", stored, biasDType));
  }
  return held;
}

/** A weight that the layer itself holds, of a quantised one its fields. */
function tensorsHeld(role: string, weight: Tensor | QuantizedWeight): readonly HeldTensor[] {
  const one = (name: string, tensor: Tensor): HeldTensor => ({
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    read: async () => await tensor.raw(),
  });
  if (weight instanceof Tensor) return [one(role, weight)];
  if (weight.scalar !== undefined) {
    throw new MoeError(
      "UNSUPPORTED_OPERATION",
      `${role}: expected a quantised projection without a scalar, which a file has no place for; ` +
        "multiply its scales by it, or give it as floats",
    );
  }
  return tensorRoles.flatMap((field) => (weight[field] ? [one(`${role}.${field}`, weight[field])] : []));
}

/** The tensors of an expert that is stored as several, side by side: columns of `down`, rows of the others. */
function expertTensors(
  parts: LayerParts,
  set: ExpertSet,
  name: string,
  stored: readonly number[],
  biasDType: FloatDType,
): readonly HeldTensor[] {
  const layer = set === "shared" ? parts.onDevice : parts.routed;
  const { hiddenSize, intermediateSize } = layer.description;
  const { formats } = parts.description;
  const { record, sharedWidth } = layer;
  const shapes = expertShapes(hiddenSize, set === "shared" ? sharedWidth : intermediateSize);
  const storedShapes = expertShapes(hiddenSize, intermediateSize);
  const joined = (place: string, dtype: DType, part: Shape, whole: Shape, axis: number, copy: CopyOf): HeldTensor => ({
    name: `${name}.${place}`,
    dtype,
    shape: whole,
    read: async () => {
      const count = Math.ceil((whole[axis] as number) / (part[axis] as number));
      const pieces: Uint8Array[] = [];
      for (const expert of stored.slice(0, count)) pieces.push(await copied(parts, dtype, part, copy(expert)));
      return pieces.length === 1 && shapeSize(part) === shapeSize(whole)
        ? (pieces[0] as Uint8Array)
        : sideBySide(pieces, part, whole, axis, dtypes[dtype].bytes);
    },
  });
  const matrices = presentRoles(matrixRoles, parts.description).flatMap((role) => {
    const format = formatsOf(formats, set)[role];
    if (stored.length > 1) checkWhole(format, role, intermediateSize);
    const has = (field: InputField) => record.hasInput(set, role, field);
    const whole = matrixTensors(format, shapes[role], has);
    const part = matrixTensors(format, storedShapes[role], has);
    return whole.map(([field, shape, dtype], index) => {
      const partShape = (part[index] as MatrixTensor)[1];
      const axis = role === "down" && shape.length === 2 ? 1 : 0;
      const copy: CopyOf = (expert) => (field ? ofField(layer, role, expert, field) : ofRole(layer, role, expert));
      return joined(field ? `${role}.${field}` : role, dtype, partShape, shape, axis, copy);
    });
  });
  const biases = presentRoles(biasRoles, parts.description)
    .filter((role) => record.hasBias(set, role))
    .map((role) =>
      joined(role, biasDType, storedShapes[role], shapes[role], 0, (expert) => ofRole(layer, role, expert)),
    );
  return [...matrices, ...biases];
}

type MatrixTensor = readonly [field: QuantizedField | undefined, shape: Shape, dtype: DType];

/** The tensors of a matrix: itself, if it is plain. */
function matrixTensors(
  format: WeightFormatName,
  shape: Shape,
  has: (field: InputField) => boolean,
): readonly MatrixTensor[] {
  if (isPlain(weightFormat(format))) return [[undefined, shape, format as FloatDType]];
  return quantizedTensors(format, shape, has);
}

/** A quantised matrix that is stored in parts can be joined if no group or byte has elements of two parts. */
function checkWhole(format: WeightFormatName, role: MatrixRole, width: number): void {
  if (isPlain(weightFormat(format)) || divides(format, role, width)) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `shared.${role}: expected groups of ${format} that do not cut the shared expert at multiples of intermediateSize ` +
      `${width}, where it is divided to be stored; choose another format for it, such as dtype: { shared: "bf16" }`,
  );
}

/** Enqueues a copy into a tensor. */
type Copy = (target: TensorHandle) => void;
type CopyOf = (expert: number) => Copy;

function ofRole(layer: DeviceLayer, role: WeightRole, expert: number): Copy {
  return (target) => layer.handle.copyWeight(role, expert, target);
}

function ofField(layer: DeviceLayer, role: MatrixRole, expert: number, field: QuantizedField): Copy {
  return (target) => layer.handle.copyField(role, expert, field, target);
}

async function copied({ device }: LayerParts, dtype: DType, shape: Shape, copy: Copy): Promise<Uint8Array> {
  using tensor: Tensor = device.empty(shape, dtype);
  copy(tensor.handle);
  const { buffer, byteOffset, byteLength } = await tensor.raw();
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Parts of a tensor one after another along an axis, the last one without what the whole does not have. */
function sideBySide(
  pieces: readonly Uint8Array[],
  part: Shape,
  whole: Shape,
  axis: number,
  elementBytes: number,
): Uint8Array {
  const runBytes = (shape: Shape) => shapeSize(shape.slice(axis)) * elementBytes;
  const [from, to] = [runBytes(part), runBytes(whole)];
  const joined = newBytes(shapeSize(whole) * elementBytes);
  const runs = shapeSize(whole.slice(0, axis));
  pieces.forEach((piece, index) => {
    const bytes = Math.min(from, to - index * from);
    for (let run = 0; run < runs; run++) {
      joined.set(piece.subarray(run * from, run * from + bytes), run * to + index * from);
    }
  });
  return joined;
}
