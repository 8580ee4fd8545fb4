import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openDevice } from "moe-kernels";
import { describe, expect, test } from "vitest";
import { multiplyAdds } from "../../build/examples/transformer/model/config.js";
import { Transformer } from "../../build/examples/transformer/model/transformer.js";
import { DrawnWeights } from "../../build/examples/transformer/model/weights.js";
import { Corpus, shippedText } from "../../build/examples/transformer/training/corpus.js";
import { Trainer } from "../../build/examples/transformer/training/trainer.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { tinyModel, tinySize } from "./tiny_model.js";

const train = (...args: string[]) => runScript("build/examples/transformer/commands/train.js", [...tinySize, ...args]);

describe.each(["noisy", "loss-free", "loss"] as const)("a decoder with a mixture, balanced by %s", (balance) => {
  test("learns, and sees nothing that comes later", async () => {
    using device = openDevice("cpu", { threads: 2 });
    const config = tinyModel(balance);
    using model = new Transformer(config, new DrawnWeights(device, 1));
    const corpus = await Corpus.read(shippedText);
    const batch = (step: number) => corpus.draw(device, 1, step, 8, config.context);
    using trainer = new Trainer(model, { batch, steps: 60, learningRate: 0.01, seed: 1 });
    const losses = Array.from({ length: 60 }, () => trainer.step());
    // ln 256 is 5.5; the frequencies of bytes alone give about 3.
    expect(losses[0]?.loss).toBeGreaterThan(5.3);
    expect(losses.at(-1)?.loss).toBeLessThan(3.3);
    for (const { loads } of losses) {
      expect(loads).toHaveLength(1);
      expect(loads[0]?.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6);
    }
    const ids = batch(0).ids.slice(0, config.context);
    using logits = model.forward({ ids, sequences: 1 });
    using changed = model.forward({ ids: ids.with(-1, 7), sequences: 1 });
    const [before, after] = [logits.dataSync(), changed.dataSync()];
    const last = (config.context - 1) * config.vocabulary;
    expect(after.slice(0, last)).toEqual(before.slice(0, last));
    expect(after.slice(last)).not.toEqual(before.slice(last));
  });
});

test("a step gives the same losses by the CUDA kernels on simt, within rounding", async () => {
  const corpus = await Corpus.read(shippedText);
  const [onCpu, onSimt] = (["cpu", "simt"] as const).map((name) => {
    using device = openDevice(name);
    const config = { ...tinyModel("noisy"), context: 8 };
    using model = new Transformer(config, new DrawnWeights(device, 1));
    const batch = (step: number) => corpus.draw(device, 1, step, 1, config.context);
    using trainer = new Trainer(model, { batch, steps: 2, learningRate: 0.01, seed: 1 });
    return [trainer.step().loss, trainer.step().loss];
  }) as [[number, number], [number, number]];
  expect(onSimt[0]).toBeCloseTo(onCpu[0], 5);
  // A step of AdamW is at first as large for small gradients as for large ones, so that rounding counts.
  expect(onSimt[1]).toBeCloseTo(onCpu[1], 3);
  expect(onCpu[1]).not.toBeCloseTo(onCpu[0], 2);
});

