import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import type { Activation } from "../../../lib/core/layer/activation.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { routerProjection } from "../../../lib/operators/routing/router_projection.js";
import { sort } from "../../../lib/operators/routing/sort.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";

// Every way to launch the GPU kernels, with sizes that the case table does not reach.

const gpuNames = deviceNames.filter((name) => name === "simt" || name.startsWith("cuda"));

interface Product {
  readonly x: FloatDType;
  readonly weight: FloatDType;
  readonly activation: Activation;
  readonly tolerance: number;
  readonly tf32?: boolean;
}

/** Two experts with 70 and 131 rows that gather tokens out of order, and three rows after the last expert's. */
const product = { columns: 300, outputs: 141, tokens: 90, counts: [70, 131], tail: 3 };

/**
 * That product on a device. Experts without rows reduce the average load, and with it the tile height: 1 expert gives
 * 128 rows per tile, 8 give 64 and 60 give 16.
 */
function multiply(device: Device, { x: xType, weight: weightType, activation }: Product, spread: number): number[] {
  const random = new Random("product");
  const { columns, outputs, tokens, counts, tail } = product;
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const packedRows = activation === "swiglu" ? 2 * outputs : outputs;
  const experts = counts.length * spread;
  const x = random.normals(tokens * columns);
  const order = Int32Array.from({ length: rows + tail }, () => random.integer(0, tokens - 1));
  const own = counts.map(() => random.normals(packedRows * columns, 0.1));
  const ownBias = counts.map(() => random.normals(packedRows));
  const weight = new Float32Array(experts * packedRows * columns);
  const bias = new Float32Array(experts * packedRows);
  const offsets = new Int32Array(experts + 1);
  for (let expert = 0; expert < experts; expert++) {
    const which = expert / spread;
    offsets[expert + 1] = (offsets[expert] as number) + (counts[which] ?? 0);
    weight.set(own[which] ?? [], expert * packedRows * columns);
    bias.set(ownBias[which] ?? [], expert * packedRows);
  }
  using packed = packExperts(device.tensor(weight, [experts, packedRows, columns], weightType), { activation });
  using y = groupedGemm(device.tensor(x, [tokens, columns], xType), packed, device.tensor(offsets), {
    tokenOfRow: device.tensor(order),
    bias: device.tensor(bias, [experts, packedRows]),
  });
  return [...y.dataSync()];
}

/** Largest difference, relative to the largest value. */
function distance(actual: number[], expected: number[]): number {
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const worst = actual.reduce((max, value, i) => Math.max(max, Math.abs(value - (expected[i] as number))), 0);
  return worst / largest;
}

