import { expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { rmsNorm } from "../../../lib/operators/experts/rms_norm.js";
import { sort } from "../../../lib/operators/routing/sort.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { runCase } from "../../../lib/testing/run.js";
import { cases } from "../../../lib/testing/table.js";
import { openForTests, withVariable } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { OffloadedPair } from "../../support/offloaded_pair.js";
import { exampleConfig, RandomLayer } from "../../support/random_layer.js";

// A GPU does its work some time after it was enqueued. So does simt with MOE_SIMT_STREAM=late: when somebody waits.

const late = <T>(work: () => T) => withVariable("MOE_SIMT_STREAM", "late", work);
const device = openForTests({ label: "simt", open: (options) => late(() => openDevice("simt", options)) });
const example = { config: exampleConfig, tokens: 9, dtype: "f32", seed: 1 } as const;

test("nonsense is refused", () => {
  expect(() => withVariable("MOE_SIMT_STREAM", "later", () => openDevice("simt"))).toThrow(
    'MOE_SIMT_STREAM must be now or late, got "later"',
  );
  expect(device().description).toMatch(/MOE_SIMT_STREAM=late$/);
});

const small = cases.filter(({ name }) => /\bT9\b/.test(name));

test.each(small)("$operator: $name", async (subject) => {
  const { checks } = await runCase(subject, device());
  for (const check of checks) expect(check).toMatchObject({ passed: true });
});

test("replays of a captured forward come in order with writes", () => {
  using random = new RandomLayer(device(), example);
  using captured = random.layer.capture(example.tokens);
  const draw = new Random(2);
  const inputs = [draw.normals(captured.x.size, 1), draw.normals(captured.x.size, 1)];
  for (const values of inputs) {
    captured.x.write(values);
    captured.replay();
  }
  using x = device().tensor(inputs[1] as Float32Array, captured.x.shape);
  using y = random.layer.forward(x);
  expect(captured.y.rawSync()).toEqual(y.rawSync());
});

test("loads of experts come in order with the work that needs them", () => {
  using pair = new OffloadedPair(device(), example, { slots: 2 });
  for (let call = 0; call < 3; call++) {
    const { y, expected } = pair.forward(new Random(call), 9);
    expect(y).toEqual(expected);
  }
});

test("what earlier work found in its data does not keep weights from the host", async () => {
  using ids = device().tensor(Int32Array.of(99, 0), [1, 2]);
  sort(ids, { numExperts: 6 });
  const config = { ...exampleConfig, sharedExpert: { intermediateSize: 30, gate: "softmax" } } as const;
  using pair = new OffloadedPair(device(), { ...example, config }, { slots: 1, onMiss: "cpu" });
  await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /^sort: ids\[0, 0\]: .*got 99$/);
  const { y, expected } = pair.forward(new Random(3), 9);
  expect((await pair.offload.stats()).onCpu).toBeGreaterThan(0);
  expect(relativeError(y as Float32Array, expected as Float32Array)).toBeLessThanOrEqual(1e-5);
});

test("memory goes back to its owner once work is done with it", async () => {
  const memory = new Float32Array(new SharedArrayBuffer(16));
  using cpu = openDevice("cpu");
  using own = cpu.wrap(memory, [2, 2]);
  const { data } = own.toDLPack();
  const released = new Promise<number[]>((resolve) => {
    using out = device().wrapPointer(data, [2, 2], "f32", { release: () => resolve([...memory]) });
    using x = device().tensor([3, 3, -5, 5], [2, 2]);
    using weight = device().tensor([1, 1]);
    rmsNorm(x, weight, { out, epsilon: 1e-12 });
  });
  expect(await released).toEqual([1, 1, -1, 1]);
});
