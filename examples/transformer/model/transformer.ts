import { type Device, linear, linearBackward, type Parameter, type Tensor } from "moe-kernels";
import { Attention } from "./attention.js";
import { checkConfig, type ModelConfig, mixtureOf } from "./config.js";
import { Embedding } from "./embedding.js";
import { FeedForward } from "./feed_forward.js";
import { HeadOrder } from "./head_order.js";
import { Host } from "./host.js";
import { Mixture } from "./mixture.js";
import { Norm } from "./norm.js";
import { Weight, type WeightSource } from "./weights.js";

/** Attention, then a feed-forward layer or a mixture of experts, each on the normed residual stream and added to it. */
interface Block {
  readonly attentionNorm: Norm;
  readonly attention: Attention;
  readonly feedForwardNorm: Norm;
  readonly feedForward: FeedForward | Mixture;
}

/** Token ids of equally long sequences, one after another. */
export interface Tokens {
  readonly ids: Int32Array;
  readonly sequences: number;
}

/** What a forward for training needs besides tokens. */
export interface Training {
  /** Draws the noise of routers; another for every step. */
  readonly seed: number;
}

/** What the last forward for training kept: the shape, and tensors that are to be freed. */
interface Saved {
  readonly order: HeadOrder;
  readonly ids: Tensor<"i32">;
  /** Normed inputs of the parts, first to last, and of the head. */
  readonly inputs: readonly Tensor<"f32">[];
}

/**
 * A Transformer, a decoder or an encoder by its configuration. The residual stream is a typed array; all between a norm and
 * the sum is computed by the package.
 */
export class Transformer implements Disposable {
  readonly host: Host;
  readonly config: ModelConfig;
  readonly embedding: Embedding;
  readonly blocks: readonly Block[];
  readonly finalNorm: Norm;
  /** [V, H] */
  readonly head: Weight;
  /** One for each shape of batch. */
  readonly #orders = new Map<string, HeadOrder>();
  #saved: Saved | undefined;

  constructor(config: ModelConfig, source: WeightSource) {
    this.config = checkConfig(config);
    this.host = new Host(source.device);
    const { vocabulary, hiddenSize, layers, heads, intermediateSize, norm: kind } = config;
    const norm = (name: string) => new Norm(this.host, source, name, kind, hiddenSize);
    // Products that are added to the residual stream begin smaller, as there are two for each layer.
    const deviation = 0.02 / Math.sqrt(2 * layers);
    this.embedding = new Embedding(source, "embedding", vocabulary, hiddenSize);
    this.blocks = Array.from({ length: layers }, (_, index) => {
      const name = `blocks.${index}`;
      const mixture = mixtureOf(config, index);
      return {
        attentionNorm: norm(`${name}.attentionNorm`),
        attention: new Attention(source, `${name}.attention`, hiddenSize, heads, deviation),
        feedForwardNorm: norm(`${name}.feedForwardNorm`),
        feedForward: mixture
          ? new Mixture(source, `${name}.mixture`, hiddenSize, mixture, deviation)
          : new FeedForward(source, `${name}.feedForward`, hiddenSize, intermediateSize, deviation),
      };
    });
    this.finalNorm = norm("finalNorm");
    this.head = new Weight("head", source.take("head", [vocabulary, hiddenSize], 0.02));
  }

  get device(): Device {
    return this.host.device;
  }

  get mixtures(): Mixture[] {
    return this.blocks.map(({ feedForward }) => feedForward).filter((part) => part instanceof Mixture);
  }

  /** All weights, for an optimiser. */
  get weights(): Parameter[] {
    const blocks = this.blocks.flatMap(({ attentionNorm, attention, feedForwardNorm, feedForward }) => [
      ...attentionNorm.weights,
      ...attention.weights,
      ...feedForwardNorm.weights,
      ...feedForward.weights,
    ]);
    return [this.embedding.table, ...blocks, ...this.finalNorm.weights, this.head];
  }

