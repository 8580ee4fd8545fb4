import { cannotCombine, invalidArgument } from "../core/errors.js";
import { choice, type Fields, object, optional, type Reader, text } from "../core/input/options.js";
import { withoutUndefined } from "../core/input/without_undefined.js";
import { isGated } from "../core/layer/activation.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import { type ExpertWeights, mapExpert } from "../layer/weights/expert_weights.js";
import { checkExtraWeights } from "../layer/weights/extra_weights.js";
import type { LayerWeights } from "../layer/weights/layer_weights.js";
import { orients, stackings } from "../layer/weights/weight_layout.js";
import { parts } from "../operators/experts/quantized_weight.js";
import { isNumbered, type LayerTensors, type NamedWeight } from "./locate/locate_layer.js";

/** A tensor's name, or its name and how it holds the weight. */
export type TensorName = string | NamedWeight;

/**
 * The names of a layer's tensors in a checkpoint, by the roles of MoeLayer.create. In the names of experts' tensors, `{e}`
 * stands for the expert's number, unless all are in one tensor (`stacked`).
 */
export type LayerTensorNames = LayerWeights<TensorName>;

const powerOfTwo: Reader<number> = (value, name) => {
  if (typeof value === "number" && value > 0 && Number.isInteger(Math.log2(value))) return value;
  throw invalidArgument(name, "a power of two, such as 0.5", value);
};

const named = object(
  {
    name: text,
    factor: optional(powerOfTwo),
    orient: optional(choice(orients)),
    part: optional(choice(parts)),
    stacked: optional(choice(stackings)),
  } satisfies Fields<NamedWeight>,
  '{ name: "model.layers.{layer}.mlp.gate.weight", orient: "out_in" }',
);

/** A weight of the whole layer. */
const tensorName: Reader<NamedWeight> = (value, name) => {
  const read = typeof value === "string" ? { name: value } : named(value, name);
  if (read.name === "") throw invalidArgument(name, "the name of a tensor", read.name);
  return withoutUndefined(read);
};

const single: Reader<NamedWeight> = (value, name) => {
  const read = tensorName(value, name);
  if (read.stacked !== undefined) throw cannotCombine(`${name}.stacked`, "a weight that is not an expert's");
  return read;
};

/** A table, which is stored in one way alone. */
const table: Reader<NamedWeight> = (value, name) => {
  const read = single(value, name);
  for (const field of ["orient", "part"] as const) {
    if (read[field] !== undefined) throw cannotCombine(`${name}.${field}`, "a table");
  }
  return read;
};

/** A weight of all experts. */
const ofExperts: Reader<NamedWeight> = (value, name) => {
  const read = tensorName(value, name);
  if (isNumbered(read.name) !== (read.stacked !== undefined)) return read;
  if (read.stacked !== undefined) throw cannotCombine(`${name}.stacked`, "{e} in the tensor's name");
  const expected = 'a name with {e} for the expert\'s number, or stacked: "dim0" for a tensor with all experts';
  throw invalidArgument(name, expected, read.name);
};

function expert(one: Reader<NamedWeight>): Reader<ExpertWeights<NamedWeight, NamedWeight>> {
  const read = object(
    {
      gate: optional(one),
      up: one,
      multiplier: optional(one),
      down: one,
      gateBias: optional(one),
      upBias: optional(one),
      downBias: optional(one),
    } satisfies Fields<ExpertWeights>,
    "{ gate, up, down }",
  );
  return (value, name) => mapExpert(read(value, name), (weight) => weight);
}

const readNames = object(
  {
    router: single,
    routerBias: optional(single),
    noiseRouter: optional(single),
    groupRouter: optional(single),
    groupRouterBias: optional(single),
    groupNoiseRouter: optional(single),
    routerNormWeight: optional(single),
    expertScale: optional(single),
    expertTable: optional(table),
    selectionBias: optional(single),
    experts: expert(ofExperts),
    shared: optional(expert(single)),
    sharedGate: optional(single),
    sharedGateBias: optional(single),
    latentDown: optional(single),
    latentUp: optional(single),
    latentNormWeight: optional(single),
  } satisfies Fields<LayerTensorNames>,
  "{ router, experts: { gate, up, down } }",
);

/** Reads the names of a layer's tensors; those that are absent are left out. */
export const layerTensorNames: Reader<LayerTensors> = (value, name) => withoutUndefined(readNames(value, name));

/** Checks that there are names for just the weights that a layer of this formula has. @throws INVALID_ARGUMENT */
export function checkTensorNames(tensors: LayerTensors, config: MoeLayerConfig, place: string): void {
  const { activation = "swiglu", multiplier = false, sharedExpert } = config;
  const gate = sharedExpert?.gate ?? "none";
  const check = (name: string, given: unknown, needed: boolean, what: string) => {
    if (needed === (given !== undefined)) return;
    if (!needed) throw cannotCombine(`${place}.${name}`, what);
    throw invalidArgument(`${place}.${name}`, `the name of a tensor for ${what}`, given);
  };
  check("shared", tensors.shared, sharedExpert !== undefined, `sharedExpert ${sharedExpert && "{ ... }"}`);
  check("sharedGate", tensors.sharedGate, gate !== "none", `sharedExpert.gate "${gate}"`);
  if (gate === "none") check("sharedGateBias", tensors.sharedGateBias, false, 'sharedExpert.gate "none"');
  for (const set of ["experts", "shared"] as const) {
    const weights = tensors[set];
    if (weights === undefined) continue;
    check(`${set}.gate`, weights.gate, isGated(activation), `activation "${activation}"`);
    if (!isGated(activation)) check(`${set}.gateBias`, weights.gateBias, false, `activation "${activation}"`);
    check(`${set}.multiplier`, weights.multiplier, multiplier, `multiplier: ${multiplier}`);
  }
  checkExtraWeights(config, tensors);
}
