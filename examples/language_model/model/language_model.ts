import { type Device, type FloatDType, linear, openModel, type PackedExperts, rmsNorm, type Tensor } from "moe-kernels";
import type { ModelConfig } from "../config/config.js";
import { readConfig } from "../config/read.js";
import { Attention } from "./attention.js";
import { loadDenseLayer } from "./dense_layer.js";
import { type Experts, type ExpertsOptions, loadExperts } from "./experts.js";
import { rotaryPositions } from "./rotary.js";
import { type Part, Sequence } from "./sequence.js";
import type { Table } from "./table.js";
import { Weights } from "./weights.js";

interface Block extends Disposable {
  readonly attentionNorm: Tensor<FloatDType>;
  readonly attention: Attention;
  readonly expertsNorm: Tensor<FloatDType>;
  /** In a layer without experts a mixture of one. */
  readonly experts: Experts;
}

interface Parts {
  readonly table: Table;
  readonly blocks: readonly Block[];
  readonly finalNorm: Tensor<FloatDType>;
  readonly head: PackedExperts;
}

export interface LoadOptions extends ExpertsOptions {
  readonly onProgress?: ((loaded: number, layers: number) => void) | undefined;
}

/** A decoder with experts in its layers, or in those after the first. */
export class LanguageModel implements Disposable {
  readonly config: ModelConfig;
  readonly #device: Device;
  readonly #parts: Parts;

  private constructor(config: ModelConfig, device: Device, parts: Parts) {
    this.config = config;
    this.#device = device;
    this.#parts = parts;
  }

  /**
   * @param path a directory as Hugging Face has them, or a GGUF file.
   * @throws RangeError for a model that this example does not compute, and the errors of the package.
   */
  static async load(device: Device, path: string, options: LoadOptions = {}): Promise<LanguageModel> {
    await using model = await openModel(path);
    const config = await readConfig(path);
    const weights = new Weights(model, device, options.tokenFormat ?? "none");
    return new LanguageModel(config, device, await loadParts(config, weights, options));
  }

  /** An empty sequence. */
  sequence(): Sequence {
    return new Sequence(this.#device, this.config);
  }

  /**
   * Adds tokens to sequences that differ, all of them together, so that every weight is read once. A sequence's logits have
   * the same bits whatever other sequences there are.
   *
   * @returns for each part the logits of the token that follows.
   */
  async forward(parts: readonly Part[]): Promise<Float32Array[]> {
    const { hiddenSize, epsilon, vocabulary, logitScale } = this.config;
    const stream = await this.#stream(parts);
    const last = new Float32Array(parts.length * hiddenSize);
    let end = 0;
    for (const [i, { ids }] of parts.entries()) {
      end += ids.length * hiddenSize;
      last.set(stream.subarray(end - hiddenSize, end), i * hiddenSize);
    }
    using x = this.#device.tensor(last, [parts.length, hiddenSize]);
    using normed = rmsNorm(x, this.#parts.finalNorm, { epsilon });
    using products = linear(normed, this.#parts.head);
    const logits = scaled(await products.data(), logitScale);
    return parts.map((_, i) => logits.subarray(i * vocabulary, (i + 1) * vocabulary));
  }

  /** The residual stream [T, H] after all layers. */
  async #stream(parts: readonly Part[]): Promise<Float32Array> {
    const { hiddenSize, epsilon, tableScale } = this.config;
    const { table, blocks } = this.#parts;
    const ids = parts.flatMap((part) => part.ids);
    let stream = scaled(await table.read(ids), tableScale);
    for (const [layer, { attentionNorm, attention, expertsNorm, experts }] of blocks.entries()) {
      using x = this.#device.tensor(stream, [ids.length, hiddenSize]);
      using normed = rmsNorm(x, attentionNorm, { epsilon });
      const cached = parts.map(({ sequence, ids }) => ({ cache: sequence.caches[layer], tokens: ids.length }));
      using attended = await attention.forward(normed, cached);
      const added = await attended.data();
      for (let i = 0; i < stream.length; i++) stream[i] += added[i];
      x.write(stream);
      using y = await experts.forward(x, { norm: { weight: expertsNorm, epsilon }, residual: true });
      stream = await y.data();
    }
    return stream;
  }

  [Symbol.dispose](): void {
    const { table, blocks, finalNorm, head } = this.#parts;
    for (const part of [table, ...blocks, finalNorm, head]) part[Symbol.dispose]();
  }
}

/** In place. */
function scaled(values: Float32Array, scale: number): Float32Array {
  for (let i = 0; i < values.length; i++) values[i] *= scale;
  return values;
}

async function loadParts(config: ModelConfig, weights: Weights, options: LoadOptions): Promise<Parts> {
  const { onProgress } = options;
  const { layers, hiddenSize, vocabulary, rotary, windows, names } = config;
  const { device, model } = weights;
  const positions = rotaryPositions(rotary);
  const blocks: Block[] = [];
  for (const [layer, window] of windows.entries()) {
    const block = names.block(layer);
    const attentionNorm = await weights.floats(`${block.attentionNorm}.weight`, [hiddenSize]);
    const attention = await Attention.load(weights, block, config, positions, window);
    const expertsNorm = await weights.floats(`${block.expertsNorm}.weight`, [hiddenSize]);
    const experts = model.layersWithExperts.includes(layer)
      ? await loadExperts(model, layer, device, options)
      : await loadDenseLayer(weights, block, config);
    const parts = { attentionNorm, attention, expertsNorm, experts };
    const dispose = () => Object.values(parts).forEach((part) => void part[Symbol.dispose]());
    blocks.push({ ...parts, [Symbol.dispose]: dispose });
    onProgress?.(layer + 1, layers);
  }
  // Some models have one matrix for the tokens' rows and for their logits.
  const head = model.hasWeight(`${names.head}.weight`) ? names.head : names.table;
  return {
    table: await weights.table(`${names.table}.weight`, [vocabulary, hiddenSize]),
    blocks,
    finalNorm: await weights.floats(`${names.finalNorm}.weight`, [hiddenSize]),
    head: await weights.packed(`${head}.weight`, [vocabulary, hiddenSize]),
  };
}
