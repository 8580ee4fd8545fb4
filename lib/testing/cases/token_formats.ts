import type { TokenFormat } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { weightFormat } from "../../core/formats/weight_formats.js";
import { type Activation, isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { MoeLayer } from "../../moe_layer.js";
import { groupedGemm } from "../../operators/experts/grouped_gemm.js";
import { packExperts } from "../../operators/experts/packed_experts.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import type { Random } from "../inputs/random.js";
import { randomIndices } from "../inputs/random_indices.js";
import { type InputChange, inputChanges, randomExperts } from "../inputs/random_quantized.js";
import { unitRoundoff } from "../rounding.js";

// Products that round their tokens to 8 bits. All runs compute with the same tokens in the same dtype, as the codes are
// those of float32; `reference` then computes with codes and scales in float64.

type RoundedTokens = Exclude<TokenFormat, "none">;

interface GemmProblem {
  tokens: RoundedTokens;
  format: WeightFormatName;
  change?: InputChange;
  x?: FloatDType;
  activation?: Activation;
  gathered?: boolean;
  columns?: number;
}

const [offsets, outputs] = [[0, 5, 5, 22], 22] as const;

function gemmCase(problem: GemmProblem): Case {
  const { tokens, format, change = "none", x = "f32", activation = "none", gathered = false, columns = 300 } = problem;
  return {
    name:
      `${tokens} of ${x} x ${format} K${columns}, inputs: ${change}, ` + `${activation}${gathered ? ", gathered" : ""}`,
    operator: "groupedGemm",
    devicesOnly: true,
    tolerances: { y: 1e-5 + unitRoundoff[x] },
    run(inputs) {
      const { device, random } = inputs;
      const rows = isGated(activation) ? 2 * outputs : outputs;
      const experts = offsets.length - 1;
      const weight = inputs.keepTensors(randomExperts(device, random, format, [experts, rows, columns], change));
      const total = offsets.at(-1) as number;
      const count = gathered ? 9 : total;
      const values = random.normals(count * columns);
      values.fill(0, 0, columns); // a row of zeros
      const tokenOfRow = randomIndices(random, total, count);
      const y = groupedGemm(
        inputs.keep(device.tensor(values, [count, columns], x)),
        inputs.keep(packExperts(weight, { activation, tokenFormat: tokens })),
        inputs.integers(offsets, [offsets.length]),
        {
          bias: inputs.keep(device.tensor(random.normals(experts * rows), [experts, rows])),
          ...(gathered && { tokenOfRow: inputs.integers(tokenOfRow, [total]) }),
        },
      );
      return { y };
    },
  };
}

interface LayerProblem {
  tokens: RoundedTokens;
  format: WeightFormatName;
  x?: FloatDType;
  activation?: Activation;
  shared?: WeightFormatName;
  multiplier?: boolean;
  weightOn?: "input";
}

const sizes = { hiddenSize: 160, intermediateSize: 96, numExperts: 5, topK: 2 } as const;

/** Whole numbers that are codes of a format, the largest of which is that of its codes. */
function codesOf(format: WeightFormatName): readonly number[] {
  const { code, bits } = weightFormat(format);
  if (code === "e4m3") return [...numbersTo(15), 448];
  return code === "table" ? [1, 2, 3, 4, 6] : numbersTo(2 ** (bits - 1) - 1);
}

const numbersTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

/** Random values of both signs; the last of `magnitudes` is among any `width` columns, and only once, as x = +largest. */
function randomValues(random: Random, rows: number, columns: number, width: number, magnitudes: readonly number[]) {
  const values = new Float32Array(rows * columns);
  const smaller = magnitudes.slice(0, -1);
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < columns; first += width) {
      const group = values.subarray(row * columns + first, row * columns + Math.min(first + width, columns));
      group.forEach((_, k) => {
        group[k] = (random.integer(0, 1) * 2 - 1) * (smaller[random.integer(0, smaller.length - 1)] as number);
      });
      group[random.integer(0, group.length - 1)] = magnitudes.at(-1) as number;
    }
  }
  return values;
}

/** Weights whose codes are whole numbers and whose scales are powers of two. */
function wholeWeights(
  inputs: Inputs,
  format: WeightFormatName,
  [count, rows, columns]: readonly [number, number, number],
) {
  const width = weightFormat(format).scales?.columns || columns;
  const values = inputs.drawn((random) => {
    const experts = new Float32Array(count * rows * columns);
    for (let expert = 0; expert < count; expert++) {
      const codes = randomValues(random, rows, columns, width, codesOf(format));
      experts.set(
        codes.map((code) => code * 2 ** ((expert % 3) - 9)),
        expert * rows * columns,
      );
    }
    return experts;
  });
  return inputs.keep(inputs.device.tensor(values, [count, rows, columns]));
}

/**
 * A layer whose inner activations are exact in float32, so that all devices round them to the same codes: tokens and
 * weights are whole numbers times powers of two, and so are the weights of a routing that multiply inputs. Gated
 * activations are not exact; there a code may differ by one where a value is near the middle of two.
 */
