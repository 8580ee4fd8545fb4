import { abortSignal } from "../../core/device/cancellation.js";
import { type Device, openedDevice } from "../../core/device/device.js";
import { invalidArgument, unexpected } from "../../core/errors.js";
import { callback, type Fields, integer, list, object, optional, type Read } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, sameShape, shapeText } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { isQuantized, ownedQuantized, type QuantizedWeight } from "../../operators/experts/quantized_weight.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { isNumbered, type NamedWeight } from "../locate/locate_layer.js";
import { bytesOf, type LocatedWeight, placeOf } from "../locate/located_weight.js";
import { weightStack } from "../locate/weight_stack.js";
import type { ModelFiles } from "../opened/model_files.js";
import { MatrixReader, type Progress } from "./matrix_reader.js";

/** Options of {@link MoeModel.weight}. */
export interface ModelWeightOptions {
  /** Where the weight goes. */
  device: Device;
  /** [N, K] of a matrix, [N] of a vector, or [E, N, K] of a stack of matrices, as the model's configuration has it. */
  shape: Shape;
  /** Called while it is read. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

export const modelWeightOptions = object(
  {
    device: openedDevice,
    shape: list(integer(1)),
    onProgress: optional(callback<NonNullable<ModelWeightOptions["onProgress"]>>()),
    signal: optional(abortSignal),
  } satisfies Fields<ModelWeightOptions>,
  "{ device, shape: [4096, 2048] }",
);

/** A weight of a model that is no layer's, as it is stored. Throws as {@link MoeModel.weight}. */
export async function loadModelWeight(
  files: ModelFiles,
  name: string,
  { device, shape, ...options }: Read<typeof modelWeightOptions>,
): Promise<Tensor<FloatDType> | (QuantizedWeight & Disposable)> {
  if (shape.length < 1 || shape.length > 3) {
    throw unexpected("shape", "[N], [N, K] or [E, N, K]", shapeText(shape));
  }
  if (isNumbered(name)) throw invalidArgument("name", "the name of one tensor, without {e}", name);
  const located = await locateWhole(files, name, shape);
  const weight = await new MatrixReader(device, bytesOf(located), options).read(located);
  return isQuantized(weight) ? ownedQuantized({ ...weight, columns: shape.at(-1) }) : weight.tensor;
}

async function locateWhole(files: ModelFiles, name: string, shape: Shape): Promise<LocatedWeight> {
  const origin = "the option shape";
  const stacked = shape.length === 3;
  const [count, one] = stacked ? [shape[0] as number, shape.slice(1)] : [1, shape];
  const weight: NamedWeight = stacked ? { name, stacked: "dim0" } : { name };
  const locate = files.locate(origin);
  // The first is refused unless the files have as many.
  const all: LocatedWeight[] = [];
  while (all.length < count) {
    const { length: index } = all;
    all.push(await locate({ weight, shape: one, expert: index, index, count, role: name, piece: one }));
  }
  const located = stacked ? weightStack(all) : (all[0] as LocatedWeight);
  // Floats of a stack may be found with inputs first.
  if (sameShape(located.shape, shape)) return located;
  const got = shapeText(located.shape);
  throw badCheckpoint(placeOf(located), `expected shape ${shapeText(shape)} from ${origin}, got ${got}`);
}