describe.each(gpuNames)("the kernels' paths on %s", (name) => {
  const device = openForTests(name);

  test.each<Product>([
    { x: "bf16", weight: "bf16", activation: "swiglu", tolerance: 4e-3 },
    { x: "bf16", weight: "bf16", activation: "none", tolerance: 4e-3 },
    { x: "f16", weight: "f16", activation: "swiglu", tolerance: 5e-4 },
    { x: "f32", weight: "f32", activation: "none", tolerance: 1e-3, tf32: true },
    { x: "f32", weight: "f32", activation: "swiglu", tolerance: 2e-6 },
    { x: "f32", weight: "bf16", activation: "swiglu", tolerance: 2e-6 },
    { x: "bf16", weight: "f32", activation: "none", tolerance: 4e-3 },
  ])("grouped GEMM: $x times $weight, $activation, has the same bits from tiles of every height", (problem) => {
    using own = openDevice(name, { poison: true, tf32: problem.tf32 ?? false });
    using reference = openDevice("reference");
    const expected = multiply(reference, problem, 1);
    const results = [1, 8, 60].map((spread) => multiply(own, problem, spread));
    expect(distance(results[0] as number[], expected)).toBeLessThan(problem.tolerance);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
    if (problem.tf32) expect(results[0]).not.toEqual(multiply(device(), problem, 1));
  });

  test.each([
    { slots: 8, experts: 256 },
    { slots: 40, experts: 2500 },
    { slots: 9000, experts: 7 },
    { slots: 1200, experts: 6000 },
    { slots: 70_000, experts: 300 },
    { slots: 600, experts: 20_000 },
  ])("sort: $slots slots and $experts experts", ({ slots, experts }) => {
    const random = new Random("sort");
    const ids = Int32Array.from({ length: slots }, () => random.integer(-1, experts - 1));
    using reference = openDevice("reference");
    const [actual, expected] = [device(), reference].map((each) => {
      const sorted = sort(each.tensor(ids, [slots / 2, 2]), { numExperts: experts });
      return Object.fromEntries(Object.entries(sorted).map(([key, tensor]) => [key, tensor.dataSync()]));
    });
    expect(actual).toEqual(expected);
  });

  test("sum of squares: more blocks of values than a lane adds up at once", () => {
    const values = new Float32Array(1100 * 4096 + 5).fill(1);
    values[values.length - 1] = 3;
    using total = device().tensor(Float32Array.of(2));
    device().backend.sumOfSquares({ values: device().tensor(values).handle, total: total.handle });
    expect([...total.dataSync()]).toEqual([2 + values.length + 8]);
  });

  test("router projection: a token has the same bits alone and among many", () => {
    const random = new Random("router");
    const [tokens, hidden, experts] = [130, 40, 130];
    using x = device().tensor(random.normals(tokens * hidden), [tokens, hidden], "bf16");
    using weight = device().tensor(random.normals(experts * hidden), [experts, hidden], "f32");
    using together = routerProjection(x, weight);
    const logits = together.dataSync();
    for (const token of [0, 7, 63, tokens - 1]) {
      using row = x.rows(token, token + 1);
      using alone = routerProjection(row, weight);
      expect(alone.dataSync()).toEqual(logits.slice(token * experts, (token + 1) * experts));
    }
  });

  test.each([40, 200, 900, 5000])("gating: %i experts, half of them chosen", (experts) => {
    const random = new Random("gating");
    const tokens = 3;
    // Few different values, so that ties decide.
    const values = Float32Array.from({ length: tokens * experts }, () => random.integer(-9, 9));
    using reference = openDevice("reference");
    const topK = Math.min(128, experts / 2);
    const [actual, expected] = [device(), reference].map((each) => {
      const { ids, weights } = gating(each.tensor(values, [tokens, experts]), { topK, normalize: true });
      return { ids: ids.dataSync(), weights: [...weights.dataSync()] };
    });
    expect(actual?.ids).toEqual(expected?.ids);
    expect(distance(actual?.weights ?? [], expected?.weights ?? [])).toBeLessThan(3e-6);
  });

  // A forward of so few tokens gates and sorts in one launch. Where the routing is given, only the sort is left.
  test.each(
    [40, 200, 900, 1100].flatMap((experts) => [
      { experts, tokens: 5, biased: false },
      { experts, tokens: 16, biased: true },
    ]),
  )(
    "forward: $tokens tokens, $experts experts, biased: $biased, gates as route() does",
    ({ experts, tokens, biased }) => {
      const random = new Random("forward");
      const [hiddenSize, intermediateSize] = [24, 8];
      const weights = (...shape: readonly number[]) =>
        device().tensor(random.normals(shape.reduce((a, b) => a * b)), shape);
      using layer = MoeLayer.create({
        device: device(),
        hiddenSize,
        intermediateSize,
        numExperts: experts,
        topK: 4,
        scoring: biased ? "sigmoid" : "softmax",
        normalize: true,
        router: weights(experts, hiddenSize),
        ...(biased ? { selectionBias: weights(experts) } : {}),
        experts: {
          gate: weights(experts, intermediateSize, hiddenSize),
          up: weights(experts, intermediateSize, hiddenSize),
          down: weights(experts, hiddenSize, intermediateSize),
        },
      });
      using x = weights(tokens, hiddenSize);
      using y = layer.forward(x);
      const routing = layer.route(x);
      using expected = layer.forward(x, { routing });
      expect(y.dataSync()).toEqual(expected.dataSync());
    },
  );

  test("more launches than the table of errors can hold, and the first of two errors", () => {
    using fine = device().tensor(Int32Array.of(0, 1));
    using wrong = device().tensor(Int32Array.of(0, 5));
    using worse = device().tensor(Int32Array.of(7, 0));
    for (let launch = 0; launch < 1500; launch++) {
      const ids = launch === 600 ? wrong : launch === 900 ? worse : fine;
      sort(ids.reshape([1, 2]), { numExperts: 2 }).offsets.dispose();
    }
    expect(() => device().synchronizeSync()).toThrow(/sort: ids\[0, 1\]: expected -1 or an expert from 0 to 1, got 5/);
  });
});
