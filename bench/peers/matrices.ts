import { type BlockWeight, blockTypeOf, toBlocks } from "#lib/checkpoint/gguf/blocks/convert.js";
import { type GgufType, ggufTypes } from "#lib/checkpoint/gguf/types.js";
import type { SafetensorsInput } from "#lib/checkpoint/safetensors/index.js";
import { storedDTypes } from "#lib/checkpoint/safetensors/stored_dtypes.js";
import type { Device } from "#lib/core/device.js";
import type { Shape } from "#lib/core/shape.js";
import { Tensor } from "#lib/core/tensor.js";
import type { ScaleLevel } from "#lib/core/weight_format.js";
import { levelRoles, weightFormat } from "#lib/core/weight_formats.js";
import { disposeQuantized, type QuantizedWeight } from "#lib/operators/experts/quantized_weight.js";
import { quantize } from "#lib/operators/formats/quantize.js";
import type { RandomWeights } from "#lib/testing/random_layer.js";
import { PeerError } from "./contender.js";
import type { PeerDType, PeerWeights } from "./formats.js";

/** The matrices of all experts: a tensor, or codes and scales. */
export type Matrices = Tensor<PeerDType> | QuantizedWeight;

/** Tensors of a problem's file by name. */
export type StoredTensors = Record<string, SafetensorsInput>;

/** Random matrices [E, N, K]. Formats of GGUF's blocks are quantised from bf16; others have random codes and scales. */
export function randomMatrices(device: Device, random: RandomWeights, format: PeerWeights, shape: Shape): Matrices {
  const [experts, rows, columns] = shape as [number, number, number];
  if (format === "f32" || format === "bf16") {
    return random.tensor(device, shape, format, columns ** -0.5) as Tensor<PeerDType>;
  }
  const { bits, scales } = weightFormat(format);
  const blocks = blockTypeOf(weightFormat(format));
  const group = blocks ? ggufTypes[blocks].elements : (scales as ScaleLevel).columns || columns;
  if (columns % group !== 0) throw new PeerError(`${format}: expected columns in whole groups, got ${columns}`);
  if (blocks !== undefined) {
    using values = random.tensor(device, shape, "bf16", columns ** -0.5);
    return quantize(values, format);
  }
  return {
    format,
    codes: random.codes(device, [experts, rows, (columns * bits) / 8]),
    scales: random.tensor(device, [experts, rows, columns / group], "f32", columns ** -0.5 / 2 ** (bits - 1)),
  };
}

export function disposeMatrices(matrices: Matrices): void {
  if (matrices instanceof Tensor) matrices.dispose();
  else disposeQuantized(matrices);
}

/** Matrices as the file has them; see {@link createProblem}. */
export async function storedMatrices(name: string, matrices: Matrices): Promise<StoredTensors> {
  if (matrices instanceof Tensor) return { [name]: await storedTensor(matrices) };
  const format = weightFormat(matrices.format);
  if (blockTypeOf(format) !== undefined) return { [name]: await storedBlocks(matrices) };
  const codes = await matrices.codes.raw();
  // Unsigned: the sign bit of each code is inverted.
  const signs = format.bits === 8 ? 0x80 : 0x88;
  for (let index = 0; index < codes.length; index++) codes[index] = (codes[index] as number) ^ signs;
  return {
    [name]: { dtype: "U8", shape: matrices.codes.shape, data: codes },
    [`${name}.scales`]: await storedTensor(matrices.scales as Tensor),
  };
}

export async function storedTensor(tensor: Tensor): Promise<SafetensorsInput> {
  return { dtype: storedDTypes[tensor.dtype], shape: tensor.shape, data: await tensor.raw() };
}

/** GGUF's blocks as bytes [E, N, bytes of a row]. */
async function storedBlocks({ format, codes, ...levels }: QuantizedWeight): Promise<SafetensorsInput> {
  const type = blockTypeOf(weightFormat(format)) as GgufType;
  const present = levelRoles.flatMap((role) => (levels[role] ? [[role, levels[role]] as const] : []));
  const raw = await Promise.all(present.map(async ([role, tensor]) => [role, await tensor.raw()] as const));
  const data = toBlocks(type, { codes: await codes.raw(), ...Object.fromEntries(raw) } as BlockWeight);
  const [experts, rows] = codes.shape as readonly [number, number];
  return { dtype: "U8", shape: [experts, rows, data.byteLength / (experts * rows)], data };
}
