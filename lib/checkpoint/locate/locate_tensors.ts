import type { FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, sameShape, shapeText } from "../../core/tensors/shape.js";
import { stackedShape, storedShape, type WeightLayout } from "../../layer/weights/weight_layout.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { SafetensorsDType } from "../safetensors/dtype.js";
import { tensorPlace } from "../safetensors/header.js";
import { storedDTypes } from "../safetensors/stored_dtypes.js";
import { withInputScale } from "../schemes/input_scale.js";
import { schemes } from "../schemes/list.js";
import {
  type FoundTensor,
  type MatrixSource,
  namesOf,
  StoredMatrix,
  type Suffix,
  suffixes,
} from "../schemes/stored_matrix.js";
import { checkParts } from "../schemes/torchao.js";
import { refuseTransforms } from "../schemes/transforms.js";
import { locateIntegers } from "./locate_integers.js";
import { type Locator, type NamedWeight, nameOf, type WantedWeight } from "./locate_layer.js";
import type { LocatedWeight } from "./located_weight.js";
import type { TensorSource } from "./tensor_source.js";
import { refuseUnknownWeights } from "./unknown_weights.js";

const floatDTypes: ReadonlyMap<SafetensorsDType, FloatDType> = new Map(
  (["f32", "f16", "bf16"] as const).map((dtype) => [storedDTypes[dtype], dtype]),
);

/** What scales are called, by themselves or those of codes in groups. */
const scaleNames: readonly Suffix[] = ["weight_scale", "weight_scale_inv", "scale", "scales", "weight.absmax"];

/**
 * Looks weights up in safetensors files. Which scheme stores a matrix follows from the tensors that are there: a
 * configuration says neither that a router is quantised nor that some experts are not.
 */
export function tensorLocator(source: TensorSource): Locator {
  return async (wanted) => {
    const { shape, index, limit } = wanted;
    await refuseUnknownWeights(source, wanted);
    const weight = { ...wanted.weight, name: nameOf(wanted.weight, index) };
    if (limit !== undefined) {
      const { file, name, info } = await findTensor(source, weight.name);
      return locateIntegers({ file, name, ...info }, shape, limit, source.origin);
    }
    const vector = shape.length === 1;
    const tensors = vector ? new Map<Suffix, FoundTensor>() : await findTensors(source, weight.name);
    const plain = vector ? await findTensor(source, weight.name) : tensors.get("weight");
    if (plain === undefined && tensors.size === 0)
      return locateFloats(source, weight, wanted, await findTensor(source, weight.name));
    if (plain !== undefined && tensors.size < 2 && (vector || floatDTypes.has(plain.info.dtype))) {
      return locateFloats(source, weight, wanted, plain);
    }
    const description = await describedIn(source, weight.name, tensors);
    return await locateQuantized(source, weight, wanted, { tensors, description });
  };
}

async function findTensor({ fileOf, has }: TensorSource, name: string): Promise<FoundTensor> {
  const old = `${name}:_data`;
  if (!has(name) && has(old)) {
    const expected = `expected the name ${JSON.stringify(name)}`;
    const remedy = "got one that only torchao 0.14 writes; save the model again with a later version";
    throw badCheckpoint(tensorPlace((await fileOf(old)).path, old), `${expected}, ${remedy}`);
  }
  const file = await fileOf(name);
  return { name, file, info: file.info(name) };
}

/** All tensors of a matrix. */
async function findTensors(source: TensorSource, name: string): Promise<Map<Suffix, FoundTensor>> {
  const found = new Map<Suffix, FoundTensor>();
  for (const suffix of suffixes) {
    const stored = namesOf(name, suffix).find((candidate) => source.has(candidate));
    // Inkling's factor of all weights has the name of a scale of its router.
    if (stored !== undefined && stored !== source.tensors?.expertScale?.name)
      found.set(suffix, await findTensor(source, stored));
  }
  return found;
}

/** What the metadata of the file that has a matrix say under its name. */
async function describedIn(
  { fileOf }: TensorSource,
  name: string,
  tensors: ReadonlyMap<Suffix, FoundTensor>,
): Promise<string | undefined> {
  const [first] = tensors.values();
  if (first === undefined) return undefined;
  const { metadata } = await fileOf(first.name);
  return Object.hasOwn(metadata, name) ? metadata[name] : undefined;
}

