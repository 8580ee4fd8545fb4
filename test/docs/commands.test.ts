import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, extname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { cases } from "../../lib/testing/table.js";
import { run } from "../package/project.js";
import { runScript } from "../support/run_script.js";
import { ServingProcess } from "../support/serving_process.js";
import { codeBlocks, commandsIn, documents, userDocuments } from "./documents.js";
import { writeWholeModel } from "./models.js";

// Every command that the documentation names runs here on tiny sizes, or in a test that is named here.

const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
const commands = [...new Set(documents.flatMap(({ text }) => commandsIn(text)))];
const startingWith = (start: string) => commands.filter((command) => `${command} `.startsWith(`${start} `));

/** What users may type that is no program of this package: the test that runs it, and text in that test. */
const elsewhere: readonly (readonly [command: RegExp, file: string, text: string])[] = [
  [/^(?:npm install|pnpm add) moe-kernels$/, "test/package/package.test.ts", 'manager.install("moe-kernels"'],
  [/^npm install \.\/moe-kernels-\S+\.tgz \.\/moe-kernels-\S+\.tgz$/, "test/package/package.test.ts", ".tgz"],
  [/^npm install @moe-kernels\/\S+-cuda$/, "test/cli/info.test.ts", "npm install .+-cuda"],
  [/^npm install vega@6 vega-lite@6$/, "test/statistics/router_report.alone.test.ts", "npm install vega@6 vega-lite@6"],
  [/^npm install --foreground-scripts$/, "test/package/package.test.ts", "--foreground-scripts"],
  [/^node \S+\/scripts\/install\.mjs --source$/, "test/package/package.test.ts", '"--source"'],
  [/^node --permission /, "test/package/package.test.ts", "--permission"],
];
/** What only developers type; npm's and pnpm's own commands. */
const ofDevelopers = /^(?:npm (?:ci|test|publish|install --package-lock-only)|pnpm approve-builds)$/;

/** The configuration that DeepSeek publishes, as far as it concerns layers with experts. */
const deepSeekV3 = {
  ...{ model_type: "deepseek_v3", num_hidden_layers: 61, first_k_dense_replace: 3, moe_layer_freq: 1 },
  ...{ hidden_size: 7168, moe_intermediate_size: 2048, n_routed_experts: 256, num_experts_per_tok: 8 },
  ...{ n_shared_experts: 1, scoring_func: "sigmoid", topk_method: "noaux_tc", n_group: 8, topk_group: 4 },
  ...{ norm_topk_prob: true, routed_scaling_factor: 2.5, hidden_act: "silu", torch_dtype: "bfloat16" },
  quantization_config: {
    ...{ activation_scheme: "dynamic", fmt: "e4m3", quant_method: "fp8", weight_block_size: [128, 128] },
  },
};
const golden = "test/golden/families/qwen3_moe";

const testSources = readdirSync("test", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".test.ts") && !name.startsWith("docs"))
  .map((name) => readFileSync(join("test", name), "utf8"));

/** The arguments of a command line. */
function words(text: string): string[] {
  const parts = [...text.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)];
  return parts.map(([, double, single, plain]) => (double ?? single ?? plain) as string);
}

test("every command is known", () => {
  const known = (command: string) =>
    /^npx (?:moe-kernels|vitest run) |^npm run /.test(`${command} `) ||
    ofDevelopers.test(command) ||
    elsewhere.some(([pattern]) => pattern.test(command));
  expect(commands.filter((command) => !known(command))).toEqual([]);
  for (const [, file, text] of elsewhere) expect(readFileSync(file, "utf8")).toContain(text);
});

