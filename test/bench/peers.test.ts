import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { convertBlocks } from "#lib/checkpoint/gguf/blocks/convert.js";
import type { GgufType } from "#lib/checkpoint/gguf/types.js";
import { SafetensorsFile } from "#lib/checkpoint/safetensors/index.js";
import { weightFormat } from "#lib/core/formats/weight_formats.js";
import type { Tensor } from "#lib/core/tensors/tensor.js";
import { openDevice } from "#lib/devices.js";
import { MoeLayer } from "#lib/moe_layer.js";
import type { QuantizedWeight } from "#lib/operators/experts/quantized_weight.js";
import { gating } from "#lib/operators/routing/gating.js";
import { UsageError } from "#lib/terminal/option_values.js";
import { chartSpecification } from "../../bench/peers/chart.js";
import { type Contender, PeerError } from "../../bench/peers/contender.js";
import { partsOf, peerFormats } from "../../bench/peers/formats.js";
import { parseOptions } from "../../bench/peers/options.js";
import { ours } from "../../bench/peers/ours.js";
import { PeerProcess } from "../../bench/peers/peer_process.js";
import { createProblem, weightsFile } from "../../bench/peers/problem.js";
import { cellOf } from "../../bench/peers/report.js";
import { checkOutputs, checkParts, timeInTurns } from "../../bench/peers/rounds.js";
import { gradientSizes, ourTraining } from "../../bench/peers/training.js";
import { gatingRuleOf } from "../../lib/bench/bench_case.js";
import { ratios } from "../../lib/bench/measure.js";

const config = { hiddenSize: 24, intermediateSize: 20, numExperts: 6, topK: 2, normalize: true };
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "moe-kernels-peers-test-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Sizes in whole groups of every format. */
const wholeGroups = { ...config, hiddenSize: 256, intermediateSize: 256 };

describe.each(peerFormats)("a problem of %s", (format) => {
  const { weights, tokens: dtype, tokenFormat } = partsOf(format);
  const { bits, scales: groups } = weightFormat(weights);
  const sizes = groups === undefined ? config : wholeGroups;

  test("its file, computed by the reference device, gives our outputs", async () => {
    using device = openDevice("cpu", { threads: 2 });
    using reference = openDevice("reference");
    using problem = await createProblem(device, sizes, format, [1, 9], directory, { copies: 3 });
    expect(problem.layers).toHaveLength(3);
    await using file = await SafetensorsFile.open(join(directory, weightsFile));
    const read = async (name: string) => {
      const { shape, data } = await file.read(name);
      return reference.tensor(data as Float32Array | Uint16Array, shape, data instanceof Uint16Array ? "bf16" : "f32");
    };
    /** Unsigned codes, from which the middle of their range is subtracted as a zero point. */
    const readQuantized = async (name: string): Promise<QuantizedWeight> => {
      const { shape, data } = await file.read(name);
      const scales = await read(`${name}.scales`);
      const zeros = new Uint8Array(scales.size).fill(2 ** (bits - 1));
      return {
        format: weights.replace("i", "u"),
        codes: reference.tensor(data as Uint8Array, shape),
        scales,
        zeros: reference.tensor(zeros, scales.shape),
      };
    };
    /** GGUF's blocks, whose type the metadata tell. */
    const readBlocks = async (name: string): Promise<QuantizedWeight> => {
      const { shape, data } = await file.read(name);
      const [experts, rows] = shape as [number, number];
      const { codes, ...levels } = convertBlocks(file.metadata.blocks as GgufType, data as Uint8Array, name);
      const tensor = (values: Uint8Array | Uint16Array) =>
        reference.tensor(
          values,
          [experts, rows, values.length / (experts * rows)],
          values instanceof Uint16Array ? "f16" : "u8",
        );
      const entries = Object.entries(levels).map(([role, values]) => [role, tensor(values)]);
      return { format: weights, codes: tensor(codes) as Tensor<"u8">, ...Object.fromEntries(entries) };
    };
    const matrices = (name: string) =>
      groups === undefined ? read(name) : file.metadata.blocks ? readBlocks(name) : readQuantized(name);
    const [gate, up, down] = await Promise.all([matrices("gate"), matrices("up"), matrices("down")]);
    const router = reference.zeros([sizes.numExperts, sizes.hiddenSize], dtype);
    using layer = MoeLayer.create({ ...sizes, device: reference, router, experts: { gate, up, down }, tokenFormat });
    for (const tokens of [1, 9]) {
      const expected: number[] = [];
      for (let index = 0; file.tensors.has(`x.${tokens}.${index}`); index++) {
        const routing = gating(await read(`logits.${tokens}.${index}`), gatingRuleOf(sizes));
        expected.push(...(await layer.forward(await read(`x.${tokens}.${index}`), { routing }).data()));
      }
      expect(expected.length).toBe((tokens === 1 ? 16 : 4) * tokens * sizes.hiddenSize);
      for (const contender of ours(problem)) {
        checkOutputs(contender.name, await contender.outputs(tokens), Float32Array.from(expected), format);
        expect(await contender.time(tokens, 1e-6)).toHaveLength(tokens === 1 ? 16 : 4);
      }
    }
  });
});

