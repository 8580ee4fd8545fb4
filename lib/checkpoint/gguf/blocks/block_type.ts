import type { WeightFormatName } from "../../../core/formats/weight_format.js";

/** The scales of a matrix: one value for each group of columns, or for each block at the upper level. */
export interface BlockScales {
  readonly scales: Uint8Array | Uint16Array;
  readonly superScales?: Uint16Array;
  /** What is subtracted from a group after scaling. */
  readonly zeros?: Uint8Array | Uint16Array;
  readonly superZeros?: Uint16Array;
}

/** How the blocks of a quantised type become a weight format; their layouts are those of ggml-common.h. */
export interface BlockReader {
  readonly format: WeightFormatName;
  /** Reads the codes of the block that begins at `at`: one a byte, or units of a grid, in the order of the columns. */
  readCodes(view: DataView, at: number, words: Uint32Array): void;
  /** Reads its scales, as the matrix's block number `block`. */
  readScales(view: DataView, at: number, target: BlockScales, block: number): void;
}

/** And back. */
export interface BlockType extends BlockReader {
  /** What {@link readCodes} reads, in a block of zeros. May change the words. */
  writeCodes(view: DataView, at: number, words: Uint32Array): void;
  /** What {@link readScales} reads, in a block of zeros. */
  writeScales(view: DataView, at: number, source: BlockScales, block: number): void;
}

/** A float16 with the other sign: ggml adds minima, this package subtracts them. */
export function negatedF16(bits: number): number {
  return bits ^ 0x8000;
}
