import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { WeightFormatName } from "../../lib/core/formats/weight_format.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import type { QuantizedWeight } from "../../lib/operators/experts/quantized_weight.js";
import { dequantize } from "../../lib/operators/formats/dequantize.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomInputs, randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Shared experts that are stored as several and whose down projection has an input order, as GPTQ's act-order gives it.

const [hidden, inner, experts, tokens] = [48, 32, 3, 7];
const reference = openForTests("reference");

interface Problem {
  readonly format: WeightFormatName;
  readonly down?: WeightFormatName;
  readonly width: number;
  /** How gate and up are given. */
  readonly gateUp: "quantised" | "halves" | "interleaved" | "plain";
  readonly biases?: boolean;
}

const problems: readonly Problem[] = [
  { format: "u4_g16_f16", width: 96, gateUp: "quantised" },
  { format: "u4_g16_f16", width: 80, gateUp: "quantised", biases: true },
  { format: "i4_g32_bf16", width: 64, gateUp: "halves" },
  { format: "q4_k", down: "i8_g32_f16", width: 96, gateUp: "interleaved" },
  { format: "u8_g16_f32", width: 64, gateUp: "plain", biases: true },
];

/** Weights whose values float layers can have too: all of their tensors are on `reference`. */
function sharedExpert(random: Random, { format, down = format, width, gateUp, biases = false }: Problem) {
  const device = reference();
  const quantised = (name: WeightFormatName, rows: number, columns: number, change: "order" | "both" | "none") => ({
    ...randomQuantized(device, random, name, [rows, columns]),
    ...randomInputs(device, random, change, columns),
  });
  const plain = () => device.tensor(random.normals(width * hidden, hidden ** -0.5), [width, hidden], "bf16");
  const both = quantised(format, 2 * width, hidden, "none");
  const [gatePart, upPart] =
    gateUp === "halves" ? (["first_half", "second_half"] as const) : (["even", "odd"] as const);
  const gateAndUp =
    gateUp === "plain"
      ? { gate: plain(), up: plain() }
      : gateUp === "quantised"
        ? { gate: quantised(format, width, hidden, "both"), up: quantised(format, width, hidden, "none") }
        : { gate: { ...both, part: gatePart }, up: { ...both, part: upPart } };
  const bias = () => device.tensor(random.normals(width), [width]);
  return {
    ...gateAndUp,
    down: quantised(down, hidden, width, "both"),
    ...(biases && { gateBias: bias(), upBias: bias(), downBias: device.tensor(random.normals(hidden), [hidden]) }),
  };
}

type Shared = ReturnType<typeof sharedExpert>;

/** The same weights on another device. */
function moved(device: Device, shared: Shared): Shared {
  const copy = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if (!("rawSync" in value)) return mapped(value);
    const tensor = value as Shared["down"]["codes"];
    return device.tensor(tensor.rawSync(), tensor.shape, tensor.dtype);
  };
  const mapped = (fields: object) =>
    Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, copy(value)]));
  return mapped(shared) as Shared;
}

/** The same weights as float32 matrices of whole outputs and inputs. */
function dequantised(shared: Shared) {
  const values = (weight: Shared["gate"] | QuantizedWeight) => ("codes" in weight ? dequantize(weight) : weight);
  return { ...shared, gate: values(shared.gate), up: values(shared.up), down: values(shared.down) };
}

function layerOf(
  device: Device,
  { width }: Problem,
  shared: ReturnType<typeof dequantised> | Shared,
  options: Partial<MoeLayerOptions> = {},
) {
  const random = new Random("routed");
  const matrix = (rows: number, columns: number) =>
    device.tensor(random.normals(rows * columns, columns ** -0.5), [rows, columns]);
  const expert = () => ({ gate: matrix(inner, hidden), up: matrix(inner, hidden), down: matrix(hidden, inner) });
  return MoeLayer.create({
    device,
    hiddenSize: hidden,
    intermediateSize: inner,
    numExperts: experts,
    topK: 2,
    sharedExpert: { intermediateSize: width },
    router: matrix(experts, hidden),
    experts: Array.from({ length: experts }, expert),
    shared,
    ...options,
  });
}

const output = async (device: Device, layer: MoeLayer) => {
  using x = device.tensor(new Random("tokens").normals(tokens * hidden), [tokens, hidden]);
  using y = layer.forward(x);
  return await y.data();
};

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  test.each(problems)("gate and up $gateUp in $format, of width $width", async (problem) => {
    const shared = sharedExpert(new Random(JSON.stringify(problem)), problem);
    using exact = layerOf(reference(), problem, dequantised(shared));
    const expected = await output(reference(), exact);
    using kept = layerOf(device(), problem, moved(device(), shared));
    expect(kept.description.formats.shared?.down ?? kept.description.formats.down).toBe(problem.down ?? problem.format);
    expect(relativeError(await output(device(), kept), expected)).toBeLessThan(1e-5);
    using floats = layerOf(device(), problem, moved(device(), shared), { dtype: "f32" });
    expect(relativeError(await output(device(), floats), expected)).toBeLessThan(1e-5);
  });

  test("is quantised again as a whole", async () => {
    const problem = problems[0] as Problem;
    const shared = sharedExpert(new Random("again"), problem);
    const dtype = { shared: "i8_g16_f32" };
    using exact = layerOf(reference(), problem, dequantised(shared));
    using layer = layerOf(device(), problem, moved(device(), shared), { dtype });
    expect(relativeError(await output(device(), layer), await output(reference(), exact))).toBeLessThan(0.02);
  });

  test("a saved layer gives the same bits", async () => {
    using directory = temporaryDirectory();
    const problem = problems[0] as Problem;
    using layer = layerOf(device(), problem, moved(device(), sharedExpert(new Random("save"), problem)));
    const file = `${directory.path}/layer.safetensors` as const;
    await layer.save(file);
    using again = await MoeLayer.load(file, { device: device() });
    expect(await output(device(), again)).toEqual(await output(device(), layer));
  });

  test("what cannot be put in order is refused", () => {
    const problem = problems[0] as Problem;
    const shared = moved(device(), sharedExpert(new Random("refused"), problem));
    const gate = randomQuantized(device(), new Random("blocks"), "e4m3_b128_f32", [problem.width, hidden]);
    expectError(
      () => layerOf(device(), problem, { ...shared, gate } as Shared),
      "UNSUPPORTED_OPERATION",
      /shared\.gate: expected a format in which every row has scales of its own, got e4m3_b128_f32/,
    );
    const inputOrder = device().tensor(new Int32Array(problem.width));
    expectError(
      () => layerOf(device(), problem, { ...shared, down: { ...shared.down, inputOrder } } as Shared),
      "INVALID_ARGUMENT",
      /shared\.down\.inputOrder\[1\]: expected every input once, got 0/,
    );
    const cut = { ...problem, width: 80 };
    const groups = moved(device(), sharedExpert(new Random("cut"), { ...cut, down: "i4_g80_f16" }));
    expectError(() => layerOf(device(), cut, groups), "UNSUPPORTED_OPERATION", /begin with a group of i4_g80_f16/);
  });
});