test.each(["f32", "bf16"] as const)("gradients of %s are those of the reference device", async (format) => {
  const outputs = async (name: "cpu" | "reference") => {
    using device = openDevice(name);
    using problem = await createProblem(device, config, format, [9], directory, { training: true });
    const contender = ourTraining(problem);
    expect(await contender.time(9, 1e-6)).toHaveLength(4);
    const bytes = format === "bf16" ? 2 : 4;
    const row = 2 * config.intermediateSize * bytes + 8;
    if (name === "cpu") expect(await contender.kept?.(9)).toBe(9 * config.topK * row);
    return [await contender.outputs(9), gradientSizes(problem, 9)] as const;
  };
  const [got, sizes] = await outputs("cpu");
  const [expected] = await outputs("reference");
  expect(got).toHaveLength(4 * sizes.reduce((sum, size) => sum + size, 0));
  expect(checkParts("cpu", got, expected, sizes, format)).toBeLessThan(format === "bf16" ? 0.02 : 1e-5);
});

describe("outputs", () => {
  const expected = Float32Array.of(2, -4, 0);

  test("differ relative to the largest", () => {
    expect(checkOutputs("peer", Float32Array.of(2, -4.1, 0), expected, "bf16")).toBeCloseTo(0.025);
    expect(checkOutputs("peer", new Float32Array(2), new Float32Array(2), "f32")).toBe(0);
  });

  test("are compared part by part, again and again", () => {
    const [got, wanted] = [Float32Array.of(1, 100, 2.02, 100), Float32Array.of(1, 100, 2, 100)];
    expect(checkParts("peer", got, wanted, [1, 1], "bf16")).toBeCloseTo(0.01);
    expect(() => checkParts("peer", got, wanted, [1, 1], "f32")).toThrow(/a difference of 0.0/);
    expect(() => checkParts("peer", got.subarray(1), wanted, [1, 1], "f32")).toThrow(/expected 4 outputs, got 3/);
  });

  test.each([
    ["too far", Float32Array.of(2, -4.1, 0), /peer: expected outputs within 0.0001 of the largest, got .*0.02/],
    ["not a number", Float32Array.of(2, Number.NaN, 0), /got a difference of Infinity/],
    ["too few", Float32Array.of(2, -4), /peer: expected 3 outputs, got 2/],
  ])("%s", (_name, got, message) => {
    expect(() => checkOutputs("peer", got, expected, "f32")).toThrow(PeerError);
    expect(() => checkOutputs("peer", got, expected, "f32")).toThrow(message);
  });
});

