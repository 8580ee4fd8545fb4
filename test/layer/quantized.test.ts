import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import { freeWeight } from "../../lib/core/formats/weight_format.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { openDevice } from "../../lib/devices.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../lib/operators/experts/packed_experts.js";
import { type QuantizedWeight, quantizedMatrix } from "../../lib/operators/experts/quantized_weight.js";
import { dequantize } from "../../lib/reference/formats/dequantize.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { expectError } from "../support/errors.js";

// The layer's side of quantised weights, on `reference`, whose formula of a format is tested in
// reference/dequantize.test.ts.

const formats = [
  "i4_g32_bf16",
  "u4_g16_f32",
  "i8_channel_f16",
  "e4m3_b128_f32",
  "mxfp4",
  "nvfp4",
  "nf4_g64_f32",
  "nf4_nested",
  "q3_k",
  "q4_k",
];
const [hidden, inner, experts, tokens] = [72, 40, 3, 6];
const config = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 2 } as const;

const device = openDevice("reference");
afterAll(() => device.dispose());

/** A quantised weight's values as a float tensor. */
function plain(weight: QuantizedWeight, [rows, columns]: readonly [number, number]): Tensor<"f64"> {
  const matrix = quantizedMatrix("weight", weight, [rows, columns]);
  const { values } = dequantize(matrix);
  freeWeight(matrix);
  return device.tensor(Float64Array.from(values), [rows, columns], "f64");
}

function forward(weights: Pick<MoeLayerOptions, "experts"> & Partial<MoeLayerOptions>, dtype: "f32" | "f64") {
  const random = new Random("layer");
  const router = device.tensor(random.normals(experts * hidden, hidden ** -0.5), [experts, hidden], dtype);
  const x = device.tensor(random.normals(tokens * hidden), [tokens, hidden], dtype);
  using layer = MoeLayer.create({ ...config, device, router, ...weights });
  return { y: Float64Array.from(layer.forward(x).dataSync()), description: layer.description };
}

function expectSame(quantised: ReturnType<typeof forward>, expected: ReturnType<typeof forward>): void {
  expect(expected.y.some((value) => value !== 0)).toBe(true);
  expect(relativeError(quantised.y, expected.y)).toBeLessThan(1e-6);
}

describe.each(formats)("experts in %s", (format) => {
  const random = new Random(format);
  const shapes = { gate: [inner, hidden], up: [inner, hidden], down: [hidden, inner] } as const;
  const roles = ["gate", "up", "down"] as const;
  const one = () => ({
    gate: randomQuantized(device, random, format, shapes.gate),
    up: randomQuantized(device, random, format, shapes.up),
    down: randomQuantized(device, random, format, shapes.down),
  });
  const floats = (expert: ReturnType<typeof one>) => ({
    gate: plain(expert.gate, shapes.gate),
    up: plain(expert.up, shapes.up),
    down: plain(expert.down, shapes.down),
  });

  test("give the results of their values, and keep their format", () => {
    const list = Array.from({ length: experts }, one);
    const quantised = forward({ experts: list }, "f32");
    expectSame(quantised, forward({ experts: list.map(floats) }, "f64"));
    expect(quantised.description.formats).toMatchObject({ router: "f32", gate: format, up: format, down: format });
    expect(quantised.description.weightDType).toBe("f32");
  });

  test("are dequantised for a dtype", () => {
    const list = Array.from({ length: experts }, one);
    const quantised = forward({ experts: list, dtype: "f32" }, "f32");
    expectSame(quantised, forward({ experts: list.map(floats) }, "f64"));
    expect(quantised.description.formats).toMatchObject({ gate: "f32", up: "f32", down: "f32" });
  });

  test("can be stacked", () => {
    const stacked = (role: keyof typeof shapes) =>
      randomQuantized(device, random, format, shapes[role], 0.1, [experts]);
    const all = { gate: stacked("gate"), up: stacked("up"), down: stacked("down") };
    const list = Array.from({ length: experts }, (_, expert) => {
      const matrix = (role: keyof typeof shapes) => {
        const weight = all[role];
        const slices = Object.entries(weight).map(([name, value]) => [
          name,
          typeof value === "object" ? value.rows(expert, expert + 1).reshape(value.shape.slice(1)) : value,
        ]);
        return plain(Object.fromEntries(slices) as QuantizedWeight, shapes[role]);
      };
      return Object.fromEntries(roles.map((role) => [role, matrix(role)])) as unknown as ReturnType<typeof floats>;
    });
    expectSame(forward({ experts: all }, "f32"), forward({ experts: list }, "f64"));
  });

  test("are packed for the grouped GEMM", () => {
    const weight = randomQuantized(device, random, format, [2 * inner, hidden], 0.1, [2]);
    using packed = packExperts(weight);
    expect([packed.format, packed.dtype, packed.shape]).toEqual([format, "u8", [2, 2 * inner, hidden]]);
    using x = device.tensor(random.normals(5 * hidden), [5, hidden]);
    using offsets = device.tensor(Int32Array.of(0, 2, 5), [3]);
    const expected = groupedGemm(x, packed, offsets).dataSync();
    expect(expected.some((value) => value !== 0)).toBe(true);
    expect(groupedGemm(x, weight, offsets).dataSync()).toEqual(expected);
  });
});