function layerCase(problem: LayerProblem): Case {
  const { tokens, format, x = "f32", activation = "relu", shared, multiplier = false, weightOn } = problem;
  const exact = !isGated(activation);
  const extras = [
    shared && `shared expert in ${shared}`,
    multiplier && "multiplier",
    weightOn && "weight on input",
  ].filter(Boolean);
  return {
    name: [`${tokens} of ${x} x ${format}, ${activation}`, ...extras].join(", "),
    operator: "layer",
    devicesOnly: true,
    tolerances: { y: (exact ? 1e-5 : tokens === "int8" ? 1e-2 : 1e-1) + 2 * unitRoundoff[x] },
    run(inputs) {
      const { device, random } = inputs;
      const { hiddenSize, intermediateSize, numExperts, topK } = sizes;
      const count = 11;
      const expert = (name: WeightFormatName, experts: number) => ({
        ...(isGated(activation) && { gate: wholeWeights(inputs, name, [experts, intermediateSize, hiddenSize]) }),
        up: wholeWeights(inputs, name, [experts, intermediateSize, hiddenSize]),
        ...(multiplier && { multiplier: wholeWeights(inputs, name, [experts, intermediateSize, hiddenSize]) }),
        down: wholeWeights(inputs, name, [experts, hiddenSize, intermediateSize]),
      });
      const first = (name: WeightFormatName) =>
        Object.fromEntries(
          Object.entries(expert(name, 1)).map(([role, weight]) => [
            role,
            inputs.keep(weight.reshape(weight.shape.slice(1))),
          ]),
        ) as unknown as Readonly<Record<"up" | "down", Tensor<FloatDType>>>;
      const layer = inputs.keep(
        MoeLayer.create({
          device,
          hiddenSize,
          intermediateSize,
          numExperts,
          topK,
          activation,
          multiplier,
          ...(weightOn && { weightOn }),
          dtype: { router: "f32", experts: format, ...(shared && { shared }) },
          tokenFormat: tokens,
          router: inputs.keep(device.tensor(random.normals(numExperts * hiddenSize), [numExperts, hiddenSize])),
          experts: expert(format, numExperts),
          ...(shared && { sharedExpert: { intermediateSize }, shared: first(shared) }),
        }),
      );
      // Values near codes, and the largest of each scale a power of two times the largest code.
      const codes = tokens === "int8" ? numbersTo(127) : [...numbersTo(15), 448];
      const values = randomValues(random, count, hiddenSize, 32, codes).map((value, index) => {
        const near = Math.abs(value) === codes.at(-1) ? value : value * (1 + 0.01 * (random.uniform() - 0.5));
        return near * 2 ** ((Math.floor(index / hiddenSize) % 4) - 6);
      });
      const ids = Int32Array.from({ length: count * topK }, (_, slot) => random.integer(0, 1) + 2 * (slot % topK));
      const weights = Float32Array.from(ids, () => 2 ** -random.integer(0, 3));
      const routing = {
        ids: inputs.integers(ids, [count, topK]),
        weights: inputs.keep(device.tensor(weights, [count, topK])),
      };
      return { y: layer.forward(inputs.keep(device.tensor(values, [count, hiddenSize], x)), { routing }) };
    },
  };
}

const roundedTokens = ["int8", "fp8"] as const;
const formats = [
  "i8_channel_f32",
  "i4_g32_bf16",
  "u4_g16_f32",
  "u8_g128_f16",
  "i3_g16_f32",
  "q4_k",
  "iq1_s",
  "mxfp4",
  "nf4_g64_f32",
  "e4m3_channel_f32",
  "e4m3_b128_f32",
  "e4m3_g128_bf16",
] as const;

export const tokenGemmCases: readonly Case[] = [
  ...roundedTokens.flatMap((tokens) => [
    ...formats.map((format) =>
      gemmCase({ tokens, format, columns: format === "q4_k" || format === "iq1_s" ? 512 : 300 }),
    ),
    ...inputChanges.map((change) => gemmCase({ tokens, format: "i4_g32_bf16", change, columns: 75, gathered: true })),
    ...inputChanges.map((change) => gemmCase({ tokens, format: "e4m3_g128_f32", change, activation: "swiglu" })),
    ...(["f16", "bf16"] as const).flatMap((x) => [
      gemmCase({ tokens, format: "i8_channel_f32", x, activation: "swiglu" }),
      gemmCase({ tokens, format: "e4m3_b128_f32", x, gathered: true }),
    ]),
    gemmCase({ tokens, format: "i8_channel_f32", columns: 1 }),
    ...(["i8_channel_f32", "e4m3_b128_f32", "i4_g32_bf16"] as const).map((format) =>
      gemmCase({ tokens, format, columns: 0, gathered: true }),
    ),
  ]),
  ...(["e4m3_b128_f32", "e4m3_channel_f32", "i4_g32_bf16"] as const).map((format) =>
    gemmCase({ tokens: "fp8_ue8m0", format, columns: 300 }),
  ),
];

export const tokenLayerCases: readonly Case[] = [
  ...roundedTokens.flatMap((tokens) => [
    ...(["i8_channel_f32", "i4_g32_bf16", "mxfp4", "e4m3_channel_f32", "e4m3_b128_f32"] as const).map((format) =>
      layerCase({ tokens, format }),
    ),
    ...(["f16", "bf16"] as const).map((x) => layerCase({ tokens, format: "i8_channel_f32", x, activation: "relu2" })),
    layerCase({ tokens, format: "i4_g32_bf16", weightOn: "input" }),
    layerCase({ tokens, format: "e4m3_b128_f32", weightOn: "input" }),
    layerCase({ tokens, format: "i4_g32_bf16", shared: "e4m3_b128_f32" }),
    layerCase({ tokens, format: "e4m3_b128_f32", shared: "bf16" }),
    layerCase({ tokens, format: "i8_channel_f32", activation: "swiglu", multiplier: true }),
    layerCase({ tokens, format: "e4m3_b128_f32", activation: "geglu" }),
  ]),
  layerCase({ tokens: "fp8_ue8m0", format: "e4m3_b128_f32" }),
];