test("contenders run for a while, then take turns, every second round in reverse", async () => {
  const log: string[] = [];
  const contender = (name: string, seconds: number): Contender => ({
    name,
    version: "1",
    outputs: () => Promise.reject(new Error("not asked for")),
    async time(tokens, limit) {
      log.push(`${name}${tokens} ${limit.toFixed(1)}`);
      return [9, 3 * seconds, 2 * seconds, seconds];
    },
  });
  const turns: number[] = [];
  const readRate = async () => log.push("read");
  const contenders = [contender("a", 1), contender("b", 3)];
  const { medians, readGBs } = await timeInTurns(contenders, 8, 3, 0.1, readRate, (done) => turns.push(done));
  const rounds = ["read", "a8 0.1", "b8 0.1", "b8 0.1", "a8 0.1", "read", "read", "a8 0.1", "b8 0.1"];
  expect(log).toEqual(["a8 0.6", "b8 0.6", ...rounds]);
  expect(turns).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(readGBs).toEqual([3, 8, 9]);
  expect(medians).toEqual([
    [2, 2, 2],
    [6, 6, 6],
  ]);
});

test("the first call of a turn does not count, and is never the only one", async () => {
  const limits: number[] = [];
  const contender: Contender = {
    name: "slow",
    version: "1",
    outputs: () => Promise.reject(new Error("not asked for")),
    async time(_tokens, limit) {
      limits.push(limit);
      return limit > 1 ? [2, 1] : [2];
    },
  };
  const { medians } = await timeInTurns([contender], 8, 1, 0.1, async () => 1);
  expect(limits.map((limit) => Number(limit.toFixed(1)))).toEqual([0.6, 0.1, 4]);
  expect(medians).toEqual([[1]]);
});

test("ratios are taken round by round", () => {
  expect(ratios([2, 9, 8], [1, 3, 2])).toEqual({ median: 3, lowerQuartile: 2.5, upperQuartile: 3.5, samples: 3 });
});

test("a cell compares every contender with us and with the ceiling", () => {
  const work = { operations: 4e9, weightBytes: 2e9, activationBytes: 1e9 };
  const inputs = [{ work }] as unknown as Parameters<typeof cellOf>[1];
  const turns = [
    { name: "us", medians: [0.1, 0.2, 0.4], difference: 0, peer: false },
    { name: "peer", medians: [0.2, 0.3, 0.8], difference: 1e-6, peer: true },
    { name: "slower", medians: [0.4, 0.9, 0.1], difference: 1e-6, peer: true },
  ];
  const kernel = { name: "avx2 f32", peak: "fma", products: 1 } as const;
  const ceilings = { fmaGflops: 100, bf16Gflops: 0, int8Gops: 150, readGBs: 60 };
  const cell = cellOf(8, inputs, turns, ceilings, [30, 20, 30], kernel);
  expect(cell).toMatchObject({ tokens: 8, operations: 4e9, weightBytes: 2e9, ceilings: { ...ceilings, readGBs: 30 } });
  expect(cell.floor).toBeCloseTo(0.1); // 3 GB at 30 GB/s take longer than 4 GFLOP at 100
  expect(cell.results[0]).toMatchObject({ name: "us", median: 0.2, gflops: 20, weightGBs: 10 });
  expect(cell.results[0]?.ofCeiling).toBeCloseTo(0.75); // round by round: 1, 0.75 and 0.25
  expect(cell.results[1]).toMatchObject({ name: "peer", median: 0.3, timesOurs: { median: 2 }, difference: 1e-6 });
  expect(cell.results.map(({ timesBestPeer }) => timesBestPeer?.median)).toEqual([0.5, 1, 2]);
  const alone = cellOf(8, inputs, turns.slice(0, 1), ceilings, [30, 20, 30], kernel);
  expect(alone.results[0]).not.toHaveProperty("timesBestPeer");
  const rotation = { copies: 1, bytes: 1, wanted: 2 };
  const specification = chartSpecification([{ shape: "A", format: "f32", kernel, rotation, cells: [cell] }], "");
  expect(specification).toMatchObject({
    data: {
      values: [
        { shape: "shape A", format: "f32", tokens: 8, name: "us", ofCeiling: cell.results[0]?.ofCeiling },
        { name: "peer" },
        { name: "slower" },
      ],
    },
  });
});

