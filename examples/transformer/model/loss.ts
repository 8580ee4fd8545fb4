import { combine, combineBackward, type Device, routerScores, type Tensor } from "moe-kernels";
import type { Host } from "./host.js";

/** The id of a target that is not counted. */
export const ignored = -1;

export interface Loss {
  /** The mean over the tokens that count, in nats. */
  readonly loss: number;
  /** How many tokens count. */
  readonly counted: number;
  /** [T, V] */
  readonly dLogits: Tensor<"f32">;
}

/** Cross-entropy and its gradient, by operators of the package. */
export class CrossEntropy implements Disposable {
  readonly #host: Host;
  readonly #vocabulary: number;
  /** [V + T, V]: first every token of the vocabulary as a vector of 0 and 1, then the softmax of T tokens. */
  #memory: Tensor<"f32"> | undefined;

  constructor(host: Host, vocabulary: number) {
    this.#host = host;
    this.#vocabulary = vocabulary;
  }

  /**
   * @param logits [T, V].
   * @param targets T ids, or {@link ignored}; at least one that counts.
   */
  forward(logits: Tensor<"f32">, targets: Int32Array): Loss {
    const { device } = logits;
    const [tokens, vocabulary] = [targets.length, this.#vocabulary];
    const counted = targets.reduce((count, target) => count + (target === ignored ? 0 : 1), 0);
    if (counted === 0) throw new RangeError("targets: expected at least one that counts, got none");
    const memory = this.#memoryFor(device, tokens);
    using softmax = memory.rows(vocabulary, vocabulary + tokens);
    using logSumExp = device.empty([tokens], "f32");
    using entropy = device.empty([tokens], "f32");
    routerScores(logits, { out: { scores: softmax, logSumExp, entropy } });

    // The logit of each target is the product of its vector and the logits.
    using places = device.tensor(targets, [tokens, 1]);
    using ones = device.tensor(new Float32Array(tokens).fill(1), [tokens, 1]);
    using chosen = combineBackward(memory, places, ones, logits, { want: "dWeights" }).dWeights;

    // dLogits = (softmax - vector of the target) / counted.
    const rows = new Int32Array(2 * tokens);
    const factors = new Float32Array(2 * tokens);
    targets.forEach((target, token) => {
      rows.set(target === ignored ? [-1, -1] : [vocabulary + token, target], 2 * token);
      factors.set([1 / counted, -1 / counted], 2 * token);
    });
    using rowOfSlot = device.tensor(rows, [tokens, 2]);
    using weights = device.tensor(factors, [tokens, 2]);
    const dLogits = combine(memory, rowOfSlot, weights);

    const [all, ofTargets] = [this.#host.read(logSumExp), this.#host.read(chosen)];
    let loss = 0;
    for (let token = 0; token < tokens; token++) {
      if (targets[token] !== ignored) loss += (all[token] - ofTargets[token]) / counted;
    }
    return { loss, counted, dLogits };
  }

  #memoryFor(device: Device, tokens: number): Tensor<"f32"> {
    const vocabulary = this.#vocabulary;
    if (this.#memory?.shape[0] === vocabulary + tokens) return this.#memory;
    this.#memory?.dispose();
    const memory = device.empty([vocabulary + tokens, vocabulary], "f32");
    using vectors = memory.rows(0, vocabulary);
    vectors.write(Float32Array.from({ length: vocabulary ** 2 }, (_, i) => (i % (vocabulary + 1) === 0 ? 1 : 0)));
    this.#memory = memory;
    return memory;
  }

  dispose(): void {
    this.#memory?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