describe("npx moe-kernels", () => {
  const directory = mkdtempSync(join("build", "docs-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  beforeAll(async () => {
    for (const folder of ["test", "examples"]) symlinkSync(join(packageRoot(), folder), join(directory, folder));
    copyFileSync("test/golden/mixtral/mixtral_small.safetensors", join(directory, "layer.safetensors"));
    writeFileSync(join(directory, "my_subject.mjs"), guideSubject());
    writeFileSync(join(directory, "trace.jsonl"), "[[0, 1]]\n[[1, 2], [0, 3]]\n".repeat(20));
    mkdirSync(join(directory, "DeepSeek-V3"));
    writeFileSync(join(directory, "DeepSeek-V3", "config.json"), JSON.stringify(deepSeekV3));
    await writeWholeModel(join(directory, "DIR"));
  });

  /** The subject of the guide as the file that it describes. */
  function guideSubject(): string {
    const guide = userDocuments.filter(({ path }) => path.endsWith("verify_your_own_kernel.md")).flatMap(codeBlocks);
    const code = guide.find(({ language }) => language === "js")?.code ?? "";
    return `${code.slice(0, code.indexOf("const report"))}export default subject;\n`;
  }

  /** Stands for files of the reader's, and makes commands short. */
  const substitutes: readonly (readonly [RegExp, string])[] = [
    [/--file FILE/, "--file layer.safetensors"],
    [/offload-trace FILE(\.\.\.)?/, "offload-trace trace.jsonl"],
    [/--shape OLMoE-1B-7B/, "--shape D"],
    [/--model DIR2/, "--model DIR"],
    [/^run /, "run --repeat 1 --threads 2 "],
    ...["shape", "tokens", "threads", "time", "rounds", "weights"].map(
      (name) => [new RegExp(`^(bench.*?) --${name} \\S+`), "$1"] as const,
    ),
    [
      /^bench(?! compare| --help)/,
      "bench --shape 64,32,8,2 --tokens 2 --threads 1 --time 0.001 --rounds 1 --weights 0",
    ],
    [/\.\/(mine|my_layer)\.mjs/, "./examples/benchmark/$1.mjs"],
    [/^verify((?!--filter|--subject).)*$/, "$& --filter 'gating T7'"],
  ];

  function runCommand(command: string) {
    const text = substitutes.reduce((result, [pattern, by]) => result.replace(pattern, by), command);
    const program = join(packageRoot(), "dist", "cli", "main.js");
    return run(process.execPath, [program, ...words(text)], directory);
  }

  // The demo is run by test/package/package.test.ts; it takes a full-size layer.
  const ours = startingWith("npx moe-kernels")
    .map((command) => command.replace(/^npx moe-kernels ?/, ""))
    .filter((command) => command !== "demo" && command !== "" && !command.startsWith("serve "));

  test.each(ours)("%s", (command) => {
    const { status, stderr } = runCommand(command);
    expect({ status, stderr }).toMatchObject({ status: 0 });
  });

  // These end when they are told to; one more is served for the programs of the documentation.
  const servers = startingWith("npx moe-kernels serve").map((command) =>
    command.replace(/^npx moe-kernels serve /, ""),
  );

  test.each(servers)("serve %s", async (command) => {
    const text = command.replace(/Mixtral-8x7B-v0\.1/, "DIR").replace(/--experts \S+/, "--experts 1");
    await using server = new ServingProcess(words(text.replace(/--address \S+/, "")), directory);
    expect(await server.address()).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(await server.end()).toEqual([0, null]);
  });

  test.each(["inspect DeepSeek-V3", `quantize ${golden} --layer 3 --format int8 --out qwen3_moe-int8`])(
    "%s prints what the documentation shows",
    (command) => {
      const shown = userDocuments
        .flatMap(codeBlocks)
        .flatMap(({ code }) => (code.startsWith(`$ npx moe-kernels ${command}\n`) ? [code.replace(/^.*\n/, "")] : []));
      expect(shown).toHaveLength(1);
      rmSync(join(directory, "qwen3_moe-int8"), { recursive: true, force: true });
      expect(runCommand(command).stdout.trim()).toBe(shown[0]?.trim());
    },
  );
});

test("the sample of `verify` counts the cases that there are", () => {
  const shown = userDocuments
    .flatMap(codeBlocks)
    .flatMap(({ code }) => (code.startsWith("$ npx moe-kernels verify --device cpu\n") ? [code] : []));
  expect(shown).toHaveLength(1);
  const [sample] = shown as [string];
  const counts = [...sample.matchAll(/^(\w+) +\w+ +(\d+) /gm)].map(([, operator, count]) => [operator, Number(count)]);
  expect(counts.length).toBeGreaterThan(1);
  for (const [operator, count] of counts) {
    expect([operator, cases.filter((one) => one.operator === operator).length]).toEqual([operator, count]);
  }
  expect(sample).toContain(`\ncpu: ${cases.length} cases in `);
});

describe("npm run", () => {
  const named = [...new Set(startingWith("npm run").map((command) => command.split(" ")[2] as string))];
  /** Scripts that no test runs: they check or change the sources. */
  const notRun = ["format", "lint"];

  test("names scripts that exist", () => {
    expect(named.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
    expect(named.length).toBeGreaterThan(15);
  });

  test.each(named.filter((name) => !notRun.includes(name)))("%s is run by a test", (name) => {
    const program = programOf(name);
    const stem = basename(program, extname(program));
    const tests = testSources.filter((source) =>
      [program, `npm run ${name}`, `"${stem}"`].some((text) => source.includes(text)),
    );
    expect({ program, tests: tests.length > 0 }).toEqual({ program, tests: true });
  });

  const written = startingWith("npm run").flatMap((command) => {
    const [, name, options] = /^npm run ([\w:-]+) -- (.*)$/.exec(command) ?? [];
    return name === undefined ? [] : [[name, options as string] as const];
  });

  test.each(written)("%s -- %s is a command line that it takes", (name, options) => {
    // Help is printed only if everything before it is known.
    const command = /run\.mjs (\w+)/.exec(scripts[name] ?? "")?.[1];
    const given = command === undefined ? words(options) : [command, ...words(options)];
    const { status, stdout, stderr } = runScript(programOf(name), [...given, "--help"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(`Usage: ${command === undefined ? `npm run ${name} --` : `moe-kernels ${command}`} `);
  });

  test("some commands are written with options", () => {
    expect(written.map(([name]) => name)).toContain("fuzz");
  });

  /** The program that a script of package.json runs last. */
  function programOf(name: string): string {
    const [, program] =
      /node (?:--\S+ )?(\S+)(?: (?:demo|bench)\b.*| --typescript --docs)?$/.exec(scripts[name] as string) ?? [];
    if (program === undefined) throw new Error(`npm run ${name}: expected a program at its end`);
    return program;
  }
});

test.each(startingWith("npx vitest run").map((command) => command.split(" ")[3] as string))("%s is there", (file) => {
  expect(existsSync(file)).toBe(true);
});