describe("a peer's process", () => {
  const setup = () => ({
    variant: "v",
    directory,
    weights: weightsFile,
    config,
    threads: 2,
    copies: 1,
    training: false,
  });
  const start = (script: string) => PeerProcess.start("peer", [process.execPath, "-e", script], setup());
  const server = `
    const { threads, variant } = JSON.parse(process.argv[1]);
    const answer = (result) => console.log(JSON.stringify({ result }));
    answer("version of " + variant + " with " + threads + process.env.OMP_NUM_THREADS);
    require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
      const { name, tokens, path, seconds } = JSON.parse(line);
      if (name === "time") return tokens === 0 ? process.exit(3) : answer([tokens, seconds]);
      require("node:fs").writeFileSync(path, Float32Array.of(tokens, 0.5));
      answer(null);
    });`;

  test("answers", async () => {
    using peer = await start(server);
    expect(peer.version).toBe("version of v with 22");
    expect(await peer.outputs(7)).toEqual(Float32Array.of(7, 0.5));
    expect(await peer.time(8, 0.25)).toEqual([8, 0.25]);
  });

  test("that exits early is an error", async () => {
    using peer = await start(server);
    await expect(peer.time(0, 1)).rejects.toThrow(/^peer ended early: exit code 3$/);
    await expect(peer.time(1, 1)).rejects.toThrow(PeerError);
    await expect(start("process.exit(4)")).rejects.toThrow(/peer ended early: exit code 4/);
  });

  test("that writes something else is an error, and ends", async () => {
    const lingering = start("console.log('loading ...'); setInterval(() => {}, 1000)");
    await expect(lingering).rejects.toThrow(/^peer: expected a line of JSON, got loading \.\.\.$/);
    await vi.waitFor(() => expect(process.getActiveResourcesInfo()).not.toContain("ProcessWrap"), { timeout: 10_000 });
  });

  test("that cannot be started is an error", async () => {
    const missing = PeerProcess.start("peer", [join(directory, "no-such-program")], setup());
    await expect(missing).rejects.toThrow(/^peer ended early: spawn .*no-such-program ENOENT$/);
  });
});

describe("options", () => {
  test("defaults", () => {
    expect(parseOptions([])).toMatchObject({
      shapes: [{ name: "A" }, { name: "B" }, { name: "C" }],
      formats: ["f32", "bf16"],
      tokens: [1, 8, 64, 512, 2048, 4096],
      rounds: 7,
    });
    expect(parseOptions(["--help"])).toBeUndefined();
  });

  test("names are found in any case", () => {
    const options = parseOptions(["--peer", "ONNXRUNTIME-moe", "--shape", "b,64,32,8,2", "--tokens", "1,64"]);
    expect(options).toMatchObject({
      shapes: [{ name: "B" }, { name: "64x32x8x2", config: { hiddenSize: 64, topK: 2 } }],
      tokens: [1, 64],
      peers: [{ name: "onnxruntime-moe" }],
    });
  });

  test.each([
    ["--peer=ggml"],
    ["--dtype=f16"],
    ["--rounds=0"],
    ["--time=0"],
    ["--time=Infinity"],
    ["--tokens=-1"],
    ["--shape=Z"],
    ["--training", "--dtype=i4_g32_f32"],
    ["--shape=64x32x8"],
    ["--shape=64x32x8x9"],
  ])("%s is a wrong command line", (...args) => {
    expect(() => parseOptions(args)).toThrow(UsageError);
  });
});
