import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { openModelFiles } from "../../lib/checkpoint/opened/open_model_files.js";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import { openDevice } from "../../lib/devices.js";
import { randomLayer } from "../../lib/testing/index.js";
import { familyModelPath } from "../checkpoint/support/family_model.js";
import { goldenModel, writeModel } from "../checkpoint/support/model_directory.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames } from "../support/devices.js";
import { goldenFile } from "../support/golden.js";
import { runCli } from "./support/run_cli.js";

vi.mock(import("../../lib/checkpoint/opened/open_model_files.js"), { spy: true });

/** A layer file whose expected output is off by `factor`. */
async function scaledOutput(directory: string, factor: number): Promise<string> {
  await using file = await SafetensorsFile.open(goldenFile("mixtral_small"));
  const tensors = new Map<string, SafetensorsInput>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  const output = tensors.get("output_f64") as SafetensorsInput;
  const data = (output.data as Float64Array).map((value) => value * factor);
  tensors.set("output_f64", { ...output, data });
  const path = join(directory, "wrong.safetensors");
  await writeSafetensors(path, tensors, { metadata: file.metadata });
  return path;
}

describe.each(deviceNames)("run --file on %s", (device) => {
  test("shows routing, stages, checks and tokens per expert", async () => {
    const { exitCode, stdout } = await runCli(["run", "--file", goldenFile("mixtral_mid"), "--device", device]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("H 128, I 48, 16 experts");
    expect(stdout).toContain("routing: softmax over all 16 logits, the 2 experts with the largest score chosen");
    for (const stage of ["router", "gating + top-k", "sort", "gate, up, activation", "down", "combine"]) {
      expect(stdout).toMatch(new RegExp(`^${stage.replace("+", "\\+")} +\\S+ (µs|ms) +\\d+%`, "m"));
    }
    expect(stdout).toMatch(/^✔ ids: all as expected$/m);
    expect(stdout).toMatch(/^✔ weights: error /m);
    expect(stdout).toMatch(/^✔ output: error .* tolerance 1\.0e-5$/m);
    expect(stdout).toMatch(/13 of 16 experts used, mean 10\.0, largest 32/);
    expect(stdout).toMatch(/^32 │/m);
  });

  test("compares 16-bit runs, given the routing, at their own tolerance", async () => {
    for (const [dtype, tolerance] of [
      ["bf16", 2e-2],
      ["f16", 3e-3],
    ] as const) {
      const args = ["run", "--file", goldenFile("olmoe_mid"), "--device", device, "--dtype", dtype, "--json"];
      const { exitCode, stdout } = await runCli(args);
      expect(exitCode).toBe(0);
      const { checks } = JSON.parse(stdout).runs[0];
      expect(checks).toMatchObject([{ output: "output", dtype, tolerance, passed: true }]);
    }
  });

  test("exits with 1 if the output is not as expected", async () => {
    using directory = temporaryDirectory();
    const { exitCode, stdout } = await runCli([
      "run",
      "--file",
      await scaledOutput(directory.path, 1.001),
      "--device",
      device,
    ]);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^✔ ids/m);
    expect(stdout).toMatch(/^✘ output: error 1\.0e-3 /m);
  });
});

test("run --json counts work and tokens", async () => {
  const { exitCode, stdout } = await runCli([
    ...[
      "run",
      "--file",
      goldenFile("mixtral_t1"),
      "--device",
      "reference",
      "--device",
      "cpu",
      "--dtype",
      "f32",
      "--json",
    ],
  ]);
  expect(exitCode).toBe(0);
  const { runs, passed } = JSON.parse(stdout);
  expect(passed).toBe(true);
  expect(runs.map(({ device }: { device: string }) => device)).toEqual(["reference", "cpu"]);
  const [hidden, inner, experts, topK] = [72, 56, 8, 2];
  for (const { tokens, tokensPerExpert, work, stages } of runs) {
    expect(tokens.count).toBe(1);
    expect(tokensPerExpert.reduce((sum: number, count: number) => sum + count)).toBe(topK);
    expect(work.stages.router.operations).toBe(2 * experts * hidden);
    expect(work.stages.gateUp).toEqual({
      operations: 2 * topK * 2 * inner * hidden,
      weightBytes: topK * 2 * inner * hidden * 4,
    });
    expect(work.stages.down).toEqual({ operations: 2 * topK * inner * hidden, weightBytes: topK * inner * hidden * 4 });
    expect(work.activationBytes).toBe(2 * hidden * 4);
    expect(Object.keys(stages)).toEqual(["router", "gating", "sort", "gateUp", "down", "combine"]);
  }
});

