import { weightFormat } from "../../core/formats/weight_formats.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, sameShape, shapeText } from "../../core/tensors/shape.js";
import { stackedShape, storedShape } from "../../layer/weights/weight_layout.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { locateIntegers } from "../locate/locate_integers.js";
import { type LayerTensors, type Locator, type NamedWeight, nameOf, sizesIn } from "../locate/locate_layer.js";
import type { QuantizedBytes, TensorRange } from "../locate/located_weight.js";
import { tensorPlace } from "../safetensors/header.js";
import { asBytes, floatValues } from "../schemes/bits.js";
import { blockTypes, convertBlocksAside } from "./blocks/convert.js";
import { blockValues } from "./blocks/values.js";
import type { GgufFile } from "./file.js";
import type { SplitGguf } from "./split.js";
import type { GgufType } from "./types.js";

const floatTypes: ReadonlyMap<GgufType, FloatDType> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
]);

const loadable = [...floatTypes.keys(), ...blockTypes.keys()].join(", ");

/** Where weights are looked up. */
interface Source {
  readonly files: SplitGguf;
  /** What the expected shapes are from, for errors. */
  readonly origin: string;
  /** The names of the layer's tensors; none for weights outside of layers. */
  readonly tensors: Partial<LayerTensors>;
}

/**
 * Looks weights up in GGUF files. A matrix that has to be cut inside its groups, as the down projection of a wide shared
 * expert may have to be, is located as float32, and so is one with a scale that its type has no place for.
 */
export function ggufLocator({ files, origin, tensors }: Source): Locator {
  const { routerNormWeight, expertScale } = tensors;
  const ofLayer = new Set([routerNormWeight?.name, expertScale?.name]);
  /** Whether the scale beside a matrix is a weight of the layer's formula. */
  const isOfLayer = (weight: NamedWeight) => ofLayer.has(scaleName(weight, 0));
  return async ({ weight, shape, index, count, piece, limit }) => {
    const name = nameOf(weight, index);
    const file = files.fileOf(name);
    const place = tensorPlace(file.path, name);
    const { type, byteLength: allBytes, shape: stored } = file.info(name);
    if (limit !== undefined) {
      const tensor = { file, name, byteLength: allBytes, dtype: type, shape: stored };
      return locateIntegers(tensor, shape, limit, origin);
    }
    const { name: _, stacked, ...layout } = weight;
    const one = storedShape(shape, layout);
    checkShape(file, name, stacked === undefined ? one : stackedShape(one, stacked, count), origin);
    const byteLength = stacked === undefined ? allBytes : allBytes / count;
    const range = { file, name, byteOffset: stacked === undefined ? 0 : index * byteLength, byteLength };
    const common = { name, shape: one, layout };
    const scale = isOfLayer(weight) ? undefined : scaleRange(files, weight, index, count);
    const float = floatTypes.get(type);
    if (float !== undefined && scale === undefined) return { ...common, format: float, ranges: [range] };
    const format = float ?? blockTypes.get(type)?.format;
    if (format === undefined || shape.length === 1) {
      const expected = shape.length === 1 ? [...floatTypes.keys()].join(", ") : loadable;
      throw badCheckpoint(place, `expected one of the types ${expected}, got ${type}`);
    }
    const [rows, columns] = one as [number, number];
    const pieceColumns = piece.at(-1) as number;
    const ranges = scale === undefined ? [range] : [range, scale];
    const keepsScale = scale === undefined || type === "NVFP4";
    const convert = (bytes: readonly Uint8Array[]) => converted(type, bytes, rows, place);
    const values = async (bytes: readonly Uint8Array[]) => {
      const factor = keepsScale ? 1 : scaleIn(bytes[1], place);
      const stored =
        float === undefined
          ? blockValues(format, await convert(bytes), [rows, columns])
          : floatValues(float, bytes[0] as Uint8Array);
      return factor === 1 ? stored : stored.map((value) => value * factor);
    };
    if (keepsScale && (pieceColumns >= columns || !cutsGroups(format, pieceColumns))) {
      return { ...common, format, ranges, convert, values };
    }
    return { ...common, format: "f32", ranges, convert: async (bytes) => ({ codes: asBytes(await values(bytes)) }) };
  };
}

/** Whether pieces of this many columns begin within a group of columns. */
function cutsGroups(name: string, pieceColumns: number): boolean {
  const { scales, superScales } = weightFormat(name);
  return pieceColumns % (superScales?.columns || scales?.columns || 1) !== 0;
}

/** Sizes of 1 in front say nothing: ggml has four sizes for every tensor, and drops such. */
function checkShape(file: GgufFile, name: string, expected: Shape, origin: string): void {
  const { shape } = file.info(name);
  if (sameShape(trimmed(shape), trimmed(expected))) return;
  throw badCheckpoint(
    tensorPlace(file.path, name),
    `expected shape ${shapeText(expected)} from ${origin}, got ${shapeText(shape)}`,
  );
}

function trimmed(shape: Shape): Shape {
  return shape.length > 1 && shape[0] === 1 ? trimmed(shape.slice(1)) : shape;
}

function scaleName(weight: NamedWeight, expert: number): string {
  return nameOf(weight, expert).replace(/\.weight$/, ".scale");
}

/**
 * A float32 for each expert, `.scale` [E] or [1], by which ggml multiplies the product. Tensors of NVFP4 have it, and those that
 * were quantised again from these.
 */
function scaleRange(files: SplitGguf, weight: NamedWeight, expert: number, count: number): TensorRange | undefined {
  const name = scaleName(weight, expert);
  if (name === nameOf(weight, expert) || !files.has(name)) return undefined;
  const file = files.fileOf(name);
  const place = tensorPlace(file.path, name);
  const { type: own } = file.info(name);
  if (own !== "F32") throw badCheckpoint(place, `expected type F32, got ${own}`);
  checkShape(file, name, weight.stacked === undefined ? [1] : [count], sizesIn(files.path));
  return { file, name, byteOffset: weight.stacked === undefined ? 0 : 4 * expert, byteLength: 4 };
}

async function converted(
  type: GgufType,
  [blocks, scaleBytes]: readonly Uint8Array[],
  rows: number,
  place: string,
): Promise<QuantizedBytes> {
  const weight = await convertBlocksAside(type, blocks as Uint8Array, place);
  if (type !== "NVFP4") return weight;
  return { ...weight, superScales: new Float32Array(rows).fill(scaleIn(scaleBytes, place)) };
}

/** 1 if there is no scale. */
function scaleIn(bytes: Uint8Array | undefined, place: string): number {
  const scale = bytes === undefined ? 1 : new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
  if (Number.isFinite(scale)) return scale;
  throw badCheckpoint(place, `scale: expected a finite number, got ${scale}`);
}
