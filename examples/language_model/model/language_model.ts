import {
  type Device,
  type FloatDType,
  linear,
  type MoeLayer,
  type MoeModel,
  openModel,
  type PackedExperts,
  rmsNorm,
  type Tensor,
  type WeightFormatName,
} from "moe-kernels";
import { Attention } from "./attention.js";
import { KeyValueCache } from "./cache.js";
import { type ModelConfig, readConfig } from "./config.js";
import { RotaryPositions } from "./rotary.js";
import { Weights } from "./weights.js";

interface Block extends Disposable {
  readonly attentionNorm: Tensor<FloatDType>;
  readonly attention: Attention;
  readonly expertsNorm: Tensor<FloatDType>;
  readonly experts: MoeLayer;
}

interface Parts {
  readonly blocks: readonly Block[];
  readonly finalNorm: Tensor<FloatDType>;
  readonly head: PackedExperts;
}

export interface LoadOptions {
  /** The format of the experts; default that of the files. */
  readonly dtype?: WeightFormatName | undefined;
  readonly onProgress?: ((loaded: number, layers: number) => void) | undefined;
}

/** How many tokens of a prompt are computed at a time: products with keys take memory for each token and place. */
const chunk = 256;

const table = "model.embed_tokens.weight";

/** A decoder with experts in every layer, from a directory as Hugging Face has them. */
export class LanguageModel implements AsyncDisposable {
  readonly config: ModelConfig;
  readonly #weights: Weights;
  readonly #parts: Parts;

  private constructor(config: ModelConfig, weights: Weights, parts: Parts) {
    this.config = config;
    this.#weights = weights;
    this.#parts = parts;
  }

  /** @throws RangeError for a model that this example does not compute, and the errors of the package. */
  static async load(device: Device, directory: string, options: LoadOptions = {}): Promise<LanguageModel> {
    const config = await readConfig(directory);
    await using model = await openModel(directory);
    if (model.layersWithExperts.length !== config.layers) {
      const got = `${model.layersWithExperts.length} layers with experts`;
      throw new RangeError(`${directory}: expected experts in all ${config.layers} layers, got ${got}`);
    }
    const weights = await Weights.open(directory, device);
    try {
      return new LanguageModel(config, weights, await loadParts(config, weights, model, options));
    } catch (error) {
      await weights[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Memory for what the layers keep of a text. */
  caches(): KeyValueCache[] {
    return this.#parts.blocks.map(() => new KeyValueCache(this.#weights.device, this.config));
  }

  /** Adds tokens to a text. @returns the logits of the one that follows. */
  async next(ids: readonly number[], caches: readonly KeyValueCache[]): Promise<Float32Array> {
    let last: Float32Array = new Float32Array();
    for (let begin = 0; begin < ids.length; begin += chunk) {
      last = await this.#stream(ids.slice(begin, begin + chunk), caches);
    }
    using x = this.#weights.device.tensor(last, [1, last.length]);
    using normed = rmsNorm(x, this.#parts.finalNorm, { epsilon: this.config.epsilon });
    using logits = linear(normed, this.#parts.head);
    return await logits.data();
  }

  /** The last token's row of the residual stream, after all layers. */
  async #stream(ids: readonly number[], caches: readonly KeyValueCache[]): Promise<Float32Array> {
    const { hiddenSize, vocabulary, epsilon } = this.config;
    const { device } = this.#weights;
    let stream: Float32Array = new Float32Array(ids.length * hiddenSize);
    for (const [token, id] of ids.entries()) {
      stream.set(await this.#weights.row(table, [vocabulary, hiddenSize], id), token * hiddenSize);
    }
    for (const [layer, { attentionNorm, attention, expertsNorm, experts }] of this.#parts.blocks.entries()) {
      using x = device.tensor(stream, [ids.length, hiddenSize]);
      using normed = rmsNorm(x, attentionNorm, { epsilon });
      using attended = await attention.forward(normed, caches[layer]);
      const added = await attended.data();
      for (let i = 0; i < stream.length; i++) stream[i] += added[i];
      x.write(stream);
      using y = experts.forward(x, { norm: { weight: expertsNorm, epsilon }, residual: true });
      stream = await y.data();
    }
    return stream.slice(-hiddenSize);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { blocks, finalNorm, head } = this.#parts;
    for (const part of [...blocks, finalNorm, head]) part[Symbol.dispose]();
    await this.#weights[Symbol.asyncDispose]();
  }
}

async function loadParts(
  config: ModelConfig,
  weights: Weights,
  model: MoeModel,
  { dtype, onProgress }: LoadOptions,
): Promise<Parts> {
  const { layers, hiddenSize, vocabulary, headSize, rotary, windows } = config;
  const { device } = weights;
  const positions = new RotaryPositions(rotary, headSize);
  const blocks: Block[] = [];
  for (const [layer, window] of windows.entries()) {
    const prefix = `model.layers.${layer}`;
    const attentionNorm = await weights.tensor(`${prefix}.input_layernorm.weight`, [hiddenSize]);
    const attention = await Attention.load(weights, `${prefix}.self_attn`, config, positions, window);
    const expertsNorm = await weights.tensor(`${prefix}.post_attention_layernorm.weight`, [hiddenSize]);
    const experts = await model.load(layer, { device, dtype });
    const parts = { attentionNorm, attention, expertsNorm, experts };
    const dispose = () => Object.values(parts).forEach((part) => void part[Symbol.dispose]());
    blocks.push({ ...parts, [Symbol.dispose]: dispose });
    onProgress?.(layer + 1, layers);
  }
  return {
    blocks,
    finalNorm: await weights.tensor("model.norm.weight", [hiddenSize]),
    // Some models have one matrix for the tokens' rows and for their logits.
    head: await weights.packed(weights.has("lm_head.weight") ? "lm_head.weight" : table, vocabulary, hiddenSize),
  };
}
