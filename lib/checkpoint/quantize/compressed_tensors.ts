import { MoeError } from "../../core/errors.js";
import type { WeightFormat } from "../../core/formats/weight_format.js";
import { matricesOf } from "../../layer/weights/expert_weights.js";
import { blockTypeOf } from "../gguf/blocks/convert.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import type { Model } from "../model.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import { storedDTypes } from "../safetensors/stored_dtypes.js";
import type { SafetensorsInput } from "../safetensors/writer.js";
import { asBytes, flipHighestBits, putCode, transpose, words } from "../schemes/bits.js";
import type { PackedLayout } from "./packed_layout.js";

/** How compressed-tensors stores matrices of one format. */
interface CompressedFormat extends Pick<PackedLayout, "columnsPerGroup" | "tensors"> {
  /** `format` in quantization_config. */
  readonly format: string;
  /** `weights` of the group in quantization_config. */
  readonly weights: Readonly<Record<string, unknown>>;
  /** `input_activations` of the group; default null, tokens as they are. */
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly pairsGateAndUp?: true;
}

/** The layout of formats of some kind, which their data tell; undefined for others. */
type LayoutOf = (format: WeightFormat) => CompressedFormat | undefined;

const scaleDTypes: { readonly [type: string]: SafetensorsDType } = storedDTypes;

/** Number of groups of columns; 0 columns in a group stand for all. */
const groupCount = (columns: number, group: number) => (group === 0 ? 1 : columns / group);

/** `pack-quantized`: codes and zero points in 32-bit words, signed codes with 2^(bits - 1) added. */
const packedIntegers: LayoutOf = ({ code, bits, scales, superScales, offset }) => {
  const dtype = scales && scaleDTypes[scales.type];
  const symmetric = code === "signed_integer" && offset === undefined;
  const asymmetric = code === "unsigned_integer" && offset === "zero_point";
  if (dtype === undefined || scales?.rows !== 1 || superScales !== undefined || !(symmetric || asymmetric)) {
    return undefined;
  }
  const { columns: group } = scales;
  return {
    format: "pack-quantized",
    weights: {
      num_bits: bits,
      type: "int",
      ...(group === 0 ? { strategy: "channel" } : { strategy: "group", group_size: group }),
      symmetric,
    },
    columnsPerGroup: group === 0 ? 1 : group,
    tensors: ({ codes, scales: values, zeros }, rows, columns) => {
      const count = groupCount(columns, group);
      if (symmetric) flipHighestBits(codes, rows, columns, bits);
      const width = Math.ceil((columns * bits) / 32);
      return {
        weight_packed: { dtype: "I32", shape: [rows, width], data: padRows(codes, rows, 4 * width) },
        weight_scale: { dtype, shape: [rows, count], data: asBytes(values as ArrayBufferView) },
        ...(zeros && { weight_zero_point: packZeros(asBytes(zeros), rows, count, bits) }),
        weight_shape: { dtype: "I64", shape: [2], data: asBytes(BigInt64Array.of(BigInt(rows), BigInt(columns))) },
      };
    },
  };
};

/**
 * `float-quantized`: e4m3 with scales for rows or blocks; `mxfp8-quantized` with powers of two for 32 columns. vLLM reads the
 * first of experts only where their inputs are rounded too, as llm-compressor's FP8_DYNAMIC and FP8_BLOCK say.
 */
const float8: LayoutOf = ({ code, scales }) => {
  if (code !== "e4m3" || scales === undefined) return undefined;
  const { type, rows: height, columns: width } = scales;
  const isMx = type === "e8m0" && height === 1 && width === 32;
  const dtype = isMx ? "U8" : scaleDTypes[type];
  const isBlock = height > 1;
  if (dtype === undefined || !(isMx || isBlock || width === 0)) return undefined;
  const strategy = isMx
    ? { strategy: "group", group_size: width }
    : isBlock
      ? { strategy: "block", block_structure: [height, width] }
      : { strategy: "channel" };
  return {
    format: isMx ? "mxfp8-quantized" : "float-quantized",
    weights: { num_bits: 8, type: "float", ...strategy, symmetric: true },
    ...(!isMx && { inputs: dynamicInputs(isBlock ? width : 0) }),
    columnsPerGroup: isMx ? width : 1,
    tensors: ({ codes, scales: values }, rows, columns) => {
      const shape = [Math.ceil(rows / height), width === 0 ? 1 : Math.ceil(columns / width)];
      return {
        weight: { dtype: "F8_E4M3", shape: [rows, columns], data: codes },
        weight_scale: { dtype, shape, data: asBytes(values as ArrayBufferView) },
      };
    },
  };
};

/** Inputs in e4m3, with a scale for each token, or for each group of columns of it. */
function dynamicInputs(columns: number) {
  const strategy = columns === 0 ? { strategy: "token" } : { strategy: "group", group_size: columns };
  return { num_bits: 8, type: "float", ...strategy, symmetric: true, dynamic: true };
}

/**
 * `mxfp4-pack-quantized` and `nvfp4-pack-quantized`: two E2M1 codes a byte. The scale of nvfp4's scales is divided by. vLLM
 * multiplies gate and up at once, and takes gate's for both.
 */
