import { join } from "node:path";
import { openDevice } from "moe-kernels";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sample } from "../../build/examples/common/sample.js";
import { Generator } from "../../build/examples/transformer/generation/generator.js";
import { ignored } from "../../build/examples/transformer/model/loss.js";
import { Transformer } from "../../build/examples/transformer/model/transformer.js";
import { DrawnWeights, type WeightSource } from "../../build/examples/transformer/model/weights.js";
import { Checkpoint } from "../../build/examples/transformer/training/checkpoint.js";
import {
  Instructions,
  instructionBatch,
  rightAnswers,
} from "../../build/examples/transformer/training/instructions.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { tinyModel, tinySize } from "./tiny_model.js";

describe("a generator", () => {
  /** Weights large enough that tokens matter to each other. */
  const largeWeights = (source: DrawnWeights): WeightSource => ({
    device: source.device,
    take: (name, shape, _deviation, mean) => source.take(name, shape, 0.3, mean),
  });

  test("gives the logits of a forward without a cache, and goes on after the context", () => {
    using device = openDevice("cpu", { threads: 2 });
    const config = tinyModel("loss-free");
    using model = new Transformer(config, largeWeights(new DrawnWeights(device, 3)));
    using generator = new Generator(model);
    const ids = Int32Array.from({ length: config.context }, (_, i) => (37 * i * i + 11) % 256);
    using logits = model.forward({ ids, sequences: 1 });
    const expected = logits.dataSync();
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    ids.forEach((id, token) => {
      const given = expected.subarray(token * config.vocabulary, (token + 1) * config.vocabulary);
      const error = generator.next(id).reduce((most, value, i) => Math.max(most, Math.abs(value - (given[i] ?? 0))), 0);
      // Sums over tokens and heads are in another order.
      expect(error / largest).toBeLessThan(1e-5);
    });
    expect(generator.next(5).every(Number.isFinite)).toBe(true);
  });

  test("refuses an encoder", () => {
    using device = openDevice("reference");
    using model = new Transformer({ ...tinyModel("loss"), causal: false }, new DrawnWeights(device, 1));
    expect(() => new Generator(model)).toThrow("expected a decoder, got an encoder");
  });

  test("samples by the softmax", () => {
    const logits = Float32Array.of(0, Math.log(3), -Infinity);
    expect([0, 0.24, 0.26, 0.99].map((number) => sample(logits, 1, number))).toEqual([0, 0, 1, 1]);
    expect(sample(logits, 0, 0)).toBe(1);
    // At half the temperature, shares are squared: 1 and 9.
    expect([0.09, 0.11].map((number) => sample(logits, 0.5, number))).toEqual([0, 1]);
  });

  test("samples the fewest ids that have a share together", () => {
    // Shares of 1/8, 3/8, 3/8 and 1/8: of equal ones, the first are kept.
    const logits = Float32Array.from([1, 3, 3, 1], Math.log);
    const drawn = (topP: number) => {
      const numbers = Array.from({ length: 32 }, (_, i) => (i + 0.5) / 32);
      return new Set(numbers.map((number) => sample(logits, 1, number, topP)));
    };
    expect([0, 0.3, 0.5, 0.8, 1].map((topP) => [...drawn(topP)])).toEqual([[1], [1], [1, 2], [0, 1, 2], [0, 1, 2, 3]]);
    expect([0.49, 0.51].map((number) => sample(logits, 1, number, 0.5))).toEqual([1, 2]);
  });
});