describe("run --shape", () => {
  const withoutTokens = ["run", "--shape", "d", "--device", "cpu", "--repeat", "1", "--json"];

  test("makes the same layer and tokens from the same seed", async () => {
    const counts = async (tokens: string, ...more: string[]): Promise<unknown> =>
      JSON.parse((await runCli([...withoutTokens, "--tokens", tokens, ...more])).stdout).runs[0].tokensPerExpert;
    const first = await counts("5");
    expect(await counts("5")).toEqual(first);
    expect(await counts("5", "--seed", "0", "--threads", "1")).toEqual(first);
    expect(await counts("64", "--seed", "1")).not.toEqual(await counts("64"));
  });

  test("takes sizes too", async () => {
    const { stdout } = await runCli(["run", "--shape", "64,32,8,2", "--device", "cpu", "--tokens", "5", "--json"]);
    const { title, runs } = JSON.parse(stdout);
    expect(title).toBe("64x32x8x2, random weights of seed 0");
    expect(runs[0].description).toMatchObject({ hiddenSize: 64, intermediateSize: 32, numExperts: 8, topK: 2 });
  });

  test("works without tokens", async () => {
    const { exitCode, stdout } = await runCli([...withoutTokens.slice(0, -1), "--tokens", "0"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("0 tokens in ");
    expect(stdout).toContain("0 of 8 experts used");
    expect(stdout).not.toMatch(/Infinity|NaN/);
  });
});

describe("run --model", () => {
  test.each([
    ["deepseek_v3", "4", "largest biased score chosen"],
    ["gpt_oss", "0", "logits with bias, the "],
  ])("tells of the biases of %s", async (family, layer, words) => {
    const directory = join("test", "golden", "families", family);
    const { exitCode, stdout } = await runCli([
      "run",
      "--model",
      directory,
      "--layer",
      layer,
      "--tokens",
      "3",
      "--device",
      "reference",
    ]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(words);
  });

  test("takes a layer from a Hugging Face directory and tokens from a file", async () => {
    using directory = temporaryDirectory();
    const model = await goldenModel("qwen3_moe_norm_small");
    await writeModel(directory.path, model);
    const { x, shape, expected } = model.layerFile;
    const input = join(directory.path, "tokens.safetensors");
    await writeSafetensors(input, {
      x: { dtype: "F32", shape, data: x },
      output: { dtype: "F64", shape, data: expected?.outputF64 as Float64Array },
    });
    const args = ["run", "--model", directory.path, "--layer", "0", "--input", input, "--device", "reference,cpu"];
    const { exitCode, stdout } = await runCli(args);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`layer 0 of ${directory.path}`);
    expect(stdout.match(/^✔ output: error /gm)).toHaveLength(2);
  });

  test("gives a router that reads other tokens those of the file, or random ones", async () => {
    const args = ["run", "--model", familyModelPath("gemma4"), "--layer", "1", "--device", "reference,cpu"];
    const expected = join(familyModelPath("gemma4"), "expected.safetensors");
    const { exitCode, stdout } = await runCli([...args, "--input", expected]);
    expect(exitCode).toBe(0);
    expect(stdout.match(/^✔ output: error /gm)).toHaveLength(2);
    expect((await runCli([...args, "--tokens", "5", "--heat-map"])).exitCode).toBe(0);
    const other = join(familyModelPath("mixtral"), "expected.safetensors");
    const { stderr } = await runCli([...args, "--input", other]);
    expect(stderr).toMatch(/INVALID_ARGUMENT: .*expected a tensor "router_input" like "x"/);
  });

  test("gives a layer that looks up experts the token ids of the file, or random ones", async () => {
    const model = familyModelPath("deepseek_v4_hash");
    const args = ["run", "--model", model, "--layer", "0", "--device", "reference,cpu"];
    const { exitCode, stdout } = await runCli([...args, "--input", join(model, "expected.safetensors")]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("the 3 experts that a table has for the token's id, one of 11");
    expect(stdout.match(/^✔ output: error /gm)).toHaveLength(2);
    const seeded = async (seed: string) => {
      const { stdout } = await runCli([...args, "--tokens", "50", "--seed", seed, "--heat-map", "--json"]);
      return JSON.parse(stdout).runs.map(({ tokensPerExpert }: { tokensPerExpert: number[] }) => tokensPerExpert);
    };
    const [first, second] = await seeded("1");
    expect(second).toEqual(first);
    expect((await seeded("2"))[0]).not.toEqual(first);
    const other = join(familyModelPath("mixtral"), "expected.safetensors");
    const { stderr } = await runCli([...args, "--input", other]);
    expect(stderr).toMatch(/INVALID_ARGUMENT: .*expected a tensor "token_ids" \[T\], or \[B, S\], by which this layer/);
  });

  test.each([
    ["the model's folder", (_directory: string) => ["--cache"], ".moe-kernels"],
    ["a given folder", (directory: string) => ["--cache", join(directory, "packed")], "packed"],
  ] as const)("keeps packed weights in %s", async (_what, options, folder) => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await goldenModel("olmoe_small"));
    const args = ["run", ...options(directory.path), "--model", directory.path, "--layer", "0", "--tokens", "3"];
    const cpu = [...args, "--device", "cpu"];
    const first = await runCli(cpu);
    expect(first.exitCode).toBe(0);
    const path = join(directory.path, folder);
    expect(first.stdout).toContain(`packed weights written to ${path}`);
    expect((await runCli(cpu)).stdout).toContain(`packed weights mapped from ${path}`);
    expect(JSON.parse((await runCli([...cpu, "--json"])).stdout).runs[0].cache.state).toBe("mapped");
    const reference = await runCli([...args, "--device", "reference"]);
    expect(reference.stdout).toContain("packed weights not kept: device reference ");
  });

  test.each([
    [
      "x of another width",
      { x: { dtype: "F32", shape: [2, 3], data: new Float32Array(6) } },
      /SHAPE_MISMATCH.*\[T, 46\]/,
    ],
    ["x of another rank", { x: { dtype: "F32", shape: [6], data: new Float32Array(6) } }, /BAD_CHECKPOINT.*\[T, H\]/],
    ["x of integers", { x: { dtype: "I32", shape: [1, 46], data: new Int32Array(46) } }, /BAD_CHECKPOINT.*got I32/],
    [
      "ids that do not fit 32 bits",
      {
        x: { dtype: "F32", shape: [1, 46], data: new Float32Array(46) },
        token_ids: { dtype: "I64", shape: [1], data: BigInt64Array.of(2n ** 32n + 5n) },
      },
      /BAD_CHECKPOINT.*"token_ids": expected ids of 32 bits, got 4294967301 at 0/,
    ],
    ["no x", { y: { dtype: "F32", shape: [1], data: new Float32Array(1) } }, /BAD_CHECKPOINT.*"x"/],
  ] as const)("refuses a token file with %s", async (_what, tensors, message) => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await goldenModel("qwen3_moe_norm_small"));
    const input = join(directory.path, "tokens.safetensors");
    await writeSafetensors(input, tensors);
    const args = ["run", "--model", directory.path, "--layer", "0", "--input", input, "--device", "reference"];
    const { exitCode, stderr } = await runCli(args);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(message);
  });
});

