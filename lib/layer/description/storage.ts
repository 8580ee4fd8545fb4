import type { ExpertFormats, LayerFormats } from "../../core/device/backend.js";
import { unexpected } from "../../core/errors.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import { findFormat, isPlain, misspelt, weightFormat } from "../../core/formats/weight_formats.js";
import { type Fields, floatDType, object, optional, type Reader } from "../../core/input/options.js";
import { type Activation, isGated } from "../../core/layer/activation.js";
import { checkFloatDType, dtypeNames, type FloatDType } from "../../core/tensors/dtype.js";
import { quantizableFormat } from "../../operators/formats/quantize.js";

/**
 * How a layer's weights are stored, by role: a dtype or, for the experts' matrices, the name of any weight format, to
 * which they are quantised if they are not in it. A role that is left out keeps the format of the given weights. Tokens
 * may have any dtype, except that f64 can only be combined with f64.
 */
export interface WeightDTypes {
  /** The router, including the additional ones of noisy and hierarchical gating. */
  router?: FloatDType | undefined;
  /** All matrices of the experts, the shared expert included. */
  experts?: WeightFormatName | undefined;
  /** The experts' gate matrices; default `experts`. The same holds for `up`, `multiplier` and `down`. */
  gate?: WeightFormatName | undefined;
  /** Default `experts`. */
  up?: WeightFormatName | undefined;
  /** The third projection; default `experts`. */
  multiplier?: WeightFormatName | undefined;
  /** Default `experts`. */
  down?: WeightFormatName | undefined;
  /** All matrices of the shared expert; default: as for the other experts. */
  shared?: WeightFormatName | undefined;
  /** The shared expert's gate. */
  sharedGate?: FloatDType | undefined;
  /** Both projections of `latent`. */
  latent?: WeightFormatName | undefined;
  /** All biases except the selection bias, which is f32. */
  biases?: FloatDType | undefined;
}

/** How each role of a layer is stored. */
export interface WeightStorage {
  readonly formats: LayerFormats;
  readonly biasDType: FloatDType;
  /** Whether gate or up come with an input scale or order of their own, which matters where they stay quantised. */
  readonly separateGate?: boolean;
}

/** The formats of an expert's matrices, as given. */
export type GivenExpert = { readonly [Role in keyof ExpertFormats]?: WeightFormatName | undefined };

/** The formats of the weights that a layer is made from; for experts, those of the first. */
export interface GivenFormats extends GivenExpert {
  readonly router: FloatDType;
  readonly sharedGate?: FloatDType | undefined;
  readonly shared?: GivenExpert | undefined;
  readonly latentDown?: WeightFormatName | undefined;
  readonly latentUp?: WeightFormatName | undefined;
  readonly biases?: FloatDType | undefined;
}

/** The routed experts, or the shared one. */
export type ExpertSet = "experts" | "shared";

/** The formats of one set of experts. */
export function formatsOf({ shared, ...experts }: LayerFormats, set: ExpertSet): ExpertFormats {
  return set === "shared" && shared ? shared : experts;
}

/** The roles of experts' matrices. */
export const matrixRoles = ["gate", "up", "multiplier", "down"] as const satisfies readonly (keyof ExpertFormats)[];

/** The role of an expert's matrix. */
export type MatrixRole = (typeof matrixRoles)[number];

/** The roles of experts' biases. */
export const biasRoles = ["gateBias", "upBias", "downBias"] as const;

/** Of some roles, those that experts of this formula can have. */
export function presentRoles<Role extends string>(
  roles: readonly Role[],
  {
    activation = "swiglu",
    multiplier = false,
  }: { readonly activation?: Activation | undefined; readonly multiplier?: boolean | undefined },
): readonly Role[] {
  return roles.filter((role) => (role.startsWith("gate") ? isGated(activation) : role !== "multiplier" || multiplier));
}

/** A dtype, or the name of a format that weights can be quantised to; reads short names as the names they stand for. */
export const storageFormat: Reader<WeightFormatName> = (value, name) => {
  const format = typeof value === "string" ? findFormat(value) : undefined;
  if (format !== undefined) return isPlain(format) ? format.name : quantizableFormat(format.name, name).name;
  if ((dtypeNames as readonly unknown[]).includes(value)) checkFloatDType(name, value);
  throw unexpected(name, 'f32, f16, bf16 or a weight format such as "int4_g128" or "mxfp4"', misspelt(value));
};