describe("instructions", () => {
  const text = new TextEncoder().encode("the quick brown fox jumps over the lazy dog again and again");
  const instructions = new Instructions(text);

  test("hold out words, and are answered right only if every byte is", () => {
    using device = openDevice("reference");
    const wordOf = ({ prompt }: { prompt: string }) => prompt.replace(/.* |:/g, "");
    const drawn = new Set(instructions.draw(device, 1, 0, 500).map(wordOf));
    const asked = instructions.heldOut(4);
    expect(asked.filter((one) => drawn.has(wordOf(one)))).toEqual([]);
    expect(asked.find(({ task }) => task === "reverse")).toMatchObject({ prompt: "reverse again:", answer: "niaga\n" });
    const batch = instructionBatch(asked);
    expect(rightAnswers(batch, batch.targets).every(Boolean)).toBe(true);
    const first = batch.targets.findIndex((target) => target !== ignored);
    expect(String.fromCharCode(...batch.ids.subarray(0, first + 1))).toBe(asked[0]?.prompt);
    const wrong = rightAnswers(batch, batch.targets.with(first, 0));
    expect(wrong.map((right, index) => (right ? -1 : index)).filter((index) => index >= 0)).toEqual([0]);
  });
});

describe("commands on a saved model", () => {
  const directory = temporaryDirectory();
  afterAll(() => directory[Symbol.dispose]());
  const file = (name: string) => join(directory.path, name);
  const command = (name: string, ...args: string[]) => {
    const { status, stdout, stderr } = runScript(`build/examples/transformer/commands/${name}.js`, args);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  };
  beforeAll(() => {
    command("train", ...tinySize, "--steps", "20", "--balance", "loss-free", "--checkpoint", file("model"));
  });

  test("npm run example:generate continues a prompt, the same for a seed", () => {
    const generate = (...args: string[]) =>
      command("generate", "--checkpoint", file("model"), "--prompt", "And he", "--bytes", "40", ...args);
    const printed = generate();
    expect(printed.startsWith("And he")).toBe(true);
    expect(printed).toMatch(/\n\n40 bytes in [\d.]+ s: \d+ tokens per second\n$/);
    const textOf = (output: string) => output.slice(0, output.lastIndexOf("\n\n"));
    expect(textOf(generate())).toBe(textOf(printed));
    expect(textOf(generate("--seed", "2"))).not.toBe(textOf(printed));
  });

  test("npm run example:instruct tells accuracy before and after, and can freeze routers", async () => {
    const tune = (...args: string[]) =>
      command("instruct", "--checkpoint", file("model"), "--steps", "3", "--held-out", "5", ...args);
    const printed = tune("--save", file("tuned"));
    expect(printed).toMatch(/^30 held-out instructions, routers tuned: before, after 3 steps$/m);
    expect(printed.match(/^(copy|upper|first|last|length|reverse|all) +\d+ % +\d+ %$/gm)).toHaveLength(7);
    expect(tune("--freeze-router", "--save", file("frozen"))).toContain("routers frozen");
    using device = openDevice("cpu", { threads: 2 });
    const weights = async (name: string) => {
      using model = (await Checkpoint.read(file(name))).model(device);
      const all = [...model.weights, ...model.selectionBiases];
      return new Map(all.map(({ name, value }) => [name, value.dataSync().join()]));
    };
    const [model, tuned, frozen] = [await weights("model"), await weights("tuned"), await weights("frozen")];
    const changed = (other: typeof model) => [...other].filter(([name, values]) => model.get(name) !== values).length;
    expect(changed(tuned)).toBe(model.size);
    // The router and its selection bias stay.
    expect(changed(frozen)).toBe(model.size - 2);
  });

  test("npm run example:instruct refuses a folder that is not there before it tunes", () => {
    const args = ["--checkpoint", file("model"), "--steps", "3", "--save", file("none/tuned")];
    const { status, stdout, stderr } = runScript("build/examples/transformer/commands/instruct.js", args);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(/^example:instruct: --save: expected a file in a folder that is there and writable, got "/);
  });

  test("a checkpoint is needed, and must be one of a model", () => {
    const { status, stderr } = runScript("build/examples/transformer/commands/generate.js", []);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^example:generate: --checkpoint: expected a file that .*, got none\n$/);
  });
});
