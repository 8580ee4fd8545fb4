import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { caseNames } from "../../lib/bench/operators/table.js";
import type { BenchReport } from "../../lib/bench/report.js";
import { loadNative } from "../../lib/core/addon/native.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { runCli } from "./support/run_cli.js";

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
const file = (name: string) => join(directory.path, name);
type Group = BenchReport["groups"][0];
type Result = Group["results"][0];
const readReport = (name: string) => JSON.parse(readFileSync(file(name), "utf8")) as BenchReport;

/** Options for the smallest run. */
const sizes = ["--shape", "64,32,8,2", "--tokens", "3", "--threads", "2", "--weights", "0"];
const tiny = [...sizes, "--time", "0.001", "--rounds", "2"];
const bench = (...args: string[]) => runCli(["bench", ...tiny, ...args]);
/** Where it does not matter: without ceilings to measure, which takes a second or two. */
const benchReference = (...args: string[]) => bench("--device", "reference", ...args);

test("times the layer and every operator, and writes JSON", async () => {
  const { exitCode, stdout, stderr } = await bench("--json", file("all.json"));
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "Timing 64x32x8x2 bf16, 2 threads ...\n" });
  const { name } = loadNative().productKernel("bf16", "none", "bf16");
  expect(stdout).toMatch(/^64x32x8x2 bf16, 2 threads\nceilings: \d.* GB\/s read\n/);
  expect(stdout).toMatch(new RegExp(`^kernel: ${name}, at most [1-9]\\S+ GFLOP/s \\((bf16|fma)\\)\n\n`, "m"));
  for (const known of caseNames) expect(stdout).toMatch(new RegExp(`^${known} +3 .*\\d%$`, "m"));
  const { groups, machine, rounds } = readReport("all.json");
  expect({ threads: machine.threads, rounds }).toEqual({ threads: 2, rounds: 2 });
  expect(groups).toMatchObject([{ shape: "64x32x8x2", dtype: "bf16", format: "bf16", kernel: { name } }]);
  const { results } = groups[0] as Group;
  expect(results.map((result) => [result.name, result.tokens])).toEqual(caseNames.map((known) => [known, 3]));
  for (const { total, call, device, bytes, floor, ofCeiling } of results) {
    for (const number of [total.median, call.median, device?.median, bytes, floor, ofCeiling]) {
      expect(number).toBeGreaterThan(0);
    }
    expect(total.samples).toBeGreaterThanOrEqual(2);
    expect(total.lowerQuartile).toBeLessThanOrEqual(total.median);
    expect(call.median).toBeLessThan(total.median);
  }
});

test("makes a group of every shape, format, token format and number of threads", async () => {
  const { exitCode, stdout } = await runCli([
    ...["bench", "--shape", "64,32,8,2,64x64x4x1", "--tokens", "2", "--operator", "layer,Gemm down", "--weights", "0"],
    ...["--format", "bf16,i4_g32_bf16", "--token-format", "none,int8", "--threads", "1,2"],
    ...["--time", "0.001", "--rounds", "1", "--device", "reference"],
  ]);
  expect(exitCode).toBe(0);
  const titles = ["bf16", "bf16, weights i4_g32_bf16", "bf16, weights i4_g32_bf16, tokens rounded to int8"];
  const shapes = ["64x32x8x2", "64x64x4x1"];
  const expected = ["1 thread", "2 threads"].flatMap((threads) =>
    shapes.flatMap((shape) => titles.map((title) => `${shape} ${title}, ${threads}`)),
  );
  expect(stdout.match(/^\d+x\S+ bf16.*$/gm)).toEqual(expected);
  expect(stdout.match(/^(layer|groupedGemm down) +2 /gm)).toHaveLength(2 * expected.length);
});

