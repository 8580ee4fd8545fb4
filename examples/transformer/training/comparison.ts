import type { Device } from "moe-kernels";
import type { ModelConfig } from "../model/config.js";
import { Transformer } from "../model/transformer.js";
import { DrawnWeights } from "../model/weights.js";
import type { Corpus } from "./corpus.js";
import { bits, type History, loadChart, validationChart } from "./report.js";
import { describeTimes, runTraining } from "./run.js";
import { Trainer } from "./trainer.js";

export interface Comparison {
  readonly device: Device;
  readonly corpus: Corpus;
  readonly models: Readonly<Record<string, ModelConfig>>;
  readonly describe: (config: ModelConfig, size: number) => string;
  readonly seeds: readonly number[];
  readonly run: { steps: number; sequences: number; learningRate: number; validateEvery: number };
}

/** Trains every model with every seed, on the same batches for a seed. */
export async function compare(comparison: Comparison): Promise<{ facts: string[]; charts: string[] }> {
  const { device, corpus, models, describe, seeds, run } = comparison;
  const { steps, sequences, learningRate, validateEvery } = run;
  const facts: string[] = [];
  const runs: { name: string; history: History }[] = [];
  const finals: Record<string, number[]> = {};
  for (const seed of seeds) {
    for (const [name, config] of Object.entries(models)) {
      const history: History = { steps: [], validation: [] };
      using model = new Transformer(config, new DrawnWeights(device, seed));
      const { context } = config;
      const batch = (step: number) => corpus.draw(device, seed, step, sequences, context);
      using trainer = new Trainer(model, { batch, steps, learningRate, seed });
      console.log(`${name}, seed ${seed}: ${describe(config, model.size)}`);
      const validation = corpus.validationBatches(context);
      const times = await runTraining(trainer, { steps, until: steps, validation, validateEvery, history });
      const { loss } = history.validation.at(-1) as History["validation"][number];
      const fact = `${name}, seed ${seed}: ${bits(loss).toFixed(4)} bits per byte; ${describeTimes(times)}`;
      console.log(fact);
      facts.push(fact);
      finals[name] = [...(finals[name] ?? []), bits(loss)];
      runs.push({ name, history });
    }
  }
  for (const [name, losses] of Object.entries(finals)) {
    const fact = `${name}: ${spread(losses)} bits per byte`;
    console.log(fact);
    facts.push(fact);
  }
  const title = `validation loss, ${seeds.length} seeds each, ${sequences * (Object.values(models)[0]?.context ?? 0)} bytes a step`;
  const mixture = runs.find(({ history }) => (history.steps[0]?.loads.length ?? 0) > 0);
  const loads = mixture?.history.steps[0]?.loads.map((_, index) => loadChart(mixture.history, index)) ?? [];
  return { facts, charts: [validationChart(title, runs), ...loads] };
}

function spread(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return `mean ${mean.toFixed(4)}, from ${Math.min(...values).toFixed(4)} to ${Math.max(...values).toFixed(4)}`;
}
