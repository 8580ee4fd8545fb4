import { AdamW, gating } from "moe-kernels";
import { CrossEntropy, ignored } from "../model/loss.js";
import type { Tokens, Transformer } from "../model/transformer.js";

/** Tokens and what is to be predicted for each. */
export interface Batch extends Tokens {
  /** An id for each token, or `ignored`. */
  readonly targets: Int32Array;
}

export interface TrainerOptions {
  /** The batch of a step, counted from 0; the same on every call. */
  readonly batch: (step: number) => Batch;
  /** Steps in all, over which the learning rate rises and falls. */
  readonly steps: number;
  readonly learningRate: number;
  /** Draws the noise of routers. */
  readonly seed: number;
  /** Weights that are not to be trained, by their names; default none. A frozen router's selection bias stays, too. */
  readonly frozen?: (name: string) => boolean;
}

/** What a step did. */
export interface Step {
  /** Counted from 1. */
  readonly step: number;
  /** In nats for each token that counts. */
  readonly loss: number;
  /** The share of each expert in the choices of each mixture. */
  readonly loads: readonly (readonly number[])[];
}

/** Trains a model, a batch a step. What it does depends on the number of the step alone, so it can go on from a checkpoint. */
export class Trainer implements Disposable {
  readonly model: Transformer;
  readonly optimizer: AdamW;
  readonly #options: TrainerOptions;
  readonly #loss: CrossEntropy;

  constructor(model: Transformer, options: TrainerOptions) {
    this.model = model;
    this.#options = options;
    const { frozen = () => false, learningRate } = options;
    const weights = model.weights.filter(({ name }) => !frozen(name));
    this.optimizer = new AdamW(weights, { learningRate, beta2: 0.99, maxNorm: 1 });
    this.#loss = new CrossEntropy(model.host, model.config.vocabulary);
  }

  /** Steps done so far. */
  get done(): number {
    return this.optimizer.steps;
  }

  step(): Step {
    const { model, optimizer } = this;
    const { batch, steps, learningRate, seed, frozen = () => false } = this.#options;
    const index = this.done;
    const { targets, ...tokens } = batch(index);
    using logits = model.forward(tokens, { seed: seed * 2 ** 24 + index });
    const { loss, dLogits } = this.#loss.forward(logits, targets);
    model.backward(dLogits);
    dLogits.dispose();
    optimizer.learningRate = learningRate * schedule(index, steps);
    optimizer.step()?.dispose();
    for (const mixture of model.mixtures) if (!frozen(`${mixture.name}.router`)) mixture.balance();
    model.host.wait();
    return { step: index + 1, loss, loads: model.mixtures.map((mixture) => mixture.load()) };
  }

  /** Loss over batches that are not trained on, and the share of right predictions. */
  validate(batches: readonly Batch[]): { loss: number; accuracy: number } {
    const sums = { loss: 0, right: 0, counted: 0 };
    for (const { targets, ...tokens } of batches) {
      using logits = this.model.forward(tokens);
      const { loss, counted, dLogits } = this.#loss.forward(logits, targets);
      dLogits.dispose();
      sums.loss += loss * counted;
      sums.counted += counted;
      const predicted = predictions(logits);
      targets.forEach((target, token) => {
        if (target !== ignored && predicted[token] === target) sums.right++;
      });
    }
    return { loss: sums.loss / sums.counted, accuracy: sums.right / sums.counted };
  }

  dispose(): void {
    this.optimizer.dispose();
    this.#loss.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The most likely id of each token: the choice of a router of one expert. */
export function predictions(logits: Parameters<typeof gating>[0]): Int32Array {
  const { ids, weights } = gating(logits, { topK: 1 });
  weights.dispose();
  const values = ids.dataSync();
  ids.dispose();
  return values;
}

/** The learning rate of a step relative to the highest: it rises over a twentieth of the steps and falls to a tenth, as a cosine. */
function schedule(step: number, steps: number): number {
  const rise = Math.max(1, Math.floor(steps / 20));
  if (step < rise) return (step + 1) / rise;
  const share = Math.min(1, (step - rise) / Math.max(1, steps - rise));
  return 0.1 + 0.45 * (1 + Math.cos(Math.PI * share));
}