describe("run --model with several layers", () => {
  const directory = temporaryDirectory();
  afterAll(() => directory[Symbol.dispose]());
  beforeAll(async () => {
    const { config, weights } = await goldenModel("olmoe_small");
    const copies = [0, 1, 2].flatMap((layer) =>
      [...weights].map(([name, tensor]) => [name.replace("layers.0.", `layers.${layer}.`), tensor] as const),
    );
    await writeModel(directory.path, { config: { ...config, num_hidden_layers: 3 }, weights: new Map(copies) });
  });
  const run = (...args: string[]) =>
    runCli(["run", "--model", directory.path, "--tokens", "6", "--repeat", "1", "--device", "cpu,reference", ...args]);

  test.each([
    [[], [0, 1, 2]],
    [
      ["--layer", "0-1"],
      [0, 1],
    ],
    [
      ["--layer", "2", "--layer", "0,2"],
      [0, 2],
    ],
  ])("%j runs the layers %j, one after another", async (args, layers) => {
    const { exitCode, stdout } = await run(...args);
    expect(exitCode).toBe(0);
    expect([...stdout.matchAll(/^layer (\d) of /gm)].map(([, layer]) => Number(layer))).toEqual(layers);
    expect(stdout.match(/^On cpu, /gm)).toHaveLength(layers.length);
    const { title, runs } = JSON.parse((await run(...args, "--json")).stdout);
    expect(title).toBe(directory.path);
    expect(runs.map(({ layer, device }: { layer: string; device: string }) => `${layer} ${device}`)).toEqual(
      layers.flatMap((layer) => [`layer ${layer} cpu`, `layer ${layer} reference`]),
    );
  });

  test("opens the model once, and the one to compare with", async () => {
    vi.mocked(openModelFiles).mockClear();
    const original = `${directory.path}/`;
    expect((await run("--compare", original)).exitCode).toBe(0);
    expect(vi.mocked(openModelFiles).mock.calls.map(([path]) => path)).toEqual([directory.path, original]);
  });

  test("--report has the first device's routing of all of them in one page", async () => {
    const path = join(directory.path, "report.html");
    expect(await run("--report", path, "--heat-map")).toMatchObject({ exitCode: 0 });
    const page = readFileSync(path, "utf8");
    expect(page.match(/<a href="#layer=\d">layer \d<\/a>/g)).toHaveLength(3);
    expect(page).toContain("<dt>device</dt><dd>cpu</dd>");
    expect(page).toContain(
      "Each layer by itself was given the same 6 tokens (random, seed 0), not the output of the layer",
    );
    const svg = await run("--report", join(directory.path, "report.svg"));
    expect(svg).toMatchObject({ exitCode: 2, stdout: "" });
    expect(svg.stderr).toContain(
      "--report: expected a name in .html, since .svg has the charts of one router and there are 3",
    );
  });

  test("refuses a layer that is not there before it runs any, and an expected output for several", async () => {
    const missing = await run("--layer", "0,7");
    expect(missing).toMatchObject({ exitCode: 2, stdout: "" });
    expect(missing.stderr).toMatch(/^moe-kernels: --layer: .*7\n/);
    using other = temporaryDirectory();
    await writeModel(other.path, await goldenModel("olmoe_small"));
    const toCompare = await run("--layer", "0,2", "--compare", other.path);
    expect(toCompare).toMatchObject({ exitCode: 2, stdout: "" });
    expect(toCompare.stderr).toContain(`--compare: ${other.path}: layer: expected an integer from 0 to 0, got 2\n`);
    const input = join(directory.path, "tokens.safetensors");
    const x = { dtype: "F32", shape: [1, 46], data: new Float32Array(46) } as const;
    await writeSafetensors(input, { x, output: x });
    const args = ["run", "--model", directory.path, "--input", input, "--device", "reference"];
    const several = await runCli(args);
    expect(several).toMatchObject({ exitCode: 2, stdout: "" });
    expect(several.stderr).toContain("has the expected output of one layer; say which by --layer N");
  });
});

