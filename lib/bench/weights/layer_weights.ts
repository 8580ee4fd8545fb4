import type { Device } from "../../core/device/device.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import { quantize } from "../../operators/formats/quantize.js";
import { drawnDeviation, drawnDType, drawnMatrices, RandomWeights } from "../../testing/inputs/random_layer.js";
import { withArrays } from "../../testing/subject/arrays.js";
import type { SubjectInputs, TestArray } from "../../testing/subject/subject.js";
import { emptyStack, place } from "./stacked.js";

/**
 * The weights that `randomLayer` gives a layer of the same seed, as subjects get them: the router, and the experts' matrices
 * stacked, which are quantised by the device.
 */
export function layerArrays(
  device: Device,
  config: MoeLayerConfig,
  format: WeightFormatName,
  seed: number,
): SubjectInputs {
  const { hiddenSize, numExperts } = config;
  const weights = new RandomWeights(seed);
  const dtype = drawnDType(format);
  const draw = (rows: number, columns: number): TestArray => ({
    data: weights.array(rows * columns, dtype, drawnDeviation(columns)),
    shape: [rows, columns],
    dtype,
  });
  const router = draw(numExperts, hiddenSize);
  const experts: Record<string, unknown> = {};
  for (let expert = 0; expert < numExperts; expert++) {
    for (const [role, rows, columns] of drawnMatrices(config)) {
      const matrix = stored(device, draw(rows, columns), format);
      experts[role] ??= emptyStack(matrix, numExperts);
      place(experts[role], matrix, expert);
    }
  }
  return { router, experts };
}

/** A matrix in the format, as subjects get it. */
function stored(device: Device, matrix: TestArray, format: WeightFormatName): unknown {
  if (isPlain(weightFormat(format))) return matrix;
  using values = device.tensor(matrix.data, matrix.shape, matrix.dtype as "f32");
  using weight = quantize(values, format);
  return { ...(withArrays(weight) as object), columns: matrix.shape[1] };
}
