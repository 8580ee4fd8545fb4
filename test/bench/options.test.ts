import { expect, test } from "vitest";
import type { BenchReport } from "../../lib/bench/index.js";
import * as api from "../../lib/bench/index.js";

// What programs may pass to moe-kernels/bench, and what is refused.

const shapes = { tiny: { hiddenSize: 16, intermediateSize: 8, numExperts: 4, topK: 2 } };
const options: api.BenchmarkOptions = {
  shapes,
  device: "reference",
  tokens: [2],
  operators: ["sort"],
  seconds: 1e-3,
  rounds: 2,
  weightBytes: 0,
};

test("exports what it says", () => {
  expect(Object.keys(api).sort()).toEqual(["compareReports", "measureCeilings", "runBenchmark"]);
});

test("runBenchmark reports its progress and what it measured", async () => {
  const progress: api.BenchProgress[] = [];
  const report = await api.runBenchmark({ ...options, onProgress: (at) => progress.push(at) });
  const group = "tiny bf16, 2 threads";
  const results = report.groups[0]?.results;
  expect(results).toMatchObject([{ name: "sort", tokens: 2, device: null, ofCeiling: null, contenders: [] }]);
  expect(progress.map(({ done, total }) => `${done} of ${total}`)).toEqual(["0 of 1", "1 of 1"]);
  expect(progress[0]?.group.replace(/\d+ threads?/, "2 threads")).toBe(group);
});

test.each([
  [{ shape: shapes }, /shape/],
  [{ shapes, thread: [1] }, /thread.*threads/],
  [{ shapes: 3 }, /shapes/],
  [{ shapes, dtypes: ["f64"] }, /dtypes.*got "f64"/],
  [{ shapes, dtypes: "f32" }, /dtypes/],
  [{ shapes, tokens: [0] }, /tokens.*got 0/],
  [{ shapes, operators: ["frobnicate"] }, /operators: expected part of one of layer, .*frobnicate/],
  [{ shapes, tokenFormats: ["int8"] }, /tokenFormats: /],
  [{ shapes, calls: 2, contenders: [{ name: "mine", operators: { sort: () => ({}) } }] }, /contenders.*calls/],
  [{ shapes, contenders: [{ name: "mine" }] }, /subject\.operators/],
  [{ shapes, contenders: [{ name: "mine", operators: { frobnicate() {} } }] }, /frobnicate/],
  [
    { shapes: { bad: { hiddenSize: 16 } }, device: "reference", operators: ["sort"] },
    /intermediateSize: expected an integer/,
  ],
])("%j is refused", async (given, message) => {
  await expect(api.runBenchmark(given as never)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(message),
  });
});

test("a format that does not exist is refused", async () => {
  await expect(api.runBenchmark({ shapes, formats: ["i99" as never] })).rejects.toThrow(
    /^formats: expected the name of a/,
  );
});

test("contenders are closed, also after a failure", async () => {
  let closed = 0;
  const contender = { name: "mine", operators: { sort: () => ({}) }, close: () => void closed++ };
  const report = await api.runBenchmark({ ...options, contenders: [contender] });
  expect(report.groups[0]?.results[0]?.contenders).toMatchObject([
    { failure: expect.stringMatching(/^offsets: expected/), total: null },
  ]);
  await expect(api.runBenchmark({ ...options, device: "tpu" as never, contenders: [contender] })).rejects.toThrow();
  expect(closed).toBe(2);
});

test.each([
  null,
  {},
  { kind: "moe-kernels bench" },
  { kind: "moe-kernels bench", groups: [{ results: [{ total: { median: "fast" }, contenders: [] }] }] },
])("%j is no report", (given) => {
  expect(() => api.compareReports(given as unknown as BenchReport, given as unknown as BenchReport)).toThrow(
    /^before: expected a report of moe-kernels bench/,
  );
});
