import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import type { ExpertWeights } from "../../lib/layer/weights/expert_weights.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { quantize } from "../../lib/operators/formats/quantize.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Layers whose option `dtype` asks for quantised experts.

const [H, I, E, T] = [128, 64, 3, 5];
const config = { hiddenSize: H, intermediateSize: I, numExperts: E, topK: 2 } as const;
const roles = ["gate", "up", "down"] as const;

type Matrices = Readonly<Record<(typeof roles)[number], Tensor<"f32">>>;

/** An expert of width `inner`. */
function expert(device: Device, random: Random, inner = I): Matrices {
  const matrix = (rows: number, columns: number) =>
    device.tensor(random.normals(rows * columns, columns ** -0.5), [rows, columns]);
  return { gate: matrix(inner, H), up: matrix(inner, H), down: matrix(H, inner) };
}

function quantised(matrices: Matrices, format: string, scale: "largest" | "least_squares" = "largest"): ExpertWeights {
  const weights = roles.map((role) => [role, quantize(matrices[role], format, { scale })]);
  return Object.fromEntries(weights) as unknown as ExpertWeights;
}

function forward(device: Device, options: Partial<MoeLayerOptions> & Pick<MoeLayerOptions, "experts">) {
  const random = new Random("forward");
  const router = device.tensor(random.normals(E * H, H ** -0.5), [E, H]);
  const x = device.tensor(random.normals(T * H), [T, H]);
  using layer = MoeLayer.create({ ...config, device, router, ...options });
  using y = layer.forward(x);
  // No expert has a multiplier.
  const { multiplier: _, ...formats } = layer.description.formats;
  return { y: y.dataSync(), formats, bytes: layer.byteLength };
}

describe.each(deviceNames)("quantising experts on %s", (name) => {
  const device = openForTests(name);
  const experts = (random: Random) => Array.from({ length: E }, () => expert(device(), random));

  test.each([
    ["int4_g32", "i4_g32_bf16"],
    ["int8", "i8_channel_f32"],
    ["fp8_b128", "e4m3_b128_f32"],
    ["mxfp4", "mxfp4"],
    ["nvfp4", "nvfp4"],
    ["uint4_g64", "u4_g64_bf16"],
  ])("dtype %s is what quantize makes", (dtype, format) => {
    const floats = experts(new Random(dtype));
    const given = forward(device(), { experts: floats.map((one) => quantised(one, dtype)) });
    const made = forward(device(), { experts: floats, dtype });
    expect(made).toEqual(given);
    expect(made.formats).toEqual({ router: "f32", sharedGate: "f32", gate: format, up: format, down: format });
    expect(made.y.some((value) => value !== 0)).toBe(true);
  });

  test("by role, by least squares, from stacked and transposed tensors", () => {
    const floats = experts(new Random("roles"));
    const dtype = { experts: "int4_g32", down: "int8", router: "bf16" } as const;
    const quantizing = { scale: "least_squares" } as const;
    const expected = forward(device(), {
      experts: floats.map((one) => ({
        ...quantised(one, "int4_g32", "least_squares"),
        down: quantize(one.down, "int8", quantizing),
      })),
      dtype: { router: "bf16" },
    });
    expect(forward(device(), { experts: floats, dtype, quantize: quantizing })).toEqual(expected);
    const stack = (role: (typeof roles)[number]) => {
      const shape = (floats[0] as Matrices)[role].shape as [number, number];
      const [rows, columns] = shape;
      const transposed = floats.flatMap((one) => {
        const values = one[role].dataSync();
        return Array.from(values, (_, index) => values[(index % rows) * columns + Math.floor(index / rows)] as number);
      });
      const tensor = device().tensor(Float32Array.from(transposed), [E, columns, rows]);
      return { tensor, orient: "in_out" } as const;
    };
    const stacked = { gate: stack("gate"), up: stack("up"), down: stack("down") };
    expect(forward(device(), { experts: stacked, dtype, quantize: quantizing })).toEqual(expected);
  });

  test.each(["int4_g32", "int8", "nvfp4"])("a shared expert wider than the others in %s", (dtype) => {
    const random = new Random(`shared ${dtype}`);
    const floats = experts(random);
    const shared = expert(device(), random, 2 * I);
    const layer = { sharedExpert: { intermediateSize: 2 * I } };
    const given = forward(device(), {
      ...layer,
      experts: floats.map((one) => quantised(one, dtype)),
      shared: quantised(shared, dtype),
    });
    expect(forward(device(), { ...layer, experts: floats, shared, dtype })).toEqual(given);
  });

  test("a shared expert whose parts would cut groups is quantised in parts", () => {
    const random = new Random("cut");
    const [floats, shared] = [experts(random), expert(device(), random, 2 * I)];
    const layer = { sharedExpert: { intermediateSize: 2 * I }, experts: floats, shared };
    const made = forward(device(), { ...layer, dtype: "q4_k" });
    const plain = forward(device(), layer);
    const largest = Math.max(...plain.y.map(Math.abs));
    const error = Math.max(...made.y.map((value, index) => Math.abs(value - (plain.y[index] as number))));
    expect(error).toBeLessThan(0.15 * largest);
    expect(error).toBeGreaterThan(0);
  });

  test("another quantised format is dequantised first, but only if asked for", () => {
    const random = new Random("again");
    const formats = ["int8", "int8", "int4_g32"];
    const list = formats.map((format) => quantised(expert(device(), random), format));
    expect(forward(device(), { experts: list, dtype: "mxfp4" }).formats).toMatchObject({ gate: "mxfp4" });
    const message = /experts\[2\]\.gate: expected i8_channel_f32 as in the first expert, got i4_g32_bf16/;
    expectError(() => forward(device(), { experts: list }), "UNSUPPORTED_OPERATION", message);
  });
});

describe("what dtype may be", () => {
  const device = openForTests("reference");
  const create = (dtype: unknown) => () => {
    const random = new Random("dtype");
    const weight = randomQuantized(device(), random, "q6_k", [I, H]);
    const down = randomQuantized(device(), random, "q6_k", [H, I]);
    const experts = Array.from({ length: E }, () => ({ gate: weight, up: weight, down }));
    return forward(device(), { experts, dtype: dtype as "f32" });
  };

  test("any name of a format", () => {
    expect(create("f32")().formats).toMatchObject({ gate: "f32", down: "f32" });
    expect(create("q6_k")().formats).toMatchObject({ router: "f32", gate: "q6_k" });
    expect(create({ up: "q8_0" })().formats).toMatchObject({ gate: "q6_k", up: "i8_g32_f16" });
  });

  test("nothing else", () => {
    expectError(create("q7_k"), "INVALID_ARGUMENT", /^dtype: expected f32, f16, bf16 or a weight format .* got "q7_k"/);
    expectError(create({ experts: 8 }), "INVALID_ARGUMENT", /^dtype.experts: expected f32, .* got 8/);
    expectError(create({ router: "int8" }), "INVALID_ARGUMENT", /^dtype.router: /);
    expectError(create("u8"), "UNSUPPORTED_DTYPE", /^dtype: expected f32, f16 or bf16, got u8/);
  });
});