describe("run --model of which some layers are refused", () => {
  const directory = temporaryDirectory();
  afterAll(() => directory[Symbol.dispose]());
  const missing = "model.layers.2.mlp.experts.1.up_proj.weight";
  beforeAll(async () => {
    const { config, weights } = await goldenModel("qwen3_moe_norm_small");
    const copies = [0, 1, 2, 3].flatMap((layer) =>
      [...weights].map(([name, tensor]) => [name.replace("layers.0.", `layers.${layer}.`), tensor] as const),
    );
    await writeModel(directory.path, {
      config: { ...config, num_hidden_layers: 4, swiglu_limits: [7, 0, 0, 0] },
      weights: new Map(copies.filter(([name]) => name !== missing)),
    });
  });
  const run = (...args: string[]) =>
    runCli(["run", "--model", directory.path, "--tokens", "6", "--repeat", "1", "--device", "reference", ...args]);
  const limits = /swiglu_limits: expected no limit for layer 0, /;

  test("runs the others, names these with the reason, and exits with 1", async () => {
    const { exitCode, stdout } = await run();
    expect(exitCode).toBe(1);
    expect([...stdout.matchAll(/^layer (\d) of /gm)].map(([, layer]) => Number(layer))).toEqual([1, 3]);
    expect(stdout).toMatch(/\nLayer 0\n✘ not run:\n {2}.*swiglu_limits: expected no limit for layer 0, /);
    expect(stdout).toMatch(new RegExp(`\nLayer 2\n✘ not run:\n {2}.*${missing}`));
  });

  test("has these in the JSON, and only the others in a report", async () => {
    const report = join(directory.path, "report.html");
    const { exitCode, stdout } = await run("--json", "--report", report);
    expect(exitCode).toBe(1);
    const { runs, refused, passed } = JSON.parse(stdout);
    expect(runs.map(({ layer }: { layer: string }) => layer)).toEqual(["layer 1", "layer 3"]);
    expect(refused).toEqual([
      { layers: [0], reason: expect.stringMatching(limits) },
      { layers: [2], reason: expect.stringContaining(missing) },
    ]);
    expect(passed).toBe(false);
    expect(readFileSync(report, "utf8").match(/<a href="#layer=\d">layer \d<\/a>/g)).toHaveLength(2);
  });

  test("is an error if they were named, or are all there are", async () => {
    const named = await run("--layer", "0,1");
    expect(named).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringMatching(limits) });
    const later = await run("--layer", "1-2");
    expect(later).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(missing) });
    expect(later.stdout).toMatch(/^layer 1 of /);
    using other = temporaryDirectory();
    const { config, weights } = await goldenModel("qwen3_moe_norm_small");
    await writeModel(other.path, { config: { ...config, swiglu_limits: [7] }, weights });
    const all = await runCli(["run", "--model", other.path, "--device", "reference"]);
    expect(all).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringMatching(limits) });
  });
});

