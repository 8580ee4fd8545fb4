import { combine, type Device, type PackedExperts, packExperts, type Tensor } from "moe-kernels";
import { rotaryFrequencies } from "../../common/rotary.js";

/** What a batch of sequences and the heads of attention look like. */
export interface HeadSizes {
  readonly sequences: number;
  readonly length: number;
  readonly heads: number;
  /** Width of one head. */
  readonly size: number;
  readonly causal: boolean;
}

/**
 * Where the rows of attention lie, one row a head's part of a token's query, key or value, B sequences of S tokens:
 *
 * - projected, as the first product leaves them: (sequence, token, part, head), with part 0 for queries, 1 keys, 2 values;
 * - by position, queries and keys alone: (token, part, sequence, head), so that all rows of a position are together;
 * - by head: (part, sequence, head, token), so that a head of a sequence is one expert of a grouped GEMM.
 */
export class HeadOrder {
  /** Rows of one part: B · S · heads. */
  readonly rows: number;
  /** The projected row of each row by position, and of each value by head. */
  readonly projectedOfPosition: Tensor<"i32">;
  readonly projectedOfValue: Tensor<"i32">;
  /** The row by position of each query and key by head, and the other way round. */
  readonly positionOfHead: Tensor<"i32">;
  readonly headOfPosition: Tensor<"i32">;
  /** The row of each projected row in memory that holds queries and keys by position, then values by head. */
  readonly gradientOfProjected: Tensor<"i32">;
  /** The row by head, in one part, of each (sequence, token, head), and the other way round. */
  readonly headOfMerged: Tensor<"i32">;
  readonly mergedOfHead: Tensor<"i32">;
  /** Offsets of positions and of heads for grouped GEMMs. */
  readonly positionOffsets: Tensor<"i32">;
  readonly headOffsets: Tensor<"i32">;
  /** Rotations of all positions, packed, and transposed. */
  readonly rotations: PackedExperts;
  readonly inverseRotations: PackedExperts;
  readonly mask: CausalMask | undefined;

  constructor(device: Device, { sequences, length, heads, size, causal }: HeadSizes) {
    const rows = sequences * length * heads;
    this.rows = rows;
    const projectedOfPosition = new Int32Array(2 * rows);
    const projectedOfValue = new Int32Array(rows);
    const positionOfHead = new Int32Array(2 * rows);
    const headOfPosition = new Int32Array(2 * rows);
    const gradientOfProjected = new Int32Array(3 * rows);
    const headOfMerged = new Int32Array(rows);
    const mergedOfHead = new Int32Array(rows);
    for (let sequence = 0, projected = 0; sequence < sequences; sequence++) {
      for (let token = 0; token < length; token++) {
        for (let part = 0; part < 3; part++) {
          for (let head = 0; head < heads; head++, projected++) {
            const merged = (sequence * length + token) * heads + head;
            const inPart = (sequence * heads + head) * length + token;
            if (part < 2) {
              const position = ((token * 2 + part) * sequences + sequence) * heads + head;
              projectedOfPosition[position] = projected;
              positionOfHead[part * rows + inPart] = position;
              headOfPosition[position] = part * rows + inPart;
              gradientOfProjected[projected] = position;
            } else {
              projectedOfValue[inPart] = projected;
              gradientOfProjected[projected] = 2 * rows + inPart;
              headOfMerged[merged] = inPart;
              mergedOfHead[inPart] = merged;
            }
          }
        }
      }
    }
    this.projectedOfPosition = device.tensor(projectedOfPosition);
    this.projectedOfValue = device.tensor(projectedOfValue);
    this.positionOfHead = device.tensor(positionOfHead);
    this.headOfPosition = device.tensor(headOfPosition);
    this.gradientOfProjected = device.tensor(gradientOfProjected);
    this.headOfMerged = device.tensor(headOfMerged);
    this.mergedOfHead = device.tensor(mergedOfHead);
    this.positionOffsets = device.tensor(Int32Array.from({ length: length + 1 }, (_, i) => i * 2 * sequences * heads));
    this.headOffsets = device.tensor(Int32Array.from({ length: sequences * heads + 1 }, (_, i) => i * length));
    using rotations = device.tensor(rotationsOf(length, size), [length, size, size]);
    this.rotations = packExperts(rotations);
    this.inverseRotations = packExperts(rotations, { transpose: true });
    if (causal) this.mask = new CausalMask(device, rows, length);
  }

  dispose(): void {
    for (const each of Object.values(this)) if (typeof each === "object") each.dispose();
  }
}

/** Hides later tokens: adds to each row of products its row of a mask. */
export class CausalMask {
  /** [rows, S]: where to write products of queries and keys, in memory of which the mask is the end. */
  readonly products: Tensor<"f32">;
  readonly #memory: Tensor<"f32">;
  /** [rows, 2]: a row of products and one of the mask, and ones. */
  readonly #pairs: Tensor<"i32">;
  readonly #ones: Tensor<"f32">;

  constructor(device: Device, rows: number, length: number) {
    this.#memory = device.empty([rows + length, length], "f32");
    this.products = this.#memory.rows(0, rows);
    using mask = this.#memory.rows(rows, rows + length);
    mask.write(Float32Array.from({ length: length ** 2 }, (_, i) => (i % length > Math.floor(i / length) ? -1e30 : 0)));
    const pairs = Int32Array.from({ length: 2 * rows }, (_, i) =>
      i % 2 === 0 ? i / 2 : rows + (((i - 1) / 2) % length),
    );
    this.#pairs = device.tensor(pairs, [rows, 2]);
    this.#ones = device.tensor(new Float32Array(2 * rows).fill(1), [rows, 2]);
  }

  /** The products with the mask added. */
  apply(): Tensor<"f32"> {
    return combine(this.#memory, this.#pairs, this.#ones);
  }

  dispose(): void {
    for (const tensor of [this.products, this.#memory, this.#pairs, this.#ones]) tensor.dispose();
  }
}

/** RoPE's frequencies for heads of this size. */
export function rotationFrequencies(size: number): Float64Array {
  return rotaryFrequencies(size, 10_000);
}

/** Queries and keys are scaled by this when they are turned, so that their products are divided by √size. */
export function rotationScale(size: number): number {
  return size ** -0.25;
}

/** The matrices [S, size, size] that turn a head at each position: elements i and i + size / 2 are a pair. */
function rotationsOf(length: number, size: number): Float32Array {
  const matrices = new Float32Array(length * size * size);
  const half = size / 2;
  const scale = rotationScale(size);
  const frequencies = rotationFrequencies(size);
  for (let position = 0; position < length; position++) {
    for (let pair = 0; pair < half; pair++) {
      const angle = position * frequencies[pair];
      const set = (row: number, column: number, value: number) => {
        matrices[(position * size + row) * size + column] = value * scale;
      };
      set(pair, pair, Math.cos(angle));
      set(pair, pair + half, -Math.sin(angle));
      set(pair + half, pair, Math.sin(angle));
      set(pair + half, pair + half, Math.cos(angle));
    }
  }
  return matrices;
}
