import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { greatestCommonDivisor } from "../../core/greatest_common_divisor.js";
import type { Shape } from "../../core/tensors/shape.js";
import { sameShape, shapeText } from "../../core/tensors/shape.js";
import { stackedShape, type WeightLayout } from "../../layer/weights/weight_layout.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { ConfigFields } from "../config_fields.js";
import type { LocatedWeight, TensorFile, TensorRange } from "../locate/located_weight.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import type { SafetensorsInfo } from "../safetensors/header.js";
import { tensorPlace } from "../safetensors/header.js";
import { parseJsonObject } from "../safetensors/strict_json.js";
import { asBytes, elements, transpose } from "./bits.js";
import type { Quantization } from "./quantization.js";
import type { StatedStorage } from "./stated_storage.js";

/**
 * What the tensors of a quantised matrix are called after the module's name. `weight` is the matrix itself where it has
 * that name, or, in stacked storage, the name of the stack.
 */
export const suffixes = [
  "weight",
  "weight_packed",
  "qweight",
  "blocks",
  "weight_scale_inv",
  "weight_scale",
  "weight_scale_2",
  "weight_global_scale",
  "weight_zero_point",
  "weight_g_idx",
  "weight_shape",
  "scale",
  "scales",
  "biases",
  "global_scale",
  "qzeros",
  "g_idx",
  "pre_quant_scale",
  "svdquant_lora_a",
  "svdquant_lora_b",
  // AutoRound: factors of codes that stand for fp8 weights, and zero points of fp8.
  "w_bf16_to_fp8_scale",
  "weight_zp",
  // ParoQuant's rotations of the inputs, beside AWQ's tensors.
  "theta",
  "pairs",
  "channel_scales",
  // HQQ, beside "scale".
  "W_q",
  "zero",
  "axis",
  "group_size",
  "nbits",
  "SCB",
  "weight_format",
  "weight.absmax",
  "weight.quant_map",
  "weight.nested_absmax",
  "weight.nested_quant_map",
  "weight.quant_state.bitsandbytes__nf4",
  "weight.quant_state.bitsandbytes__fp4",
] as const;

export type Suffix = (typeof suffixes)[number];

/** The dtypes of scales that are floats. */
export const floats: readonly SafetensorsDType[] = ["F32", "F16", "BF16"];

/** The suffixes of tensors that hold codes; every stored matrix has one of them. */
const codeSuffixes: readonly Suffix[] = ["weight", "weight_packed", "qweight", "blocks", "W_q"];

/** What torchao calls the parts of a weight, which it takes apart: `gate_proj._weight_qdata` of `gate_proj.weight`. */
export const partNames: Partial<Record<Suffix, string>> = {
  weight: "qdata",
  weight_scale: "scale",
  weight_scale_2: "per_tensor_scale",
  weight_zero_point: "zero_point",
  pre_quant_scale: "act_pre_scale",
};

/** The name of a part that torchao has of the weight `name`; undefined if it has none such. */
function partOf(name: string, suffix: Suffix): string | undefined {
  const part = partNames[suffix];
  const end = name.lastIndexOf(".") + 1;
  return part && `${name.slice(0, end)}_${name.slice(end)}_${part}`;
}

/** The names under which files may have a tensor of the weight `name`. */
export function namesOf(name: string, suffix: Suffix): readonly string[] {
  const part = partOf(name, suffix);
  return part === undefined ? wholeNames(name, suffix) : [...wholeNames(name, suffix), part];
}

function wholeNames(name: string, suffix: Suffix): readonly string[] {
  if (name.endsWith(".weight")) return [`${name.slice(0, -".weight".length)}.${suffix}`];
  if (suffix === "weight") return [name, `${name}.weight`];
  if (suffix.startsWith("weight")) {
    return [`${name}.${suffix}`, `${name}_${suffix}`, `${name}${suffix.slice("weight".length)}`];
  }
  return suffix === "scale" ? [`${name}.scale`] : [`${name}.${suffix}`, `${name}_${suffix}`];
}