const roleDTypes = {
  router: optional(floatDType),
  experts: optional(storageFormat),
  gate: optional(storageFormat),
  up: optional(storageFormat),
  multiplier: optional(storageFormat),
  down: optional(storageFormat),
  shared: optional(storageFormat),
  sharedGate: optional(floatDType),
  latent: optional(storageFormat),
  biases: optional(floatDType),
} satisfies Fields<WeightDTypes>;
const readRoleDTypes = object(roleDTypes, '{ experts: "bf16", router: "f32" }');

/**
 * One format for all roles, or an object of formats by role. A quantised one is that of the experts' matrices; all else
 * then stays as it is given.
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
 * The storage of each role for the option `dtype`. By default everything keeps the format it is given in; but since f64
 * goes with f64 alone, all has the dtype of the router where only some of the weights are f64 and none is quantised.
 */
export function weightStorage(dtype: WeightFormatName | WeightDTypes | undefined, given: GivenFormats): WeightStorage {
  if (isUniform(dtype)) return uniformStorage(dtype);
  if (dtype === undefined && isPartlyF64(given)) return uniformStorage(given.router);
  const byDefault = given.router === "f64" ? { sharedGate: given.router, biases: given.router } : {};
  const byRole: WeightDTypes = typeof dtype === "object" ? dtype : byDefault;
  const { router = given.router, sharedGate, latent, biases } = byRole;
  const latentDown = latent ?? given.latentDown;
  const latentUp = latent ?? given.latentUp;
  const storage = {
    formats: {
      router,
      sharedGate: sharedGate ?? given.sharedGate ?? given.router,
      ...expertFormats(dtype, given),
      ...(latentDown && { latentDown }),
      ...(latentUp && { latentUp }),
    },
    biasDType: biases ?? given.biases ?? given.router,
  };
  const { shared, ...formats } = storage.formats;
  const all = [...Object.values(formats), ...Object.values(shared ?? {}), storage.biasDType];
  const plain = all.filter((name) => isPlain(weightFormat(name)));
  if (plain.includes("f64") && plain.some((one) => one !== "f64")) {
    throw unexpected("dtype", "f64 for all roles or for none", plain.join(", "));
  }
  return storage;
}

/** Whether some of the given weights are f64, others of another dtype, and none quantised. */
function isPartlyF64({ shared = {}, ...given }: GivenFormats): boolean {
  const formats = [...Object.values(given), ...Object.values(shared)].filter((format) => format !== undefined);
  return (
    formats.every((format) => isPlain(weightFormat(format))) && formats.includes("f64") && new Set(formats).size > 1
  );
}

/** The formats of all experts; those of the shared expert apart if a matrix that it has differs. */
function expertFormats(
  dtype: WeightFormatName | WeightDTypes | undefined,
  given: GivenFormats,
): Pick<LayerFormats, keyof ExpertFormats | "shared"> {
  const formats = (set: ExpertSet, own: GivenExpert) => {
    const format = (role: keyof ExpertFormats) => askedFormat(dtype, set, role) ?? own[role] ?? given.router;
    return Object.fromEntries(matrixRoles.map((role) => [role, format(role)])) as unknown as ExpertFormats;
  };
  const experts = formats("experts", given);
  const shared = formats("shared", given.shared ?? {});
  const differs = matrixRoles.some((role) => given.shared?.[role] !== undefined && shared[role] !== experts[role]);
  return differs ? { ...experts, shared } : experts;
}

/** The formats of the matrices that a layer's routed experts have, each once. */
export function routedFormats(layer: {
  readonly formats: LayerFormats;
  readonly activation: Activation;
  readonly multiplier: boolean;
}): readonly WeightFormatName[] {
  return [...new Set(presentRoles(matrixRoles, layer).map((role) => layer.formats[role]))];
}

/** What the option `dtype` asks for, for a matrix of the routed experts or of the shared expert. */
export function askedFormat(
  dtype: WeightFormatName | WeightDTypes | undefined,
  set: ExpertSet,
  role: keyof ExpertFormats,
): WeightFormatName | undefined {
  if (typeof dtype !== "object") return dtype;
  return (set === "shared" ? dtype.shared : undefined) ?? dtype[role] ?? dtype.experts;
}

/** All roles in one dtype. */
export function uniformStorage(dtype: FloatDType): WeightStorage {
  const formats = { router: dtype, sharedGate: dtype, gate: dtype, up: dtype, multiplier: dtype, down: dtype };
  return { formats, biasDType: dtype };
}
