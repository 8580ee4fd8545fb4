import type { LayerFormats } from "../../core/backend.js";
import { checkFloatDType, dtypeNames, type FloatDType } from "../../core/dtype.js";
import { invalidArgument } from "../../core/errors.js";
import { type Fields, floatDType, object, optional, type Reader } from "../../core/options.js";
import type { WeightFormatName } from "../../core/weight_format.js";
import { findFormat, isPlain, weightFormat } from "../../core/weight_formats.js";
import { quantizableFormat } from "../../operators/formats/quantize.js";

/**
 * How a layer's weights are stored, by role: a dtype or, for the experts' matrices, the name of any weight format, to
 * which they are quantised if they are not in it. A role that is left out keeps the format of the given weights. Tokens
 * may have any dtype, except that f64 can only be combined with f64.
 */
export interface WeightDTypes {
  /** The router, including the additional ones of noisy and hierarchical gating. */
  router?: FloatDType;
  /** All matrices of the experts, the shared expert included. */
  experts?: WeightFormatName;
  /** The experts' gate matrices; default `experts`. The same holds for `up`, `factor` and `down`. */
  gate?: WeightFormatName;
  up?: WeightFormatName;
  factor?: WeightFormatName;
  down?: WeightFormatName;
  sharedGate?: FloatDType;
  /** All biases except the selection bias, which is f32. */
  biases?: FloatDType;
}

/** How each role of a layer is stored. */
export interface WeightStorage {
  readonly formats: LayerFormats;
  readonly biasDType: FloatDType;
}

/** The formats of the weights that a layer is made from; for experts, those of the first. */
export type GivenFormats = { readonly [Role in keyof LayerFormats]?: WeightFormatName | undefined } & {
  readonly router: FloatDType;
  readonly sharedGate?: FloatDType | undefined;
  readonly biases?: FloatDType | undefined;
};

/** A dtype, or the name of a format that weights can be quantised to; reads short names as the names they stand for. */
export const storageFormat: Reader<WeightFormatName> = (value, name) => {
  const format = typeof value === "string" ? findFormat(value) : undefined;
  if (format !== undefined) return isPlain(format) ? format.name : quantizableFormat(format.name, name).name;
  if ((dtypeNames as readonly unknown[]).includes(value)) checkFloatDType(name, value);
  throw invalidArgument(name, 'f32, f16, bf16 or a weight format such as "int4_g128" or "mxfp4"', value);
};

const roleDTypes = {
  router: optional(floatDType),
  experts: optional(storageFormat),
  gate: optional(storageFormat),
  up: optional(storageFormat),
  factor: optional(storageFormat),
  down: optional(storageFormat),
  sharedGate: optional(floatDType),
  biases: optional(floatDType),
} satisfies Fields<WeightDTypes>;
const readRoleDTypes = object(roleDTypes, '{ experts: "bf16", router: "f32" }');

/**
 * One format for all roles, or an object of formats by role. A quantised one is that of the experts' matrices; all else
 * is then as by default.
 */
export const weightDTypes: Reader<WeightFormatName | WeightDTypes> = (value, name) =>
  typeof value === "object" && value !== null
    ? (readRoleDTypes(value, name) as WeightDTypes)
    : storageFormat(value, name);

/** Whether a value of the option `dtype` is one dtype for all roles. */
export function isUniform(dtype: WeightFormatName | WeightDTypes | undefined): dtype is FloatDType {
  return typeof dtype === "string" && isPlain(weightFormat(dtype));
}

/**
 * The storage of each role for the option `dtype`. By default quantised experts keep their format, and all else has the
 * dtype of the router.
 */
export function weightStorage(dtype: WeightFormatName | WeightDTypes | undefined, given: GivenFormats): WeightStorage {
  if (isUniform(dtype)) return uniformStorage(dtype);
  if (typeof dtype !== "object") {
    const storage = keepQuantized(given);
    if (dtype === undefined) return storage;
    return { ...storage, formats: { ...storage.formats, gate: dtype, up: dtype, factor: dtype, down: dtype } };
  }
  const { experts, biases = given.biases ?? given.router } = dtype;
  const expert = (role: "gate" | "up" | "factor" | "down") => dtype[role] ?? experts ?? given[role] ?? given.router;
  const formats = {
    router: dtype.router ?? given.router,
    sharedGate: dtype.sharedGate ?? given.sharedGate ?? given.router,
    gate: expert("gate"),
    up: expert("up"),
    factor: expert("factor"),
    down: expert("down"),
  };
  const all = [...Object.values(formats), biases].filter((name) => isPlain(weightFormat(name)));
  if (all.includes("f64") && all.some((one) => one !== "f64")) {
    throw invalidArgument("dtype", "f64 for all roles or for none", all.join(", "));
  }
  return { formats, biasDType: biases };
}

function keepQuantized(given: GivenFormats): WeightStorage {
  const { formats, biasDType } = uniformStorage(given.router);
  const quantized = Object.entries(given).filter(([, name]) => name !== undefined && !isPlain(weightFormat(name)));
  return { formats: { ...formats, ...Object.fromEntries(quantized) }, biasDType };
}

/** All roles in one dtype. */
export function uniformStorage(dtype: FloatDType): WeightStorage {
  const formats = { router: dtype, sharedGate: dtype, gate: dtype, up: dtype, factor: dtype, down: dtype };
  return { formats, biasDType: dtype };
}