/** Whether files that have certain tensors store the weight `name`, as floats or quantised. */
export function hasMatrix(has: (name: string) => boolean, name: string): boolean {
  return storedNames(name).some(has);
}

/** The suffixes of tensors that give a matrix an input order or scale. */
const inputSuffixes: readonly Suffix[] = ["g_idx", "weight_g_idx", "pre_quant_scale"];

/** Whether files that have certain tensors have one that may scale or order the inputs of the weight `name`. */
export function hasInputTensor(has: (name: string) => boolean, name: string): boolean {
  return inputSuffixes.flatMap((suffix) => namesOf(name, suffix)).some(has);
}

/** The names that the values or codes of the weight `name` may have in files. */
export function storedNames(name: string): readonly string[] {
  return codeSuffixes.flatMap((suffix) => namesOf(name, suffix));
}

/** A tensor of a matrix; of stacked ones, the tensor of all experts. */
export interface FoundTensor {
  readonly name: string;
  readonly file: TensorFile;
  readonly info: SafetensorsInfo;
}

/** The tensors with a weight, and what is known of it. */
export interface MatrixSource {
  readonly name: string;
  /** [N, K]; N counts the rows of both parts. */
  readonly shape: readonly [number, number];
  /** The shape of the pieces in which the layer will store it, or each of both parts; it may be narrower than one. */
  readonly piece: readonly [number, number];
  readonly layout: WeightLayout;
  /** Which of how many it is, if the tensors hold those of several experts. */
  readonly index: number;
  readonly count: number;
  /** Where the sizes come from, for errors. */
  readonly origin: string;
  readonly quantization: Quantization;
  readonly tensors: ReadonlyMap<Suffix, FoundTensor>;
  /** What the file's metadata say of the weight. */
  readonly description?: string | undefined;
}