test("on a device without ceilings, rates alone are told", async () => {
  const { exitCode, stdout } = await benchReference("--operator", "gating", "--json", file("reference.json"));
  expect(exitCode).toBe(0);
  expect(stdout).not.toContain("ceilings");
  const [{ ceilings, results }] = readReport("reference.json").groups as [Group];
  expect(ceilings).toBeNull();
  expect(results[0]).toMatchObject({ name: "gating", device: null, floor: null, ofCeiling: null });
});

describe("contenders", () => {
  const right = `combine({ rows, rowOfSlot, weights, outputs }) {
    const [tokens, hidden] = outputs.y.shape;
    const values = toFloat32(rows);
    const y = new Float32Array(tokens * hidden);
    rowOfSlot.data.forEach((row, slot) => {
      const token = Math.floor(slot / rowOfSlot.shape[1]);
      for (let h = 0; h < hidden; h++) y[token * hidden + h] += weights.data[slot] * values[row * hidden + h];
    });
    return { y };
  },`;
  const write = (name: string, operators: string, more = "") =>
    writeFileSync(
      file(`${name}.mjs`),
      `import { toFloat32 } from ${JSON.stringify(new URL("../../dist/testing/index.js", import.meta.url).href)};
export default { name: "${name}", ${more} operators: { ${operators} } };`,
    );
  beforeAll(() => {
    write("right", right);
    write("wrong", right.replace("weights.data[slot] *", ""), "supports: (_, { rows }) => rows.dtype === 'f32',");
    write("thrown", 'async combine() { throw new Error("no device"); },');
    write("meddler", right.replace("return { y };", "rows.data[0] += 1; return { y };"));
    const once = 'if (this.called) throw new Error("lost device"); this.called = true; return { y };';
    write("quitter", right.replace("return { y };", once));
  });

  test("are checked, timed in turns and compared with us", async () => {
    const { exitCode, stdout } = await bench(
      ...["--dtype", "f32,bf16", "--operator", "combine", "--contender", file("right.mjs")],
      ...["--json", file("right.json"), "--chart", file("right.html")],
    );
    expect(exitCode).toBe(0);
    const { groups } = readReport("right.json");
    for (const { results } of groups) {
      const [combine, backward] = results as [Result, Result];
      expect(backward.contenders).toEqual([]);
      const [theirs] = combine.contenders;
      expect(theirs).toMatchObject({ name: "right", failure: null, of: "", timesOurs: { samples: 2 } });
      expect(theirs?.total?.median).toBeGreaterThan(0);
      for (const { error, tolerance } of [...(theirs?.errors ?? []), ...(combine.errors ?? [])]) {
        expect(error).toBeLessThanOrEqual(tolerance);
      }
    }
    expect(stdout).toMatch(/^(combine)? +right +3 +\S+ µs .* \d+\.\d\d +\d+\.\d\d \.\. \d+\.\d\d +\S+$/m);
    const page = readFileSync(file("right.html"), "utf8");
    expect(page).toMatch(/^<!doctype html>/);
    expect(page).toContain(`node ${process.version}`);
    expect(page).toMatch(/<svg .*contenders/s);
    expect(page).toContain("<h3>Contenders</h3>");
  });

  test("are not ranked if their results are wrong, they throw or change their inputs", async () => {
    const { exitCode, stdout } = await benchReference(
      ...["--dtype", "f32", "--operator", "combine", "--json", file("wrong.json")],
      ...["wrong", "thrown", "meddler"].flatMap((name) => ["--contender", file(`${name}.mjs`)]),
    );
    expect(exitCode).toBe(1);
    const [group] = readReport("wrong.json").groups as [Group];
    const [{ contenders }] = group.results as [Result];
    expect(contenders.map(({ name, failure }) => [name, failure])).toEqual([
      ["wrong", expect.stringMatching(/^wrong results \(y: expected an error of at most 1\.0e-5, got \d/)],
      ["thrown", "no device"],
      ["meddler", "it changed its input rows"],
    ]);
    for (const { total, timesOurs } of contenders)
      expect({ total, timesOurs }).toEqual({ total: null, timesOurs: null });
    expect(stdout).toMatch(/^ +thrown +3 +not ranked: no device$/m);
  });

  test("that fail while they are timed are not ranked, and everything is written", async () => {
    const { exitCode, stdout, stderr } = await benchReference(
      ...["--dtype", "f32", "--operator", "combine", "--json", file("quitter.json"), "--chart", file("quitter.html")],
      ...["quitter", "right"].flatMap((name) => ["--contender", file(`${name}.mjs`)]),
    );
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "Timing 64x32x8x2 f32, 2 threads ...\n" });
    const [{ results }] = readReport("quitter.json").groups as [Group];
    expect(results[0]?.contenders).toMatchObject([
      { name: "quitter", failure: "in a timed call: lost device", total: null },
      { name: "right", failure: null, timesOurs: { samples: 2 } },
    ]);
    expect(stdout).toMatch(/^ +quitter +3 .* not ranked: in a timed call: lost device$/m);
    expect(readFileSync(file("quitter.html"), "utf8")).toContain("not ranked: in a timed call: lost device");
  });

  test("are left out where they do not support a case, and told why", async () => {
    const { exitCode, stdout } = await benchReference("--operator", "combine", "--contender", file("wrong.mjs"));
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^ +wrong +3 +left out: it does not support this case$/m);
    write("layer", "async layer() { return null; }");
    const rounded = ["--format", "i4_g32_bf16", "--token-format", "none,int8", "--operator", "layer"];
    const layer = await benchReference(...rounded, "--contender", file("layer.mjs"));
    expect(layer.exitCode).toBe(0);
    expect(layer.stdout).toMatch(/^ +layer +3 +left out: it does not support this case$/m);
    expect(layer.stdout).toMatch(/^ +layer +3 +left out: it has no way to be told to round tokens to int8$/m);
  });

  test("may be whole layers in another process, with weights in any format", async () => {
    const [dist] = ["index", "testing/index"].map((name) => new URL(`../../dist/${name}.js`, import.meta.url).href);
    const testing = JSON.stringify(new URL("../../dist/testing/index.js", import.meta.url).href);
    // Computes by one of our devices what it reads, so that it is the pipe that is tested.
    writeFileSync(
      file("peer.mjs"),
      `import { createInterface } from "node:readline";
      import { openDevice } from ${JSON.stringify(dist)};
      import { deviceSubject } from ${testing};
      const { layer } = deviceSubject(openDevice("reference")).operators;
      const raw = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, u8: Uint8Array, i32: Int32Array };
      const decoded = (_, value) => {
        if (typeof value?.data !== "string") return value;
        const bytes = Uint8Array.from(Buffer.from(value.data, "base64"));
        return { ...value, data: new raw[value.dtype](bytes.buffer) };
      };
      const numbers = (_, value) => (["Infinity", "-Infinity", "NaN"].includes(value) ? Number(value) : value);
      console.log(JSON.stringify({ name: "peer", operators: ["layer"] }));
      for await (const line of createInterface({ input: process.stdin })) {
        const { inputs } = JSON.parse(line, (key, value) => numbers(key, decoded(key, value)));
        const { y } = await layer(inputs);
        const scale = process.argv[2] === "wrong" ? 1.05 : 1;
        console.log(JSON.stringify({ outputs: { y: Array.from(y, (value) => value * scale) } }));
      }`,
    );
    for (const kind of ["right", "wrong"]) {
      writeFileSync(
        file(`${kind}_peer.mjs`),
        `import { processSubject } from ${testing};
        export default await processSubject(process.execPath, { args: [${JSON.stringify(file("peer.mjs"))}, "${kind}"] });`,
      );
      const { exitCode } = await benchReference(
        ...["--operator", "layer", "--format", "bf16,i4_g32_bf16", "--json", file(`${kind}_peer.json`)],
        ...["--contender", file(`${kind}_peer.mjs`)],
      );
      const results = readReport(`${kind}_peer.json`).groups.map((group) => group.results[0]?.contenders[0]);
      expect(results).toHaveLength(2);
      if (kind === "right") {
        expect(exitCode).toBe(0);
        for (const one of results)
          expect(one).toMatchObject({ failure: null, leftOut: null, timesOurs: { samples: 2 } });
      } else {
        expect(exitCode).toBe(1);
        for (const one of results) {
          expect(one).toMatchObject({ failure: expect.stringMatching(/^wrong results \(y: /), total: null });
        }
      }
    }
  });

  test("whose promises nothing can settle are told so, in the first call and in timed ones", () => {
    write("first", "sort: () => new Promise(() => {}),");
    const never = "if (this.called) await new Promise(() => {}); this.called = true; return { y };";
    write("timed", `async ${right.replace("return { y };", never)}`);
    const { status } = runScript("dist/cli/main.js", [
      ...["bench", ...tiny, "--device", "reference", "--operator", "sort,combine", "--json", file("never.json")],
      ...["--contender", `${file("first.mjs")},${file("timed.mjs")}`],
    ]);
    expect(status).toBe(1);
    const [{ results }] = readReport("never.json").groups as [Group];
    const unsettled = "a promise is awaited that nothing can settle any more";
    const failures = results.flatMap(({ name, contenders }) => contenders.map((one) => `${name}: ${one.failure}`));
    expect(failures).toEqual([`sort: ${unsettled}`, `combine: in a timed call: ${unsettled}`]);
  });

  test("take steps of optimisers as new arrays", async () => {
    write(
      "sgd",
      `sgd({ parameter, gradient, velocity, learningRate, momentum }) {
        const v = velocity.data.map((value, index) => momentum * value + gradient.data[index]);
        return { velocity: v, parameter: parameter.data.map((value, index) => value - learningRate * v[index]) };
      },
      adamW: ({ parameter, mean, square }) => ({ parameter: parameter.data, mean: mean.data, square: square.data }),`,
    );
    const { exitCode } = await bench(
      ...["--operator", "sgd,adamW", "--contender", file("sgd.mjs"), "--json", file("sgd.json")],
    );
    expect(exitCode).toBe(1);
    const [{ results }] = readReport("sgd.json").groups as [Group];
    const [adamW, sgd] = results as [Result, Result];
    expect(sgd.contenders).toMatchObject([{ failure: null, timesOurs: { samples: 2 } }]);
    expect(adamW.contenders).toMatchObject([
      { failure: expect.stringMatching(/^wrong results \(parameter: .*; mean: /) },
    ]);
    for (const { error, tolerance } of [...(sgd.errors ?? []), ...(adamW.errors ?? [])]) {
      expect(error).toBeLessThanOrEqual(tolerance);
    }
  });
});

