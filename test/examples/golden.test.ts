import { readdirSync } from "node:fs";
import { join } from "node:path";
import { openDevice } from "moe-kernels";
import { expect, test } from "vitest";
import type { ModelConfig } from "../../build/examples/transformer/model/config.js";
import { Transformer } from "../../build/examples/transformer/model/transformer.js";
import { SavedWeights } from "../../build/examples/transformer/model/weights.js";
import { Trainer, type TrainerOptions } from "../../build/examples/transformer/training/trainer.js";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";

// Runs of the same models by PyTorch, which test/golden/make_training.py writes.

const directory = join(import.meta.dirname, "..", "golden", "training");

async function read(name: string) {
  await using file = await SafetensorsFile.open(join(directory, name));
  const arrays = new Map<string, Float32Array | Float64Array | Int32Array>();
  for (const tensor of file.tensors.keys()) arrays.set(tensor, (await file.read(tensor)).data as Float32Array);
  const get = <A>(tensor: string) => arrays.get(tensor) as A;
  const starting = (prefix: string) =>
    new Map(
      [...arrays].filter(([key]) => key.startsWith(prefix)).map(([key, data]) => [key.slice(prefix.length), data]),
    );
  const { config, run } = file.metadata as Record<string, string>;
  return {
    config: JSON.parse(config as string) as ModelConfig,
    run: JSON.parse(run as string) as Omit<TrainerOptions, "batch"> & { sequences: number },
    ids: get<Int32Array>("ids"),
    targets: get<Int32Array>("targets"),
    losses: get<Float64Array>("losses"),
    initial: starting("initial.") as Map<string, Float32Array>,
    final: starting("final.") as Map<string, Float32Array>,
  };
}

test.each(readdirSync(directory))("a run has the losses and ends with the weights of PyTorch's: %s", async (name) => {
  const { config, run, ids, targets, losses, initial, final } = await read(name);
  using device = openDevice("cpu", { threads: 2 });
  using model = new Transformer(config, new SavedWeights(device, initial));
  const { sequences, ...options } = run;
  const tokens = sequences * config.context;
  const ofStep = (array: Int32Array, step: number) => array.slice(step * tokens, (step + 1) * tokens);
  const batch = (step: number) => ({ ids: ofStep(ids, step), targets: ofStep(targets, step), sequences });
  using trainer = new Trainer(model, { ...options, batch });
  const errors = Array.from(losses, (loss) => Math.abs(trainer.step().loss - loss));
  expect(Math.max(...errors)).toBeLessThan(1e-5);
  const weights = [...model.weights, ...model.selectionBiases];
  expect(weights.map((weight) => weight.name).sort()).toEqual([...final.keys()].sort());
  for (const weight of weights) {
    const expected = final.get(weight.name) as Float32Array;
    const differences = weight.value.dataSync().map((value, index) => Math.abs(value - (expected[index] as number)));
    // The steps of AdamW are a hundredth at first.
    expect(Math.max(...differences), weight.name).toBeLessThan(5e-5);
  }
});
