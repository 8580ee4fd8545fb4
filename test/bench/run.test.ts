import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { operatorCases } from "#lib/bench/operators/table.js";
import { plural } from "#lib/terminal/format.js";
import { onnxruntimeMissing } from "../../bench/peers/onnxruntime.js";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";

describe("npm run bench:event-loop", () => {
  const bench = (...args: string[]) =>
    runScript("build/bench/event_loop.js", [
      ...["--shape", "64x32x8x2", "--tokens", "3", "--mebibytes", "1", "--rounds", "2", "--threads", "2"],
      ...args,
    ]);

  test("prints the delay during every activity, and writes JSON", () => {
    using directory = temporaryDirectory();
    const json = join(directory.path, "delays.json");
    const { status, stdout, stderr } = bench("--json", json);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const { results, machine } = JSON.parse(readFileSync(json, "utf8"));
    expect(machine.threads).toBe(2);
    expect(results.length).toBeGreaterThan(7);
    for (const { activity, median, worst } of results) {
      expect(stdout).toContain(activity);
      expect(median).toBeGreaterThanOrEqual(0);
      expect(worst).toBeGreaterThanOrEqual(median);
    }
  });
});

describe("npm run bench:calls", () => {
  const bench = (...args: string[]) =>
    runScript("build/bench/calls.js", ["--threads", "2", "--time", "0.001", "--tokens", "1", ...args]);

  test("counts the calls of every operator, and onnxruntime's where it is installed", () => {
    using directory = temporaryDirectory();
    const json = join(directory.path, "calls.json");
    const { status, stdout, stderr } = bench("--json", json);
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: `Counting calls of ${plural(operatorCases.length, "case")} ...\n`,
    });
    const { results, versions } = JSON.parse(readFileSync(json, "utf8"));
    expect(results.map(({ operator }: { operator: string }) => operator)).toEqual(
      operatorCases.map(({ name }) => name),
    );
    for (const { operator, waited, together } of results) {
      expect(stdout).toMatch(new RegExp(`^${operator}( +[\\d,]+ +[\\d.]+ % +\\d+){2} `, "m"));
      for (const { perSecond, samples } of [waited, together]) {
        expect(perSecond).toBeGreaterThan(1);
        expect(samples).toBeGreaterThanOrEqual(5);
      }
    }
    const beside = results.filter(({ onnxruntime }: { onnxruntime: unknown }) => onnxruntime !== null);
    const missing = onnxruntimeMissing();
    expect(stdout).toContain(missing === undefined ? versions.onnxruntime : `onnxruntime: not installed; ${missing}\n`);
    expect(beside.map(({ operator }: { operator: string }) => operator)).toEqual(
      missing === undefined
        ? expect.arrayContaining(["routerProjection", "gating", "permute", "unpermute", "rmsNorm"])
        : [],
    );
  });

  test("counts those that are named, on any device", () => {
    const { status, stdout } = bench("--operator", "expertChoice,SORT", "--device", "reference");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^reference, 64x32x8x2 f32, T = 1, /);
    expect(stdout).not.toContain("onnxruntime:");
    expect([...stdout.matchAll(/^(\w+) +[\d,]+ /gm)].map(([, name]) => name)).toEqual(["expertChoice", "sort"]);
    expect(bench("--operator", "sort,frobnicate")).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^bench:calls: --operator: expected part of one of .*, got "frobnicate"\n$/),
    });
  });
});

describe("npm run bench:cache", () => {
  const bench = (...args: string[]) => runScript("build/bench/cache.js", ["--threads", "2", "--rounds", "2", ...args]);

  test("times loads from every source", () => {
    const { status, stdout, stderr } = bench("--shape", "64x32x8x2", "--tokens", "3");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain("64x32x8x2 bf16, ");
    for (const source of ["from the checkpoint", "from the cache, mapped", "from the cache, copied"]) {
      expect(stdout).toMatch(new RegExp(`^${source}( +[\\d.]+ [mµ]s){3}$`, "m"));
    }
  });
});