describe("formats", () => {
  const formats = ["--operator", "groupedGemm down,sort", "--dtype", "f32,bf16", "--format", "bf16,i4_g32_bf16"];

  test("take turns, and are compared round by round", async () => {
    const { exitCode, stdout, stderr } = await benchReference(...formats, "--json", file("formats.json"));
    expect(exitCode).toBe(0);
    expect(stderr).toBe("Timing 64x32x8x2, 4 formats in turns, 2 threads ...\n");
    const { groups } = readReport("formats.json");
    expect(groups.map(({ dtype, format }) => `${dtype} ${format}`)).toEqual([
      ...["f32 bf16", "f32 i4_g32_bf16", "bf16 bf16", "bf16 i4_g32_bf16"],
    ]);
    groups.forEach(({ results }, index) => {
      expect(results.map(({ name }) => name)).toEqual(["sort", "groupedGemm down"]);
      for (const { timesFirst, apart } of results) {
        expect(apart).toBeNull();
        if (index === 0) expect(timesFirst).toBeNull();
        else expect(timesFirst).toMatchObject({ samples: 2 });
      }
    });
    expect(stdout).toMatch(/^64x32x8x2, 4 formats in turns, 2 threads$/m);
    expect(stdout).toMatch(/^groupedGemm down +f32, weights bf16 +3 +\S+ [mµ]s$/m);
    expect(stdout).toMatch(/^ +bf16, weights i4_g32_bf16 +3 +\S+ [mµ]s +\d+\.\d\d +\d+\.\d\d \.\. \d+\.\d\d$/m);
  });

  test("whose weights do not fit in memory are timed apart, and told so", async () => {
    const { exitCode, stdout } = await benchReference(
      ...formats,
      ...["--memory", "0", "--json", file("apart.json"), "--chart", file("apart.html")],
    );
    expect(exitCode).toBe(0);
    const apart = "the weights of all take about 82.0 KiB, of which 0 B may be held";
    readReport("apart.json").groups.forEach(({ results }, index) => {
      const [sort, product] = results as [Result, Result];
      expect(sort.apart).toBeNull();
      expect(product).toMatchObject({ apart: index === 0 ? null : apart, timesFirst: null });
    });
    expect(stdout.split(`timed apart: ${apart}`)).toHaveLength(4);
    expect(readFileSync(file("apart.html"), "utf8")).toContain("4 formats in turns, 2 threads</h2>");
  });
});

