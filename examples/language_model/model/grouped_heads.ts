import type { Tensor } from "moe-kernels";
import type { RotaryPositions } from "../../common/rotary.js";
import type { ModelConfig } from "../config/config.js";
import type { BlockNames } from "../config/names.js";
import type { HeadRows, Heads } from "./heads.js";
import { type Projection, project } from "./projection.js";
import type { Weights } from "./weights.js";

interface Parts {
  readonly query: Projection;
  readonly key: Projection;
  readonly value: Projection;
}

/** A head of keys and values for each group of queries. */
export class GroupedHeads implements Heads {
  readonly #config: ModelConfig;
  readonly #positions: RotaryPositions;
  readonly #parts: Parts;

  private constructor(config: ModelConfig, positions: RotaryPositions, parts: Parts) {
    this.#config = config;
    this.#positions = positions;
    this.#parts = parts;
  }

  static async load(
    weights: Weights,
    names: BlockNames,
    config: ModelConfig,
    positions: RotaryPositions,
  ): Promise<GroupedHeads> {
    const { family, hiddenSize, heads, keyValueHeads, headSize } = config;
    const [queries, keys] = [heads * headSize, keyValueHeads * headSize];
    // OLMoE normalises all heads of a token as one row.
    const norm = (name: string, all: number) =>
      weights.optional(`${name}.weight`, [family === "olmoe" ? all : headSize]);
    return new GroupedHeads(config, positions, {
      query: await weights.projection(names.query, queries, hiddenSize, await norm(names.queryNorm, queries)),
      key: await weights.projection(names.key, keys, hiddenSize, await norm(names.keyNorm, keys)),
      value: await weights.projection(names.value, keys, hiddenSize),
    });
  }

  async read(x: Tensor<"f32">, positions: readonly number[]): Promise<HeadRows> {
    const { epsilon, headSize } = this.#config;
    const { query, key, value } = this.#parts;
    const read = async (projection: Projection) => {
      using projected = project(x, projection, epsilon);
      return await projected.data();
    };
    const [queries, keys, values] = await Promise.all([read(query), read(key), read(value)]);
    for (const rows of [queries, keys]) this.#positions.turn(rows, positions, { size: headSize, begin: 0 });
    return { queries, keys, values };
  }

  async merge(seen: Float32Array): Promise<Float32Array> {
    return seen;
  }

  [Symbol.dispose](): void {
    for (const part of Object.values(this.#parts)) part[Symbol.dispose]();
  }
}
