import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import { freeWeight } from "../../lib/core/formats/weight_format.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { type QuantizedWeight, quantizedMatrix } from "../../lib/operators/experts/quantized_weight.js";
import { dequantize } from "../../lib/reference/formats/dequantize.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { deviceNames, kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Shared experts whose matrices have other formats than the routed experts'.

const [hidden, inner, experts, topK] = [72, 64, 4, 2];
const roles = ["gate", "up", "down"] as const;
const reference = openForTests("reference");

type Matrix = Tensor<FloatDType> | QuantizedWeight;
type Expert = Record<(typeof roles)[number], Matrix>;

const shapes = (width: number) =>
  ({ gate: [width, hidden], up: [width, hidden], down: [hidden, width] }) as const satisfies Record<string, unknown>;

/** An expert's matrices in a format, or their values. */
function randomExpert(device: Device, random: Random, format: string, width: number, values: boolean): Expert {
  const matrices = roles.map((role) => {
    const shape = shapes(width)[role];
    const [rows, columns] = shape;
    if (format === "bf16" || format === "f32") {
      const plain = device.tensor(random.normals(rows * columns, columns ** -0.5), shape, format);
      return [role, values ? device.tensor(Float64Array.from(plain.dataSync()), shape, "f64") : plain];
    }
    const quantised = randomQuantized(device, random, format, shape);
    if (!values) return [role, quantised];
    const matrix = quantizedMatrix("weight", quantised, shape);
    const result = device.tensor(Float64Array.from(dequantize(matrix).values), shape, "f64");
    freeWeight(matrix);
    return [role, result];
  });
  return Object.fromEntries(matrices) as Expert;
}

interface Problem {
  readonly routed: string;
  readonly shared: string;
  readonly width?: number;
  readonly gate?: "none" | "sigmoid" | "softmax";
  readonly weightOn?: "input" | "output";
}

function layerOf(device: Device, problem: Problem, values: boolean, options: Partial<MoeLayerOptions> = {}) {
  const { routed, shared, width = inner, gate = "none", weightOn = "output" } = problem;
  const random = new Random(JSON.stringify(problem));
  const router = device.tensor(random.normals(experts * hidden), [experts, hidden], values ? "f64" : "f32");
  const gateRows = gate === "softmax" ? 2 : 1;
  const sharedGate = device.tensor(random.normals(gateRows * hidden, 0.1), [gateRows, hidden], values ? "f64" : "f32");
  return MoeLayer.create({
    device,
    hiddenSize: hidden,
    intermediateSize: inner,
    numExperts: experts,
    topK,
    weightOn,
    sharedExpert: { intermediateSize: width, gate },
    router,
    experts: Array.from({ length: experts }, () => randomExpert(device, random, routed, inner, values)),
    shared: randomExpert(device, random, shared, width, values),
    ...(gate !== "none" && { sharedGate }),
    ...options,
  });
}

const tokensOf = (device: Device, count: number, dtype: FloatDType) =>
  device.tensor(new Random("tokens").normals(count * hidden), [count, hidden], dtype);

const problems: readonly Problem[] = [
  { routed: "i4_g32_bf16", shared: "bf16" },
  { routed: "i4_g32_bf16", shared: "f32", width: 96, gate: "sigmoid" },
  { routed: "bf16", shared: "mxfp4", width: 40, gate: "softmax" },
  { routed: "nf4_g64_f32", shared: "i8_channel_f32", width: 128 },
  { routed: "q4_k", shared: "bf16", weightOn: "input" },
  { routed: "bf16", shared: "f32" },
];

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  test.each(problems)("$routed beside $shared, of width $width, gate $gate, weight on $weightOn", async (problem) => {
    using exact = layerOf(reference(), problem, true);
    using layer = layerOf(device(), problem, false);
    const { formats } = layer.description;
    expect([formats.up, formats.shared?.up]).toEqual([problem.routed, problem.shared]);
    for (const [dtype, tolerance] of [
      ["f32", 1e-5],
      ["bf16", 2e-2],
    ] as const) {
      using x = tokensOf(device(), 21, dtype);
      using exactX = reference().tensor(Float64Array.from(x.dataSync()), x.shape, "f64");
      const expected = await exact.forward(exactX).data();
      expect(relativeError(await layer.forward(x).data(), expected)).toBeLessThan(tolerance);
    }
  });

  test("a captured forward and an uncaptured one have the same bits", async () => {
    using layer = layerOf(device(), problems[1] as Problem, false);
    using x = tokensOf(device(), 5, "f32");
    using captured = layer.capture(5);
    const expected = await layer.forward(x).data();
    captured.x.write(x.dataSync() as Float32Array);
    captured.replay();
    expect(await captured.y.data()).toEqual(expected);
  });

  test("only the first bank has the shared experts, and outputs of banks add up", async () => {
    const problem = problems[0] as Problem;
    const bankOf = (first: number) => {
      const random = new Random(JSON.stringify(problem));
      random.normals(experts * hidden);
      random.normals(hidden);
      const all = Array.from({ length: experts }, () => randomExpert(device(), random, problem.routed, inner, false));
      const bank = { first, count: 2 };
      return { bank, experts: all.slice(first, first + 2) };
    };
    using whole = layerOf(device(), problem, false);
    using first = layerOf(device(), problem, false, bankOf(0));
    const { shared: _, sharedExpert: __, ...second } = { shared: undefined, sharedExpert: undefined, ...bankOf(2) };
    using last = MoeLayer.create({
      device: device(),
      hiddenSize: hidden,
      intermediateSize: inner,
      numExperts: experts,
      topK,
      router: device().tensor(new Random(JSON.stringify(problem)).normals(experts * hidden), [experts, hidden]),
      ...second,
    });
    expect(last.description.formats.shared).toBeUndefined();
    using x = tokensOf(device(), 7, "f32");
    const [y, one, two] = await Promise.all([whole, first, last].map((layer) => layer.forward(x).data()));
    const sum = Array.from(one as Float32Array, (value, index) => value + (two?.[index] as number));
    expect(relativeError(sum, y as Float32Array)).toBeLessThan(1e-6);
  });
});