test("npm run bench:offload tells hits, bytes and times for every number of slots", () => {
  using directory = temporaryDirectory();
  const args = ["--shape", "64x32x8x2", "--layers", "2", "--tokens", "4", "--threads", "2", "--folder", directory.path];
  // With ten experts, a step of five would reach only two of them.
  const ten = ["--shape", "64x32x10x4", "--slots", "4", "--folder", join(directory.path, "ten experts")];
  const many = runScript("build/bench/offload.js", [...args, ...ten]);
  expect({ status: many.status, stderr: many.stderr }).toEqual({ status: 0, stderr: "" });
  for (const slots of [[], ["--slots", "3,8"], ["--slots", "3,8", "--shared"]]) {
    const { status, stdout, stderr } = runScript("build/bench/offload.js", [...args, ...slots]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain("2 layers 64x32x8x2 bf16, ");
    const rows = [...stdout.matchAll(/^ *(\d) +[\d.]+ KiB +([\d.]+) % +[\d.]+ (?:KiB|B) +[\d.]+ [mµ]s/gm)];
    expect(rows.map(([, count]) => Number(count))).toEqual(slots.length === 0 ? [8, 4, 2, 1] : [3, 8]);
  }
});

test("npm run bench:training tells rates, kept bytes and the time of a step", () => {
  const args = ["--shape", "64x32x8x2", "--tokens", "5,16", "--dtype", "f32,bf16", "--rounds", "2", "--threads", "2"];
  for (const recompute of [[], ["--recompute"]]) {
    const { status, stdout, stderr } = runScript("build/bench/training.js", [...args, ...recompute]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const rows = [...stdout.matchAll(/^ *(f32|bf16) +(\d+) .* \d+ % +([\d.]+) (KiB|B) +[\d.]+$/gm)];
    expect(stdout).toMatch(/^f32: products with weights by \S+ \S+\nbf16: products with weights by \S+ \S+\n/m);
    expect(rows.map(([, dtype, tokens]) => `${dtype} ${tokens}`)).toEqual(["f32 5", "f32 16", "bf16 5", "bf16 16"]);
    // 10 rows of 2 * 32 values, and 10 ids and weights; with recompute only these.
    const kept = recompute.length > 0 ? "80 B" : "2.58 KiB";
    expect(rows[0]?.slice(3, 5).join(" ")).toBe(kept);
  }
  const { status, stdout } = runScript("build/bench/training.js", [...args, "--no-step"]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^ *f32 +5 .* \d+ % +2\.58 KiB$/m);
});

test("npm run bench:parallel times processes beside one, and tells what they send", () => {
  const args = ["--shape", "64x32x9x3", "--processes", "3", "--tokens", "1,40", "--threads", "3"];
  const { status, stdout, stderr } = runScript("build/bench/parallel.js", [...args, "--rounds", "2", "--time", "0.01"]);
  expect({ status, stderr: stderr.replace(/^Loading \S+ \.\.\.\n/gm, "") }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain("64x32x9x3 bf16, 3 processes, 1 of 3 threads each\n");
  const rows = [
    ...stdout.matchAll(/^ *(\d+) +[\d.]+ [mµ]s +[\d.]+ [mµ]s +[\d.]+ +[\d.]+ to [\d.]+ +(\d+) B +(\d+) B$/gm),
  ];
  expect(rows.map(([, tokens]) => tokens)).toEqual(["1", "40"]);
  for (const [, , sent, received] of rows) {
    // 0 to 2 servers get a token: 128 bytes, and 24 of its choices.
    expect(Number(sent)).toBeGreaterThan(Number(received));
    expect(Number(received)).toBeLessThanOrEqual(2 * 128);
  }
});

test("npm run bench:build tells the CPU seconds of parts and of the slowest files", () => {
  const { status, stdout } = runScript("scripts/build_times.mjs", ["--target", "moe_faults", "--slowest", "1"]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^\| tests \| 1 \| \d+ \|$/m);
  expect(stdout).toMatch(/^\| moe_faults: faults\/faults\.cc \| \d+\.\d \|$/m);
  expect(stdout).toMatch(/^\| moe_faults\.node \| 0\.\d \|$/m);
});

describe("every benchmark", () => {
  const programs = [
    ["bench:cache", "cache.js"],
    ["bench:calls", "calls.js"],
    ["bench:event-loop", "event_loop.js"],
    ["bench:offload", "offload.js"],
    ["bench:parallel", "parallel.js"],
    ["bench:training", "training.js"],
    ["bench:peers", "peers/run.js"],
  ] as const;

  test.each(programs)("%s prints help", (name, file) => {
    const { status, stdout, stderr } = runScript(`build/bench/${file}`, ["--help"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(`Usage: npm run ${name} -- [options]\n`);
  });

  test.each(
    programs.flatMap(([name, file]) => ["--frobnicate", "--threads=0", "--shape=Z"].map((arg) => [name, arg, file])),
  )("%s %s is a wrong command line, which is one line", (name, arg, file) => {
    const { status, stdout, stderr } = runScript(`build/bench/${file}`, [arg as string]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(new RegExp(`^${name}: .*\\n$`));
  });

  test.each([
    ["bench:calls", "calls.js", "--json"],
    ["bench:event-loop", "event_loop.js", "--json"],
    ["bench:install", "install/run.js", "--json"],
    ["bench:peers", "peers/run.js", "--json"],
    ["bench:peers", "peers/run.js", "--chart"],
  ])("%s refuses a file that cannot be written before it measures: %s %s", (name, file, option) => {
    const { status, stdout, stderr } = runScript(`build/bench/${file}`, [option, "none/x.svg"]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(new RegExp(`^${name}: ${option}: expected a writable file, got none/x\\.svg: .*\\n$`));
  });
});

test("npm run bench:peers runs without peers and draws the chart", () => {
  using directory = temporaryDirectory();
  const [json, chart] = [join(directory.path, "peers.json"), join(directory.path, "peers.svg")];
  const { status, stdout, stderr } = runScript("build/bench/peers/run.js", [
    ...["--shape", "64x32x8x2", "--dtype", "f32", "--tokens", "3", "--threads", "2"],
    ...["--rounds", "2", "--time", "0.001", "--peer", "", "--json", json, "--chart", chart],
  ]);
  expect({ status, stderr }).toMatchObject({ status: 0, stderr: expect.stringMatching(/T = 3: timing/) });
  expect(stdout).toMatch(/^64x32x8x2 f32: calls rotate over \d+ cop(y|ies) of the layer, /);
  expect(stdout).toMatch(/^moe-kernels with router +\S+ [mµ]?s /m);
  expect(stdout).toMatch(/^our kernel: \S+ \S+, at most \S+ GFLOP\/s/m);
  const { groups, versions } = JSON.parse(readFileSync(json, "utf8"));
  const nearby = { difference: expect.closeTo(0, 4) };
  expect(Object.keys(versions)).toEqual([
    "moe-kernels",
    "moe-kernels with router",
    "moe-kernels captured, with router",
  ]);
  expect(groups).toMatchObject([
    { shape: "64x32x8x2", cells: [{ tokens: 3, results: [{ samples: 2 }, nearby, nearby] }] },
  ]);
  expect(readFileSync(chart, "utf8")).toMatch(/^<svg [\s\S]*shape 64x32x8x2[\s\S]*<\/svg>/);
});

test("npm run bench:peers -- --training times a forward and backward, and tells what is kept", () => {
  using directory = temporaryDirectory();
  const json = join(directory.path, "peers.json");
  const { status, stdout } = runScript("build/bench/peers/run.js", [
    ...["--shape", "64,32,8,2", "--dtype", "bf16", "--tokens", "3", "--threads", "2", "--training"],
    ...["--rounds", "2", "--time", "0.001", "--peer", "", "--json", json],
  ]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^64x32x8x2 bf16: one layer, 96\.\d KiB\n/);
  expect(stdout).toMatch(/difference +kept\n/);
  const { groups } = JSON.parse(readFileSync(json, "utf8"));
  const [cell] = groups[0].cells;
  // Gate and up of each row in bf16, and the routing.
  expect(cell).toMatchObject({ results: [{ name: "moe-kernels", kept: 3 * 2 * (2 * 32 * 2 + 8) }] });
  expect(cell.operations).toBe(3 * (3 * 2) * 3 * 2 * 64 * 32);
});

test("benchmarks import nothing from the command line", () => {
  const sources = readdirSync("bench", { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
  expect(sources.length).toBeGreaterThan(10);
  expect(sources.filter((path) => readFileSync(join("bench", path), "utf8").includes("lib/cli"))).toEqual([]);
});

describe("a benchmark that is stopped", () => {
  test.each([
    ["event_loop.js", "SIGTERM", 143],
    ["peers/run.js --peer=", "SIGTERM", 143],
    ["peers/run.js --peer=", "SIGINT", 130],
  ] as const)("%s removes its temporary folder after %s", async (program, signal, code) => {
    using directory = temporaryDirectory();
    const args = [...`build/bench/${program}`.split(" "), "--shape", "512x512x64x2", "--threads", "2"];
    const env = { ...process.env, TMPDIR: directory.path };
    const child = spawn(process.execPath, args, { cwd: packageRoot(), env, stdio: "ignore" });
    const ended = once(child, "exit");
    while (child.exitCode === null && readdirSync(directory.path).length === 0) await setTimeout(10);
    child.kill(signal);
    expect(await ended).toEqual([code, null]);
    expect(readdirSync(directory.path)).toEqual([]);
  });
});
