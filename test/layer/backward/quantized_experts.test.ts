import { describe, expect, test } from "vitest";
import {
  AdamW,
  type Device,
  dequantize,
  MoeLayer,
  type MoeLayerOptions,
  openDevice,
  type Tensor,
  type WeightFormatName,
} from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { type InputChange, randomInputs, randomQuantized } from "../../../lib/testing/inputs/random_quantized.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { memoized } from "../../support/memoized.js";

const reference = openDevice("reference");
const [numExperts, tokens] = [3, 9];
const roles = ["gate", "up", "down"] as const;

/** Those with groups of 256 columns have only whole ones. */
function sizesFor(format: WeightFormatName) {
  const [hiddenSize, intermediateSize] = /^q._k$|_xs$/.test(format) ? ([256, 512] as const) : ([96, 160] as const);
  return { hiddenSize, intermediateSize, numExperts, topK: 2 };
}

type Role = (typeof roles)[number];
type Matrix = ReturnType<typeof randomQuantized>;

/** Quantised experts; the same on every device. */
function quantizedExperts(device: Device, format: WeightFormatName, change: InputChange): Record<Role, Matrix>[] {
  const { hiddenSize, intermediateSize } = sizesFor(format);
  const [inner, outer] = [[intermediateSize, hiddenSize] as const, [hiddenSize, intermediateSize] as const];
  return Array.from({ length: numExperts }, (_, expert) => {
    const random = new Random(`${format} ${expert}`);
    const inputs = randomInputs(device, random, change, hiddenSize);
    const [gate, up] = ["gate", "up"].map(() => ({ ...randomQuantized(device, random, format, inner), ...inputs }));
    const down = randomQuantized(device, random, format, outer);
    return { gate, up, down: { ...down, ...randomInputs(device, random, change, intermediateSize) } } as Record<
      Role,
      Matrix
    >;
  });
}

/** What their values as floats give on `reference`. */
const expectedOf = memoized((format: WeightFormatName, change: InputChange) => {
  const floats = quantizedExperts(reference, format, change).map((given) =>
    Object.fromEntries(roles.map((role) => [role, dequantize(given[role])])),
  ) as Record<Role, Tensor<"f32">>[];
  return backward(reference, format, floats);
});

const normals = (seed: number, rows: number, columns: number, deviation = 1) =>
  new Random(seed).normals(rows * columns, deviation);

function backward(device: Device, format: WeightFormatName, weights: MoeLayerOptions["experts"]) {
  const sizes = sizesFor(format);
  const { hiddenSize } = sizes;
  using router = device.tensor(normals(1, numExperts, hiddenSize, 0.1), [numExperts, hiddenSize]);
  using layer = MoeLayer.create({ ...sizes, device, router, experts: weights });
  using x = device.tensor(normals(2, tokens, hiddenSize), [tokens, hiddenSize]);
  using dy = device.tensor(normals(3, tokens, hiddenSize), [tokens, hiddenSize]);
  const { y, state } = layer.forward(x, { save: true });
  const { dx, gradients } = layer.backward(state, dy);
  const results = [y, dx, gradients.router as Tensor].map((tensor) =>
    Float64Array.from(tensor.dataSync() as Float32Array),
  );
  const hasExperts = gradients.experts !== undefined;
  for (const each of [y, dx, gradients]) each.dispose();
  return { results, hasExperts };
}

