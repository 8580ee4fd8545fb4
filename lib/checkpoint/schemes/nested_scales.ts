import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { dynamic8, weightFormat } from "../../core/formats/weight_formats.js";
import type { ConfigFields } from "../config_fields.js";
import type { QuantizedBytes } from "../locate/located_weight.js";
import type { FoundTensor, StoredMatrix } from "./stored_matrix.js";

/**
 * The scales of bitsandbytes where these are quantised themselves ("double quantisation"). A scale is
 * map[absmax[i]] * nested_absmax[i / nested_blocksize] + nested_offset.
 */
export class NestedScales {
  readonly sizes: FoundTensor;
  readonly map: FoundTensor;
  readonly #matrix: StoredMatrix;
  /** Weights in a block of the codes, and scales in a block of theirs. */
  readonly #block: number;
  readonly #nestedBlock: number;
  readonly #offset: number;
  /** Scales of the stacked experts before this one. */
  readonly #first: number;

  /** @throws BAD_CHECKPOINT for tensors that are missing or have other shapes. */
  constructor(matrix: StoredMatrix, state: ConfigFields, block: number) {
    this.#matrix = matrix;
    this.#block = block;
    this.#nestedBlock = state.integer("nested_blocksize", undefined, { maximum: 2 ** 20 });
    this.#offset = state.number("nested_offset", undefined);
    const { count, index } = matrix.stack ?? { count: 1, index: 0 };
    const weights = matrix.rows * matrix.columns;
    this.#first = (index * weights) / block;
    const sizes = Math.ceil(Math.ceil((count * weights) / block) / this.#nestedBlock);
    this.sizes = matrix.needForAll("weight.nested_absmax", ["F32"], [sizes]);
    this.map = matrix.needForAll("weight.nested_quant_map", ["F32"], [256]);
  }

  /**
   * Whether a format can hold them as they are: its groups do not cut blocks, and the values of its map are theirs.
   * @throws BAD_CHECKPOINT for a map with a value that is not finite.
   */
  async areOf(format: WeightFormatName): Promise<boolean> {
    const given = new Float32Array((await this.#matrix.read(this.map)).buffer);
    this.#checkFinite(given, this.map);
    const { columns, pieceColumns } = this.#matrix;
    const [group, superGroup] = columnsOf(format);
    const fits = [columns, pieceColumns, this.#block * this.#nestedBlock].every((count) => count % superGroup === 0);
    if (this.#block !== group || !fits) return false;
    // Files have sums of rounded numbers.
    return dynamic8.every((value, code) => Math.abs((given[code] as number) - value) <= 1e-5 * Math.abs(value));
  }

  /** The levels of a nested format: a size for each of its groups of a row, and the offset for each row. */
  levels(format: WeightFormatName, stored: Uint8Array, sizes: Float32Array): Omit<QuantizedBytes, "codes"> {
    const { rows, columns } = this.#matrix;
    const [, superGroup] = columnsOf(format);
    const superZeros = new Float32Array(rows).fill(this.#offset);
    for (const values of [sizes, superZeros]) this.#checkFinite(values);
    const ofEach = (this.#block * this.#nestedBlock) / superGroup;
    const first = (this.#first * this.#block) / superGroup;
    const superScales = Float32Array.from(
      { length: (rows * columns) / superGroup },
      (_, index) => sizes[Math.floor((first + index) / ofEach)] as number,
    );
    return { scales: stored, superScales, superZeros };
  }

  /** Their values. */
  values(stored: Uint8Array, sizes: Float32Array, map: Float32Array): Float32Array {
    const values = new Float32Array(stored.length);
    for (let index = 0; index < values.length; index++) {
      const size = sizes[Math.floor((this.#first + index) / this.#nestedBlock)] as number;
      values[index] = (map[stored[index] as number] as number) * size + this.#offset;
    }
    this.#checkFinite(values);
    return values;
  }

  /** @throws BAD_CHECKPOINT */
  #checkFinite(values: Float32Array, tensor = this.sizes): void {
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at < 0) return;
    throw this.#matrix.errorAt(tensor, `expected finite scales, got ${values[at]} at ${at}`);
  }
}

/** The columns of a format's groups, and of those that share a scale of scales. */
function columnsOf(format: WeightFormatName): readonly [number, number] {
  const { scales, superScales } = weightFormat(format);
  return [scales?.columns as number, superScales?.columns as number];
}
