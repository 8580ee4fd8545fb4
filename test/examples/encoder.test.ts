import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openDevice } from "moe-kernels";
import { expect, test } from "vitest";
import { Transformer } from "../../build/examples/transformer/model/transformer.js";
import { DrawnWeights } from "../../build/examples/transformer/model/weights.js";
import { Corpus, shippedText } from "../../build/examples/transformer/training/corpus.js";
import { maskBytes, maskId } from "../../build/examples/transformer/training/masked_bytes.js";
import { Trainer } from "../../build/examples/transformer/training/trainer.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { tinyModel, tinySize } from "./tiny_model.js";

test("an encoder learns, and looks at both sides", async () => {
  using device = openDevice("cpu", { threads: 2 });
  const config = { ...tinyModel("noisy"), vocabulary: maskId + 1, causal: false, norm: "layer" as const };
  using model = new Transformer(config, new DrawnWeights(device, 1));
  const corpus = await Corpus.read(shippedText);
  const batch = (step: number) => maskBytes(corpus.draw(device, 1, step, 8, config.context), device, 2, step);
  const { ids, targets } = batch(0);
  const hidden = targets.filter((target) => target >= 0).length;
  expect(hidden / targets.length).toBeGreaterThan(0.08);
  expect(hidden / targets.length).toBeLessThan(0.24);
  expect(ids.filter((id) => id === maskId).length).toBeGreaterThan(hidden / 2);
  using trainer = new Trainer(model, { batch, steps: 60, learningRate: 0.01, seed: 1 });
  const losses = Array.from({ length: 60 }, () => trainer.step().loss);
  expect(losses[0]).toBeGreaterThan(5.3);
  expect(losses.slice(-10).reduce((sum, loss) => sum + loss, 0) / 10).toBeLessThan(3.5);
  const one = ids.slice(0, config.context);
  using logits = model.forward({ ids: one, sequences: 1 });
  using changed = model.forward({ ids: one.with(-1, 7), sequences: 1 });
  expect(changed.dataSync().slice(0, config.vocabulary)).not.toEqual(logits.dataSync().slice(0, config.vocabulary));
});

test("npm run example:encoder trains, validates and writes a report", () => {
  using directory = temporaryDirectory();
  const report = join(directory.path, "report.html");
  const args = [...tinySize, "--steps", "4", "--validate-every", "2", "--report", report];
  const { status, stdout, stderr } = runScript("build/examples/transformer/commands/encoder.js", args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toMatch(
    /^hidden bytes .*: \d+\.\d % right, \d+\.\d+ bits each \(the most frequent byte is 1\d\.\d %\)$/m,
  );
  expect(readFileSync(report, "utf8").match(/<svg /g)).toHaveLength(2);
});
