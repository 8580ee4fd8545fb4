import type { Device } from "moe-kernels";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "moe-kernels/safetensors";
import { parseJson } from "../../common/json.js";
import type { ModelConfig } from "../model/config.js";
import { Transformer } from "../model/transformer.js";
import { SavedWeights } from "../model/weights.js";
import type { Trainer } from "./trainer.js";

/** What a checkpoint says besides its tensors. */
export interface CheckpointRecord<Run = unknown> {
  readonly model: ModelConfig;
  /** Steps done. */
  readonly steps: number;
  /** What the command that wrote it needs to go on. */
  readonly run: Run;
}

const optimizerPrefix = "optimizer.";

/** Writes all that a run needs to go on with the same bits: weights, selection biases and the optimiser's averages. */
export async function saveCheckpoint(path: string, trainer: Trainer, run: unknown): Promise<void> {
  const { model, optimizer } = trainer;
  const { steps, tensors: kept } = optimizer.state();
  const named = [
    ...[...model.weights, ...model.selectionBiases].map(({ name, value }) => [name, value] as const),
    ...Object.entries(kept).map(([name, value]) => [optimizerPrefix + name, value] as const),
  ];
  const tensors: Record<string, SafetensorsInput> = {};
  for (const [name, value] of named) tensors[name] = { dtype: "F32", shape: value.shape, data: await value.data() };
  const record: CheckpointRecord = { model: model.config, steps, run };
  await writeSafetensors(path, tensors, { metadata: { transformer: JSON.stringify(record) } });
}

/** A checkpoint in memory. */
export class Checkpoint<Run = unknown> {
  readonly record: CheckpointRecord<Run>;
  readonly #tensors: ReadonlyMap<string, Float32Array>;

  private constructor(record: CheckpointRecord<Run>, tensors: ReadonlyMap<string, Float32Array>) {
    this.record = record;
    this.#tensors = tensors;
  }

  static async read<Run = unknown>(path: string): Promise<Checkpoint<Run>> {
    const file = await SafetensorsFile.open(path);
    try {
      const text = file.metadata.transformer;
      if (text === undefined)
        throw new RangeError(`${path}: expected a checkpoint of this example, got other safetensors`);
      const tensors = new Map<string, Float32Array>();
      for (const name of file.tensors.keys()) tensors.set(name, (await file.read(name)).data as Float32Array);
      return new Checkpoint(parseJson(text, path) as CheckpointRecord<Run>, tensors);
    } finally {
      await file.close();
    }
  }

  /** The model with its weights. */
  model(device: Device): Transformer {
    return new Transformer(this.record.model, new SavedWeights(device, this.#tensors));
  }

  /** Sets the optimiser of a trainer of {@link model} to where it was. */
  resume(trainer: Trainer): void {
    const kept = [...this.#tensors].filter(([name]) => name.startsWith(optimizerPrefix));
    const tensors = Object.fromEntries(kept.map(([name, values]) => [name.slice(optimizerPrefix.length), values]));
    trainer.optimizer.load({ steps: this.record.steps, tensors });
  }
}