function locateFloats(
  { origin }: TensorSource,
  { stacked, name: whole, ...named }: NamedWeight,
  { shape, index, count }: WantedWeight,
  { name, file, info }: FoundTensor,
): LocatedWeight {
  const layout = stacked === "dim0" ? turnedTo(info.shape.slice(1), shape, named) : named;
  const place = tensorPlace(file.path, name);
  const format = floatDTypes.get(info.dtype);
  if (format === undefined) throw badCheckpoint(place, `expected dtype F32, F16 or BF16, got ${info.dtype}`);
  const one = storedShape(shape, layout);
  const all = stacked === undefined ? one : stackedShape(one, stacked, count);
  const vector = shape.length === 1 && stacked === undefined;
  if (!sameShape(vector ? inOneRow(info.shape, layout) : info.shape, all)) {
    const got = shapeText(info.shape);
    throw badCheckpoint(place, `expected shape ${shapeText(all)} from ${origin}, got ${got}`);
  }
  const byteLength = stacked ? info.byteLength / count : info.byteLength;
  const range = { file, name, byteOffset: stacked ? index * byteLength : 0, byteLength };
  return { name: whole, format, shape: one, layout, ranges: [range] };
}

/** The layout of stacked matrices of this shape: with the other orient if that alone has it. */
function turnedTo(stored: Shape, shape: Shape, layout: WeightLayout): WeightLayout {
  const turned = { ...layout, orient: layout.orient === "in_out" ? "out_in" : "in_out" } as const;
  const has = (one: WeightLayout) => sameShape(stored, storedShape(shape, one));
  return has(turned) && !has(layout) ? turned : layout;
}

async function locateQuantized(
  { origin, quantization }: TensorSource,
  { name, ...layout }: NamedWeight,
  { shape, index, count, piece }: WantedWeight,
  { tensors, description }: Pick<MatrixSource, "tensors" | "description">,
): Promise<LocatedWeight> {
  refuseTransforms(quantization);
  const [rows, columns] = storedShape(shape, { ...layout, orient: "out_in" }) as [number, number];
  const common = { name, layout, index, count, origin, quantization, tensors, description };
  const matrix = new StoredMatrix({ ...common, shape: [rows, columns], piece: piece as [number, number] });
  checkParts(matrix);
  const scheme = schemes.find((scheme) => scheme.takes(matrix));
  if (scheme !== undefined) {
    const located = withInputScale(matrix, await scheme.locate(matrix));
    if (quantization.isKnown) return located;
    throw quantization.explain(matrix.error("expected floats, got codes with scales"));
  }
  const codes = tensors.get("weight");
  if (codes === undefined || !floatDTypes.has(codes.info.dtype)) {
    const others = [...tensors.values()].filter((tensor) => tensor !== codes);
    const listed = others.map(({ name, info }) => `${JSON.stringify(name)} (${info.dtype})`).join(", ");
    const beside = others.length === 0 ? "" : ` beside ${listed}`;
    const [usual] = namesOf(name, "weight_scale");
    const hasScales = scaleNames.some((suffix) => matrix.has(suffix));
    const missing = hasScales ? "" : ` and no scales, such as ${JSON.stringify(usual)}`;
    throw matrix.error(
      `expected dtype F32, F16 or BF16, or codes with scales, got ${codes?.info.dtype ?? "none of these"}${beside}${missing}`,
    );
  }
  matrix.refuseOthers(codes.info.dtype, [codes], []);
  throw matrix.error("expected floats or codes with scales");
}

/** A bias may be stored as a matrix with one row, and one of two halves as a row of two. */
function inOneRow([rows, ...rest]: Shape, { part }: WeightLayout): Shape {
  if (rest.length === 0 || (rows !== 1 && !isRowOfTwo(rows, part))) return [rows as number, ...rest];
  const [first, ...more] = inOneRow(rest, {});
  return [(rows as number) * (first as number), ...more];
}

function isRowOfTwo(rows: number | undefined, part: WeightLayout["part"]): boolean {
  return rows === 2 && (part === "first_half" || part === "second_half");
}