test("a layer that layer.save wrote is a model, and no layer file with results", async () => {
  using directory = temporaryDirectory();
  using device = openDevice("reference");
  using layer = await randomLayer(device, { hiddenSize: 8, intermediateSize: 4, numExperts: 3, topK: 2 }, "f32", 0);
  const file = join(directory.path, "saved.safetensors");
  await layer.save(file);
  const { exitCode, stderr } = await runCli(["run", "--file", file]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/got a layer that MoeLayer\.save wrote; .* moe-kernels run --model\n$/);
  const model = await runCli(["run", "--model", file, "--device", "reference", "--tokens", "2"]);
  expect(model).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("H 8, I 4, 3 experts") });
});

test.each([
  [[], /expected one of --model, --file and --shape/],
  [["--file", "a", "--shape", "D"], /expected one of --model, --file and --shape/],
  [["--model", "a", "--layer", "3-1"], /--layer: expected a range from low to high, got "3-1"/],
  [["--model", "a", "--layer", "0,x"], /--layer: expected an integer >= 0, got "x"/],
  [["--shape", "D", "--cache"], /--cache requires --model DIR/],
  [["--file", "a", "--input", "b"], /--input cannot be combined with --file: a layer file has its own tokens/],
  [["--file", "a", "--tokens", "abc"], /--tokens cannot be combined with --file: a layer file has its own tokens/],
  [["--file", "a", "--seed", "1n"], /--seed cannot be combined with --file: a layer file has its own tokens/],
  [["--file", "a", "--layer", "3"], /--layer requires --model DIR/],
  [["--file", "a", "--cache"], /--cache requires --model DIR/],
  [["--shape", "D", "--layer", "3"], /--layer requires --model DIR/],
  [["--shape", "D", "--input", "a", "--tokens", "3"], /--tokens cannot be combined with --input/],
  [["--model", "a", "--layer", "0", "--input", "b", "--tokens", "3"], /--tokens cannot be combined with --input/],
  [
    ["--model", "a", "--layer", "0", "--input", "b", "--seed", "3"],
    /--seed cannot be combined with --model and --input/,
  ],
  [["--shape", "D", "--seed", "1n"], /--seed: expected an integer >= 0, got "1n"/],
  [["--shape", "Z"], /--shape: expected one of .*OLMoE-1B-7B.*, got "Z"/],
  [["--shape", "D", "--tokens", "many"], /--tokens: expected an integer >= 0, got "many"/],
  [["--shape", "D", "--tokens", "-1"], /--tokens/],
  [["--shape", "D", "--dtype", "i32"], /--dtype: expected f32, f16 or bf16, got i32/],
  [["--shape", "D", "--threads", "0"], /--threads: expected an integer from 1 to 4096/],
  [["--shape", "D", "--repeat", "0"], /--repeat: expected an integer >= 1/],
])("run %j is a wrong command line", async (args, message) => {
  const { exitCode, stderr } = await runCli(["run", ...args]);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(message);
});