/** A layer whose gate, up and shared experts have formats of their own, from the same values on every device. */
function mixedBackward(device: Device) {
  const sizes = { hiddenSize: 96, intermediateSize: 64, numExperts, topK: 2 };
  const width = 96;
  const values = (name: string, rows: number, columns: number, experts?: number) =>
    device.tensor(new Random(name).normals((experts ?? 1) * rows * columns, 0.2), [
      ...(experts ? [experts] : []),
      rows,
      columns,
    ]);
  const expert = (name: string, inner: number, count?: number) => ({
    gate: values(`${name} gate`, inner, sizes.hiddenSize, count),
    up: values(`${name} up`, inner, sizes.hiddenSize, count),
    multiplier: values(`${name} multiplier`, inner, sizes.hiddenSize, count),
    down: values(`${name} down`, sizes.hiddenSize, inner, count),
  });
  using layer = MoeLayer.create({
    ...sizes,
    device,
    multiplier: true,
    router: values("router", numExperts, sizes.hiddenSize),
    experts: expert("routed", sizes.intermediateSize, numExperts),
    sharedExpert: { intermediateSize: width },
    shared: expert("shared", width),
    dtype: { gate: "int8", up: "int4_g32", multiplier: "mxfp4", down: "bf16", shared: "int4_g32" },
  });
  const x = device.tensor(normals(2, tokens, sizes.hiddenSize), [tokens, sizes.hiddenSize]);
  const { y, state } = layer.forward(x, { save: true });
  const { dx } = layer.backward(state, x);
  return {
    y,
    dx,
    plain: layer.forward(x),
    again: layer.backward(layer.forward(x, { save: true, recompute: true }).state, x),
  };
}

const formats: readonly WeightFormatName[] = [
  "i8_channel_f32",
  "i4_g32_bf16",
  "u4_g32_f16",
  "e4m3_b128_f32",
  "mxfp4",
  "nvfp4",
  "nf4_g64_f32",
  "nf4_nested",
  "q2_k",
  "q3_k",
  "q4_k",
  "q5_k",
  "q6_k",
];

describe.each(deviceNames)("backward of quantised experts on %s", (name) => {
  const device = openForTests(name);

  test.each(formats)("%s: dx and the router's gradients are those of their values", (format) => {
    for (const change of ["none", "both"] as const) {
      const found = backward(device(), format, quantizedExperts(device(), format, change));
      const expected = expectedOf(format, change);
      expect(found.hasExperts).toBe(false);
      expect(expected.hasExperts).toBe(true);
      found.results.forEach((values, index) => {
        expect(relativeError(values, expected.results[index] as Float64Array)).toBeLessThan(1e-5);
      });
    }
  });

  test("may have a format for every matrix, and others where they are shared", () => {
    const { y, dx, plain, again } = mixedBackward(device());
    const expected = mixedBackward(reference);
    if (name !== "reference") expect(y.rawSync()).toEqual(plain.rawSync());
    expect(again.dx.rawSync()).toEqual(dx.rawSync());
    for (const [found, of] of [
      [y, expected.y],
      [dx, expected.dx],
    ] as const) {
      expect(relativeError(found.dataSync(), Float64Array.from(of.dataSync()))).toBeLessThan(1e-5);
    }
  });

  test("are frozen: no gradients, and no parameters but the router's", () => {
    const quantized = quantizedExperts(device(), "i8_channel_f32", "none");
    const { hiddenSize, ...sizes } = sizesFor("i8_channel_f32");
    using router = device().tensor(normals(1, numExperts, hiddenSize, 0.1), [numExperts, hiddenSize]);
    using layer = MoeLayer.create({ hiddenSize, ...sizes, device: device(), router, experts: quantized });
    using x = device().tensor(normals(2, tokens, hiddenSize), [tokens, hiddenSize]);
    const run = () => {
      const { y, state } = layer.forward(x, { save: true });
      return { y: y.dataSync(), state };
    };
    const { state } = run();
    expectError(
      () => layer.backward(state, x, { experts: true }),
      "UNSUPPORTED_OPERATION",
      /got i8_channel_f32; load it with dtype: "bf16", or leave/,
    );
    using parameters = layer.parameters();
    expect([...parameters].map((parameter) => parameter.name)).toEqual(["router"]);
    layer.backward(state, x, { gradients: parameters.gradients });
    const before = layer.forward(x, { want: ["logits"] }).logits.dataSync();
    using optimizer = new AdamW(parameters, { learningRate: 0.1 });
    optimizer.step();
    const after = layer.forward(x, { want: ["logits"] }).logits.dataSync();
    expect(relativeError(after, Float64Array.from(before))).toBeGreaterThan(0.01);
  });
});
