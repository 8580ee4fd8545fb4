import { freeWeight, type WeightFormatName } from "../../core/formats/weight_format.js";
import { type Activation, isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { type QuantizedWeight, quantizedMatrix, stackedQuantized } from "../../operators/experts/quantized_weight.js";
import { dequantize } from "../../reference/formats/dequantize.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { randomIndices } from "../inputs/random_indices.js";
import { type InputChange, inputChanges, randomExperts } from "../inputs/random_quantized.js";
import { randomRouting } from "../inputs/random_routing.js";
import { unitRoundoff } from "../rounding.js";

/** Random quantised matrices [E, N, K]; in the run that computes the expected results, their values. */
function quantized(
  inputs: Inputs,
  format: WeightFormatName,
  shape: readonly [number, number, number],
  change: InputChange,
): Tensor<FloatDType> | QuantizedWeight {
  const [experts, rows, columns] = shape;
  const { device, random } = inputs;
  const weight = inputs.keepTensors(randomExperts(device, random, format, shape, change));
  if (inputs.dtype("f32") !== "f64") return weight;
  const values = new Float64Array(experts * rows * columns);
  for (let expert = 0; expert < experts; expert++) {
    const one = inputs.keepTensors(stackedQuantized(weight, expert));
    const matrix = quantizedMatrix("weight", one, [rows, columns]);
    values.set(dequantize(matrix).values, expert * rows * columns);
    freeWeight(matrix);
  }
  return inputs.keep(device.tensor(values, [experts, rows, columns], "f64"));
}

interface GemmProblem {
  format: WeightFormatName;
  change: InputChange;
  x?: FloatDType;
  activation?: Activation;
  gathered?: boolean;
  columns?: number;
}

const [offsets, outputs] = [[0, 5, 5, 22], 22] as const;

function gemmCase(problem: GemmProblem): Case {
  const { format, change, x = "f32", activation = "none", gathered = false, columns = 75 } = problem;
  return {
    name: `${x} x ${format} K${columns}, inputs: ${change}, ${activation}${gathered ? ", gathered" : ""}`,
    operator: "groupedGemm",
    tolerances: { y: 1e-5 + unitRoundoff[x] },
    run(inputs) {
      const { random } = inputs;
      const rows = isGated(activation) ? 2 * outputs : outputs;
      const weight = quantized(inputs, format, [offsets.length - 1, rows, columns], change);
      const total = offsets.at(-1) as number;
      const tokens = gathered ? 9 : total;
      const tokenOfRow = randomIndices(random, total, tokens);
      const y = groupedGemm(
        inputs.normals([tokens, columns], x),
        inputs.pack(weight, { activation }),
        inputs.integers(offsets, [offsets.length]),
        {
          bias: inputs.normals([3, rows], "f32"),
          ...(gathered && { tokenOfRow: inputs.integers(tokenOfRow, [total]) }),
        },
      );
      return { y };
    },
  };
}

/** A layer's matrices in one format, or in one for each. */
type MatrixFormats = WeightFormatName | Readonly<Record<"gate" | "up" | "down", WeightFormatName>>;

export interface QuantizedLayerProblem {
  format: MatrixFormats;
  change: InputChange;
  x?: FloatDType;
  /** The format of the shared expert's matrices, and what they do to their inputs; default: there is none. */
  shared?: readonly [WeightFormatName, InputChange];
  weightOn?: "input";
  /** Default: SwiGLU. */
  activation?: Activation;
  sizes?: Readonly<Record<keyof typeof usualSizes, number>>;
}

const usualSizes = { hiddenSize: 68, intermediateSize: 48, numExperts: 5, topK: 2, tokens: 11 } as const;

export function quantizedLayerCase(problem: QuantizedLayerProblem): Case {
  const { format, change, x = "f32", shared, weightOn, activation = "swiglu", sizes = usualSizes } = problem;
  const names = typeof format === "string" ? format : Object.values(format).join(", ");
  const extras = [
    shared && `shared expert in ${shared[0]}, inputs: ${shared[1]}`,
    weightOn && "weight on input",
    activation !== "swiglu" && activation,
    sizes !== usualSizes && Object.entries(sizes).join(" "),
  ];
  return {
    name: [`${x} x ${names}, inputs: ${change}`, ...extras.filter(Boolean)].join(", "),
    operator: "layer",
    tolerances: { y: { f64: 1e-12, f32: 1e-5, f16: 3e-3, bf16: 2e-2 }[x] },
    run(inputs) {
      const { random } = inputs;
      const { hiddenSize, intermediateSize, numExperts, topK, tokens } = sizes;
      const expert = (formats: MatrixFormats, change: InputChange, count: number) => {
        const of = typeof formats === "string" ? { gate: formats, up: formats, down: formats } : formats;
        return {
          ...(isGated(activation) && {
            gate: quantized(inputs, of.gate, [count, intermediateSize, hiddenSize], change),
          }),
          up: quantized(inputs, of.up, [count, intermediateSize, hiddenSize], change),
          down: quantized(inputs, of.down, [count, hiddenSize, intermediateSize], change),
        };
      };
      const { ids } = randomRouting(random, tokens, topK, numExperts, "uneven");
      const layer = inputs.layer({
        hiddenSize,
        intermediateSize,
        numExperts,
        topK,
        activation,
        ...(weightOn && { weightOn }),
        router: inputs.normals([numExperts, hiddenSize], "f32"),
        experts: expert(format, change, numExperts),
        ...(shared && {
          sharedExpert: { intermediateSize },
          shared: alone(inputs, expert(...shared, 1)),
        }),
      });
      const routing = {
        ids: inputs.integers(ids, [tokens, topK]),
        weights: inputs.normals([tokens, topK], "f32") as Tensor<"f32">,
      };
      return { y: inputs.forward(layer, inputs.normals([tokens, hiddenSize], x), { routing }) };
    },
  };
}

/** The only one of stacked experts. */
function alone<Matrix extends Tensor<FloatDType> | QuantizedWeight>(
  inputs: Inputs,
  expert: { readonly gate?: Matrix; readonly up: Matrix; readonly down: Matrix },
) {
  const first = (matrix: Matrix) => {
    if (!("codes" in matrix)) return inputs.keep(matrix.reshape(matrix.shape.slice(1)));
    const { columns: _, ...one } = inputs.keepTensors(stackedQuantized(matrix, 0));
    return one;
  };
  return { ...(expert.gate && { gate: first(expert.gate) }), up: first(expert.up), down: first(expert.down) };
}

const formats = [
  "i4_g32_bf16",
  "u4_g16_f32",
  "u8_channel_f16",
  "i3_g16_f32",
  "nvfp4",
  "nf4_g64_f32",
  "nf4_nested",
  "q4_k",
  "iq2_xs",
] as const;
const changes = inputChanges.filter((change) => change !== "none");

/** Quantised weights with input scales and orders, and shared experts in formats of their own. */
export const quantizedGemmCases: readonly Case[] = [
  ...formats.flatMap((format) => inputChanges.map((change) => gemmCase({ format, change }))),
  ...(["f16", "bf16"] as const).flatMap((x) =>
    changes.map((change) => gemmCase({ format: "i4_g32_bf16", change, x, activation: "swiglu" })),
  ),
  gemmCase({ format: "nf4_g64_f32", change: "order", x: "f16" }),
  gemmCase({ format: "fp4_nested", change: "none", x: "bf16", activation: "swiglu" }),
  ...changes.map((change) => gemmCase({ format: "u4_g32_f16", change, gathered: true, activation: "silu" })),
  ...(["i4_g32_bf16", "u4_g32_f16", "e4m3_g128_bf16", "mxfp4"] as const).flatMap((format) =>
    (["f32", "bf16"] as const).map((x) => gemmCase({ format, change: "none", x, gathered: true, columns: 0 })),
  ),
];

export const quantizedLayerCases: readonly Case[] = [
  ...formats.flatMap((format) => changes.map((change) => quantizedLayerCase({ format, change }))),
  ...(["f16", "bf16"] as const).flatMap((x) =>
    inputChanges.map((change) => quantizedLayerCase({ format: "i4_g32_bf16", change, x })),
  ),
  quantizedLayerCase({ format: "u4_g32_f16", change: "both", weightOn: "input" }),
  // Formats whose gate and up are separate products, and a down whose codes of padding do not mean zero.
  ...(["swiglu_clamped", "situ"] as const).map((activation) =>
    quantizedLayerCase({
      format: { gate: "i4_g32_bf16", up: "q4_k", down: "iq2_xs" },
      change: "none",
      x: "bf16",
      activation,
      sizes: { ...usualSizes, intermediateSize: 70 },
    }),
  ),
  quantizedLayerCase({ format: "i4_g32_bf16", change: "none", shared: ["i8_channel_f32", "none"] }),
  quantizedLayerCase({ format: "nf4_g64_f32", change: "none", shared: ["i4_g32_bf16", "none"], x: "bf16" }),
  quantizedLayerCase({ format: "mxfp4", change: "none", shared: ["q4_k", "scale"], x: "f16" }),
  quantizedLayerCase({ format: "u4_g32_f16", change: "order", shared: ["u4_g32_f16", "both"] }),
];