describe.each(deviceNames)("run with the router's history on %s", (device) => {
  const base = ["run", "--file", goldenFile("mixtral_mid"), "--device", device, "--repeat", "1"];

  test("--heat-map shows each expert's load over the tokens", async () => {
    const { exitCode, stdout } = await runCli([...base, "--heat-map"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`Load of every expert on ${device} over the tokens, one call per 2 tokens`);
    const cells = stdout.split("\n").filter((line) => /^ *\d+ │.{40}/.test(line));
    expect(cells.length).toBeGreaterThanOrEqual(16);
  });

  test("--report writes a page, and the JSON has the history", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "report.html");
    const { exitCode, stdout } = await runCli([...base, "--report", path, "--json"]);
    expect(exitCode).toBe(0);
    const page = readFileSync(path, "utf8");
    expect(page).toContain("The layer was given 80 tokens (");
    expect(page).toContain("), in slices of 2 tokens that count as one call each.");
    expect(page).toContain(`<dt>device</dt><dd>${device}</dd>`);
    expect(page).toMatch(/^<tr><td><a href="#layer=0">layer<\/a><td>f32<td>2<td>16<td>3<td>/m);
    const { history, tokensPerExpert } = JSON.parse(stdout).runs[0];
    expect(history).toMatchObject({ calls: 40, tokens: 80, choices: 160, dropped: 0, tokensPerExpert });
    const wrong = await runCli([...base, "--report", "report.pdf"]);
    expect(wrong).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("--report: expected a name in .html") });
  });
});

describe("what would fail after the run is reported before it", () => {
  const run = (...args: string[]) => runCli(["run", "--file", goldenFile("mixtral_t1"), ...args]);

  test.each([
    ["report.pdf", 2, '--report: expected a name in .html, .htm or .svg, got "report.pdf"\n'],
    [join("missing", "report.svg"), 1, "INVALID_ARGUMENT: --report: expected a writable file, got missing"],
  ])("--report %s", async (path, code, message) => {
    const { exitCode, stdout, stderr } = await run("--device", "reference", "--report", path);
    expect({ exitCode, stdout }).toEqual({ exitCode: code, stdout: "" });
    expect(stderr).toContain(`moe-kernels: ${message}`);
  });

  test("--report without vega", async () => {
    vi.doMock("vega", () => {
      throw new Error("Cannot find package 'vega'");
    });
    const { exitCode, stdout, stderr } = await run("--device", "reference", "--report", "report.svg");
    vi.doUnmock("vega");
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/UNSUPPORTED_OPERATION: .*npm install vega@6/);
  });
});

