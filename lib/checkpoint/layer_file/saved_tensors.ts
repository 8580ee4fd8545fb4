import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { type InputField, inputFields, isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { type DType, dtypes, type FloatDType } from "../../core/tensors/dtype.js";
import { type Shape, sameShape, shapeText } from "../../core/tensors/shape.js";
import { biasRoles, formatsOf, matrixRoles, presentRoles } from "../../layer/description/storage.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import { extraWeights } from "../../layer/weights/extra_weights.js";
import { quantizedTensors } from "../../operators/experts/quantized_weight.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { locateIntegers } from "../locate/locate_integers.js";
import { type LayerTensors, type Locator, type NamedWeight, nameOf } from "../locate/locate_layer.js";
import type { LocatedWeight, QuantizedBytes } from "../locate/located_weight.js";
import type { SafetensorsFile } from "../safetensors/file.js";
import { tensorPlace } from "../safetensors/header.js";
import { storedDTypes } from "../safetensors/stored_dtypes.js";
import type { SavedLayer } from "./saved_layer.js";

const expertName = /^experts\.\d+\./;

/**
 * The names of the tensors of a saved layer, which are those of the options of MoeLayer.create.
 * @throws BAD_CHECKPOINT for a tensor that such a layer does not have.
 */
export function savedTensors(file: SafetensorsFile, saved: SavedLayer): LayerTensors {
  const { config, storage } = saved;
  const { sharedExpert } = config;
  /** The file's names, with {e} for the numbers of experts. */
  const names = new Set([...file.tensors.keys()].map((name) => name.replace(expertName, "experts.{e}.")));
  const has = (name: string) => names.has(name) || names.has(`${name}.codes`);
  const expert = (prefix: string): ExpertWeights<NamedWeight, NamedWeight> => {
    const biases = biasRoles.filter((role) => has(`${prefix}.${role}`));
    const roles = presentRoles([...matrixRoles, ...biases], config);
    return Object.fromEntries(roles.map((role) => [role, { name: `${prefix}.${role}` }])) as unknown as ExpertWeights<
      NamedWeight,
      NamedWeight
    >;
  };
  const hasShared = sharedExpert !== undefined && storage.bank.first === 0;
  const gate = sharedExpert?.gate ?? "none";
  const hasGate = gate === "softmax" || (hasShared && gate !== "none");
  const optional = ["routerBias", "selectionBias", ...(hasGate ? ["sharedGateBias"] : [])].filter(has);
  const extra = extraWeights(config).filter((router) => !router.optional || has(router.role));
  const single = ["router", ...(hasGate ? ["sharedGate"] : []), ...optional, ...extra.map(({ role }) => role)];
  const tensors = {
    ...Object.fromEntries(single.map((name) => [name, { name }])),
    experts: expert("experts.{e}"),
    ...(hasShared && { shared: expert("shared") }),
  } as unknown as LayerTensors;
  checkNames(file, names, tensors);
  return tensors;
}

function checkNames(
  file: SafetensorsFile,
  names: ReadonlySet<string>,
  { experts, shared, ...single }: LayerTensors,
): void {
  const weights = [
    ...Object.values(single),
    ...Object.values(experts),
    ...Object.values(shared ?? {}),
  ] as NamedWeight[];
  const known = new Set(weights.map(({ name }) => name));
  for (const name of names) {
    if (known.has(name) || known.has(name.slice(0, name.lastIndexOf(".")))) continue;
    throw badCheckpoint(
      file.path,
      `expected no tensor ${JSON.stringify(name)}, which the layer of this file does not have`,
    );
  }
}

/** Looks up the weights of a saved layer. */
export function savedLocator(file: SafetensorsFile, { storage }: SavedLayer): Locator {
  const formats = new Map<string, WeightFormatName>();
  for (const [set, prefix] of [
    ["experts", "experts.{e}"],
    ["shared", "shared"],
  ] as const) {
    const stored = formatsOf(storage.weights.formats, set);
    for (const role of matrixRoles) formats.set(`${prefix}.${role}`, stored[role]);
  }
  for (const role of ["latentDown", "latentUp"] as const) {
    const stored = storage.weights.formats[role];
    if (stored !== undefined) formats.set(role, stored);
  }
  return async ({ weight, shape, index, limit }) => {
    const format = formats.get(weight.name);
    const name = nameOf(weight, index);
    if (limit !== undefined) {
      return locateIntegers({ file, name, ...file.info(name) }, shape, limit, "the file's metadata");
    }
    return format === undefined || isPlain(weightFormat(format))
      ? locatePlain(file, name, shape)
      : locateQuantized(file, name, format, shape);
  };
}

function locatePlain(file: SafetensorsFile, name: string, shape: Shape): LocatedWeight {
  const info = file.info(name);
  const format = (Object.keys(storedDTypes) as DType[]).find((dtype) => storedDTypes[dtype] === info.dtype);
  const place = tensorPlace(file.path, name);
  if (format === undefined || !dtypes[format].float) {
    throw badCheckpoint(place, `expected dtype F32, F16, BF16 or F64, got ${info.dtype}`);
  }
  checkShape(place, info.shape, shape);
  const range = { file, name, byteOffset: 0, byteLength: info.byteLength };
  return { name, format: format as FloatDType, shape, layout: {}, ranges: [range] };
}

/** A matrix whose tensors have the fields of QuantizedWeight. */
function locateQuantized(file: SafetensorsFile, name: string, format: WeightFormatName, shape: Shape): LocatedWeight {
  const has = (field: InputField) => file.tensors.has(`${name}.${field}`);
  const present = quantizedTensors(format, shape, has);
  const ranges = present.map(([field, expected, dtype]) => {
    const tensor = `${name}.${field}`;
    const info = file.info(tensor);
    const place = tensorPlace(file.path, tensor);
    if (info.dtype !== storedDTypes[dtype]) {
      throw badCheckpoint(place, `expected dtype ${storedDTypes[dtype]} for ${format}, got ${info.dtype}`);
    }
    checkShape(place, info.shape, expected);
    return { file, name: tensor, byteOffset: 0, byteLength: info.byteLength };
  });
  const convert = (bytes: readonly Uint8Array[]) =>
    Object.fromEntries(present.map(([field], index) => [field, bytes[index]])) as unknown as QuantizedBytes;
  return { name, format, shape, layout: {}, ranges, changesInputs: inputFields.some(has), convert };
}

function checkShape(place: string, shape: Shape, expected: Shape): void {
  if (sameShape(shape, expected)) return;
  throw badCheckpoint(place, `expected shape ${shapeText(expected)} from the file's metadata, got ${shapeText(shape)}`);
}
