import type { LayerDescription } from "../../core/device/backend.js";
import { MoeError } from "../../core/errors.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { checkOrder } from "../../core/layer/input_order.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { isQuantized, mapTensors, type QuantizedWeight } from "../../operators/experts/quantized_weight.js";
import {
  disposeExpertMatrix,
  type ExpertMatrix,
  type ExpertWeights,
  expertShapes,
  mapExpert,
} from "./expert_weights.js";
import { matrixPlace, storedWeight, type WeightLayout } from "./weight_layout.js";

/**
 * Passes an expert of width `inner` to `set`; one that is stored as several, with its inner activations in the order in
 * which the columns of `down` are stored, so that it can be divided. Column c of a `down` with an input order multiplies
 * inner activation order[c]: the rows of the other matrices and the elements of their biases are put in this order, and
 * `down` then needs none. This is done on the host; few layers have such an expert, and it is set once.
 * @throws INVALID_ARGUMENT for an order that does not name every input once; UNSUPPORTED_OPERATION if rows share scales.
 */
export function withInnerOrder(
  weights: ExpertWeights,
  { hiddenSize, intermediateSize }: LayerDescription,
  inner: number,
  set: (weights: ExpertWeights) => void,
): void {
  const { down, downBias, ...rest } = weights;
  if (inner <= intermediateSize || !isQuantized(down) || down.inputOrder === undefined) {
    set(weights);
    return;
  }
  const { inputOrder, ...ordered } = down;
  const order = inputOrder.dataSync();
  checkOrder("shared.down.inputOrder", order);
  const shapes = expertShapes(hiddenSize, inner);
  const inOrder: Partial<ExpertWeights> = {};
  try {
    mapExpert<ExpertMatrix, void>(rest, (weight, role) => {
      inOrder[role] = rowsInOrder(`shared.${role}`, weight, shapes[role], order) as Tensor<"f32">;
    });
    set({ ...weights, ...inOrder, down: ordered });
  } finally {
    mapExpert(inOrder, disposeExpertMatrix);
  }
}

/** The rows of a matrix, or the elements of a bias, in another order, in tensors of their own. */
function rowsInOrder(parameter: string, weight: ExpertMatrix, shape: Shape, order: Int32Array): ExpertMatrix {
  if (!isQuantized(weight)) {
    const { tensor, ...layout } = storedWeight(weight);
    return gathered(tensor, shape, layout, order);
  }
  checkScalesOfRows(parameter, weight);
  const { part, ...whole } = weight;
  const layout = part === undefined ? {} : { part };
  return mapTensors(whole, (tensor) => {
    // Input scales and orders belong to columns.
    if (tensor.shape.length === 1) return tensor.reshape(tensor.shape);
    return gathered(tensor, [order.length, tensor.shape[1] as number], layout, order);
  });
}

/** The rows of a tensor's matrix of `shape` [N, K], or the elements of its bias [N], in another order. */
function gathered<T extends Tensor>(tensor: T, shape: Shape, layout: WeightLayout, order: Int32Array): T {
  const [rows, columns = 1] = shape as [number, number | undefined];
  const { offset, rowStride, columnStride } = matrixPlace([rows, columns], layout);
  const stored = tensor.rawSync();
  const values = stored.slice(0, rows * columns);
  let place = 0;
  for (const row of order) {
    const first = offset + row * rowStride;
    for (let column = 0; column < columns; column++) values[place++] = stored[first + column * columnStride] as number;
  }
  return tensor.device.tensor(values, shape, tensor.dtype) as T;
}

function checkScalesOfRows(parameter: string, { format }: QuantizedWeight): void {
  const { scales, superScales } = weightFormat(format);
  const level = [scales, superScales].find((one) => one !== undefined && one.rows > 1);
  if (level === undefined) return;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${parameter}: expected a format in which every row has scales of its own, got ${format} with scales for ` +
      `${level.rows} rows: the expert is stored as several, for which its rows are put in the order of down.inputOrder; ` +
      "dequantise it first",
  );
}
