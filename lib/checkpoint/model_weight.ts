import { abortSignal } from "../core/cancellation.js";
import { type Device, openedDevice } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { unexpected } from "../core/errors.js";
import { callback, type Fields, integer, list, object, optional, type Read } from "../core/options.js";
import { type Shape, shapeText } from "../core/shape.js";
import type { Tensor } from "../core/tensor.js";
import { isQuantized, ownedQuantized, type QuantizedWeight } from "../operators/experts/quantized_weight.js";
import { bytesOf } from "./located_weight.js";
import { MatrixReader, type Progress } from "./matrix_reader.js";
import type { ModelFiles } from "./opened/model_files.js";

/** Options of {@link MoeModel.weight}. */
export interface ModelWeightOptions {
  /** Where the weight goes. */
  device: Device;
  /** [N, K] of a matrix, or [N] of a vector, as the model's configuration has it. */
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
  if (shape.length !== 1 && shape.length !== 2) throw unexpected("shape", "[N] or [N, K]", shapeText(shape));
  const wanted = { weight: { name }, shape, expert: 0, role: name, piece: shape };
  const located = await files.locate("the option shape")(wanted);
  const matrix = await new MatrixReader(device, bytesOf(located), options).read(located);
  return isQuantized(matrix) ? ownedQuantized({ ...matrix, columns: shape[1] }) : matrix.tensor;
}