/** A matrix of weights [N, K] in a checkpoint, of which schemes read the tensors that they know. */
export class StoredMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly pieceColumns: number;
  readonly quantization: Quantization;
  readonly #source: MatrixSource;
  /** Whether the files have each expert's matrix, and what belongs to it, with inputs first: [K, N]. */
  readonly #turned: boolean;
  #description: ConfigFields | undefined;

  /** Whether the tensors have the names of torchao's {@link partNames}. */
  readonly isInParts: boolean;

  constructor(source: MatrixSource) {
    [this.rows, this.columns] = source.shape;
    this.pieceColumns = Math.min(this.columns, source.piece[1]);
    this.quantization = source.quantization;
    this.#source = source;
    this.#turned = isTurned(source);
    this.isInParts = [...source.tensors].some(([suffix, { name }]) => name === partOf(source.name, suffix));
  }

  /** What the metadata of the file of a matrix in parts say of it. @throws BAD_CHECKPOINT if they do not, or not in JSON. */
  get description(): ConfigFields {
    this.#description ??= this.#parseDescription();
    return this.#description;
  }

  #parseDescription(): ConfigFields {
    const { name, tensors, origin, description } = this.#source;
    const key = JSON.stringify(name);
    if (description === undefined) {
      throw this.error(`expected torchao's metadata ${key} in the file, which tell its layout, got none`);
    }
    const [first] = tensors.values();
    const place = `${first?.file.path ?? origin}: metadata ${key}`;
    return new ConfigFields(place, parseJsonObject(place, new TextEncoder().encode(description)));
  }

  /** Whether groups of `rows` rows would be in two of the parts that the tensors hold, or of the layer's pieces. */
  cutsRows(rows: number): boolean {
    const { layout, piece } = this.#source;
    if (layout.part === "even" || layout.part === "odd") return true;
    const whole = layout.part === undefined ? this.rows : this.rows / 2;
    return (whole < this.rows && whole % rows !== 0) || (piece[0] < whole && piece[0] % rows !== 0);
  }

  /** How many matrices the tensors hold, and which of them this one is; undefined if they hold no others. */
  get stack(): { readonly count: number; readonly index: number; readonly inputsFirst: boolean } | undefined {
    const { layout, count, index } = this.#source;
    if (layout.stacked === undefined) return undefined;
    return { count, index, inputsFirst: layout.orient === "in_out" };
  }

  /** Whether the tensors hold two matrices, the rows of one after those of the other. */
  get isPair(): boolean {
    const { part } = this.#source.layout;
    return part === "first_half" || part === "second_half";
  }

  /** The size of the largest groups of columns into which groups of `size` can be divided so that no piece cuts them. */
  uncutGroup(size: number): number {
    return this.pieceColumns < this.columns ? greatestCommonDivisor(size, this.pieceColumns) : size;
  }

  /** The columns of the last piece if it is narrower than a piece; else 0. */
  get restColumns(): number {
    return this.columns % this.#source.piece[1];
  }

  /** A tensor that may be absent. */
  find(suffix: Suffix): FoundTensor | undefined {
    return this.#source.tensors.get(suffix);
  }

  has(suffix: Suffix, ...dtypes: readonly SafetensorsDType[]): boolean {
    const dtype = this.find(suffix)?.info.dtype;
    return dtype !== undefined && (dtypes.length === 0 || dtypes.includes(dtype));
  }

  /** Whether a byte of the codes is of two rows. */
  get hasPairsOfRows(): boolean {
    return hasPairsOfRows(this.#source.tensors);
  }

  /** Whether compressed-tensors stores zero points: where they are, and where its configuration has no other weights. */
  get hasZeroPoints(): boolean {
    return this.has("weight_zero_point") || this.quantization.isAsymmetric;
  }

  /** A tensor of the given dtype and shape; of any shape if none is given. @throws BAD_CHECKPOINT */
  need(suffix: Suffix, dtypes: readonly SafetensorsDType[], ...shapes: readonly Shape[]): FoundTensor {
    return this.check(this.needOfAnyDType(suffix), dtypes, ...shapes);
  }

  /** A tensor of any dtype and shape. @throws BAD_CHECKPOINT */
  needOfAnyDType(suffix: Suffix): FoundTensor {
    const tensor = this.find(suffix);
    if (tensor !== undefined) return tensor;
    const [usual] = wholeNames(this.#source.name, suffix);
    const name = (this.isInParts ? partOf(this.#source.name, suffix) : undefined) ?? usual;
    throw this.error(`expected a tensor ${JSON.stringify(name)} beside it, got none of that name`);
  }

  /** A tensor that is for all stacked matrices, of a shape of its own. @throws BAD_CHECKPOINT */
  needForAll(suffix: Suffix, dtypes: readonly SafetensorsDType[], shape: Shape): FoundTensor {
    const tensor = this.need(suffix, dtypes);
    if (sameShape(tensor.info.shape, shape)) return tensor;
    throw this.errorAt(tensor, `expected shape ${shapeText(shape)}, got ${shapeText(tensor.info.shape)}`);
  }

  /** Checks a tensor's dtype and that it has one of the shapes; all if none is given. @throws BAD_CHECKPOINT */
  check(tensor: FoundTensor, dtypes: readonly SafetensorsDType[], ...shapes: readonly Shape[]): FoundTensor {
    const { dtype, shape } = tensor.info;
    if (!dtypes.includes(dtype)) {
      throw this.errorAt(tensor, `expected dtype ${dtypes.join(" or ")}, got ${dtype}`);
    }
    if (shapes.length > 0 && !shapes.some((expected) => this.hasShape(tensor, expected))) {
      const expected = shapes.map((one) => shapeText(this.#whole(one))).join(" or ");
      throw this.errorAt(tensor, `expected shape ${expected} from ${this.#source.origin}, got ${shapeText(shape)}`);
    }
    return tensor;
  }

  /** Whether a tensor has this shape, for each expert if experts are stacked; [] is a number for each or for all. */
  hasShape(tensor: FoundTensor, shape: Shape): boolean {
    const given = tensor.info.shape;
    if (shape.length === 0 && isSingle(tensor)) return true;
    // Sizes of 1 leave the order of a tensor's values as it is.
    const turns = this.#turned && shape.length === 2;
    return (
      sameShape(given, this.#whole(shape)) || (turns && shape.includes(1) && sameShape(given, this.#stacked(shape)))
    );
  }

  /** The shape of one matrix's part of a tensor. @throws BAD_CHECKPOINT if experts are stacked and it is not. */
  shapeOf(tensor: FoundTensor): Shape {
    const { layout, count } = this.#source;
    const { shape } = tensor.info;
    if (layout.stacked === undefined) return shape;
    const [first = 0, ...rest] = shape;
    if (layout.stacked === "dim0" && first === count) return this.#turned ? rest.toReversed() : rest;
    if (layout.stacked === "rows" && first > 0 && first % count === 0) return [first / count, ...rest];
    throw this.errorAt(tensor, `expected ${count} stacked matrices, got shape ${shapeText(shape)}`);
  }

  /** The bytes of this matrix, in a tensor whose shape was checked. */
  range(tensor: FoundTensor): TensorRange {
    const { layout, count, index } = this.#source;
    if (layout.stacked === undefined || isSingle(tensor)) return this.wholeRange(tensor);
    const byteLength = tensor.info.byteLength / count;
    return { file: tensor.file, name: tensor.name, byteOffset: index * byteLength, byteLength };
  }

  wholeRange({ file, name, info }: FoundTensor): TensorRange {
    return { file, name, byteOffset: 0, byteLength: info.byteLength };
  }

  /** The bytes of a small tensor that tells how others are to be read. */
  async read({ file, name, info }: FoundTensor): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(info.byteLength);
    await file.readRange(name, 0, bytes);
    return bytes;
  }

  /**
   * The matrix in a format: each used tensor, in the order of `convert`'s bytes.
   * @throws BAD_CHECKPOINT if the files have tensors for it besides these and `pre_quant_scale`, which any matrix may have.
   */
  located(
    format: WeightFormatName,
    used: readonly FoundTensor[],
    convert: LocatedWeight["convert"],
    { ignored = [], changesInputs = false }: { ignored?: readonly Suffix[]; changesInputs?: boolean } = {},
  ): LocatedWeight {
    this.refuseOthers(format, used, [...ignored, "pre_quant_scale"]);
    const ranges = used.map((tensor) => this.range(tensor));
    const turned: LocatedWeight["convert"] =
      convert && this.#turned
        ? (bytes) => convert(bytes.map((own, index) => this.#turn(used[index] as FoundTensor, own)))
        : convert;
    return { ...this.locatedIn(format, ranges, turned), changesInputs };
  }

  /** The bytes of one matrix's part of a tensor of a turned matrix, with outputs first. */
  #turn({ info }: FoundTensor, bytes: Uint8Array): Uint8Array {
    const [, rows = 1, columns = 1] = info.shape;
    if (rows === 1 || columns === 1) return bytes;
    return asBytes(transpose(elements(bytes, bytes.byteLength / (rows * columns)), rows, columns));
  }

  /** As {@link located}, from given ranges. */
  locatedIn(
    format: WeightFormatName,
    ranges: readonly TensorRange[],
    convert: LocatedWeight["convert"],
  ): LocatedWeight {
    const { name, shape, layout } = this.#source;
    const part = layout.part === undefined ? {} : { part: layout.part };
    return { name, format, shape, layout: part, ranges, ...(convert && { convert }) };
  }

  /** @throws BAD_CHECKPOINT if there are tensors other than these. */
  refuseOthers(format: string, used: readonly FoundTensor[], ignored: readonly Suffix[]): void {
    for (const [suffix, tensor] of this.#source.tensors) {
      if (used.includes(tensor) || ignored.includes(suffix)) continue;
      throw this.errorAt(tensor, `expected no such tensor for a matrix in ${format}, which its other tensors hold`);
    }
  }

  /**
   * Checks what the tensors hold against what the configuration, or torchao's metadata, says of any matrix.
   * @param bits of a code.
   * @param count of a row's scales; undefined if they are not those of a row's groups.
   * @throws BAD_CHECKPOINT
   */
  checkStated(bits: number, count?: number): void {
    const { quantization, columns } = this;
    const has = (one: StatedStorage) =>
      (one.bits ?? bits) === bits &&
      (one.columns === undefined || count === undefined || (Math.ceil(columns / one.columns) || 1) === count);
    const held = { bits, columns: count === 1 ? Number.POSITIVE_INFINITY : count && Math.ceil(columns / count) };
    const check = (stated: readonly StatedStorage[], place: string) => {
      if (stated.length === 0 || stated.some(has)) return;
      const expected = [...new Set(stated.map(storageText))].join(" or ");
      throw this.error(`expected ${expected}, as ${place} says, got ${storageText(held)}`);
    };
    check(quantization.stated, quantization.fields?.path ?? "");
    if (!this.isInParts) return;
    const block = this.description.section("_data")?.value("block_size");
    const width = Array.isArray(block) ? block.at(-1) : block;
    if (Number.isSafeInteger(width)) check([{ columns: width as number }], this.description.path);
  }

  /** An error about the whole matrix: about its codes, if there are any. */
  error(problem: string): Error {
    const codes = codeSuffixes.map((suffix) => this.find(suffix)).find((tensor) => tensor !== undefined);
    if (codes !== undefined) return this.errorAt(codes, problem);
    const [other] = this.#source.tensors.values();
    return badCheckpoint(tensorPlace(other?.file.path ?? this.#source.origin, this.#source.name), problem);
  }

  errorAt({ file, name }: FoundTensor, problem: string): Error {
    return badCheckpoint(tensorPlace(file.path, name), problem);
  }

  /** The shape of a whole tensor, of whose part for each matrix this is the shape with outputs first. */
  #whole(one: Shape): Shape {
    return this.#stacked(this.#turned && one.length === 2 ? one.toReversed() : one);
  }

  #stacked(one: Shape): Shape {
    const { layout, count } = this.#source;
    if (layout.stacked === undefined) return one;
    return one.length === 0 ? [count] : stackedShape(one, layout.stacked, count);
  }
}

/** Whether stacked codes are [E, K, N]: as the layout says where both orders have the same shape. */
function isTurned({ shape: [rows, columns], layout, tensors }: MatrixSource): boolean {
  const codes = tensors.get("weight") ?? tensors.get("weight_packed");
  if (layout.stacked !== "dim0" || codes?.info.shape.length !== 3) return false;
  const [, first, last] = codes.info.shape;
  if (layout.orient !== "in_out" && hasPairsOfRows(tensors) && first === rows / 2 && last === columns) return false;
  return last === rows && (first !== rows || layout.orient === "in_out");
}

/** Whether a byte has the codes of two rows, as in INT4 of ModelOpt alone. */
function hasPairsOfRows(tensors: ReadonlyMap<Suffix, FoundTensor>): boolean {
  const [codes, scales] = [tensors.get("weight"), tensors.get("weight_scale")];
  return codes?.info.dtype === "U8" && scales !== undefined && floats.includes(scales.info.dtype);
}

/** A storage in words. */
function storageText({ bits, columns }: StatedStorage): string {
  const codes = bits === undefined ? [] : [`codes of ${bits} bits`];
  if (columns === undefined) return codes.join("");
  return [...codes, columns === Number.POSITIVE_INFINITY ? "whole rows" : `groups of ${columns} columns`].join(" in ");
}

/** Whether a tensor has a single value. */
function isSingle({ info }: FoundTensor): boolean {
  return info.shape.every((size) => size === 1);
}
