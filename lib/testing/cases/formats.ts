import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { isPlain, namedFormats, readOnlyFormats } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { shapeSize } from "../../core/tensors/shape.js";
import { tensorsOf } from "../../operators/experts/quantized_weight.js";
import { dequantize, quantizationError } from "../../operators/formats/dequantize.js";
import { quantize, type ScaleChoice } from "../../operators/formats/quantize.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { randomQuantized } from "../inputs/random_quantized.js";
import { unitRoundoff } from "../rounding.js";

/** Formats whose names follow a rule: every kind of code, of groups, of scales and of offsets. */
const composedFormats = [
  "i4_g32_bf16",
  "i4_g128_f16",
  "i8_channel_f32",
  "i3_g64_f32",
  "i5_g48_bf16",
  "u4_g32_bf16",
  "u4_g32_e4m3",
  "u2_g16_f32",
  "u8_channel_f32",
  "a4_g64_bf16",
  "a6_g32_f32",
  "e4m3_b128_f32",
  "e4m3_g32_e8m0",
  "i6_b128_bf16",
  "nf4_g64_f32",
  "fp4_g64_f32",
  "iq4_g32_f16",
  "i4_g16_e4m3",
] as const satisfies readonly WeightFormatName[];

const quantizedFormats = [...namedFormats.values()].filter((format) => !isPlain(format)).map(({ name }) => name);

/** Formats to quantise to: some whose names follow a rule, and all that have names of their own. */
export const quantizableFormats: readonly WeightFormatName[] = [
  ...composedFormats,
  ...quantizedFormats.filter((name) => !readOnlyFormats.has(name)),
];

/** Formats to dequantise: also those that are only read from checkpoints. */
export const dequantizableFormats: readonly WeightFormatName[] = [...composedFormats, ...quantizedFormats];

interface Problem {
  shape: readonly number[];
  dtype?: FloatDType;
  scale?: ScaleChoice;
  /** What is added to normal values, and what they are multiplied by. */
  mean?: number;
  deviation?: number;
}

function values(inputs: Inputs, { shape, dtype = "f32", mean = 0, deviation = 0.05 }: Problem) {
  const normals = inputs.random.normals(shapeSize(shape), deviation);
  return inputs.floats(
    normals.map((value) => value + mean),
    shape,
    dtype,
  );
}

function label(format: string, { shape, dtype = "f32", scale, mean, deviation }: Problem): string {
  const extras = [scale, mean && `mean ${mean}`, deviation !== undefined && `deviation ${deviation}`];
  return [`${format} [${shape.join(", ")}] ${dtype}`, ...extras.filter(Boolean)].join(", ");
}

/** Codes and scales must have the same bits on every device. */
export function quantizeCase(format: WeightFormatName, problem: Problem): Case {
  return {
    name: label(format, problem),
    operator: "quantize",
    tolerances: {},
    run(inputs) {
      const { scale = "largest" } = problem;
      const weight = quantize(values(inputs, problem), format, { scale });
      return Object.fromEntries(tensorsOf(weight).map((tensor, index) => [`part ${index}`, tensor]));
    },
  };
}

export function dequantizeCase(
  format: WeightFormatName,
  dtype: FloatDType,
  { matrix = [7, 272], lead = [] }: { matrix?: readonly [number, number]; lead?: readonly number[] } = {},
): Case {
  return {
    name: `${format} [${[...lead, ...matrix].join(", ")}] to ${dtype}`,
    operator: "dequantize",
    tolerances: { values: 4 * unitRoundoff.f32 + unitRoundoff[dtype] },
    run(inputs) {
      const weight = inputs.keepTensors(randomQuantized(inputs.device, inputs.random, format, matrix, 0.05, lead));
      const [, columns] = matrix;
      return { values: dequantize({ ...weight, columns }, { out: inputs.empty([...lead, ...matrix], dtype) }) };
    },
  };
}

export function quantizationErrorCase(format: WeightFormatName, problem: Problem): Case {
  return {
    name: label(format, problem),
    operator: "quantizationError",
    tolerances: { error: 1e-5 },
    // An element that is alone in its group is off by no more than rounding.
    magnitudes: { error: 0.01 },
    run(inputs) {
      const given = values(inputs, problem);
      const weight = inputs.keep(quantize(given, format));
      return { error: quantizationError(given, weight) };
    },
  };
}

export const quantizeCases: readonly Case[] = [
  ...quantizableFormats.flatMap((format) => [
    quantizeCase(format, { shape: [5, 304] }),
    quantizeCase(format, { shape: [3, 259], scale: "least_squares", dtype: "bf16" }),
  ]),
  ...(["q4_1", "q4_k", "u4_g32_bf16"] as const).flatMap((format) => [
    quantizeCase(format, { shape: [3, 256], mean: 0.3 }),
    quantizeCase(format, { shape: [3, 256], mean: -0.3, scale: "least_squares" }),
  ]),
  ...(["nvfp4", "mxfp4", "q6_k", "i4_g32_f16", "e4m3_channel_f32"] as const).flatMap((format) => [
    quantizeCase(format, { shape: [2, 128], deviation: 0 }),
    quantizeCase(format, { shape: [2, 128], deviation: 1e-38 }),
    quantizeCase(format, { shape: [2, 128], deviation: 1e37 }),
  ]),
  quantizeCase("e4m3_b128_f32", { shape: [150, 260] }),
  quantizeCase("nvfp4", { shape: [3, 4, 80] }),
  quantizeCase("i4_g128_bf16", { shape: [2, 5, 33], dtype: "f16" }),
  quantizeCase("q4_k", { shape: [0, 256] }),
  quantizeCase("nvfp4", { shape: [3, 0] }),
  quantizeCase("i8_channel_f32", { shape: [2, 1, 1] }),
];

export const dequantizeCases: readonly Case[] = [
  ...dequantizableFormats.map((format) => dequantizeCase(format, "f32")),
  dequantizeCase("q4_k", "bf16", { lead: [3] }),
  dequantizeCase("e4m3_b128_f32", "f16"),
  dequantizeCase("u3_g32_f16", "f32", { matrix: [5, 37] }),
];

export const quantizationErrorCases: readonly Case[] = [
  ...quantizableFormats.map((format) => quantizationErrorCase(format, { shape: [9, 272] })),
  quantizationErrorCase("mxfp4", { shape: [3, 20, 64], dtype: "bf16" }),
  quantizationErrorCase("i8_g32_f32", { shape: [4, 64], deviation: 0 }),
  quantizationErrorCase("q5_k", { shape: [2, 0, 256] }),
  quantizationErrorCase("nvfp4", { shape: [3, 0] }),
];
