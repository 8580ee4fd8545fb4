import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { routerProjection } from "../../../lib/operators/routing/router_projection.js";
import { routerProjectionBackward } from "../../../lib/operators/routing/router_projection_backward.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { dot, gradientError } from "../../support/central_differences.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference", { poison: true });

test("routerProjectionBackward is the derivative of the logits, in float64", () => {
  const size = fc.integer({ min: 1, max: 5 });
  fc.assert(
    fc.property(size, size, size, fc.nat(), (tokens, hidden, experts, seed) => {
      const random = new Random(seed);
      const x = normals(random, tokens * hidden);
      const weight = normals(random, experts * hidden);
      const bias = normals(random, experts);
      const dLogits = normals(random, tokens * experts);
      const tensors = (a: Float64Array, b: Float64Array) =>
        [float64(reference, a, [tokens, hidden]), float64(reference, b, [experts, hidden])] as const;
      const loss = (a: Float64Array, b: Float64Array, c: Float64Array) =>
        dot(valuesOf(routerProjection(...tensors(a, b), { bias: float64(reference, c, [experts]) })), dLogits);
      const gradient = float64(reference, dLogits, [tokens, experts]);
      const { dx, dWeight, dBias } = routerProjectionBackward(...tensors(x, weight), gradient, { bias: true });
      expect(gradientError(valuesOf(dx), x, (values) => loss(values, weight, bias))).toBeLessThanOrEqual(1e-8);
      expect(gradientError(valuesOf(dWeight), weight, (values) => loss(x, values, bias))).toBeLessThanOrEqual(1e-8);
      expect(gradientError(valuesOf(dBias), bias, (values) => loss(x, weight, values))).toBeLessThanOrEqual(1e-8);
    }),
  );
});

describe.each(kernelPaths)("routerProjectionBackward on $label", (path) => {
  const device = openForTests(path);
  const normal = (random: Random, ...shape: number[]) =>
    device().tensor(random.normals(shape.reduce((a, b) => a * b)), shape, "f32");

  test("NaN stays with its token, and in the rows of the experts concerned", async () => {
    const random = new Random("nan");
    const [x, weight] = [normal(random, 5, 7), normal(random, 3, 7)];
    const values = random.normals(15);
    const clean = routerProjectionBackward(x, weight, device().tensor(values, [5, 3], "f32"));
    const dLogits = device().tensor(values.with(2 * 3 + 1, Number.NaN), [5, 3], "f32");
    const dirty = routerProjectionBackward(x, weight, dLogits);
    const rows = async (tensor: { toArray(): Promise<unknown> }) => (await tensor.toArray()) as number[][];
    const [dx, dWeight] = [await rows(dirty.dx), await rows(dirty.dWeight)];
    expect(dx[2]).toEqual(Array(7).fill(Number.NaN));
    expect(dWeight[1]).toEqual(Array(7).fill(Number.NaN));
    expect(dx.toSpliced(2, 1)).toEqual((await rows(clean.dx)).toSpliced(2, 1));
    expect(dWeight.toSpliced(1, 1)).toEqual((await rows(clean.dWeight)).toSpliced(1, 1));
  });

  test("a token's dx does not depend on the other tokens", async () => {
    const random = new Random("batch");
    const [x, weight, dLogits] = [normal(random, 70, 33), normal(random, 9, 33), normal(random, 70, 9)];
    const all = await routerProjectionBackward(x, weight, dLogits).dx.data();
    const some = await routerProjectionBackward(x.rows(13, 14), weight, dLogits.rows(13, 14)).dx.data();
    expect(some).toEqual(all.subarray(13 * 33, 14 * 33));
  });

  test("bad arguments", () => {
    const floats = (...shape: number[]) => device().zeros(shape, "f32");
    const call =
      (options: object, dLogits = floats(2, 4)) =>
      () =>
        routerProjectionBackward(floats(2, 3), floats(4, 3), dLogits, options);
    expectError(call({}, floats(2, 3)), "SHAPE_MISMATCH", /^dLogits: expected shape \[2, 4\], got \[2, 3\]/);
    expectError(call({ bias: 1 }), "INVALID_ARGUMENT", /^bias: expected a boolean/);
    const out = { dx: floats(2, 3), dWeight: floats(4, 3) };
    expectError(call({ bias: true, out }), "INVALID_ARGUMENT", /^out\.dBias: expected a Tensor, got undefined/);
    expectError(call({ out: { ...out, dBias: floats(4) } }), "INVALID_ARGUMENT", /^out\.dBias requires bias: true/);
    expectError(call({ out: { ...out, dWeight: out.dx } }), "SHAPE_MISMATCH", /^out\.dWeight: expected shape \[4, 3\]/);
  });
});

describe.each(deviceNames.filter((name) => name !== "reference"))("routerProjectionBackward on %s", (name) => {
  const many = openForTests(name);
  const one = openForTests(name, { threads: 1 });

  test("gives the same bits with any number of threads", async () => {
    const [tokens, hidden, experts] = [1000, 600, 40];
    const results = [many(), one()].map((device) => {
      const random = new Random("threads");
      const normal = (rows: number, columns: number) =>
        device.tensor(random.normals(rows * columns), [rows, columns], "f32");
      return routerProjectionBackward(normal(tokens, hidden), normal(experts, hidden), normal(tokens, experts), {
        bias: true,
      });
    });
    const [first, second] = await Promise.all(
      results.map(async ({ dx, dWeight, dBias }) => [await dx.data(), await dWeight.data(), await dBias.data()]),
    );
    expect(first).toEqual(second);
  });
});