describe("npm run example:train", () => {
  test("goes on from a checkpoint with the same bits", () => {
    using directory = temporaryDirectory();
    const file = (name: string) => join(directory.path, name);
    for (const balance of ["noisy", "loss-free"]) {
      const options = ["--steps", "6", "--validate-every", "2", "--balance", balance];
      const runs = [
        [...options, "--checkpoint", file("whole")],
        [...options, "--until", "3", "--checkpoint", file("half")],
        ["--resume", file("half"), "--checkpoint", file("rest")],
      ].map((args) => train(...args));
      expect(runs.map(({ status, stderr }) => ({ status, stderr }))).toEqual(
        runs.map(() => ({ status: 0, stderr: "" })),
      );
      expect(readFileSync(file("rest")).equals(readFileSync(file("whole")))).toBe(true);
      expect(readFileSync(file("half")).equals(readFileSync(file("whole")))).toBe(false);
    }
  });

  test("refuses options that contradict the checkpoint, and names them", () => {
    using directory = temporaryDirectory();
    const [mixture, dense] = ["mixture", "dense"].map((name) => join(directory.path, name)) as [string, string];
    const run = ["--steps", "2", "--until", "1"];
    expect(train(...run, "--checkpoint", mixture).status).toBe(0);
    expect(train(...run, "--checkpoint", dense, "--dense").status).toBe(0);
    const has = (name: string, kept: string, got: string, file = mixture) =>
      `--${name}: expected ${kept} as in ${file}, got ${got}`;
    for (const [args, wrong] of [
      [
        ["--resume", mixture, "--hidden", "32", "--steps", "9"],
        [has("hidden", "16", "32"), has("steps", "2", "9")],
      ],
      [["--resume", mixture, "--balance", "loss"], [has("balance", "loss-free", "loss")]],
      [["--resume", mixture, "--text", "x.txt"], [has("text", "none", "x.txt")]],
      [["--resume", mixture, "--dense"], [has("dense", "a mixture of experts", "a dense model")]],
      [["--resume", dense], [has("experts", "none", "4", dense)]],
    ] as const) {
      const { status, stdout, stderr } = train(...args);
      expect({ status, stdout, stderr }).toEqual({
        status: 1,
        stdout: "",
        stderr: `example:train: ${wrong.join("; ")}; leave out what the checkpoint keeps, or begin anew without --resume\n`,
      });
    }
    for (const args of [
      ["--resume", mixture, "--learning-rate", "3e-3", "--steps", "2"],
      ["--resume", dense, "--dense", ...run],
    ]) {
      expect(train(...args)).toMatchObject({ status: 0, stderr: "" });
    }
  });

  test("tells the share of the kernels and writes a report", () => {
    using directory = temporaryDirectory();
    const report = join(directory.path, "report.html");
    const { status, stdout, stderr } = train("--steps", "4", "--validate-every", "2", "--report", report);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/^validation after 4 steps: \d\.\d+ bits per byte$/m);
    expect(stdout).toMatch(/^\d+ ms a step: waiting for the package's kernels at least \d+ %, copies \d+ %, /m);
    const page = readFileSync(report, "utf8");
    expect(page.match(/<svg /g)).toHaveLength(2);
    // A line for training, one for validation, and one for each of the four experts.
    expect(page.match(/<polyline /g)).toHaveLength(6);
  });

  test("compares with dense models over seeds", () => {
    using directory = temporaryDirectory();
    const [report, chart] = [join(directory.path, "report.html"), join(directory.path, "chart.svg")];
    const args = ["--compare", "--seeds", "1,2", "--steps", "4", "--validate-every", "2"];
    const { status, stdout, stderr } = train(...args, "--report", report, "--chart", chart);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.match(/^(mixture|dense), seed [12]: \d\.\d+ bits per byte; /gm)).toHaveLength(4);
    expect(stdout.match(/^(mixture|dense): mean \d\.\d+, from \d\.\d+ to \d\.\d+ bits per byte$/gm)).toHaveLength(2);
    expect(readFileSync(chart, "utf8").match(/<polyline /g)).toHaveLength(4);
    expect(readFileSync(report, "utf8")).toContain("<svg ");
  });

  test("has a dense model with the same operations per token, but for the router", () => {
    const { mixture, ...dense } = tinyModel("loss");
    expect(mixture?.experts).toBe(4);
    expect(multiplyAdds(tinyModel("loss")) - multiplyAdds(dense)).toBe(4 * dense.hiddenSize);
  });

  test.each([
    [["--steps", "0"], /^example:train: --steps: expected an integer >= 1, got "0"\n$/],
    [["--balance", "luck"], /^example:train: --balance: expected one of noisy, loss-free, loss, got "luck"\n$/],
    [["--heads", "3"], /^example:train: hiddenSize: expected a multiple of twice the 3 heads, got 16\n$/],
    [["--resume", "absent.safetensors"], /^example:train: absent.safetensors: .*\n$/],
    [["--compare", "--resume", "half"], /^example:train: --resume: cannot be combined with --compare\n$/],
    [["--compare", "--until", "5"], /^example:train: --until: cannot be combined with --compare\n$/],
    [["--seeds", "1,2"], /^example:train: --seeds: expected with --compare only\n$/],
    [
      ["--report", "report.html", "--checkpoint", "./report.html"],
      /^example:train: --report: expected another file than that of --checkpoint, got "report\.html" for both\n$/,
    ],
    [
      ["--report", "none/report.html"],
      /^example:train: --report: expected a file in a folder that is there and writable, got "none\/report\.html"\n$/,
    ],
    [["--chart", "plot.svg"], /^example:train: --chart: expected with --compare only\n$/],
    [["--frobnicate"], /^example:train: .*--frobnicate.*\n$/],
  ])("%j is a wrong command line", (args, message) => {
    const { status, stderr } = train(...args);
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
  });
});
