import { describe, expect, test } from "vitest";
import type { ExpertMatrices, LayerFormats } from "../../lib/core/device/backend.js";
import type { Device } from "../../lib/core/device/device.js";
import { freeWeight, plainWeight, type WeightMatrix } from "../../lib/core/formats/weight_format.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { describeLayer } from "../../lib/layer/description/config.js";
import { LayerParts } from "../../lib/layer/layer_parts.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { randomU4G16, testU4G16 } from "./formats.js";
import { negatedForward } from "./stages.js";

const [hidden, inner, experts, tokens] = [50, 37, 4, 9];
const config = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 2, multiplier: true } as const;
const u4 = testU4G16.name;

/** The formats in which a layer stores its roles, and in which its weights are given (default: the same). */
interface Problem {
  readonly formats: Omit<LayerFormats, "sharedGate">;
  readonly given?: Partial<LayerFormats>;
  readonly x: FloatDType;
}

/** A layer with matrices in any formats, set through the device's own handle. */
function layerOf(device: Device, { formats, given = {} }: Problem): LayerParts {
  const random = new Random("formats");
  const matrix = (format: string, rows: number, columns: number): WeightMatrix => {
    if (format === u4) return randomU4G16(device, random, rows, columns, columns ** -0.5);
    const tensor = device.tensor(
      random.normals(rows * columns, columns ** -0.5),
      [rows, columns],
      format as FloatDType,
    );
    const codes = { handle: tensor.handle, rows, columns, rowStride: columns, columnStride: 1 };
    return plainWeight(format as FloatDType, codes);
  };
  const storage = { formats: { ...formats, sharedGate: "f32" }, biasDType: "f32" as const };
  const parts = new LayerParts(device, describeLayer(config, storage));
  const { handle } = parts.onDevice;
  const set = (weights: readonly WeightMatrix[], use: () => void) => {
    use();
    for (const weight of weights) freeWeight(weight);
  };
  const from = { ...formats, ...given };
  const router = matrix(from.router, experts, hidden);
  set([router], () => handle.setRouter(router, null));
  for (let expert = 0; expert < experts; expert++) {
    const gate = matrix(from.gate, inner, hidden);
    const up = matrix(from.up, inner, hidden);
    const multiplier = matrix(from.multiplier, inner, hidden);
    const down = matrix(from.down, hidden, inner);
    const matrices: ExpertMatrices = { gate, up, multiplier, down, gateBias: null, upBias: null, downBias: null };
    set([gate, up, multiplier, down], () => handle.setExpert(expert, matrices));
  }
  return parts;
}

function outputOf(device: Device, problem: Problem): Float32Array {
  using layer = new MoeLayer(layerOf(device, problem));
  using x = device.tensor(new Random(1).normals(tokens * hidden), [tokens, hidden], problem.x);
  const routing = {
    ids: device.tensor(
      Int32Array.from({ length: 2 * tokens }, (_, slot) => slot % experts),
      [tokens, 2],
    ),
    weights: device.tensor(new Float32Array(2 * tokens).fill(0.5), [tokens, 2]),
  };
  using y = layer.forward(x, { routing });
  return y.dataSync() as Float32Array;
}

const all = (format: string) => ({ gate: format, up: format, multiplier: format, down: format });
const problems: Readonly<Record<string, Problem>> = {
  "all experts, the router in f32": { formats: { router: "f32", ...all(u4) }, x: "f32" },
  "all experts, bf16 tokens": { formats: { router: "bf16", ...all(u4) }, x: "bf16" },
  "gate but not up": { formats: { router: "f32", gate: u4, up: "f32", multiplier: "f32", down: "bf16" }, x: "f32" },
  "up but not gate": { formats: { router: "f32", gate: "f16", up: u4, multiplier: u4, down: "f32" }, x: "f32" },
  "down alone": { formats: { router: "f32", ...all("bf16"), down: u4 }, x: "f32" },
  "given for roles stored in f32": { formats: { router: "f32", ...all("f32") }, given: all(u4), x: "f32" },
  "given for roles stored in bf16": { formats: { router: "f32", ...all("bf16") }, given: all(u4), x: "f32" },
};

describe.each(kernelPaths)("a weight format added from outside on $label", (path) => {
  const device = openForTests(path);
  const reference = openForTests("reference");

  test.each(Object.keys(problems))("%s", (name) => {
    const problem = problems[name] as Problem;
    const expected = outputOf(reference(), problem);
    expect(expected.some((value) => value !== 0)).toBe(true);
    const tolerance = problem.x === "f32" ? 1e-4 : 3e-2;
    expect(relativeError(outputOf(device(), problem), expected)).toBeLessThanOrEqual(tolerance);
  });

  test("refuses weights in another format, as nothing is quantised here", () => {
    const problem: Problem = { formats: { router: "f32", ...all(u4) }, given: { down: "f32" }, x: "f32" };
    expectError(() => outputOf(device(), problem), "UNSUPPORTED_DTYPE", /test_u4_g16/);
  });
});

describe("the formula of the format", () => {
  const device = openForTests("reference");

  test("is (code - zero point) * scale", () => {
    const { backend } = device();
    const weight = randomU4G16(device(), new Random(3), 3, 40, 1);
    const bytes = (matrix: { handle: { map(): Uint8Array | undefined } } | undefined) =>
      Uint8Array.from(matrix?.handle.map() as Uint8Array);
    const [codes, zeros] = [bytes(weight.codes), bytes(weight.zeros)];
    const scales = new Float32Array(bytes(weight.scales).buffer);
    const packed = backend.packedExperts(1, 3, 40, u4, "none", { alpha: 1, limit: 1, upLimit: 1, offset: 0 }, "none");
    packed.setExpert(0, weight, null);
    const unit = new Float32Array(40 * 40);
    for (let column = 0; column < 40; column++) unit[column * 41] = 1;
    using x = device().tensor(unit, [40, 40]);
    using offsets = device().tensor(Int32Array.of(0, 40), [2]);
    using y = device().empty([40, 3], "f32");
    backend.groupedGemm({ x: x.handle, weight: packed, offsets: offsets.handle, y: y.handle });
    const expected = Float32Array.from({ length: 120 }, (_, index) => {
      const [column, row] = [Math.floor(index / 3), index % 3];
      const code = ((codes[row * 20 + (column >> 1)] as number) >> (4 * (column & 1))) & 15;
      const group = row * 3 + (column >> 4);
      return (code - (zeros[group] as number)) * (scales[group] as number);
    });
    expect(y.dataSync()).toEqual(expected);
    freeWeight(weight);
  });
});

describe.each(kernelPaths)("a stage added from outside on $label", (path) => {
  const device = openForTests(path);

  test("runs in a longer list, after the whole forward", () => {
    const parts = layerOf(device(), { formats: { router: "f32", ...all("f32") }, x: "f32" });
    using layer = new MoeLayer(parts);
    using x = device().tensor(new Random(1).normals(tokens * hidden), [tokens, hidden]);
    using y = layer.forward(x);
    using negated = device().empty(x.shape, "f32");
    parts.onDevice.handle.forward(x.handle, negated.handle, null, null, -1, negatedForward);
    const expected = y.dataSync();
    expect(expected.some((value) => value !== 0)).toBe(true);
    expect(negated.dataSync()).toEqual(expected.map((value) => -value));
  });
});
