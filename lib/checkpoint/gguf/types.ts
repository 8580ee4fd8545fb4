/** The size of a tensor type's blocks. */
export interface GgufTypeInfo {
  /** The type's number in files. */
  readonly id: number;
  /** Consecutive elements of a row that are stored together. */
  readonly elements: number;
  /** Bytes of one block. */
  readonly bytes: number;
}

const block = (id: number, elements: number, bytes: number): GgufTypeInfo => ({ id, elements, bytes });

/** Every tensor type of ggml (enum ggml_type and the blocks of ggml-common.h) that files may have. */
export const ggufTypes = {
  F32: block(0, 1, 4),
  F16: block(1, 1, 2),
  Q4_0: block(2, 32, 18),
  Q4_1: block(3, 32, 20),
  Q5_0: block(6, 32, 22),
  Q5_1: block(7, 32, 24),
  Q8_0: block(8, 32, 34),
  Q8_1: block(9, 32, 36),
  Q2_K: block(10, 256, 84),
  Q3_K: block(11, 256, 110),
  Q4_K: block(12, 256, 144),
  Q5_K: block(13, 256, 176),
  Q6_K: block(14, 256, 210),
  Q8_K: block(15, 256, 292),
  IQ2_XXS: block(16, 256, 66),
  IQ2_XS: block(17, 256, 74),
  IQ3_XXS: block(18, 256, 98),
  IQ1_S: block(19, 256, 50),
  IQ4_NL: block(20, 32, 18),
  IQ3_S: block(21, 256, 110),
  IQ2_S: block(22, 256, 82),
  IQ4_XS: block(23, 256, 136),
  I8: block(24, 1, 1),
  I16: block(25, 1, 2),
  I32: block(26, 1, 4),
  I64: block(27, 1, 8),
  F64: block(28, 1, 8),
  IQ1_M: block(29, 256, 56),
  BF16: block(30, 1, 2),
  TQ1_0: block(34, 256, 54),
  TQ2_0: block(35, 256, 66),
  MXFP4: block(39, 32, 17),
  NVFP4: block(40, 64, 36),
  Q1_0: block(41, 128, 18),
  Q2_0: block(42, 64, 18),
} as const satisfies Record<string, GgufTypeInfo>;

/**
 * The name of a tensor type, as ggml spells it.
 *
 * @useDeclaredType
 */
export type GgufType = keyof typeof ggufTypes;

export const ggufTypeNames = Object.keys(ggufTypes) as readonly GgufType[];

const byId: ReadonlyMap<number, GgufType> = new Map(ggufTypeNames.map((name) => [ggufTypes[name].id, name]));

/** Types that ggml once wrote and reads no more. */
const removed: ReadonlyMap<number, string> = new Map([
  [4, "Q4_2"],
  [5, "Q4_3"],
  [31, "Q4_0_4_4"],
  [32, "Q4_0_4_8"],
  [33, "Q4_0_8_8"],
  [36, "IQ4_NL_4_4"],
  [37, "IQ4_NL_4_8"],
  [38, "IQ4_NL_8_8"],
]);

/** The type of this number in files; undefined if there is none. */
export function ggufTypeOf(id: number): GgufType | undefined {
  return byId.get(id);
}

/** A type's number in words, for errors. */
export function typeIdText(id: number): string {
  const name = removed.get(id);
  if (id >= 97 && id < 400) return `type ${id}, which only ik_llama.cpp reads`;
  return name === undefined ? `type ${id}` : `type ${id}, ${name}, which ggml has removed`;
}

/** Bytes of a tensor whose rows (the last size) are whole blocks; undefined from 2^50 bytes on. */
export function ggufByteLength(type: GgufType, shape: readonly number[]): number | undefined {
  const { elements, bytes } = ggufTypes[type];
  let total = bytes;
  for (const [axis, size] of shape.entries()) {
    total *= axis === shape.length - 1 ? size / elements : size;
    if (total >= 2 ** 50) return undefined;
  }
  return shape.length === 0 && elements > 1 ? undefined : total;
}