describe("run --dtype with a quantised format", () => {
  test("compares the quantised layer with the float one", async () => {
    const args = ["run", "--file", goldenFile("mixtral_small"), "--device", "cpu", "--dtype", "INT8"];
    const { exitCode, stdout } = await runCli([...args, "--json"]);
    const [run] = JSON.parse(stdout).runs;
    expect(exitCode).toBe(0);
    expect(run).toMatchObject({ checks: [], description: { formats: { up: "i8_channel_f32", router: "f32" } } });
    expect(run.quantization.comparedWith).toBe("f32");
    expect(run.quantization.weightBytes).toBeGreaterThan(2 * run.weightBytes);
    expect(run.quantization.relativeError).toBeGreaterThan(0);
    expect(run.quantization.relativeError).toBeLessThan(0.02);
    const text = (await runCli(args)).stdout;
    expect(text).toMatch(/^On cpu, f32, experts in i8_channel_f32: /m);
    expect(text).toMatch(/^In f32 the weights have .* an error of 0\.0\d+ \(root mean square\)$/m);
  });

  test("compares the layer with rounded tokens with the float one", async () => {
    const file = ["--file", goldenFile("mixtral_small")];
    const shape = ["--shape", "D", "--tokens", "5", "--repeat", "1"];
    const run = async (...args: string[]) => {
      const { exitCode, stdout, stderr } = await runCli(["run", "--device", "cpu", "--json", ...args]);
      return { exitCode, stderr, run: exitCode === 0 ? JSON.parse(stdout).runs[0] : undefined };
    };
    const weights = await run(...file, "--dtype", "int8");
    const both = await run(...file, "--dtype", "int8", "--token-format", "INT8");
    expect(both.run).toMatchObject({ checks: [], description: { tokenFormat: "int8" } });
    expect(both.run.quantization.relativeError).toBeGreaterThan(weights.run.quantization.relativeError);
    expect(both.run.quantization.relativeError).toBeLessThan(0.03);
    for (const plain of [file, shape]) {
      expect(await run(...plain, "--token-format", "int8")).toMatchObject({
        exitCode: 2,
        stderr: expect.stringMatching(
          / --token-format: expected "none" with weights that are not quantised \(\w+\), got "int8"/,
        ),
      });
    }
    expect(await run(...file, "--token-format", "checkpoint")).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("--token-format checkpoint requires --model DIR"),
    });
    expect((await run(...file, "--token-format", "int4")).stderr).toContain(
      '--token-format: expected one of none, int8, fp8, fp8_ue8m0, checkpoint, got "int4"',
    );
    const random = (await run(...shape, "--dtype", "int4_g32", "--token-format", "fp8")).run;
    expect(random.description).toMatchObject({ tokenFormat: "fp8", formats: { up: "i4_g32_bf16" } });
  });

  test("compares a layer with that of another model", async () => {
    const model = join(import.meta.dirname, "..", "golden", "families", "qwen3_moe");
    const run = async (...args: string[]) => {
      const all = [
        "run",
        "--model",
        model,
        "--layer",
        "3",
        "--device",
        "cpu",
        "--tokens",
        "5",
        "--compare",
        model,
        ...args,
      ];
      return (await runCli(all)).stdout;
    };
    const [same] = JSON.parse(await run("--json")).runs;
    expect(same.quantization).toMatchObject({ model, weightBytes: same.weightBytes, relativeError: 0 });
    expect(await run("--dtype", "int8")).toMatch(/^In .* the weights of .*qwen3_moe have .* error of 0\.0\d+ \(root/m);
    const { exitCode, stderr } = await runCli(["run", "--shape", "D", "--compare", model]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--compare requires --model DIR");
    const quantised = (name: string) => join(import.meta.dirname, "..", "golden", "quantised", name);
    const mixed = ["run", "--model", quantised("int4_packed"), "--layer", "0", "--device", "cpu", "--compare"];
    const itself = await runCli([...mixed, quantised("int4_packed")]);
    expect(itself.stdout).toMatch(/^In i4_g32_bf16 and i4_channel_bf16 the weights of .* have .* error of 0 /m);
    const other = await runCli([...mixed, quantised("fp8_blocks")]);
    expect(other.stderr).toMatch(/INVALID_ARGUMENT: --compare: expected a model of hidden size 64, got one of 160/);
  });

  test("refuses what is no format", async () => {
    const { exitCode, stderr } = await runCli(["run", "--file", "x", "--dtype", "int9"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('--dtype: expected f32, f16, bf16 or a weight format such as "int4_g128"');
  });
});