test.each(kernelPaths)("on $label a token's bits do not depend on its batch", async (path) => {
  using device = path.open();
  for (const dtype of ["f32", "bf16"] as const) {
    using layer = layerOf(device, problems[3] as Problem, false);
    using x = tokensOf(device, 19, dtype);
    const all = await layer.forward(x).data();
    for (const token of [0, 7, 18]) {
      const alone = await layer.forward(x.rows(token, token + 1)).data();
      expect(alone).toEqual(all.slice(token * hidden, (token + 1) * hidden));
    }
  }
});

describe("formats", () => {
  test.each(["i4_g32_bf16", "bf16"])("%s ones are not told apart", (format) => {
    using equal = layerOf(reference(), { routed: format, shared: format }, false);
    expect(equal.description.formats.shared).toBeUndefined();
  });

  test("dtypes that differ are kept, but one dtype is for all", () => {
    using kept = layerOf(reference(), { routed: "bf16", shared: "f32" }, false);
    expect(kept.description.formats).toMatchObject({ up: "bf16", shared: { up: "f32" } });
    using one = layerOf(reference(), { routed: "bf16", shared: "f32" }, false, { dtype: "f32" });
    expect(one.description.formats.up).toBe("f32");
    expect(one.description.formats.shared).toBeUndefined();
  });

  test("a dtype for the shared expert, or for all experts", () => {
    const problem = { routed: "i4_g32_bf16", shared: "i8_channel_f32" };
    using some = layerOf(reference(), problem, false, { dtype: { shared: "bf16" } });
    expect(some.description.formats).toMatchObject({ up: "i4_g32_bf16", shared: { up: "bf16", down: "bf16" } });
    using all = layerOf(reference(), problem, false, { dtype: { experts: "bf16" } });
    expect(all.description.formats.up).toBe("bf16");
    expect(all.description.formats.shared).toBeUndefined();
    using apart = layerOf(reference(), problem, false, { dtype: { experts: "f32", shared: "bf16", down: "f16" } });
    expect(apart.description.formats).toMatchObject({ up: "f32", down: "f16", shared: { up: "bf16", down: "bf16" } });
  });

  test("a quantised format for both, to which they are quantised", () => {
    const problem = { routed: "bf16", shared: "bf16", width: 128 };
    const dtype = { experts: "int4_g32", shared: "int8" };
    using layer = layerOf(reference(), problem, false, { dtype });
    expect(layer.description.formats).toMatchObject({ up: "i4_g32_bf16", shared: { up: "i8_channel_f32" } });
    using exact = layerOf(reference(), problem, true);
    using x = tokensOf(reference(), 5, "f32");
    using exactX = reference().tensor(Float64Array.from(x.dataSync()), x.shape, "f64");
    expect(relativeError(layer.forward(x).dataSync(), exact.forward(exactX).dataSync())).toBeLessThan(0.2);
  });

  test("routed experts of different formats are refused by name, unless a dtype is asked for", () => {
    const device = reference();
    const random = new Random("mixed");
    const list = ["i4_g32_bf16", "i4_g32_bf16", "bf16", "i4_g32_bf16"].map((format) =>
      randomExpert(device, random, format, inner, false),
    );
    const problem = { routed: "i4_g32_bf16", shared: "bf16" };
    const message = /experts\[2\]\.gate: expected i4_g32_bf16 as in the first expert, got bf16/;
    expectError(() => layerOf(device, problem, false, { experts: list }), "UNSUPPORTED_OPERATION", message);
    const turned = [...list].reverse();
    turned.unshift(turned.splice(1, 1)[0] as Expert);
    const other = /experts\[1\]\.gate: expected floats as in the first expert, got i4_g32_bf16/;
    expectError(() => layerOf(device, problem, false, { experts: turned }), "UNSUPPORTED_OPERATION", other);
    using layer = layerOf(device, problem, false, { experts: list, dtype: { experts: "f32" } });
    expect(layer.description.formats.up).toBe("f32");
  });
});