describe("bench compare", () => {
  const compare = (...args: string[]) => runCli(["bench", "compare", ...args]);

  beforeAll(async () => {
    await benchReference("--operator", "gating,SORT", "--json", file("before.json"));
    const report = readReport("before.json");
    const scaled = report.groups.map((group) => ({
      ...group,
      results: group.results
        .filter(({ name }) => name !== "gatingBackward")
        .map((result) => {
          const factor = result.name === "sort" ? 0.01 : result.name === "gating" ? 100 : 1;
          const { median, lowerQuartile, upperQuartile, samples } = result.total;
          const total = { median, lowerQuartile, upperQuartile, samples };
          for (const key of ["median", "lowerQuartile", "upperQuartile"] as const) total[key] *= factor;
          return { ...result, total };
        }),
    }));
    writeFileSync(file("after.json"), JSON.stringify({ ...report, groups: scaled }));
  });

  test("says what became faster and slower", async () => {
    const { exitCode, stdout, stderr } = await compare(file("before.json"), file("after.json"));
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^sort +3 +\S+ µs +\S+ [nµ]s +0\.01 +faster$/m);
    expect(stdout).toMatch(/^gating +3 +\S+ µs +\S+ [mµ]s +100\.00 +slower$/m);
    expect(stdout).toMatch(/^hierarchicalGating +3 .* 1\.00$/m);
    expect(stdout).toMatch(/^\d cases: 1 faster, 1 slower, \d within their spread; mean of after \/ before 1\.000$/m);
    expect(stdout).toMatch(/^Only in the first: 64x32x8x2 bf16, 2 threads: gatingBackward T3$/m);
  });

  test("as JSON and as charts", async () => {
    for (const name of ["compared.svg", "compared.html"]) {
      const files = [file("before.json"), file("after.json")];
      const { exitCode, stdout } = await compare(...files, "--json", "--chart", file(name));
      expect(exitCode).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ meanRatio: expect.closeTo(1, 6), onlyAfter: [] });
      const text = readFileSync(file(name), "utf8");
      expect(text).toContain("time in after.json / time in before.json");
      expect(text.startsWith(name.endsWith("svg") ? "<svg" : "<!doctype html>")).toBe(true);
    }
  });

  test.each([
    [[], 2, /expected BEFORE\.json and AFTER\.json, got none\nUsage: /],
    [["before.json"], 2, /expected BEFORE\.json and AFTER\.json, got 1\nUsage: /],
    [["before.json", "before.json", "before.json"], 2, /expected BEFORE\.json and AFTER\.json, got 3\nUsage: /],
    [["before.json", "no such file"], 1, /expected a file that bench --json wrote, got .*no such file: ENOENT/],
    [["right.mjs", "before.json"], 1, /expected a file that bench --json wrote, got .*right\.mjs/],
    [["array.json", "before.json"], 1, /before: expected a report of moe-kernels bench/],
    [["before.json", "right.json"], 1, /after: expected a report with cases of the first/],
  ])("%j is an error", async (names, code, message) => {
    writeFileSync(file("array.json"), "[]");
    const { exitCode, stdout, stderr } = await compare(...names.map(file));
    expect({ exitCode, stdout }).toEqual({ exitCode: code, stdout: "" });
    expect(stderr).toMatch(message);
  });
});

