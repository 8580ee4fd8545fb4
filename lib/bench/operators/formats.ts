import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { type QuantizedWeight, quantizedTensors } from "../../operators/experts/quantized_weight.js";
import { dequantize, quantizationError } from "../../operators/formats/dequantize.js";
import { quantizeInto } from "../../operators/formats/quantize.js";
import type { OutputArray } from "../../testing/subject/subject.js";
import type { Draw } from "./draw.js";
import { type CallTensors, f32, type OperatorCase, type Sizes } from "./operator_case.js";

/** The format of the experts' weights or, if that is plain, another. */
const formatOf = ({ format }: Sizes): string => (isPlain(weightFormat(format)) ? "i4_g32_bf16" : format);

const matrixOf = ({ intermediateSize, hiddenSize }: Sizes) => [intermediateSize, hiddenSize] as const;

const values = (draw: Draw, sizes: Sizes) => draw.normals(matrixOf(sizes), sizes.dtype, sizes.hiddenSize ** -0.5);

/** The tensors of one quantised matrix, as outputs. */
function quantizedOutputs(sizes: Sizes): Record<string, OutputArray> {
  const tensors = quantizedTensors(formatOf(sizes), matrixOf(sizes));
  return Object.fromEntries(tensors.map(([role, shape, dtype]) => [role, { shape, dtype }]));
}

const quantized = (sizes: Sizes) => ({ format: formatOf(sizes), matrix: matrixOf(sizes) });

const strided = ({ values: { handle } }: CallTensors, sizes: Sizes) => {
  const [rows, columns] = matrixOf(sizes);
  return { handle, rows, columns, rowStride: columns, columnStride: 1 };
};

/** One expert's matrix [I, H] to and from a quantised format. */
export const formatsCases: readonly OperatorCase[] = [
  ...(["largest", "least_squares"] as const).map(
    (scale): OperatorCase => ({
      operator: "quantize",
      name: scale === "largest" ? "quantize" : "quantize least_squares",
      inputs: (draw, sizes) => ({ values: values(draw, sizes) }),
      outputs: quantizedOutputs,
      call: (sizes) => {
        const format = formatOf(sizes);
        return (tensors, out, device) =>
          quantizeInto({ ...out, format } as unknown as QuantizedWeight, strided(tensors, sizes), device, scale);
      },
    }),
  ),
  {
    operator: "dequantize",
    name: "dequantize",
    inputs: () => ({}),
    quantized,
    outputs: (sizes) => ({ values: { shape: matrixOf(sizes), dtype: sizes.dtype } }),
    call:
      () =>
      ({ weight }, { values: out }) =>
        void dequantize(weight, { out }),
  },
  {
    operator: "quantizationError",
    name: "quantizationError",
    inputs: (draw, sizes) => ({ values: values(draw, sizes) }),
    quantized,
    outputs: () => ({ error: f32(1) }),
    call:
      () =>
      ({ values: given, weight }, { error }) =>
        void quantizationError(given, weight, { out: error }),
  },
];
