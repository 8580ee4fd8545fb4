import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors.js";
import {
  largest,
  linear,
  pick,
  plus,
  type Stored,
  scaled,
  softmax,
  swiglu,
  total,
  type Vector,
  type Weights,
} from "./plain_math.js";

/** The experts of a token and the factors of their outputs. */
export interface Choice {
  readonly ids: Vector;
  readonly weights: Vector;
}

/** A tiny model of a family, and one of its MoE layers written down from the authors' code. */
export interface FamilyModel {
  readonly config: Record<string, unknown>;
  readonly layer: number;
  readonly weights: ReadonlyMap<string, SafetensorsInput>;
  readonly tokens: readonly Vector[];
  readonly route: (x: Vector) => Choice;
  readonly output: (x: Vector) => Vector;
}

export type Expert = (x: Vector) => Vector;

export const hidden = 24;
export const inner = 13;

/** The usual end of a model: the chosen experts' outputs, weighted, plus what else there is. */
export function model(
  weights: Weights,
  config: Record<string, unknown>,
  layer: number,
  route: (x: Vector) => Choice,
  experts: readonly Expert[],
  shared: Expert = (x) => scaled(x, 0),
): FamilyModel {
  const output = (x: Vector) => {
    const { ids, weights } = route(x);
    return ids.reduce<Vector>(
      (sum, id, slot) => plus(sum, scaled((experts[id] as Expert)(x), weights[slot] as number)),
      shared(x),
    );
  };
  return { config, layer, weights: weights.tensors, tokens: weights.tokens(9, hidden), route, output };
}

/** A gated expert of three linear layers. */
export function drawSwiglu(weights: Weights, prefix: string, width = inner, [gate, up, down] = projections): Expert {
  return swiglu(
    weights.draw(`${prefix}.${gate}.weight`, [width, hidden]),
    weights.draw(`${prefix}.${up}.weight`, [width, hidden]),
    weights.draw(`${prefix}.${down}.weight`, [hidden, width]),
  );
}
const projections = ["gate_proj", "up_proj", "down_proj"];

export function drawExperts(weights: Weights, prefix: string, count: number, names = projections): Expert[] {
  return Array.from({ length: count }, (_, expert) => drawSwiglu(weights, `${prefix}.${expert}`, inner, names));
}

/** Softmax over all, the k largest, as they are or divided by their sum. */
export const softmaxTopK =
  (router: Stored, k: number, normalize: boolean) =>
  (x: Vector): Choice => {
    const scores = softmax(linear(router, x));
    const ids = largest(scores, k);
    const chosen = pick(scores, ids);
    return { ids, weights: normalize ? scaled(chosen, 1 / total(chosen)) : chosen };
  };

export const sizes = { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: 4 };