test.each([
  [["--operator", "frobnicate"], /--operator: expected part of one of layer, .*, got "frobnicate"/],
  [["--shape", "64,32"], /--shape: expected four sizes H,I,E,k, got "64,32"/],
  [["--shape", "Z"], /--shape: expected one of .*, D or sizes H,I,E,k, got "Z"\n/],
  [["--shape", "Mixtrl-8x7B"], /--shape: expected one of .*, got "Mixtrl-8x7B"; did you mean "Mixtral-8x7B"\?\n/],
  [["--shape", "64,32,8,9"], /--shape: k: expected an integer from 1 to 8, got "9"/],
  [["--format", "i99"], /--format: /],
  [["--format", ","], /--format: expected at least one, got none/],
  [["--token-format", "int9"], /--token-format: expected one of none, int8, fp8, fp8_ue8m0, got "int9"/],
  [["--memory", "much"], /--memory: expected an integer/],
  [["--time", "0"], /--time: expected seconds > 0, got "0"/],
  [["--contender", "test/support/run_script.ts"], /--contender: expected .* to have a default export/],
  [["--contender", "examples/benchmark/mine.mjs", "--calls", "2"], /--contender cannot be combined with --calls\n/],
  [
    ["--token-format", "int8,fp8", "--dtype", "f32,bf16"],
    /--token-format: expected "none" with weights that are not quantised \(f32, bf16\), got "int8", "fp8"; quantise the weights, /,
  ],
])("%j is a wrong command line", async (args, message) => {
  const { exitCode, stdout, stderr } = await runCli(["bench", ...args]);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toMatch(message);
});