describe("parts of quantised tensors", () => {
  test.each(["first_half", "second_half", "even", "odd"] as const)("%s of the rows", (part) => {
    const random = new Random(part);
    const both = randomQuantized(device, random, "i4_g32_f16", [2 * inner, hidden]);
    const all = plain(both, [2 * inner, hidden]).dataSync();
    const half = plain({ ...both, part }, [inner, hidden]).dataSync();
    for (let row = 0; row < inner; row++) {
      const stored = { first_half: row, second_half: inner + row, even: 2 * row, odd: 2 * row + 1 }[part];
      expect(half.slice(row * hidden, (row + 1) * hidden)).toEqual(all.slice(stored * hidden, (stored + 1) * hidden));
    }
  });

  test("halves that cut a block of rows are refused, whole blocks are not", () => {
    const cut = randomQuantized(device, new Random(1), "e4m3_b128_f32", [2 * 100, 64]);
    expectError(() => plain({ ...cut, part: "second_half" }, [100, 64]), "UNSUPPORTED_OPERATION", /128/);
    const whole = randomQuantized(device, new Random(2), "e4m3_b128_f32", [2 * 128, 64]);
    const [all, half] = [
      plain(whole, [256, 64]).dataSync(),
      plain({ ...whole, part: "second_half" }, [128, 64]).dataSync(),
    ];
    expect(half).toEqual(all.slice(128 * 64));
    expectError(() => plain({ ...whole, part: "odd" }, [128, 64]), "UNSUPPORTED_OPERATION", /steps of 2/);
  });

  test("a wide shared expert is stored as several, if its groups allow it", () => {
    const shared = (width: number) => ({
      gate: randomQuantized(device, new Random(3), "i4_g32_f16", [width, hidden]),
      up: randomQuantized(device, new Random(4), "i4_g32_f16", [width, hidden]),
      down: randomQuantized(device, new Random(5), "i4_g32_f16", [hidden, width]),
    });
    const layer = (intermediateSize: number, width: number, float: boolean) => {
      const random = new Random(6);
      const draw = (rows: number, columns: number) =>
        device.tensor(random.normals(rows * columns, 0.1), [rows, columns]);
      const list = Array.from({ length: experts }, () => ({
        gate: draw(intermediateSize, hidden),
        up: draw(intermediateSize, hidden),
        down: draw(hidden, intermediateSize),
      }));
      const given = shared(width);
      const floats = {
        gate: plain(given.gate, [width, hidden]),
        up: plain(given.up, [width, hidden]),
        down: plain(given.down, [hidden, width]),
      };
      const weights = { experts: list, intermediateSize, sharedExpert: { intermediateSize: width } };
      return forward({ ...weights, shared: (float ? floats : given) as never, dtype: "f32" }, "f32");
    };
    expect(relativeError(layer(32, 80, false).y, layer(32, 80, true).y)).toBeLessThan(1e-6);
    expectError(() => layer(40, 80, false), "UNSUPPORTED_OPERATION", /i4_g32_f16/);
  });
});