const float4: LayoutOf = ({ name, scales }) => {
  if ((name !== "mxfp4" && name !== "nvfp4") || scales === undefined) return undefined;
  const isNv = name === "nvfp4";
  const group = scales.columns;
  return {
    format: `${name}-pack-quantized`,
    weights: {
      num_bits: 4,
      type: "float",
      strategy: isNv ? "tensor_group" : "group",
      group_size: group,
      symmetric: true,
    },
    columnsPerGroup: group,
    ...(isNv && { pairsGateAndUp: true }),
    tensors: ({ codes, scales: values, superScales }, rows, columns) => ({
      weight_packed: { dtype: "U8", shape: [rows, columns / 2], data: codes },
      weight_scale: {
        dtype: isNv ? "F8_E4M3" : "U8",
        shape: [rows, columns / group],
        data: asBytes(values as ArrayBufferView),
      },
      ...(isNv && { weight_global_scale: reciprocal(superScales as Float32Array) }),
    }),
  };
};

/** The layout of a format; every matrix has tensors of its own. @throws UNSUPPORTED_DTYPE if there is none. */
export function compressedTensors(format: WeightFormat): PackedLayout {
  for (const layoutOf of [packedIntegers, float8, float4]) {
    const found = layoutOf(format);
    if (found === undefined) continue;
    const { columnsPerGroup, pairsGateAndUp = false, tensors } = found;
    const configuration = (ignored: readonly string[]) => ({ quantization_config: configurationOf(found, ignored) });
    const narrowerGroups = "; choose smaller groups, or a scale for each row: int4_channel, int8, fp8";
    const common = { narrowerGroups, wholeModel: false, fileFormat: "pt", storage: singleMatrices } as const;
    return { ...common, columnsPerGroup, pairsGateAndUp, module: moduleOf, tensors, configuration };
  }
  throw new MoeError(
    "UNSUPPORTED_DTYPE",
    `format: compressed-tensors has no layout for ${format.name}: expected integers with float scales (int4_g128, ` +
      "uint4_g128, int8, ...), fp8, fp8_b128, mxfp8, mxfp4 or nvfp4, or for MLX a4_g64_bf16, a8_g64_bf16, ..." +
      (blockTypeOf(format) === undefined ? "" : "; a GGUF file has it: choose a name that ends in .gguf"),
  );
}

/** The family's storage in which every matrix has a tensor of its own; the present one, if it is such. */
function singleMatrices(model: Model, used: LayerTensors, others: readonly LayerTensors[]): LayerTensors {
  const found = [used, ...others].find(({ experts, shared }) =>
    matricesOf(experts, shared).every(
      ({ name, stacked, part, orient }) =>
        stacked === undefined && part === undefined && orient !== "in_out" && name.endsWith(".weight"),
    ),
  );
  if (found !== undefined) return found;
  throw new MoeError(
    "UNSUPPORTED_OPERATION",
    `${model.fields.path}: expected a family whose quantised experts other software reads, got ${model.family.modelType}, ` +
      `which has no names for single experts in ${JSON.stringify(used.experts.up.name)}; MoeLayer.load can quantise them, with ` +
      "its option dtype",
  );
}

/** `weight` of the name becomes `weight_packed` and so on. */
const moduleOf = (name: string) => name.slice(0, -"weight".length);

function configurationOf({ format, weights, inputs }: CompressedFormat, ignore: readonly string[]): object {
  const input_activations = inputs ?? null;
  const group = { targets: ["Linear"], weights: { ...weights, dynamic: false }, input_activations, format };
  return {
    quant_method: "compressed-tensors",
    format,
    quantization_status: "compressed",
    config_groups: { group_0: { ...group, output_activations: null } },
    ignore,
    kv_cache_scheme: null,
  };
}

/** Rows of codes at the beginning of rows of `stride` bytes. */
function padRows(codes: Uint8Array, rows: number, stride: number): Uint8Array {
  const width = codes.byteLength / rows;
  if (width === stride) return codes;
  const target = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) target.set(codes.subarray(row * width, (row + 1) * width), row * stride);
  return target;
}

/** Zero points [rows, groups], a byte each, packed along the rows: [ceil(rows * bits / 32), groups]. */
function packZeros(zeros: Uint8Array, rows: number, groups: number, bits: number): SafetensorsInput {
  const perGroup = Math.ceil((rows * bits) / 32);
  const streams = new Uint8Array(4 * perGroup * groups);
  const byGroup = transpose(zeros, rows, groups);
  for (let group = 0; group < groups; group++) {
    for (let row = 0; row < rows; row++) {
      putCode(streams, 4 * perGroup * group, row, byGroup[group * rows + row] as number, bits);
    }
  }
  return { dtype: "I32", shape: [perGroup, groups], data: asBytes(transpose(words(streams), groups, perGroup)) };
}

function reciprocal(scales: Float32Array): SafetensorsInput {
  return { dtype: "F32", shape: [1], data: asBytes(Float32Array.of(1 / (scales[0] as number))) };
}
