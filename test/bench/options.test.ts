import { expect, test, vi } from "vitest";
import type { BenchReport, Subject } from "../../lib/bench/index.js";
import * as api from "../../lib/bench/index.js";
import { openDevice } from "../../lib/devices.js";
import { deviceSubject } from "../../lib/testing/index.js";

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

test("all formats of a case take turns, as far as their weights fit in memory", async () => {
  const given = { ...options, operators: ["groupedGemm down"], formats: ["f32", "bf16", "i4_g32_bf16"] } as const;
  const run = async (memoryBytes?: number) => {
    const progress: string[] = [];
    const onProgress = ({ done, total }: api.BenchProgress) => progress.push(`${done}/${total}`);
    const { groups } = await api.runBenchmark({ ...given, ...(memoryBytes && { memoryBytes }), onProgress });
    return { progress, results: groups.map(({ results }) => results[0] as api.BenchResult) };
  };
  const together = await run();
  expect(together.progress).toEqual(["0/3", "3/3"]);
  expect(together.results.map(({ timesFirst }) => timesFirst?.samples)).toEqual([undefined, 2, 2]);
  // 512 weights take 2048, 1024 and, with a scale for each row of 8, more than 256 bytes.
  const parts = await run(3100);
  expect(parts.progress).toEqual(["0/3", "2/3", "3/3"]);
  expect(parts.results.map(({ timesFirst }) => timesFirst?.samples)).toEqual([undefined, 2, undefined]);
  expect(parts.results.map(({ apart }) => apart !== null)).toEqual([false, false, true]);
});

test("short names of formats mean the formats", async () => {
  const { groups } = await api.runBenchmark({ ...options, operators: ["layer"], formats: ["int4_g32"] });
  expect(groups.map(({ format }) => format)).toEqual(["i4_g32_bf16"]);
});

test("contenders of all formats take turns with ours", async () => {
  const turns: string[] = [];
  const contender: Subject = {
    name: "mine",
    operators: {
      async groupedGemm(inputs) {
        turns.push(inputs.x.dtype);
        using device = openDevice("reference");
        return (await deviceSubject(device).operators.groupedGemm?.(inputs)) ?? null;
      },
    },
  };
  const report = await api.runBenchmark({
    ...options,
    ...{ operators: ["groupedGemm down"], dtypes: ["f32", "bf16"], contenders: [contender] },
  });
  // The checks, then a turn of each in one round, and in reverse order in the next, then the checks again.
  const rounds = turns.slice(2, -2).filter((dtype, index, all) => index === 0 || dtype !== all[index - 1]);
  expect(turns.slice(0, 2)).toEqual(["f32", "bf16"]);
  expect(turns.slice(-2)).toEqual(["f32", "bf16"]);
  expect(rounds).toEqual(["f32", "bf16", "f32"]);
  for (const { results } of report.groups) {
    expect(results[0]?.contenders).toMatchObject([{ failure: null, leftOut: null, timesOurs: { samples: 2 } }]);
  }
});

test.each([
  [{ shape: shapes }, /shape/],
  [{ shapes, thread: [1] }, /thread.*threads/],
  [{ shapes: 3 }, /shapes/],
  [{ shapes, dtypes: ["f64"] }, /dtypes.*got "f64"/],
  [{ shapes, dtypes: "f32" }, /dtypes/],
  [{ shapes, tokens: [0] }, /tokens.*got 0/],
  [{ shapes, operators: ["frobnicate"] }, /operators: expected part of one of layer, .*frobnicate/],
  [
    { shapes, tokenFormats: ["int8"] },
    /tokenFormats: expected "none" with weights that are not quantised \(bf16\), got "int8"/,
  ],
  [{ shapes, dtypes: [] }, /dtypes: expected at least one, got none/],
  [{ shapes: {} }, /shapes: expected at least one, got none/],
  [{ shapes, memoryBytes: -1 }, /memoryBytes.*got -1/],
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
  const contender = { name: "mine", operators: { sort: () => ({}) as never }, close: () => void closed++ };
  const report = await api.runBenchmark({ ...options, contenders: [contender] });
  expect(report.groups[0]?.results[0]?.contenders).toMatchObject([
    { failure: expect.stringMatching(/^offsets: expected/), total: null },
  ]);
  await expect(api.runBenchmark({ ...options, device: "tpu" as never, contenders: [contender] })).rejects.toThrow();
  expect(closed).toBe(2);
});

test("a contender that fails to close costs neither the report nor another's end", async () => {
  const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
  const close = vi.fn();
  const broken = () => {
    throw new Error("no reply");
  };
  const contenders = [broken, close].map((one, index) => ({
    ...{ name: `mine ${index}`, operators: { sort: () => ({}) as never }, close: one },
  }));
  const report = await api.runBenchmark({ ...options, contenders });
  expect(report.groups[0]?.results[0]?.contenders).toHaveLength(2);
  expect(close).toHaveBeenCalledOnce();
  expect(warn).toHaveBeenCalledExactlyOnceWith("close() of mine 0 failed: no reply");
  warn.mockRestore();
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
