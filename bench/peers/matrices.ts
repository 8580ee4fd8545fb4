import { type BlockWeight, blockTypeOf, convertBlocks, toBlocks } from "#lib/checkpoint/gguf/blocks/convert.js";
import { type GgufType, ggufTypes } from "#lib/checkpoint/gguf/types.js";
import type { SafetensorsInput } from "#lib/checkpoint/safetensors/index.js";
import { storedDTypes } from "#lib/checkpoint/safetensors/stored_dtypes.js";
import type { Device } from "#lib/core/device/device.js";
import type { ScaleLevel } from "#lib/core/formats/weight_format.js";
import { levelRoles, weightFormat } from "#lib/core/formats/weight_formats.js";
import { toF16 } from "#lib/core/tensors/dtype.js";
import type { Shape } from "#lib/core/tensors/shape.js";
import { Tensor } from "#lib/core/tensors/tensor.js";
import { disposeQuantized, type QuantizedWeight } from "#lib/operators/experts/quantized_weight.js";
import { quantize } from "#lib/operators/formats/quantize.js";
import type { RandomWeights } from "#lib/testing/inputs/random_layer.js";
import { PeerError } from "./contender.js";
import type { PeerDType, PeerWeights } from "./formats.js";

/** The matrices of all experts: a tensor, or codes and scales. */
export interface Matrices {
  readonly weight: Tensor<PeerDType> | QuantizedWeight;
  /** The blocks of GGUF that they were made from. */
  readonly blocks?: Uint8Array;
}

/** Tensors of a problem's file by name. */
export type StoredTensors = Record<string, SafetensorsInput>;

/** How blocks are made of random bytes. */
interface RandomBlocks {
  readonly type: GgufType;
  /** Where a block has the float16 that scales it. */
  readonly scaleAt: number;
  /** The size of an element, in units of that. */
  readonly size: number;
}

/** Formats that nothing is quantised to, or not with the scales of 6 bits that blocks have. */
const randomBlocks: Partial<Record<PeerWeights, RandomBlocks>> = {
  q3_k: { type: "Q3_K", scaleAt: 108, size: 40 },
  iq4_xs: { type: "IQ4_XS", scaleAt: 0, size: 1000 },
  iq3_s: { type: "IQ3_S", scaleAt: 0, size: 100 },
  iq2_xxs: { type: "IQ2_XXS", scaleAt: 0, size: 100 },
};

/** The type of a format's blocks in GGUF; undefined if there is none. */
export function ggufTypeOf(weights: PeerWeights): GgufType | undefined {
  return randomBlocks[weights]?.type ?? blockTypeOf(weightFormat(weights));
}

/**
 * Random matrices [E, N, K]. Formats of GGUF's blocks are quantised from bf16, or made of random blocks; others have random
 * codes and scales.
 */
export function randomMatrices(device: Device, random: RandomWeights, format: PeerWeights, shape: Shape): Matrices {
  const [experts, rows, columns] = shape as [number, number, number];
  if (format === "f32" || format === "bf16") {
    return { weight: random.tensor(device, shape, format, columns ** -0.5) as Tensor<PeerDType> };
  }
  const { bits, scales } = weightFormat(format);
  const type = ggufTypeOf(format);
  const group = type ? ggufTypes[type].elements : (scales as ScaleLevel).columns || columns;
  if (columns % group !== 0) throw new PeerError(`${format}: expected columns in whole groups, got ${columns}`);
  const blocks = randomBlocks[format];
  if (blocks !== undefined) return drawBlocks(device, random, blocks, format, [experts, rows, columns]);
  if (type !== undefined) {
    using values = random.tensor(device, shape, "bf16", columns ** -0.5);
    return { weight: quantize(values, format) };
  }
  return {
    weight: {
      format,
      codes: random.codes(device, [experts, rows, (columns * bits) / 8]),
      scales: random.tensor(device, [experts, rows, columns / group], "f32", columns ** -0.5 / 2 ** (bits - 1)),
    },
  };
}

function drawBlocks(
  device: Device,
  random: RandomWeights,
  { type, scaleAt, size }: RandomBlocks,
  format: PeerWeights,
  [experts, rows, columns]: readonly [number, number, number],
): Matrices {
  const { bytes, elements } = ggufTypes[type];
  using drawn = random.codes(device, [experts, rows, (columns / elements) * bytes]);
  const blocks = drawn.dataSync();
  const scale = toF16(columns ** -0.5 / size);
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let at = scaleAt; at < blocks.length; at += bytes) view.setUint16(at, scale, true);
  const { codes, ...levels } = convertBlocks(type, blocks, format);
  const tensorOf = (values: Uint8Array | Uint16Array) => {
    const shape = [experts, rows, values.length / (experts * rows)];
    return values instanceof Uint8Array ? device.tensor(values, shape) : device.tensor(values, shape, "f16");
  };
  const tensors = Object.entries(levels).map(([role, values]) => [role, tensorOf(values)]);
  return { weight: { format, codes: tensorOf(codes) as Tensor<"u8">, ...Object.fromEntries(tensors) }, blocks };
}

export function disposeMatrices({ weight }: Matrices): void {
  if (weight instanceof Tensor) weight.dispose();
  else disposeQuantized(weight);
}

/** Matrices as the file has them; see {@link createProblem}. */
export async function storedMatrices(name: string, { weight, blocks }: Matrices): Promise<StoredTensors> {
  if (weight instanceof Tensor) return { [name]: await storedTensor(weight) };
  const format = weightFormat(weight.format);
  const inBlocks = blocks ?? (blockTypeOf(format) && (await blocksOf(weight)));
  if (inBlocks !== undefined) {
    const [experts, rows] = weight.codes.shape as readonly [number, number];
    return { [name]: { dtype: "U8", shape: [experts, rows, inBlocks.byteLength / (experts * rows)], data: inBlocks } };
  }
  const codes = await weight.codes.raw();
  // Unsigned: the sign bit of each code is inverted.
  const signs = format.bits === 8 ? 0x80 : 0x88;
  for (let index = 0; index < codes.length; index++) codes[index] = (codes[index] as number) ^ signs;
  return {
    [name]: { dtype: "U8", shape: weight.codes.shape, data: codes },
    [`${name}.scales`]: await storedTensor(weight.scales as Tensor),
  };
}

export async function storedTensor(tensor: Tensor): Promise<SafetensorsInput> {
  return { dtype: storedDTypes[tensor.dtype], shape: tensor.shape, data: await tensor.raw() };
}

async function blocksOf({ format, codes, ...levels }: QuantizedWeight): Promise<Uint8Array> {
  const type = blockTypeOf(weightFormat(format)) as GgufType;
  const present = levelRoles.flatMap((role) => (levels[role] ? [[role, levels[role]] as const] : []));
  const raw = await Promise.all(present.map(async ([role, tensor]) => [role, await tensor.raw()] as const));
  return toBlocks(type, { codes: await codes.raw(), ...Object.fromEntries(raw) } as BlockWeight);
}