describe("wrong quantised weights", () => {
  const good = () => randomQuantized(device, new Random(7), "u4_g32_f16", [inner, hidden]);
  const create = (device: Device, gate: unknown) => {
    const up = randomQuantized(device, new Random(8), "u4_g32_f16", [inner, hidden]);
    const down = randomQuantized(device, new Random(9), "u4_g32_f16", [hidden, inner]);
    const router = device.zeros([1, hidden], "f32");
    const one = [{ gate, up, down }] as never;
    return MoeLayer.create({ ...config, numExperts: 1, topK: 1, device, router, experts: one });
  };

  test.each<[string, (weight: QuantizedWeight) => object, string, RegExp]>([
    [
      "an unknown format",
      (weight) => ({ ...weight, format: "i4_g33_f16" }),
      "UNSUPPORTED_DTYPE",
      /gate\.format.*i4_g33/,
    ],
    ["a plain format", (weight) => ({ ...weight, format: "f16" }), "INVALID_ARGUMENT", /gate\.format.*quantised/],
    ["no scales", ({ scales: _, ...weight }) => weight, "INVALID_ARGUMENT", /gate\.scales.*Tensor/],
    ["no zero points", ({ zeros: _, ...weight }) => weight, "INVALID_ARGUMENT", /gate\.zeros/],
    [
      "superfluous scales",
      (weight) => ({ ...weight, superScales: weight.scales }),
      "INVALID_ARGUMENT",
      /superScales.*none/,
    ],
    [
      "scales of another dtype",
      (weight) => ({ ...weight, scales: weight.zeros }),
      "UNSUPPORTED_DTYPE",
      /scales.*f16.*u8/,
    ],
    ["scales of another shape", (weight) => ({ ...weight, format: "u4_g16_f16" }), "SHAPE_MISMATCH", /gate\.scales.*5/],
    ["codes of another shape", (weight) => ({ ...weight, format: "u8_g32_f16" }), "SHAPE_MISMATCH", /gate\.codes.*72/],
    ["a misspelt field", (weight) => ({ ...weight, scale: 1 }), "INVALID_ARGUMENT", /scale/],
    ["a scalar that is no number", (weight) => ({ ...weight, scalar: Number.NaN }), "INVALID_ARGUMENT", /scalar/],
  ])("%s", (_, change, code, message) => {
    expectError(() => create(device, change(good())), code as never, message);
  });

  test("tensors of another device", () => {
    using other = openDevice("reference");
    const weight = randomQuantized(other, new Random(7), "u4_g32_f16", [inner, hidden]);
    expectError(() => create(device, { ...good(), zeros: weight.zeros }), "DEVICE_MISMATCH", /gate\.zeros/);
  });

  test("a quantised router or bias", () => {
    const router = randomQuantized(device, new Random(1), "i8_channel_f32", [1, hidden]);
    const one = {
      up: good(),
      gate: good(),
      down: randomQuantized(device, new Random(9), "u4_g32_f16", [hidden, inner]),
    };
    const layer = { ...config, numExperts: 1, topK: 1, device };
    expectError(
      () => MoeLayer.create({ ...layer, router: router as never, experts: [one] }),
      "INVALID_ARGUMENT",
      /router/,
    );
    const plainRouter = device.zeros([1, hidden], "f32");
    const biased = { ...one, upBias: router as never };
    expectError(
      () => MoeLayer.create({ ...layer, router: plainRouter, experts: [biased] }),
      "INVALID_ARGUMENT",
      /upBias/,
    );
  });
});

test("random sizes: any shape is read as its format says", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...formats),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 300 }),
      (format, n, k) => {
        const weight = randomQuantized(device, new Random(`${n} ${k}`), format, [n, k], 1);
        const values = plain(weight, [n, k]).dataSync();
        expect(values.every(Number.isFinite)).toBe(true);
        const cut = quantizedMatrix("weight", weight, [n, k], {
          firstRow: 0,
          rows: Math.ceil(n / 2),
          firstColumn: 0,
          columns: k,
        });
        expect([...dequantize(cut).values]).toEqual([...values.slice(0, Math.ceil(n / 2) * k)]);
        freeWeight(cut);
      },
    ),
    { numRuns: 60 },
  );
});
