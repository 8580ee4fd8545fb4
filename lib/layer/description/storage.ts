import type { LayerFormats } from "../../core/backend.js";
import type { FloatDType } from "../../core/dtype.js";
import { invalidArgument } from "../../core/errors.js";
import { type Fields, floatDType, object, optional, type Reader } from "../../core/options.js";
import type { WeightFormatName } from "../../core/weight_format.js";
import { isPlain, weightFormat } from "../../core/weight_formats.js";

/**
 * Storage dtypes of a layer's weights by role. A role that is left out keeps the dtype of the given weights. Tokens may
 * have any dtype, except that f64 can only be combined with f64.
 */
export interface WeightDTypes {
  /** The router, including the additional ones of noisy and hierarchical gating. */
  router?: FloatDType;
  /** All matrices of the experts, the shared expert included. */
  experts?: FloatDType;
  /** The experts' gate matrices; default `experts`. The same holds for `up`, `factor` and `down`. */
  gate?: FloatDType;
  up?: FloatDType;
  factor?: FloatDType;
  down?: FloatDType;
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

const roleDTypes = {
  router: optional(floatDType),
  experts: optional(floatDType),
  gate: optional(floatDType),
  up: optional(floatDType),
  factor: optional(floatDType),
  down: optional(floatDType),
  sharedGate: optional(floatDType),
  biases: optional(floatDType),
} satisfies Fields<WeightDTypes>;
const readRoleDTypes = object(roleDTypes, '{ experts: "bf16", router: "f32" }');

/** One dtype for all roles, read by `one`, or an object of dtypes by role. */
export function weightDTypes(one: Reader<FloatDType>): Reader<FloatDType | WeightDTypes> {
  return (value, name) =>
    typeof value === "object" && value !== null ? (readRoleDTypes(value, name) as WeightDTypes) : one(value, name);
}

/**
 * The storage of each role for the option `dtype`. By default quantised experts keep their format, and all else has the
 * dtype of the router.
 */
export function weightStorage(dtype: FloatDType | WeightDTypes | undefined, given: GivenFormats): WeightStorage {
  if (typeof dtype === "string") return uniformStorage(dtype);
  if (dtype === undefined) return keepQuantized(given);
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