test.each([
  ["--chart", "x.png", 2, '--chart: expected a name in .html, .htm or .svg, got "'],
  ["--chart", "none/x.svg", 1, "INVALID_ARGUMENT: --chart: expected a writable file, got "],
  ["--json", "none/x.json", 1, "INVALID_ARGUMENT: --json: expected a writable file, got "],
])("%s %s is refused before anything is timed", async (option, name, code, message) => {
  const { exitCode, stdout, stderr } = await bench(option, file(name));
  expect({ exitCode, stdout }).toEqual({ exitCode: code, stdout: "" });
  expect(stderr).toMatch(`moe-kernels: ${message}`);
});

test("--json and --chart with the same file are refused before anything is timed", async () => {
  const { exitCode, stdout, stderr } = await bench("--json", file("same.svg"), "--chart", file("./same.svg"));
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toContain("moe-kernels: --chart: expected another file than that of --json, got ");
});

test("npm run bench and bench:quantised are this command, with options that it takes", async () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  const optionsOf = (name: string) => scripts[name]?.split("node scripts/run.mjs bench")[1]?.trim();
  expect(optionsOf("bench")).toBe("");
  const [, formats] = /--format (\S+)$/.exec(optionsOf("bench:quantised") as string) as unknown as [string, string];
  const { exitCode, stdout } = await runCli([
    ...["bench", "--shape", "256,256,4,1", "--tokens", "1", "--weights", "0", "--time", "0.001", "--rounds", "1"],
    ...["--operator", "groupedGemm down", "--device", "reference", "--format", formats],
  ]);
  expect(exitCode).toBe(0);
  expect(stdout.match(/^groupedGemm down +1 /gm)).toHaveLength(formats.split(",").length);
});

test("npm run bench:simt tells the speed of the simulated GPU", () => {
  const { status, stdout } = runScript("build/bench/simt.js", []);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^simt, one core: \S+ M thread switches\/s, \S+ M mma\/s\n$/);
});
