import {
  expertTotals,
  type LayerParameters,
  type LayerState,
  MoeLayer,
  type Parameter,
  type Seed,
  type Tensor,
  updateSelectionBias,
} from "moe-kernels";
import type { MixtureConfig } from "./config.js";
import type { WeightSource } from "./weights.js";

/** Factor of the load-balancing loss, as in Switch Transformers. */
const lossFactor = 0.01;
/** By how much a step of loss-free balancing moves a selection bias. */
const biasRate = 0.001;

/** A mixture of experts in place of a feed-forward layer. */
export class Mixture implements Disposable {
  readonly name: string;
  readonly config: MixtureConfig;
  readonly layer: MoeLayer;
  /** Added to the keys by which experts are chosen; with loss-free balancing. */
  readonly selectionBias: Tensor<"f32"> | undefined;
  readonly #parameters: LayerParameters;
  #state: LayerState | undefined;
  /** Tokens of each expert in the last forward that saved, [1, E]. */
  #tokens: Tensor<"i32"> | undefined;

  constructor(source: WeightSource, name: string, hiddenSize: number, config: MixtureConfig, outputDeviation: number) {
    this.name = name;
    this.config = config;
    const { experts, topK, intermediateSize, balance } = config;
    const { device } = source;
    using router = source.take(`${name}.router`, [experts, hiddenSize], 0.02);
    using noiseRouter = balance === "noisy" ? source.take(`${name}.noiseRouter`, [experts, hiddenSize], 0) : undefined;
    using gateUp = source.take(`${name}.experts.gateUp`, [experts, 2 * intermediateSize, hiddenSize], 0.02);
    using down = source.take(`${name}.experts.down`, [experts, hiddenSize, intermediateSize], outputDeviation);
    if (balance === "loss-free") this.selectionBias = source.take(`${name}.selectionBias`, [experts], 0);
    this.layer = MoeLayer.create({
      device,
      hiddenSize,
      intermediateSize,
      numExperts: experts,
      topK,
      normalize: true,
      router,
      experts: { gate: { tensor: gateUp, part: "first_half" }, up: { tensor: gateUp, part: "second_half" }, down },
      ...(noiseRouter && { noisy: {}, noiseRouter }),
      ...(this.selectionBias && { selectionBias: this.selectionBias }),
    });
    this.#parameters = this.layer.parameters();
  }

  /** Named after this layer. */
  get weights(): Parameter[] {
    return [...this.#parameters].map((parameter) => ({ ...parameter, name: `${this.name}.${parameter.name}` }));
  }

  /**
   * @param x [T, H]; with `save` not to be disposed of before the backward pass.
   * @param seed draws the router's noise of a step. @returns y [T, H].
   */
  forward(x: Tensor<"f32">, save: boolean, seed: Seed): Tensor<"f32"> {
    if (!save) return this.layer.forward(x);
    const training = this.config.balance === "noisy" ? { training: { seed } } : {};
    const { y, state, routing } = this.layer.forward(x, { save: true, want: ["routing"], ...training });
    this.#state = state;
    this.#tokens?.dispose();
    const { tokens, dropped } = expertTotals(routing.ids, { numExperts: this.config.experts });
    this.#tokens = tokens;
    for (const tensor of [dropped, routing.ids, routing.weights]) tensor.dispose();
    return y;
  }

  /** @returns dx [T, H]. */
  backward(dy: Tensor<"f32">): Tensor<"f32"> {
    if (this.#state === undefined) throw new Error("mixture: expected a forward that saves before backward, got none");
    const { gradients } = this.#parameters;
    const losses = this.config.balance === "loss-free" ? {} : { gradLosses: { loadBalancingLoss: lossFactor } };
    const { dx } = this.layer.backward(this.#state, dy, { gradients, ...losses });
    this.#state = undefined;
    return dx;
  }

  /** After a step of the optimiser: moves the selection bias towards an even load. */
  balance(): void {
    if (this.selectionBias === undefined || this.#tokens === undefined) return;
    updateSelectionBias(this.selectionBias, this.#tokens, { rate: biasRate, out: this.selectionBias });
    this.layer.setSelectionBias(this.selectionBias);
  }

  /** The share of the choices that went to each expert in the last forward that saved. */
  load(): number[] {
    const tokens = Array.from(this.#tokens?.dataSync() ?? []);
    const total = tokens.reduce((sum, count) => sum + count, 0);
    return tokens.map((count) => count / total);
  }

  dispose(): void {
    this.layer.dispose();
    this.#parameters.dispose();
    this.selectionBias?.dispose();
    this.#state?.dispose();
    this.#tokens?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