  /** Tensors that training changes besides the weights. */
  get selectionBiases(): { name: string; value: Tensor<"f32"> }[] {
    return this.mixtures.flatMap(({ name, selectionBias: value }) =>
      value ? [{ name: `${name}.selectionBias`, value }] : [],
    );
  }

  /** Number of weights. */
  get size(): number {
    return this.weights.reduce((total, { value }) => total + value.size, 0);
  }

  /**
   * @param training keep what the backward pass needs, and route with noise.
   * @returns logits [T, V].
   */
  forward({ ids, sequences }: Tokens, training?: Training): Tensor<"f32"> {
    const { host, config } = this;
    const order = this.#order(sequences, ids.length / sequences);
    const save = training !== undefined;
    const idTensor = this.device.tensor(ids);
    const inputs: Tensor<"f32">[] = [];
    using embedded = this.embedding.forward(idTensor);
    const stream = host.read(embedded);
    const add = (norm: Norm, part: (x: Tensor<"f32">) => Tensor<"f32">) => {
      const x = norm.forward(stream);
      inputs.push(x);
      using y = part(x);
      addTo(host, stream, y);
    };
    this.blocks.forEach(({ attentionNorm, attention, feedForwardNorm, feedForward }, index) => {
      add(attentionNorm, (x) => attention.forward(x, order, save));
      add(feedForwardNorm, (x) => feedForward.forward(x, save, (training?.seed ?? 0) * config.layers + index));
    });
    const x = this.finalNorm.forward(stream);
    inputs.push(x);
    const logits = linear(x, this.head.value);
    if (save) this.#saved = { order, ids: idTensor, inputs };
    else for (const tensor of [idTensor, ...inputs]) tensor.dispose();
    return logits;
  }

  /** Writes the gradients of all weights, from dLogits [T, V] of the last forward for training. */
  backward(dLogits: Tensor<"f32">): void {
    if (this.#saved === undefined) throw new Error("backward: expected a forward for training before, got none");
    const { order, ids, inputs } = this.#saved;
    this.#saved = undefined;
    const { host, device } = this;
    const normed = inputs.at(-1) as Tensor<"f32">;
    using dNormed = device.empty(normed.shape, "f32");
    linearBackward(normed, this.head.value, dLogits, { out: { dx: dNormed, dWeight: this.head.gradient } });
    // The gradient by the residual stream, to which every part adds its own.
    const dStream = new Float32Array(normed.size);
    this.finalNorm.backward(dNormed, dStream);
    const add = (norm: Norm, part: (dy: Tensor<"f32">) => Tensor<"f32">) => {
      using dy = host.tensor(dStream, normed.shape);
      using dx = part(dy);
      norm.backward(dx, dStream);
    };
    for (const { attentionNorm, attention, feedForwardNorm, feedForward } of [...this.blocks].reverse()) {
      add(feedForwardNorm, (dy) => feedForward.backward(dy));
      add(attentionNorm, (dy) => attention.backward(dy, order));
    }
    using dEmbedded = host.tensor(dStream, normed.shape);
    this.embedding.backward(dEmbedded);
    for (const tensor of [ids, ...inputs]) tensor.dispose();
  }

  #order(sequences: number, length: number): HeadOrder {
    const { hiddenSize, heads, causal, context } = this.config;
    if (!Number.isInteger(length) || length > context) {
      throw new RangeError(`tokens: expected sequences of at most ${context} tokens, got ${length}`);
    }
    const key = `${sequences} x ${length}`;
    const known = this.#orders.get(key);
    if (known) return known;
    const order = new HeadOrder(this.device, { sequences, length, heads, size: hiddenSize / heads, causal });
    this.#orders.set(key, order);
    return order;
  }

  dispose(): void {
    for (const order of this.#orders.values()) order.dispose();
    for (const weight of this.weights) if (weight instanceof Weight) weight.dispose();
    for (const mixture of this.mixtures) mixture.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function addTo(host: Host, stream: Float32Array, y: Tensor<"f32">): void {
  const values = host.read(y);
  host.compute(() => {
    for (let i = 0; i < stream.length; i++) stream[i] += values[i];
  });
}
